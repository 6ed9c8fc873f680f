"""A layer while it is mapped: what it reads, and what is written so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import ModelError
from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.graphs import GraphBuilder

__all__ = ["Blob", "LacksError", "Mapper", "Shape", "Step", "f32"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Blob:
    """A value of the graph, float32, and its shape."""

    value: ir.Value
    shape: Shape


class LacksError(Exception):
    """A variant of a layer that can't be mapped; the reader names the layer and goes on."""


class Step:
    """One layer while it is mapped: what it reads and what is written so far.

    ``blobs`` are its trained values, ``names`` those under which its outputs go into the graph.
    """

    def __init__(
        self, graph: GraphBuilder, layer: pb.Layer, bottoms: list[Blob], blobs: list[NDArray[np.float32]],
        names: list[str],
    ) -> None:  # fmt: skip
        self.graph, self.layer, self.bottoms, self.blobs, self.names = graph, layer, bottoms, blobs, names
        self.tops: list[Blob] = []

    @property
    def x(self) -> Blob:
        """The first input."""
        return self.bottom(0)

    def bottom(self, place: int) -> Blob:
        """An input."""
        self.need(len(self.bottoms) > place, f"needs {place + 1} inputs, but has {len(self.bottoms)}")
        return self.bottoms[place]

    def need(self, holds: bool, otherwise: str) -> None:
        """Raise a ModelError that names the layer unless ``holds``."""
        if not holds:
            raise ModelError(f"layer {self.layer.name!r} ({self.layer.type}): {otherwise}")

    def lacks(self, what: str) -> NoReturn:
        """Tell that this variant has no mapping."""
        raise LacksError(what)

    def op(self, op_type: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """A node in between; inputs may be arrays, lists of whole numbers and floats."""
        return self.graph.op(op_type, self._values(inputs), layer=self.layer.name, **attributes)

    def pair(self, op_type: str, *inputs: Any, **attributes: Any) -> list[ir.Value]:
        """As `op`, with two outputs."""
        return self.graph.ops(op_type, self._values(inputs), ["", ""], layer=self.layer.name, **attributes)

    def end(self, shape: Sequence[int], op_type: str, *inputs: Any, **attributes: Any) -> None:
        """The node that writes the next output, of ``shape``."""
        name = self._next()
        value = self.graph.op(op_type, self._values(inputs), layer=self.layer.name, output=name, **attributes)
        self.tops.append(Blob(value, tuple(shape)))

    def same(self, op_type: str, *inputs: Any, **attributes: Any) -> None:
        """As `end`, of the first input's shape."""
        self.end(self.x.shape, op_type, *inputs, **attributes)

    def constant(self, array: NDArray[np.float32]) -> None:
        """The next output is constant."""
        self.tops.append(Blob(self.graph.constant(array, self._next()), array.shape))

    def split(self, x: ir.Value, shapes: Sequence[Shape], sizes: Sequence[int], axis: int) -> None:
        """All outputs are pieces of ``x`` along ``axis``."""
        self.need(len(sizes) == len(self.names), f"cuts into {len(sizes)} pieces, but has {len(self.names)} outputs")
        values = self.graph.ops("Split", self._values([x, list(sizes)]), self.names, layer=self.layer.name, axis=axis)
        self.tops += [Blob(value, shape) for value, shape in zip(values, shapes, strict=True)]

    def _next(self) -> str:
        self.need(len(self.tops) < len(self.names), "writes more outputs than it names")
        return self.names[len(self.tops)]

    def _values(self, inputs: Sequence[Any]) -> list[ir.Value | None]:
        return [
            one if one is None or isinstance(one, ir.Value) else one.value if isinstance(one, Blob) else
            self.graph.constant(one, f"{self.layer.name}/{len(one.shape)}d" if _is_large(one) else "")
            for one in inputs
        ]  # fmt: skip

    def axis(self, axis: int, rank: int | None = None) -> int:
        """An axis of the first input counted from 0."""
        rank = len(self.x.shape) if rank is None else rank
        self.need(-rank <= axis < rank, f"has the axis {axis}, but its input {rank} of them")
        return axis % rank

    def weights(self, place: int, shape: Sequence[int] | None = None) -> NDArray[np.float32]:
        """A trained blob, in ``shape`` where that is given: older files keep bias and the like in four dimensions."""
        self.need(
            len(self.blobs) > place,
            f"the .caffemodel has {len(self.blobs) or 'no'} blobs for it, but {place + 1} are needed; "
            "do the two files belong together?",
        )
        array = self.blobs[place]
        if shape is None:
            return array
        self.need(
            array.size == math.prod(shape),
            f"blob {place} of the shape {list(array.shape)} should have the shape {list(shape)}; "
            "do the .prototxt and the .caffemodel belong together?",
        )
        return array.reshape(shape)


def _is_large(one: Any) -> bool:
    return isinstance(one, np.ndarray) and one.size > 1


def f32(number: float) -> NDArray[np.float32]:
    """A number as a constant of no dimensions."""
    return np.array(number, np.float32)


Mapper = Callable[[Step], None]
