"""Layers of the single-shot detector (SSD)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe.step import MAX_CONSTANT, Blob, Mapper, Shape, Step, f32

__all__ = ["LAYERS"]


def _prior_box(at: Step) -> None:
    """Boxes (x1, y1, x2, y2) for each cell of the first input, relative to the second, and their variances."""
    param, features = at.layer.prior_box_param, at.x.shape
    at.need(len(features) == 4, f"reads a blob of the shape {list(features)}; four dimensions are needed")
    height, width = features[2:]
    image_h, image_w = param.img_h or param.img_size, param.img_w or param.img_size
    if not (image_h and image_w):
        image_h, image_w = at.bottom(1).shape[2:]
    step_h, step_w = param.step_h or param.step or image_h / height, param.step_w or param.step or image_w / width
    at.need(step_h > 0 and step_w > 0, f"has the steps {step_h} and {step_w}")
    ratios = [1.0]
    for ratio in param.aspect_ratio:
        at.need(ratio > 0, f"has the aspect ratio {ratio}")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if param.flip else [ratio]
    at.need(bool(param.min_size), "has no min_size")
    at.need(len(param.max_size) in (0, len(param.min_size)), "has not as many max_size as min_size")
    sizes: list[tuple[float, float]] = []
    for number, least in enumerate(param.min_size):
        at.need(least > 0, f"has the min_size {least}")
        sizes.append((least, least))
        if param.max_size:
            at.need(
                param.max_size[number] > least, f"has a max_size of {param.max_size[number]}, but a min_size of {least}"
            )
            sizes.append((math.sqrt(least * param.max_size[number]),) * 2)
        sizes += [(least * math.sqrt(r), least / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    at.need(height * width * len(sizes) * 8 <= MAX_CONSTANT, f"makes {height * width * len(sizes)} boxes")
    centre = np.empty((height, width, 1, 2))
    centre[..., 0] = ((np.arange(width) + param.offset) * step_w)[None, :, None]
    centre[..., 1] = ((np.arange(height) + param.offset) * step_h)[:, None, None]
    half = np.array(sizes) / 2
    boxes = np.concatenate([centre - half, centre + half], axis=-1) / [image_w, image_h, image_w, image_h]
    if param.clip:
        boxes = np.clip(boxes, 0, 1)
    variance = [float(one) for one in param.variance] or [0.1]
    at.need(len(variance) in (1, 4), f"has {len(variance)} variances; 1 or 4 are needed")
    variances = np.broadcast_to(np.array(variance * (4 if len(variance) == 1 else 1)), boxes.shape)
    at.constant(np.stack([boxes.reshape(-1), variances.reshape(-1)])[None].astype(np.float32))


def _detection_output(at: Step) -> None:
    """Boxes decoded, suppressed by class, the best kept: rows (image, class, score, x1, y1, x2, y2).

    As in Caffe, rows are ordered by class and then by score, and without any detection there is a row of −1 for
    each image.
    """
    param, nms = at.layer.detection_output_param, at.layer.detection_output_param.nms_param
    classes, background = int(param.num_classes), param.background_label_id
    location, confidence, prior = at.bottom(0), at.bottom(1), at.bottom(2)
    at.need(len(prior.shape) == 3 and prior.shape[2] % 4 == 0, f"reads priors of the shape {list(prior.shape)}")
    batch, count = location.shape[0], prior.shape[2] // 4
    own = 1 if param.share_location else classes
    at.need(0 < classes < 1 << 16, f"has {classes} classes")
    at.need(
        math.prod(location.shape) == batch * count * own * 4 and math.prod(confidence.shape) == batch * count * classes,
        f"reads {list(location.shape)} and {list(confidence.shape)} for {count} priors of {classes} classes",
    )
    if not param.normalized_bbox:
        at.lacks("normalized_bbox: false")
    if nms.HasField("eta") and nms.eta != 1:
        at.lacks(f"a threshold that changes (eta {nms.eta})")
    if batch > 1 and param.keep_top_k >= 0:
        at.lacks("keep_top_k with more than one image")
    labels = [label for label in range(classes) if label != background]
    kept = min(count, nms.top_k) if nms.top_k > 0 else count
    boxes = _decoded(at, location, prior, (batch, count, own), param)
    if own == 1:
        boxes = at.op("Expand", boxes, [batch, len(labels), count, 4])
    else:
        boxes = at.op("Gather", boxes, labels, axis=1)
    scores = at.op("Transpose", at.op("Reshape", confidence, [batch, count, classes]), perm=[0, 2, 1])
    scores = at.op("Gather", scores, labels, axis=1)
    best, places = at.pair("TopK", scores, [kept], axis=2)
    candidates = at.op("GatherND", boxes, at.op("Unsqueeze", places, [3]), batch_dims=2)
    rows = batch * len(labels)
    candidates = at.op("Reshape", candidates, [rows, kept, 4])
    selected = at.op(
        "NonMaxSuppression", candidates, at.op("Reshape", best, [rows, 1, kept]), [kept], f32(nms.nms_threshold)[None],
        f32(param.confidence_threshold)[None] if param.HasField("confidence_threshold") else None,
    )  # fmt: skip
    first = at.op("Gather", selected, np.int64(0), axis=1)
    pairs = at.op("Gather", selected, [0, 2], axis=1)
    of_row = np.stack([np.repeat(np.arange(batch), len(labels)), np.tile(labels, batch)], axis=1).astype(np.float32)
    found = at.op(
        "Concat", at.op("Gather", of_row, first),
        at.op("Unsqueeze", at.op("GatherND", at.op("Reshape", best, [rows, kept]), pairs), [1]),
        at.op("GatherND", candidates, pairs), axis=1,
    )  # fmt: skip
    if param.keep_top_k >= 0:
        length = at.op("Min", at.op("Shape", first), [param.keep_top_k])
        order = at.pair("TopK", at.op("Gather", found, np.int64(2), axis=1), length, axis=0)[1]
        order = at.pair("TopK", order, length, axis=0, largest=0)[0]
        found = at.op("Gather", found, order)
    empty = np.full((batch, 7), -1, np.float32)
    empty[:, 0] = np.arange(batch)
    length = at.op("Shape", found, start=0, end=1)
    length = at.op("Where", at.op("Equal", length, [0]), [batch], length)
    found = at.op("Slice", at.op("Concat", found, empty, axis=0), [0], length, [0])
    at.end((1, 1, batch if param.keep_top_k < 0 else max(1, param.keep_top_k), 7), "Reshape", found, [1, 1, -1, 7])


def _decoded(at: Step, location: Blob, prior: Blob, sizes: Shape, param: Any) -> ir.Value:
    """Boxes as corners, [batch, 1 or classes, priors, 4]."""
    batch, count, own = sizes
    kinds = pb.PriorBoxParameter
    places = at.op("Transpose", at.op("Reshape", location, [batch, count, own, 4]), perm=[0, 2, 1, 3])
    both = at.op("Reshape", prior, [2, count, 4])
    base = at.op("Gather", both, np.int64(0), axis=0)
    if not param.variance_encoded_in_target:
        places = at.op("Mul", places, at.op("Gather", both, np.int64(1), axis=0))
    if param.code_type == kinds.CORNER:
        return at.op("Add", base, places)
    low, high = at.pair("Split", base, [2, 2], axis=1)
    size = at.op("Sub", high, low)
    if param.code_type == kinds.CORNER_SIZE:
        return at.op("Add", base, at.op("Mul", places, at.op("Concat", size, size, axis=1)))
    middle = at.op("Mul", at.op("Add", low, high), f32(0.5))
    moved, grown = at.pair("Split", places, [2, 2], axis=3)
    centre = at.op("Add", at.op("Mul", moved, size), middle)
    half = at.op("Mul", at.op("Mul", at.op("Exp", grown), size), f32(0.5))
    return at.op("Concat", at.op("Sub", centre, half), at.op("Add", centre, half), axis=3)


LAYERS: dict[str, Mapper] = {
    "DetectionOutput": _detection_output,
    "PriorBox": _prior_box,
}
