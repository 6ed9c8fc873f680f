"""Fusion of expressions with each other and into the kernels that make their first operand."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.expr import Expr
from mace_cl.graph import DOMAIN, attribute, is_constant, nodes_of, static_shape
from mace_cl.ops import EPILOGUE_OPS
from mace_cl.passes.rewrite import replace, sole_use

__all__ = ["FuseElementwisePass", "FuseEpiloguePass"]

_MOST_OPERANDS = 6


class FuseElementwisePass(ir.passes.InPlacePass):
    """An ``Elementwise`` whose result only one other ``Elementwise`` of that shape uses becomes part of it."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            while (node_or_none := _absorb(node)) is not None:
                node, modified = node_or_none, True
        return ir.passes.PassResult(model, modified=modified)


def _is_expression(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "Elementwise" and node.domain == DOMAIN


def _absorb(node: ir.Node) -> ir.Node | None:
    if not _is_expression(node):
        return None
    for position, value in enumerate(node.inputs):
        producer = value.producer() if value is not None else None
        if producer is None or not _is_expression(producer) or not sole_use(value):
            continue
        if static_shape(producer.outputs[0]) != static_shape(node.outputs[0]):
            continue
        if len(producer.inputs) + len(node.inputs) - 1 > _MOST_OPERANDS:
            continue
        inner, outer = Expr.parse(attribute(producer, "expr")), Expr.parse(attribute(node, "expr"))
        expr = outer.substitute(position, inner)
        inputs = [*producer.inputs, *(other for index, other in enumerate(node.inputs) if index != position)]
        expr, inputs = _without_repeats(expr, inputs)
        graph = node.graph
        fused = replace(node, "Elementwise", inputs, {"expr": str(expr)}, DOMAIN, [nodes_of(producer), nodes_of(node)])
        assert isinstance(graph, ir.Graph)
        graph.remove(producer, safe=True)
        return fused
    return None


def _without_repeats(expr: Expr, inputs: list[ir.Value | None]) -> tuple[Expr, list[ir.Value | None]]:
    for second in range(len(inputs) - 1, 0, -1):
        first = next(index for index, value in enumerate(inputs) if value is inputs[second])
        if first < second:
            expr = expr.merge_inputs(first, second)
            inputs = inputs[:second] + inputs[second + 1 :]
    return expr, inputs


class FuseEpiloguePass(ir.passes.InPlacePass):
    """An ``Elementwise`` over the result of an op that takes an epilogue, and fitting operands, goes into that op.

    The op then stands where the expression stood, so that all operands are computed before it.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        fused = [_into_producer(node) for node in list(model.graph)]
        return ir.passes.PassResult(model, modified=any(fused))


def _into_producer(node: ir.Node) -> bool:
    if not _is_expression(node):
        return False
    order = {id(other): index for index, other in enumerate(node.graph)}  # type: ignore[arg-type]
    candidates = [
        (order[id(value.producer())], position)
        for position, value in enumerate(node.inputs)
        if value is not None and value.producer() is not None
    ]
    for _, position in sorted(candidates, reverse=True):
        value = node.inputs[position]
        assert value is not None
        producer = value.producer()
        assert producer is not None
        if (producer.domain, producer.op_type) not in EPILOGUE_OPS or not sole_use(value):
            continue
        if "epilogue" in producer.attributes or static_shape(value) != static_shape(node.outputs[0]):
            continue
        others = [other for index, other in enumerate(node.inputs) if index != position]
        if not all(_fits(other, value, producer) for other in others):
            continue
        expr = _first(Expr.parse(attribute(node, "expr")), position)
        attributes = {name: attr.value for name, attr in producer.attributes.items()}
        attributes |= {"epilogue": str(expr), "operands": len(producer.inputs)}
        graph = node.graph
        replace(
            node,
            producer.op_type,
            [*producer.inputs, *others],
            attributes,
            producer.domain,
            [nodes_of(producer), nodes_of(node)],
        )
        assert isinstance(graph, ir.Graph)
        graph.remove(producer, safe=True)
        return True
    return False


def _first(expr: Expr, position: int) -> Expr:
    """The expression with input ``position`` moved to the front."""
    order = [position, *(index for index in range(expr.arity) if index != position)]
    places = {old: new for new, old in enumerate(order)}
    body = tuple(
        type(line)(line.operation, tuple(places.get(arg, arg) for arg in line.args), line.attributes)
        for line in expr.body
    )
    return Expr(expr.arity, body)


def _fits(operand: ir.Value | None, value: ir.Value, producer: ir.Node) -> bool:
    """Whether ``operand`` is of a kind that an epilogue reads: full, per channel, or per image and channel."""
    if operand is None or EPILOGUE_OPS[producer.domain, producer.op_type] == 0:
        return False
    shape, result = static_shape(operand), static_shape(value)
    if shape is None or result is None:
        return False
    if is_constant(operand):
        channel = EPILOGUE_OPS[producer.domain, producer.op_type]
        axis = channel if channel >= 0 else len(result) + channel
        full = (1,) * (len(result) - len(shape)) + shape
        return all(size == (result[axis] if index == axis else 1) for index, size in enumerate(full))
    if shape == result:
        return EPILOGUE_OPS[producer.domain, producer.op_type] == 1 or result[-1] % 16 == 0
    gate = (*result[:2], *(1,) * (len(result) - 2))
    return len(result) >= 3 and EPILOGUE_OPS[producer.domain, producer.op_type] == 1 and shape == gate
