"""The models of a deployment file of MACE run, and where asked for validated, measured and tuned."""

from __future__ import annotations

import shlex
import time
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mace_cl.errors import InputError, StorageError
from mace_cl.tools import benchmark, deploy, report, run, tensors, tune, validate
from mace_cl.tools.common import Preprocessing, Progress, check_writable
from mace_cl.tools.layouts import order

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.deploy.deployment import Graph, Port
    from mace_cl.tune.search import State

__all__ = ["DeployRunArgs", "DeployRunResult", "NetworkResult", "run_config"]

Arrays = dict[str, "NDArray[Any]"]

INPUTS, OUTPUTS = "inputs.npz", "outputs.npz"


@dataclass(frozen=True)
class DeployRunArgs:
    """A deployment file; of it, ``models``, or all.  They are converted into ``output`` as `mace_cl.tools.deploy` does.

    ``inputs`` replace those of the file, for one network.  ``validation`` and ``benchmark`` do what the verbs of these
    names do; ``report`` is the page that the verb ``report`` writes, for several networks one each, with their names in
    the page's.  ``device``, ``runtime``, ``provider`` and ``exact`` replace what the file says; the rest is as for
    `mace_cl.tools.run.RunArgs`.
    """

    config: Path
    output: Path = Path("build")
    models: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    image: Preprocessing = field(default_factory=Preprocessing)
    seed: int = 0
    validation: bool = False
    benchmark: bool = False
    report: Path | None = None
    tune: float = 0.0
    repeat: int = 0
    top: int = 0
    labels: Path | None = None
    device: str | None = None
    runtime: str | None = None
    provider: str | None = None
    exact: bool | None = None
    trust: bool = False
    store: bool | None = None
    jobs: int | None = None
    progress: Progress | None = None
    watch: Callable[[State], None] | None = None


@dataclass(frozen=True)
class NetworkResult:
    """What was made of a network: the deployed directory, the run, and what was asked for besides.

    ``validation`` compares the outputs with ``validation_outputs_data``, or with ONNX Runtime's where the file
    names none.
    """

    deployed: deploy.Deployed
    run: run.RunResult
    validation: validate.ValidateResult | None = None
    benchmark: benchmark.BenchmarkResult | None = None
    report: Path | None = None


