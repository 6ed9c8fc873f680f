"""MACE's model graph, a ``.pb`` file, in both generations of its schema; the weights lie in a ``.data`` file beside it.

Older: one ``NetDef`` {op=1, arg=2, tensors=3, data_type=4, name=5, data_offset=6, data_size=7, infer_order=8,
input_info=100, output_info=101}.  Newer: ``MultiNetDef`` {version_code=1, name=2, net_def=3, input_tensor=100,
output_tensor=101} of several.  Neither has a magic, a version or a checksum; ``.data`` is tensors' bytes alone, so
such a file can't be recognised on its own.  Source: MACE's ``mace.proto``.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from math import prod

from mace_cl.errors import DamagedError
from mace_cl.foreign.notes import Format, Notes, damaged, printable
from mace_cl.foreign.wire import Field, fields

__all__ = ["FORMAT"]

DATA_TYPES = (
    "invalid float32 uint8 float16 int32 float16(stored) bfloat16 int16 int8 uint16 uint32 bool".split()
)
_ITEM_BYTES = (0, 4, 1, 2, 4, 2, 2, 2, 1, 2, 4, 1)
_FORMATS = {0: "none", 1: "NHWC", 2: "NCHW", 100: "HWOI", 101: "OIHW", 102: "HWIO", 103: "OHWI", 1000: "auto"}
_ARGUMENTS = {
    "runtime_type": ("runtime", {0: "CPU", 2: "GPU", 3: "Hexagon", 4: "HTA", 5: "APU", 6: "HTP"}),
    "opencl_mem_type": ("OpenCL memory", {1: "buffer", 2: "image"}),
    "framework_type": (
        "converted from",
        {0: "TensorFlow", 1: "Caffe", 2: "ONNX", 3: "MegEngine", 4: "Keras", 5: "PyTorch"},
    ),
    "quantize_flag": ("quantised", {0: "no", 1: "yes"}),
    "winograd": ("winograd", {}),
    "filter_format": ("filter format", _FORMATS),
}
_HASHED = re.compile(r"[0-9a-f]{8}(?::0)?\Z")
_MANY = 1 << 16


def _sniff(view: memoryview) -> bool:
    nets = _net_views(view)
    return nets is not None and bool(nets) and all(_begins_like_net(net) for net, _ in nets[:4])


def _net_views(view: memoryview) -> list[tuple[memoryview, int]] | None:
    """The bytes of each NetDef with their offset in the file, in either generation; None if it is neither.

    Only the outermost fields are looked at, and of a long NetDef only the first.
    """
    if len(view) < 8 or view[0] not in (0x08, 0x0A, 0x12, 0x1A, 0x22):
        return None
    nets: list[tuple[memoryview, int]] = []
    try:
        for number, found in enumerate(fields(view, "")):
            if number == 0 and found.number == 1 and found.is_data:
                return [(view, 0)]
            if number > 256:
                return None
            known = {1: False, 2: True, 3: True, 100: True, 101: True}.get(found.number)
            if known is None or known != found.is_data:
                return None
            if found.number == 3:
                nets.append((found.data, _offset_in(view, found.data)))
    except DamagedError:
        pass
    return nets


def _offset_in(outer: memoryview, inner: memoryview) -> int:
    """Where ``inner``, a slice of ``outer``, begins in it."""
    import ctypes

    raise NotImplementedError(ctypes)


@dataclass
class _Net:
    """What is gathered from one NetDef."""

    name: str = ""
    data_type: int = 1
    data_offset: int = 0
    data_size: int = 0
    ops: Counter[str] = field(default_factory=Counter)
    tensors: Counter[str] = field(default_factory=Counter)
    elements: int = 0
    data_end: int = 0
    names: int = 0
    hashed: int = 0
    arguments: dict[str, int] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
