"""A deployment file of MACE: its models converted, each into a directory that can be copied to a device and run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mace_cl.errors import InputError
from mace_cl.program.format import replace_file
from mace_cl.tools.common import PROGRAM_NAME, Progress
from mace_cl.tools.convert import ConvertArgs, ConvertResult
from mace_cl.tools.layouts import NCHW_TO_NHWC, NHWC_TO_NCHW, order

if TYPE_CHECKING:
    from mace_cl.deploy.deployment import Deployment, DeviceEntry, Graph, Port
    from mace_cl.tools.compile import CompileResult

__all__ = [
    "RUN_CONFIG", "TUNED_NAME", "DeployArgs", "DeployResult", "Deployed", "convert", "deploy", "file_of", "opened",
    "write_run_config",
]  # fmt: skip

RUN_CONFIG = "mace_run.config"
"""Flags of ``mace_run``, one in a line, which it reads in the directory where it is started."""
TUNED_NAME = "mace-cl-tuned-parameters.jsonl"
_MAX_FETCH = 4 << 30
_CHANNELS_FIRST = ("caffe", "onnx", "pytorch", "megengine")
"""Platforms whose images are NCHW."""


@dataclass(frozen=True)
class DeployArgs:
    """A deployment file; ``models`` are those to convert, all where it is empty; the rest as in `ConvertArgs`.

    What is converted is compiled for ``devices``, OpenCL devices of this machine.  ``device_file`` is MACE's list of
    devices that are reached over the network.
    """

    config: Path
    output: Path
    to: Literal["onnx", "mace"] = "onnx"
    models: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    device_file: Path | None = None
    trust: bool = False
    progress: Progress | None = None


@dataclass(frozen=True)
class Deployed:
    """A network of a deployment file, converted.

    ``inputs`` and ``outputs`` are its ports, as the manifest lists them.  ``program`` tells what was compiled.
    """

    model: str
    name: str
    converted: ConvertResult
    inputs: tuple[Mapping[str, Any], ...]
    outputs: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...]
    program: CompileResult | None = None

    @property
    def path(self) -> Path:
        """Of the model's first file."""
        return self.converted.output / next(iter(self.converted.files))

    @property
    def compiled(self) -> Path:
        """The compiled program's place."""
        return self.converted.output / PROGRAM_NAME


@dataclass(frozen=True)
class DeployResult:
    """What was written for each network, what was said of the deployment file, and how to get it to the devices."""

    config: Path
    results: dict[str, Deployed]
    notes: tuple[str, ...]
    steps: tuple[str, ...]


def deploy(args: DeployArgs) -> DeployResult:
    """Convert the models of a deployment file of MACE into ``output/MODEL/model``, where MACE's converter puts them.

    Subgraphs with names have directories of their names in it.  Files are looked for beside the deployment file, then
    in the current directory; those at a URL are fetched into ``output/MODEL/org_model``.  Checksums that are given must
    hold.

    Raises:
        InputError: as `mace_cl.deploy.deployment.load`, a file is missing or has another checksum, names or shapes
            do not fit the model; the package is missing.
        ModelError, UnsupportedError, StorageError: as `mace_cl.tools.convert.run`.
        MaceClError: as `mace_cl.tools.compile.run`, with ``devices``.
    """
    from dataclasses import replace

    from mace_cl.tools import compile as compile_

    deployment, graphs = opened(args.config, args.models)
    from mace_cl.deploy import effects
    from mace_cl.deploy.deployment import devices as read_devices
    from mace_cl.settings import environment

    reached = read_devices(args.device_file, environment()) if args.device_file else ()
    results = {}
    for graph in graphs:
        made = convert(args.config, graph, args.output, args.to, trust=args.trust, progress=args.progress)
        if args.devices and args.to == "onnx":
            runtime, exact = effects.runtime(graph, None), effects.exact(graph)
            program = compile_.run(
                compile_.CompileArgs(
                    made.path, made.compiled, args.devices, bake=True, runtime=runtime, exact=exact,
                    progress=args.progress,
                )
            )  # fmt: skip
            made = replace(made, program=program)
        results[made.name] = made
    notes = effects.file_notes(deployment, devices=args.device_file is not None)
    notes += tuple(note for graph in graphs for note in effects.notes(graph))
    chosen = [one for one in reached if _wanted(one, deployment)]
    if reached and not chosen:
        notes += (f"{args.device_file}: no device is of the file's target_abis and target_socs",)
    return DeployResult(args.config, results, notes, _steps(results, chosen))


