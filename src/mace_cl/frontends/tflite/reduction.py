"""TensorFlow Lite's reductions, normalisations and orderings."""

from __future__ import annotations

from functools import partial

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.tflite.converter import Converter
from mace_cl.frontends.tflite.family import INTO_NCHW, Family, axes_of
from mace_cl.frontends.tflite.file import Operator

__all__ = ["OPS"]

OPS = Family()


def _reduce(c: Converter, op: Operator, op_type: str) -> None:
    x, rank = op.inputs[0], c.rank(op.inputs[0])
    axes, keep = axes_of(c, op.inputs[1], rank), bool(op.option(0, "?"))
    # without a reduced axis kept, what is left of NCHW must be in the order that it has in NHWC
    ordered = keep or 3 in axes or {1, 2} <= set(axes)
    image = rank == 4 and c.prefers_image(x) and ordered
    value = c.image(x) if image else c.value(x)
    if op.name in ("REDUCE_ANY", "REDUCE_ALL"):
        value = c.op("Cast", [value], to=ir.DataType.INT32)
    given = [INTO_NCHW[axis] for axis in axes] if image else axes
    value = c.op(op_type, [value, c.constant(sorted(given))], keepdims=int(keep)) if axes else value
    if op.name in ("REDUCE_ANY", "REDUCE_ALL"):
        value = c.op("Cast", [value], to=ir.DataType.BOOL)
    moved = x if op_type in ("ReduceMax", "ReduceMin") else None
    c.put(op, value, "nchw" if image and (keep or not axes) else "file", moved=moved)


for _name, _op_type in {
    "MEAN": "ReduceMean", "SUM": "ReduceSum", "REDUCE_PROD": "ReduceProd", "REDUCE_MAX": "ReduceMax",
    "REDUCE_MIN": "ReduceMin", "REDUCE_ANY": "ReduceMax", "REDUCE_ALL": "ReduceMin",
}.items():  # fmt: skip
    OPS[_name] = partial(_reduce, op_type=_op_type)


@OPS.maps("ARG_MAX", "ARG_MIN")
def _arg(c: Converter, op: Operator) -> None:
    rank = c.rank(op.inputs[0])
    (axis,) = axes_of(c, op.inputs[1], rank)
    value = c.op("ArgMax" if op.name == "ARG_MAX" else "ArgMin", [c.value(op.inputs[0])], axis=axis, keepdims=0)
    if c.tensor(op.outputs[0]).dtype == np.int32:
        value = c.op("Cast", [value], to=ir.DataType.INT32)
    c.put(op, value)


def _last_axis(c: Converter, op: Operator) -> tuple[str, ir.Value, int]:
    """Layout, value and the axis that is the last one in the file."""
    image = c.rank(op.inputs[0]) == 4 and c.prefers_image(op.inputs[0])
    if image:
        return "nchw", c.image(op.inputs[0]), 1
    return "file", c.value(op.inputs[0]), c.rank(op.inputs[0]) - 1


@OPS.maps("SOFTMAX", "LOG_SOFTMAX")
def _softmax(c: Converter, op: Operator) -> None:
    layout, x, axis = _last_axis(c, op)
    beta = op.option(0, "f") if op.name == "SOFTMAX" else 1.0
    if beta not in (0.0, 1.0):
        x = c.op("Mul", [x, c.constant(float(beta))])
    c.put(op, c.op("Softmax" if op.name == "SOFTMAX" else "LogSoftmax", [x], axis=axis), layout)


@OPS.maps("L2_NORMALIZATION")
def _l2_normalization(c: Converter, op: Operator) -> None:
    layout, x, axis = _last_axis(c, op)
    length = c.op("ReduceSumSquare", [x, c.constant([axis])], keepdims=1)
    length = c.op("Sqrt", [c.op("Max", [length, c.constant(1e-6)])])
    c.put(op, c.activated(op, c.op("Div", [x, length]), 0), layout)


@OPS.maps("LOCAL_RESPONSE_NORMALIZATION")
def _lrn(c: Converter, op: Operator) -> None:
    size = 2 * op.option(0) + 1
    value = c.op(
        "LRN", [c.image(op.inputs[0])],
        size=size, bias=op.option(1, "f"), alpha=op.option(2, "f") * size, beta=op.option(3, "f"),
    )  # fmt: skip
    c.put(op, value, "nchw")


@OPS.maps("CUMSUM")
def _cumsum(c: Converter, op: Operator) -> None:
    values = [c.value(index) for index in op.inputs]
    c.put(op, c.op("CumSum", values, exclusive=int(op.option(0, "?")), reverse=int(op.option(1, "?"))))


@OPS.maps("TOPK_V2")
def _topk(c: Converter, op: Operator) -> None:
    count = c.op("Reshape", [c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64), c.constant([1])])
    values, indices = c.ops("TopK", [c.value(op.inputs[0]), count], 2)
    c.put(op, values, moved=op.inputs[0])
    c.put(op, c.op("Cast", [indices], to=ir.DataType.INT32), place=1)


del _name, _op_type
