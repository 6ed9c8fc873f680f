"""A process of its own in which TensorFlow reads a model and tf2onnx makes ONNX ops of it."""

from __future__ import annotations

import difflib
import logging
import os
import resource
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mace_cl.child import Report
from mace_cl.errors import InputError, MaceClError, ModelError
from mace_cl.frontends.keras import look_into

__all__ = ["convert"]

OPSET = 18
"""The newest that tf2onnx writes."""

_MEMORY = 12 << 30
_MEMORY_FOR_EACH_BYTE = 16


def convert(request: dict[str, Any], blobs: list[bytes], report: Report) -> dict[str, Any]:
    """Write the model that is asked for as ONNX.

    Gives in ``cut`` whether its outputs are those that were asked for, in ``error`` and ``message`` the kind and text
    of an error.
    """
    name = request["name"]
    try:
        _bound(request["size"])
        data, cut = _onnx(request)
        Path(request["target"]).write_bytes(data)
    except MaceClError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except MemoryError:
        return {"error": "ModelError", "message": f"{name}: TensorFlow needs too much memory to read it; refused"}
    except Exception as error:  # whatever TensorFlow, Keras and tf2onnx raise of a file that is damaged
        said = next(iter(str(error).strip().splitlines()), "")
        what = f"{name}: can't be read or converted ({type(error).__name__}: {said}); "
        return {
            "error": "ModelError",
            "message": what + "check that it was copied whole, or export it as ONNX or TensorFlow Lite",
        }
    return {"error": "", "cut": cut}


def _bound(size: int) -> None:
    """Limit this process's memory, for a file of ``size`` bytes."""
    most = _MEMORY + _MEMORY_FOR_EACH_BYTE * size
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _onnx(request: dict[str, Any]) -> tuple[bytes, bool]:
    name, trust, shapes, wanted = request["name"], request["trust"], request["shapes"], request["outputs"]
    if request["kind"] in ("keras", "h5"):
        look_into(request["kind"], Path(request["place"]), name, trust)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # Keras asks for it nowhere else
    import tensorflow as tf

    from mace_cl.frontends import tensorflow_graph

    tf.config.set_visible_devices([], "GPU")
    frozen = tensorflow_graph.read(request["kind"], Path(request["place"]), name, wanted, trust)
    asked = {_tensor(key): key for key in shapes if key not in frozen.inputs}
    inputs = {asked.pop(tensor, key): tensor for key, tensor in frozen.inputs.items()}
    inputs |= {key: tensor for tensor, key in asked.items()}
    graph = _pruned(_with_shapes(frozen, inputs, shapes, name), frozen.outputs)
    left = {node.name for node in graph.node}
    inputs = {key: tensor for key, tensor in inputs.items() if tensor.partition(":")[0] in left}
    model = _converted(graph, inputs, frozen.outputs, name)
    if not frozen.cut:
        _check_names(model, wanted, frozen.layers, name)
    try:
        return ir.serde.serialize_model(model).SerializeToString(), frozen.cut
    except ValueError as error:
        raise ModelError(f"{name}: is too large for one ONNX model (2 GB); export it as ONNX yourself") from error


def _check_names(model: ir.Model, wanted: Sequence[str], layers: Sequence[str], name: str) -> None:
    """See that the model has the outputs that are asked for, which TensorFlow's graph has not.

    Raises:
        InputError: with names like it, those of the source's layers among them.
    """
    known = [
        *(str(node.name) for node in model.graph),
        *(str(one.name) for node in model.graph for one in node.outputs),
    ]
    unknown = [one for one in wanted if one not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], [*layers, *known], 5, 0.5) or [*layers, *known][:5]
        near = list(dict.fromkeys(near))
        raise InputError(f"{name}: no layer or value is called {unknown[0]!r}; the nearest are {', '.join(near)}")


def _tensor(key: str) -> str:
    return key if ":" in key else f"{key}:0"


