"""MACE's norms and softmax."""

from __future__ import annotations

import numpy as np

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


OPS: dict[str, Mapper] = {
    "BatchNorm": _batch_norm,
    "GroupNorm": _group_norm,
    "InstanceNorm": _instance_norm,
    "LocalResponseNorm": _local_response_norm,
    "MVNorm": _mv_norm,
    "Softmax": _softmax,
}