def opened(config: Path, models: Sequence[str]) -> tuple[Deployment, list[Graph]]:
    """A deployment file and, of its graphs, those of ``models``, or all; those of a model by their order.

    Raises:
        InputError: as `mace_cl.deploy.deployment.load`, it has no such model, or the packages to read it are missing.
    """
    try:
        from mace_cl.deploy.deployment import load
    except ImportError as error:
        raise InputError(f"{config}: reading it needs {error.name}; pip install 'mace-cl[deploy]'") from error
    from mace_cl.settings import environment

    deployment = load(config, environment())
    names = list(dict.fromkeys(graph.model for graph in deployment.graphs))
    unknown = sorted(set(models) - set(names))
    if unknown:
        raise InputError(f"{config}: has no model {unknown[0]!r}; its models are {', '.join(names)}")
    graphs = [graph for graph in deployment.graphs if not models or graph.model in models]
    return deployment, sorted(graphs, key=lambda graph: (names.index(graph.model), graph.order))


def convert(
    config: Path,
    graph: Graph,
    output: Path,
    to: Literal["onnx", "mace"] = "onnx",
    *,
    trust: bool = False,
    progress: Progress | None = None,
) -> Deployed:
    """One network, with the flags that ``mace_run`` needs for it beside it; raises as `deploy`."""
    from mace_cl.deploy.deployment import DEFAULT_GRAPH
    from mace_cl.export.onnx import ports
    from mace_cl.tools.convert import read, write

    alone = graph.name == DEFAULT_GRAPH
    name = graph.model if alone else f"{graph.model}_{graph.name}"
    where = f"{config}: models.{graph.model}" + ("" if alone else f".{graph.name}")
    if not re.fullmatch(r"[\w.-]*\w", graph.name):
        raise InputError(f"{where}: the name of a subgraph must be of letters, digits and _; rename it")
    folder = output / graph.model / "model"
    say = progress or (lambda what, done, total: None)
    say(f"{name}: reading the model's files", 0, 1)
    found = [file_of(config, path, checksum, output / graph.model / "org_model") for path, checksum in graph.files]
    args = ConvertArgs(
        model=found[0],
        output=folder if alone else folder / graph.name,
        to=to,
        name=name,
        half=to == "mace" and graph.data_type in ("", "fp16_fp32", "fp16_fp16"),
        outputs=tuple(port.name for port in graph.outputs),
        weights=found[1] if len(found) > 1 else None,
        trust=trust,
    )
    args, model = _with_shapes(args, graph, where)
    say(f"{name}: converting", 0, 1)
    model = read(args) if model is None else model
    sizes = ports(model)
    converted = write(args, model)
    inputs, outputs = tuple(sizes["inputs"]), tuple(sizes["outputs"])
    notes = [*_port_notes(name, graph.inputs, inputs), *_port_notes(name, graph.outputs, outputs)]
    extra = [str(one["name"]) for one in inputs if one["name"] not in {port.name for port in graph.inputs}]
    if extra:
        notes.append(f"{name}: the model also takes {', '.join(extra)}, which input_tensors does not name")
    made = Deployed(graph.model, name, converted, inputs, outputs, tuple(notes))
    write_run_config(config, graph, made)
    return made


def write_run_config(config: Path, graph: Graph, made: Deployed) -> None:
    """The flags that ``mace_run`` needs, beside the model, as a file of flags as gflags has them."""
    replace_file(made.converted.output / RUN_CONFIG, [_run_config(config, graph, made).encode()])


_INPUTS_ANYWHERE = ("keras", "tensorflow")
"""Platforms whose models may begin at any tensor that has a shape: their readers say what does not fit."""


def _with_shapes(args: ConvertArgs, graph: Graph, where: str) -> tuple[ConvertArgs, Any]:
    """``args`` with the file's shapes in the model's layout; the model, where it was read and has these shapes."""
    from dataclasses import replace

    from mace_cl.frontends.read import declared
    from mace_cl.tools.convert import read

    model, symbolic = None, declared(args.model, args.outputs) if args.weights is None else None
    inputs: list[Any] = []
    if symbolic is not None:
        inputs = list(symbolic[0].graph.inputs)
    elif graph.platform not in _INPUTS_ANYWHERE:
        try:
            model = read(args)
            inputs = list(model.graph.inputs)
        except InputError:  # shapes are open, and are to be told
            inputs = []
    sizes = {str(value.name): list(value.shape) for value in inputs if value.shape is not None}
    unknown = [port.name for port in graph.inputs if inputs and port.name not in {str(one.name) for one in inputs}]
    if unknown:
        known = ", ".join(str(one.name) for one in inputs)
        raise InputError(f"{where}: input_tensors: the model has no input {unknown[0]!r}; its inputs are {known}")
    shapes = {}
    for port in graph.inputs:
        first = _usual_order(graph, port)
        wanted = sizes.get(port.name, [None] * len(port.shape))
        axes = order(port.shape, wanted, first)
        if axes is None:
            raise InputError(
                f"{where}: input_shapes: {list(port.shape)} does not fit {port.name!r}, which is {wanted} in the model"
            )
        shapes[port.name] = tuple(port.shape[axis] for axis in axes)
    if model is not None and all(shapes[name] == tuple(sizes.get(name, ())) for name in shapes):
        return args, model
    return replace(args, shapes=shapes), None


