"""MACE's operators that work element by element."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.mace import mace_pb2 as pb
from mace_cl.frontends.mace.codes import ELTWISE
from mace_cl.frontends.mace.step import Constant, Mapper, Shape, Step, activated, column, f32

__all__ = ["OPS"]


def _bias_add(at: Step) -> None:
    bias = at.source_of(1)
    operand = column(at, 1, len(at.shape())) if isinstance(bias, Constant) else at.value(1, "NCHW")
    at.end(activated(at, at.op("Add", at.value(layout="NCHW"), operand)), at.shape())


def _activation(at: Step) -> None:
    rank = len(at.shape())
    alpha = at.graph.constant(column(at, 1, rank)) if at.has(1) else None
    at.end(activated(at, at.value(layout="NCHW"), alpha), at.shape())


def _broadcast(at: Step, place: int, rank: int) -> tuple[Any, Shape]:
    """An input and its NCHW shape for an operator on images of ``rank``: shorter shapes lie along the last axes."""
    shape = at.shape(place, "NCHW")
    if rank != 4 or len(shape) == 4:
        return at.value(place, "NCHW"), shape
    padded = (1,) * (4 - len(shape)) + at.shape(place)
    if at.layout == "NHWC":
        found = at.source_of(place)
        if isinstance(found, Constant):
            turned = found.real().reshape(padded).transpose(0, 3, 1, 2)
            return turned, turned.shape
        wide = at.op("Reshape", at.value(place), list(padded))
        return at.op("Transpose", wide, perm=[0, 3, 1, 2]), tuple(padded[axis] for axis in (0, 3, 1, 2))
    return at.op("Reshape", at.value(place, "NCHW"), list(padded)), padded


def _eltwise(at: Step) -> None:
    kind = int(at.arguments.get("type", -1))
    at.need(0 <= kind < len(ELTWISE), f"has the type {kind}")
    name, coefficients = ELTWISE[kind], at.arguments.get("coeff", [])
    rank = max(len(at.shape(place)) for place in range(len(at.inputs)))
    operands = [_broadcast(at, place, rank) for place in range(len(at.inputs))]
    values, nchw = [value for value, _ in operands], np.broadcast_shapes(*(shape for _, shape in operands))
    shape = nchw if len(nchw) != 4 or at.layout == "NCHW" else tuple(nchw[axis] for axis in (0, 2, 3, 1))
    single = {"NEG": "Neg", "ABS": "Abs", "SIGN": "Sign"}
    if name in single:
        at.end(activated(at, at.op(single[name], values[0])), shape)
        return
    if name == "CLIP":
        at.need(len(coefficients) == 2, f"has the limits {coefficients}")
        at.end(activated(at, at.op("Clip", values[0], f32(coefficients[0]), f32(coefficients[1]))), shape)
        return
    if len(values) == 1:
        scalar = at.graph.constant(f32(at.arguments.get("scalar_input", 1.0)))
        values.insert(0 if int(at.arguments.get("scalar_input_index", 1)) == 0 else 1, scalar)
    at.need(len(values) == 2, f"has {len(values)} inputs")
    a, b = values
    if name == "SUM" and coefficients:
        at.need(len(coefficients) == 2, f"has the coefficients {coefficients}")
        a, b = (
            value if factor == 1 else at.op("Mul", value, f32(factor))
            for value, factor in zip((a, b), coefficients, strict=True)
        )
    simple = {"SUM": "Add", "SUB": "Sub", "PROD": "Mul", "DIV": "Div", "MIN": "Min", "MAX": "Max", "POW": "Pow"}
    if name in simple:
        value = at.op(simple[name], a, b)
    elif name == "SQR_DIFF":
        difference = at.op("Sub", a, b)
        value = at.op("Mul", difference, difference)
    elif name == "FLOOR_DIV":
        value = at.op("Floor", at.op("Div", a, b))
    elif name in ("EQUAL", "NOT_EQUAL"):
        same = at.op("Equal", a, b)
        value = at.op("Cast", same if name == "EQUAL" else at.op("Not", same), to=ir.DataType.FLOAT)
    else:
        at.lacks(f"the type {name}")
    at.end(activated(at, value), shape)


def _add_n(at: Step) -> None:
    value = at.value(layout="NCHW")
    for place in range(1, len(at.inputs)):
        at.need(at.shape(place) == at.shape(), f"adds {list(at.shape())} and {list(at.shape(place))}")
        value = at.op("Add", value, at.value(place, "NCHW"))
    at.end(activated(at, value), at.shape())


def _cast(at: Step) -> None:
    wanted = at.definition.output_type[0] if at.definition.output_type else pb.DT_FLOAT
    kind = {pb.DT_INT32: ir.DataType.INT32, pb.DT_UINT8: ir.DataType.UINT8}.get(wanted, ir.DataType.FLOAT)
    at.end(at.op("Cast", at.value(layout="NCHW"), to=kind), at.shape())


OPS: dict[str, Mapper] = {
    "Activation": _activation,
    "AddN": _add_n,
    "BiasAdd": _bias_add,
    "Cast": _cast,
    "Eltwise": _eltwise,
}
