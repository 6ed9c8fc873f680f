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

from mace_cl.foreign.notes import Format, Notes, printable
from mace_cl.frontends.formats import sniff_mace
from mace_cl.wire import Field, fields

__all__ = ["FORMAT"]

_TYPES = (
    "invalid",
    "float32",
    "uint8",
    "half",
    "int32",
    "float16",
    "bfloat16",
    "int16",
    "int8",
    "uint16",
    "uint32",
    "bool",
)
"""``half`` is stored in two bytes and computed as float32 on a CPU."""
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
_HASHED = re.compile(r"[0-9a-f]{8}(?::\d+)?\Z")


@dataclass
class _Net:
    """What is gathered from one NetDef."""

    ops: Counter[str] = field(default_factory=Counter)
    tensors: Counter[str] = field(default_factory=Counter)
    names: Counter[bool] = field(default_factory=Counter)
    numbers: dict[int, int] = field(default_factory=dict)
    arguments: dict[str, int] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    name: str = ""
    elements: int = 0
    data_end: int = 0


def _read(view: memoryview, notes: Notes) -> None:
    if bytes(view[:1]) == b"\x0a":
        notes.fact("schema", "NetDef (older)")
        _read_net(view, notes)
        return
    notes.fact("schema", "MultiNetDef")
    nets = []
    inputs, outputs = [], []
    for found in fields(view, "the model", notes.spend):
        if found.number == 3 and found.is_data:
            nets.append(found)
        elif found.number == 100:
            inputs.append(printable(found.data))
        elif found.number == 101:
            outputs.append(printable(found.data))
        elif found.number == 1:
            notes.fact("version code", found.uint)
        elif found.number == 2:
            notes.fact("name", printable(found.data))
    notes.fact("model inputs", inputs)
    notes.fact("model outputs", outputs)
    notes.fact("graphs", len(nets))
    if len(nets) == 1:
        _read_net(nets[0].data, notes)
        return
    for net in nets:
        inner = Notes("", "", notes.budget)
        _read_net(net.data, inner)
        name = str(dict(inner.facts).get("graph", "unnamed"))
        notes.part(name, net.begin, len(net.data), tuple(inner.facts))


def _read_net(view: memoryview, notes: Notes) -> None:
    net = _Net()
    try:
        for found in fields(view, "the graph", notes.spend):
            _gather(net, found, notes)
    finally:
        _tell(net, notes)


def _gather(net: _Net, found: Field, notes: Notes) -> None:
    number = found.number
    if not found.is_data:
        net.numbers[number] = found.uint
    elif number == 1:
        for inner in fields(found.data, "an operator", notes.spend):
            if inner.number == 4:
                net.ops[printable(inner.data, 64)] += 1
            elif inner.number == 3:
                net.names[_is_hashed(inner.data)] += 1
    elif number == 2:
        argument = {inner.number: inner for inner in fields(found.data, "an argument", notes.spend)}
        if 1 in argument and 3 in argument:
            net.arguments[printable(argument[1].data, 64)] = argument[3].uint
    elif number == 3:
        _gather_tensor(net, found, notes)
    elif number == 5:
        net.name = printable(found.data)
    elif number in (100, 101):
        (net.inputs if number == 100 else net.outputs).append(_port(found, notes))


def _gather_tensor(net: _Net, found: Field, notes: Notes) -> None:
    dtype, offset, elements = 1, 0, 0
    for inner in fields(found.data, "a tensor", notes.spend):
        if inner.number == 2:
            dtype = inner.uint
        elif inner.number == 5:
            net.names[_is_hashed(inner.data)] += 1
        elif inner.number == 6:
            offset = inner.uint
        elif inner.number == 7:
            elements = inner.uint
    net.tensors[_type_name(dtype)] += 1
    net.elements += elements
    item = _ITEM_BYTES[dtype] if dtype < len(_ITEM_BYTES) else 0
    net.data_end = max(net.data_end, offset + elements * item)


def _port(found: Field, notes: Notes) -> str:
    name, dims, dtype, layout = "", list[str](), 1, 1
    for inner in fields(found.data, "an input or output", notes.spend):
        if inner.number == 1:
            name = printable(inner.data)
        elif inner.number == 3 and not inner.is_data and len(dims) < 16:
            dims.append(str(inner.uint - (1 << 64) if inner.uint >> 63 else inner.uint))
        elif inner.number == 5:
            dtype = inner.uint
        elif inner.number == 6:
            layout = inner.uint
    return f"{name}: {_type_name(dtype)}[{', '.join(dims)}] {_FORMATS.get(layout, f'format {layout}')}"


def _is_hashed(name: memoryview) -> bool:
    return len(name) < 32 and bool(_HASHED.match(printable(name)))


def _type_name(dtype: int) -> str:
    return _TYPES[dtype] if dtype < len(_TYPES) else f"type {dtype}"


def _counts(counter: Counter[str]) -> tuple[str, ...]:
    return tuple(f"{name} {count}" for name, count in sorted(counter.items(), key=lambda item: (-item[1], item[0])))


def _tell(net: _Net, notes: Notes) -> None:
    notes.fact("graph", net.name)
    notes.fact("data type", _type_name(net.numbers.get(4, 1)))
    notes.fact("inputs", net.inputs)
    notes.fact("outputs", net.outputs)
    notes.fact("operators", sum(net.ops.values()))
    notes.fact("operators by type", _counts(net.ops))
    notes.fact("constant tensors", sum(net.tensors.values()))
    notes.fact("constant tensors by type", _counts(net.tensors))
    notes.fact("constant elements", net.elements)
    notes.fact("begins in .data at", net.numbers.get(6))
    notes.fact("bytes of .data needed", net.numbers.get(6, 0) + max(net.data_end, net.numbers.get(7, 0)))
    if net.names:
        hashed = net.names[True] / sum(net.names.values())
        notes.fact("names", "obfuscated (parts of MD5)" if hashed > 0.5 else "plain")
    for key, (label, words) in _ARGUMENTS.items():
        if key in net.arguments:
            notes.fact(label, words.get(net.arguments[key], str(net.arguments[key])))


FORMAT = Format("mace-graph", "model graph of MACE", sniff_mace, _read)
