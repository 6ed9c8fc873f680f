"""One form per meaning, so that every later stage meets fewer ops.

==========================================  ==================================================
from                                        to
==========================================  ==================================================
BatchNormalization                          Mul, Add with one constant per channel
Flatten, Squeeze, Unsqueeze                 Reshape
Dropout                                     its input
Gemm, MatMul with a constant matrix         mace_cl::Linear (weights ``[out, in]``)
Gemm of computed matrices                   Transpose, MatMul, Mul, Add
ReduceMean over rows and columns            GlobalAveragePool, Reshape
auto_pad of Conv and pools                  explicit ``pads``
Conv of no channels                         Expand of the bias
==========================================  ==================================================
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.graph import DOMAIN, array_of, attribute, is_fp32, is_used, nodes_of, static_shape
from mace_cl.passes.rewrite import add_constant, replace

__all__ = ["CanonicalPass", "explicit_pads"]


class CanonicalPass(ir.passes.InPlacePass):
    """See the module's table."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = [
            RULES[node.op_type](node) for node in list(model.graph) if node.domain == "" and node.op_type in RULES
        ]
        return ir.passes.PassResult(model, modified=any(changed))


def _graph(node: ir.Node) -> ir.Graph:
    assert isinstance(node.graph, ir.Graph)
    return node.graph


def _batch_normalization(node: ir.Node) -> bool:
    x = node.inputs[0]
    scale, bias, mean, variance = (array_of(value) for value in node.inputs[1:5])
    shape = static_shape(x) if x is not None else None
    if (
        shape is None
        or not is_fp32(x)
        or scale is None
        or bias is None
        or mean is None
        or variance is None
        or attribute(node, "training_mode", 0)
    ):
        return False
    gain = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + attribute(node, "epsilon", 1e-5))
    shift = bias.astype(np.float64) - mean.astype(np.float64) * gain
    broadcast = (1, -1, *[1] * (len(shape) - 2))
    graph, name = _graph(node), node.outputs[0].name
    factor = add_constant(graph, f"{name}.gain", gain.reshape(broadcast).astype(np.float32))
    offset = add_constant(graph, f"{name}.shift", shift.reshape(broadcast).astype(np.float32))
    product = ir.node("Mul", [x, factor], name=f"{node.name}.gain")
    product.outputs[0].shape, product.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
    product.metadata_props["mace_cl.nodes"] = nodes_of(node)
    graph.insert_before(node, product)
    _drop_unused_outputs(node)
    replace(node, "Add", [product.outputs[0], offset], {})
    return True


def _drop_unused_outputs(node: ir.Node) -> None:
    if len(node.outputs) > 1:
        node.resize_outputs(1)


def _reshape(node: ir.Node) -> bool:
    shape = static_shape(node.outputs[0])
    if shape is None:
        return False
    target = add_constant(_graph(node), f"{node.outputs[0].name}.shape", np.array(shape, np.int64))
    replace(node, "Reshape", [node.inputs[0], target], {})
    return True


def _may_be_true(value: ir.Value) -> bool:
    array = array_of(value)
    return array is None or bool(array.reshape(-1)[0])


def _dropout(node: ir.Node) -> bool:
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if (len(node.outputs) > 1 and is_used(node.outputs[1])) or (training is not None and _may_be_true(training)):
        return False
    _drop_unused_outputs(node)
    replace(node, "Identity", [node.inputs[0]], {})
    return True


def _gemm(node: ir.Node) -> bool:
    weights = array_of(node.inputs[1])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = array_of(given)
    row = given is None or (bias is not None and (bias.ndim < 2 or bias.shape[0] == 1))
    if weights is None or not row or not is_fp32(node.inputs[0]) or attribute(node, "transA", 0):
        return _spelled_out(node)
    graph, name = _graph(node), node.outputs[0].name
    matrix = weights if attribute(node, "transB", 0) else weights.T

    def scaled(array: NDArray[Any], by: str) -> NDArray[Any]:
        factor = attribute(node, by, 1.0)
        return array if factor == 1.0 else array * np.float32(factor)  # halves stay such only where nothing rounds

    inputs = [node.inputs[0], add_constant(graph, f"{name}.matrix", scaled(matrix, "alpha"))]
    if bias is not None:
        row = np.broadcast_to(scaled(bias.reshape(-1), "beta"), (matrix.shape[0],))
        inputs.append(add_constant(graph, f"{name}.row", row))
    replace(node, "Linear", inputs, {}, DOMAIN)
    return True


def _spelled_out(node: ir.Node) -> bool:
    """Gemm of computed matrices as ``alpha · (A × B) + beta · C``."""
    a, b, c = (*node.inputs, None)[:3]
    shape = static_shape(node.outputs[0])
    kind = node.outputs[0].dtype
    if a is None or b is None or a.shape is None or b.shape is None or shape is None or kind is None:
        return False
    graph = _graph(node)

    def step(op: str, inputs: list[ir.Value | None], dims: ir.Shape | None, **attributes: object) -> ir.Value:
        made = ir.node(op, inputs, attributes=attributes, name=f"{node.name}.{op}")  # type: ignore[arg-type]
        made.outputs[0].shape, made.outputs[0].type = dims, node.outputs[0].type
        made.metadata_props["mace_cl.nodes"] = nodes_of(node)
        graph.insert_before(node, made)
        return made.outputs[0]

    def scaled(value: ir.Value, name: str) -> ir.Value:
        factor = attribute(node, name, 1.0)
        if factor == 1.0:
            return value
        constant = add_constant(graph, f"{node.outputs[0].name}.{name}", np.array(factor).astype(kind.numpy()))
        return step("Mul", [value, constant], value.shape)

    left = step("Transpose", [a], ir.Shape(a.shape[::-1]), perm=[1, 0]) if attribute(node, "transA", 0) else a
    right = step("Transpose", [b], ir.Shape(b.shape[::-1]), perm=[1, 0]) if attribute(node, "transB", 0) else b
    if c is None and attribute(node, "alpha", 1.0) == 1.0:
        replace(node, "MatMul", [left, right], {})
        return True
    product = scaled(step("MatMul", [left, right], ir.Shape(shape)), "alpha")
    if c is None:
        replace(node, "Identity", [product], {})
    else:
        replace(node, "Add", [product, scaled(c, "beta")], {})
    return True