@dataclass(frozen=True)
class DeployRunResult:
    """The networks by name, in the order in which they ran, and what was said of the deployment file."""

    config: Path
    results: dict[str, NetworkResult]
    notes: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether no validation failed."""
        return all(one.validation is None or one.validation.passed for one in self.results.values())


def run_config(args: DeployRunArgs) -> DeployRunResult:
    """Convert, compile, run; tune before, validate and measure after, where asked for.

    Inputs are the file's ``validation_inputs_data``, else what an earlier subgraph of the model gave under this name,
    else seeded random numbers in its ``input_ranges``.  They are kept beside the model's directory, in
    ``output/MODEL/run``, with the outputs.

    Raises:
        InputError: as `mace_cl.tools.deploy.deploy`; or data for an input or output do not fit it.
        MaceClError: as `mace_cl.tools.run.run`, `mace_cl.tools.validate.run` and `mace_cl.tools.benchmark.run`.
    """
    deployment, graphs = deploy.opened(args.config, args.models)
    from mace_cl.deploy import effects

    if args.inputs and len(graphs) != 1:
        raise InputError("--input: goes with one network; name it with --model_name")
    if args.runtime:
        graphs = [replace(graph, runtime="cpu" if args.runtime == "cpu" else "") for graph in graphs]
    if args.exact:
        graphs = [replace(graph, winograd=0) for graph in graphs]
    if args.report is not None:
        check_writable(args.report)
    notes = effects.file_notes(deployment, devices=False)
    results: dict[str, NetworkResult] = {}
    passed_on: dict[str, Arrays] = {}
    for graph in graphs:
        notes += effects.notes(graph)
        begin = time.perf_counter()
        made = deploy.convert(args.config, graph, args.output, trust=args.trust, progress=args.progress)
        spent = time.perf_counter() - begin
        found = _network(args, graph, made, passed_on.get(graph.model, {}))
        if args.report is not None:
            page = args.report if len(graphs) == 1 else args.report.with_stem(f"{args.report.stem}-{made.name}")
            found = replace(found, report=_report(args, graph, found, page, spent))
        results[made.name] = found
        passed_on.setdefault(graph.model, {}).update({view.name: view.array for view in found.run.outputs})
    return DeployRunResult(args.config, results, notes)


def _network(args: DeployRunArgs, graph: Graph, made: deploy.Deployed, before: Arrays) -> NetworkResult:
    from mace_cl.deploy import effects

    def say(what: str, done: int, total: int) -> None:
        if args.progress:
            args.progress(f"{made.name}: {what}", done, total)

    folder = args.output / graph.model / "run" / made.name
    inputs = _inputs(args, graph, made, before)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: can't be written ({error.strerror}); name another place") from error
    tensors.write_outputs([str(folder / INPUTS)], inputs)
    how = _how(args, graph, made) | {"progress": say}
    window, limit = effects.responsive(graph)
    say("running", 0, 1)
    ran = run.run(
        run.RunArgs(
            inputs=(str(folder / INPUTS),), outputs=(str(folder / OUTPUTS),), repeat=args.repeat,
            top=args.top, labels=args.labels, tune=args.tune, watch=args.watch, queue_window=window, kernel_limit=limit,
            **how,
        )
    )  # fmt: skip
    if args.tune and args.store is not False:
        with suppress(InputError):  # no kernel has parameters
            tune.export(made.converted.output / deploy.TUNED_NAME)
        deploy.write_run_config(args.config, graph, made)
    validation, measured = None, None
    if args.validation:
        say("validating", 0, 1)
        validation = validate.run(
            validate.ValidateArgs(
                reference="onnxruntime", data=folder / INPUTS, expected=_expected(args, graph, made),
                save=folder / "failed.npz",
                thresholds={
                    "cpu": graph.thresholds["CPU"], "gpu": graph.thresholds["GPU"],
                    "quantised": graph.thresholds["QUANTIZE"],
                },
                **how,
            )
        )  # fmt: skip
    if args.benchmark:
        measured = benchmark.run(benchmark.BenchmarkArgs(**how))
    return NetworkResult(made, ran, validation, measured)


def _how(args: DeployRunArgs, graph: Graph, made: deploy.Deployed) -> dict[str, Any]:
    """What every verb is told of the network."""
    from mace_cl.deploy import effects

    return {
        "model": made.path, "program": made.compiled, "device": args.device, "store": args.store, "jobs": args.jobs,
        "runtime": args.runtime or effects.runtime(graph, args.provider), "provider": args.provider,
        "exact": effects.exact(graph), "progress": args.progress,
    }  # fmt: skip


def _report(args: DeployRunArgs, graph: Graph, found: NetworkResult, page: Path, converting: float) -> Path:
    """The page of the verb ``report``, which begins with what was done here."""
    command = shlex.join(["mace-cl", "run", "--config", args.config.name, "--model_name", graph.model])
    made, timings = found.deployed, found.run.timings
    steps = [
        report.Step("convert", command, converting, f"{made.converted.source_format}, written as {made.path.name}"),
        report.Step("compile and run", command, sum(timings.values()), found.run.decision.sentence),
    ]
    asked = report.ReportArgs(output=page, before=tuple(steps), **_how(args, graph, made))
    return report.run(asked).output


def _expected(args: DeployRunArgs, graph: Graph, made: deploy.Deployed) -> Arrays | None:
    """The file's ``validation_outputs_data``, in the model's order of axes."""
    if not graph.validation_outputs:
        return None
    _one_each(args.config, graph, "validation_outputs_data", graph.validation_outputs, graph.outputs)
    shapes = {str(one["name"]): one["shape"] for one in made.outputs}
    arrays: Arrays = {}
    for port, name in zip(graph.outputs, graph.validation_outputs, strict=True):
        path = _data(args, graph, name)
        arrays[port.name] = _fitted(_read(path), port, shapes[port.name] or port.shape, path)
    return arrays


def _inputs(args: DeployRunArgs, graph: Graph, made: deploy.Deployed, before: Arrays) -> Arrays:
    """Arrays as the model takes them, for each input that the file names."""
    from mace_cl.schedule import Port as ModelPort

    ports = {
        str(one["name"]): ModelPort(str(one["name"]), str(one["dtype"]), tuple(one["shape"]), None)
        for one in made.inputs
    }
    arrays: Arrays = {}
    if args.inputs:
        tensors.check_files(args.inputs)
        arrays, _ = tensors.read_inputs(args.inputs, list(ports.values()), args.image)
    if graph.validation_inputs:
        _one_each(args.config, graph, "validation_inputs_data", graph.validation_inputs, graph.inputs)
    for number, said in enumerate(graph.inputs):
        if said.name in arrays:
            continue
        own = ports[said.name]
        dtype, shape = np.dtype(own.dtype), own.shape or ()
        if graph.validation_inputs:
            path = _data(args, graph, graph.validation_inputs[number])
            array = _fitted(_read(path), said, shape, path)
        elif said.name in before and before[said.name].size == np.prod(shape):
            array = before[said.name].reshape(shape)
        else:
            array = _random(shape, dtype, said.range, args.seed, said.name)
        arrays[said.name] = np.ascontiguousarray(array, dtype)
    return arrays | tensors.random_inputs([port for name, port in ports.items() if name not in arrays], args.seed)


def _random(
    shape: Sequence[int], dtype: np.dtype[Any], span: tuple[float, float], seed: int, name: str
) -> NDArray[Any]:
    """Uniform in a range; whole numbers in it, and of the type, for integers."""
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    low, high = sorted(span)
    if dtype.kind not in "iu":
        return rng.uniform(low, high, shape)
    limits = np.iinfo(dtype)
    least, most = (int(np.clip(round(one), limits.min, limits.max)) for one in (low, high))
    return rng.integers(least, most, shape, dtype=dtype, endpoint=True)


def _one_each(config: Path, graph: Graph, key: str, files: Sequence[str], ports: Sequence[Port]) -> None:
    if len(files) != len(ports):
        raise InputError(
            f"{config}: models.{graph.model}: {key} has {len(files)} files for {len(ports)} values; give one for each"
        )


def _data(args: DeployRunArgs, graph: Graph, name: str) -> Path:
    return deploy.file_of(args.config, name, "", args.output / graph.model / "run")


def _read(path: Path) -> NDArray[Any]:
    """An array of numbers from a .npy file."""
    try:
        # mapped: a size that the header claims and the file lacks takes no memory
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: no .npy file of numbers ({error}); write it with numpy.save") from error
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise InputError(f"{path}: holds no single array of numbers; write it with numpy.save")
    return array


def _fitted(array: NDArray[Any], port: Port, wanted: Sequence[int], path: Path) -> NDArray[Any]:
    """In the model's order of axes: that of the file where it has its shape, or as many elements."""
    for shape in (array.shape, port.shape):
        axes = order(shape, wanted)
        if axes is not None and array.size == np.prod(shape):
            return array.reshape(shape).transpose(axes)
    if array.size == np.prod(wanted):
        return array.reshape(wanted)
    raise InputError(
        f"{path}: holds {list(array.shape)}, but {port.name!r} is {list(wanted)} in the model "
        f"and {list(port.shape)} in the deployment file"
    )
