"""TensorFlow Lite's detection operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mace_cl.errors import DamagedError, ModelError
from mace_cl.frontends.tflite.converter import Converter, Unmapped
from mace_cl.frontends.tflite.family import FAR, Family
from mace_cl.frontends.tflite.file import Operator
from mace_cl.frontends.tflite.flatbuffer import flexbuffer_map

__all__ = ["OPS"]

OPS = Family()


@OPS.maps("TFLite_Detection_PostProcess")
def _detection(c: Converter, op: Operator) -> None:
    """Boxes from offsets to anchors, and the best of them: ``detection_postprocess.cc`` of TensorFlow Lite.

    Outputs: boxes (y1, x1, y2, x2), classes from 0 without the background, scores, all padded with zeros to the most
    detections, and how many there are.
    """
    try:
        options = flexbuffer_map(op.custom)
    except DamagedError as error:
        raise ModelError(f"the options of {op.layer!r} can't be read: {error}") from error
    most, classes = int(options["max_detections"]), int(options["num_classes"])
    if options.get("max_classes_per_detection", 1) != 1 and not options.get("use_regular_nms"):
        raise Unmapped("gives several classes to a detection")
    boxes = _boxes(c, op, options)
    scores = c.value(op.inputs[1])
    first = c.tensor(op.inputs[1]).shape[-1] - classes
    if first:
        scores = c.op("Slice", [scores, *map(c.constant, ([first], [FAR], [2]))])
    by_class = c.op("Transpose", [scores], perm=(0, 2, 1))
    each = int(options.get("detections_per_class", 100)) if options.get("use_regular_nms") else most
    if not options.get("use_regular_nms"):
        best = c.op("ArgMax", [by_class], axis=1, keepdims=0)
        by_class = c.op("ReduceMax", [by_class, c.constant([1])], keepdims=1)
    limits = [c.constant([each]), *(c.constant(float(options[f"nms_{name}_threshold"])) for name in ("iou", "score"))]
    kept = c.op("NonMaxSuppression", [c.op("Unsqueeze", [boxes, c.constant([0])]), by_class, *limits])
    found = c.op("GatherND", [by_class, kept])
    # so many zeros behind that there are always enough to choose from
    padded = c.op("Concat", [found, c.constant(np.full(most, -1, np.float32))], axis=0)
    values, places = c.ops("TopK", [padded, c.constant([most])], 2)
    real = c.op("Greater", [values, c.constant(-0.5)])
    kept = c.op("Concat", [kept, c.constant(np.zeros((most, 3), np.int64))], axis=0)
    chosen = c.op("Gather", [kept, places], axis=0)
    anchors = c.op("Gather", [chosen, c.constant(np.array(2))], axis=1)
    if options.get("use_regular_nms"):
        kinds = c.op("Gather", [chosen, c.constant(np.array(1))], axis=1)
    else:
        kinds = c.op("Gather", [c.op("Squeeze", [best, c.constant([0])]), anchors], axis=0)
    mask = c.op("Cast", [real], to=ir.DataType.FLOAT)
    batch = c.constant([0])
    corners = c.op("Mul", [c.op("Gather", [boxes, anchors], axis=0), c.op("Unsqueeze", [mask, c.constant([1])])])
    c.put(op, c.op("Unsqueeze", [corners, batch]), place=0)
    c.put(op, c.op("Unsqueeze", [c.op("Mul", [c.op("Cast", [kinds], to=ir.DataType.FLOAT), mask]), batch]), place=1)
    c.put(op, c.op("Unsqueeze", [c.op("Mul", [values, mask]), batch]), place=2)
    c.put(op, c.op("ReduceSum", [mask, batch], keepdims=1), place=3)


def _boxes(c: Converter, op: Operator, options: dict[str, float]) -> ir.Value:
    """Corners [anchors, 4] from offsets [1, anchors, 4] and anchors (y, x, height, width)."""
    anchors = c.array(op.inputs[2]).astype(np.float32)
    scale = np.array([options[f"{side}_scale"] for side in "yxhw"], np.float32)
    offsets = c.op("Squeeze", [c.value(op.inputs[0]), c.constant([0])])
    place, size = c.ops("Split", [c.op("Div", [offsets, c.constant(scale)])], 2, axis=1, num_outputs=2)
    centre = c.op("Add", [c.op("Mul", [place, c.constant(anchors[:, 2:])]), c.constant(anchors[:, :2])])
    half = c.op("Mul", [c.op("Exp", [size]), c.constant(anchors[:, 2:] / 2)])
    return c.op("Concat", [c.op("Sub", [centre, half]), c.op("Add", [centre, half])], axis=1)


@OPS.maps("NON_MAX_SUPPRESSION_V4")
def _nms(c: Converter, op: Operator) -> None:
    """Indices of the boxes that are kept, padded with zeros to the most, and how many."""
    boxes, scores, most, *limits = (c.value(index) for index in op.inputs)
    most = c.op("Reshape", [c.op("Cast", [most], to=ir.DataType.INT64), c.constant([1])])
    boxes, scores = c.op("Unsqueeze", [boxes, c.constant([0])]), c.op("Unsqueeze", [scores, c.constant([0, 1])])
    kept = c.op("NonMaxSuppression", [boxes, scores, most, *limits])
    indices = c.op("Gather", [kept, c.constant(np.array(2))], axis=1)
    count = c.op("Shape", [indices])
    pads = c.op("Concat", [c.constant([0]), c.op("Sub", [most, count])], axis=0)
    c.put(op, c.op("Cast", [c.op("Pad", [indices, pads])], to=ir.DataType.INT32))
    c.put(op, c.op("Cast", [c.op("Squeeze", [count, c.constant([0])])], to=ir.DataType.INT32), place=1)
