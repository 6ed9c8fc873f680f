"""The portable form of a model: ONNX with where it came from, its large weights as safetensors beside it.

The weights' file is both a safetensors file and an external data file of ONNX: the model tells where in it each
tensor's bytes begin, so that readers of either kind find them.  Source: https://huggingface.co/docs/safetensors
("Format"), ``onnx.proto`` (``TensorProto.external_data``).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["LARGE", "onnx_bytes", "operators", "portable", "ports", "weights_beside"]

LARGE = 100 << 20
"""Bytes of weights from which they are written beside the model."""
_SMALL = 1 << 10
"""Bytes of a tensor below which it stays in the model."""
_ALIGN = 64
_KINDS = {
    ir.DataType.FLOAT: "F32", ir.DataType.FLOAT16: "F16", ir.DataType.BFLOAT16: "BF16", ir.DataType.DOUBLE: "F64",
    ir.DataType.INT8: "I8", ir.DataType.INT16: "I16", ir.DataType.INT32: "I32", ir.DataType.INT64: "I64",
    ir.DataType.UINT8: "U8", ir.DataType.UINT16: "U16", ir.DataType.UINT32: "U32", ir.DataType.UINT64: "U64",
    ir.DataType.BOOL: "BOOL",
}  # fmt: skip


def weights_beside(model: ir.Model, location: str) -> list[bytes | memoryview]:
    """Make the model refer to a file ``location`` for its large constants; the parts of that file, not copied.

    Constants keep their order; the model is changed in place.
    """
    tensors = {
        str(value.name): value.const_value
        for value in model.graph.initializers.values()
        if value.const_value is not None and value.const_value.nbytes >= _SMALL and value.const_value.dtype in _KINDS
    }
    header: dict[str, Any] = {"__metadata__": {"format": "onnx"}}
    end = 0
    for name, tensor in tensors.items():
        entry = {"dtype": _KINDS[tensor.dtype], "shape": list(tensor.numpy().shape)}
        header[name] = entry | {"data_offsets": [end, end + tensor.nbytes]}
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % _ALIGN)
    parts: list[bytes | memoryview] = [len(text).to_bytes(8, "little") + text]
    begin = len(parts[0])
    for name, tensor in tensors.items():
        data = np.ascontiguousarray(tensor.numpy()).reshape(-1).view(np.uint8)
        parts.append(memoryview(data))  # type: ignore[arg-type]
        outside = ir.ExternalTensor(
            location, begin, tensor.nbytes, tensor.dtype, shape=ir.Shape(tensor.numpy().shape), name=name
        )
        model.graph.initializers[name].const_value = outside
        begin += tensor.nbytes
    return parts


def portable(model: ir.Model, properties: Mapping[str, str]) -> None:
    """Give the model, in place, the types and shapes that an ONNX file tells, and ``properties`` in its metadata."""
    common.ShapeInferencePass(strict_mode=False)(model)
    model.metadata_props.update(properties)


def onnx_bytes(model: ir.Model) -> bytes:
    """The model as an ONNX file."""
    data: bytes = ir.serde.serialize_model(model).SerializeToString()
    return data


def operators(model: ir.Model) -> dict[str, int]:
    """How many nodes of each op there are, most first."""
    return dict(Counter(node.op_type for node in model.graph).most_common())


def ports(model: ir.Model) -> dict[str, list[dict[str, Any]]]:
    """Names, types and shapes of inputs and outputs, as JSON has them."""
    own = model.graph.initializers
    return {
        "inputs": [_port(value) for value in model.graph.inputs if value.name not in own],
        "outputs": [_port(value) for value in model.graph.outputs],
    }


def _port(value: ir.Value) -> dict[str, Any]:
    shape = [size if isinstance(size, int) else str(size) for size in value.shape] if value.shape is not None else None
    return {"name": value.name, "dtype": str(value.dtype.numpy()) if value.dtype else None, "shape": shape}
