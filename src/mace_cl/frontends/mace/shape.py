"""MACE's operators on shapes and indices.  Source: MACE's ``shape.cc``, ``fill.cc``, ``one_hot.cc``."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.mace.step import Constant, Mapper, Step

__all__ = ["OPS"]

_MOST_NUMBERS = 1 << 26


def _shape(at: Step) -> None:
    shape = at.shape()
    at.need(bool(shape), "reads a number, which has no shape")
    at.end(at.op("Identity", np.array(shape, np.int32)), (len(shape),))


def _fill(at: Step) -> None:
    """The shape is an input; where an operator makes it, the file tells what comes out."""
    given = at.source_of(0)
    if isinstance(given, Constant):
        wanted = tuple(given.array.reshape(-1).astype(int).tolist())
    else:
        wanted = at.declared() or ()
        at.need(bool(wanted), "tells no output shape")
    at.need(math.prod(wanted) <= _MOST_NUMBERS, f"fills the shape {list(wanted)}")
    at.end(at.op("Expand", at.op("Reshape", at.value(1), [1]), list(wanted)), wanted, at.layout)


def _one_hot(at: Step) -> None:
    """Numbers that are no index below the depth turn nothing on."""
    shape, depth = at.shape(), int(at.number("depth", 0))
    axis = int(at.number("axis", -1))
    axis = len(shape) if axis == -1 else axis
    at.need(0 <= axis <= len(shape), f"has the axis {axis} of {len(shape) + 1}")
    at.need(0 < depth < 1 << 24, f"has the depth {depth}")
    x = at.op("Unsqueeze", at.op("Cast", at.value(), to=ir.DataType.FLOAT), [axis])
    counted = np.arange(depth, dtype=np.float32).reshape(-1, *[1] * (len(shape) - axis))
    on, off = (np.float32(at.number(name, default)) for name, default in (("on_value", 1), ("off_value", 0)))
    at.end(at.op("Where", at.op("Equal", x, counted), on, off), (*shape[:axis], depth, *shape[axis:]), at.layout)


OPS: dict[str, Mapper] = {"Fill": _fill, "OneHot": _one_hot, "Shape": _shape}
