"""TensorFlow Lite's operators that move what is there."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mace_cl.errors import ModelError
from mace_cl.frontends.tflite.converter import TO_NCHW, Converter, Unmapped
from mace_cl.frontends.tflite.family import FAR, INTO_NCHW, Family, axes_of
from mace_cl.frontends.tflite.file import Operator

__all__ = ["OPS"]

OPS = Family()


@OPS.maps("RESHAPE")
def _reshape(c: Converter, op: Operator) -> None:
    x = c.value(op.inputs[0])
    if len(op.inputs) > 1 and op.inputs[1] >= 0:
        if c.is_constant(op.inputs[1]):
            target = c.constant([int(size) for size in c.stored(op.inputs[1]).reshape(-1)])
        else:
            target = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    else:
        given = op.options.numbers(0) if op.options is not None else []
        target = c.constant([int(size) for size in given])
    c.put(op, c.op("Reshape", [x, target]), moved=op.inputs[0])


@OPS.maps("SQUEEZE")
def _squeeze(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    rank = c.rank(x)
    axes = [axis % rank for axis in (op.options.numbers(0) if op.options is not None else [])]
    axes = axes or [axis for axis, size in enumerate(c.tensor(x).shape) if size == 1]
    c.put(op, c.op("Squeeze", [c.value(x), c.constant(axes)]), moved=x)


@OPS.maps("EXPAND_DIMS")
def _expand_dims(c: Converter, op: Operator) -> None:
    axes = np.atleast_1d(c.stored(op.inputs[1])).astype(np.int64)
    c.put(op, c.op("Unsqueeze", [c.value(op.inputs[0]), c.constant(axes)]), moved=op.inputs[0])


@OPS.maps("TRANSPOSE")
def _transpose(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    order = c.stored(op.inputs[1]).tolist()
    if c.rank(x) == 4 and c.prefers_image(x):
        order = [INTO_NCHW[axis] for axis in order]
        value = c.image(x)
        value = value if order == [0, 1, 2, 3] else c.op("Transpose", [value], perm=order)
    else:
        value = c.op("Transpose", [c.value(x)], perm=order)
    c.put(op, value, moved=x)


def _moving(c: Converter, index: int) -> tuple[str, ir.Value, tuple[int, ...]]:
    """Layout and value of a tensor for an op along axes, and for each axis of the result its axis in the file."""
    if c.rank(index) == 4 and c.prefers_image(index):
        return "nchw", c.image(index), TO_NCHW
    return "file", c.value(index), tuple(range(c.rank(index)))


@OPS.maps("CONCATENATION")
def _concatenation(c: Converter, op: Operator) -> None:
    layout, values = c.together(op.inputs)
    rank = c.rank(op.outputs[0])
    axis = op.option(0) % max(1, rank)
    value = c.op("Concat", values, axis=INTO_NCHW[axis] if layout == "nchw" else axis)
    grids = {c.tensor(index).grid for index in op.inputs}
    moved = op.inputs[0] if len(grids) == 1 and op.option(1, "b") == 0 else None
    c.put(op, c.activated(op, value, 1), layout, moved=moved)


@OPS.maps("SPLIT")
def _split(c: Converter, op: Operator) -> None:
    (axis,) = axes_of(c, op.inputs[0], c.rank(op.inputs[1]))
    _split_along(c, op, op.inputs[1], axis, None)


@OPS.maps("SPLIT_V")
def _split_v(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    (axis,) = axes_of(c, op.inputs[2], c.rank(x))
    sizes = c.stored(op.inputs[1]).astype(np.int64)
    if -1 in sizes:
        sizes = np.where(sizes == -1, c.tensor(x).shape[axis] - (sizes.sum() + 1), sizes)
    _split_along(c, op, x, axis, sizes.tolist())


def _split_along(c: Converter, op: Operator, x: int, axis: int, sizes: list[int] | None) -> None:
    layout, value, order = _moving(c, x)
    given = [] if sizes is None else [c.constant(sizes)]
    count = len(op.outputs)
    parts = c.ops(
        "Split", [value, *given], count, axis=order.index(axis), num_outputs=count if sizes is None else None
    )  # fmt: skip
    for place, part in enumerate(parts):
        c.put(op, part, layout, place, moved=x)


@OPS.maps("PACK")
def _pack(c: Converter, op: Operator) -> None:
    axis = op.option(1) % max(1, c.rank(op.outputs[0]))
    values = [c.op("Unsqueeze", [c.value(index), c.constant([axis])]) for index in op.inputs]
    same = len({c.tensor(index).grid for index in op.inputs}) == 1
    c.put(op, c.op("Concat", values, axis=axis), moved=op.inputs[0] if same else None)


@OPS.maps("UNPACK")
def _unpack(c: Converter, op: Operator) -> None:
    axis = op.option(1) % max(1, c.rank(op.inputs[0]))
    x, count = c.value(op.inputs[0]), len(op.outputs)
    parts = c.ops("Split", [x], count, axis=axis, num_outputs=count) if count > 1 else [x]
    for place, part in enumerate(parts):
        c.put(op, c.op("Squeeze", [part, c.constant([axis])]), place=place, moved=op.inputs[0])


@OPS.maps("SLICE")
def _slice(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    layout, value, order = _moving(c, x)
    begins, sizes = (c.stored(index).astype(np.int64) for index in op.inputs[1:3])
    ends = np.where(sizes < 0, np.iinfo(np.int64).max, begins + sizes)
    axes = list(range(len(order)))
    operands = [c.constant(begins[list(order)]), c.constant(ends[list(order)]), c.constant(axes)]
    c.put(op, c.op("Slice", [value, *operands]), layout, moved=x)


@OPS.maps("STRIDED_SLICE")
def _strided_slice(c: Converter, op: Operator) -> None:
    """Masks have a bit for each entry: begin or end left out, ellipsis, new axis, or the axis dropped."""
    x, rank = op.inputs[0], c.rank(op.inputs[0])
    begins, ends, steps = (c.stored(index).tolist() for index in op.inputs[1:4])
    no_begin, no_end, ellipsis, new, drop = (op.option(slot) for slot in range(5))
    if op.option(5, "?"):
        ends = [begin + end for begin, end in zip(begins, ends, strict=True)]
    starts: list[int] = []
    stops: list[int] = []
    axes: list[int] = []
    by: list[int] = []
    dropped: list[int] = []
    added: list[int] = []
    axis = place = 0
    extra = bin(new & ((1 << len(begins)) - 1)).count("1")
    for entry, (begin, end, step) in enumerate(zip(begins, ends, steps, strict=True)):
        bit = 1 << entry
        if ellipsis & bit:
            skipped = rank - (len(begins) - 1 - extra)
            axis, place = axis + skipped, place + skipped
        elif new & bit:
            added.append(place)
            place += 1
        else:
            if drop & bit:
                step, end = 1, begin + 1 if begin != -1 else FAR
                dropped.append(axis)
            else:
                begin = (0 if step > 0 else FAR) if no_begin & bit else begin
                end = (FAR if step > 0 else -FAR) if no_end & bit else end
                place += 1
            if step == 0 or axis >= rank:
                raise ModelError(f"STRIDED_SLICE at {op.layer!r} has the steps {steps} over {c.tensor(x).shape}")
            if (begin, end, step) != (0, FAR, 1):
                for entries, one in zip((starts, stops, axes, by), (begin, end, axis, step), strict=True):
                    entries.append(one)
            axis += 1
    layout, value, order = ("file", c.value(x), tuple(range(rank))) if dropped or added else _moving(c, x)
    if axes:
        places = [order.index(one) for one in axes]
        value = c.op("Slice", [value, *map(c.constant, (starts, stops, places, by))])
    if dropped:
        value = c.op("Squeeze", [value, c.constant(dropped)])
    if added:
        value = c.op("Unsqueeze", [value, c.constant(added)])
    c.put(op, value, layout, moved=x)


@OPS.maps("REVERSE_V2")
def _reverse(c: Converter, op: Operator) -> None:
    layout, value, order = _moving(c, op.inputs[0])
    axes = [order.index(axis) for axis in axes_of(c, op.inputs[1], len(order))]
    count = len(axes)
    value = c.op("Slice", [value, *map(c.constant, ([-1] * count, [-FAR] * count, axes, [-1] * count))])
    c.put(op, value, layout, moved=op.inputs[0])


@OPS.maps("REVERSE_SEQUENCE")
def _reverse_sequence(c: Converter, op: Operator) -> None:
    lengths = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    axes = {"time_axis": op.option(0), "batch_axis": op.option(1)}
    if set(axes.values()) != {0, 1}:
        raise Unmapped("reverses along an axis, or has its batch along one, that is none of the first two")
    c.put(op, c.op("ReverseSequence", [c.value(op.inputs[0]), lengths], **axes), moved=op.inputs[0])


@OPS.maps("PAD", "PADV2", "MIRROR_PAD")
def _pad(c: Converter, op: Operator) -> None:
    x = op.inputs[0]
    layout, value, order = _moving(c, x)
    pads = c.stored(op.inputs[1]).astype(np.int64)[list(order)]
    amounts = c.constant(pads.T.reshape(-1))
    if op.name == "MIRROR_PAD":
        if op.option(0, "b") == 1:  # repeats the edge, which ONNX's Pad can't
            for axis, (before, after) in enumerate(pads.tolist()):
                size = c.tensor(x).shape[order[axis]]
                if not 0 <= min(before, after) <= max(before, after) <= size:
                    raise ModelError(f"MIRROR_PAD at {op.layer!r} pads {size} elements by {before} and {after}")
                if before or after:
                    places = np.pad(np.arange(size), (before, after), mode="symmetric")
                    value = c.op("Gather", [value, c.constant(places)], axis=axis)
        else:
            value = c.op("Pad", [value, amounts], mode="reflect")
        c.put(op, value, layout, moved=x)
        return
    fill = [] if op.name == "PAD" else [c.value(op.inputs[2])]
    c.put(op, c.op("Pad", [value, amounts, *fill]), layout, moved=x)


@OPS.maps("TILE")
def _tile(c: Converter, op: Operator) -> None:
    repeats = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    c.put(op, c.op("Tile", [c.value(op.inputs[0]), repeats]), moved=op.inputs[0])


@OPS.maps("BROADCAST_TO")
def _broadcast_to(c: Converter, op: Operator) -> None:
    shape = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    c.put(op, c.op("Expand", [c.value(op.inputs[0]), shape]), moved=op.inputs[0])


@OPS.maps("GATHER")
def _gather(c: Converter, op: Operator) -> None:
    axis, batch = op.option(0), op.option(1)
    rank = c.rank(op.inputs[0])
    axis += rank * (axis < 0)
    x, where = c.value(op.inputs[0]), c.value(op.inputs[1])
    if batch:
        if axis != batch or c.rank(op.inputs[1]) != batch + 1:
            raise Unmapped("gathers in batches along an axis that is not the first after them")
        where = c.op("Unsqueeze", [where, c.constant([batch + 1])])
        value = c.op("GatherND", [x, c.op("Cast", [where], to=ir.DataType.INT64)], batch_dims=batch)
    else:
        value = c.op("Gather", [x, where], axis=axis)
    c.put(op, value, moved=op.inputs[0])


@OPS.maps("EMBEDDING_LOOKUP")
def _embedding_lookup(c: Converter, op: Operator) -> None:
    c.put(op, c.op("Gather", [c.value(op.inputs[1]), c.value(op.inputs[0])], axis=0), moved=op.inputs[1])


@OPS.maps("GATHER_ND")
def _gather_nd(c: Converter, op: Operator) -> None:
    where = c.op("Cast", [c.value(op.inputs[1])], to=ir.DataType.INT64)
    c.put(op, c.op("GatherND", [c.value(op.inputs[0]), where]), moved=op.inputs[0])


@OPS.maps("SCATTER_ND")
def _scatter_nd(c: Converter, op: Operator) -> None:
    where, updates, shape = (c.value(index) for index in op.inputs)
    where, shape = (c.op("Cast", [value], to=ir.DataType.INT64) for value in (where, shape))
    zero = c.constant(np.zeros((), c.tensor(op.outputs[0]).dtype))
    c.put(op, c.op("ScatterND", [c.op("Expand", [zero, shape]), where, updates], reduction="add"))
