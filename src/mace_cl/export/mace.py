"""A graph of ONNX ops as MACE's ``.pb`` and ``.data``, as MACE's converter writes a model that came from ONNX.

Images are NCHW in the source and NHWC in the arguments of operators whose ``data_format`` is AUTO; batch
normalisation goes into weights and activations into the operator before.  Source: MACE's ``mace.proto``, its
converter's ``onnx_converter.py`` and ``transformer.py``, and its ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import UnsupportedError
from mace_cl.frontends import mace_pb2 as pb
from mace_cl.frontends.mace_ops import ELTWISE, REDUCE
from mace_cl.graph import array_of, attribute, describe, static_shape

__all__ = ["GRAPH", "Written", "write"]

GRAPH = "default_graph"
_SHOWN = 8
_NHWC, _NCHW, _AUTO, _OIHW = 1, 2, 1000, 101
_ONNX, _CAFFE = 2, 1
_TO_NHWC = (0, 2, 3, 1)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Written:
    """The two files, and how many operators and tensors they hold."""

    pb: bytes
    data: bytes
    operators: int
    tensors: int


class _LacksError(Exception):
    """A node that MACE has no operator for, and why."""


def write(model: ir.Model, name: str, half: bool = False) -> Written:
    """The files of a simplified model (constants folded, shapes known) whose inputs are static.

    Args:
        model: what to write; its initializers are read, nothing is changed.
        name: what messages call it.
        half: store weights in two bytes each; MACE then computes with half on a GPU.

    Raises:
        UnsupportedError: nodes for which MACE has no operator, all of them.
    """
    return _Writer(model, name, half).written()


class _Writer:
    """The graph under construction.

    A value of four dimensions is an image: MACE knows it as NHWC.  ``names`` maps values to MACE's tensors, where
    they differ: what a node does that needs no operator is only another name.
    """

    def __init__(self, model: ir.Model, name: str, half: bool) -> None:
        self.model, self.name = model, name
        self.kind = pb.DT_HALF if half else pb.DT_FLOAT
        self.net = pb.NetDef(name=GRAPH, data_type=self.kind, data_offset=0, infer_order=0)
        self.data = bytearray()
        self.names: dict[ir.Value, str] = {}
        self.turned: set[ir.Value] = set()
        self.done: set[ir.Node] = set()
        self.stored: dict[tuple[str, Shape, str, bytes], str] = {}
        self.outputs = set(model.graph.outputs)

    def written(self) -> Written:
        for key, number in (("filter_format", _OIHW), ("data_format", _NCHW), ("framework_type", _ONNX)):
            self.net.arg.add(name=key, i=number)
        self.net.arg.add(name="opencl_mem_type", i=2)
        self.net.arg.add(name="runtime_type", i=2)
        lacking = []
        for value in self.model.graph.inputs:
            self._input(value)
        for node in self.model.graph:
            if node in self.done:
                continue
            convert = _NODES.get(node.op_type) if node.domain == "" else None
            try:
                if convert is None:
                    raise _LacksError("")
                convert(_Node(self, node))
            except _LacksError as error:
                lacking.append(describe(node) + (f": {error}" if str(error) else ""))
        if lacking:
            more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            raise UnsupportedError(
                f"{self.name}: {'; '.join(lacking[:_SHOWN])}{more}: MACE has no operator for these. Replace them in "
                "the model, cut it before them (--outputs), or write ONNX"
            )
        for value in self.model.graph.outputs:
            self._output(value)
        self.net.data_size = len(self.data)
        several = pb.MultiNetDef(net_def=[self.net])
        several.input_tensor.extend(info.name for info in self.net.input_info)
        several.output_tensor.extend(info.name for info in self.net.output_info)
        return Written(several.SerializeToString(), bytes(self.data), len(self.net.op), len(self.net.tensors))

    def _input(self, value: ir.Value) -> None:
        shape, name = self.shape(value), str(value.name)
        info = self.net.input_info.add(name=name, dims=shape, data_type=_port_type(value), data_format=_NCHW)
        uses = [node for node, _ in value.uses()]
        if len(shape) == 4 and uses and all(_perm(node) == (0, 3, 1, 2) for node in uses):
            info.data_format = _NHWC
            for node in uses:
                self.done.add(node)
                self.names[node.outputs[0]] = name
        elif len(shape) != 4:
            info.data_format = _NHWC

    def _output(self, value: ir.Value) -> None:
        name, shape = str(value.name), self.shape(value)
        if value.producer() is None or self.tensor(value) != name:
            self.operator("Identity", [self.tensor(value)], name, name, shape)
        layout = _NHWC if value in self.turned or len(shape) != 4 else _NCHW
        self.net.output_info.add(name=name, dims=shape, data_type=pb.DT_FLOAT, data_format=layout)

    # What nodes ask for.

    def shape(self, value: ir.Value | None) -> Shape:
        """A value's static shape."""
        shape = static_shape(value)
        if shape is None:
            raise _LacksError(f"the shape of {value.name if value else None!r} is not known")
        return shape

    def tensor(self, value: ir.Value) -> str:
        """MACE's name for a value that is not constant."""
        return self.names.get(value, str(value.name))

    def store(self, array: NDArray[Any], name: str) -> str:
        """A constant tensor; its name, which is that of an equal one where there is one."""
        whole = array.dtype.kind in "iub"
        kind, dtype = (pb.DT_INT32, "<i4") if whole else (self.kind, "<f2" if self.kind == pb.DT_HALF else "<f4")
        data = np.ascontiguousarray(array, dtype).tobytes()
        key = (name, array.shape, dtype, data[:64] if len(data) > 64 else data)
        if key in self.stored:
            return self.stored[key]
        taken = {tensor.name for tensor in self.net.tensors}
        free, number = name, 0
        while free in taken:
            number += 1
            free = f"{name}.{number}"
        self.data += bytes(-len(self.data) % 4)
        self.net.tensors.add(name=free, dims=array.shape, data_type=kind, offset=len(self.data), data_size=array.size)
        self.data += data
        if number == 0:
            self.stored[key] = free
        return free

    def operator(
        self, kind: str, inputs: Sequence[str], output: str, name: str, shape: Shape, *, image: bool | None = None,
        framework: int = _ONNX, **arguments: Any,
    ) -> pb.OperatorDef:  # fmt: skip
        """A new operator with one output of ``shape`` (NCHW where it is an image)."""
        image = len(shape) == 4 if image is None else image
        op = self.net.op.add(name=name, type=kind, input=inputs, output=[output])
        op.output_shape.add(dims=[shape[axis] for axis in _TO_NHWC] if image and len(shape) == 4 else shape)
        given = {"T": int(self.kind), "framework_type": framework, "data_format": _AUTO if image else _NCHW}
        if image and kind in _TRANSPOSABLE:
            given["has_data_format"] = 1
        for key, value in (given | arguments).items():
            argument = op.arg.add(name=key)
            if isinstance(value, (list, tuple)):
                (argument.floats if any(isinstance(one, float) for one in value) else argument.ints).extend(value)
            elif isinstance(value, bytes):
                argument.s = value
            elif isinstance(value, float):
                argument.f = value
            else:
                argument.i = int(value)
        return op


