"""In a child process: one engine with one model, which answers questions about how fast it is.

Peers read the same ONNX file, or what their own converter made of it and put beside it.  All run fp32,
but ``openvino-default``, which OpenVINO lets compute in bf16 where the processor can.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.child import Report
from mace_cl.errors import InputError, MaceClError
from mace_cl.schedule import ITEM_BYTES

__all__ = ["PEERS", "Loaded", "Session", "inputs_for", "missing", "resident"]

Arrays = dict[str, NDArray[Any]]
Ports = Mapping[str, tuple[str, tuple[int, ...] | None]]


@dataclass(frozen=True)
class Loaded:
    """An engine with a model: its version, the inputs' dtypes and shapes by name, and how to run it.

    ``streams`` gives so many ways to run it that may be used at the same time, if it knows any.
    """

    version: str
    ports: Ports
    run: Callable[[Arrays], list[NDArray[Any]]]
    streams: Callable[[int], list[Callable[[Arrays], object]]] | None = None


def inputs_for(ports: Ports) -> Arrays:
    """Seeded inputs: standard normal, for integers 0 to 999, which embeddings of words take as well.

    Raises:
        InputError: an input takes no array of numbers.
    """
    for name, (dtype, shape) in ports.items():
        if dtype not in ITEM_BYTES or shape is None:
            raise InputError(f"input {name!r} takes {dtype}, which can't be filled with random numbers")
    rng = np.random.default_rng(0)
    return {
        name: (rng.standard_normal(shape) if "float" in dtype else rng.integers(0, 1000, shape)).astype(dtype)
        for name, (dtype, shape) in ports.items()
    }


def resident() -> dict[str, int]:
    """Bytes of memory of this process: ``peak``, and now ``anonymous`` (its own) and ``file`` (mapped files)."""
    names = {"VmHWM": "peak", "RssAnon": "anonymous", "RssFile": "file"}
    found: dict[str, int] = {}
    with suppress(OSError), Path("/proc/self/status").open(encoding="ascii") as file:
        for line in file:
            name, _, rest = line.partition(":")
            if name in names:
                found[names[name]] = int(rest.split()[0]) << 10
    if not found:
        with suppress(ImportError):
            import resource

            found["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found


class Session:
    """Answers ``load`` once, then ``block``, ``profile`` and ``memory`` in any order."""

    def __init__(self) -> None:
        self._runtime: Any = None
        self._run: Callable[[], object] | None = None
        self._timings: dict[str, float] = {}
        self._loaded: Loaded | None = None
        self._twins: list[Any] = []
        self._inputs: Arrays = {}

    def __call__(self, request: dict[str, Any], blobs: list[bytes], report: Report) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self, request["do"])(request, report)
            return answer
        except MaceClError as error:
            return {"error": type(error).__name__, "message": str(error)}

    def load(self, request: dict[str, Any], report: Report) -> dict[str, Any]:
        """Load the engine and run once; tells the seconds of both, and gives the outputs where asked to."""
        name, model = request["engine"], Path(request["model"])
        before = time.perf_counter()
        loaded = self._load_own(model, request, report) if name == "mace-cl" else _LOADERS[name](model, request)
        ready = time.perf_counter()
        inputs = inputs_for(loaded.ports)
        self._run, self._loaded, self._inputs = lambda: loaded.run(inputs), loaded, inputs
        begin = time.perf_counter()
        outputs = loaded.run(inputs)
        end = time.perf_counter()
        answer = {"version": loaded.version, "init": ready - before, "first_run": end - begin, "memory": resident()}
        if request.get("outputs"):
            answer["outputs"] = [
                (array.dtype.name, array.shape, base64.b64encode(np.ascontiguousarray(array).tobytes()).decode())
                for array in outputs
            ]
        return answer | self._own(inputs)

    def block(self, request: dict[str, Any], report: Report) -> dict[str, Any]:
        """Seconds of ``runs`` runs."""
        run, seconds = self._run, []
        assert run is not None
        for _ in range(request["runs"]):
            begin = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begin)
        return {"seconds": seconds}

    def profile(self, request: dict[str, Any], report: Report) -> dict[str, Any]:
        """The operations of ``runs`` runs by the device's clock, and what lies in the arena meanwhile."""
        from mace_cl.benchmark.operations import operations, stays

        schedule = self._runtime.schedule
        inputs = inputs_for({port.name: (port.dtype, port.shape) for port in schedule.inputs})
        runs = []
        for number in range(request["runs"]):
            runs.append(self._runtime.profile(inputs))
            report({"progress": ["profiling", number + 1, request["runs"]]})
        return {
            "operations": [asdict(one) for one in operations(schedule, runs)],
            "stays": [asdict(one) for one in stays(schedule)],
        }

    def throughput(self, request: dict[str, Any], report: Report) -> dict[str, Any]:
        """Runs per second of ``streams`` threads within ``seconds``.

        Raises:
            InputError: the engine knows only one.
        """
        loaded, inputs, count = self._loaded, self._inputs, request["streams"]
        assert loaded is not None
        if count > 1 and loaded.streams is None:
            raise InputError("this engine is not measured with several streams")
        runs = loaded.streams(count) if loaded.streams is not None and count > 1 else [loaded.run]
        for run in runs:
            run(inputs)
        done, end = [0] * count, time.perf_counter() + request["seconds"]
        last = [0.0] * count

        def work(number: int) -> None:
            while (now := time.perf_counter()) < end:
                runs[number](inputs)
                done[number] += 1
            last[number] = now

        begin = time.perf_counter()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"rate": sum(number / (at - begin) for number, at in zip(done, last, strict=True))}

    def memory(self, request: dict[str, Any], report: Report) -> dict[str, Any]:
        """What this process holds."""
        return resident()

    def ceilings(self, request: dict[str, Any], report: Report) -> dict[str, Any]:
        """The device's ceilings; the only question to a process that loads nothing."""
        from mace_cl.device import find
        from mace_cl.runtime.ceilings import measure

        return asdict(measure(find(request["device"], alone=True)))

    def _load_own(self, model: Path, request: dict[str, Any], report: Report) -> Loaded:
        before = time.perf_counter()
        from mace_cl import __version__
        from mace_cl.device import find
        from mace_cl.engine import Runtime
        from mace_cl.request import Clock
        from mace_cl.settings import Settings

        clock, imports = Clock(), time.perf_counter() - before
        settings = Settings.load(device=request["device"], store=request["store"], jobs=request["jobs"])
        clock.mark("settings")
        device = find(settings.device, alone=True, mark=clock.mark)
        clock.mark("device")
        runtime = self._runtime = Runtime(
            model, program=request["program"], device=device, store=settings.store, jobs=settings.jobs,
            shapes={name: tuple(shape) for name, shape in request["shapes"].items()} or None,
            progress=lambda what, done, total: report({"progress": [what, done, total]}),
            trust=request.get("trust", False), **request.get("options", {}),
        )  # fmt: skip
        self._timings = {"imports": imports, **clock.seconds}
        self._timings |= {step: seconds for step, seconds in runtime.timings.items() if step != "device"}
        ports = {port.name: (port.dtype, port.shape) for port in runtime.schedule.inputs}

        def streams(count: int) -> list[Callable[[Arrays], object]]:
            self._twins = [*self._twins, *(runtime.twin() for _ in range(count - 1 - len(self._twins)))]
            return [one.run for one in (runtime, *self._twins[: count - 1])]

        return Loaded(__version__, ports, lambda inputs: list(runtime.run(inputs).values()), streams)

    def _own(self, inputs: Arrays) -> dict[str, Any]:
        """What only this engine can tell."""
        if self._runtime is None:
            return {}
        device, schedule = self._runtime.device, self._runtime.schedule
        return {
            "device": {"runtime": device.runtime, "name": device.name, "driver": device.driver},
            "signature": device.signature.digest(),
            "decision": asdict(self._runtime.decision),
            "timings": self._timings,
            "ports": {port.name: (port.dtype, port.shape) for port in schedule.inputs},
            "arena": schedule.arena_bytes,
            "constants": schedule.constant_bytes,
        }


