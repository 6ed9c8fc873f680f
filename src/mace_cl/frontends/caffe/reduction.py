"""Caffe's reductions."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe.step import Mapper, Step, f32

__all__ = ["LAYERS"]


def _reduction(at: Step) -> None:
    param, shape = at.layer.reduction_param, at.x.shape
    axis = at.axis(param.axis)
    kinds = pb.ReductionParameter
    kind = {kinds.SUM: "ReduceSum", kinds.ASUM: "ReduceL1", kinds.SUMSQ: "ReduceSumSquare", kinds.MEAN: "ReduceMean"}
    op_type, axes = kind[param.operation], list(range(axis, len(shape)))
    if param.coeff == 1:
        at.end(shape[:axis], op_type, at.x, axes, keepdims=0)
    else:
        at.end(shape[:axis], "Mul", at.op(op_type, at.x, axes, keepdims=0), f32(param.coeff))


def _argmax(at: Step) -> None:
    """Places of the greatest as floats; without an axis over all of an image, and then their values if asked."""
    param, shape, k = at.layer.argmax_param, at.x.shape, int(at.layer.argmax_param.top_k)
    apart = not param.HasField("axis")
    x: Any = at.op("Reshape", at.x, [shape[0], 1, -1]) if apart else at.x
    axis = 2 if apart else at.axis(param.axis)
    length = math.prod(shape[1:]) if apart else shape[axis]
    at.need(0 < k <= length, f"wants the {k} greatest of {length}")
    full = (shape[0], 1, k) if apart else (*shape[:axis], k, *shape[axis + 1 :])
    if len(full) < 3:
        full = (*full, *[1] * (3 - len(full)))
    values, places = at.pair("TopK", x, [k], axis=axis)
    if not param.out_max_val:
        at.end(full, "Reshape", at.op("Cast", places, to=ir.DataType.FLOAT), list(full))
    elif not apart:
        at.end(full, "Reshape", values, list(full))
    else:
        at.end((shape[0], 2, k), "Concat", at.op("Cast", places, to=ir.DataType.FLOAT), values, axis=1)


LAYERS: dict[str, Mapper] = {
    "ArgMax": _argmax,
    "Reduction": _reduction,
}