_TRANSPOSABLE = {
    "Activation", "AddN", "BiasAdd", "ChannelShuffle", "Concat", "Crop", "Eltwise", "Pad", "Reduce", "Softmax", "Split",
}  # fmt: skip


def _port_type(value: ir.Value) -> int:
    return pb.DT_INT32 if value.dtype in (ir.DataType.INT32, ir.DataType.INT64) else pb.DT_FLOAT


def _perm(node: ir.Node) -> tuple[int, ...]:
    return tuple(attribute(node, "perm", ())) if node.op_type == "Transpose" else ()


@dataclass(frozen=True)
class _Tail:
    """What follows an operator and becomes part of it."""

    last: ir.Value
    factor: NDArray[np.float64] | None
    shift: NDArray[np.float64] | None
    arguments: dict[str, Any]


class _Node:
    """A node while it is written."""

    def __init__(self, writer: _Writer, node: ir.Node) -> None:
        self.writer, self.node, self.name = writer, node, str(node.name)

    def lacks(self, why: str) -> NoReturn:
        raise _LacksError(why)

    def need(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise _LacksError(otherwise)

    def has(self, place: int) -> bool:
        return len(self.node.inputs) > place and self.node.inputs[place] is not None

    def value(self, place: int = 0) -> ir.Value:
        value = self.node.inputs[place] if len(self.node.inputs) > place else None
        if value is None:
            raise _LacksError(f"input {place} is missing")
        return value

    def shape(self, place: int = 0) -> Shape:
        return self.writer.shape(self.value(place))

    @property
    def out(self) -> ir.Value:
        return self.node.outputs[0]

    def constant(self, place: int) -> NDArray[Any] | None:
        """A constant input's values."""
        return array_of(self.node.inputs[place]) if self.has(place) else None

    def known(self, place: int, what: str) -> NDArray[Any]:
        found = self.constant(place)
        if found is None:
            raise _LacksError(f"{what} is not constant")
        return found

    def get(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def tensor(self, place: int = 0) -> str:
        """An input as a tensor of MACE: stored where it is constant."""
        array = self.constant(place)
        if array is None:
            return self.writer.tensor(self.value(place))
        return self.writer.store(array, str(self.value(place).name))

    def store(self, array: NDArray[Any], suffix: str) -> str:
        return self.writer.store(array, f"{self.name}_{suffix}")

    def alias(self, value: ir.Value) -> None:
        """The output is ``value`` under another name."""
        self.writer.names[self.out] = self.writer.tensor(value)

    def end(
        self, kind: str, inputs: Sequence[str], *, image: bool | None = None, framework: int = _ONNX, **arguments: Any
    ) -> None:
        """The operator that writes the node's output."""
        shape = self.writer.shape(self.out)
        output = str(self.out.name)
        self.writer.operator(kind, inputs, output, self.name, shape, image=image, framework=framework, **arguments)

    def ended_by(self, tail: _Tail, kind: str, inputs: Sequence[str], framework: int = _ONNX, **arguments: Any) -> None:
        """As `end`, with what follows the node in it."""
        shape = self.writer.shape(tail.last)
        given = arguments | tail.arguments
        self.writer.operator(kind, inputs, str(tail.last.name), self.name, shape, framework=framework, **given)

    def tail(self, channels: int, affine: bool = True) -> _Tail:
        """Batch normalisation and an activation after the node, where nothing else reads what is between."""
        value, factor, shift = self.out, None, None
        while True:
            uses = list(value.uses())
            if len(uses) != 1 or value in self.writer.outputs:
                return _Tail(value, factor, shift, {})
            node = uses[0][0]
            if affine and node.op_type == "BatchNormalization" and node.inputs[0] is value:
                gain, offset = _normalisation(node)
                factor = gain if factor is None else factor * gain
                shift = offset if shift is None else shift * gain + offset
                self.writer.done.add(node)
                value = node.outputs[0]
                continue
            try:
                found = _activation(node, value) if node.domain == "" else None
            except _LacksError:
                found = None
            if found is None or found["activation"] == b"PRELU":
                return _Tail(value, factor, shift, {})
            self.writer.done.add(node)
            return _Tail(node.outputs[0], factor, shift, found)


def _normalisation(node: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Batch normalisation as factor and offset for each channel."""
    arrays = [array_of(value) for value in node.inputs[1:5]]
    if any(array is None for array in arrays) or attribute(node, "training_mode", 0):
        raise _LacksError("its parameters are not constant")
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    gain = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return gain, bias - mean * gain


def _activation(node: ir.Node, value: ir.Value) -> dict[str, Any] | None:
    """The arguments of an activation that reads ``value``, None where the node is none."""
    simple = {"Relu": b"RELU", "Tanh": b"TANH", "Sigmoid": b"SIGMOID"}
    if node.op_type in simple:
        return {"activation": simple[node.op_type]}
    if node.op_type == "LeakyRelu":
        return {"activation": b"LEAKYRELU", "activation_coefficient": float(attribute(node, "alpha", 0.01))}
    if node.op_type == "Elu":
        return {"activation": b"ELU", "activation_coefficient": float(attribute(node, "alpha", 1.0))}
    if node.op_type == "Clip" and node.inputs[0] is value:
        low, high = _limits(node)
        if low == 0:
            return {"activation": b"RELU"} if np.isinf(high) else {"activation": b"RELUX", "max_limit": high}
    return None


def _limits(node: ir.Node) -> tuple[float, float]:
    found = [-np.inf, np.inf]
    for place in (1, 2):
        if len(node.inputs) > place and node.inputs[place] is not None:
            array = array_of(node.inputs[place])
            if array is None:
                raise _LacksError("its limits are not constant")
            found[place - 1] = float(array.reshape(-1)[0])
    found[0] = float(attribute(node, "min", found[0]))
    found[1] = float(attribute(node, "max", found[1]))
    return found[0], found[1]


# Windows.


def _window(at: _Node, kernel: Sequence[int], counted: bool = False) -> tuple[str, dict[str, Any]]:
    """The input and the arguments of a window; padding that MACE can't tell becomes an operator before it."""
    sizes = at.shape()[2:]
    at.need(len(sizes) == 2, "only rows and columns")
    strides = [int(one) for one in at.get("strides") or [1, 1]]
    dilations = [int(one) for one in at.get("dilations") or [1, 1]]
    at.need(all(d == 1 or s == 1 for d, s in zip(dilations, strides, strict=True)), "strides and dilations together")
    automatic = at.get("auto_pad", "NOTSET")
    pads = [int(one) for one in at.get("pads") or [0] * 4]
    if automatic == "VALID":
        pads = [0] * 4
    elif automatic != "NOTSET":
        extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        total = [max(0, ((size - 1) // s) * s + e - size) for size, s, e in zip(sizes, strides, extent, strict=True)]
        begins = [t // 2 if automatic == "SAME_UPPER" else t - t // 2 for t in total]
        pads = begins + [t - b for t, b in zip(total, begins, strict=True)]
    name = at.tensor()
    totals = [pads[0] + pads[2], pads[1] + pads[3]]
    if any(pads[axis] != totals[axis] // 2 for axis in (0, 1)) or (counted and any(totals)):
        at.need(at.node.op_type == "Conv" or counted, f"the padding {pads}")
        n, c, h, w = at.shape()
        full = (n, c, h + totals[0], w + totals[1])
        paddings = [0, 0, pads[0], pads[2], pads[1], pads[3], 0, 0]
        padded = f"{at.name}/padded"
        at.writer.operator("Pad", [name], padded, padded, full, paddings=paddings, constant_value=0.0)
        name, totals = padded, [0, 0]
    return name, {"strides": strides, "dilations": dilations, "padding_values": totals}


def _weights(at: _Node, tail: _Tail, weights: NDArray[Any], axis: int, bias: NDArray[Any] | None) -> list[str]:
    """Weights and, where there is one, bias, with what follows in them; ``axis`` is that of the outputs."""
    outs = weights.shape[axis]
    shift = None if bias is None else bias.astype(np.float64).reshape(-1)
    if tail.factor is not None:
        along = [1] * weights.ndim
        along[axis] = outs
        weights = weights.astype(np.float64) * tail.factor.reshape(along)
        shift = np.zeros(outs) if shift is None else shift * tail.factor
    if tail.shift is not None:
        shift = tail.shift if shift is None else shift + tail.shift
    stored = [weights.astype(np.float32), *([shift.astype(np.float32)] if shift is not None else [])]
    return [at.store(array, word) for array, word in zip(stored, ("filter", "bias"), strict=False)]


def _conv(at: _Node) -> None:
    weights, bias = at.known(1, "its filter"), at.known(2, "its bias") if at.has(2) else None
    at.need(weights.ndim == 4, "only rows and columns")
    group, channels = int(at.get("group", 1)), at.shape()[1]
    tail = at.tail(weights.shape[0])
    if group == 1:
        name, arguments = _window(at, weights.shape[2:])
        at.ended_by(tail, "Conv2D", [name, *_weights(at, tail, weights, 0, bias)], group=1, **arguments)
        return
    at.need(group == channels and weights.shape[1] == 1, f"{group} groups for {channels} channels")
    name, arguments = _window(at, weights.shape[2:])
    multiplier = weights.shape[0] // channels
    scaled = weights if tail.factor is None else weights * tail.factor.reshape(-1, 1, 1, 1)
    turned = scaled.reshape(channels, multiplier, *weights.shape[2:]).transpose(1, 0, 2, 3)
    shift = None if bias is None else bias.astype(np.float64)
    if tail.factor is not None:
        shift = None if shift is None else shift * tail.factor
    if tail.shift is not None:
        shift = tail.shift if shift is None else shift + tail.shift
    inputs = [name, at.store(turned.astype(np.float32), "filter")]
    if shift is not None:
        inputs.append(at.store(shift.astype(np.float32), "bias"))
    at.ended_by(tail, "DepthwiseConv2d", inputs, group=1, **arguments)


def _conv_transpose(at: _Node) -> None:
    weights, bias = at.known(1, "its filter"), at.known(2, "its bias") if at.has(2) else None
    group, channels = int(at.get("group", 1)), at.shape()[1]
    at.need(weights.ndim == 4 and at.get("auto_pad", "NOTSET") == "NOTSET", "only rows and columns, and explicit pads")
    at.need(not any(at.get("output_padding") or ()) and not at.get("output_shape"), "an output padding or shape")
    at.need(all(one == 1 for one in at.get("dilations") or [1]), "dilations")
    at.need(group == 1 or (group == channels and weights.shape[1] == 1), f"{group} groups for {channels} channels")
    pads = [int(one) for one in at.get("pads") or [0] * 4]
    totals = [pads[0] + pads[2], pads[1] + pads[3]]
    at.need(all(pads[axis] == totals[axis] // 2 for axis in (0, 1)), f"the padding {pads}")
    tail = at.tail(weights.shape[1] * group)
    if group == 1:
        stored = _weights(at, tail, weights.transpose(1, 0, 2, 3), 0, bias)
        kind = "Deconv2D"
    else:
        stored = _weights(at, tail, weights.transpose(1, 0, 2, 3), 1, bias)
        kind = "DepthwiseDeconv2d"
    strides = [int(one) for one in at.get("strides") or [1, 1]]
    # Caffe's order of inputs: x, filter, bias
    at.ended_by(
        tail,
        kind,
        [at.tensor(), *stored],
        _CAFFE,
        strides=strides,
        padding_values=totals,
        group=group,
        dilations=[1, 1],
    )


def _pool(at: _Node) -> None:
    average = at.node.op_type == "AveragePool"
    kernel = [int(one) for one in at.get("kernel_shape")]
    at.need(len(at.node.outputs) == 1 or not at.node.outputs[1].uses(), "the places of the maxima")
    counted, up = average and bool(at.get("count_include_pad", 0)), int(at.get("ceil_mode", 0))
    at.need(not (counted and up), "an average that counts the padding, rounded up")
    name, arguments = _window(at, kernel, counted)
    rounding: dict[str, Any] = {"round_mode": 1} if up else {}
    at.end(
        "Pooling",
        [name],
        pooling_type=1 if average else 2,
        kernels=kernel,
        **arguments,
        **rounding,
    )


def _global_pool(at: _Node) -> None:
    shape = at.shape()
    at.need(len(shape) == 4, "only rows and columns")
    average = at.node.op_type == "GlobalAveragePool"
    at.end(
        "Pooling", [at.tensor()], pooling_type=1 if average else 2, kernels=list(shape[2:]), strides=[1, 1],
        dilations=[1, 1], padding=0,
    )  # fmt: skip


def _linear(at: _Node) -> None:
    """Gemm, or MatMul with a constant matrix: FullyConnected, which is for images."""
    b, shape = at.constant(1), at.shape()
    if b is None or b.ndim != 2 or len(shape) != 2:
        at.need(at.node.op_type == "MatMul", "a matrix that is not constant")
        _mat_mul(at)
        return
    scale, turned = 1.0, False
    if at.node.op_type == "Gemm":
        at.need(not at.get("transA", 0) and at.get("beta", 1.0) == 1.0, "a transposed input, or beta")
        scale, turned = float(at.get("alpha", 1.0)), bool(at.get("transB", 0))
    matrix = (b if turned else b.T) * np.float32(scale)
    bias = at.known(2, "its bias") if at.has(2) else None
    outs, length = matrix.shape
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1), (outs,))
    source = at.value()
    dims: Shape = (length, 1, 1)
    before = source.producer()
    image = before.inputs[0] if before is not None and before.op_type in ("Flatten", "Reshape") else None
    if image is not None and len(self_shape := at.writer.shape(image)) == 4 and self_shape[0] == shape[0]:
        name, dims = at.writer.tensor(image), self_shape[1:]
    else:
        name = f"{at.name}/image"
        wide = (shape[0], length, 1, 1)
        at.writer.operator("Reshape", [at.tensor(), at.store(np.array(wide), "shape")], name, name, wide, image=False)
    tail = at.tail(outs, affine=False)
    inputs = [name, *_weights(at, tail, matrix.reshape(outs, *dims), 0, bias)]
    flat, inner = str(tail.last.name), f"{at.name}/connected"
    at.writer.operator("FullyConnected", inputs, inner, at.name, (shape[0], outs, 1, 1), **tail.arguments)
    full = (shape[0], outs)
    at.writer.operator("Reshape", [inner, at.store(np.array(full), "flat")], flat, f"{at.name}/flat", full)


def _mat_mul(at: _Node) -> None:
    at.need(all(len(at.shape(place)) in (2, 3) for place in (0, 1)), "more than three dimensions")
    at.end("MatMul", [at.tensor(0), at.tensor(1)], image=False, transpose_a=0, transpose_b=0)


# Elementwise.


def _batch_normalization(at: _Node) -> None:
    gain, offset = _normalisation(at.node)
    tail = at.tail(len(gain), affine=False)
    stored = [at.store(array.astype(np.float32), word) for array, word in ((gain, "scale"), (offset, "offset"))]
    at.ended_by(tail, "BatchNorm", [at.tensor(), *stored])


def _activate(at: _Node) -> None:
    found = _activation(at.node, at.value())
    if found is None:  # Clip with other limits
        low, high = _limits(at.node)
        greatest = float(np.finfo(np.float32).max)
        at.end("Eltwise", [at.tensor()], type=ELTWISE.index("CLIP"), coeff=[max(low, -greatest), min(high, greatest)])
        return
    at.end("Activation", [at.tensor()], **found)


def _hard_sigmoid(at: _Node) -> None:
    """max(0, min(1, αx + β)), of operators that every MACE has."""
    alpha, beta = (1 / 6, 0.5) if at.node.op_type == "HardSwish" else (at.get("alpha", 0.2), at.get("beta", 0.5))
    shape, x = at.shape(), at.tensor()
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("PROD", {"scalar_input": float(alpha), "scalar_input_index": 1}),
        ("SUM", {"scalar_input": float(beta), "scalar_input_index": 1}),
        ("CLIP", {"coeff": [0.0, 1.0]}),
    )
    value = x
    swish = at.node.op_type == "HardSwish"
    for place, (kind, arguments) in enumerate(steps):
        last = place == len(steps) - 1 and not swish
        output = str(at.out.name) if last else f"{at.name}/{kind.lower()}"
        at.writer.operator(
            "Eltwise", [value], output, at.name if last else output, shape, type=ELTWISE.index(kind), **arguments
        )
        value = output
    if swish:
        at.end("Eltwise", [x, value], type=ELTWISE.index("PROD"))


def _prelu(at: _Node) -> None:
    slope, shape = at.known(1, "its slopes"), at.shape()
    channels = shape[1]
    at.need(slope.size in (1, channels) and len(shape) == 4, f"slopes of the shape {list(slope.shape)}")
    stored = at.store(np.broadcast_to(slope.reshape(-1), (channels,)), "alpha")
    at.end("Activation", [at.tensor(), stored], activation=b"PRELU")


def _scalar(kind: str, number: float) -> Callable[[_Node], None]:
    def convert(at: _Node) -> None:
        at.end("Eltwise", [at.tensor()], type=ELTWISE.index(kind), scalar_input=number, scalar_input_index=1)

    return convert


def _single(kind: str) -> Callable[[_Node], None]:
    def convert(at: _Node) -> None:
        at.end("Eltwise", [at.tensor()], type=ELTWISE.index(kind))

    return convert


def _binary(kind: str) -> Callable[[_Node], None]:
    """Two operands, of which one may be a number, or a constant for each channel."""

    def convert(at: _Node) -> None:
        at.need(len(at.node.inputs) in (1, 2), "more than two inputs")
        if len(at.node.inputs) == 1:
            at.alias(at.value())
            return
        dtype = at.value().dtype
        at.need(dtype is None or dtype.is_floating_point(), "whole numbers")
        out, number = at.writer.shape(at.out), ELTWISE.index(kind)
        for place in (0, 1):
            array, other = at.constant(place), 1 - place
            if array is None:
                continue
            if array.size == 1 and at.shape(other) == out:
                scalar = float(array.reshape(-1)[0])
                at.end("Eltwise", [at.tensor(other)], type=number, scalar_input=scalar, scalar_input_index=place)
                return
            full = (1,) * (len(out) - array.ndim) + array.shape
            if len(out) == 4 and full == (1, out[1], 1, 1) and at.shape(other) == out:
                stored = at.store(array.reshape(-1), "operand")
                if kind == "SUM":
                    at.end("BiasAdd", [at.tensor(other), stored], axis=1)
                else:
                    pair = [at.tensor(other), stored]
                    at.end("Eltwise", pair if place else pair[::-1], type=number)
                return
            at.need(array.ndim == len(out), f"a constant of the shape {list(array.shape)}")
        at.need(len(at.shape(0)) == len(at.shape(1)), f"the shapes {list(at.shape(0))} and {list(at.shape(1))}")
        at.end("Eltwise", [at.tensor(0), at.tensor(1)], type=number)

    return convert


def _sum(at: _Node) -> None:
    at.need(all(at.shape(place) == at.shape() for place in range(len(at.node.inputs))), "shapes that differ")
    at.end("AddN", [at.tensor(place) for place in range(len(at.node.inputs))])


def _softmax(at: _Node) -> None:
    shape = at.shape()
    rank = len(shape)
    axis = int(at.get("axis", -1)) % rank
    arguments: dict[str, Any] = {"use_log": 1} if at.node.op_type == "LogSoftmax" else {}
    if axis == (1 if rank == 4 else rank - 1) and rank in (2, 3, 4):
        at.end("Softmax", [at.tensor()], **arguments)
        return
    at.need(axis == rank - 1, f"the axis {axis} of {rank}")
    rows = (math.prod(shape[:-1]), shape[-1])
    flat, made = f"{at.name}/rows", f"{at.name}/softmax"
    at.writer.operator("Reshape", [at.tensor(), at.store(np.array(rows), "rows")], flat, flat, rows)
    at.writer.operator("Softmax", [flat], made, made, rows, **arguments)
    at.end("Reshape", [made, at.store(np.array(shape), "shape")], image=False)


def _instance_normalization(at: _Node) -> None:
    at.need(len(at.shape()) == 4, "only images")
    stored = [at.store(at.known(place, "a parameter"), word) for place, word in ((1, "scale"), (2, "offset"))]
    epsilon = float(at.get("epsilon", 1e-5))
    at.end("InstanceNorm", [at.tensor(), *stored], affine=1, epsilon=epsilon)


def _lrn(at: _Node) -> None:
    size = int(at.get("size"))
    at.need(size % 2 == 1 and len(at.shape()) == 4, f"the size {size}")
    at.end(
        "LocalResponseNorm", [at.tensor()], depth_radius=size // 2, alpha=float(at.get("alpha", 1e-4)) / size,
        beta=float(at.get("beta", 0.75)), bias=float(at.get("bias", 1.0)),
    )  # fmt: skip


# Movement.


def _nhwc_axis(axis: int, rank: int) -> int:
    return {1: 3, 2: 1, 3: 2}.get(axis, axis) if rank == 4 else axis


def _identity(at: _Node) -> None:
    at.alias(at.value())


def _concat(at: _Node) -> None:
    rank = len(at.shape())
    axis = _nhwc_axis(int(at.get("axis")) % rank, rank)
    at.end("Concat", [at.tensor(place) for place in range(len(at.node.inputs))], axis=axis)


def _split(at: _Node) -> None:
    shape, outputs = at.shape(), at.node.outputs
    axis = int(at.get("axis", 0)) % len(shape)
    at.need(shape[axis] % len(outputs) == 0, "uneven pieces")
    at.need(len({at.writer.shape(one) for one in outputs}) == 1, "uneven pieces")
    full = at.writer.shape(outputs[0])
    op = at.writer.operator(
        "Split", [at.tensor()], str(outputs[0].name), at.name, full, axis=_nhwc_axis(axis, len(shape)),
        num_split=len(outputs),
    )  # fmt: skip
    for other in outputs[1:]:
        op.output.append(str(other.name))
        op.output_shape.add(dims=op.output_shape[0].dims)


def _reshape(at: _Node) -> None:
    shape = at.writer.shape(at.out)
    if _shuffled(at):
        return
    readers = [node for node, _ in at.out.uses()]
    if len(at.shape()) == 4 and len(shape) == 2 and readers and at.out not in at.writer.outputs:
        matrices = [array_of(node.inputs[1]) for node in readers if node.op_type in ("Gemm", "MatMul")]
        if len(matrices) == len(readers) and all(matrix is not None and matrix.ndim == 2 for matrix in matrices):
            return  # FullyConnected reads the image itself
    at.end("Reshape", [at.tensor(), at.store(np.array(shape), "shape")], image=False)


def _shuffled(at: _Node) -> bool:
    """A shuffle of channels: [N, C, H, W] as [N, g, C/g, H, W], turned, and back."""
    shape, wide = at.shape(), at.writer.shape(at.out)
    if len(shape) != 4 or len(wide) != 5 or wide[0] != shape[0] or wide[3:] != shape[2:] or len(at.out.uses()) != 1:
        return False
    turn = next(iter(at.out.uses()))[0]
    if _perm(turn) != (0, 2, 1, 3, 4) or len(turn.outputs[0].uses()) != 1:
        return False
    back = next(iter(turn.outputs[0].uses()))[0]
    if back.op_type != "Reshape" or at.writer.shape(back.outputs[0]) != shape:
        return False
    at.writer.done |= {turn, back}
    output = str(back.outputs[0].name)
    at.writer.operator("ChannelShuffle", [at.tensor()], output, at.name, shape, group=wide[1])
    return True


def _transpose(at: _Node) -> None:
    perm, rank = _perm(at.node), len(at.shape())
    perm = perm or tuple(reversed(range(rank)))
    if perm == _TO_NHWC and at.out in at.writer.outputs and not at.out.uses():
        source = at.value()
        made = source.producer()
        # the operator before may be the only one to write what is put out: its output takes the name
        if made is not None and len(source.uses()) == 1 and source not in at.writer.outputs:
            old, new = at.writer.tensor(source), str(at.out.name)
            for op in at.writer.net.op:
                for place, name in enumerate(op.output):
                    if name == old:
                        op.output[place] = new
                        at.writer.turned.add(at.out)
                        return
    at.end("Transpose", [at.tensor()], image=False, dims=list(perm))


def _slice(at: _Node) -> None:
    shape = at.shape()
    starts, ends = (at.known(place, "a limit").astype(int).tolist() for place in (1, 2))
    axes = at.known(3, "an axis").astype(int).tolist() if at.has(3) else list(range(len(starts)))
    steps = at.known(4, "a step").astype(int).tolist() if at.has(4) else [1] * len(starts)
    at.need(min(steps) > 0, "goes backwards")
    full = [slice(None)] * len(shape)
    for axis, begin, end, step in zip(axes, starts, ends, steps, strict=True):
        full[axis % len(shape)] = slice(begin, end, step)
    ranges = [range(size)[part] for size, part in zip(shape, full, strict=True)]
    words = ("begin", "end", "strides")
    numbers = ([one.start for one in ranges], [one.stop for one in ranges], [one.step for one in ranges])
    stored = [at.store(np.array(one), word) for one, word in zip(numbers, words, strict=True)]
    at.end("StridedSlice", [at.tensor(), *stored], image=False)


def _gather(at: _Node) -> None:
    index = at.known(1, "its index")
    axis = int(at.get("axis", 0)) % len(at.shape())
    if index.ndim == 0:
        shape = at.shape()
        place = int(index) % shape[axis]
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = place, place + 1
        limits = zip((begin, end, [1] * len(shape)), ("begin", "end", "strides"), strict=True)
        stored = [at.store(np.array(one), word) for one, word in limits]
        at.end("StridedSlice", [at.tensor(), *stored], image=False, shrink_axis_mask=1 << axis)
        return
    at.end("Gather", [at.tensor(), at.store(index % at.shape()[axis], "index")], image=False, axis=axis)


def _tile(at: _Node) -> None:
    at.end("Tile", [at.tensor(), at.store(at.known(1, "its repeats"), "repeats")], image=False)


def _pad(at: _Node) -> None:
    shape, mode = at.shape(), at.get("mode", "constant")
    pads = [int(one) for one in at.known(1, "its pads").reshape(-1)]
    at.need(len(shape) == 4 and len(pads) == 8 and min(pads) >= 0 and not at.has(3), f"the pads {pads}")
    at.need(mode in ("constant", "reflect"), f"the mode {mode}")
    order = _TO_NHWC
    paddings = [one for axis in order for one in (pads[axis], pads[axis + 4])]
    fill = float(at.known(2, "its value").reshape(-1)[0]) if at.has(2) else 0.0
    at.end("Pad", [at.tensor()], paddings=paddings, constant_value=fill, pad_type=0 if mode == "constant" else 1)


def _depth_to_space(at: _Node) -> None:
    at.need(at.get("mode", "DCR") == "DCR", "the mode CRD")
    at.end(at.node.op_type, [at.tensor()], block_size=int(at.get("blocksize")))


# Sizes and reductions.


def _resize(at: _Node) -> None:
    shape, full = at.shape(), at.writer.shape(at.out)
    mode, where = at.get("mode", "nearest"), at.get("coordinate_transformation_mode", "half_pixel")
    at.need(len(shape) == 4 and shape[:2] == full[:2], "only rows and columns")
    at.need(not at.get("antialias", 0), "antialias")
    if at.node.op_type == "Upsample":
        where = "asymmetric"
    size = list(full[2:])
    exact = all(b % a == 0 for a, b in zip(shape[2:], full[2:], strict=True))
    scales: dict[str, Any] = {"height_scale": full[2] / shape[2], "width_scale": full[3] / shape[3]}
    if mode == "nearest":
        rounding = at.get("nearest_mode", "round_prefer_floor")
        if at.node.op_type == "Upsample":
            rounding = "floor"
        plain = where == "asymmetric" and rounding == "floor"
        # half a pixel, rounded, repeats pixels as floor does where the factor is whole
        repeats = (
            exact and where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric") and "round" in rounding
        )
        corners = where == "align_corners" and rounding == "round_prefer_ceil"
        at.need(
            plain or repeats or corners or (exact and where == "asymmetric" and rounding == "floor"),
            f"{where}, {rounding}",
        )
        stored = at.store(np.array(size), "size")
        at.end("ResizeNearestNeighbor", [at.tensor(), stored], align_corners=int(corners), **scales)
        return
    modes = {"asymmetric": 0, "half_pixel": 1, "pytorch_half_pixel": 2, "align_corners": 0}
    at.need(where in modes, f"the mode {where}")
    arguments: dict[str, Any] = {
        "size": size,
        "align_corners": int(where == "align_corners"),
        "coordinate_transformation_mode": modes[where],
    }
    if mode == "linear":
        at.end("ResizeBilinear", [at.tensor()], half_pixel_centers=int(where == "half_pixel"), **arguments)
        return
    at.need(mode == "cubic" and at.get("cubic_coeff_a", -0.75) == -0.75, f"the mode {mode}")
    at.need(where in ("asymmetric", "align_corners") and not at.get("exclude_outside", 0), f"the mode {where}")
    at.end("ResizeBicubic", [at.tensor()], **arguments)


def _reduce(at: _Node) -> None:
    rank = len(at.shape())
    given = at.known(1, "its axes").astype(int).tolist() if at.has(1) else at.get("axes")
    at.need(given is not None or not at.get("noop_with_empty_axes", 0), "no axes")
    axes = sorted(axis % rank for axis in (given if given else range(rank)))
    keep = int(at.get("keepdims", 1))
    kind = REDUCE.index(at.node.op_type)
    if keep:
        turned = sorted(_nhwc_axis(axis, rank) for axis in axes)
        at.end("Reduce", [at.tensor()], reduce_type=kind, axis=turned, keepdims=1)
    else:
        at.end("Reduce", [at.tensor()], image=False, reduce_type=kind, axis=axes, keepdims=0)


_NODES: dict[str, Callable[[_Node], None]] = {
    "Abs": _single("ABS"),
    "Add": _binary("SUM"),
    "AveragePool": _pool,
    "BatchNormalization": _batch_normalization,
    "Clip": _activate,
    "Concat": _concat,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Div": _binary("DIV"),
    "Dropout": _identity,
    "Elu": _activate,
    "Flatten": _reshape,
    "Gather": _gather,
    "Gemm": _linear,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_sigmoid,
    "Identity": _identity,
    "InstanceNormalization": _instance_normalization,
    "LRN": _lrn,
    "LeakyRelu": _activate,
    "LogSoftmax": _softmax,
    "MatMul": _linear,
    "Max": _binary("MAX"),
    "MaxPool": _pool,
    "Min": _binary("MIN"),
    "Mul": _binary("PROD"),
    "Neg": _single("NEG"),
    "PRelu": _prelu,
    "Pad": _pad,
    "Pow": _binary("POW"),
    "Reciprocal": _scalar("POW", -1.0),
    "Relu": _activate,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _activate,
    "Sign": _single("SIGN"),
    "Slice": _slice,
    "Softmax": _softmax,
    "SpaceToDepth": _depth_to_space,
    "Split": _split,
    "Sqrt": _scalar("POW", 0.5),
    "Squeeze": _reshape,
    "Sub": _binary("SUB"),
    "Sum": _sum,
    "Tanh": _activate,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    "Upsample": _resize,
}