def _ort(model: Path, request: dict[str, Any]) -> Loaded:
    import onnxruntime as ort

    def session(threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def streams(count: int) -> list[Callable[[Arrays], object]]:
        # one session for all, as its documentation advises: the processors are shared out among its callers
        one = session(max(1, request["threads"] // count))
        return [lambda inputs: one.run(None, inputs)] * count

    first = session(request["threads"])
    kinds = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(bool)": "bool"}
    ports = {
        port.name: (kinds.get(port.type, port.type[7:-1]), _shape(port.name, port.shape, request))
        for port in first.get_inputs()
    }
    return Loaded(ort.__version__, ports, lambda inputs: first.run(None, inputs), streams)


def _openvino(model: Path, request: dict[str, Any], precision: str | None = "f32") -> Loaded:
    import openvino

    core = openvino.Core()
    graph = core.read_model(model)
    if request["shapes"]:
        graph.reshape(request["shapes"])
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": request["threads"], "NUM_STREAMS": 1}
    if precision:
        config["INFERENCE_PRECISION_HINT"] = precision
    compiled = core.compile_model(graph, "CPU", config)
    question = compiled.create_infer_request()
    ports = {
        port.any_name: (np.dtype(port.element_type.to_dtype()).name, tuple(port.shape)) for port in compiled.inputs
    }

    def run(inputs: Arrays) -> list[NDArray[Any]]:
        question.infer(inputs)
        return [question.get_output_tensor(index).data.copy() for index in range(len(compiled.outputs))]

    return Loaded(openvino.__version__.partition("-")[0], ports, run)


def _openvino_default(model: Path, request: dict[str, Any]) -> Loaded:
    return _openvino(model, request, None)


def _litert(model: Path, request: dict[str, Any]) -> Loaded:
    import ai_edge_litert
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model.with_suffix(".tflite")), num_threads=request["threads"])
    interpreter.allocate_tensors()
    ins, outs = interpreter.get_input_details(), interpreter.get_output_details()

    def run(inputs: Arrays) -> list[NDArray[Any]]:
        for one, array in zip(ins, inputs.values(), strict=True):
            fits = tuple(one["shape"]) == array.shape  # else its channels come last
            value = array if fits else np.ascontiguousarray(np.moveaxis(array, 1, -1))
            interpreter.set_tensor(one["index"], value.astype(one["dtype"], copy=False))
        interpreter.invoke()
        return [interpreter.get_tensor(one["index"]) for one in outs]

    return Loaded(getattr(ai_edge_litert, "__version__", "unknown"), _ports(request), run)


def _mnn(model: Path, request: dict[str, Any]) -> Loaded:
    import MNN

    interpreter = MNN.Interpreter(str(model.with_suffix(".mnn")))
    session = interpreter.createSession({"numThread": request["threads"], "backend": "CPU", "precision": "high"})
    ins, outs = interpreter.getSessionInputAll(session), interpreter.getSessionOutputAll(session)
    order = MNN.Tensor_DimensionType_Caffe

    def run(inputs: Arrays) -> list[NDArray[Any]]:
        for name, array in inputs.items():
            real = array.dtype == np.float32
            value, kind = (array, MNN.Halide_Type_Float) if real else (array.astype(np.int32), MNN.Halide_Type_Int)
            ins[name].copyFrom(MNN.Tensor(array.shape, kind, value, order))
        interpreter.runSession(session)
        found = []
        for tensor in outs.values():
            shape = tuple(tensor.getShape())
            host = MNN.Tensor(shape, MNN.Halide_Type_Float, np.empty(shape, np.float32), order)
            tensor.copyToHostTensor(host)
            found.append(np.array(host.getNumpyData()).reshape(shape))
        return found

    return Loaded(str(MNN.version()), _ports(request), run)


def _ncnn(model: Path, request: dict[str, Any]) -> Loaded:
    import ncnn

    net = ncnn.Net()
    options = net.opt
    options.num_threads, options.use_vulkan_compute = request["threads"], False
    options.use_fp16_packed = options.use_fp16_storage = options.use_fp16_arithmetic = False
    options.use_bf16_storage = False
    if net.load_param(str(model.with_suffix(".ncnn.param"))) or net.load_model(str(model.with_suffix(".ncnn.bin"))):
        raise MaceClError(f"{model.with_suffix('.ncnn.param')}: ncnn could not load it")
    names = list(net.output_names())

    def run(inputs: Arrays) -> list[NDArray[Any]]:
        with net.create_extractor() as extractor:
            for name, array in zip(net.input_names(), inputs.values(), strict=True):
                value = array[0] if array.dtype == np.float32 else array[0].astype(np.int32)
                extractor.input(name, ncnn.Mat(np.ascontiguousarray(value)))
            return [np.array(extractor.extract(name)[1]) for name in names]

    return Loaded(ncnn.__version__, _ports(request), run)


def _ports(request: dict[str, Any]) -> Ports:
    """Our inputs, for engines whose own files no longer tell them as the model does."""
    return {name: (dtype, tuple(shape)) for name, (dtype, shape) in request["ports"].items()}


def _shape(name: str, shape: list[Any], request: dict[str, Any]) -> tuple[int, ...]:
    given = request["shapes"].get(name)
    return tuple(given) if given else tuple(size if isinstance(size, int) else 1 for size in shape)


_LOADERS: Mapping[str, Callable[[Path, dict[str, Any]], Loaded]] = {
    "ort": _ort,
    "openvino": _openvino,
    "openvino-default": _openvino_default,
    "litert": _litert,
    "mnn": _mnn,
    "ncnn": _ncnn,
}

_NEEDS = {
    # its module, what pip calls it, and the file that its converter puts beside the model
    "ort": ("onnxruntime", "onnxruntime", ""),
    "openvino": ("openvino", "openvino", ""),
    "openvino-default": ("openvino", "openvino", ""),
    "litert": ("ai_edge_litert", "ai-edge-litert", ".tflite"),
    "mnn": ("MNN", "MNN", ".mnn"),
    "ncnn": ("ncnn", "ncnn", ".ncnn.param"),
}

PEERS = tuple(_NEEDS)
"""The engines to compare with."""


def missing(peer: str, model: Path) -> str:
    """Why ``peer`` can't run ``model`` here, or ``""``."""
    module, package, suffix = _NEEDS[peer]
    if find_spec(module) is None:
        return f"{peer} is not installed: `pip install {package}`"
    if suffix and not (beside := model.with_suffix(suffix)).is_file():
        return f"{peer} reads a file of its own, and there is no {beside}: convert the model first"
    return ""
