"""Element types: ONNX's names, their OpenCL C types, and how a tensor of each is computed.

A tensor is *computed* in the type of its own name, but for float16 and bfloat16, which are computed in fp32 and
only stored as such.  OpenCL C 1.2 reads and writes halves on every device
(``vload_half``, ``vstore_half``); arithmetic on them needs an extension.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["OPENCL_TYPES", "STORED_TYPES", "computed", "item_bytes", "load", "opencl_type", "packed", "store"]

OPENCL_TYPES = {
    "float32": "float",
    "float64": "double",
    "int8": "char",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "uint8": "uchar",
    "uint16": "ushort",
    "uint32": "uint",
    "uint64": "ulong",
    "bool": "uchar",
}
"""The types that kernels compute in; a bool is 0 or 1."""

STORED_TYPES = {"float16": "half", "bfloat16": "ushort"}
"""The types that are only stored, and what their buffers hold."""

_ITEM_BYTES = {"bool": 1, "float16": 2, "bfloat16": 2}


def computed(name: str) -> str:
    """The type in which a tensor of type ``name`` is computed."""
    return "float32" if name in STORED_TYPES else name


def opencl_type(name: str) -> str:
    """The OpenCL C type of one element in a buffer."""
    return OPENCL_TYPES.get(name) or STORED_TYPES[name]


def item_bytes(name: str) -> int:
    """Bytes of one element."""
    return _ITEM_BYTES.get(name) or int(np.dtype(name).itemsize)


def load(name: str, pointer: str, at: str) -> str:
    """The value of element ``at`` in its computed type."""
    if name == "float16":
        return f"vload_half({at}, {pointer})"
    if name == "bfloat16":
        return f"as_float((uint){pointer}[{at}] << 16)"
    return f"{pointer}[{at}]"


def store(name: str, pointer: str, at: str, value: str) -> str:
    """A statement that writes ``value`` to element ``at``; to nearest even where the type is narrower."""
    if name == "float16":
        return f"vstore_half_rte({value}, {at}, {pointer});"
    if name == "bfloat16":
        rounded = f"(as_uint({value}) + 0x7FFFu + ((as_uint({value}) >> 16) & 1u)) >> 16"
        return f"{pointer}[{at}] = isnan({value}) ? (ushort)0x7FC0 : (ushort)({rounded});"
    return f"{pointer}[{at}] = {value};"


def packed(array: NDArray[Any], name: str) -> NDArray[Any]:
    """A constant as a kernel reads it: contiguous, in its computed type."""
    kind: DTypeLike = computed(name)
    return np.ascontiguousarray(array.astype(kind, copy=False))
