"""The single-shot detector (SSD): its boxes and what is found, for each format that has its layers.

Source: ``prior_box_layer.cpp`` and ``detection_output_layer.cpp`` of SSD's Caffe.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

__all__ = ["Adds", "decoded", "detections", "prior_boxes"]

_MOST_NUMBERS = 1 << 26


class Adds(Protocol):
    """What adds nodes for one layer; inputs may be values, arrays and lists of whole numbers."""

    def need(self, holds: bool, otherwise: str) -> None:
        """Raise a ModelError that names the layer unless ``holds``."""

    def op(self, op_type: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """A node with one output."""

    def pair(self, op_type: str, *inputs: Any, **attributes: Any) -> list[ir.Value]:
        """A node with two outputs."""


def prior_boxes(
    at: Adds, cells: Sequence[int], image: Sequence[int], steps: Sequence[float], least: Sequence[float],
    most: Sequence[float], ratios: Sequence[float], offset: float, clip: bool, variance: Sequence[float],
) -> NDArray[np.float32]:  # fmt: skip
    """Boxes (x1, y1, x2, y2) around each cell, relative to the image, and their variances: [1, 2, 4 × boxes].

    Args:
        at: whose checks name the layer.
        cells: rows and columns of the features.
        image: height and width of the image in pixels.
        steps: pixels between rows and between columns.
        least, most: sizes of the boxes in pixels; ``most`` may be empty.
        ratios: width by height of more boxes of the least sizes; 1 among them adds none.
        offset: where in its cell a centre is, in cells.
        clip: whether boxes end at the image's edges.
        variance: one number or four.
    """
    (height, width), (image_h, image_w) = cells, image
    at.need(image_h > 0 and image_w > 0 and min(steps) > 0, f"has the steps {list(steps)} for {list(image)}")
    at.need(bool(least), "has no min_size")
    at.need(len(most) in (0, len(least)), "has not as many max_size as min_size")
    at.need(all(ratio > 0 for ratio in ratios), f"has the aspect ratios {list(ratios)}")
    sizes: list[tuple[float, float]] = []
    for number, size in enumerate(least):
        at.need(size > 0, f"has the min_size {size}")
        sizes.append((size, size))
        if most:
            at.need(most[number] > size, f"has a max_size of {most[number]}, but a min_size of {size}")
            sizes.append((math.sqrt(size * most[number]),) * 2)
        sizes += [(size * math.sqrt(r), size / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    at.need(height * width * len(sizes) * 8 <= _MOST_NUMBERS, f"makes {height * width * len(sizes)} boxes")
    centre = np.empty((height, width, 1, 2))
    centre[..., 0] = ((np.arange(width) + offset) * steps[1])[None, :, None]
    centre[..., 1] = ((np.arange(height) + offset) * steps[0])[:, None, None]
    half = np.array(sizes) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1) / [image_w, image_h, image_w, image_h]
    if clip:
        boxes = np.clip(boxes, 0, 1)
    at.need(len(variance) in (1, 4), f"has {len(variance)} variances; 1 or 4 are needed")
    variances = np.broadcast_to(np.array(variance), boxes.shape)
    return np.stack([boxes.reshape(-1), variances.reshape(-1)])[None].astype(np.float32)


def decoded(
    at: Adds, location: ir.Value, prior: ir.Value, sizes: Sequence[int], code: str, scaled: bool = True
) -> ir.Value:
    """Boxes as corners, [batch, own, boxes, 4], from offsets to the prior ones.

    Args:
        at: adds the nodes.
        location: offsets, [batch, boxes, own, 4] in any shape.
        prior: what `prior_boxes` gives.
        sizes: batch, boxes, and own: 1, or the number of classes.
        code: how offsets are meant: "CORNER", "CENTER_SIZE" or "CORNER_SIZE".
        scaled: whether offsets are to be multiplied by the variances.
    """
    batch, count, own = sizes
    places = at.op("Transpose", at.op("Reshape", location, [batch, count, own, 4]), perm=[0, 2, 1, 3])
    both = at.op("Reshape", prior, [2, count, 4])
    base = at.op("Gather", both, np.int64(0), axis=0)
    if scaled:
        places = at.op("Mul", places, at.op("Gather", both, np.int64(1), axis=0))
    if code == "CORNER":
        return at.op("Add", base, places)
    low, high = at.pair("Split", base, [2, 2], axis=1)
    size = at.op("Sub", high, low)
    if code == "CORNER_SIZE":
        return at.op("Add", base, at.op("Mul", places, at.op("Concat", size, size, axis=1)))
    middle = at.op("Mul", at.op("Add", low, high), np.float32(0.5))
    moved, grown = at.pair("Split", places, [2, 2], axis=3)
    centre = at.op("Add", at.op("Mul", moved, size), middle)
    half = at.op("Mul", at.op("Mul", at.op("Exp", grown), size), np.float32(0.5))
    return at.op("Concat", at.op("Sub", centre, half), at.op("Add", centre, half), axis=3)


def detections(
    at: Adds, boxes: ir.Value, confidence: ir.Value, sizes: Sequence[int], labels: Sequence[int], most: int,
    overlap: float, least: float | None,
) -> ir.Value:  # fmt: skip
    """Rows (image, class, score, x1, y1, x2, y2) of the boxes that are kept, ordered by class and score.

    Args:
        at: adds the nodes.
        boxes: what `decoded` gives.
        confidence: scores, [batch, boxes, classes] in any shape.
        sizes: batch, boxes, own as for `decoded`, and the number of classes.
        labels: the classes that are looked at, without the background.
        most: how many of the best of each class are looked at.
        overlap: intersection by union, above which the lesser of two boxes falls away.
        least: the score that a box must have more than.
    """
    batch, count, own, classes = sizes
    if own == 1:
        boxes = at.op("Expand", boxes, [batch, len(labels), count, 4])
    else:
        boxes = at.op("Gather", boxes, list(labels), axis=1)
    scores = at.op("Transpose", at.op("Reshape", confidence, [batch, count, classes]), perm=[0, 2, 1])
    scores = at.op("Gather", scores, list(labels), axis=1)
    best, places = at.pair("TopK", scores, [most], axis=2)
    candidates = at.op("GatherND", boxes, at.op("Unsqueeze", places, [3]), batch_dims=2)
    rows = batch * len(labels)
    candidates = at.op("Reshape", candidates, [rows, most, 4])
    selected = at.op(
        "NonMaxSuppression", candidates, at.op("Reshape", best, [rows, 1, most]), [most],
        np.array([overlap], np.float32), None if least is None else np.array([least], np.float32),
    )  # fmt: skip
    first = at.op("Gather", selected, np.int64(0), axis=1)
    pairs = at.op("Gather", selected, [0, 2], axis=1)
    of_row = np.stack([np.repeat(np.arange(batch), len(labels)), np.tile(labels, batch)], axis=1).astype(np.float32)
    return at.op(
        "Concat", at.op("Gather", of_row, first),
        at.op("Unsqueeze", at.op("GatherND", at.op("Reshape", best, [rows, most]), pairs), [1]),
        at.op("GatherND", candidates, pairs), axis=1,
    )  # fmt: skip
