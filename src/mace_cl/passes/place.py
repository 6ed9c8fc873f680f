"""Which nodes run on the host, gathered into as few sub-graphs as the order of the graph allows.

Each sub-graph becomes one node ``mace_cl::Host`` that carries it as an ONNX model.  Constants of at least
`LARGE` bytes stay outside that model, as further inputs of the node, so that they are stored with the
weights and not copied.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from mace_cl.graph import DOMAIN, array_of, attribute, is_constant, is_used, static_shape, type_name
from mace_cl.passes.rewrite import add_constant
from mace_cl.schedule import CPU

__all__ = ["LARGE", "Host", "Inferred", "NamePass", "PlacePass", "add_types", "islands", "obvious", "whole"]


LARGE = 1024
"""Bytes from which on a constant is no part of the sub-model."""

_IR, _OPSET = 10, 21
"""What sub-models are written in where their ops allow it: ONNX 1.16's, which every ONNX Runtime from 1.18 on reads."""

ISLAND = 1 << 14
"""Elements up to which `islands` go to the host, which saves waiting for the device twice; a guess, not measured."""

Inferred = Callable[[bytes, Mapping[str, NDArray[Any]]], Mapping[str, tuple[str, tuple[int, ...] | None]]]
"""Finds types and shapes of a model's outputs by name, as ports have them; `whole` gives the arguments."""

_KNOWN = frozenset(("", "ai.onnx", "ai.onnx.ml"))
"""Domains whose ops the onnx package knows."""

_TENSORS = frozenset(
    ir.DataType[name]
    for name in (
        "FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16",
        "UINT32", "UINT64",
    )
)  # fmt: skip
"""Element types that kernels may have; whether an op's do, its lowering says."""


@dataclass(frozen=True)
class Host:
    """Why a node is on the host, and the provider of ONNX Runtime that runs it."""

    reason: str
    provider: str


class NamePass(ir.passes.InPlacePass):
    """Each node gets a name of its own without white space, and outputs that are constants a node that makes them."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        for index, value in enumerate(list(graph.outputs)):
            if is_constant(value) and (value.producer() is None or value.dtype in _TENSORS):
                graph.outputs[index] = _identity(graph, value)
        for node in graph:
            node.name = "_".join((node.name or f"{node.op_type}({node.outputs[0].name})").split())
        common.NameFixPass()(model)
        return ir.passes.PassResult(model, modified=True)


def _identity(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """A new value of the same name that a node copies from a constant; the constant is renamed."""
    name, array, producer = str(value.name), array_of(value), value.producer()
    assert array is not None
    value.name = f"{name}.constant"
    if producer is not None:
        constant = add_constant(graph, f"{name}.constant", array)
        value.replace_all_uses_with(constant, replace_graph_outputs=True)
        graph.remove(producer)
        value = constant
    copy = ir.Value(name=name, shape=ir.Shape(array.shape), type=value.type)
    graph.append(ir.node("Identity", [value], outputs=[copy], name=f"Identity({name})"))
    return copy


def obvious(graph: ir.Graph) -> dict[str, str]:
    """The nodes that no kernel can run, whatever their op, each with the reason.

    They are those that hold graphs, or touch what is no tensor of a known shape.
    """
    return {str(node.name): why for node in graph if (why := _why(node))}


def _why(node: ir.Node) -> str:
    if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
        return "control flow"
    for value in (*node.inputs, *filter(is_used, node.outputs)):
        if value is None:
            continue
        if not isinstance(value.type, ir.TensorType) or value.dtype not in _TENSORS:
            return f"{value.name!r} is {'of unknown type' if value.type is None else type_name(value)}"
        if static_shape(value) is None:
            return f"the shape of {value.name!r} is not known before a run"
    return ""


def add_types(model: ir.Model, find: Inferred) -> bool:
    """Give values that are made by other domains' ops the types and shapes that ``find`` gives them.

    Whether there were any of known shape.
    """
    if all(node.domain in _KNOWN for node in model.graph):
        return False
    unknown = {str(v.name): v for node in model.graph for v in node.outputs if static_shape(v) is None and is_used(v)}
    extra = [name for name, value in unknown.items() if not value.is_graph_output()]
    found = find(*whole(model, extra))
    for name, value in unknown.items():
        dtype, shape = found.get(name, ("", None))
        if shape is not None and dtype:
            value.type, value.shape = ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype))), ir.Shape(shape)
    return bool(found)


def islands(graph: ir.Graph, hosts: Collection[str]) -> set[str]:
    """Nodes of the device that are not worth the way there and back.

    They are connected, read what the host makes and nothing from elsewhere, are read by the host alone, and
    make no more than `ISLAND` elements.
    """
    group: dict[ir.Node, list[ir.Node]] = {}
    for node in graph:
        if node.name not in hosts:
            before = [p for value in read(node) if (p := value.producer()) in group and p is not None]
            joined = [node, *{id(one): one for p in before for one in group[p]}.values()]
            group |= dict.fromkeys(joined, joined)
    readers = defaultdict(list)
    for node in graph:
        for value in read(node):
            readers[value].append(node)

    def small(nodes: Sequence[ir.Node]) -> bool:
        inside = set(nodes)
        made = [value for node in nodes for value in node.outputs if is_used(value)]
        given = [value for node in nodes for value in read(node) if not is_constant(value)]
        shapes = [static_shape(value) for value in made]
        return (
            all(value.producer() is not None for value in given)
            and any(value.producer() not in inside for value in given)
            and not any(value.is_graph_output() for value in made)
            and any(other not in inside for value in made for other in readers[value])
            and sum(math.prod(shape) if shape is not None else ISLAND + 1 for shape in shapes) <= ISLAND
        )

    return {str(node.name) for node, nodes in group.items() if small(nodes)}


class PlacePass(ir.passes.InPlacePass):
    """See the module; ``hosts`` by node name."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        super().__init__()
        self._hosts = hosts

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        if not self._hosts:
            return ir.passes.PassResult(model, modified=False)
        graph, nodes = model.graph, list(model.graph)
        kinds = [self._hosts[str(node.name)].provider if node.name in self._hosts else "" for node in nodes]
        groups: dict[int, list[ir.Node]] = defaultdict(list)
        providers: dict[int, str] = {}
        readers: dict[ir.Value, set[int]] = defaultdict(set)
        for node, kind, level in zip(nodes, kinds, levels(nodes, kinds), strict=True):
            groups[level].append(node)
            providers[level] = kind
            for value in read(node):
                readers[value].add(level)
        graph.remove(nodes)
        for level in sorted(groups):
            group, provider = groups[level], providers[level]
            if not provider:
                graph.extend(group)
                continue
            made = [value for node in group for value in node.outputs]
            outputs = [value for value in made if value.is_graph_output() or readers[value] - {level}]
            graph.append(_host(model, group, outputs, provider))
        return ir.passes.PassResult(model, modified=True)


