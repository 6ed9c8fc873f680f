"""Conv and mace_cl::Linear (Gemm and MatMul with a constant matrix)."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mace_cl.graph import array_of, attribute
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.windows import Window
from mace_cl.ops.builder import Builder
from mace_cl.ops.fused import epilogue_of
from mace_cl.plan import Constant, Region

__all__ = ["lower_conv", "lower_linear"]


def lower_conv(builder: Builder, node: ir.Node) -> None:
    """2-D ``Conv`` with constant weights; depthwise and dense, grouped where groups fill whole blocks."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    if len(builder.shape(x)) != 4:
        raise builder.unsupported(node, f"only 2-D convolutions run so far, the input is {builder.shape(x)}")
    weights = array_of(node.inputs[1])
    if weights is None:
        raise builder.unsupported(node, "the weights are not constant")
    batch, channels = builder.shape(x)[:2]
    outputs, groups = weights.shape[0], attribute(node, "group", 1)
    window = builder.window(node, attribute(node, "kernel_shape", weights.shape[2:]))
    biased = attribute(node, "operands", len(node.inputs)) > 2 and node.inputs[2] is not None
    builder.expect(node, node.inputs[1], (outputs // groups * groups, channels // groups, *window.kernel))
    if biased:
        builder.expect(node, node.inputs[2], (outputs,))
    constants = [builder.constant(value) for value in node.inputs[1 : 3 if biased else 2] if value is not None]
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    c = builder.block
    if groups == channels == outputs:
        source = builder.blocked(x)
        target = builder.allocate(y, "blocked")
        deep = DepthwiseConv2D(c, batch, channels, window, biased, epilogue)
        builder.emit(deep, [source, *constants, *extras], target, node)
        return
    if groups > 1 and (channels // groups % c or outputs // groups % c):
        constants[0] = _ungrouped(constants[0], groups)
        groups = 1
    # a few channels fill no block: read them where they are
    direct = channels < c and not builder.has(x, "blocked")
    source = builder.region(x) if direct else builder.blocked(x)
    target = builder.allocate(y, "blocked")
    layouts = ("nchw" if direct else "blocked", "blocked")
    problem = Conv2D(c, batch, (channels, outputs), window, groups, biased, layouts, epilogue)
    builder.emit(problem, [source, *constants, *extras], target, node)


def _ungrouped(weights: Constant, groups: int) -> Constant:
    """Weights of the dense convolution that computes the same, zero between groups."""
    array = weights.array
    outputs, depth, *kernel = array.shape
    dense = np.zeros((outputs, depth * groups, *kernel), array.dtype)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        dense[rows, group * depth : (group + 1) * depth] = array[rows]
    return Constant(f"{weights.name}.dense", dense)


def lower_linear(builder: Builder, node: ir.Node) -> None:
    """``x [..., K] · weights [OC, K]ᵀ + bias``: a 1×1 convolution over rows in layout ``nhwc``."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    assert node.inputs[1] is not None
    *outer, depth = builder.shape(x)
    rows = int(np.prod(outer, initial=1))
    outputs = builder.shape(y)[-1]
    biased = attribute(node, "operands", len(node.inputs)) > 2
    builder.expect(node, node.inputs[1], (outputs, depth))
    if biased:
        builder.expect(node, node.inputs[2], (outputs,))
    operands: list[Region | Constant] = [builder.region(x)]
    weights = builder.constant(node.inputs[1])
    operands.append(Constant(weights.name, weights.array.reshape(outputs, depth, 1, 1)))
    if biased and node.inputs[2] is not None:
        operands.append(builder.constant(node.inputs[2]))
    epilogue, extras = epilogue_of(builder, node, channel_axis=-1)
    window = Window((1, rows), (1, rows), (1, 1))
    target = builder.allocate(y, "nchw")
    problem = Conv2D(builder.block, 1, (depth, outputs), window, 1, biased, ("nhwc", "nhwc"), epilogue)
    builder.emit(problem, [*operands, *extras], target, node)
