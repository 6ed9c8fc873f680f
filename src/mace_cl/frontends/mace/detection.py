"""MACE's operators of the single-shot detector (SSD).  Source: MACE's ``prior_box.cc``, ``detection_output.cc``."""

from __future__ import annotations

import math

import numpy as np

from mace_cl.frontends.mace.step import Mapper, Step
from mace_cl.frontends.ssd import decoded, detections, prior_boxes

__all__ = ["OPS"]


def _numbers(at: Step, name: str) -> list[float]:
    found = at.arguments.get(name, [])
    at.need(
        isinstance(found, list) and all(math.isfinite(one) and abs(one) < 1 << 24 for one in found),
        f"has {found} for {name}",
    )
    return [float(one) for one in found]


def _prior_box(at: Step) -> None:
    """As Caffe's, but the ratios are all there, 1 and the turned ones among them."""
    cells, image = at.shape(layout="NCHW")[2:], at.shape(1, "NCHW")[2:]
    at.need(len(cells) == len(image) == 2, f"reads the shapes {list(at.shape())} and {list(at.shape(1))}")
    steps = [at.number("step_h", 0), at.number("step_w", 0)]
    if min(steps) <= 1e-6:
        steps = [whole / part for whole, part in zip(image, cells, strict=True)]
    ratios, variance = _numbers(at, "aspect_ratio"), _numbers(at, "variance")
    at.need(sum(abs(ratio - 1) < 1e-6 for ratio in ratios) == 1, f"has the aspect ratios {ratios}; one must be 1")
    at.need(len(variance) == 4, f"has {len(variance)} variances; 4 are needed")
    boxes = prior_boxes(
        at, cells, image, steps, _numbers(at, "min_size"), _numbers(at, "max_size"), ratios, at.number("offset", 0.5),
        bool(at.arguments.get("clip")), variance,
    )  # fmt: skip
    at.end(at.op("Identity", boxes), boxes.shape)


def _detection_output(at: Step) -> None:
    """As Caffe's for one image, offsets of centre and size and background 0, but ordered by score.

    Where nothing is found there is no row.  MACE leaves the number of the image unwritten; here it is 0.
    """
    location, confidence, prior = (at.shape(place, "NCHW") for place in range(3))
    classes = int(at.number("num_classes", 1))
    at.need(1 < classes < 1 << 16, f"has {classes} classes")
    at.need(len(prior) == 3 and prior[:2] == (1, 2) and prior[2] % 4 == 0, f"reads priors of the shape {list(prior)}")
    count = prior[2] // 4
    at.need(
        location[:2] == (1, count * 4) and math.prod(location) == count * 4
        and confidence[:2] == (1, count * classes) and math.prod(confidence) == count * classes,
        f"reads {list(location)} and {list(confidence)} for {count} priors of {classes} classes",
    )  # fmt: skip
    top, keep = int(at.number("nms_top_k", 100)), int(at.number("keep_top_k", 100))
    at.need(top > 0 and keep > 0, f"keeps {top} of each class and {keep} of all")
    values = [at.value(place, "NCHW") for place in range(3)]
    boxes = decoded(at, values[0], values[2], (1, count, 1), "CENTER_SIZE")
    found = detections(
        at, boxes, values[1], (1, count, 1, classes), range(1, classes), min(count, top),
        at.number("nms_threshold", 0.3), at.number("confidence_threshold", 0.05),
    )  # fmt: skip
    length = at.op("Min", at.op("Shape", found, start=0, end=1), [keep])
    order = at.pair("TopK", at.op("Gather", found, np.int64(2), axis=1), length, axis=0)[1]
    rows = at.op("Gather", found, order)
    at.end(at.op("Unsqueeze", rows, [0, 1]), (1, 1, keep, 7), at.layout)


OPS: dict[str, Mapper] = {
    "DetectionOutput": _detection_output,
    "PriorBox": _prior_box,
}
