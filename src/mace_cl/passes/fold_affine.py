"""``Conv`` followed by multiplication or addition of one constant per channel: put it into weights and bias."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.graph import array_of, nodes_of, static_shape
from mace_cl.passes.rewrite import add_constant, replace, sole_use

__all__ = ["FoldAffinePass"]


class FoldAffinePass(ir.passes.InPlacePass):
    """Batch normalisation after a convolution disappears here, and biases given as ``Add``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        folded = [_fold(node) for node in list(model.graph)]
        return ir.passes.PassResult(model, modified=any(folded))


def _fold(node: ir.Node) -> bool:
    if node.op_type not in ("Mul", "Add") or node.domain != "":
        return False
    for value, other in ((node.inputs[0], node.inputs[1]), (node.inputs[1], node.inputs[0])):
        conv = value.producer() if value is not None else None
        if conv is None or conv.op_type != "Conv" or conv.domain != "" or not sole_use(value):
            continue
        factor = _per_channel(array_of(other), static_shape(node.outputs[0]), static_shape(conv.outputs[0]))
        kernel = conv.inputs[1]
        weights = array_of(kernel)
        bias = array_of(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] is not None else 0.0
        if factor is None or kernel is None or weights is None or bias is None:
            continue
        graph = node.graph
        assert isinstance(graph, ir.Graph)
        old = np.broadcast_to(np.asarray(bias, np.float64), factor.shape)
        if node.op_type == "Mul":
            scaled = weights.astype(np.float64) * factor.reshape(-1, *[1] * (weights.ndim - 1))
            kernel = add_constant(graph, f"{kernel.name}.scaled", scaled.astype(weights.dtype))
            shifted = old * factor
        else:
            shifted = old + factor
        constant = add_constant(graph, f"{conv.name or conv.outputs[0].name}.bias", shifted.astype(weights.dtype))
        attributes = {name: attr.value for name, attr in conv.attributes.items()}
        replace(node, "Conv", [conv.inputs[0], kernel, constant], attributes, names=[nodes_of(conv), nodes_of(node)])
        graph.remove(conv, safe=True)
        return True
    return False


def _per_channel(
    array: NDArray[Any] | None, result: tuple[int, ...] | None, conv: tuple[int, ...] | None
) -> NDArray[np.float64] | None:
    """``array`` as one number per channel of the convolution's result, if it is that."""
    if array is None or conv is None or result != conv or array.ndim > len(conv):
        return None
    full = array.reshape((1,) * (len(conv) - array.ndim) + array.shape)
    if any(size != 1 for axis, size in enumerate(full.shape) if axis != 1):
        return None
    return np.broadcast_to(full.astype(np.float64).reshape(-1), (conv[1],))
