"""Ops that only move data: Reshape, Transpose, Concat, Slice, Split, Gather of constant positions, Expand.

Where the bytes already lie as the result wants them, the result is a view and no kernel runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from math import prod

import onnx_ir as ir

from mace_cl.graph import array_of, attribute, is_used
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.gather import Gather
from mace_cl.kernels.types import item_bytes
from mace_cl.ops.builder import Builder
from mace_cl.plan import Constant, Region

__all__ = [
    "lower_concat", "lower_expand", "lower_gather", "lower_reshape", "lower_slice", "lower_split", "lower_transpose",
]  # fmt: skip


def lower_reshape(builder: Builder, node: ir.Node) -> None:
    """``Reshape`` and ``Identity``: a view of the row-major value."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    if builder.shape(x) == builder.shape(y) and builder.has(x, "blocked"):
        builder.place(y, "blocked", builder.blocked(x))
    else:
        builder.place(y, "nchw", builder.region(x))


def _copy(
    builder: Builder, node: ir.Node, operand: Region | Constant, source: Access, target: Region, result: Access,
    dims: Sequence[int],
) -> None:  # fmt: skip
    builder.emit(builder.copy(builder.type(node.outputs[0]), source, result, dims), [operand], target, node)


def lower_transpose(builder: Builder, node: ir.Node) -> None:
    """Any permutation; channels-last of a blocked value without going through NCHW."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape = builder.shape(x)
    order = tuple(attribute(node, "perm", tuple(reversed(range(len(shape))))))
    if order == (0, 2, 3, 1) and builder.has(x, "blocked"):
        _channels_last(builder, node, x, y)
        return
    dims = tuple(shape[axis] for axis in order)
    if [axis for axis in order if shape[axis] > 1] == [axis for axis in range(len(shape)) if shape[axis] > 1]:
        builder.place(y, "nchw", builder.region(x))
        return
    strides = contiguous(shape)
    source = Access(tuple(strides[axis] for axis in order))
    target = builder.allocate(y, "nchw")
    _copy(builder, node, builder.plain(x), source, target, Access(contiguous(dims)), dims)


def _channels_last(builder: Builder, node: ir.Node, x: ir.Value, y: ir.Value) -> None:
    n, channels, height, width = builder.shape(x)
    c = builder.block
    blocks, tail = divmod(channels, c)
    pixels = height * width
    image = (blocks + bool(tail)) * pixels * c
    source, target = builder.blocked(x), builder.allocate(y, "nchw")
    for count, lanes, start in ((blocks, c, 0), (1, tail, blocks)):
        if count and lanes:
            _copy(
                builder, node, source, Access((image, c, pixels * c, 1), start * pixels * c),
                target, Access((pixels * channels, channels, c, 1), start * c), (n, pixels, count, lanes),
            )  # fmt: skip


def lower_concat(builder: Builder, node: ir.Node) -> None:
    """Any axis; blocked where whole blocks of channels follow each other."""
    y = node.outputs[0]
    shape = builder.shape(y)
    axis = attribute(node, "axis") % len(shape)
    inputs = [value for value in node.inputs if value is not None and 0 not in builder.shape(value)]
    whole = all(builder.shape(value)[1] % builder.block == 0 for value in inputs) if len(shape) >= 3 else False
    blocked = axis == 1 and whole and any(builder.has(value, "blocked") for value in inputs)
    layout = "blocked" if blocked else "nchw"
    target = builder.allocate(y, layout)
    outer = prod(shape[:axis])
    total = prod(shape[axis:])
    at, item = 0, item_bytes(builder.type(y))
    for value in inputs:
        size = prod(builder.shape(value)[axis:])
        source = builder.blocked(value) if blocked else builder.plain(value)
        if outer == 1 and at * item % builder.layout.view_alignment == 0:
            part = Region(target.buffer, target.offset + at * item, size * item)
            _copy(builder, node, source, Access((1,)), part, Access((1,)), (size,))
        else:
            _copy(builder, node, source, Access((size, 1)), target, Access((total, 1), at), (outer, size))
        at += size


def _strided(
    builder: Builder, node: ir.Node, x: ir.Value, y: ir.Value, offset: int, strides: Sequence[int], dims: Sequence[int]
) -> None:
    """``y`` is the elements of row-major ``x`` from ``offset`` on, at ``strides``: a view or a copy."""
    wanted = contiguous(dims)
    dense = all(size == 1 or step == want for size, step, want in zip(dims, strides, wanted, strict=True))
    operand = builder.plain(x)
    item = item_bytes(builder.type(x))
    if dense and isinstance(operand, Region) and offset * item % builder.layout.view_alignment == 0:
        size = prod(dims) * item
        builder.place(y, "nchw", Region(operand.buffer, operand.offset + offset * item, size))
        return
    target = builder.allocate(y, "nchw")
    _copy(builder, node, operand, Access(tuple(strides), offset), target, Access(wanted), dims)


def _window(
    builder: Builder, node: ir.Node, x: ir.Value, y: ir.Value, starts: Sequence[int], steps: Sequence[int]
) -> None:
    """``y = x[starts::steps]`` with y's shape."""
    shape, c = builder.shape(x), builder.block
    dims = builder.shape(y)
    only_channels = len(shape) >= 3 and (dims[0], *dims[2:]) == (shape[0], *shape[2:]) and set(steps) == {1}
    if only_channels and shape[0] == 1 and builder.has(x, "blocked") and starts[1] % c == dims[1] % c == 0:
        source = builder.blocked(x)
        pixels = math.prod(shape[2:])
        offset, size = starts[1] * pixels * 4, dims[1] * pixels * 4
        if offset % builder.layout.view_alignment == 0:
            builder.place(y, "blocked", Region(source.buffer, source.offset + offset, size))
        else:
            target = builder.allocate(y, "blocked")
            _copy(builder, node, source, Access((1,), offset // 4), target, Access((1,)), (size // 4,))
        return
    strides = contiguous(shape)
    offset = sum(start * stride for start, stride in zip(starts, strides, strict=True))
    _strided(builder, node, x, y, offset, [s * stride for s, stride in zip(steps, strides, strict=True)], dims)


def lower_slice(builder: Builder, node: ir.Node) -> None:
    """``Slice`` with constant bounds, any steps."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape = builder.shape(x)
    if len(node.inputs) > 1:
        given = [array_of(value) for value in node.inputs[1:]]
        if any(value is not None and array is None for value, array in zip(node.inputs[1:], given, strict=True)):
            raise builder.unsupported(node, "the bounds of the slice are not constants")
        lists = [None if array is None else array.reshape(-1).tolist() for array in given] + [None, None]
        begins, axes, steps = lists[0], lists[2], lists[3]
    else:
        begins, axes, steps = attribute(node, "starts"), attribute(node, "axes"), None
    assert begins is not None
    axes = list(range(len(begins))) if axes is None else axes
    steps = [1] * len(axes) if steps is None else steps
    all_starts, all_steps = [0] * len(shape), [1] * len(shape)
    for begin, axis, step in zip(begins, axes, steps, strict=True):
        size = shape[axis]
        begin = begin + size if begin < 0 else begin
        all_starts[axis] = min(max(begin, 0), size - (step < 0))
        all_steps[axis] = step
    _window(builder, node, x, y, all_starts, all_steps)


def lower_split(builder: Builder, node: ir.Node) -> None:
    """``Split``: each output is a slice; the sizes are those that shape inference found."""
    x = node.inputs[0]
    assert x is not None
    rank = len(builder.shape(x))
    axis = attribute(node, "axis", 0) % rank
    start = 0
    for y in node.outputs:
        starts = [start if index == axis else 0 for index in range(rank)]
        if is_used(y):
            _window(builder, node, x, y, starts, [1] * rank)
        start += builder.shape(y)[axis]


def lower_gather(builder: Builder, node: ir.Node) -> None:
    """``Gather``: a view or strided copy where the positions are constant and evenly spaced."""
    x, where, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None
    assert where is not None
    shape = builder.shape(x)
    axis = attribute(node, "axis", 0) % len(shape)
    positions = array_of(where)
    flat = [] if positions is None else [int(value) % shape[axis] for value in positions.reshape(-1)]
    steps = {after - before for before, after in pairwise(flat)}
    if positions is not None and positions.ndim <= 1 and len(steps) <= 1:
        strides = contiguous(shape)
        step = [steps.pop() * strides[axis]] if len(flat) > 1 else [strides[axis]] * positions.ndim
        moved = [*strides[:axis], *step, *strides[axis + 1 :]]
        _strided(builder, node, x, y, flat[0] * strides[axis], moved, builder.shape(y))
        return
    problem = Gather(
        math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]), math.prod(builder.shape(where)),
        builder.type(x), builder.type(where),
    )  # fmt: skip
    operands = [builder.plain(x), builder.plain(where)]
    builder.emit(problem, operands, builder.allocate(y, "nchw"), node)


def lower_expand(builder: Builder, node: ir.Node) -> None:
    """Broadcast to the result's shape."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    dims, own = builder.shape(y), builder.shape(x)
    padded = (1,) * (len(dims) - len(own)) + own
    strides = [0 if size == 1 else step for size, step in zip(padded, contiguous(padded), strict=True)]
    _strided(builder, node, x, y, 0, strides, dims)
