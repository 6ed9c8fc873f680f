"""Each elementwise op becomes an ``Elementwise`` node with an expression; scalars become part of it."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.expr import Expr, Instruction
from mace_cl.graph import DOMAIN, array_of, is_fp32
from mace_cl.ops.elementwise import expression
from mace_cl.passes.rewrite import replace

__all__ = ["LiftElementwisePass"]


class LiftElementwisePass(ir.passes.InPlacePass):
    """After it, every elementwise op of the model that is computed in fp32 is ``mace_cl::Elementwise``."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        lifted = [_lift(node) for node in list(model.graph)]
        return ir.passes.PassResult(model, modified=any(lifted))


def _lift(node: ir.Node) -> bool:
    if node.domain != "":
        return False
    expr = expression(node)
    if expr is None:
        return False
    inputs = list(node.inputs[: expr.arity])
    if not all(is_fp32(value) for value in (node.outputs[0], *inputs)):
        return False
    for position in range(len(inputs) - 1, -1, -1):
        array = array_of(inputs[position])
        if array is not None and array.size == 1 and expr.arity > 1:
            number = Expr(0, (Instruction("const", (), (float(array.reshape(-1)[0]),)),))
            expr = Expr(expr.arity, expr.body).substitute(position, number)
            # substitute() puts the inner expression's inputs first: there are none, so the order stays
            del inputs[position]
    for second in range(len(inputs) - 1, 0, -1):
        first = next(index for index, value in enumerate(inputs) if value is inputs[second])
        if first < second:
            expr = expr.merge_inputs(first, second)
            del inputs[second]
    replace(node, "Elementwise", inputs, {"expr": str(expr)}, DOMAIN)
    return True
