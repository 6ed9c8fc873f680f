"""MACE's reductions."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.frontends.mace.codes import REDUCE
from mace_cl.frontends.mace.step import Mapper, Step

__all__ = ["OPS"]


def _reduce(at: Step) -> None:
    kind, shape = int(at.arguments.get("reduce_type", 0)), at.shape()
    at.need(0 <= kind < len(REDUCE), f"has the reduce_type {kind}")
    given = at.arguments.get("axis", list(range(len(shape))))
    given = given if isinstance(given, list) else [given]
    at.need(all(-len(shape) <= axis < len(shape) for axis in given), f"has the axes {given}")
    axes = sorted({int(axis) % len(shape) for axis in given})
    if at.arguments.get("keepdims"):
        value = at.op(REDUCE[kind], at.value(layout="NCHW"), [at.map_axis(axis, len(shape)) for axis in axes])
        at.end(value, [1 if axis in axes else size for axis, size in enumerate(shape)])
        return
    value = at.op(REDUCE[kind], at.value(), axes, keepdims=0)
    at.end(value, [size for axis, size in enumerate(shape) if axis not in axes], at.layout)


def _sqr_diff_mean(at: Step) -> None:
    n, channels, *_ = at.shape(layout="NCHW")
    difference = at.op("Sub", at.value(layout="NCHW"), at.value(1, "NCHW"))
    at.image(at.op("ReduceMean", at.op("Mul", difference, difference), [2, 3]), (n, channels, 1, 1))


def _argmax(at: Step) -> None:
    shape = at.shape()
    if at.arguments.get("out_val") or int(at.arguments.get("top_k", 1)) != 1:
        at.lacks("more than the place of the greatest")
    axis = int(at.constant(1).reshape(-1)[0]) if at.has(1) else int(at.arguments.get("axis", -1))
    at.need(-len(shape) <= axis < len(shape), f"has the axis {axis}")
    axis %= len(shape)
    keep = int(at.arguments.get("keepdims", 0))
    value = at.op("ArgMin" if at.arguments.get("argmin") else "ArgMax", at.value(), axis=axis, keepdims=keep)
    full = [*shape[:axis], *([1] if keep else []), *shape[axis + 1 :]]
    at.end(at.op("Cast", value, to=ir.DataType.INT32), full, at.layout)


OPS: dict[str, Mapper] = {
    "ArgMax": _argmax,
    "Reduce": _reduce,
    "SqrDiffMean": _sqr_diff_mean,
}
