"""Writing small TensorFlow Lite models; slots and codes are those of TensorFlow's ``schema.fbs``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import ml_dtypes
import numpy as np

from mace_cl.frontends.tflite.file import OPERATORS, TYPES
from support import Array, Outputs

__all__ = ["Net", "litert"]

OPTIONS = {
    "CONV_2D": 1, "DEPTHWISE_CONV_2D": 2, "AVERAGE_POOL_2D": 5, "MAX_POOL_2D": 5, "L2_POOL_2D": 5, "FULLY_CONNECTED":
    8, "SOFTMAX": 9, "CONCATENATION": 10, "ADD": 11, "L2_NORMALIZATION": 12, "LOCAL_RESPONSE_NORMALIZATION": 13,
    "RESIZE_BILINEAR": 15, "RESHAPE": 17, "SPACE_TO_DEPTH": 19, "MUL": 21, "PAD": 22, "GATHER": 23,
    "BATCH_TO_SPACE_ND": 24, "SPACE_TO_BATCH_ND": 25, "TRANSPOSE": 26, "MEAN": 27, "SUM": 27, "REDUCE_MAX": 27,
    "REDUCE_MIN": 27, "REDUCE_PROD": 27, "REDUCE_ANY": 27, "REDUCE_ALL": 27, "SUB": 28, "DIV": 29, "SQUEEZE": 30,
    "STRIDED_SLICE": 32, "EXP": 33, "TOPK_V2": 34, "SPLIT": 35, "LOG_SOFTMAX": 36, "CAST": 37, "DEQUANTIZE": 38,
    "MAXIMUM": 39, "MINIMUM": 39, "ARG_MAX": 40, "LESS": 41, "NEG": 42, "PADV2": 43, "GREATER": 44, "GREATER_EQUAL":
    45, "LESS_EQUAL": 46, "SELECT": 47, "SLICE": 48, "TRANSPOSE_CONV": 49, "TILE": 51, "EXPAND_DIMS": 52, "EQUAL": 53,
    "NOT_EQUAL": 54, "SHAPE": 55, "POW": 56, "ARG_MIN": 57, "FAKE_QUANT": 58, "PACK": 59, "LOGICAL_OR": 60, "ONE_HOT":
    61, "LOGICAL_AND": 62, "LOGICAL_NOT": 63, "UNPACK": 64, "FLOOR_DIV": 65, "SQUARE": 66, "ZEROS_LIKE": 67, "FILL":
    68, "UNIDIRECTIONAL_SEQUENCE_LSTM": 71, "FLOOR_MOD": 72, "RANGE": 73, "RESIZE_NEAREST_NEIGHBOR": 74, "LEAKY_RELU":
    75, "SQUARED_DIFFERENCE": 76, "MIRROR_PAD": 77, "ABS": 78, "SPLIT_V": 79, "REVERSE_V2": 81, "ADD_N": 82,
    "GATHER_ND": 83, "COS": 84, "WHERE": 85, "RANK": 86, "QUANTIZE": 89, "HARD_SWISH": 91, "IF": 92, "WHILE": 93,
    "DEPTH_TO_SPACE": 94, "NON_MAX_SUPPRESSION_V4": 95, "SCATTER_ND": 97, "SELECT_V2": 98, "BATCH_MATMUL": 101,
    "CUMSUM": 102, "BROADCAST_TO": 104, "CONV_3D": 106, "GELU": 116, "SIGN": 123,
    "REVERSE_SEQUENCE": 87,
}  # fmt: skip
"""Code of the type of options by operator."""


@dataclass
class _Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: Any
    data: Array | None
    scales: Sequence[float]
    zeros: Sequence[int]
    axis: int
    signature: Sequence[int] | None
    variable: bool
    share: int | None


@dataclass
class Net:
    """A model under construction: tensors are known by their index."""

    tensors: list[_Tensor] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    operators: list[tuple[str, Sequence[int], Sequence[int], Mapping[int, tuple[str, Any]], bytes]] = field(
        default_factory=list
    )
    others: list[Net] = field(default_factory=list)

    def tensor(
        self, name: str, shape: Sequence[int], dtype: Any = np.float32, data: Array | None = None, *,
        scales: Sequence[float] | float = (), zeros: Sequence[int] | int = 0, axis: int = 0,
        signature: Sequence[int] | None = None, variable: bool = False, share: int | None = None,
    ) -> int:  # fmt: skip
        """A tensor; quantised with ``scales``. It may share the data of another."""
        each = [scales] if isinstance(scales, float) else list(scales)
        zero = [zeros] * len(each) if isinstance(zeros, int) else list(zeros)
        self.tensors.append(_Tensor(name, tuple(shape), dtype, data, each, zero, axis, signature, variable, share))
        return len(self.tensors) - 1

    def input(self, name: str, shape: Sequence[int], dtype: Any = np.float32, **more: Any) -> int:
        self.inputs.append(self.tensor(name, shape, dtype, **more))
        return self.inputs[-1]

    def constant(self, array: Array | Sequence[Any], dtype: Any = None, **more: Any) -> int:
        data = np.asarray(array, dtype)
        if data.dtype == np.float64:
            data = data.astype(np.float32)
        if dtype is None and data.dtype == np.int64:
            data = data.astype(np.int32)
        return self.tensor(f"constant{len(self.tensors)}", data.shape, data.dtype.type, data, **more)

    def op(
        self, name: str, inputs: Sequence[int], outputs: int | Sequence[int],
        options: Mapping[int, tuple[str, Any]] | None = None, custom: bytes = b"",
    ) -> int:  # fmt: skip
        """An operator; ``options`` are (type, value) by slot. Gives the first output."""
        made = [outputs] if isinstance(outputs, int) else list(outputs)
        self.operators.append((name, list(inputs), made, options or {}, custom))
        return made[0]

    def build(self) -> bytes:
        """The file."""
        builder = flatbuffers.Builder(1024)
        nets = [self, *self.others]
        codes = sorted({operator[0] for net in nets for operator in net.operators})
        arrays: list[bytes] = [b""]
        subgraphs = [net._subgraph(builder, codes, arrays) for net in nets]
        buffers = [
            _table(builder, {0: ("o", _bytes(builder, data))} if data else {}) for data in arrays
        ]  # fmt: skip
        made = []
        for code in codes:
            number = OPERATORS.index(code) if code in OPERATORS else OPERATORS.index("CUSTOM")
            slots: dict[int, tuple[str, Any]] = {
                0: ("b", min(number, 127)),
                2: ("i", 2 if code == "BROADCAST_TO" else 1),
                3: ("i", number),
            }
            if code not in OPERATORS:
                slots[1] = ("o", builder.CreateString(code))
            made.append(_table(builder, slots))
        vectors = [_offsets(builder, offsets) for offsets in (made, subgraphs, buffers)]
        root = _table(
            builder, {0: ("I", 3), 1: ("o", vectors[0]), 2: ("o", vectors[1]), 4: ("o", vectors[2])}
        )  # fmt: skip
        builder.Finish(root, b"TFL3")
        return bytes(builder.Output())

    def _subgraph(self, builder: Any, codes: list[str], arrays: list[bytes]) -> int:
        places: list[int] = []
        tensors = []
        for one in self.tensors:
            if one.data is not None:
                arrays.append(_packed(one))
            places.append(places[one.share] if one.share is not None else (len(arrays) - 1) * (one.data is not None))
            tensors.append(_tensor(builder, one, places[-1]))
        operators = []
        for name, inputs, outputs, options, custom in self.operators:
            slots: dict[int, tuple[str, Any]] = {
                0: ("I", codes.index(name)),
                1: ("o", _numbers(builder, inputs, "i")),
                2: ("o", _numbers(builder, outputs, "i")),
            }
            if name in OPTIONS:
                given = {
                    slot: ("o", _numbers(builder, value, "i")) if form == "v" else (form, value)
                    for slot, (form, value) in options.items()
                }
                slots |= {3: ("B", OPTIONS[name]), 4: ("o", _table(builder, given))}
            if custom:
                slots[5] = ("o", _bytes(builder, custom))
            operators.append(_table(builder, slots))
        parts = [
            _offsets(builder, tensors), _numbers(builder, self.inputs, "i"), _numbers(builder, self.outputs, "i"),
            _offsets(builder, operators), builder.CreateString("main"),
        ]  # fmt: skip
        return _table(builder, {slot: ("o", part) for slot, part in enumerate(parts)})


def _packed(one: _Tensor) -> bytes:
    assert one.data is not None
    if one.dtype is ml_dtypes.int4:
        low, high = one.data.astype(np.int8).reshape(-1, 2).T & 15
        return bytes((low | high << 4).astype(np.uint8))
    return np.ascontiguousarray(one.data).tobytes()


def _tensor(builder: Any, one: _Tensor, number: int) -> int:
    slots: dict[int, tuple[str, Any]] = {
        0: ("o", _numbers(builder, one.shape, "i")),
        1: ("b", next(code for code, kind in enumerate(TYPES) if kind is one.dtype)),
        2: ("I", number),
        3: ("o", builder.CreateString(one.name)),
        5: ("?", one.variable),
    }
    if one.scales:
        grid = {
            2: ("o", _numbers(builder, one.scales, "f")), 3: ("o", _numbers(builder, one.zeros, "q")),
            6: ("i", one.axis),
        }  # fmt: skip
        slots[4] = ("o", _table(builder, grid))
    if one.signature is not None:
        slots[7] = ("o", _numbers(builder, one.signature, "i"))
    return _table(builder, slots)


_PREPEND = {"i": "Int32", "b": "Int8", "B": "Uint8", "?": "Bool", "f": "Float32", "I": "Uint32", "q": "Int64"}
_DTYPE = {"i": "<i4", "f": "<f4", "q": "<i8"}


def _table(builder: Any, slots: Mapping[int, tuple[str, Any]]) -> int:
    builder.StartObject(max(slots, default=0) + 1)
    for slot, (form, value) in slots.items():
        if form == "o":
            builder.PrependUOffsetTRelative(value)
        else:
            getattr(builder, f"Prepend{_PREPEND[form]}")(value)
        builder.Slot(slot)
    offset: int = builder.EndObject()
    return offset


def _numbers(builder: Any, values: Sequence[float], form: str) -> int:
    offset: int = builder.CreateNumpyVector(np.asarray(values, _DTYPE[form]))
    return offset


def _bytes(builder: Any, data: bytes) -> int:
    builder.StartVector(1, len(data), 16)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    offset: int = builder.EndVector()
    return offset


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    vector: int = builder.EndVector()
    return vector


def litert(data: bytes, inputs: Mapping[str, Array]) -> Outputs:
    """The outputs as TensorFlow Lite's own runtime has them, with the kernels that it uses by default."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=data, num_threads=1)
    ports = {port["name"]: port["index"] for port in interpreter.get_input_details()}
    for name, array in inputs.items():
        interpreter.resize_tensor_input(ports[name], array.shape)
    interpreter.allocate_tensors()
    for name, array in inputs.items():
        interpreter.set_tensor(ports[name], array)
    interpreter.invoke()
    return {port["name"]: interpreter.get_tensor(port["index"]) for port in interpreter.get_output_details()}
