"""MACE's graph under construction: its tensors, operators, inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.frontends.mace import mace_pb2 as pb
from mace_cl.graph import attribute, static_shape

__all__ = ["CAFFE", "GRAPH", "ONNX", "TO_NHWC", "Graph", "LacksError", "Shape", "Written", "nhwc_axis", "perm_of"]

GRAPH = "default_graph"
_NHWC, _NCHW, _AUTO, _OIHW = 1, 2, 1000, 101
ONNX, CAFFE = 2, 1
TO_NHWC = (0, 2, 3, 1)
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Written:
    """The two files, and how many operators and tensors they hold."""

    pb: bytes
    data: bytes
    operators: int
    tensors: int


class LacksError(Exception):
    """A node that MACE has no operator for, and why."""


class Graph:
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
        for key, number in (("filter_format", _OIHW), ("data_format", _NCHW), ("framework_type", ONNX)):
            self.net.arg.add(name=key, i=number)
        self.net.arg.add(name="opencl_mem_type", i=2)
        self.net.arg.add(name="runtime_type", i=2)

    def written(self) -> Written:
        """The files."""
        self.net.data_size = len(self.data)
        several = pb.MultiNetDef(net_def=[self.net])
        several.input_tensor.extend(info.name for info in self.net.input_info)
        several.output_tensor.extend(info.name for info in self.net.output_info)
        return Written(several.SerializeToString(), bytes(self.data), len(self.net.op), len(self.net.tensors))

    def input(self, value: ir.Value) -> None:
        """An input of the model; what only turns it into NCHW needs no operator."""
        shape, name = self.shape(value), str(value.name)
        info = self.net.input_info.add(name=name, dims=shape, data_type=_port_type(value), data_format=_NCHW)
        uses = [node for node, _ in value.uses()]
        if len(shape) == 4 and uses and all(perm_of(node) == (0, 3, 1, 2) for node in uses):
            info.data_format = _NHWC
            for node in uses:
                self.done.add(node)
                self.names[node.outputs[0]] = name
        elif len(shape) != 4:
            info.data_format = _NHWC

    def output(self, value: ir.Value) -> None:
        """An output of the model, under its name."""
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
            raise LacksError(f"the shape of {value.name if value else None!r} is not known")
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
        framework: int = ONNX, **arguments: Any,
    ) -> pb.OperatorDef:  # fmt: skip
        """A new operator with one output of ``shape`` (NCHW where it is an image)."""
        image = len(shape) == 4 if image is None else image
        op = self.net.op.add(name=name, type=kind, input=inputs, output=[output])
        op.output_shape.add(dims=[shape[axis] for axis in TO_NHWC] if image and len(shape) == 4 else shape)
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


def perm_of(node: ir.Node) -> tuple[int, ...]:
    """How a Transpose turns its input; of other nodes, and of one that does not say, nothing."""
    return tuple(attribute(node, "perm", ())) if node.op_type == "Transpose" else ()


def nhwc_axis(axis: int, rank: int) -> int:
    """Where NHWC has an axis of NCHW; axes of what is no image stay."""
    return {1: 3, 2: 1, 3: 2}.get(axis, axis) if rank == 4 else axis
