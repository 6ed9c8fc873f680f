"""Caffe's layers that make images larger or smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mace_cl.frontends.caffe.step import Mapper, Step

__all__ = ["LAYERS"]


def _interp(at: Step) -> None:
    """DeepLab's bilinear resize, whose corners stay in place; a negative padding cuts the input."""
    param, (n, c, *sizes) = at.layer.interp_param, at.x.shape
    at.need(len(sizes) == 2, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    x: Any = at.x
    begin, end = param.pad_beg, param.pad_end
    at.need(begin <= 0 and end <= 0, "pads its input; only cutting, a negative padding, is defined")
    if begin or end:
        ends = [size + end for size in sizes]
        sizes = [size + begin + end for size in sizes]
        at.need(min(sizes) > 0, "cuts all of its input away")
        x = at.op("Slice", x, [-begin] * 2, ends, [2, 3])
    if len(at.bottoms) > 1:
        out = list(at.bottoms[1].shape[2:])
    elif param.HasField("height") and param.HasField("width"):
        out = [param.height, param.width]
    else:
        at.need(param.shrink_factor > 0 and param.zoom_factor > 0, "has a factor below 1")
        out = [(size - 1) // param.shrink_factor + 1 for size in sizes]
        out = [size + (size - 1) * (param.zoom_factor - 1) for size in out]
    at.need(len(out) == 2 and min(out) > 0, f"makes the size {out}")
    full = (n, c, *out)
    at.end(full, "Resize", x, None, None, list(full), mode="linear", coordinate_transformation_mode="align_corners")


def _upsample(at: Step) -> None:
    param, shape = at.layer.upsample_param, at.x.shape
    at.need(len(shape) == 4, f"reads a blob of the shape {list(shape)}; four dimensions are needed")
    if len(at.bottoms) > 1:
        at.lacks("it puts maxima back at their places")
    if param.HasField("upsample_h"):
        sizes = [param.upsample_h, param.upsample_w]
        factors = [sizes[0] / shape[2], sizes[1] / shape[3]]
    else:
        factors = [param.scale_h or param.scale or 1, param.scale_w or param.scale or 1]
    _nearest(at, factors)


def _resize_nearest(at: Step) -> None:
    at.need(len(at.x.shape) == 4, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    param = at.layer.resize_nearest_param
    _nearest(at, [param.height_scale, param.width_scale])


def _nearest(at: Step, factors: Sequence[float]) -> None:
    n, c, h, w = at.x.shape
    full = (n, c, int(h * factors[0]), int(w * factors[1]))
    at.end(
        full, "Resize", at.x, None, None, list(full), mode="nearest", coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )  # fmt: skip


LAYERS: dict[str, Mapper] = {
    "Interp": _interp,
    "ResizeNearest": _resize_nearest,
    "Upsample": _upsample,
}
