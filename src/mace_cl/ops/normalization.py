"""Softmax, LogSoftmax, InstanceNormalization and LayerNormalization."""

from __future__ import annotations

import math
from math import prod

import onnx_ir as ir

from mace_cl.graph import array_of, attribute, is_used
from mace_cl.kernels.instance_norm import InstanceNorm
from mace_cl.kernels.layer_norm import LayerNorm
from mace_cl.kernels.softmax import Softmax
from mace_cl.ops.builder import Builder
from mace_cl.ops.fused import epilogue_of
from mace_cl.ops.statistics import lower_instance_norm_any, lower_layer_norm_any

__all__ = ["lower_instance_norm", "lower_layer_norm", "lower_softmax"]


def lower_softmax(builder: Builder, node: ir.Node) -> None:
    """Before opset 13, all axes from ``axis`` on count as one."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape = builder.shape(x)
    if builder.opset < 13:
        axis = attribute(node, "axis", 1) % len(shape)
        length, inner = prod(shape[axis:]), 1
    else:
        axis = attribute(node, "axis", -1) % len(shape)
        length, inner = shape[axis], prod(shape[axis + 1 :])
    problem = Softmax(builder.block, prod(shape[:axis]), length, inner, node.op_type == "LogSoftmax")
    source = builder.region(x)
    builder.emit(problem, [source], builder.allocate(y, "nchw"), node)


def lower_instance_norm(builder: Builder, node: ir.Node) -> None:
    """Constant scale and shift in fp32 have a kernel of their own."""
    x, y = node.inputs[0], node.outputs[0]
    scale, shift = node.inputs[1:3]
    assert x is not None
    assert scale is not None
    assert shift is not None
    shape = builder.shape(x)
    for value in (scale, shift):
        builder.expect(node, value, (shape[1],))
    if builder.type(x) != "float32" or array_of(scale) is None or array_of(shift) is None:
        lower_instance_norm_any(builder, node)
        return
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    source = builder.blocked(x)
    problem = InstanceNorm(
        builder.block, shape[0], shape[1], math.prod(shape[2:]), attribute(node, "epsilon", 1e-5), epilogue
    )
    constants = [builder.constant(scale), builder.constant(shift)]
    builder.emit(problem, [source, *constants, *extras], builder.allocate(y, "blocked"), node)


def lower_layer_norm(builder: Builder, node: ir.Node) -> None:
    """Over all axes from ``axis`` on; with constant parameters and no other output, fp32 has a kernel of its own."""
    x, y = node.inputs[0], node.outputs[0]
    shape = builder.shape(x)
    axis = attribute(node, "axis", -1) % len(shape)
    given = [value for value in node.inputs[1:3] if value is not None]
    plain = all(array_of(value) is not None and builder.shape(value) == shape[axis:] for value in given)
    if not plain or builder.type(x) != "float32" or any(is_used(value) for value in node.outputs[1:]):
        lower_layer_norm_any(builder, node)
        return
    length = prod(shape[axis:])
    epsilon = attribute(node, "epsilon", 1e-5)
    problem = LayerNorm(builder.block, prod(shape[:axis]), length, epsilon, len(given) > 1)
    assert x is not None
    source = builder.region(x)
    builder.emit(problem, [source, *map(builder.constant, given)], builder.allocate(y, "nchw"), node)
