"""Elementwise ops: their expressions, and how an ``Elementwise`` node is lowered."""

from __future__ import annotations

import math
from collections.abc import Callable
from math import prod

import numpy as np
import onnx_ir as ir

from mace_cl.expr import ERF_BOUND, Expr, Instruction
from mace_cl.graph import array_of, attribute, is_constant
from mace_cl.kernels.base import ceil_div, pad_to
from mace_cl.kernels.elementwise import Access, Elementwise, contiguous
from mace_cl.ops.builder import Builder
from mace_cl.plan import Constant, Region

__all__ = ["expression", "lower"]

_FLOAT_MAX = float(np.finfo(np.float32).max)


def _same(operation: str) -> Callable[[ir.Node], Expr | None]:
    return lambda node: Expr.of(operation)


def _chain(operation: str) -> Callable[[ir.Node], Expr | None]:
    """A variadic op as a chain of binary ones."""

    def build(node: ir.Node) -> Expr | None:
        expr = Expr.of(operation)
        if len(node.inputs) == 1:
            return Expr(1, (Instruction("linear", (0,), (1.0, 0.0)),))
        for _ in range(len(node.inputs) - 2):
            expr = Expr.of(operation).substitute(0, expr)
        return expr

    return build


def _clip(node: ir.Node) -> Expr | None:
    bounds = [attribute(node, "min", -_FLOAT_MAX), attribute(node, "max", _FLOAT_MAX)]
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            array = array_of(value)
            if array is None:
                return None
            bounds[index] = float(array.reshape(-1)[0])
    return Expr.of("clip", *bounds)


def _erf(arg: int) -> tuple[Instruction, Instruction]:
    """The instructions that make values ``arg + 1`` and ``arg + 2``, the latter erf of value ``arg``."""
    return Instruction("clip", (arg,), (-ERF_BOUND, ERF_BOUND)), Instruction("erf", (arg + 1,))


def _linear_clip(slope: float, offset: float) -> tuple[Instruction, Instruction]:
    return Instruction("linear", (0,), (slope, offset)), Instruction("clip", (1,), (0.0, 1.0))


def _hard_sigmoid(node: ir.Node) -> Expr:
    return Expr(1, _linear_clip(attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)))


def _hard_swish(node: ir.Node) -> Expr:
    return Expr(1, (*_linear_clip(1 / 6, 0.5), Instruction("mul", (0, 2))))


def _gelu(node: ir.Node) -> Expr:
    if attribute(node, "approximate", "none") == "tanh":
        cube = (Instruction("mul", (0, 0)), Instruction("linear", (1,), (0.044715, 1.0)), Instruction("mul", (0, 2)))
        gate = (Instruction("linear", (3,), (math.sqrt(2 / math.pi), 0.0)), Instruction("tanh", (4,)))
        return Expr(1, (*cube, *gate, Instruction("linear", (5,), (0.5, 0.5)), Instruction("mul", (0, 6))))
    exact = (Instruction("linear", (0,), (math.sqrt(0.5), 0.0)), *_erf(1))
    return Expr(1, (*exact, Instruction("linear", (3,), (0.5, 0.5)), Instruction("mul", (0, 4))))


def _selu(node: ir.Node) -> Expr:
    """The defaults are those of the operator, rounded to fp32."""
    alpha, gamma = attribute(node, "alpha", 1.67326319217681884765625), attribute(node, "gamma", 1.05070102214813232)
    return Expr(1, (Instruction("elu", (0,), (alpha,)), Instruction("linear", (1,), (gamma, 0.0))))


def _celu(node: ir.Node) -> Expr:
    alpha = attribute(node, "alpha", 1.0)
    scaled = Instruction("linear", (0,), (1 / alpha, 0.0))
    return Expr(1, (scaled, Instruction("elu", (1,), (1.0,)), Instruction("linear", (2,), (alpha, 0.0))))


def _swish(node: ir.Node) -> Expr:
    scaled = Instruction("linear", (0,), (attribute(node, "alpha", 1.0), 0.0))
    return Expr(1, (scaled, Instruction("sigmoid", (1,)), Instruction("mul", (0, 2))))


def _mish(node: ir.Node) -> Expr:
    return Expr(1, (Instruction("softplus", (0,)), Instruction("tanh", (1,)), Instruction("mul", (0, 2))))


def _softsign(node: ir.Node) -> Expr:
    return Expr(1, (Instruction("abs", (0,)), Instruction("linear", (1,), (1.0, 1.0)), Instruction("div", (0, 2))))


def _mean(node: ir.Node) -> Expr | None:
    total = _chain("add")(node)
    assert total is not None
    return Expr(1, (Instruction("linear", (0,), (1 / len(node.inputs), 0.0)),)).substitute(0, total)


