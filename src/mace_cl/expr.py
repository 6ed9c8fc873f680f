"""Straight-line elementwise expressions: what is fused into one kernel or one epilogue.

An `Expr` has ``arity`` inputs, numbered from 0, and a body of instructions; instruction ``i`` is value
``arity + i``, and the last value is the result.  The text form, for instance ``2: 2=mul(0,1) 3=relu(2)``,
is what graph nodes carry as an attribute and what reports print.  Formulas are those of the ONNX
operators of the same name (https://onnx.ai/onnx/operators/).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ERF_BOUND", "OPERATIONS", "Expr", "Instruction", "Operation", "literal"]

Array = NDArray[np.float32]


def literal(value: float) -> str:
    """A float as OpenCL C text that reads back as the same fp32 number."""
    number = float(np.float32(value))
    if math.isnan(number):
        return "NAN"
    if math.isinf(number):
        return "INFINITY" if number > 0 else "-INFINITY"
    text = f"{number:.9g}"
    return text + ("f" if any(mark in text for mark in ".e") else ".0f")


@dataclass(frozen=True)
class Operation:
    """How one operation is written in OpenCL C and computed in NumPy.

    ``code`` is a format string over ``{0} {1} …`` (operands), ``{p0} {p1} …`` (scalar attributes as
    vectors).  A NaN operand gives NaN: comparisons with it are false, and what they then choose is the operand.
    """

    operands: int
    code: str
    compute: Callable[..., Any]
    attributes: int = 0


def _clip(x: Array, low: float, high: float) -> Array:
    return np.where(np.isnan(x), x, np.clip(x, low, high))


def _shrink(x: Array, threshold: float, bias: float) -> Array:
    moved = np.where(x > threshold, x - np.float32(bias), x + np.float32(bias))
    return np.where(np.abs(x) <= threshold, np.float32(0), moved)


def _erf(x: Array) -> Array:
    values: Array = np.vectorize(math.erf, otypes=[np.float32])(x)
    return values


def _rational(above: Sequence[float], below: Sequence[float]) -> str:
    """``x·P(x²)/Q(x²)`` by Horner's rule; coefficients lowest first."""

    def polynomial(coefficients: Sequence[float]) -> str:
        text = f"({{V}})({literal(coefficients[-1])})"
        for factor in coefficients[-2::-1]:
            text = f"({text} * ({{0}} * {{0}}) + ({{V}})({literal(factor)}))"
        return text

    return f"({{0}} * {polynomial(above)} / {polynomial(below)})"


ERF_BOUND = 3.92
"""Where erf reaches 1 in fp32; what the operation ``erf`` takes must be clipped to it."""

_ERF = _rational(
    (1.12837911, 0.190406606, 0.0527487472, 3.76562471e-3, 2.84883165e-4, 2.05008973e-6),
    (1.0, 0.502076209, 0.114109173, 0.0149692316, 1.16253784e-3, 3.80917627e-5),
)
"""A fit of our own for |x| <= `ERF_BOUND`: relative error 3e-7."""

