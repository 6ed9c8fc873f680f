"""TensorFlow Lite's operators between rows, columns and other axes, and its resizes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.frontends.tflite.converter import Converter, Unmapped
from mace_cl.frontends.tflite.convolution import convolve
from mace_cl.frontends.tflite.family import Family, padding_of, window_of
from mace_cl.frontends.tflite.file import Operator

__all__ = ["OPS"]

OPS = Family()


@OPS.maps("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def _depth_and_space(c: Converter, op: Operator) -> None:
    kind = "DepthToSpace" if op.name == "DEPTH_TO_SPACE" else "SpaceToDepth"
    (block,) = window_of(op, (0,))
    c.put(op, c.op(kind, [c.image(op.inputs[0])], blocksize=block), "nchw", moved=op.inputs[0])


@OPS.maps("SPACE_TO_BATCH_ND")
def _space_to_batch(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    blocks, pads = _blocks(c, op)
    amounts = np.concatenate([[0, 0], pads[:, 0], [0, 0], pads[:, 1]]).astype(np.int64)
    value = c.op("Pad", [c.image(x), c.constant(amounts)])
    _, h, w, channels = c.tensor(x).shape
    rows, columns = (h + int(pads[0].sum())) // blocks[0], (w + int(pads[1].sum())) // blocks[1]
    value = c.op("Reshape", [value, c.constant([-1, channels, rows, blocks[0], columns, blocks[1]])])
    value = c.op("Transpose", [value], perm=(3, 5, 0, 1, 2, 4))
    c.put(op, c.op("Reshape", [value, c.constant([-1, channels, rows, columns])]), "nchw", moved=x)


@OPS.maps("BATCH_TO_SPACE_ND")
def _batch_to_space(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    blocks, crops = _blocks(c, op)
    value = _dilated(c, op, blocks, crops)
    if value is not None:
        c.put(op, value, "nchw")
        return
    _, h, w, channels = c.tensor(x).shape
    value = c.op("Reshape", [c.image(x), c.constant([*blocks, -1, channels, h, w])])
    value = c.op("Transpose", [value], perm=(2, 3, 4, 0, 5, 1))
    value = c.op("Reshape", [value, c.constant([-1, channels, h * blocks[0], w * blocks[1]])])
    if crops.any():
        ends = [h * blocks[0] - int(crops[0, 1]), w * blocks[1] - int(crops[1, 1])]
        value = c.op("Slice", [value, *map(c.constant, (crops[:, 0].tolist(), ends, [2, 3]))])
    c.put(op, value, "nchw", moved=x)


def _blocks(c: Converter, op: Operator) -> tuple[list[int], NDArray[np.int64]]:
    """The sizes of the blocks, and what is padded before or cropped after: begin and end of rows and columns."""
    blocks, edges = c.stored(op.inputs[1]).tolist(), c.stored(op.inputs[2]).astype(np.int64)
    if c.rank(op.inputs[0]) != 4 or len(blocks) != 2 or min(blocks) < 1 or edges.shape != (2, 2):
        raise Unmapped("works on another shape than rows and columns of images")
    if None in c.tensor(op.inputs[0]).signature[1:]:
        raise Unmapped("works on an image whose size is not known before it runs")
    return blocks, edges


def _dilated(c: Converter, op: Operator, blocks: list[int], crops: NDArray[np.int64]) -> ir.Value | None:
    """A convolution between space-to-batch and back, as older TensorFlow writes it, as the dilated one that it is."""
    conv = c.makers.get(op.inputs[0])
    spread = c.makers.get(conv.inputs[0]) if conv is not None and conv.name in _CONVOLUTIONS else None
    if conv is None or spread is None or spread.name != "SPACE_TO_BATCH_ND" or padding_of(conv) != "VALID":
        return None
    own, pads = _blocks(c, spread)
    pads = pads - crops
    dilations = (6, 5) if conv.name == "DEPTHWISE_CONV_2D" else (5, 4)
    if own != blocks or pads.min() < 0 or {*window_of(conv, (2, 1)), *window_of(conv, dilations, 1)} != {1}:
        return None
    return convolve(c, conv, spread.inputs[0], pads=pads.T.reshape(-1).tolist(), dilations=blocks)


_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@OPS.maps("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def _resize(c: Converter, op: Operator) -> None:
    linear = op.name == "RESIZE_BILINEAR"
    corners, centres = (op.option(slot, "?") for slot in ((2, 3) if linear else (0, 1)))
    size = c.stored(op.inputs[1]).astype(np.int64)
    mode = "align_corners" if corners else "half_pixel" if centres else "asymmetric"
    value = c.op(
        "Resize", [c.image(op.inputs[0]), None, None, c.constant(size)], axes=[2, 3],
        mode="linear" if linear else "nearest", coordinate_transformation_mode=mode,
        nearest_mode=None if linear else "round_prefer_ceil" if corners or centres else "floor",
    )  # fmt: skip
    c.put(op, value, "nchw", moved=None if linear else op.inputs[0])
