"""Resizes and reductions as MACE's operators."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_cl.export.mace.graph import nhwc_axis
from mace_cl.export.mace.node import Mapper, Node
from mace_cl.frontends.mace.codes import REDUCE

__all__ = ["NODES"]


def _resize(at: Node) -> None:
    shape, full = at.shape(), at.writer.shape(at.out)
    mode, where = at.get("mode", "nearest"), at.get("coordinate_transformation_mode", "half_pixel")
    at.need(len(shape) == 4 and shape[:2] == full[:2], "only rows and columns")
    at.need(not at.get("antialias", 0), "antialias")
    if at.node.op_type == "Upsample":
        where = "asymmetric"
    size = list(full[2:])
    exact = all(b % a == 0 for a, b in zip(shape[2:], full[2:], strict=True))
    scales: dict[str, Any] = {"height_scale": full[2] / shape[2], "width_scale": full[3] / shape[3]}
    if mode == "nearest":
        rounding = at.get("nearest_mode", "round_prefer_floor")
        if at.node.op_type == "Upsample":
            rounding = "floor"
        plain = where == "asymmetric" and rounding == "floor"
        # half a pixel, rounded, repeats pixels as floor does where the factor is whole
        repeats = (
            exact and where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric") and "round" in rounding
        )
        corners = where == "align_corners" and rounding == "round_prefer_ceil"
        at.need(
            plain or repeats or corners or (exact and where == "asymmetric" and rounding == "floor"),
            f"{where}, {rounding}",
        )
        stored = at.store(np.array(size), "size")
        at.end("ResizeNearestNeighbor", [at.tensor(), stored], align_corners=int(corners), **scales)
        return
    modes = {"asymmetric": 0, "half_pixel": 1, "pytorch_half_pixel": 2, "align_corners": 0}
    at.need(where in modes, f"the mode {where}")
    arguments: dict[str, Any] = {
        "size": size,
        "align_corners": int(where == "align_corners"),
        "coordinate_transformation_mode": modes[where],
    }
    if mode == "linear":
        at.end("ResizeBilinear", [at.tensor()], half_pixel_centers=int(where == "half_pixel"), **arguments)
        return
    at.need(mode == "cubic" and at.get("cubic_coeff_a", -0.75) == -0.75, f"the mode {mode}")
    at.need(where in ("asymmetric", "align_corners") and not at.get("exclude_outside", 0), f"the mode {where}")
    at.end("ResizeBicubic", [at.tensor()], **arguments)


def _reduce(at: Node) -> None:
    rank = len(at.shape())
    given = at.known(1, "its axes").astype(int).tolist() if at.has(1) else at.get("axes")
    at.need(given is not None or not at.get("noop_with_empty_axes", 0), "no axes")
    axes = sorted(axis % rank for axis in (given if given else range(rank)))
    keep = int(at.get("keepdims", 1))
    kind = REDUCE.index(at.node.op_type)
    if keep:
        turned = sorted(nhwc_axis(axis, rank) for axis in axes)
        at.end("Reduce", [at.tensor()], reduce_type=kind, axis=turned, keepdims=1)
    else:
        at.end("Reduce", [at.tensor()], image=False, reduce_type=kind, axis=axes, keepdims=0)


NODES: dict[str, Mapper] = {
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "Resize": _resize,
    "Upsample": _resize,
}
