"""MACE's operators that move what is there."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import onnx_ir as ir

from mace_cl.frontends.mace.step import Mapper, Step, f32

__all__ = ["OPS"]


def _concat(at: Step) -> None:
    shapes = [at.shape(place) for place in range(len(at.inputs))]
    rank = len(shapes[0])
    axis = int(at.arguments.get("axis", 3))
    at.need(-rank <= axis < rank and all(len(shape) == rank for shape in shapes), f"joins at the axis {axis}")
    axis %= rank
    total = [*shapes[0]]
    total[axis] = sum(shape[axis] for shape in shapes)
    values = [at.value(place, "NCHW") for place in range(len(at.inputs))]
    at.end(at.op("Concat", *values, axis=at.map_axis(axis, rank)), total)


def _split(at: Step) -> None:
    shape, count = at.shape(), len(at.definition.output)
    rank = len(shape)
    axis = int(at.arguments.get("axis", 3))
    at.need(-rank <= axis < rank, f"cuts at the axis {axis}")
    axis %= rank
    sizes = [(at.declared(place) or shape)[axis] for place in range(count)]
    if sum(sizes) != shape[axis]:
        at.need(shape[axis] % count == 0, f"cuts {shape[axis]} into {count} equal pieces")
        sizes = [shape[axis] // count] * count
    edges = np.cumsum([0, *sizes]).tolist()
    for begin, end in pairwise(edges):
        piece = at.op("Slice", at.value(layout="NCHW"), [begin], [end], [at.map_axis(axis, rank)])
        at.end(piece, (*shape[:axis], end - begin, *shape[axis + 1 :]))


def _reshape(at: Step) -> None:
    """Reshape, Squeeze, ExpandDims and the like: the file tells the shape that comes out."""
    shape = at.declared()
    at.need(shape is not None, "tells no output shape")
    wanted = tuple(shape or ())
    at.need(math.prod(wanted) == math.prod(at.shape()), f"makes {list(wanted)} of {list(at.shape())}")
    at.end(at.op("Reshape", at.value(), list(wanted)), wanted, at.layout)


def _identity(at: Step) -> None:
    at.end(at.op("Identity", at.value(layout="NCHW")), at.shape())


def _transpose(at: Step) -> None:
    shape = at.shape()
    order = [int(axis) for axis in at.arguments.get("dims", [])]
    at.need(sorted(order) == list(range(len(shape))), f"has the order {order} for {len(shape)} axes")
    at.end(at.op("Transpose", at.value(), perm=order), [shape[axis] for axis in order], at.layout)


def _pad(at: Step) -> None:
    paddings, shape = [int(one) for one in at.arguments.get("paddings", [])], at.shape()
    at.need(len(paddings) == 2 * len(shape) and min(paddings) >= 0, f"has the paddings {paddings} for {list(shape)}")
    kind = {0: "constant", 1: "reflect"}.get(int(at.arguments.get("pad_type", 0)))
    if kind is None:
        at.lacks("symmetric padding")
    before, after = paddings[::2], paddings[1::2]
    places = sorted(range(len(shape)), key=lambda axis: at.map_axis(axis, len(shape)))
    pads = [before[axis] for axis in places] + [after[axis] for axis in places]
    fill = [f32(at.arguments.get("constant_value", 0.0))] if kind == "constant" else []
    value = at.op("Pad", at.value(layout="NCHW"), pads, *fill, mode=kind)
    at.end(value, [b + size + a for size, b, a in zip(shape, before, after, strict=True)])


def _space_to_batch(at: Step) -> None:
    n, channels, height, width = at.shape(layout="NCHW")
    rows, columns = at.sizes("block_shape", 2)
    paddings = [int(one) for one in at.arguments.get("paddings", [])]
    at.need(len(paddings) == 4 and min(paddings) >= 0, f"has the paddings {paddings}")
    top, bottom, left, right = paddings
    height, width = height + top + bottom, width + left + right
    at.need(height % rows == 0 and width % columns == 0, f"cuts {height} by {width} into blocks of {rows} by {columns}")
    x = at.op("Pad", at.value(layout="NCHW"), [0, 0, top, left, 0, 0, bottom, right])
    apart = at.op("Reshape", x, [n, channels, height // rows, rows, width // columns, columns])
    turned = at.op("Transpose", apart, perm=[3, 5, 0, 1, 2, 4])
    full = [n * rows * columns, channels, height // rows, width // columns]
    at.image(at.op("Reshape", turned, full), full)


def _batch_to_space(at: Step) -> None:
    n, channels, height, width = at.shape(layout="NCHW")
    rows, columns = at.sizes("block_shape", 2)
    crops = [int(one) for one in at.arguments.get("crops", [0] * 4)]
    at.need(
        n % (rows * columns) == 0 and len(crops) == 4 and min(crops) >= 0,
        f"has the blocks {rows} by {columns}, crops {crops}",
    )
    n //= rows * columns
    apart = at.op("Reshape", at.value(layout="NCHW"), [rows, columns, n, channels, height, width])
    turned = at.op("Transpose", apart, perm=[2, 3, 4, 0, 5, 1])
    whole = at.op("Reshape", turned, [n, channels, height * rows, width * columns])
    top, bottom, left, right = crops
    ends = [height * rows - bottom, width * columns - right]
    at.image(at.op("Slice", whole, [top, left], ends, [2, 3]), (n, channels, ends[0] - top, ends[1] - left))


def _depth_to_space(at: Step) -> None:
    n, channels, height, width = at.shape(layout="NCHW")
    (block,) = [int(at.arguments.get("block_size", 0))]
    deep = at.definition.type == "DepthToSpace"
    at.need(block > 0, f"has the block size {block}")
    full = (n, channels // block**2, height * block, width * block) if deep else (
        n, channels * block**2, height // block, width // block
    )  # fmt: skip
    at.need(math.prod(full) == n * channels * height * width, f"has the block size {block} for {list(at.shape())}")
    mode = {"mode": "CRD" if at.arguments.get("mode") else "DCR"} if deep else {}
    at.image(at.op(at.definition.type, at.value(layout="NCHW"), blocksize=block, **mode), full)


def _channel_shuffle(at: Step) -> None:
    n, channels, height, width = at.shape(layout="NCHW")
    group = int(at.arguments.get("group", 1))
    at.need(group > 0 and channels % group == 0, f"has {group} groups for {channels} channels")
    apart = at.op("Reshape", at.value(layout="NCHW"), [n, group, channels // group, height, width])
    turned = at.op("Transpose", apart, perm=[0, 2, 1, 3, 4])
    at.image(at.op("Reshape", turned, [n, channels, height, width]), (n, channels, height, width))


def _crop(at: Step) -> None:
    shape, wanted = at.shape(), at.shape(1)
    offsets = [int(one) for one in at.arguments.get("offset", [])]
    at.need(len(offsets) == len(shape) == len(wanted) == 4, f"has the offsets {offsets}")
    axes = [axis for axis in range(4) if offsets[axis] >= 0]
    full = [wanted[axis] if axis in axes else shape[axis] for axis in range(4)]
    at.need(all(offsets[axis] + full[axis] <= shape[axis] for axis in axes), f"cuts {full} out of {list(shape)}")
    begins, ends = [offsets[axis] for axis in axes], [offsets[axis] + full[axis] for axis in axes]
    at.end(at.op("Slice", at.value(layout="NCHW"), begins, ends, [at.map_axis(axis, 4) for axis in axes]), full)


def _strided_slice(at: Step) -> None:
    shape = at.shape()
    given = [at.constant(place).reshape(-1).astype(int).tolist() for place in (1, 2)]
    steps = at.constant(3).reshape(-1).astype(int).tolist() if at.has(3) else [1] * len(given[0])
    masks = {
        name: int(at.arguments.get(f"{name}_mask", 0))
        for name in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    if masks["ellipsis"] or masks["new_axis"]:
        at.lacks("an ellipsis, or a new axis")
    at.need(len(given[0]) == len(given[1]) == len(steps) <= len(shape), "has not as many begins as ends")
    parts: list[slice] = []
    for axis, (begin, end, step) in enumerate(zip(*given, steps, strict=True)):
        single = masks["shrink_axis"] >> axis & 1
        parts.append(
            slice(
                None if masks["begin"] >> axis & 1 else begin,
                None if masks["end"] >> axis & 1 else (begin + 1 or None) if single else end,
                1 if single else step,
            )
        )
    ranges = [range(shape[axis])[part] for axis, part in enumerate(parts)]
    at.need(all(len(one) for one in ranges), f"cuts nothing out of {list(shape)}")
    at.need(all(one.step > 0 for one in ranges), "goes backwards")
    axes = list(range(len(parts)))
    value = at.op(
        "Slice", at.value(), [one.start for one in ranges], [one.stop for one in ranges], axes,
        [one.step for one in ranges],
    )  # fmt: skip
    full = [len(one) for one in ranges] + list(shape[len(parts) :])
    shrunk = [axis for axis in axes if masks["shrink_axis"] >> axis & 1]
    if shrunk:
        full = [size for axis, size in enumerate(full) if axis not in shrunk]
        value = at.op("Squeeze", value, shrunk)
    at.end(value, full, at.layout)


def _stack(at: Step) -> None:
    axis = int(at.arguments.get("axis", 0))
    shape = at.shape()
    axis %= len(shape) + 1
    values = [at.op("Unsqueeze", at.value(place), [axis]) for place in range(len(at.inputs))]
    at.end(at.op("Concat", *values, axis=axis), (*shape[:axis], len(values), *shape[axis:]), at.layout)


def _unstack(at: Step) -> None:
    shape = at.shape()
    axis = int(at.arguments.get("axis", 0)) % len(shape)
    at.need(len(at.definition.output) == shape[axis], f"cuts {shape[axis]} into {len(at.definition.output)}")
    for place in range(shape[axis]):
        piece = at.op("Gather", at.value(), np.array(place), axis=axis)
        at.end(piece, (*shape[:axis], *shape[axis + 1 :]), at.layout)


def _gather(at: Step) -> None:
    table, index = at.shape(), at.shape(1)
    axis = int(at.arguments.get("axis", 0)) % len(table)
    places = at.op("Cast", at.value(1), to=ir.DataType.INT64)
    value = at.op("Gather", at.value(), places, axis=axis)
    at.end(value, (*table[:axis], *index, *table[axis + 1 :]), at.layout)


def _tile(at: Step) -> None:
    shape, times = at.shape(), at.constant(1).reshape(-1).astype(int).tolist()
    at.need(len(times) == len(shape) and min(times) > 0, f"has the repeats {times} for {list(shape)}")
    at.end(at.op("Tile", at.value(), times), [a * b for a, b in zip(shape, times, strict=True)], at.layout)


OPS: dict[str, Mapper] = {
    "BatchToSpaceND": _batch_to_space,
    "BufferTransform": _identity,
    "ChannelShuffle": _channel_shuffle,
    "Concat": _concat,
    "Crop": _crop,
    "DepthToSpace": _depth_to_space,
    "Dequantize": _identity,
    "ExpandDims": _reshape,
    "Gather": _gather,
    "Identity": _identity,
    "Pad": _pad,
    "Quantize": _identity,
    "Reshape": _reshape,
    "SpaceToBatchND": _space_to_batch,
    "SpaceToDepth": _depth_to_space,
    "Split": _split,
    "Squeeze": _reshape,
    "Stack": _stack,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "Unstack": _unstack,
}