def whole(model: ir.Model, outputs: Collection[str] = ()) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """The model as one sub-model, and its large constants by name; the model itself stays as it is.

    ``outputs`` are values that it gives besides its own outputs.
    """
    copy = model.clone()
    copy.graph.outputs.extend(value for node in copy.graph for value in node.outputs if value.name in outputs)
    PlacePass({str(node.name): Host("", CPU) for node in copy.graph})(copy)
    (node,) = copy.graph
    names = attribute(node, "constants", ())
    given = zip(names, node.inputs[len(node.inputs) - len(names) :], strict=True)
    constants = {name: array for name, value in given if (array := array_of(value)) is not None}
    return attribute(node, "model").numpy().tobytes(), constants


def levels(nodes: Sequence[ir.Node], kinds: Sequence[str]) -> list[int]:
    """A number for each node, which never falls along an edge and differs between kinds (``""`` is the device).

    Nodes of one number can run together.  With two kinds there are no fewer numbers to be had: along the
    path that changes most often between host and device, each change needs one.
    """
    turns = {kind: turn for turn, kind in enumerate(sorted({"", *kinds}))}
    reached: dict[ir.Node, int] = {}
    for node, kind in zip(nodes, kinds, strict=True):
        before = [reached[p] for v in read(node) if (p := v.producer()) is not None and p in reached]
        least = max(before, default=0)
        reached[node] = least + (turns[kind] - least) % len(turns)
    return [reached[node] for node in nodes]


def read(node: ir.Node) -> list[ir.Value]:
    """What a node reads, the values that graphs inside it take from outside included, each once."""
    return list(dict.fromkeys(_read(node)))


def _read(node: ir.Node) -> Iterator[ir.Value]:
    yield from (value for value in node.inputs if value is not None)
    for inner in _inner_graphs(node):
        made = {value for one in inner.all_nodes() for value in one.outputs} | set(inner.inputs)
        made |= set(inner.initializers.values())
        ends = [value for one in inner for value in one.inputs] + list(inner.outputs)
        deeper = [value for one in inner for value in _read(one)]
        yield from (value for value in (*ends, *deeper) if value is not None and value not in made)


