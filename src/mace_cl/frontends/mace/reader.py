"""MACE's own models: a ``.pb`` graph, of either generation of its schema, and the ``.data`` file with its tensors.

A graph keeps images as MACE tells them to its users, mostly NHWC.  Inside the ONNX graph they are NCHW; inputs and
outputs have the layout that the file gives them.  Weights stored as half, bfloat16 or, in a float graph, as uint8
are read as float32.  A quantised graph becomes QuantizeLinear and DequantizeLinear around float ops.
Sources: MACE's ``mace.proto``, its converter's ``transformer.py`` and its ops.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends.formats import mace_partner
from mace_cl.frontends.graphs import GraphBuilder
from mace_cl.frontends.mace import mace_pb2 as pb
from mace_cl.frontends.mace.operators import OPS
from mace_cl.frontends.mace.step import Constant, LacksError, Step, Tensor

__all__ = ["load"]

_SHOWN = 8
_NHWC, _NCHW, _AUTO = 1, 2, 1000
_STORED: dict[int, str] = {
    pb.DT_FLOAT: "<f4", pb.DT_UINT8: "u1", pb.DT_HALF: "<f2", pb.DT_INT32: "<i4", pb.DT_FLOAT16: "<f2",
    pb.DT_BFLOAT16: "<u2", pb.DT_INT16: "<i2", pb.DT_INT8: "i1", pb.DT_UINT16: "<u2", pb.DT_UINT32: "<u4",
    pb.DT_BOOL: "?",
}  # fmt: skip
_PORTS = {pb.DT_INT32: ir.DataType.INT32, pb.DT_UINT8: ir.DataType.UINT8}


def load(source: Path | bytes, shapes: Mapping[str, Sequence[int]], weights: Path | None = None) -> ir.Model:
    """Read a graph and its tensors.

    Args:
        source: the .pb; the .data is the file of the same name beside it, or the only one there.
        shapes: shapes of inputs, which must be those of the file: MACE's graphs are static.
        weights: the .data, where it lies elsewhere.

    Raises:
        ModelError: a file is not MACE's, is damaged or missing, or the graph contradicts itself or its data.
        UnsupportedError: ops without a mapping, all of them; filters transformed for Winograd among them.
        InputError: ``shapes`` does not fit.
    """
    name = str(source) if isinstance(source, Path) else f"model of {len(source)} bytes"
    nets, ends = _nets(source.read_bytes() if isinstance(source, Path) else source, name)
    if weights is None and isinstance(source, Path):
        weights = mace_partner(source)
    stored = [tensor for net in nets for tensor in net.tensors if not (tensor.float_data or tensor.int32_data)]
    if weights is None and any(math.prod(tensor.dims) for tensor in stored):
        raise ModelError(
            f"{name}: is a graph whose {len(stored)} tensors lie in a .data file; put it beside the .pb, under the "
            "same name or as the only one"
        )
    data = memoryview(weights.read_bytes() if weights else b"")
    reader = _Reader(name, data)
    try:
        for net in sorted(nets, key=lambda net: net.infer_order):
            reader.add(net)
        return reader.model(ends, shapes)
    except LacksError as error:  # pragma: no cover - each op's is caught where it is mapped
        raise UnsupportedError(f"{name}: {error}") from error


def _nets(data: bytes, name: str) -> tuple[list[pb.NetDef], list[str]]:
    """The graphs of a file, and the names of the model's outputs where they are given.

    Both generations parse as the other; the older has operators, which are messages, where the newer has a number.
    """
    try:
        if data[:1] == b"\x0a":
            return [pb.NetDef.FromString(data)], []
        several = pb.MultiNetDef.FromString(data)
    except DecodeError as error:
        raise ModelError(f"{name}: not MACE's graph, or truncated ({error}); check that it was copied whole") from error
    if not any(net.op for net in several.net_def):
        raise ModelError(f"{name}: not MACE's graph: it has no operators")
    return list(several.net_def), list(several.output_tensor)


def arguments(holder: Any) -> dict[str, Any]:
    """Arguments of an operator or a net: numbers, bytes, or lists of them, by name."""
    found: dict[str, Any] = {}
    for one in holder.arg:
        if one.ints:
            found[one.name] = list(one.ints)
        elif one.floats:
            found[one.name] = list(one.floats)
        elif one.HasField("s"):
            found[one.name] = one.s
        elif one.HasField("f"):
            found[one.name] = one.f
        elif one.HasField("i"):
            found[one.name] = one.i
    return found


class _Reader:
    """The road from operators to a graph; a tensor that maps to None can't be had here."""

    def __init__(self, name: str, data: memoryview) -> None:
        self.name, self.data = name, data
        self.graph = GraphBuilder(Path(name).stem or "mace")
        self.tensors: dict[str, Tensor | None] = {}
        self.lacking: list[str] = []
        self.outputs: dict[str, str] = {}

    def add(self, net: pb.NetDef) -> None:
        """All operators of a graph."""
        own = arguments(net)
        source = "NCHW" if own.get("data_format") == _NCHW else "NHWC"
        constants = {tensor.name: tensor for tensor in net.tensors}
        for info in net.input_info:
            if info.name not in self.tensors:
                self._input(info)
        for op in net.op:
            self._op(op, constants, source, int(own.get("filter_format", 101)), net.data_offset)
        for info in net.output_info:
            self.outputs[info.name] = "NCHW" if info.data_format == _NCHW else "NHWC"

    def _input(self, info: pb.InputOutputInfo) -> None:
        shape = tuple(info.dims)
        if not shape or min(shape) < 1 or math.prod(shape) >= 1 << 31:
            raise ModelError(
                f"{self.name}: input {info.name!r} has the shape {list(shape)}; each size must be at least 1"
            )
        layout = "NCHW" if info.data_format == _NCHW else "NHWC"
        value = self.graph.input(info.name, _PORTS.get(info.data_type, ir.DataType.FLOAT), shape)
        self.tensors[info.name] = Tensor(self.graph, info.name, shape, layout, {layout: value})

    def _op(self, op: pb.OperatorDef, constants: dict[str, Any], source: str, filters: int, base: int) -> None:
        where = f"operator {op.name!r} ({op.type})"
        convert = OPS.get(op.type)
        for name in op.output:
            self.tensors[name] = None
        if convert is None:
            self.lacking.append(where)
            return
        inputs: list[Tensor | Constant] = []
        try:
            for name in op.input:
                if name in constants:
                    inputs.append(self._constant(constants[name], base))
                    continue
                if name not in self.tensors:
                    raise ModelError(f"{where} reads {name!r}, which no operator before it writes")
                tensor = self.tensors[name]
                if tensor is None:
                    return
                inputs.append(tensor)
            given = arguments(op)
            layout = {_NHWC: "NHWC", _AUTO: "NHWC", _NCHW: "NCHW"}.get(int(given.get("data_format", 0)), source)
            step = Step(self.graph, op, given, inputs, layout, source, filters)
            convert(step)
            for name, tensor in zip(op.output, step.outputs, strict=True):
                self.tensors[name] = tensor
        except LacksError as error:
            self.lacking.append(f"{where}: {error}")
        except ModelError as error:
            raise ModelError(f"{self.name}: {error}") from error
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise ModelError(f"{self.name}: {where} contradicts itself, its input or its tensors: {error}") from error

    def _constant(self, tensor: Any, base: int) -> Constant:
        """A constant's values, as they are stored, with what quantised them."""
        shape, kind = tuple(tensor.dims), _STORED.get(tensor.data_type)
        what = f"the tensor {tensor.name!r} of the shape {list(shape)}"
        if kind is None or min(shape, default=0) < 0:
            raise ModelError(f"{what} is of the type {tensor.data_type}, which is not known")
        count = math.prod(shape)
        if tensor.float_data:
            array: NDArray[Any] = np.frombuffer(b"".join(tensor.float_data), "<f4")
        elif tensor.int32_data:
            array = np.array(tensor.int32_data, np.int64).astype(kind if kind[-2] != "f" else "<i4")
        else:
            begin, size = base + tensor.offset, count * np.dtype(kind).itemsize
            if tensor.HasField("data_size") and tensor.data_size != count:
                raise ModelError(f"{what} has {tensor.data_size} elements")
            if begin < 0 or begin + size > len(self.data):
                raise ModelError(
                    f"{what} needs {size} bytes from byte {begin} on, but the .data has {len(self.data)}; "
                    "copy it anew: do the two files belong together?"
                )
            array = np.frombuffer(self.data[begin : begin + size], kind)
        if array.size != count:
            raise ModelError(f"{what} has {array.size} values")
        if tensor.data_type == pb.DT_BFLOAT16 and array.dtype == np.uint16:
            array = (array.astype(np.uint32) << 16).view(np.float32)
        if array.dtype.kind == "f":
            array = array.astype(np.float32, copy=False)
        quantised = (tensor.scale, tensor.zero_point) if tensor.quantized else None
        return Constant(tensor.name, array.reshape(shape), quantised)

    def model(self, ends: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> ir.Model:
        """The whole model; ``ends`` are its outputs where the file names them."""
        if self.lacking:
            more = f"; and {len(self.lacking) - _SHOWN} more" if len(self.lacking) > _SHOWN else ""
            raise UnsupportedError(
                f"{self.name}: {'; '.join(self.lacking[:_SHOWN])}{more}: mace-cl can't read these operators. Convert "
                "the model that this was made from, or ask for the operator at the project's issue tracker"
            )
        found = {}
        for name in ends or self.outputs:
            tensor = self.tensors.get(name)
            if tensor is None:
                raise ModelError(f"{self.name}: the output {name!r} is written by no operator")
            found[name] = tensor.floating(self.outputs.get(name, "NHWC"))
        if not found:
            raise ModelError(f"{self.name}: the graph names no outputs")
        return self.graph.model(found, "MACE", shapes)