OPERATIONS: dict[str, Operation] = {
    "const": Operation(0, "{p0}", lambda value: np.float32(value), attributes=1),
    "add": Operation(2, "({0} + {1})", lambda a, b: a + b),
    "sub": Operation(2, "({0} - {1})", lambda a, b: a - b),
    "mul": Operation(2, "({0} * {1})", lambda a, b: a * b),
    "div": Operation(2, "({0} / {1})", lambda a, b: a / b),
    "max": Operation(2, "((({1} > {0}) | ({1} != {1})) ? {1} : {0})", lambda a, b: np.maximum(a, b)),
    "min": Operation(2, "((({1} < {0}) | ({1} != {1})) ? {1} : {0})", lambda a, b: np.minimum(a, b)),
    "pow": Operation(2, "pow({0}, {1})", lambda a, b: np.power(a, b)),
    "neg": Operation(1, "(-{0})", lambda a: -a),
    "abs": Operation(1, "fabs({0})", np.abs),
    "exp": Operation(1, "exp({0})", np.exp),
    "log": Operation(1, "log({0})", np.log),
    "sqrt": Operation(1, "sqrt({0})", np.sqrt),
    "reciprocal": Operation(1, "(({V})(1.0f) / {0})", lambda a: np.float32(1) / a),
    "floor": Operation(1, "floor({0})", np.floor),
    "ceil": Operation(1, "ceil({0})", np.ceil),
    "round": Operation(1, "rint({0})", np.rint),
    "sin": Operation(1, "sin({0})", np.sin),
    "cos": Operation(1, "cos({0})", np.cos),
    "tan": Operation(1, "tan({0})", np.tan),
    "asin": Operation(1, "asin({0})", np.arcsin),
    "acos": Operation(1, "acos({0})", np.arccos),
    "atan": Operation(1, "atan({0})", np.arctan),
    "sinh": Operation(1, "sinh({0})", np.sinh),
    "cosh": Operation(1, "cosh({0})", np.cosh),
    "asinh": Operation(1, "asinh({0})", np.arcsinh),
    "acosh": Operation(1, "acosh({0})", np.arccosh),
    "atanh": Operation(1, "atanh({0})", np.arctanh),
    "sign": Operation(1, "({0} != {0} ? {0} : sign({0}))", np.sign),
    "erf": Operation(1, _ERF, _erf),
    "tanh": Operation(1, "tanh({0})", np.tanh),
    "relu": Operation(1, "(({V})(0.0f) > {0} ? ({V})(0.0f) : {0})", lambda a: np.maximum(a, 0)),
    "clip": Operation(1, "({p1} < ({p0} > {0} ? {p0} : {0}) ? {p1} : ({p0} > {0} ? {p0} : {0}))", _clip, attributes=2),
    "leaky_relu": Operation(
        1, "(({V})(0.0f) > {0} ? {p0} * {0} : {0})", lambda a, s: np.where(a < 0, a * s, a), attributes=1
    ),
    "prelu": Operation(2, "(({V})(0.0f) > {0} ? {1} * {0} : {0})", lambda a, s: np.where(a < 0, a * s, a)),
    "threshold": Operation(
        1, "({p0} >= {0} ? ({V})(0.0f) : {0})", lambda a, t: np.where(a <= t, np.float32(0), a), attributes=1
    ),
    "shrink": Operation(
        1,
        "({0} > {p0} ? {0} - {p1} : (-{p0} > {0} ? {0} + {p1} : ({0} != {0} ? {0} : ({V})(0.0f))))",
        _shrink,
        attributes=2,
    ),
    "elu": Operation(
        1,
        "(({V})(0.0f) > {0} ? {p0} * (exp({0}) - ({V})(1.0f)) : {0})",
        lambda a, s: np.where(a < 0, s * np.expm1(a), a),
        attributes=1,
    ),
    "sigmoid": Operation(1, "(({V})(1.0f) / (({V})(1.0f) + exp(-{0})))", lambda a: 1 / (1 + np.exp(-a))),
    "softplus": Operation(
        1,
        "((({V})(0.0f) > {0} ? ({V})(0.0f) : {0}) + log1p(exp(-fabs({0}))))",
        lambda a: np.maximum(a, 0) + np.log1p(np.exp(-np.abs(a))),
    ),
    "linear": Operation(1, "({0} * {p0} + {p1})", lambda a, s, t: a * np.float32(s) + np.float32(t), attributes=2),
}


@dataclass(frozen=True)
class Instruction:
    """``operation`` over earlier values ``args``, with scalar ``attributes``."""

    operation: str
    args: tuple[int, ...]
    attributes: tuple[float, ...] = ()

    def __str__(self) -> str:
        inside = [str(arg) for arg in self.args] + [f"#{np.float32(value)!s}" for value in self.attributes]
        return f"{self.operation}({','.join(inside)})"