def _usual_order(graph: Graph, port: Port) -> tuple[int, ...] | None:
    """The axes that a port of the file has in the model, as far as platform and format tell."""
    if len(port.shape) == 4 and port.data_format == "NHWC" and graph.platform in _CHANNELS_FIRST:
        return NHWC_TO_NCHW
    if len(port.shape) == 4 and port.data_format == "NCHW" and graph.platform not in _CHANNELS_FIRST:
        return NCHW_TO_NHWC
    return None


def _port_notes(name: str, said: Sequence[Port], ports: Sequence[Mapping[str, Any]]) -> list[str]:
    """Where the file has another type or shape than the model."""
    by_name = {str(one["name"]): one for one in ports}
    notes = []
    for port in said:
        own = by_name.get(port.name)
        if own is None:
            continue
        if own["dtype"] and own["dtype"] != port.data_type and port.data_type != "float32":
            notes.append(f"{name}: {port.name} is {own['dtype']} in the model, not {port.data_type}; the model's holds")
        if own["shape"] is not None and order(port.shape, own["shape"]) is None:
            notes.append(
                f"{name}: {port.name} is {own['shape']} in the model, not {list(port.shape)}; the model's holds"
            )
    return notes


def _run_config(config: Path, graph: Graph, made: Deployed) -> str:
    files = [name for name in made.converted.files if name.endswith((".onnx", ".pb", ".data"))]
    flags = [("model_name", made.name), ("model_file", files[0])]
    flags += [("model_data_file", files[1])] if len(files) > 1 else []
    flags.append(("opencl_cache_full_path", PROGRAM_NAME))
    flags += [("opencl_parameter_file", TUNED_NAME)] if (made.converted.output / TUNED_NAME).is_file() else []
    for side, said, ports in (("input", graph.inputs, made.inputs), ("output", graph.outputs, made.outputs)):
        own = {str(one["name"]): one["shape"] for one in ports}
        # a name that does not fit into a list of names is the model's own anyway
        if set(own) != {port.name for port in said} or any(re.search(r"[,:\s]", port.name) for port in said):
            continue
        shapes = [port.shape if order(port.shape, own[port.name] or ()) else own[port.name] for port in said]
        flags.append((f"{side}_node", ",".join(port.name for port in said)))
        if all(shape and all(isinstance(size, int) for size in shape) for shape in shapes):
            flags.append((f"{side}_shape", ":".join(",".join(map(str, shape)) for shape in shapes)))
    flags += [("device", "CPU")] if graph.runtime == "cpu" else []
    flags += [("exact", "true")] if graph.winograd == 0 else []
    source = re.sub(r"[^ -~]", "?", config.name)
    begin = f"# Flags for mace_run, made from {source}; paths are relative to this directory.\n"
    return begin + "".join(f"--{name}={value}\n" for name, value in flags)


def _wanted(device: DeviceEntry, deployment: Deployment) -> bool:
    """Whether a device is one that the deployment file is for."""

    def meet(asked: Sequence[str], has: Sequence[str]) -> bool:
        return not asked or not has or bool({one.lower() for one in asked} & {one.lower() for one in has})

    socs = () if {"all", "random"} & {one.lower() for one in deployment.target_socs} else deployment.target_socs
    return meet(deployment.target_abis, device.target_abis) and meet(socs, device.target_socs)


def _steps(results: Mapping[str, Deployed], devices: Sequence[DeviceEntry]) -> tuple[str, ...]:
    """Commands that copy each network to each device and run it there."""
    steps = []
    for device in devices:
        host = f"{device.username}@{device.address}" if device.username else device.address
        for made in results.values():
            steps.append(shlex.join(["scp", "-r", "--", str(made.converted.output), f"{host}:{made.name}"]))
            steps.append(shlex.join(["ssh", "--", host, f"cd {shlex.quote(made.name)} && mace_run"]))
    return tuple(steps)


def file_of(config: Path, name: str, checksum: str, folder: Path) -> Path:
    """A file that a deployment file names, checked; one at a URL is fetched into ``folder``.

    Raises:
        InputError: it is missing, can't be fetched, or has another checksum.
    """
    from mace_cl.deploy.deployment import verified

    if re.match(r"https?://", name):
        path = folder / (re.sub(r"[^\w.-]", "_", name.rstrip("/").rpartition("/")[2]).lstrip(".") or "model")
        if not (path.is_file() and checksum):
            _fetch(name, path)
        return verified(path, checksum)
    path = config.parent / name
    return verified(path if path.is_file() else Path(name), checksum)


def _fetch(url: str, path: Path) -> None:
    import http.client
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            data = answer.read(_MAX_FETCH + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise InputError(f"{url}: can't be fetched ({reason}); get it by other means and name the file") from error
    if len(data) > _MAX_FETCH:
        raise InputError(f"{url}: has more than {_MAX_FETCH} bytes; get it by other means and name the file")
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, [data])
