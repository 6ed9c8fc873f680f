"""Layers of the single-shot detector (SSD)."""

from __future__ import annotations

import math

import numpy as np

from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe.step import Mapper, Step
from mace_cl.frontends.ssd import decoded, detections, prior_boxes

__all__ = ["LAYERS"]


def _prior_box(at: Step) -> None:
    """Boxes for each cell of the first input, relative to the second, and their variances."""
    param, features = at.layer.prior_box_param, at.x.shape
    at.need(len(features) == 4, f"reads a blob of the shape {list(features)}; four dimensions are needed")
    height, width = features[2:]
    image_h, image_w = param.img_h or param.img_size, param.img_w or param.img_size
    if not (image_h and image_w):
        image_h, image_w = at.bottom(1).shape[2:]
    steps = param.step_h or param.step or image_h / height, param.step_w or param.step or image_w / width
    ratios = [1.0]
    for ratio in param.aspect_ratio:
        at.need(ratio > 0, f"has the aspect ratio {ratio}")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if param.flip else [ratio]
    boxes = prior_boxes(
        at, (height, width), (image_h, image_w), steps, param.min_size, param.max_size, ratios, param.offset,
        param.clip, list(param.variance) or [0.1],
    )  # fmt: skip
    at.constant(boxes)


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
    code = pb.PriorBoxParameter.CodeType.Name(param.code_type)
    scaled = not param.variance_encoded_in_target
    boxes = decoded(at, location.value, prior.value, (batch, count, own), code, scaled)
    least = param.confidence_threshold if param.HasField("confidence_threshold") else None
    sizes = (batch, count, own, classes)
    found = detections(at, boxes, confidence.value, sizes, labels, kept, nms.nms_threshold, least)
    if param.keep_top_k >= 0:
        length = at.op("Min", at.op("Shape", found, start=0, end=1), [param.keep_top_k])
        order = at.pair("TopK", at.op("Gather", found, np.int64(2), axis=1), length, axis=0)[1]
        order = at.pair("TopK", order, length, axis=0, largest=0)[0]
        found = at.op("Gather", found, order)
    empty = np.full((batch, 7), -1, np.float32)
    empty[:, 0] = np.arange(batch)
    length = at.op("Shape", found, start=0, end=1)
    length = at.op("Where", at.op("Equal", length, [0]), [batch], length)
    found = at.op("Slice", at.op("Concat", found, empty, axis=0), [0], length, [0])
    at.end((1, 1, batch if param.keep_top_k < 0 else max(1, param.keep_top_k), 7), "Reshape", found, [1, 1, -1, 7])


LAYERS: dict[str, Mapper] = {
    "DetectionOutput": _detection_output,
    "PriorBox": _prior_box,
}
