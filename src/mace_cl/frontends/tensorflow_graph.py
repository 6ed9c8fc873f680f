"""What TensorFlow and Keras save, as frozen graphs: constants for variables, functions written out.

Runs in a process of its own, see `mace_cl.frontends.tensorflow`.  Whatever a file says is looked at before TensorFlow
does what it says.  Sources: TensorFlow's ``graph.proto``, ``saved_model.proto``, ``saved_object_graph.proto``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from mace_cl.errors import InputError, ModelError, UnsupportedError
from mace_cl.frontends.keras import first_line
from mace_cl.frontends.tensorflow import unmapped

__all__ = ["Frozen", "read"]

_STATEFUL = re.compile(
    r"(Anonymous|Mutable|MutableDense)*(Hash)?Table\w*|LookupTable\w+|InitializeTable(V2)?|(_?Read)?Variables?\w*|VarHandleOp"
    r"|Assign(Add|Sub)?VariableOp|VarIsInitializedOp|ResourceGather(Nd)?|DestroyResourceOp|TensorArray\w*|Stack\w*"
    r"|StatefulPartitionedCall|While|If|Case|Random\w+|Stateful\w+|Rng\w+|Multinomial|TruncatedNormal|Skipgram"
    r"|ParameterizedTruncatedNormal|StatelessRandomGetAlg|Assert|CheckNumerics(V2)?|CudnnRNN\w*|GuaranteeConst|Empty"
    r"|IsTensorFloat32Enabled|XlaCallModule|XlaDequantize|TemporaryVariable|DeepCopy|\w*CandidateSampler"
)
"""Ops with a state that stays inside the graph; all others with one may reach files, processes, networks, devices."""

_OUTSIDE = re.compile(
    r"ReadFile|MatchingFiles|PyFuncStateless|InitializeTableFromTextFile|Debug\w+|\w*Dataset\w*|Reader\w+"
)
"""Ops that TensorFlow calls stateless, and that reach outside all the same."""

_INITIALISERS = ("saved_model_main_op", "legacy_init_op")
_MOST_IMPLIED = 64 << 20


@dataclass(frozen=True)
class Frozen:
    """A graph without variables; names of inputs and outputs are the source's, their tensors those of the graph.

    ``cut`` tells that the outputs are those that were asked for; ``layers`` are the names that might have been.
    """

    graph: Any
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    cut: bool = False
    layers: Sequence[str] = ()


def read(kind: str, place: Path, name: str, wanted: Sequence[str], trust: bool) -> Frozen:
    """A model of the kind ``pb``, ``saved_model``, ``keras`` or ``h5``.

    ``wanted`` are the names of outputs in place of its own; those that the graph lacks are left to the caller.

    Raises:
        ModelError, UnsupportedError, InputError: as `mace_cl.frontends.tensorflow.load`.
    """
    if kind == "pb":
        return _cut(_frozen(place, name, trust), wanted)
    if kind == "saved_model":
        return _saved_model(place, name, wanted, trust)
    return _keras(kind, place, name, wanted, trust)


def _cut(frozen: Frozen, wanted: Sequence[str]) -> Frozen:
    """With ``wanted`` as outputs, if the graph has them all."""
    nodes = {node.name for node in frozen.graph.node}
    tensors = {one: one if ":" in one else f"{one}:0" for one in wanted}
    if not wanted or not all(tensor.partition(":")[0] in nodes for tensor in tensors.values()):
        return frozen
    return replace(frozen, outputs=tensors, cut=True)


# Frozen graphs.


def _frozen(place: Path, name: str, trust: bool) -> Frozen:
    graph = tf.compat.v1.GraphDef()
    _parse(graph, place, name)
    _check([graph.node], graph.library.function, name, trust)
    unstored = [node.name for node in graph.node if node.op in ("VarHandleOp", "Variable", "VariableV2")]
    if unstored:
        raise ModelError(
            f"{name}: is not frozen: the values of {len(unstored)} variables, such as {unstored[0]!r}, are not in it; "
            "freeze it (convert_variables_to_constants_v2), or give the SavedModel"
        )
    read = {_tensor(one) for node in graph.node for one in node.input if not one.startswith("^")}
    inputs: dict[str, str] = {}
    outputs: dict[str, str] = {}
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
        for op in imported.get_operations():
            if op.type == "Placeholder":
                inputs[op.name] = f"{op.name}:0"
            elif op.type not in ("Const", "Assert", "PlaceholderWithDefault"):
                free = [tensor.name for tensor in op.outputs if tensor.name not in read]
                if len(free) == len(op.outputs):  # of an op that is read, what nobody reads is no output
                    outputs |= {tensor.removesuffix(":0"): tensor for tensor in free}
    return Frozen(graph, inputs, outputs, layers=[node.name for node in graph.node])


def _tensor(text: str) -> str:
    return text if ":" in text else f"{text}:0"


def _parse(message: Any, place: Path, name: str) -> None:
    try:
        message.ParseFromString(place.read_bytes())
    except Exception as error:  # protobuf raises its own DecodeError, which differs between its backends
        raise ModelError(f"{name}: damaged or truncated ({error}); check that it was copied whole") from error


def _check(graphs: Iterable[Iterable[Any]], functions: Iterable[Any], name: str, trust: bool) -> None:
    """Look at nodes before TensorFlow has them: unknown ops, ops that reach outside, constants larger than their bytes.

    Raises:
        UnsupportedError: ops that TensorFlow does not know, all of them.
        ModelError: the others.
    """
    own = {function.signature.name for function in functions}
    nodes = [node for group in (*graphs, *(function.node_def for function in functions)) for node in group]
    known = {op: op_def_registry.get(op) for op in {node.op for node in nodes}}
    strange = [node for node in nodes if known[node.op] is None and node.op not in own]
    if strange:
        raise unmapped(name, [(node.op, node.name, "no op of TensorFlow") for node in strange])
    outside = [f"{node.op} {node.name!r}" for node in nodes if known[node.op] is not None and _reaches(known[node.op])]
    if outside and not trust:
        raise ModelError(
            f"{name}: has ops that reach files, processes or Python: {', '.join(dict.fromkeys(outside))}. Nothing "
            "of it was run. If you trust the file, allow it (--trust, or trust=True)"
        )
    implied = sum(_implied(node.attr["value"].tensor) for node in nodes if node.op == "Const" and "value" in node.attr)
    if implied > _MOST_IMPLIED:
        raise ModelError(
            f"{name}: its constants would grow by {implied} bytes over what the file holds; refused, get the file anew"
        )


def _reaches(op: Any) -> bool:
    return bool((op.is_stateful and not _STATEFUL.fullmatch(op.name)) or _OUTSIDE.fullmatch(op.name))


def _implied(tensor: Any) -> int:
    """Bytes that a constant's shape asks for beyond those that are stored."""
    sizes = [max(dim.size, 0) for dim in tensor.tensor_shape.dim]
    try:
        item = tf.dtypes.as_dtype(tensor.dtype).size
    except TypeError:
        item = 1
    grown: int = math.prod(sizes) * item - tensor.ByteSize()
    return max(grown, 0)


