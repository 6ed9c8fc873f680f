"""QuantizeLinear followed by DequantizeLinear becomes an expression that rounds, which fuses like any other."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mace_cl.expr import Expr, Instruction
from mace_cl.graph import DOMAIN, array_of, is_fp32, nodes_of
from mace_cl.passes.rewrite import replace

__all__ = ["RoundTripPass"]


class RoundTripPass(ir.passes.InPlacePass):
    """For one constant scale and zero point on each side, and fp32 outside; users of equal ones share a node."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        made: dict[tuple[int, str], ir.Value] = {}
        modified = False
        for node in list(model.graph):
            modified |= node.domain == "" and node.op_type == "DequantizeLinear" and _fuse(node, made)
        return ir.passes.PassResult(model, modified=modified)


def _fuse(node: ir.Node, made: dict[tuple[int, str], ir.Value]) -> bool:
    value = node.inputs[0]
    producer = value.producer() if value is not None else None
    if value is None or producer is None or producer.op_type != "QuantizeLinear" or producer.domain:
        return False
    before, after = _numbers(producer), _numbers(node)
    x, y = producer.inputs[0], node.outputs[0]
    if before is None or after is None or x is None or value.dtype is None or not is_fp32(x) or not is_fp32(y):
        return False
    kind = value.dtype.numpy()
    if kind not in (np.int8, np.uint8, np.int16, np.uint16):
        return False
    limits = np.iinfo(kind)
    expr = Expr(1, (
        Instruction("const", (), (before[0],)),
        Instruction("div", (0, 1)),
        Instruction("round", (2,)),
        Instruction("clip", (3,), (limits.min - before[1], limits.max - before[1])),
        Instruction("linear", (4,), (1.0, before[1] - after[1])),
        Instruction("linear", (5,), (after[0], 0.0)),
    ))  # fmt: skip
    key = (id(x), str(expr))
    if key in made and not y.is_graph_output():
        ir.convenience.replace_all_uses_with(y, made[key])
        assert isinstance(node.graph, ir.Graph)
        node.graph.remove(node, safe=True)
        return True
    new = replace(node, "Elementwise", [x], {"expr": str(expr)}, DOMAIN, [nodes_of(producer), nodes_of(node)])
    made[key] = new.outputs[0]
    return True


def _numbers(node: ir.Node) -> tuple[float, float] | None:
    """Scale and zero point, if they are one constant each."""
    scale = array_of(node.inputs[1])
    zero: object = np.zeros(1)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        zero = array_of(node.inputs[2])
    if scale is None or not isinstance(zero, np.ndarray) or scale.size != 1 or zero.size != 1:
        return None
    return float(scale.reshape(-1)[0]), float(zero.reshape(-1)[0])
