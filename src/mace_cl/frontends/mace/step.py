"""An operator while it is mapped: what it reads, and what is written so far.

An image is a `Tensor` of four dimensions.  Its shape is in the layout in which the operator that writes it speaks;
its values lie in the graph as NCHW, and as NHWC where something asks for that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import ModelError
from mace_cl.frontends.graphs import GraphBuilder
from mace_cl.frontends.mace import mace_pb2 as pb

__all__ = ["Constant", "LacksError", "Mapper", "Shape", "Step", "Tensor", "activated", "column", "f32"]

Shape = tuple[int, ...]
_TURN = {("NHWC", "NCHW"): [0, 3, 1, 2], ("NCHW", "NHWC"): [0, 2, 3, 1]}


_QUANTISED: dict[int, type[np.integer[Any]]] = {
    pb.DT_UINT8: np.uint8, pb.DT_INT8: np.int8, pb.DT_INT16: np.int16, pb.DT_UINT16: np.uint16
}  # fmt: skip


class LacksError(Exception):
    """A variant of an operator that can't be mapped; the reader names the operator and goes on."""


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor of the file: float32 or whole numbers; ``quantised`` is its scale and zero point if it has one."""

    name: str
    array: NDArray[Any]
    quantised: tuple[float, int] | None = None

    @property
    def shape(self) -> Shape:
        return self.array.shape

    def real(self) -> NDArray[Any]:
        """The values that a quantised tensor stands for; others as they are."""
        if self.quantised is None:
            return self.array
        scale, zero = self.quantised
        values: NDArray[np.float32] = ((self.array.astype(np.int32) - zero) * np.float32(scale)).astype(np.float32)
        return values


class Tensor:
    """A value of the graph in one layout or both.

    ``shape`` is in ``layout``, which only images have.  ``values`` are the graph's, by layout; of a quantised tensor
    the quantised ones, and ``scale`` is the pair that gives the real ones.
    """

    def __init__(
        self, graph: GraphBuilder, name: str, shape: Shape, layout: str, values: dict[str, ir.Value],
        scale: tuple[ir.Value, ir.Value] | None = None,
    ) -> None:  # fmt: skip
        self.graph, self.name, self.shape, self.layout, self.scale = graph, name, shape, layout, scale
        self._values, self._real = dict(values), dict(values) if scale is None else {}

    def floating(self, layout: str) -> ir.Value:
        """The real values; an image in ``layout``."""
        key = layout if len(self.shape) == 4 else next(iter(self._values))
        if key not in self._real and self.scale is not None:
            for own, value in self._values.items():
                if own not in self._real:
                    inputs = [value, *self.scale]
                    self._real[own] = self.graph.op("DequantizeLinear", inputs, layer=f"{self.name}/real")
        if key not in self._real:
            other = next(iter(self._real))
            turned = self.graph.op("Transpose", [self._real[other]], layer=f"{self.name}/{key}", perm=_TURN[other, key])
            self._real[key] = turned
        return self._real[key]

    def in_layout(self, layout: str) -> Shape:
        """The shape in ``layout``."""
        if len(self.shape) != 4 or layout == self.layout:
            return self.shape
        return tuple(self.shape[axis] for axis in _TURN[self.layout, layout])


class Step:
    """One operator while it is mapped: what it reads, its arguments, and what is written so far.

    ``layout`` is the one in which the operator speaks of images, ``source`` that of the graph's constants, and
    ``filters`` the number of the filters' format.
    """

    def __init__(
        self, graph: GraphBuilder, op: pb.OperatorDef, arguments: dict[str, Any], inputs: list[Tensor | Constant],
        layout: str, source: str, filters: int,
    ) -> None:  # fmt: skip
        self.graph, self.definition, self.arguments, self.inputs = graph, op, arguments, inputs
        self.layout, self.source, self.filters = layout, source, filters
        self.outputs: list[Tensor] = []
        self.quantised = _QUANTISED.get(int(arguments.get("T", pb.DT_FLOAT))) if op.quantize_info else None

    def need(self, holds: bool, otherwise: str) -> None:
        """Raise a ModelError that names the operator unless ``holds``."""
        if not holds:
            raise ModelError(f"operator {self.definition.name!r} ({self.definition.type}): {otherwise}")

    def lacks(self, what: str) -> NoReturn:
        """Tell that this variant has no mapping."""
        raise LacksError(what)

    def op(self, op_type: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """A node in between; inputs may be arrays and lists of whole numbers."""
        return self.graph.op(op_type, self._values(inputs), layer=self.definition.name, **attributes)

    def pair(self, op_type: str, *inputs: Any, **attributes: Any) -> list[ir.Value]:
        """As `op`, with two outputs."""
        return self.graph.ops(op_type, self._values(inputs), ["", ""], layer=self.definition.name, **attributes)

    def _values(self, inputs: Sequence[Any]) -> list[ir.Value | None]:
        return [one if one is None or isinstance(one, ir.Value) else self.graph.constant(one) for one in inputs]

    def number(self, name: str, default: float) -> float:
        """An argument that is one finite number."""
        found = self.arguments.get(name, default)
        self.need(isinstance(found, (int, float)) and math.isfinite(found), f"has {found} for {name}")
        return float(found)

    # What is read.

    def source_of(self, place: int) -> Tensor | Constant:
        """An input as it is."""
        self.need(len(self.inputs) > place, f"needs {place + 1} inputs, but has {len(self.inputs)}")
        return self.inputs[place]

    def constant(self, place: int) -> NDArray[Any]:
        """An input that must be constant: its values."""
        found = self.source_of(place)
        if not isinstance(found, Constant):
            self.lacks(f"its input {found.name!r} is not constant")
        return found.real()

    def has(self, place: int) -> bool:
        """Whether there is such an input."""
        return len(self.inputs) > place

    def shape(self, place: int = 0, layout: str | None = None) -> Shape:
        """An input's shape, of an image in ``layout``, by default the operator's."""
        found = self.source_of(place)
        if isinstance(found, Tensor):
            return found.in_layout(layout or self.layout)
        if len(found.shape) == 4 and (layout or self.layout) != self.source:
            return tuple(found.shape[axis] for axis in _TURN[self.source, layout or self.layout])
        return found.shape

    def value(self, place: int = 0, layout: str | None = None) -> ir.Value:
        """An input's real values, an image in ``layout``, by default the operator's; a vector lies along channels."""
        found, layout = self.source_of(place), layout or self.layout
        if isinstance(found, Tensor):
            return found.floating(layout)
        array = found.real()
        if array.ndim == 4 and layout != self.source:
            array = array.transpose(_TURN[self.source, layout])
        return self.graph.constant(array, found.name if array.size > 1 else "")

    def weights(self, place: int, arrange: Callable[[NDArray[Any]], NDArray[Any]] = lambda array: array) -> ir.Value:
        """A constant input with its values arranged anew; of a quantised operator still quantised."""
        found = self.source_of(place)
        if not isinstance(found, Constant):
            self.lacks(f"its weights {found.name!r} are not constant")
        if found.quantised is None or self.quantised is None:
            return self.graph.constant(np.ascontiguousarray(arrange(found.real())), found.name)
        scale, zero = found.quantised
        array = np.ascontiguousarray(arrange(found.array))
        kept = self.graph.constant(array, found.name)
        return self.op("DequantizeLinear", kept, np.array(scale, np.float32), np.array(zero, array.dtype))

    def sizes(self, name: str, count: int, default: int | None = None) -> list[int]:
        """An argument of ``count`` whole numbers of at least 1."""
        found = self.arguments.get(name, None if default is None else [default] * count)
        self.need(
            isinstance(found, list) and len(found) == count, f"has {found} for {name}; {count} numbers are needed"
        )
        numbers = [int(one) for one in found or ()]
        self.need(all(0 < one < 1 << 24 for one in numbers), f"has {numbers} for {name}")
        return numbers

    def declared(self, place: int = 0) -> Shape | None:
        """The shape that the file gives an output, in the operator's layout."""
        shapes = self.definition.output_shape
        return tuple(shapes[place].dims) if len(shapes) > place else None

    # What is written.

    def end(self, value: ir.Value, shape: Sequence[int], layout: str | None = None) -> None:
        """The next output: ``value``, an image in ``layout`` (by default NCHW), ``shape`` in the operator's layout."""
        place = len(self.outputs)
        self.need(place < len(self.definition.output), "writes more than it names")
        name, key = self.definition.output[place], (layout or "NCHW") if len(shape) == 4 else "plain"
        shape = tuple(int(size) for size in shape)
        self.need(
            all(size > 0 for size in shape) and math.prod(shape) < 1 << 31,
            f"writes {name!r} of the shape {list(shape)}",
        )
        scale = None
        if self.quantised is not None:
            kind = self.quantised
            info = self.definition.quantize_info[min(place, len(self.definition.quantize_info) - 1)]
            step, zero = (1 / 255, 0) if self.definition.type == "Softmax" else (info.scale, info.zero_point)
            limits = np.iinfo(kind)
            self.need(step > 0 and limits.min <= zero <= limits.max, f"is quantised with {step} and {zero}")
            pair = [self.graph.constant(np.array(step, np.float32)), self.graph.constant(np.array(zero, kind))]
            value = self.graph.op("QuantizeLinear", [value, *pair], layer=self.definition.name)
            scale = (pair[0], pair[1])
        self.graph.rename(value, name)
        self.outputs.append(Tensor(self.graph, name, shape, self.layout, {key: value}, scale))

    def image(self, value: ir.Value, nchw: Sequence[int]) -> None:
        """The next output, an image of NCHW shape, through the activation that the operator ends with."""
        shape = tuple(nchw) if self.layout == "NCHW" else tuple(nchw[axis] for axis in (0, 2, 3, 1))
        self.end(activated(self, value), shape)

    def map_axis(self, axis: int, rank: int) -> int:
        """An axis of the operator's layout where values lie as NCHW."""
        self.need(-rank <= axis < rank, f"has the axis {axis} of {rank}")
        axis %= rank
        return {1: 2, 2: 3, 3: 1}.get(axis, axis) if rank == 4 and self.layout == "NHWC" else axis


