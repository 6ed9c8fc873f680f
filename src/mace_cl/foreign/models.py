"""Models of others: ONNX, TensorFlow's frozen graphs, Caffe; read only as far as to say what they are.

Sources: ``onnx.proto``; TensorFlow's ``graph.proto`` and ``node_def.proto``; ``caffe.proto``.
"""

from __future__ import annotations

from collections import Counter

from mace_cl.errors import DamagedError
from mace_cl.foreign.notes import Format, Notes, printable
from mace_cl.foreign.wire import Field, fields

__all__ = ["FORMATS"]

_ONNX_NUMBERS, _ONNX_DATA = {1, 5}, {2, 3, 4, 6, 7, 8, 14, 20, 25, 26}
_NODE_DATA = {1, 2, 3, 4, 5, 6, 7}


def _head(view: memoryview, most: int) -> list[Field]:
    found = []
    try:
        for field in fields(view, ""):
            found.append(field)
            if len(found) == most:
                break
    except DamagedError:
        pass
    return found


def _sniff_onnx(view: memoryview) -> bool:
    head = _head(view, 32)
    return (
        bool(head)
        and all(field.number in (_ONNX_DATA if field.is_data else _ONNX_NUMBERS) for field in head)
        and head[0].number == 1
        and 0 < head[0].uint < 256
        and (any(field.number == 7 for field in head) or len(head) > 1)
    )


def _read_onnx(view: memoryview, notes: Notes) -> None:
    producer: dict[int, str] = {}
    opsets: list[str] = []
    graphs: list[Field] = []
    for field in fields(view, "the model", notes.spend):
        if field.number == 1:
            notes.fact("IR version", field.uint)
        elif field.number in (2, 3):
            producer[field.number] = printable(field.data)
        elif field.number == 7:
            graphs.append(field)
        elif field.number == 8:
            inner = {part.number: part for part in fields(field.data, "an opset", notes.spend)}
            domain = printable(inner[1].data) if 1 in inner else ""
            opsets.append(f"{domain or 'ai.onnx'} {inner[2].uint if 2 in inner else '?'}")
    notes.fact("producer", " ".join(producer[number] for number in sorted(producer)))
    notes.fact("opsets", opsets)
    for graph in graphs:
        _nodes(graph.data, 4, notes)


def _sniff_tensorflow(view: memoryview) -> bool:
    head = _head(view, 1)
    if not head or head[0].number != 1 or not head[0].is_data:
        return False
    inner = {field.number: field for field in _head(head[0].data, 32)}
    op = bytes(inner[2].data[:64]) if 2 in inner else b""
    return 1 in inner and set(inner) <= _NODE_DATA and all(f.is_data for f in inner.values()) and op.isalnum()


def _read_tensorflow(view: memoryview, notes: Notes) -> None:
    _nodes(view, 2, notes)


def _sniff_caffe(view: memoryview) -> bool:
    head = _head(view, 32)
    layers = [{part.number: part.is_data for part in _head(field.data, 32)} for field in head if field.number == 100]
    return bool(layers) and head[0].number == 1 and all(layer.get(1) and layer.get(2) for layer in layers)


def _read_caffe(view: memoryview, notes: Notes) -> None:
    types: Counter[str] = Counter()
    for field in fields(view, "the model", notes.spend):
        if field.number == 1:
            notes.fact("name", printable(field.data))
        elif field.number == 100:
            for inner in fields(field.data, "a layer", notes.spend):
                if inner.number == 2:
                    types[printable(inner.data, 64)] += 1
    _tell(types, notes)


def _nodes(view: memoryview, type_field: int, notes: Notes) -> None:
    types: Counter[str] = Counter()
    for field in fields(view, "the graph", notes.spend):
        if field.number == 1 and field.is_data:
            for inner in fields(field.data, "a node", notes.spend):
                if inner.number == type_field:
                    types[printable(inner.data, 64)] += 1
    _tell(types, notes)


def _tell(types: Counter[str], notes: Notes) -> None:
    notes.fact("operators", sum(types.values()))
    notes.fact("operators by type", [f"{name} {count}" for name, count in types.most_common(64)])


FORMATS = (
    Format("onnx", "ONNX model", _sniff_onnx, _read_onnx),
    Format("tensorflow", "TensorFlow graph (GraphDef)", _sniff_tensorflow, _read_tensorflow),
    Format("caffe", "Caffe model", _sniff_caffe, _read_caffe),
)
