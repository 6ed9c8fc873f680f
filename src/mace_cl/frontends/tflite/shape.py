"""TensorFlow Lite's operators on shapes and indices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.tflite.converter import Converter
from mace_cl.frontends.tflite.family import Family
from mace_cl.frontends.tflite.file import Operator

__all__ = ["OPS"]

OPS = Family()


@OPS.maps("SHAPE")
def _shape(c: Converter, op: Operator) -> None:
    value = c.op("Shape", [c.value(op.inputs[0])])
    c.put(op, _as_type_of(c, op, value))


def _as_type_of(c: Converter, op: Operator, value: ir.Value) -> ir.Value:
    """An int64 as the type of the operator's first output."""
    kind = np.dtype(c.tensor(op.outputs[0]).dtype)
    return value if kind == np.int64 else c.op("Cast", [value], to=ir.DataType.from_numpy(kind))


@OPS.maps("RANK")
def _rank(c: Converter, op: Operator) -> None:
    c.fold(op, np.array(c.rank(op.inputs[0]), np.int32))


@OPS.maps("FILL")
def _fill(c: Converter, op: Operator) -> None:
    shape = c.op("Cast", [c.value(op.inputs[0])], to=ir.DataType.INT64)
    c.put(op, c.op("Expand", [c.value(op.inputs[1]), shape]), moved=op.inputs[1])


@OPS.maps("RANGE")
def _range(c: Converter, op: Operator) -> None:
    c.put(op, c.op("Range", [c.value(index) for index in op.inputs]))


@OPS.maps("WHERE")
def _where(c: Converter, op: Operator) -> None:
    found = c.op("Transpose", [c.op("NonZero", [c.value(op.inputs[0])])], perm=(1, 0))
    c.put(op, _as_type_of(c, op, found))


@OPS.maps("ONE_HOT")
def _one_hot(c: Converter, op: Operator) -> None:
    indices, depth, on, off = (c.value(index) for index in op.inputs)
    rank, axis = c.rank(op.inputs[0]), op.option(0, "i", -1)
    both = [c.op("Unsqueeze", [value, c.constant([0])]) for value in (off, on)]
    # ONNX takes negative indices from the end, TensorFlow Lite sets nothing for them
    inside = c.op("Where", [c.op("Less", [indices, _zero(c, op)]), depth, indices])
    c.put(op, c.op("OneHot", [inside, depth, c.op("Concat", both, axis=0)], axis=axis if axis >= 0 else rank))


def _zero(c: Converter, op: Operator) -> ir.Value:
    return c.constant(np.zeros((), c.tensor(op.inputs[0]).dtype))