EXPRESSIONS: dict[str, Callable[[ir.Node], Expr | None]] = {
    "Abs": _same("abs"),
    "Acos": _same("acos"),
    "Acosh": _same("acosh"),
    "Add": _same("add"),
    "Asin": _same("asin"),
    "Asinh": _same("asinh"),
    "Atan": _same("atan"),
    "Atanh": _same("atanh"),
    "Ceil": _same("ceil"),
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _same("cos"),
    "Cosh": _same("cosh"),
    "Div": _same("div"),
    "Elu": lambda node: Expr.of("elu", attribute(node, "alpha", 1.0)),
    "Erf": lambda node: Expr(1, _erf(0)),
    "Exp": _same("exp"),
    "Floor": _same("floor"),
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": lambda node: Expr.of("leaky_relu", attribute(node, "alpha", 0.01)),
    "Log": _same("log"),
    "Max": _chain("max"),
    "Mean": _mean,
    "Min": _chain("min"),
    "Mish": _mish,
    "Mul": _same("mul"),
    "Neg": _same("neg"),
    "PRelu": _same("prelu"),
    "Pow": _same("pow"),
    "Reciprocal": _same("reciprocal"),
    "Relu": _same("relu"),
    "Round": _same("round"),
    "Selu": _selu,
    "Shrink": lambda node: Expr.of("shrink", attribute(node, "lambd", 0.5), attribute(node, "bias", 0.0)),
    "Sigmoid": _same("sigmoid"),
    "Sign": _same("sign"),
    "Sin": _same("sin"),
    "Sinh": _same("sinh"),
    "Softplus": _same("softplus"),
    "Softsign": _softsign,
    "Sqrt": _same("sqrt"),
    "Sub": _same("sub"),
    "Sum": _chain("add"),
    "Swish": _swish,
    "Tan": _same("tan"),
    "Tanh": _same("tanh"),
    "ThresholdedRelu": lambda node: Expr.of("threshold", attribute(node, "alpha", 1.0)),
}


def expression(node: ir.Node) -> Expr | None:
    """The node as an expression over its first inputs, or None if it is not elementwise.

    ``Clip`` with bounds that are not constants is not.
    """
    build = EXPRESSIONS.get(node.op_type)
    return build(node) if build else None


def lower(builder: Builder, node: ir.Node) -> None:
    """``mace_cl::Elementwise``: blocked if any operand of the result's shape is at hand blocked, else row-major."""
    result = node.outputs[0]
    shape = builder.shape(result)
    inputs = [value for value in node.inputs if value is not None]
    expr = Expr.parse(attribute(node, "expr"))
    for value in inputs:
        own = builder.shape(value)
        if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
            builder.expect(node, value, shape)
    varying = [value for value in inputs if not is_constant(value)]
    blocked = (
        len(shape) >= 3
        and any(builder.shape(value) == shape and builder.has(value, "blocked") for value in varying)
        and all(len(builder.shape(value)) == len(shape) or prod(builder.shape(value)) == 1 for value in varying)
    )
    if blocked:
        _lower_blocked(builder, node, expr, inputs, shape)
    else:
        _lower_plain(builder, node, expr, inputs, shape)


def _lower_plain(builder: Builder, node: ir.Node, expr: Expr, inputs: list[ir.Value], shape: tuple[int, ...]) -> None:
    operands: list[Region | Constant] = []
    accesses = []
    for value in inputs:
        own = builder.shape(value)
        padded = (1,) * (len(shape) - len(own)) + own
        steps = contiguous(padded)
        accesses.append(Access(tuple(0 if size == 1 else step for size, step in zip(padded, steps, strict=True))))
        operands.append(builder.plain(value))
    accesses.append(Access(contiguous(shape)))
    target = builder.allocate(node.outputs[0], "nchw")
    builder.emit(Elementwise(builder.block, shape or (1,), tuple(_at_least_1d(accesses)), expr), operands, target, node)


def _at_least_1d(accesses: list[Access]) -> list[Access]:
    return [access if access.strides else Access((0,)) for access in accesses]


def _lower_blocked(builder: Builder, node: ir.Node, expr: Expr, inputs: list[ir.Value], shape: tuple[int, ...]) -> None:
    c = builder.block
    n, channels, *spatial = shape
    blocks = ceil_div(channels, c)
    operands: list[Region | Constant] = []
    accesses, splat = [], []
    for value in inputs:
        own = builder.shape(value)
        padded = (1,) * (len(shape) - len(own)) + own
        array = array_of(value)
        by_channel = (padded[1] == channels and channels > 1) or padded == shape
        splat.append(not by_channel)
        if not by_channel:
            strides = contiguous(padded)
            at = [0 if size == 1 else step for size, step in zip(padded, strides, strict=True)]
            accesses.append(Access((at[0], 0, *at[2:], 0)))
            operands.append(builder.plain(value))
            continue
        dims = (padded[0], blocks, *padded[2:], c)
        at = [0 if size == 1 else step for size, step in zip(dims, contiguous(dims), strict=True)]
        at[-1] = 1
        accesses.append(Access(tuple(at)))
        if array is None:
            operands.append(builder.blocked(value))
        else:
            packed = pad_to(array.reshape(padded), 1, c).reshape(padded[0], blocks, c, *padded[2:])
            operands.append(Constant(value.name or "", np.ascontiguousarray(np.moveaxis(packed, 2, -1))))
    accesses.append(Access(contiguous((n, blocks, *spatial, c))))
    mask = (blocks, channels % c) if channels % c and not expr.keeps_zero(splat) else None
    target = builder.allocate(node.outputs[0], "blocked")
    problem = Elementwise(c, (n, blocks, *spatial, c), tuple(accesses), expr, mask)
    builder.emit(problem, operands, target, node)
