"""Models of others: ONNX, TensorFlow's frozen graphs, Caffe; read only as far as to say what they are.

Sources: ``onnx.proto``; TensorFlow's ``graph.proto`` and ``node_def.proto``; ``caffe.proto``.
"""

from __future__ import annotations

from collections import Counter

from mace_cl.foreign.notes import Format, Notes, printable
from mace_cl.frontends.formats import sniff_caffe, sniff_onnx, sniff_tensorflow
from mace_cl.wire import Field, fields

__all__ = ["FORMATS"]


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


def _read_tensorflow(view: memoryview, notes: Notes) -> None:
    _nodes(view, 2, notes)


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
    Format("onnx", "ONNX model", sniff_onnx, _read_onnx),
    Format("tensorflow", "TensorFlow graph (GraphDef)", sniff_tensorflow, _read_tensorflow),
    Format("caffe", "Caffe model", sniff_caffe, _read_caffe),
)