# SavedModels.


def _saved_model(place: Path, name: str, wanted: Sequence[str], trust: bool) -> Frozen:
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    _parse(saved, place / "saved_model.pb", name)
    metas = list(saved.meta_graphs)
    meta = next((one for one in metas if "serve" in one.meta_info_def.tags), metas[0] if len(metas) == 1 else None)
    if meta is None:
        tags = "; ".join(",".join(one.meta_info_def.tags) for one in metas)
        raise ModelError(f"{name}: none of its {len(metas)} graphs has the tag serve ({tags}); export it for serving")
    _check(*_run_at_start(meta), name, trust)
    signatures = sorted(key for key in meta.signature_def if not key.startswith("__saved_model"))
    chosen = len(wanted) == 1 and wanted[0] in signatures
    if chosen:
        asked = wanted[0]
    elif "serving_default" in signatures:
        asked = "serving_default"
    elif len(signatures) == 1:
        asked = signatures[0]
    else:
        what = f"the signatures {', '.join(signatures)}; choose one (--outputs NAME)" if signatures else (
            "no signature, so that nothing says what its inputs are; save it with signatures=…"
        )  # fmt: skip
        raise InputError(f"{name}: has {what}")
    try:
        loaded = tf.saved_model.load(str(place), tags=list(meta.meta_info_def.tags))  # holds the variables
    except (tf.errors.OpError, IndexError, OSError) as error:
        raise ModelError(
            f"{name}: its variables are missing or damaged ({first_line(error)}); copy the whole folder, variables/ too"
        ) from error
    function = loaded.signatures[asked]
    given = list(function.structured_input_signature[1])
    frozen = _frozen_function(function, sorted(given), sorted(function.structured_outputs))
    return replace(frozen, cut=True) if chosen else _cut(frozen, wanted)


