"""Caffe's layers that move what is there."""

from __future__ import annotations

import math
from itertools import pairwise

from mace_cl.frontends.caffe.step import Mapper, Step

__all__ = ["LAYERS"]


def _identity(at: Step) -> None:
    for _ in at.names:
        at.same("Identity", at.x)


def _concat(at: Step) -> None:
    param, shape = at.layer.concat_param, at.x.shape
    axis = at.axis(param.concat_dim if param.HasField("concat_dim") else param.axis)
    for bottom in at.bottoms:
        rest = (*bottom.shape[:axis], *bottom.shape[axis + 1 :])
        at.need(rest == (*shape[:axis], *shape[axis + 1 :]), f"joins {list(shape)} and {list(bottom.shape)} at {axis}")
    total = sum(bottom.shape[axis] for bottom in at.bottoms)
    at.end((*shape[:axis], total, *shape[axis + 1 :]), "Concat", *at.bottoms, axis=axis)


def _slice(at: Step) -> None:
    param, shape, count = at.layer.slice_param, at.x.shape, len(at.names)
    axis = at.axis(param.slice_dim if param.HasField("slice_dim") else param.axis)
    points = [int(point) for point in param.slice_point]
    if not points:
        at.need(shape[axis] % count == 0, f"cuts {shape[axis]} into {count} equal pieces")
        points = [shape[axis] // count * number for number in range(1, count)]
    edges = [0, *points, shape[axis]]
    sizes = [after - before for before, after in pairwise(edges)]
    at.need(min(sizes) > 0, f"cuts {shape[axis]} at {points}")
    at.split(at.x.value, [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes], sizes, axis)


def _flatten(at: Step) -> None:
    param, shape = at.layer.flatten_param, at.x.shape
    begin, end = at.axis(param.axis), at.axis(param.end_axis)
    at.need(begin <= end, f"flattens the axes {begin} to {end}")
    full = (*shape[:begin], math.prod(shape[begin : end + 1]), *shape[end + 1 :])
    at.end(full, "Reshape", at.x, list(full))


def _reshape(at: Step) -> None:
    param, shape = at.layer.reshape_param, at.x.shape
    begin = at.axis(param.axis, len(shape) + 1)
    end = len(shape) if param.num_axes < 0 else begin + param.num_axes
    at.need(end <= len(shape), f"replaces the axes {begin} to {end}, but there are {len(shape)}")
    inner = [int(size) for size in param.shape.dim]
    at.need(inner.count(-1) <= 1 and min(inner, default=0) >= -1, f"has the shape {inner}")
    for place, size in enumerate(inner):
        if size == 0:
            at.need(begin + place < len(shape), f"copies the size of the axis {begin + place} of {len(shape)}")
            inner[place] = shape[begin + place]
    full = [*shape[:begin], *inner, *shape[end:]]
    if -1 in full:
        known = -math.prod(full)
        at.need(known > 0 and math.prod(shape) % known == 0, f"can't make {full} of {list(shape)}")
        full[full.index(-1)] = math.prod(shape) // known
    at.need(math.prod(full) == math.prod(shape), f"can't make {full} of {list(shape)}")
    at.end(full, "Reshape", at.x, full)


def _permute(at: Step) -> None:
    rank, order = len(at.x.shape), [int(axis) for axis in at.layer.permute_param.order]
    order += [axis for axis in range(rank) if axis not in order]
    at.need(sorted(order) == list(range(rank)), f"has the order {order} for {rank} axes")
    at.end([at.x.shape[axis] for axis in order], "Transpose", at.x, perm=order)


def _crop(at: Step) -> None:
    param, shape, wanted = at.layer.crop_param, at.x.shape, at.bottom(1).shape
    begin = at.axis(param.axis)
    offsets = [int(offset) for offset in param.offset] or [0]
    offsets = offsets * (len(shape) - begin) if len(offsets) == 1 else offsets
    at.need(len(wanted) == len(shape) == begin + len(offsets), f"has {len(offsets)} offsets from the axis {begin} on")
    axes = range(begin, len(shape))
    ends = [offset + wanted[axis] for offset, axis in zip(offsets, axes, strict=True)]
    at.need(
        all(end <= shape[axis] for end, axis in zip(ends, axes, strict=True)),
        f"cuts {list(wanted)} out of {list(shape)}",
    )
    at.end((*shape[:begin], *wanted[begin:]), "Slice", at.x, offsets, ends, list(axes))


def _tile(at: Step) -> None:
    param, shape = at.layer.tile_param, at.x.shape
    axis = at.axis(param.axis)
    at.need(param.tiles > 0, f"has {param.tiles} tiles")
    repeats = [param.tiles if place == axis else 1 for place in range(len(shape))]
    at.end([size * times for size, times in zip(shape, repeats, strict=True)], "Tile", at.x, repeats)


def _shuffle_channel(at: Step) -> None:
    shape, group = at.x.shape, int(at.layer.shuffle_channel_param.group)
    at.need(len(shape) > 1 and group > 0 and shape[1] % group == 0, f"has {group} groups for {list(shape)}")
    rest = shape[2:]
    apart = at.op("Reshape", at.x, [shape[0], group, shape[1] // group, *rest])
    turned = at.op("Transpose", apart, perm=[0, 2, 1, *range(3, len(rest) + 3)])
    at.end(shape, "Reshape", turned, list(shape))


def _reorg(at: Step) -> None:
    """Darknet's: the blob's memory is taken for one with fewer, larger channels, whose squares become channels."""
    param, shape = at.layer.reorg_param, at.x.shape
    s = int(param.stride)
    at.need(len(shape) == 4 and s > 0, f"has the stride {s} for {list(shape)}")
    if param.reverse:
        at.lacks("reverse")
    n, c, h, w = shape
    at.need(c % (s * s) == 0 and h % s == 0 and w % s == 0, f"has the stride {s} for {list(shape)}")
    apart = at.op("Reshape", at.x, [n, c // (s * s), h, s, w, s])
    turned = at.op("Transpose", apart, perm=[0, 3, 5, 1, 2, 4])
    full = (n, c * s * s, h // s, w // s)
    at.end(full, "Reshape", turned, list(full))


LAYERS: dict[str, Mapper] = {
    "Concat": _concat,
    "Crop": _crop,
    "Dropout": _identity,
    "Flatten": _flatten,
    "Permute": _permute,
    "Reorg": _reorg,
    "Reshape": _reshape,
    "ShuffleChannel": _shuffle_channel,
    "Slice": _slice,
    "Split": _identity,
    "Tile": _tile,
}