def f32(number: float) -> NDArray[np.float32]:
    """A number as a constant of no dimensions."""
    return np.array(number, np.float32)


def activated(at: Step, value: ir.Value, alpha: ir.Value | None = None) -> ir.Value:
    """``value`` through the activation that the operator's arguments tell; ``alpha`` are the slopes of a PReLU."""
    word = at.arguments.get("activation", b"NOOP")
    name = word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
    coefficient = float(at.arguments.get("activation_coefficient", at.arguments.get("leakyrelu_coefficient", 0.0)))
    if name == "NOOP":
        return value
    if name == "RELUX":
        return at.op("Clip", value, f32(0), f32(at.arguments.get("max_limit", 0.0)))
    if name == "LEAKYRELU":
        return at.op("LeakyRelu", value, alpha=coefficient)
    if name == "ELU":
        return at.op("Elu", value, alpha=coefficient)
    if name == "HARDSIGMOID":
        slope, offset = at.arguments.get("hardsigmoid_alpha", 0.2), at.arguments.get("hardsigmoid_beta", 0.5)
        return at.op("HardSigmoid", value, alpha=float(slope), beta=float(offset))
    if name == "PRELU":
        at.need(alpha is not None, "has no slopes")
        return at.op("PRelu", value, alpha)
    simple = {"RELU": "Relu", "TANH": "Tanh", "SIGMOID": "Sigmoid"}
    if name not in simple:
        at.lacks(f"the activation {name}")
    return at.op(simple[name], value)


def column(at: Step, place: int, rank: int) -> Any:
    """A vector input along the channels of values that lie as NCHW."""
    array = at.constant(place).reshape(-1)
    return array.reshape(-1, 1, 1) if rank == 4 else array


Mapper = Callable[[Step], None]
