"""Writing small models of MACE by hand, and running what is read of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from mace_cl.frontends.mace import load
from mace_cl.frontends.mace import mace_pb2 as pb
from support import Array, Outputs, reference

__all__ = ["Net", "proto", "run", "save"]


def proto(model: ir.Model) -> onnx.ModelProto:
    made = ir.serde.serialize_model(model)
    onnx.checker.check_model(made, full_check=True)
    return made


def save(folder: Path, graph: bytes, data: bytes) -> Path:
    (folder / "net.pb").write_bytes(graph)
    (folder / "net.data").write_bytes(data)
    return folder / "net.pb"


class Net:
    """A MACE graph of one input ``x`` and one output ``y``, NHWC, built operator by operator."""

    def __init__(self, shape: tuple[int, ...], **arguments: int) -> None:
        self.net = pb.NetDef(name="default_graph")
        self.net.input_info.add(name="x", dims=shape, data_format=arguments.pop("io", 1))
        self.data = b""
        for name, number in ({"filter_format": 101, "data_format": 1} | arguments).items():
            self.net.arg.add(name=name, i=number)

    def tensor(self, name: str, array: Array, **quantised: Any) -> str:
        kinds = {
            "float32": pb.DT_FLOAT,
            "float16": pb.DT_HALF,
            "uint8": pb.DT_UINT8,
            "int32": pb.DT_INT32,
            "uint16": pb.DT_BFLOAT16,
        }
        self.data += bytes(-len(self.data) % 4)
        self.net.tensors.add(
            name=name,
            dims=array.shape,
            data_type=kinds[str(array.dtype)],
            offset=len(self.data),
            data_size=array.size,
            **quantised,
        )
        self.data += array.tobytes()
        return name

    def op(self, kind: str, inputs: list[str], output: str, shape: tuple[int, ...], **arguments: Any) -> None:
        op = self.net.op.add(name=f"{kind}/{output}", type=kind, input=inputs, output=[output])
        op.output_shape.add(dims=shape)
        if "quantize" in arguments:
            scale, zero = arguments.pop("quantize")
            op.quantize_info.add(scale=scale, zero_point=zero)
        for name, value in ({"T": 1, "data_format": 1000} | arguments).items():
            if isinstance(value, list) and isinstance(value[0], float):
                op.arg.add(name=name, floats=value)
            elif isinstance(value, list):
                op.arg.add(name=name, ints=value)
            elif isinstance(value, bytes):
                op.arg.add(name=name, s=value)
            elif isinstance(value, float):
                op.arg.add(name=name, f=value)
            else:
                op.arg.add(name=name, i=value)

    def save(self, folder: Path, *shape: int, old: bool = True, form: int = 1) -> Path:
        self.net.output_info.add(name="y", dims=shape, data_format=form)
        self.net.data_size = len(self.data)
        whole = self.net if old else pb.MultiNetDef(net_def=[self.net], input_tensor=["x"], output_tensor=["y"])
        return save(folder, whole.SerializeToString(), self.data)


def run(path: Path, **inputs: Array) -> Array:
    outputs: Outputs = reference(proto(load(path, {})), inputs)
    assert list(outputs) == ["y"]
    return outputs["y"]
