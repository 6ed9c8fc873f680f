"""What each of MACE's operators is in ONNX ops; ``OPS`` is the table.

An image is a `Tensor` of four dimensions.  Its shape is in the layout in which the operator that writes it speaks;
its values lie in the graph as NCHW, and as NHWC where something asks for that.  Source: MACE's ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import ModelError
from mace_cl.frontends import mace_pb2 as pb
from mace_cl.frontends.graphs import GraphBuilder

__all__ = ["ELTWISE", "OPS", "REDUCE", "Constant", "LacksError", "Step", "Tensor"]

Shape = tuple[int, ...]
_TURN = {("NHWC", "NCHW"): [0, 3, 1, 2], ("NCHW", "NHWC"): [0, 2, 3, 1]}

ELTWISE = (
    "SUM", "SUB", "PROD", "DIV", "MIN", "MAX", "NEG", "ABS", "SQR_DIFF", "POW", "EQUAL", "FLOOR_DIV", "CLIP", "SIGN",
    "NONE", "NOT_EQUAL",
)  # fmt: skip
REDUCE = ("ReduceMean", "ReduceMin", "ReduceMax", "ReduceProd", "ReduceSum")
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
        values = [one if one is None or isinstance(one, ir.Value) else self.graph.constant(one) for one in inputs]
        return self.graph.op(op_type, values, layer=self.definition.name, **attributes)

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
        self.end(_activated(self, value), shape)

    def map_axis(self, axis: int, rank: int) -> int:
        """An axis of the operator's layout where values lie as NCHW."""
        self.need(-rank <= axis < rank, f"has the axis {axis} of {rank}")
        axis %= rank
        return {1: 2, 2: 3, 3: 1}.get(axis, axis) if rank == 4 and self.layout == "NHWC" else axis


def _f(number: float) -> NDArray[np.float32]:
    return np.array(number, np.float32)


def _activated(at: Step, value: ir.Value, alpha: ir.Value | None = None) -> ir.Value:
    word = at.arguments.get("activation", b"NOOP")
    name = word.decode("ascii", "replace") if isinstance(word, bytes) else str(word)
    coefficient = float(at.arguments.get("activation_coefficient", at.arguments.get("leakyrelu_coefficient", 0.0)))
    if name == "NOOP":
        return value
    if name == "RELUX":
        return at.op("Clip", value, _f(0), _f(at.arguments.get("max_limit", 0.0)))
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


# Windows.


