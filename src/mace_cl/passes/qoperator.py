"""ONNX Runtime's own ops on quantised tensors, as its quantiser writes them: DequantizeLinear, the op, QuantizeLinear.

Inputs and attributes are those of
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md, domain com.microsoft:

=====================================  ==========================================================
QLinear… of one tensor (`UNARY`)       X, its scale and zero point, Y's scale and zero point
QLinearAdd, QLinearMul                 A and B, each with scale and zero point, then those of C
QLinearConcat                          Y's scale and zero point, then three inputs for each tensor
QLinearWhere                           condition, X and Y with theirs, those of Z
QGemm                                  A and B with theirs, C in int32, those of Y or none
QuantizeLinear, DequantizeLinear       as ONNX's, for types that older opsets lack
=====================================  ==========================================================

Channels in the last place, and a zero point of the result that is left out, stay ONNX Runtime's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx_ir as ir

from mace_cl.graph import attribute, static_shape

__all__ = ["QOperatorPass"]

_DOMAIN = "com.microsoft"
UNARY = ("AveragePool", "GlobalAveragePool", "LeakyRelu", "Sigmoid", "Softmax")
_INPUTS = {"QLinearAdd": 8, "QLinearMul": 8} | {f"QLinear{op}": 5 for op in UNARY}
"""How many inputs there are where none is left out at the end."""
_OWN = ("channels_last", "opset")
"""Attributes that ONNX's op does not have."""

_FIRST_QUANTISED, _FIRST_PER_AXIS = 10, 13


class QOperatorPass(ir.passes.InPlacePass):
    """See the module's table."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        opset = model.opset_imports.get("", 0)
        found = [node for node in model.graph if node.domain == _DOMAIN] if opset >= _FIRST_QUANTISED else []
        changed = [_expand(node, opset) for node in found]
        return ir.passes.PassResult(model, modified=any(changed))


def _expand(node: ir.Node, opset: int) -> bool:
    op, inputs = node.op_type, list(node.inputs)
    name = op.removeprefix("QLinear")
    if op in ("QuantizeLinear", "DequantizeLinear"):
        node.domain = ""
        return True
    if attribute(node, "channels_last", 0) or (name == "Softmax" and (attribute(node, "opset") < 13) != (opset < 13)):
        return False
    kept = {key: attr.value for key, attr in node.attributes.items() if key not in _OWN}
    if _INPUTS.get(op) == len(inputs) and inputs[-1] is not None:
        tensors = [_floats(node, inputs[at : at + 3]) for at in range(0, len(inputs) - 2, 3)]
        return _finish(node, _step(node, name, tensors, **kept), inputs[-2:])
    if op == "QLinearConcat":
        tensors = [_floats(node, inputs[at : at + 3]) for at in range(2, len(inputs), 3)]
        return _finish(node, _step(node, name, tensors, **kept), inputs[:2])
    if op == "QLinearWhere":
        tensors = [_floats(node, inputs[1:4]), _floats(node, inputs[4:7])]
        return _finish(node, _step(node, name, [inputs[0], *tensors]), inputs[7:])
    return op == "QGemm" and _gemm(node, opset)


def _gemm(node: ir.Node, opset: int) -> bool:
    """C counts in units of both scales' product, times ``alpha``."""
    a, a_scale, a_zero, b, b_scale, b_zero, c, *result = (*node.inputs, None, None, None)[:9]
    columns, alpha = static_shape(b_scale), attribute(node, "alpha", 1.0)
    single = columns in ((), (1,))
    if columns is None or not (single or opset >= _FIRST_PER_AXIS) or (result[0] is not None and result[1] is None):
        return False
    transposed = attribute(node, "transB", 0)
    operands = [
        _floats(node, (a, a_scale, a_zero)),
        _floats(node, (b, b_scale, b_zero), **({} if single else {"axis": 0 if transposed else 1})),
    ]
    if c is not None:
        unit = _step(node, "Mul", [a_scale, b_scale], part=".unit")
        operands.append(_floats(node, (c, unit), **({} if single else {"axis": 0})))
    made = _step(node, "Gemm", operands, alpha=alpha, beta=alpha, transA=attribute(node, "transA", 0),
                 transB=transposed)  # fmt: skip
    return _finish(node, made, result)


def _floats(node: ir.Node, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
    part = f".{inputs[0].name}" if inputs[0] is not None else ""
    return _step(node, "DequantizeLinear", inputs, part=part, **attributes)


def _step(node: ir.Node, op: str, inputs: Sequence[ir.Value | None], part: str = "", **attributes: Any) -> ir.Value:
    """A node before ``node``; without ``part`` it has its name."""
    assert isinstance(node.graph, ir.Graph)
    made = ir.node(op, list(inputs), attributes=attributes, name=f"{node.name or node.outputs[0].name}{part}")
    node.graph.insert_before(node, made)
    return made.outputs[0]


def _finish(node: ir.Node, value: ir.Value, result: Sequence[ir.Value | None]) -> bool:
    """Quantise ``value`` by scale and zero point of the result, if it has any, in the node's place."""
    assert isinstance(node.graph, ir.Graph)
    old = node.outputs[0]
    output = ir.Value(name=old.name, shape=old.shape, type=old.type)
    op, inputs = ("Identity", [value]) if result[0] is None else ("QuantizeLinear", [value, *result])
    new = ir.node(op, inputs, outputs=[output], name=f"{node.name or old.name}.result")
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [new], [old], [output])
    return True