def _run_at_start(meta: Any) -> tuple[list[list[Any]], list[Any]]:
    """The nodes and functions that run when the model is loaded or its signatures are: not those that save it."""
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    nodes = {node.name: node for node in meta.graph_def.node}
    ends = [port.name for one in meta.signature_def.values() for port in (*one.outputs.values(), *one.inputs.values())]
    roots: list[str] = []
    if meta.object_graph_def.nodes:
        roots = list(meta.object_graph_def.concrete_functions)
        main = list(_before(nodes, ends))
    else:  # of TensorFlow 1: what restores and what initialises runs in the graph
        ends.append(meta.saver_def.restore_op_name)
        ends += [one for key in _INITIALISERS for one in meta.collection_def[key].node_list.value]
        main = [node for node in _before(nodes, ends) if node.op != "RestoreV2"]
    seen: dict[str, Any] = {}
    waiting = roots + [key for node in main for key in _called(node)]
    while waiting:
        key = waiting.pop()
        if key in functions and key not in seen:
            seen[key] = functions[key]
            waiting += [inner for node in functions[key].node_def for inner in _called(node)]
    return [main], list(seen.values())


def _before(nodes: Mapping[str, Any], ends: Iterable[str]) -> Iterator[Any]:
    """The nodes that ``ends`` need."""
    waiting, seen = [one.lstrip("^").partition(":")[0] for one in ends], set()
    while waiting:
        key = waiting.pop()
        if key in nodes and key not in seen:
            seen.add(key)
            yield nodes[key]
            waiting += [one.lstrip("^").partition(":")[0] for one in nodes[key].input]


def _called(node: Any) -> Iterator[str]:
    yield node.op
    for attribute in node.attr.values():
        yield attribute.func.name
        yield from (one.name for one in attribute.list.func)


def _frozen_function(function: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Frozen:
    """A traced function with its variables' values, its inputs and outputs under these names, in its order."""
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    return Frozen(
        frozen.graph.as_graph_def(),
        dict(zip(inputs, (tensor.name for tensor in frozen.inputs), strict=True)),
        dict(zip(outputs, (tensor.name for tensor in frozen.outputs), strict=True)),
    )


# Keras.


def _keras(kind: str, place: Path, name: str, wanted: Sequence[str], trust: bool) -> Frozen:
    import keras

    try:
        model = keras.saving.load_model(place, compile=False, safe_mode=not trust)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise UnsupportedError(
            f"{name}: Keras {keras.__version__} can't read it ({first_line(error)}); a class of your own must be "
            "importable and the file trusted, else export the model (model.export makes a SavedModel)"
        ) from error
    if not getattr(model, "inputs", None):
        raise UnsupportedError(
            f"{name}: says nothing of its inputs' shapes, as models of a class of their own do; export it "
            "(model.export makes a SavedModel)"
        )
    layers = {layer.name: layer for layer in model.layers}
    chosen = bool(wanted) and all(one in layers for one in wanted)
    if chosen:
        ends = [(one, tf.nest.flatten(layers[one].output)) for one in wanted]
    else:
        made = keras.Model(model.inputs, model.outputs)
        ends = [(key, [end]) for key, end in zip(made.output_names, made.outputs, strict=True)]
    names = [f"{key}:{place}" if place else key for key, tensors in ends for place in range(len(tensors))]
    names = [key if key not in names[:place] else f"{key}_{place}" for place, key in enumerate(names)]
    part = keras.Model(model.inputs, [tensor for _, tensors in ends for tensor in tensors])
    function = tf.function(lambda *given: tf.nest.flatten(part(list(given), training=False))).get_concrete_function(
        *(tf.TensorSpec(port.shape, port.dtype, port.name) for port in model.inputs)
    )
    frozen = replace(_frozen_function(function, [port.name for port in model.inputs], names), layers=list(layers))
    return replace(frozen, cut=True) if chosen else _cut(frozen, wanted)