def _matmul(node: ir.Node) -> bool:
    weights, shape = array_of(node.inputs[1]), static_shape(node.inputs[0])
    if weights is None or not is_fp32(node.inputs[0]) or weights.ndim != 2 or shape is None or len(shape) < 2:
        return False
    matrix = add_constant(_graph(node), f"{node.outputs[0].name}.matrix", weights.T)
    replace(node, "Linear", [node.inputs[0], matrix], {}, DOMAIN)
    return True


def _reduce_mean(node: ir.Node) -> bool:
    shape = static_shape(node.inputs[0])
    axes = attribute(node, "axes")
    if axes is None and len(node.inputs) > 1:
        given = array_of(node.inputs[1])
        axes = None if given is None else given.tolist()
    if (
        shape is None
        or not is_fp32(node.inputs[0])
        or axes is None
        or len(shape) != 4
        or sorted(axis % 4 for axis in axes) != [2, 3]
    ):
        return False
    if attribute(node, "keepdims", 1):
        replace(node, "GlobalAveragePool", [node.inputs[0]], {})
        return True
    pooled = ir.node("GlobalAveragePool", [node.inputs[0]], name=f"{node.name}.pool")
    pooled.outputs[0].shape = ir.Shape((*shape[:2], 1, 1))
    pooled.outputs[0].type = node.outputs[0].type
    pooled.metadata_props["mace_cl.nodes"] = nodes_of(node)
    _graph(node).insert_before(node, pooled)
    target = add_constant(_graph(node), f"{node.outputs[0].name}.shape", np.array(shape[:2], np.int64))
    replace(node, "Reshape", [pooled.outputs[0], target], {})
    return True


def explicit_pads(
    mode: str, sizes: tuple[int, ...], kernel: tuple[int, ...], strides: tuple[int, ...], dilations: tuple[int, ...]
) -> list[int]:
    """``pads`` for ``auto_pad`` SAME_UPPER, SAME_LOWER or VALID, by the formula of the ONNX operator Conv."""
    begins, ends = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        output = -(-size // stride)
        total = max(0, (output - 1) * stride + (taps - 1) * dilation + 1 - size) if mode != "VALID" else 0
        small, large = total // 2, total - total // 2
        begins.append(small if mode == "SAME_UPPER" else large)
        ends.append(large if mode == "SAME_UPPER" else small)
    return begins + ends


def _auto_pad(node: ir.Node) -> bool:
    mode = attribute(node, "auto_pad", "NOTSET")
    shape = static_shape(node.inputs[0])
    if mode in ("NOTSET", "") or shape is None:
        return False
    spatial = len(shape) - 2
    kernel = attribute(node, "kernel_shape")
    if kernel is None:
        weights = static_shape(node.inputs[3 if node.op_type == "QLinearConv" else 1])
        if weights is None:
            return False
        kernel = weights[2:]
    strides = attribute(node, "strides", (1,) * spatial)
    dilations = attribute(node, "dilations", (1,) * spatial)
    pads = explicit_pads(mode, shape[2:], tuple(kernel), tuple(strides), tuple(dilations))
    attributes = {name: attr.value for name, attr in node.attributes.items() if name != "auto_pad"}
    replace(node, node.op_type, node.inputs, attributes | {"pads": pads})
    return True


def _conv(node: ir.Node) -> bool:
    """A sum over no channels is zero; ONNX Runtime's optimised Conv refuses it."""
    shape, result = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    given = node.inputs[2] if len(node.inputs) > 2 else None
    bias = array_of(given)
    kind = node.outputs[0].dtype
    if shape is None or result is None or kind is None or 0 not in shape or 0 in result or (given and bias is None):
        return _auto_pad(node)
    graph, name = _graph(node), node.outputs[0].name
    row = np.zeros(1, kind.numpy()) if bias is None else bias
    operands = [
        add_constant(graph, f"{name}.bias", row.reshape(1, -1, *[1] * (len(result) - 2))),
        add_constant(graph, f"{name}.shape", np.array(result, np.int64)),
    ]
    replace(node, "Expand", operands, {})
    return True


RULES: dict[str, Callable[[ir.Node], bool]] = {
    "AveragePool": _auto_pad,
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "ConvInteger": _auto_pad,
    "Dropout": _dropout,
    "Flatten": _reshape,
    "Gemm": _gemm,
    "LpPool": _auto_pad,
    "MatMul": _matmul,
    "MaxPool": _auto_pad,
    "QLinearConv": _auto_pad,
    "ReduceMean": _reduce_mean,
    "Squeeze": _reshape,
    "Unsqueeze": _reshape,
}
