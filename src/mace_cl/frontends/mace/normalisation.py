"""MACE's norms and softmax."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.mace.step import Mapper, Step, activated, column, f32

__all__ = ["OPS"]


def _batch_norm(at: Step) -> None:
    shape, x = at.shape(layout="NCHW"), at.value(layout="NCHW")
    rank = len(shape)
    scale, offset = column(at, 1, rank), column(at, 2, rank)
    if at.has(4):
        mean, variance = column(at, 3, rank), column(at, 4, rank)
        scale = scale / np.sqrt(variance + np.float32(at.arguments.get("epsilon", 1e-4)))
        offset = offset - mean * scale
    value = at.op("Add", at.op("Mul", x, scale.astype(np.float32)), offset.astype(np.float32))
    at.end(activated(at, value), at.shape())


def _softmax(at: Step) -> None:
    rank = len(at.shape())
    kind = "LogSoftmax" if at.arguments.get("use_log") else "Softmax"
    at.end(at.op(kind, at.value(layout="NCHW"), axis=1 if rank == 4 else rank - 1), at.shape())


def _instance_norm(at: Step) -> None:
    channels = at.shape(layout="NCHW")[1]
    own = bool(at.arguments.get("affine", at.has(2))) and at.has(2)
    scale = at.weights(1, lambda array: array.reshape(channels)) if own else np.ones(channels, np.float32)
    offset = at.weights(2, lambda array: array.reshape(channels)) if own else np.zeros(channels, np.float32)
    epsilon = float(at.arguments.get("epsilon", 1e-5))
    value = at.op("InstanceNormalization", at.value(layout="NCHW"), scale, offset, epsilon=epsilon)
    at.end(activated(at, value), at.shape())


def _group_norm(at: Step) -> None:
    n, channels, *rest = at.shape(layout="NCHW")
    groups = int(at.arguments.get("group_num", 1))
    at.need(0 < groups <= channels and channels % groups == 0, f"has {groups} groups for {channels} channels")
    grouped = at.op("Reshape", at.value(layout="NCHW"), [n, groups, -1])
    one, zero = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    epsilon = float(at.arguments.get("epsilon", 1e-5))
    value = at.op("InstanceNormalization", grouped, one, zero, epsilon=epsilon)
    at.end(at.op("Reshape", value, [n, channels, *rest]), at.shape())


def _mv_norm(at: Step) -> None:
    axes = [1, 2, 3] if at.arguments.get("across_channels") else [2, 3]
    x = at.value(layout="NCHW")
    value = at.op("Sub", x, at.op("ReduceMean", x, axes))
    if at.arguments.get("normalize_variance", 1):
        deviation = at.op("Sqrt", at.op("ReduceMean", at.op("Mul", value, value), axes))
        value = at.op("Div", value, at.op("Add", deviation, f32(at.arguments.get("epsilon", 1e-9))))
    at.end(value, at.shape())


def _local_response_norm(at: Step) -> None:
    given = at.arguments
    size = 2 * int(given.get("depth_radius", 5)) + 1
    value = at.op(
        "LRN", at.value(layout="NCHW"), size=size, alpha=float(given.get("alpha", 1.0)) * size,
        beta=float(given.get("beta", 0.5)), bias=float(given.get("bias", 1.0)),
    )  # fmt: skip
    at.end(value, at.shape())


def _lp_norm(at: Step) -> None:
    """Each vector of all axes from one on, by its norm.  Source: MACE's ``lpnorm.cc``."""
    shape, p = at.shape(), int(at.number("p", 2))
    at.need(p in (1, 2), f"has the p {p}")
    axis = int(at.number("axis", -1))
    at.need(-len(shape) <= axis < len(shape), f"has the axis {axis} of {len(shape)}")
    axis %= len(shape)
    if len(shape) == 4 and axis > 1:
        at.lacks("norms along a part of an image, which differ with the layout")
    x = at.value(layout="NCHW")
    norm = at.op(f"ReduceL{p}", x, list(range(axis, len(shape))))
    at.end(at.op("Div", x, at.op("Add", norm, f32(1e-6))), shape)


def _rows(at: Step) -> tuple[int, ...]:
    """The shape of an input of rows; in an image the last axis depends on the layout."""
    shape = at.shape()
    if len(shape) == 4:
        at.lacks("rows of an image")
    at.need(bool(shape), "reads a number")
    return shape


def _p_norm(at: Step) -> None:
    """Kaldi's: the norm of each group of neighbours in a row.  Source: MACE's ``pnorm.cc``."""
    shape, outs, p = _rows(at), int(at.number("output_dim", 0)), int(at.number("p", 2))
    at.need(0 < outs < shape[-1] and shape[-1] % outs == 0, f"makes {outs} of {shape[-1]}")
    at.need(p in (0, 1, 2), f"has the p {p}")
    x = at.op("Reshape", at.value(), [*shape[:-1], outs, shape[-1] // outs])
    if p == 0:
        some = at.op("Greater", at.op("Abs", x), f32(float(np.finfo(np.float32).eps)))
        x = at.op("Cast", some, to=ir.DataType.FLOAT)
    at.end(at.op("ReduceSum" if p == 0 else f"ReduceL{p}", x, [len(shape)], keepdims=0), (*shape[:-1], outs))


def _target_rms_norm(at: Step) -> None:
    """Kaldi's: each block of a row by its root mean square.  Source: MACE's ``target_rms_norm.cc``."""
    shape, target = _rows(at), at.number("target_rms", 1.0)
    block = int(at.number("block_dim", 0)) or shape[-1]
    at.need(target > 0 and block > 0 and shape[-1] % block == 0, f"has blocks of {block} in {shape[-1]}")
    x = at.op("Reshape", at.value(), [*shape[:-1], shape[-1] // block, block])
    square = at.op("Mul", at.op("ReduceSumSquare", x, [len(shape)]), f32(1 / (block * target**2)))
    square = at.op("Max", square, f32(1e-6))
    blocks, width = at.op("Div", x, at.op("Sqrt", square)), shape[-1]
    if at.arguments.get("add_log_stddev"):
        deviation = at.op("Add", at.op("Mul", at.op("Log", square), f32(0.5)), f32(math.log(target)))
        blocks, width = at.op("Concat", blocks, deviation, axis=len(shape)), width + width // block
    full = (*shape[:-1], width)
    at.end(at.op("Reshape", blocks, list(full)), full)


OPS: dict[str, Mapper] = {
    "BatchNorm": _batch_norm,
    "GroupNorm": _group_norm,
    "InstanceNorm": _instance_norm,
    "LocalResponseNorm": _local_response_norm,
    "LpNorm": _lp_norm,
    "MVNorm": _mv_norm,
    "PNorm": _p_norm,
    "Softmax": _softmax,
    "TargetRMSNorm": _target_rms_norm,
}
