"""Caffe's products with matrices."""

from __future__ import annotations

import math
from typing import Any

import onnx_ir as ir

from mace_cl.frontends.caffe.step import Mapper, Step

__all__ = ["LAYERS"]


def _inner_product(at: Step) -> None:
    param, shape = at.layer.inner_product_param, at.x.shape
    axis = at.axis(param.axis)
    length, outs = math.prod(shape[axis:]), int(param.num_output)
    at.need(outs > 0, "has no num_output")
    weights = at.weights(0, (length, outs) if param.transpose else (outs, length))
    inputs: list[Any] = [at.op("Reshape", at.x, [math.prod(shape[:axis]), length]), weights]
    if param.bias_term:
        inputs.append(at.weights(1, (outs,)))
    full = (*shape[:axis], outs)
    if axis == 1:
        at.end(full, "Gemm", *inputs, transB=0 if param.transpose else 1)
    else:
        at.end(full, "Reshape", at.op("Gemm", *inputs, transB=0 if param.transpose else 1), list(full))


def _embed(at: Step) -> None:
    param = at.layer.embed_param
    outs = int(param.num_output)
    table = at.weights(0)
    at.need(outs > 0 and table.size % outs == 0, f"has a table of {table.size} numbers for {outs} outputs")
    index = at.op("Cast", at.x, to=ir.DataType.INT64)
    inputs = (table.reshape(-1, outs), index)
    full = (*at.x.shape, outs)
    if param.bias_term:
        at.end(full, "Add", at.op("Gather", *inputs), at.weights(1, (outs,)))
    else:
        at.end(full, "Gather", *inputs)


def _mat_mul(at: Step) -> None:
    a, b = at.bottom(0), at.bottom(1)
    at.need(
        len(a.shape) == len(b.shape) >= 2 and a.shape[:-2] == b.shape[:-2] and a.shape[-1] == b.shape[-2],
        f"multiplies {list(a.shape)} by {list(b.shape)}",
    )
    at.end((*a.shape[:-1], b.shape[-1]), "MatMul", a, b)


LAYERS: dict[str, Mapper] = {
    "Embed": _embed,
    "InnerProduct": _inner_product,
    "MatMul": _mat_mul,
}