def _with_shapes(frozen: Any, inputs: Mapping[str, str], shapes: Mapping[str, Sequence[int]], name: str) -> Any:
    """The graph with these inputs as placeholders, of the shapes that are given and else of their own.

    Raises:
        InputError: there is no such tensor, a shape does not fit, or an input of unknown rank has none.
    """
    import tensorflow as tf

    graph = frozen.graph
    nodes = {node.name: node for node in graph.node}
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
    for key, tensor in inputs.items():
        node = nodes.get(tensor.partition(":")[0])
        if node is None or not tensor.endswith(":0"):
            raise InputError(
                f"{name}: a shape is given for {key!r}, but the inputs are {', '.join(sorted(frozen.inputs))}"
            )
        port = imported.get_tensor_by_name(tensor)
        given = shapes.get(key)
        if given is not None and not port.shape.is_compatible_with(given):
            raise InputError(f"{name}: shape {tuple(given)} does not fit input {key!r} of shape {port.shape}")
        shape = port.shape.merge_with(given) if given is not None else port.shape
        if shape.rank is None:
            raise InputError(f"{name}: input {key!r} has no shape; give one (--shape {key}=1,224,224,3)")
        node.Clear()
        node.name, node.op = port.op.name, "Placeholder"
        node.attr["dtype"].type = port.dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(shape.as_proto())
    return graph


def _pruned(graph: Any, outputs: Mapping[str, str]) -> Any:
    import tensorflow as tf

    return tf.compat.v1.graph_util.extract_sub_graph(
        graph, list(dict.fromkeys(tensor.partition(":")[0] for tensor in outputs.values()))
    )


class _Problems(logging.Handler):
    """What tf2onnx says that it can't convert: the op's type, its node and the reason."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[tuple[str, str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        said = record.args if isinstance(record.args, tuple) else ()
        if len(said) == 2 and "is not supported" in record.msg:
            self.found.append((str(said[1]), str(said[0]), "tf2onnx has no mapping for it"))
        elif record.exc_info and record.exc_info[1] is not None and said:
            self.found.append(("the op", str(said[0]), str(record.exc_info[1])))


def _converted(graph: Any, inputs: Mapping[str, str], outputs: Mapping[str, str], name: str) -> ir.Model:
    """ONNX of a frozen graph.

    Raises:
        UnsupportedError: naming every op that has no mapping.
    """
    import tensorflow as tf
    from tf2onnx import optimizer, tf_loader, tfonnx

    from mace_cl.frontends.tensorflow import unmapped

    tensors = [list(inputs.values()), list(dict.fromkeys(outputs.values()))]
    with tf.Graph().as_default():
        graph = tf_loader.tf_optimize(*tensors, graph)
    problems = _Problems()
    logging.getLogger("tf2onnx").addHandler(problems)
    with tf.Graph().as_default() as imported:
        tf.import_graph_def(graph, name="")
        made = tfonnx.process_tf_graph(
            imported, continue_on_error=True, opset=OPSET, input_names=tensors[0], output_names=tensors[1]
        )
        if problems.found:
            raise unmapped(name, problems.found)
        proto = optimizer.optimize_graph(made).make_model(name)
    return _named(proto, inputs, outputs)


def _named(proto: Any, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> ir.Model:
    """With exactly these names for inputs and outputs; a node's first output is called as the node."""
    model = ir.serde.deserialize_model(proto)
    graph = model.graph
    tensors = {tensor: key for key, tensor in inputs.items()}
    for value in graph.inputs:
        value.name = tensors.get(str(value.name), value.name)
    values = {str(value.name): value for node in graph for value in node.outputs}
    values |= {inputs.get(str(value.name), str(value.name)): value for value in graph.inputs}
    taken = {*values, *inputs, *outputs, *graph.initializers}
    ends: dict[str, ir.Value] = {}
    for key, tensor in outputs.items():
        value = values[tensor]
        if value.is_graph_input() or any(value is end for end in ends.values()):
            node = ir.node("Identity", [value], name=key, outputs=[ir.Value(name=key, type=value.type)])
            graph.append(node)
            value = node.outputs[0]
        value.name = key
        ends[key] = value
    for name, value in values.items():
        short = name.removesuffix(":0")
        if value.name == name and name not in {*inputs, *outputs} and short not in taken:
            value.name = short
    graph.outputs.clear()
    graph.outputs.extend(ends.values())
    return model
