"""Chains of ops that only move whole channels become one ``mace_cl::ChannelGather``.

A channel shuffle is written as Reshape, Transpose, Reshape, often after Concat and before Slice or Split.
Each channel of its result is a channel of some earlier value, rows and columns untouched; this pass
follows the channels through the chain and keeps only where each comes from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.graph import DOMAIN, array_of, attribute, nodes_of, static_shape
from mace_cl.passes.rewrite import replace

__all__ = ["ChannelMovesPass"]

_MOST_SOURCES = 12


@dataclass(frozen=True)
class _Channels:
    """Where the channels of a value come from: ``ids`` has the value's leading dimensions.

    An id is an index into ``origins``, pairs of a value and its channel.  ``moved`` says that more than
    concatenation happened, ``nodes`` names what did.
    """

    ids: NDArray[np.int64]
    moved: bool = False
    nodes: tuple[str, ...] = field(default=(), compare=False)


class ChannelMovesPass(ir.passes.InPlacePass):
    """See the module."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        tracer = _Tracer()
        known = {id(value): found for node in model.graph for value, found in tracer.follow(node)}
        modified = False
        for node in list(model.graph):
            if len(node.outputs) == 1:
                modified |= tracer.gather(node, known.get(id(node.outputs[0])), known)
        return ir.passes.PassResult(model, modified=modified)


class _Tracer:
    def __init__(self) -> None:
        self.origins: list[tuple[ir.Value, int]] = []
        self.known: dict[int, _Channels] = {}

    def source(self, value: ir.Value) -> _Channels | None:
        """The channels of ``value``: those followed so far, or its own if it is one image."""
        if id(value) in self.known:
            return self.known[id(value)]
        shape = static_shape(value)
        if shape is None or len(shape) != 4 or shape[0] != 1 or array_of(value) is not None:
            return None
        first = len(self.origins)
        self.origins += [(value, channel) for channel in range(shape[1])]
        ids = np.arange(first, first + shape[1], dtype=np.int64).reshape(1, shape[1])
        self.known[id(value)] = _Channels(ids)
        return self.known[id(value)]

    def follow(self, node: ir.Node) -> list[tuple[ir.Value, _Channels]]:
        """The outputs of a node that only moves channels, with their origins."""
        step = _STEPS.get(node.op_type) if node.domain == "" else None
        inputs = [value for value in node.inputs if value is not None]
        if step is None or not inputs:
            return []
        many = inputs if node.op_type == "Concat" else inputs[:1]
        found = [self.source(value) for value in many]
        shapes = [static_shape(value) for value in (*many, *node.outputs)]
        if any(one is None for one in found) or any(shape is None or 0 in shape for shape in shapes):
            return []
        moved = step(node, [one.ids for one in found if one is not None], shapes)  # type: ignore[arg-type]
        if moved is None:
            return []
        names = tuple(
            dict.fromkeys((*(name for one in found if one is not None for name in one.nodes), nodes_of(node)))
        )
        changed = node.op_type != "Concat" or any(one.moved for one in found if one is not None)
        results = []
        for value, ids in zip(node.outputs, moved, strict=True):
            self.known[id(value)] = _Channels(ids, changed, names)
            results.append((value, self.known[id(value)]))
        return results

    def gather(self, node: ir.Node, found: _Channels | None, known: dict[int, _Channels]) -> bool:
        """Put a ChannelGather in place of the last node of a chain."""
        (value,) = node.outputs
        shape = static_shape(value)
        last = any(not any(id(out) in known for out in use.node.outputs) for use in value.uses())
        if found is None or not found.moved or not last or value.is_graph_output() or shape is None or len(shape) != 4:
            return False
        if shape[0] != 1 or found.ids.shape != shape[:2]:
            return False
        origins = [self.origins[index] for index in found.ids.reshape(-1)]
        sources = list(dict.fromkeys(origin for origin, _ in origins))
        if len(sources) > _MOST_SOURCES or any(static_shape(one)[2:] != shape[2:] for one in sources):  # type: ignore[index]
            return False
        attributes = {
            "sources": [sources.index(origin) for origin, _ in origins],
            "channels": [channel for _, channel in origins],
        }
        replace(node, "ChannelGather", sources, attributes, DOMAIN, found.nodes)
        return True


Shape = tuple[int, ...]


def _lead(ids: NDArray[np.int64], before: Shape, after: Shape) -> Shape | None:
    """The leading dimensions of ``after`` that hold the channels, if rows and columns stay together behind them."""
    plane = prod(before[ids.ndim :])
    size = 1
    for count, dimension in enumerate(after, 1):
        size *= dimension
        if size == ids.size and prod(after[count:]) == plane:
            return after[:count]
    return None


def _reshape(node: ir.Node, ids: Sequence[NDArray[np.int64]], shapes: Sequence[Shape]) -> list[Any] | None:
    lead = _lead(ids[0], shapes[0], shapes[1])
    return None if lead is None else [ids[0].reshape(lead)]


def _transpose(node: ir.Node, ids: Sequence[NDArray[np.int64]], shapes: Sequence[Shape]) -> list[Any] | None:
    rank, lead = len(shapes[0]), ids[0].ndim
    order = list(attribute(node, "perm", list(reversed(range(rank)))))
    if sorted(order[:lead]) != list(range(lead)) or order[lead:] != list(range(lead, rank)):
        return None
    return [ids[0].transpose(order[:lead])]


def _concat(node: ir.Node, ids: Sequence[NDArray[np.int64]], shapes: Sequence[Shape]) -> list[Any] | None:
    axis = attribute(node, "axis") % len(shapes[0])
    if any(one.ndim != ids[0].ndim for one in ids) or axis >= ids[0].ndim:
        return None
    if any(shape[one.ndim :] != shapes[0][ids[0].ndim :] for one, shape in zip(ids, shapes, strict=False)):
        return None
    return [np.concatenate(ids, axis)]


def _slice(node: ir.Node, ids: Sequence[NDArray[np.int64]], shapes: Sequence[Shape]) -> list[Any] | None:
    given = [array_of(value) for value in node.inputs[1:]]
    if len(node.inputs) < 3 or any(array is None for array in given):
        return None
    lists = [array.reshape(-1).tolist() for array in given if array is not None]
    starts, ends = lists[:2]
    axes = lists[2] if len(lists) > 2 else range(len(starts))
    steps = lists[3] if len(lists) > 3 else [1] * len(starts)
    index = [slice(None)] * ids[0].ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis %= len(shapes[0])
        if axis >= ids[0].ndim or step < 1:
            return None
        index[axis] = slice(start, end, step)
    return [ids[0][tuple(index)]]


def _split(node: ir.Node, ids: Sequence[NDArray[np.int64]], shapes: Sequence[Shape]) -> list[Any] | None:
    axis = attribute(node, "axis", 0) % len(shapes[0])
    if axis >= ids[0].ndim:
        return None
    sizes = [shape[axis] for shape in shapes[1:]]
    return list(np.split(ids[0], np.cumsum(sizes)[:-1], axis))


def _gather(node: ir.Node, ids: Sequence[NDArray[np.int64]], shapes: Sequence[Shape]) -> list[Any] | None:
    positions = array_of(node.inputs[1])
    axis = attribute(node, "axis", 0) % len(shapes[0])
    if positions is None or axis >= ids[0].ndim or (positions.ndim == 0 and ids[0].ndim == 1):
        return None
    return [np.take(ids[0], positions, axis)]


_STEPS = {
    "Concat": _concat,
    "Gather": _gather,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Transpose": _transpose,
}
