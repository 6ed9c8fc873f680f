"""TensorFlow Lite's operators that work element by element."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.tflite.converter import Converter, Unmapped
from mace_cl.frontends.tflite.family import Family
from mace_cl.frontends.tflite.file import Operator

__all__ = ["OPS"]

OPS = Family()


def _elementwise(c: Converter, op: Operator, op_type: str, slot: int | None = None) -> None:
    """``slot`` is the option that fuses an activation."""
    layout, values = c.together(op.inputs)
    value = c.op(op_type, values)
    c.put(op, value if slot is None else c.activated(op, value, slot), layout)


for _name, _op_type in {
    "ABS": "Abs", "ADD_N": "Sum", "CEIL": "Ceil", "COS": "Cos", "ELU": "Elu", "EQUAL": "Equal", "EXP": "Exp",
    "FLOOR": "Floor", "GREATER": "Greater", "GREATER_EQUAL": "GreaterOrEqual", "HARD_SWISH": "HardSwish",
    "LESS": "Less", "LESS_EQUAL": "LessOrEqual", "LOG": "Log", "LOGICAL_AND": "And", "LOGICAL_NOT": "Not",
    "LOGICAL_OR": "Or", "LOGISTIC": "Sigmoid", "MAXIMUM": "Max", "MINIMUM": "Min", "NEG": "Neg", "POW": "Pow",
    "PRELU": "PRelu", "RELU": "Relu", "ROUND": "Round", "SIGN": "Sign", "SIN": "Sin", "SQRT": "Sqrt", "TANH": "Tanh",
    "BITWISE_XOR": "BitwiseXor", "SELECT_V2": "Where",
}.items():  # fmt: skip
    OPS[_name] = partial(_elementwise, op_type=_op_type)
for _name, _op_type in {"ADD": "Add", "DIV": "Div", "MUL": "Mul", "SUB": "Sub"}.items():
    OPS[_name] = partial(_elementwise, op_type=_op_type, slot=0)


def _clip(c: Converter, op: Operator, low: float, high: float) -> None:
    layout, (x,) = c.together(op.inputs)
    c.put(op, c.clip(x, low, high), layout)


OPS |= {
    "RELU6": partial(_clip, low=0.0, high=6.0),
    "RELU_N1_TO_1": partial(_clip, low=-1.0, high=1.0),
    "RELU_0_TO_1": partial(_clip, low=0.0, high=1.0),
}


@OPS.maps("LEAKY_RELU")
def _leaky_relu(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("LeakyRelu", values, alpha=op.option(0, "f")), layout)


@OPS.maps("GELU")
def _gelu(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("Gelu", values, approximate="tanh" if op.option(0, "?") else "none"), layout)


@OPS.maps("RSQRT")
def _rsqrt(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("Reciprocal", [c.op("Sqrt", values)]), layout)


@OPS.maps("SQUARE")
def _square(c: Converter, op: Operator) -> None:
    layout, (x,) = c.together(op.inputs)
    c.put(op, c.op("Mul", [x, x]), layout)


@OPS.maps("SQUARED_DIFFERENCE")
def _squared_difference(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    difference = c.op("Sub", values)
    c.put(op, c.op("Mul", [difference, difference]), layout)


@OPS.maps("NOT_EQUAL")
def _not_equal(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    c.put(op, c.op("Not", [c.op("Equal", values)]), layout)


@OPS.maps("FLOOR_DIV", "FLOOR_MOD")
def _floor_division(c: Converter, op: Operator) -> None:
    layout, (a, b) = c.together(op.inputs)
    if np.issubdtype(c.tensor(op.inputs[0]).dtype, np.integer):
        rest = c.op("Mod", [a, b])  # has the sign of b
        c.put(op, rest if op.name == "FLOOR_MOD" else c.op("Div", [c.op("Sub", [a, rest]), b]), layout)
        return
    quotient = c.op("Floor", [c.op("Div", [a, b])])
    c.put(op, quotient if op.name == "FLOOR_DIV" else c.op("Sub", [a, c.op("Mul", [quotient, b])]), layout)


@OPS.maps("SELECT")
def _select(c: Converter, op: Operator) -> None:
    """As SELECT_V2, but a condition of one dimension chooses whole rows."""
    condition, rank = c.value(op.inputs[0]), c.rank(op.outputs[0])
    if c.rank(op.inputs[0]) == 1 and rank > 1:
        condition = c.op("Reshape", [condition, c.constant([-1, *[1] * (rank - 1)])])
    c.put(op, c.op("Where", [condition, c.value(op.inputs[1]), c.value(op.inputs[2])]))


@OPS.maps("CAST")
def _cast(c: Converter, op: Operator) -> None:
    kind = c.tensor(op.outputs[0]).dtype
    if kind is None or np.issubdtype(kind, np.complexfloating):
        raise Unmapped("casts to a type that ONNX lacks")
    layout, (x,) = c.together(op.inputs[:1])
    c.put(op, c.op("Cast", [x], to=ir.DataType.from_numpy(np.dtype(kind))), layout)


@OPS.maps("QUANTIZE")
def _quantize(c: Converter, op: Operator) -> None:
    layout, (x,) = c.together(op.inputs)
    c.put(op, x, layout, moved=op.inputs[0])


@OPS.maps("DEQUANTIZE")
def _dequantize(c: Converter, op: Operator) -> None:
    index = op.inputs[0]
    if c.is_constant(index):
        c.fold(op, c.array(index).astype(np.float32))
        return
    layout, (x,) = c.together([index])
    if c.tensor(index).dtype == np.float16:
        x = c.op("Cast", [x], to=ir.DataType.FLOAT)
    c.put(op, x, layout)


@OPS.maps("FAKE_QUANT")
def _fake_quant(c: Converter, op: Operator) -> None:
    """The range is moved so that 0 is on the grid (TensorFlow's ``Nudge``)."""
    low, high = op.option(0, "f"), op.option(1, "f")
    first, last = float(op.option(3, "?")), float((1 << op.option(2)) - 1)
    scale = (high - low) / (last - first)
    zero = min(max(first - low / scale, first), last)
    zero = float(np.floor(zero + 0.5))
    layout, (x,) = c.together(op.inputs)
    steps = c.op("Div", [c.clip(x, (first - zero) * scale, (last - zero) * scale), c.constant(scale)])
    c.put(op, c.op("Mul", [c.op("Round", [steps]), c.constant(scale)]), layout)


@OPS.maps("ZEROS_LIKE")
def _zeros_like(c: Converter, op: Operator) -> None:
    zero = np.zeros((), c.tensor(op.inputs[0]).dtype)
    c.put(op, c.op("Expand", [c.constant(zero), c.op("Shape", [c.value(op.inputs[0])])]))


del _name, _op_type
