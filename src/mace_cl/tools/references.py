"""Other engines with a model loaded, to compare with: what each runs, and what it tells of the layers.

Each is given the model's own file, but ONNX Runtime, which is given the graph that was read from it.
"""

from __future__ import annotations

import importlib.util
import io
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mace_cl.errors import HostError, InputError, MaceClError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.frontends.formats import Format

__all__ = ["REFERENCES", "Expected", "Layer", "Model", "Reference", "guarded", "open_reference", "usual"]

Arrays = Mapping[str, "NDArray[Any]"]


@dataclass(frozen=True)
class Layer:
    """A value between the model's ends, what makes it, and the values that that reads, by names."""

    value: str
    node: str
    op: str
    reads: tuple[str, ...]


@dataclass(frozen=True)
class Model:
    """The model's file; the inputs, outputs (with their shapes) and layers of the graph that was read from it; the
    shapes and outputs that were asked for; and whether code in the file may run.
    """

    path: Path
    inputs: tuple[str, ...]
    ends: Mapping[str, tuple[int, ...] | None]
    layers: tuple[Layer, ...]
    shapes: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    trust: bool = False


class Reference(Protocol):
    """An engine with a model loaded; ``layers`` are in the order in which they run, none where it tells of none."""

    title: str
    layers: tuple[Layer, ...]

    def run(self, sample: Arrays, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        """The model's outputs, or values of ``layers``, by our names."""


class Expected:
    """Outputs that are known, of one sample."""

    title = "the outputs that are expected"
    layers: tuple[Layer, ...] = ()

    def __init__(self, outputs: Arrays) -> None:
        self._outputs = dict(outputs)

    def run(self, sample: Arrays, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        return self._outputs


class OnnxRuntime:
    """ONNX Runtime on the graph that was read, each tensor rounded where that says so."""

    def __init__(self, model: Model) -> None:
        from mace_cl.runtime.host import onnxruntime_module

        self._model, self._ort = model, onnxruntime_module()
        self._session: Any = None
        self.title = f"ONNX Runtime {self._ort.__version__}, on the graph that was read"
        self.layers = model.layers

    def run(self, sample: Arrays, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        session = self._open(outputs) if outputs else self._session or self._open(self._model.outputs)
        if not outputs:
            self._session = session
        names = [port.name for port in session.get_outputs()]
        given = {port.name: sample[port.name] for port in session.get_inputs()}
        return dict(zip(names, session.run(names, given), strict=True))

    def _open(self, outputs: Sequence[str]) -> Any:
        from mace_cl.frontends.read import as_onnx, load

        path = self._model.path
        model = as_onnx(load(path, self._model.shapes or None, outputs, trust=self._model.trust), path, outputs)
        if model is None:
            raise InputError(f"{path}: is too large to be handed to ONNX Runtime")
        options = self._ort.SessionOptions()
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        options.log_severity_level = 3
        return self._ort.InferenceSession(
            str(model) if isinstance(model, Path) else model, options, providers=["CPUExecutionProvider"]
        )


class TfLite:
    """TensorFlow Lite's own runtime, as it is by default; for values between, without its delegates."""

    def __init__(self, model: Model) -> None:
        from ai_edge_litert import interpreter

        self._module, self._path = interpreter, str(model.path)
        self._outputs = model.outputs
        self.title = f"TensorFlow Lite (ai-edge-litert {_version('ai-edge-litert')})"
        self._whole = interpreter.Interpreter(self._path, num_threads=1)
        self._inner: Any = None
        names = {one["index"]: one["name"] for one in self._whole.get_tensor_details()}
        made = [
            (one["op_name"], [names[index] for index in one["inputs"] if index in names],
             [names[index] for index in one["outputs"] if index in names])
            for one in self._plain()._get_ops_details()
        ]  # fmt: skip
        values = {name for _, _, outputs in made for name in outputs}
        self.layers = tuple(
            Layer(outputs[0], outputs[0], op, tuple(name for name in inputs if name in values))
            for op, inputs, outputs in made
            if outputs
        )

    def run(self, sample: Arrays, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        wanted = tuple(outputs) or self._outputs
        engine = self._plain() if wanted else self._whole
        ports = {one["name"]: one["index"] for one in engine.get_input_details()}
        for name, array in sample.items():
            if name in ports:
                engine.resize_tensor_input(ports[name], array.shape)
        engine.allocate_tensors()
        for name, array in sample.items():
            if name in ports:
                engine.set_tensor(ports[name], array)
        engine.invoke()
        made = engine.get_tensor_details() if wanted else engine.get_output_details()
        indices = {one["name"]: one["index"] for one in made}
        return {name: engine.get_tensor(indices[name]) for name in wanted or indices}

    def _plain(self) -> Any:
        if self._inner is None:
            self._inner = self._module.Interpreter(
                self._path, num_threads=1, experimental_preserve_all_tensors=True,
                experimental_op_resolver_type=self._module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )  # fmt: skip
        return self._inner


class FrozenGraph:
    """TensorFlow on a frozen graph, whose nodes' names are ours."""

    def __init__(self, model: Model) -> None:
        tf = _tensorflow_module()
        self.title = f"TensorFlow {tf.__version__}"
        definition = tf.compat.v1.GraphDef.FromString(model.path.read_bytes())
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(definition, name="")
        self._graph, self._session = graph, tf.compat.v1.Session(graph=graph)
        self._inputs, self._outputs = model.inputs, list(model.ends)
        made = [one for one in graph.get_operations() if one.outputs and one.inputs]
        values = {one.name for one in made}
        self.layers = tuple(
            Layer(one.name, one.name, one.type, tuple(x.op.name for x in one.inputs if x.op.name in values))
            for one in made
        )

    def run(self, sample: Arrays, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        wanted = list(outputs or self._outputs)
        given = {self._tensor(name): sample[name] for name in self._inputs}
        found = self._session.run([self._tensor(name) for name in wanted], given)
        return dict(zip(wanted, map(np.asarray, found), strict=True))

    def _tensor(self, name: str) -> Any:
        return self._graph.get_tensor_by_name(name if ":" in name else f"{name}:0")


class Callables:
    """A framework's own function of the model: its ports are ours by name, or else by their order."""

    layers: tuple[Layer, ...] = ()

    def __init__(self, model: Model, title: str, call: Callable[[dict[str, NDArray[Any]]], Any]) -> None:
        self._model, self.title, self._call = model, title, call
        self._inputs, self._outputs = model.inputs, list(model.ends)

    def run(self, sample: Arrays, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
        found = self._call({name: sample[name] for name in self._inputs})
        arrays = {str(key): np.asarray(value) for key, value in found.items()}
        if set(self._outputs) <= set(arrays):
            return {name: arrays[name] for name in self._outputs}
        if len(arrays) != len(self._outputs):
            raise InputError(
                f"{self._model.path}: {self.title} gives {len(arrays)} outputs ({', '.join(arrays)}), and here there "
                f"are {len(self._outputs)}; compare without --outputs, or with --reference onnxruntime"
            )
        return dict(zip(self._outputs, arrays.values(), strict=True))


def _tensorflow_module() -> Any:
    """TensorFlow, without what its libraries write to the terminal while they are loaded."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import tensorflow

        tensorflow.config.set_visible_devices([], "GPU")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
    tensorflow.get_logger().setLevel("ERROR")
    return tensorflow


def _tensorflow(model: Model) -> Reference:
    from mace_cl.frontends.formats import model_file, opened, sniff_tensorflow

    with opened(model.path) as view:
        frozen = sniff_tensorflow(view)
    if frozen:
        return FrozenGraph(model)
    tf = _tensorflow_module()
    title = f"TensorFlow {tf.__version__}"
    if model_file(model.path).name == "saved_model.pb":
        loaded = tf.saved_model.load(str(model_file(model.path).parent))
        function = loaded.signatures["serving_default"]
        keys = list(function.structured_input_signature[1])

        def signature(given: dict[str, NDArray[Any]]) -> Any:
            by_name = set(keys) <= set(given)
            values = [given[key] for key in keys] if by_name else list(given.values())
            return function(**{key: tf.constant(value) for key, value in zip(keys, values, strict=True)})

        return Callables(model, title, signature)
    import keras

    network = keras.models.load_model(model.path, compile=False, safe_mode=not model.trust)

    def call(given: dict[str, NDArray[Any]]) -> dict[str, Any]:
        names = [tensor.name for tensor in network.inputs]
        by_name = set(names) <= set(given)
        values = [given[name] for name in names] if by_name else list(given.values())
        found = network(values[0] if len(values) == 1 else values, training=False)
        several = found if isinstance(found, (list, tuple)) else [found]
        return found if isinstance(found, dict) else {str(place): value for place, value in enumerate(several)}

    return Callables(model, f"Keras {keras.__version__} on {title}", call)


def _torch(model: Model) -> Reference:
    import torch

    from mace_cl.frontends.formats import opened
    from mace_cl.frontends.torch import guarded

    with opened(model.path) as view:
        kind, data, _ = guarded(view, str(model.path), bool(model.trust))
    file = str(model.path) if data is None else io.BytesIO(data)
    module: Any
    if kind == "program":
        module = torch.export.load(file).module()
    elif kind == "script":
        module = torch.jit.load(file, map_location="cpu")
    else:
        module = torch.load(file, map_location="cpu", weights_only=False).eval()

    def call(given: dict[str, NDArray[Any]]) -> dict[str, Any]:
        with torch.no_grad():
            found = module(*(torch.from_numpy(np.ascontiguousarray(array)) for array in given.values()))
        flat = torch.utils._pytree.tree_leaves(found)
        return {str(place): tensor.detach().numpy() for place, tensor in enumerate(flat)}

    return Callables(model, f"PyTorch {torch.__version__}", call)


def _opencv(model: Model) -> Reference:
    import cv2

    from mace_cl.frontends.formats import caffe_partner

    partner = caffe_partner(model.path)
    text, weights = (model.path, partner) if model.path.suffix != ".caffemodel" else (partner, model.path)
    if text is None or weights is None:
        raise InputError(f"{model.path}: OpenCV needs a .prototxt and a .caffemodel; --reference onnxruntime does not")
    network = cv2.dnn.readNetFromCaffe(str(text), str(weights))

    def call(given: dict[str, NDArray[Any]]) -> dict[str, Any]:
        for name, array in given.items():
            network.setInput(array, name)
        ends = list(network.getUnconnectedOutLayersNames())
        found = dict(zip(ends, network.forward(ends), strict=True))
        return {name: array.reshape(model.ends.get(name) or array.shape) for name, array in found.items()}

    return Callables(model, f"OpenCV {cv2.__version__}", call)


@dataclass(frozen=True)
class _Engine:
    runs: Callable[[Format], bool]
    package: str
    extra: str
    opened: Callable[[Model], Reference]


REFERENCES: dict[str, _Engine] = {
    "tflite": _Engine(lambda form: form.title.startswith("TensorFlow Lite"), "ai_edge_litert", "tflite", TfLite),
    "tensorflow": _Engine(
        lambda form: "Keras" in form.title or form.title.startswith(("TensorFlow graph", "TensorFlow SavedModel")),
        "tensorflow", "tensorflow", _tensorflow,
    ),
    "torch": _Engine(lambda form: form.title.startswith("PyTorch"), "torch", "torch", _torch),
    "opencv": _Engine(lambda form: form.title.startswith("Caffe"), "cv2", "opencv", _opencv),
    "onnxruntime": _Engine(lambda form: True, "onnxruntime", "ort", OnnxRuntime),
}  # fmt: skip
"""By name; the first that runs a format is its usual one."""


def usual(form: Format) -> str:
    """The reference of a format where none is asked for: what its models were made for."""
    return next(name for name, engine in REFERENCES.items() if engine.runs(form))


def open_reference(name: str, form: Format, model: Model) -> Reference:
    """The engine ``name`` with the model loaded.

    Raises:
        InputError: it does not run models of this format; says which engines do.
        HostError: its package is missing, or it can't load the model.
    """
    engine = REFERENCES[name]
    if not engine.runs(form):
        able = " and ".join(key for key, one in REFERENCES.items() if one.runs(form))
        raise InputError(f"--reference {name}: does not run a {form.title}, which {model.path} is; {able} can")
    if importlib.util.find_spec(engine.package) is None:
        other = "" if name == "onnxruntime" else ", or compare with another engine: --reference onnxruntime"
        raise HostError(f"{engine.package} is not installed; pip install 'mace-cl[{engine.extra}]'{other}")
    with _guard(model.path, name):
        return engine.opened(model)


def guarded(path: Path, reference: Reference, sample: Arrays, outputs: Sequence[str] = ()) -> dict[str, NDArray[Any]]:
    """`Reference.run`.

    Raises:
        HostError: the engine failed.
    """
    with _guard(path, reference.title):
        return reference.run(sample, outputs)


@contextmanager
def _guard(path: Path, name: str) -> Iterator[None]:
    """Whatever an engine raises, which differs between engines and versions, as our error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except MaceClError:
        raise
    except Exception as error:
        raise HostError(f"{path}: {name} can't run it as a reference: {error}") from error


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
