"""MACE's products with matrices."""

from __future__ import annotations

import math

import numpy as np

from mace_cl.frontends.mace.step import Mapper, Step, activated

__all__ = ["OPS"]


def _fully_connected(at: Step) -> None:
    """Weights [out, in, height, width], or [out, height, width, in] in a quantised graph."""
    layout = "NHWC" if at.filters == 103 else "NCHW"
    shape, weights = at.shape(layout=layout), at.source_of(1)
    outs, length = weights.shape[0], math.prod(shape[1:])
    at.need(math.prod(weights.shape[1:]) == length, f"has weights of {list(weights.shape)} for {list(shape)}")
    inputs = [at.op("Reshape", at.value(layout=layout), [shape[0], length])]
    inputs.append(at.weights(1, lambda array: array.reshape(outs, length)))
    if at.has(2):
        inputs.append(at.weights(2, lambda array: array.reshape(outs)))
    value = at.op("Gemm", *inputs, transB=1)
    if len(shape) == 4 and len(at.declared() or (0,) * 4) == 4:
        at.image(at.op("Reshape", value, [shape[0], outs, 1, 1]), (shape[0], outs, 1, 1))
    else:
        at.end(activated(at, value), (shape[0], outs))


def _mat_mul(at: Step) -> None:
    shapes, values = [], []
    for place, name in enumerate(("transpose_a", "transpose_b")):
        shape, value = at.shape(place), at.value(place)
        at.need(len(shape) >= 2, f"multiplies {list(shape)}")
        if at.arguments.get(name):
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            shape, value = (*shape[:-2], shape[-1], shape[-2]), at.op("Transpose", value, perm=order)
        shapes.append(shape)
        values.append(value)
    a, b = shapes
    at.need(a[-1] == b[-2], f"multiplies {list(a)} by {list(b)}")
    value = at.op("MatMul", *values)
    if at.has(2):
        value = at.op("Add", value, at.weights(2))
    at.end(value, (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), at.layout)


OPS: dict[str, Mapper] = {
    "FullyConnected": _fully_connected,
    "MatMul": _mat_mul,
}