@dataclass(frozen=True)
class Expr:
    """A straight-line elementwise program; see the module for its text form."""

    arity: int
    body: tuple[Instruction, ...]

    def __str__(self) -> str:
        return " ".join([f"{self.arity}:"] + [f"{self.arity + i}={line}" for i, line in enumerate(self.body)])

    @staticmethod
    def parse(text: str) -> Expr:
        """The inverse of ``str``, which rounds attributes to fp32.

        Raises:
            ValueError: if the text is not an expression.
        """
        head, _, rest = text.partition(":")
        body = []
        for item in rest.split():
            match = re.fullmatch(r"\d+=(\w+)\(([^)]*)\)", item)
            if match is None or match[1] not in OPERATIONS:
                raise ValueError(f"not an expression: {item!r} in {text!r}")
            parts = [part for part in match[2].split(",") if part]
            body.append(
                Instruction(
                    match[1],
                    tuple(int(part) for part in parts if part[0] != "#"),
                    tuple(float(np.float32(part[1:])) for part in parts if part[0] == "#"),
                )
            )
        return Expr(int(head), tuple(body))

    @staticmethod
    def of(operation: str, *attributes: float) -> Expr:
        """One operation applied to as many inputs as it takes."""
        count = OPERATIONS[operation].operands
        return Expr(count, (Instruction(operation, tuple(range(count)), attributes),))

    def substitute(self, position: int, inner: Expr) -> Expr:
        """This expression with input ``position`` computed by ``inner``.

        The inputs of the result are ``inner``'s inputs, then this expression's others, in order.
        """
        arity = inner.arity + self.arity - 1
        names: dict[int, int] = {}
        following = inner.arity
        for index in range(self.arity):
            if index == position:
                names[index] = arity + len(inner.body) - 1 if inner.body else 0
            else:
                names[index] = following
                following += 1
        moved_inner = [
            Instruction(line.operation, tuple(_moved(arg, inner.arity, arity) for arg in line.args), line.attributes)
            for line in inner.body
        ]
        for index in range(len(self.body)):
            names[self.arity + index] = arity + len(inner.body) + index
        moved_outer = [
            Instruction(line.operation, tuple(names[arg] for arg in line.args), line.attributes) for line in self.body
        ]
        return Expr(arity, tuple(moved_inner + moved_outer))

    def merge_inputs(self, first: int, second: int) -> Expr:
        """This expression with input ``second`` replaced by input ``first < second``."""

        def renamed(arg: int) -> int:
            return first if arg == second else arg - (arg > second)

        body = (Instruction(line.operation, tuple(map(renamed, line.args)), line.attributes) for line in self.body)
        return Expr(self.arity - 1, tuple(body))

    def compute(self, *inputs: Any) -> Any:
        """The value in NumPy, fp32."""
        values = list(inputs)
        with np.errstate(all="ignore"):
            for line in self.body:
                operation = OPERATIONS[line.operation]
                values.append(operation.compute(*(values[arg] for arg in line.args), *line.attributes))
        return values[-1]

    def code(self, operands: Sequence[str], vector: str, prefix: str) -> tuple[list[str], str]:
        """OpenCL C: declarations of one temporary per instruction, and the result's name.

        ``vector`` is the type of every value, ``prefix`` begins the temporaries' names.
        """
        names = list(operands)
        lines = []
        for index, line in enumerate(self.body):
            operation = OPERATIONS[line.operation]
            scalars = {f"p{i}": f"({vector})({literal(value)})" for i, value in enumerate(line.attributes)}
            text = operation.code.format(*(names[arg] for arg in line.args), V=vector, **scalars)
            names.append(f"{prefix}{index}")
            lines.append(f"const {vector} {names[-1]} = {text};")
        return lines, names[-1]

    def keeps_zero(self, splat: Sequence[bool]) -> bool:
        """Whether the result is 0 wherever all inputs are 0, inputs marked ``splat`` being arbitrary."""
        samples = np.array([0.7, -1.9, 3.0], dtype=np.float32)
        inputs = [samples if arbitrary else np.zeros(3, np.float32) for arbitrary in splat]
        return bool(np.all(np.asarray(self.compute(*inputs)) == 0))


def _moved(arg: int, old_arity: int, new_arity: int) -> int:
    return arg if arg < old_arity else arg - old_arity + new_arity