def _pads(
    at: Step, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], up: bool = False
) -> tuple[list[int], list[int]]:
    """The output's sizes and ONNX's pads; MACE gives a type of padding, or the padding of both sides together."""
    given = at.arguments.get("padding_values")
    kind = int(at.arguments.get("padding", 0)) if not given else -1
    at.need(
        given is None or (isinstance(given, list) and len(given) == 2 and min(given) >= 0), f"has the padding {given}"
    )
    at.need(-1 <= kind <= 3, f"has the padding {kind}")
    outs, begins, ends = [], [], []
    for place, (size, k, s) in enumerate(zip(sizes, kernel, strides, strict=True)):
        if given:
            room = size + given[place] - k
            out = (-(-room // s) if up else room // s) + 1
            begin = given[place] // 2
            end = max(given[place] - begin, (out - 1) * s + k - size - begin if up else 0)
        else:
            out = {0: (size - k) // s, 2: (size + k - 2) // s}.get(kind, (size - 1) // s) + 1
            total = max(0, (out - 1) * s + k - size)
            begin = total - total // 2 if kind == 3 else total // 2
            end = total - begin
        at.need(out > 0, f"has windows of {k} on an input of {size}")
        outs.append(out)
        begins.append(begin)
        ends.append(end)
    return outs, begins + ends


def _as_oihw(at: Step, array: NDArray[Any]) -> NDArray[Any]:
    order = {100: (3, 2, 0, 1), 101: (0, 1, 2, 3), 103: (0, 3, 1, 2)}.get(at.filters)
    if order is None:
        at.lacks(f"the filter format {at.filters}")
    at.need(array.ndim == 4, f"has a filter of the shape {list(array.shape)}")
    return array.transpose(order)


def _as_depthwise(at: Step, array: NDArray[Any]) -> NDArray[Any]:
    """Filters [multiplier, channels, height, width], or [height, width, channels, multiplier], as ONNX has them."""
    at.need(array.ndim == 4, f"has a filter of the shape {list(array.shape)}")
    turned = array.transpose(1, 0, 2, 3) if at.filters == 101 else array.transpose(2, 3, 0, 1)
    channels, multiplier, height, width = turned.shape
    return turned.reshape(channels * multiplier, 1, height, width)


def _shape_after(at: Step, arrange: Callable[[Step, NDArray[Any]], NDArray[Any]]) -> Shape:
    found = at.source_of(1)
    at.need(isinstance(found, Constant), "has a filter that is not constant")
    return arrange(at, np.broadcast_to(np.uint8(0), found.shape)).shape


def _conv(at: Step) -> None:
    depthwise = at.definition.type == "DepthwiseConv2d"
    arrange = _as_depthwise if depthwise else _as_oihw
    if at.arguments.get("is_filter_transformed"):
        at.lacks("its filter is transformed for Winograd")
    n, channels, *sizes = at.shape(layout="NCHW")
    outs, inner, *kernel = _shape_after(at, arrange)
    group = channels if depthwise else int(at.arguments.get("group", 1))
    at.need(
        group > 0 and inner * group == channels and outs % group == 0, f"has filters of {inner} for {channels} channels"
    )
    strides, dilations = at.sizes("strides", 2, 1), at.sizes("dilations", 2, 1)
    extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    found, pads = _pads(at, sizes, extent, strides)
    inputs = [at.value(layout="NCHW"), at.weights(1, lambda array: arrange(at, array))]
    if at.has(2):
        inputs.append(at.weights(2, lambda array: array.reshape(outs)))
    value = at.op("Conv", *inputs, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads, group=group)
    at.image(value, (n, outs, *found))


def _deconv(at: Step) -> None:
    depthwise = at.definition.type == "DepthwiseDeconv2d"
    tensorflow = int(at.arguments.get("framework_type", 0)) == 0
    n, channels, *sizes = at.shape(layout="NCHW")
    first, second, *kernel = _shape_after(at, _as_oihw)
    group = channels if depthwise else int(at.arguments.get("group", 1))
    if depthwise and first != 1:
        at.lacks(f"{first} filters for each channel")
    at.need((second if group == 1 else second * first) == channels, f"has filters of {second} for {channels} channels")
    if group not in (1, channels):
        at.lacks(f"{group} groups")
    outs = first if group == 1 else channels
    strides = at.sizes("strides", 2, 1)
    full = [(size - 1) * s + k for size, s, k in zip(sizes, strides, kernel, strict=True)]
    if tensorflow:
        wanted = [int(size) for size in at.constant(2).reshape(-1)] if at.has(2) else list(at.declared() or ())
        at.need(len(wanted) == 4, "tells no output shape")
        out = wanted[1:3] if at.layout == "NHWC" or at.has(2) else wanted[2:]
        total = [whole - size for whole, size in zip(full, out, strict=True)]
    else:
        total = [int(one) for one in at.arguments.get("padding_values", [0, 0])]
        out = [whole - pad for whole, pad in zip(full, total, strict=True)]
    at.need(len(total) == 2 and min(out) > 0, f"makes the size {out}")
    begins = [max(pad, 0) // 2 for pad in total]
    ends = [max(pad, 0) - begin for pad, begin in zip(total, begins, strict=True)]
    beyond = [max(-pad, 0) for pad in total]
    inputs = [
        at.value(layout="NCHW"),
        at.weights(1, lambda array: _as_oihw(at, array).transpose(1, 0, 2, 3)),
    ]
    place = 3 if tensorflow else 2
    if at.has(place):
        inputs.append(at.weights(place, lambda array: array.reshape(outs)))
    value = at.op(
        "ConvTranspose", *inputs, kernel_shape=kernel, strides=strides, pads=begins + ends, output_padding=beyond,
        group=group,
    )  # fmt: skip
    at.image(value, (n, outs, *out))


def _pooling(at: Step) -> None:
    n, channels, *sizes = at.shape(layout="NCHW")
    average = {1: True, 2: False}.get(int(at.arguments.get("pooling_type", 0)))
    at.need(average is not None, "has no pooling_type")
    x = at.value(layout="NCHW")
    if at.arguments.get("global_pooling"):
        at.image(at.op("GlobalAveragePool" if average else "GlobalMaxPool", x), (n, channels, 1, 1))
        return
    kernel, strides = at.sizes("kernels", 2), at.sizes("strides", 2, 1)
    dilations = at.sizes("dilations", 2, 1)
    extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    found, pads = _pads(at, sizes, extent, strides, int(at.arguments.get("round_mode", 0)) == 1)
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if dilations != [1, 1]:  # ONNX Runtime knows no quantised average with this attribute
        attributes["dilations"] = dilations
    value = at.op("AveragePool" if average else "MaxPool", x, **attributes)
    at.image(value, (n, channels, *found))


def _fully_connected(at: Step) -> None:
    """Weights [out, in, height, width], or [out, height, width, in] in a quantised graph."""
    layout = "NHWC" if at.filters == 103 else "NCHW"
    shape, weights = at.shape(layout=layout), at.source_of(1)
    outs, length = weights.shape[0], math.prod(shape[1:])
    at.need(math.prod(weights.shape[1:]) == length, f"has weights of {list(weights.shape)} for {list(shape)}")
    inputs = [at.op("Reshape", at.value(layout=layout), [shape[0], length])]
    inputs.append(at.weights(1, lambda array: array.reshape(outs, length)))
    if at.has(2):
        inputs.append(at.weights(2, lambda array: array.reshape(outs)))
    value = at.op("Gemm", *inputs, transB=1)
    if len(shape) == 4 and len(at.declared() or (0,) * 4) == 4:
        at.image(at.op("Reshape", value, [shape[0], outs, 1, 1]), (shape[0], outs, 1, 1))
    else:
        at.end(_activated(at, value), (shape[0], outs))


# Elementwise.


def _column(at: Step, place: int, rank: int) -> Any:
    """A vector input along the channels of values that lie as NCHW."""
    array = at.constant(place).reshape(-1)
    return array.reshape(-1, 1, 1) if rank == 4 else array


def _batch_norm(at: Step) -> None:
    shape, x = at.shape(layout="NCHW"), at.value(layout="NCHW")
    rank = len(shape)
    scale, offset = _column(at, 1, rank), _column(at, 2, rank)
    if at.has(4):
        mean, variance = _column(at, 3, rank), _column(at, 4, rank)
        scale = scale / np.sqrt(variance + np.float32(at.arguments.get("epsilon", 1e-4)))
        offset = offset - mean * scale
    value = at.op("Add", at.op("Mul", x, scale.astype(np.float32)), offset.astype(np.float32))
    at.end(_activated(at, value), at.shape())


def _bias_add(at: Step) -> None:
    bias = at.source_of(1)
    operand = _column(at, 1, len(at.shape())) if isinstance(bias, Constant) else at.value(1, "NCHW")
    at.end(_activated(at, at.op("Add", at.value(layout="NCHW"), operand)), at.shape())


def _activation(at: Step) -> None:
    rank = len(at.shape())
    alpha = at.graph.constant(_column(at, 1, rank)) if at.has(1) else None
    at.end(_activated(at, at.value(layout="NCHW"), alpha), at.shape())


def _broadcast(at: Step, place: int, rank: int) -> tuple[Any, Shape]:
    """An input and its NCHW shape for an operator on images of ``rank``: shorter shapes lie along the last axes."""
    shape = at.shape(place, "NCHW")
    if rank != 4 or len(shape) == 4:
        return at.value(place, "NCHW"), shape
    padded = (1,) * (4 - len(shape)) + at.shape(place)
    if at.layout == "NHWC":
        found = at.source_of(place)
        if isinstance(found, Constant):
            turned = found.real().reshape(padded).transpose(0, 3, 1, 2)
            return turned, turned.shape
        wide = at.op("Reshape", at.value(place), list(padded))
        return at.op("Transpose", wide, perm=[0, 3, 1, 2]), tuple(padded[axis] for axis in (0, 3, 1, 2))
    return at.op("Reshape", at.value(place, "NCHW"), list(padded)), padded


def _eltwise(at: Step) -> None:
    kind = int(at.arguments.get("type", -1))
    at.need(0 <= kind < len(ELTWISE), f"has the type {kind}")
    name, coefficients = ELTWISE[kind], at.arguments.get("coeff", [])
    rank = max(len(at.shape(place)) for place in range(len(at.inputs)))
    operands = [_broadcast(at, place, rank) for place in range(len(at.inputs))]
    values, nchw = [value for value, _ in operands], np.broadcast_shapes(*(shape for _, shape in operands))
    shape = nchw if len(nchw) != 4 or at.layout == "NCHW" else tuple(nchw[axis] for axis in (0, 2, 3, 1))
    single = {"NEG": "Neg", "ABS": "Abs", "SIGN": "Sign"}
    if name in single:
        at.end(_activated(at, at.op(single[name], values[0])), shape)
        return
    if name == "CLIP":
        at.need(len(coefficients) == 2, f"has the limits {coefficients}")
        at.end(_activated(at, at.op("Clip", values[0], _f(coefficients[0]), _f(coefficients[1]))), shape)
        return
    if len(values) == 1:
        scalar = at.graph.constant(_f(at.arguments.get("scalar_input", 1.0)))
        values.insert(0 if int(at.arguments.get("scalar_input_index", 1)) == 0 else 1, scalar)
    at.need(len(values) == 2, f"has {len(values)} inputs")
    a, b = values
    if name == "SUM" and coefficients:
        at.need(len(coefficients) == 2, f"has the coefficients {coefficients}")
        a, b = (
            value if factor == 1 else at.op("Mul", value, _f(factor))
            for value, factor in zip((a, b), coefficients, strict=True)
        )
    simple = {"SUM": "Add", "SUB": "Sub", "PROD": "Mul", "DIV": "Div", "MIN": "Min", "MAX": "Max", "POW": "Pow"}
    if name in simple:
        value = at.op(simple[name], a, b)
    elif name == "SQR_DIFF":
        difference = at.op("Sub", a, b)
        value = at.op("Mul", difference, difference)
    elif name == "FLOOR_DIV":
        value = at.op("Floor", at.op("Div", a, b))
    elif name in ("EQUAL", "NOT_EQUAL"):
        same = at.op("Equal", a, b)
        value = at.op("Cast", same if name == "EQUAL" else at.op("Not", same), to=ir.DataType.FLOAT)
    else:
        at.lacks(f"the type {name}")
    at.end(_activated(at, value), shape)


def _add_n(at: Step) -> None:
    value = at.value(layout="NCHW")
    for place in range(1, len(at.inputs)):
        at.need(at.shape(place) == at.shape(), f"adds {list(at.shape())} and {list(at.shape(place))}")
        value = at.op("Add", value, at.value(place, "NCHW"))
    at.end(_activated(at, value), at.shape())


def _softmax(at: Step) -> None:
    rank = len(at.shape())
    kind = "LogSoftmax" if at.arguments.get("use_log") else "Softmax"
    at.end(at.op(kind, at.value(layout="NCHW"), axis=1 if rank == 4 else rank - 1), at.shape())


def _instance_norm(at: Step) -> None:
    channels = at.shape(layout="NCHW")[1]
    own = bool(at.arguments.get("affine", at.has(2))) and at.has(2)
    scale = at.weights(1, lambda array: array.reshape(channels)) if own else np.ones(channels, np.float32)
    offset = at.weights(2, lambda array: array.reshape(channels)) if own else np.zeros(channels, np.float32)
    epsilon = float(at.arguments.get("epsilon", 1e-5))
    value = at.op("InstanceNormalization", at.value(layout="NCHW"), scale, offset, epsilon=epsilon)
    at.end(_activated(at, value), at.shape())


def _group_norm(at: Step) -> None:
    n, channels, *rest = at.shape(layout="NCHW")
    groups = int(at.arguments.get("group_num", 1))
    at.need(0 < groups <= channels and channels % groups == 0, f"has {groups} groups for {channels} channels")
    grouped = at.op("Reshape", at.value(layout="NCHW"), [n, groups, -1])
    one, zero = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    epsilon = float(at.arguments.get("epsilon", 1e-5))
    value = at.op("InstanceNormalization", grouped, one, zero, epsilon=epsilon)
    at.end(at.op("Reshape", value, [n, channels, *rest]), at.shape())


def _mv_norm(at: Step) -> None:
    axes = [1, 2, 3] if at.arguments.get("across_channels") else [2, 3]
    x = at.value(layout="NCHW")
    value = at.op("Sub", x, at.op("ReduceMean", x, axes))
    if at.arguments.get("normalize_variance", 1):
        deviation = at.op("Sqrt", at.op("ReduceMean", at.op("Mul", value, value), axes))
        value = at.op("Div", value, at.op("Add", deviation, _f(at.arguments.get("epsilon", 1e-9))))
    at.end(value, at.shape())


def _local_response_norm(at: Step) -> None:
    given = at.arguments
    size = 2 * int(given.get("depth_radius", 5)) + 1
    value = at.op(
        "LRN", at.value(layout="NCHW"), size=size, alpha=float(given.get("alpha", 1.0)) * size,
        beta=float(given.get("beta", 0.5)), bias=float(given.get("bias", 1.0)),
    )  # fmt: skip
    at.end(value, at.shape())


# Movement.


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
    fill = [_f(at.arguments.get("constant_value", 0.0))] if kind == "constant" else []
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


def _mat_mul(at: Step) -> None:
    shapes, values = [], []
    for place, name in enumerate(("transpose_a", "transpose_b")):
        shape, value = at.shape(place), at.value(place)
        at.need(len(shape) >= 2, f"multiplies {list(shape)}")
        if at.arguments.get(name):
            order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
            shape, value = (*shape[:-2], shape[-1], shape[-2]), at.op("Transpose", value, perm=order)
        shapes.append(shape)
        values.append(value)
    a, b = shapes
    at.need(a[-1] == b[-2], f"multiplies {list(a)} by {list(b)}")
    value = at.op("MatMul", *values)
    if at.has(2):
        value = at.op("Add", value, at.weights(2))
    at.end(value, (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]), at.layout)


def _cast(at: Step) -> None:
    wanted = at.definition.output_type[0] if at.definition.output_type else pb.DT_FLOAT
    kind = {pb.DT_INT32: ir.DataType.INT32, pb.DT_UINT8: ir.DataType.UINT8}.get(wanted, ir.DataType.FLOAT)
    at.end(at.op("Cast", at.value(layout="NCHW"), to=kind), at.shape())


# Sizes and reductions.


def _resize(at: Step) -> None:
    n, channels, *sizes = at.shape(layout="NCHW")
    kind = {"ResizeBilinear": "linear", "ResizeNearestNeighbor": "nearest", "ResizeBicubic": "cubic"}[
        at.definition.type
    ]
    given = at.arguments.get("size")
    if given is None and at.has(1):
        given = at.constant(1).reshape(-1).astype(int).tolist()
    if given is None or min(given) <= 0:
        factors = [float(at.arguments.get(name, 0)) for name in ("height_scale", "width_scale")]
        given = [int(size * factor) for size, factor in zip(sizes, factors, strict=True)]
    at.need(len(given) == 2 and min(given) > 0, f"makes the size {given}")
    mode = int(at.arguments.get("coordinate_transformation_mode", 0))
    where = {1: "half_pixel", 2: "pytorch_half_pixel"}.get(mode, "asymmetric")
    if at.arguments.get("half_pixel_centers"):
        where = "half_pixel"
    corners = bool(at.arguments.get("align_corners")) and mode == 0
    nearest = {"nearest_mode": "round_prefer_ceil" if corners else "floor"} if kind == "nearest" else {}
    full = [n, channels, *given]
    value = at.op(
        "Resize", at.value(layout="NCHW"), None, None, full, mode=kind,
        coordinate_transformation_mode="align_corners" if corners else where, **nearest,
    )  # fmt: skip
    at.image(value, full)


def _reduce(at: Step) -> None:
    kind, shape = int(at.arguments.get("reduce_type", 0)), at.shape()
    at.need(0 <= kind < len(REDUCE), f"has the reduce_type {kind}")
    given = at.arguments.get("axis", list(range(len(shape))))
    given = given if isinstance(given, list) else [given]
    at.need(all(-len(shape) <= axis < len(shape) for axis in given), f"has the axes {given}")
    axes = sorted({int(axis) % len(shape) for axis in given})
    if at.arguments.get("keepdims"):
        value = at.op(REDUCE[kind], at.value(layout="NCHW"), [at.map_axis(axis, len(shape)) for axis in axes])
        at.end(value, [1 if axis in axes else size for axis, size in enumerate(shape)])
        return
    value = at.op(REDUCE[kind], at.value(), axes, keepdims=0)
    at.end(value, [size for axis, size in enumerate(shape) if axis not in axes], at.layout)


def _sqr_diff_mean(at: Step) -> None:
    n, channels, *_ = at.shape(layout="NCHW")
    difference = at.op("Sub", at.value(layout="NCHW"), at.value(1, "NCHW"))
    at.image(at.op("ReduceMean", at.op("Mul", difference, difference), [2, 3]), (n, channels, 1, 1))


def _argmax(at: Step) -> None:
    shape = at.shape()
    if at.arguments.get("out_val") or int(at.arguments.get("top_k", 1)) != 1:
        at.lacks("more than the place of the greatest")
    axis = int(at.constant(1).reshape(-1)[0]) if at.has(1) else int(at.arguments.get("axis", -1))
    at.need(-len(shape) <= axis < len(shape), f"has the axis {axis}")
    axis %= len(shape)
    keep = int(at.arguments.get("keepdims", 0))
    value = at.op("ArgMin" if at.arguments.get("argmin") else "ArgMax", at.value(), axis=axis, keepdims=keep)
    full = [*shape[:axis], *([1] if keep else []), *shape[axis + 1 :]]
    at.end(at.op("Cast", value, to=ir.DataType.INT32), full, at.layout)


OPS: dict[str, Callable[[Step], None]] = {
    "Activation": _activation,
    "AddN": _add_n,
    "ArgMax": _argmax,
    "BatchNorm": _batch_norm,
    "BatchToSpaceND": _batch_to_space,
    "BiasAdd": _bias_add,
    "BufferTransform": _identity,
    "Cast": _cast,
    "ChannelShuffle": _channel_shuffle,
    "Concat": _concat,
    "Conv2D": _conv,
    "Crop": _crop,
    "Deconv2D": _deconv,
    "DepthToSpace": _depth_to_space,
    "DepthwiseConv2d": _conv,
    "DepthwiseDeconv2d": _deconv,
    "Dequantize": _identity,
    "Eltwise": _eltwise,
    "ExpandDims": _reshape,
    "FullyConnected": _fully_connected,
    "Gather": _gather,
    "GroupNorm": _group_norm,
    "Identity": _identity,
    "InstanceNorm": _instance_norm,
    "LocalResponseNorm": _local_response_norm,
    "MVNorm": _mv_norm,
    "MatMul": _mat_mul,
    "Pad": _pad,
    "Pooling": _pooling,
    "Quantize": _identity,
    "Reduce": _reduce,
    "Reshape": _reshape,
    "ResizeBicubic": _resize,
    "ResizeBilinear": _resize,
    "ResizeNearestNeighbor": _resize,
    "Softmax": _softmax,
    "SpaceToBatchND": _space_to_batch,
    "SpaceToDepth": _depth_to_space,
    "Split": _split,
    "SqrDiffMean": _sqr_diff_mean,
    "Squeeze": _reshape,
    "Stack": _stack,
    "StridedSlice": _strided_slice,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "Unstack": _unstack,
}
