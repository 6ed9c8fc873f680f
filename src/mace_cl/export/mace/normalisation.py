"""Norms and softmax as MACE's operators."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from mace_cl.export.mace.node import Mapper, Node, normalisation_of

__all__ = ["NODES"]


def _batch_normalization(at: Node) -> None:
    gain, offset = normalisation_of(at.node)
    tail = at.tail(len(gain), affine=False)
    stored = [at.store(array.astype(np.float32), word) for array, word in ((gain, "scale"), (offset, "offset"))]
    at.ended_by(tail, "BatchNorm", [at.tensor(), *stored])


def _softmax(at: Node) -> None:
    shape = at.shape()
    rank = len(shape)
    axis = int(at.get("axis", -1)) % rank
    arguments: dict[str, Any] = {"use_log": 1} if at.node.op_type == "LogSoftmax" else {}
    if axis == (1 if rank == 4 else rank - 1) and rank in (2, 3, 4):
        at.end("Softmax", [at.tensor()], **arguments)
        return
    at.need(axis == rank - 1, f"the axis {axis} of {rank}")
    rows = (math.prod(shape[:-1]), shape[-1])
    flat, made = f"{at.name}/rows", f"{at.name}/softmax"
    at.writer.operator("Reshape", [at.tensor(), at.store(np.array(rows), "rows")], flat, flat, rows)
    at.writer.operator("Softmax", [flat], made, made, rows, **arguments)
    at.end("Reshape", [made, at.store(np.array(shape), "shape")], image=False)


def _instance_normalization(at: Node) -> None:
    at.need(len(at.shape()) == 4, "only images")
    stored = [at.store(at.known(place, "a parameter"), word) for place, word in ((1, "scale"), (2, "offset"))]
    epsilon = float(at.get("epsilon", 1e-5))
    at.end("InstanceNorm", [at.tensor(), *stored], affine=1, epsilon=epsilon)


def _lrn(at: Node) -> None:
    size = int(at.get("size"))
    at.need(size % 2 == 1 and len(at.shape()) == 4, f"the size {size}")
    at.end(
        "LocalResponseNorm", [at.tensor()], depth_radius=size // 2, alpha=float(at.get("alpha", 1e-4)) / size,
        beta=float(at.get("beta", 0.75)), bias=float(at.get("bias", 1.0)),
    )  # fmt: skip


NODES: dict[str, Mapper] = {
    "BatchNormalization": _batch_normalization,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LogSoftmax": _softmax,
    "Softmax": _softmax,
}