def _inner_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    for attr in node.attributes.values():
        if attr.type == ir.AttributeType.GRAPH:
            yield attr.as_graph()
        elif attr.type == ir.AttributeType.GRAPHS:
            yield from attr.as_graphs()


def _host(model: ir.Model, group: Sequence[ir.Node], outputs: Sequence[ir.Value], provider: str) -> ir.Node:
    """A node in place of the group, which is out of the graph already; users of ``outputs`` read its own."""
    made = {value for node in group for value in node.outputs}
    outside = [value for value in dict.fromkeys(v for node in group for v in read(node)) if value not in made]
    inputs = [value for value in outside if not is_constant(value)]
    constants = [value for value in outside if is_constant(value)]
    large = [value for value in constants if value.dtype in _TENSORS and _bytes(value) >= LARGE]
    proto = _model(model, group, inputs, outputs, constants, large)
    attributes: dict[str, Any] = {"model": ir.tensor(np.frombuffer(proto, np.uint8)), "provider": provider}
    if large:
        attributes["constants"] = [str(value.name) for value in large]
    new = ir.node(
        "Host", [*inputs, *large], attributes, domain=DOMAIN, name=group[0].name,
        outputs=[ir.Value(name=old.name, shape=old.shape, type=old.type) for old in outputs],
    )  # fmt: skip
    new.metadata_props["mace_cl.nodes"] = " ".join(str(node.name) for node in group)
    for old, value in zip(outputs, new.outputs, strict=True):
        old.replace_all_uses_with(value, replace_graph_outputs=True)
    for node in group:
        for one in (node, *(one for inner in _inner_graphs(node) for one in inner.all_nodes())):
            for index in range(len(one.inputs)):
                one.replace_input_with(index, None)
    return new


def _bytes(value: ir.Value) -> int:
    assert value.const_value is not None
    return int(value.const_value.nbytes)


def _model(
    model: ir.Model, group: Sequence[ir.Node], inputs: Sequence[ir.Value], outputs: Sequence[ir.Value],
    constants: Sequence[ir.Value], large: Sequence[ir.Value],
) -> bytes:  # fmt: skip
    """The group as an ONNX model; of the ``large`` constants it has names, types and shapes."""
    graph = onnx.GraphProto(
        name=str(model.graph.name or "host"),
        node=[_bare(ir.serde.serialize_node(node)) for node in group],
        input=[ir.serde.serialize_value(value) for value in inputs],
        output=[ir.serde.serialize_value(value) for value in outputs],
    )
    for value in constants:
        if value in large:
            tensor = graph.initializer.add(
                name=value.name,
                data_type=value.dtype,
                dims=static_shape(value),
                data_location=onnx.TensorProto.EXTERNAL,
            )
            tensor.external_data.add(key="location", value="constants")
        else:
            assert value.const_value is not None
            tensor = ir.serde.serialize_tensor(value.const_value)
            tensor.name = str(value.name)
            graph.initializer.append(tensor)
    versions = {
        name: _least(group, version) if name == "" else version for name, version in model.opset_imports.items()
    }
    imports = [onnx.OperatorSetIdProto(domain=name, version=version) for name, version in versions.items()]
    proto = onnx.ModelProto(ir_version=min(model.ir_version, _IR), graph=graph, opset_import=imports)
    return proto.SerializeToString(deterministic=True)


def _least(group: Sequence[ir.Node], opset: int) -> int:
    """The least opset from `_OPSET` on in which the nodes mean what they mean in ``opset``."""
    inner = (one for node in group for graph in _inner_graphs(node) for one in graph.all_nodes())
    ops = {node.op_type for node in (*group, *inner) if node.domain == ""}
    since = [onnx.defs.get_schema(op, opset).since_version for op in ops if onnx.defs.has(op)]
    return min(opset, max([_OPSET, *since]))


def _bare(node: onnx.NodeProto) -> onnx.NodeProto:
    """The node without what exporters note in it, and without types that were inferred in graphs inside it."""
    del node.metadata_props[:]
    node.ClearField("doc_string")
    for one in node.attribute:
        for graph in (*([one.g] if one.HasField("g") else ()), *one.graphs):
            del graph.value_info[:]
            for inner in graph.node:
                _bare(inner)
    return node
