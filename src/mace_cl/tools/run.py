"""Run a model or a compiled program on arrays or images from files."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_cl.errors import InputError
from mace_cl.tools.common import DeviceName, Preprocessing, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.engine import Runtime
    from mace_cl.program.bucket import Input
    from mace_cl.program.inspect import PortView
    from mace_cl.program.policy import Decision
    from mace_cl.schedule import Place, Port
    from mace_cl.tune.search import State

__all__ = ["Latency", "OutputView", "RunArgs", "RunResult", "Score", "run"]


@dataclass(frozen=True)
class RunArgs:
    """What to run on what.

    ``inputs`` are ``FILE`` or ``NAME=FILE``, ``outputs`` as `mace_cl.tools.tensors.check_outputs`
    says.  ``seed`` fills the inputs not given with random numbers; None leaves them missing.
    ``repeat`` runs follow the first one and are timed.  ``top`` best scores are named, with
    ``labels``, a text file with one class per line.  ``model_outputs`` replace the model's.  ``where``
    tells where each node runs; it needs no inputs, and without any nothing is run.  ``before`` are timings
    in seconds of what the caller did before.  The rest is as for `mace_cl.Runtime`.
    """

    model: Path
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    seed: int | None = None
    image: Preprocessing = field(default_factory=Preprocessing)
    top: int = 0
    labels: Path | None = None
    repeat: int = 0
    program: Path | None = None
    device: str | None = None
    store: bool | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    model_outputs: tuple[str, ...] = ()
    runtime: str | None = None
    provider: str | None = None
    where: bool = False
    jobs: int | None = None
    progress: Progress | None = None
    exact: bool | None = None
    queue_window: int | None = None
    kernel_limit: int | None = None
    trust: bool | None = None
    tune: float = 0.0
    watch: Callable[[State], None] | None = None
    before: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """One of the highest elements of an output."""

    index: int
    label: str | None
    value: float


@dataclass(frozen=True)
class OutputView:
    """An output and what can be said of it in a line; the extremes leave out the ``nans`` elements that are NaN."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    minimum: float
    maximum: float
    mean: float
    nans: int
    top: tuple[Score, ...]
    array: NDArray[Any] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Latency:
    """Seconds of the runs after the first."""

    runs: int
    minimum: float
    median: float


@dataclass(frozen=True)
class RunResult:
    """``inputs`` says for each input where it came from and what was done to it; ``timings`` are seconds.

    ``bucket`` tells the shapes and parameters that the part was compiled for, of a model that leaves them open.
    """

    device: DeviceName
    decision: Decision
    inputs: dict[str, str]
    outputs: tuple[OutputView, ...]
    written: tuple[Path, ...]
    latency: Latency | None
    timings: dict[str, float]
    where: tuple[Place, ...] = ()
    bucket: str = ""


def run(args: RunArgs) -> RunResult:
    """Start, run, and write the outputs.

    Raises:
        InputError: an argument does not fit, or there is no input; the message lists them.
        StorageError: an output can't be written.
        MaceClError: as `mace_cl.Runtime`.
    """
    begin = time.perf_counter()
    from mace_cl.device import find
    from mace_cl.engine import Runtime, tune_model
    from mace_cl.request import Clock
    from mace_cl.settings import Settings
    from mace_cl.tools import tensors
    from mace_cl.tools.samples import read_labels

    if not args.model.exists():
        raise InputError(f"{args.model}: no such file; check the path")
    tensors.check_files(args.inputs)
    tensors.check_outputs(args.outputs)
    labels = read_labels(args.labels) if args.labels else None
    given = bool(args.inputs) or args.seed is not None
    if not given and not args.where:
        raise InputError(
            f"{args.model}: no input was given. It takes {tensors.describe(_inputs_of(args))}. Give each with "
            "--input NAME=FILE, or --random for random numbers"
        )
    settings = Settings.load(
        device=args.device, store=args.store, jobs=args.jobs, runtime=args.runtime, provider=args.provider,
        exact=args.exact,
    )  # fmt: skip
    timings = {**args.before, "imports": time.perf_counter() - begin}
    before = time.perf_counter()
    clock = Clock()
    device = find(settings.device, alone=True, mark=clock.mark)
    clock.mark("device")
    timings |= clock.seconds
    found = time.perf_counter() - before
    if args.tune:
        tune_model(
            args.model, args.tune, program=args.program, device=device, store=settings.store,
            shapes=args.shapes or None, outputs=args.model_outputs, jobs=settings.jobs,
            runtime=settings.runtime, provider=settings.provider, exact=args.exact, trust=args.trust,
            progress=args.progress, watch=args.watch,
        )  # fmt: skip
        timings["tuning"] = time.perf_counter() - before - found
    with Runtime(
        args.model, program=args.program, device=device, store=settings.store, shapes=args.shapes or None,
        outputs=args.model_outputs, jobs=settings.jobs, progress=args.progress, runtime=settings.runtime,
        provider=settings.provider, exact=args.exact, queue_window=args.queue_window,
        kernel_limit=args.kernel_limit, trust=args.trust,
    ) as runtime:  # fmt: skip
        timings |= {step: seconds for step, seconds in runtime.timings.items() if step != "device"}
        if not given:
            return RunResult(
                DeviceName.of(device), runtime.decision, {}, (), (), None, timings, runtime.where, _bucket(runtime)
            )
        before = time.perf_counter()
        arrays, sources = tensors.read_inputs(
            args.inputs, runtime.inputs, args.image, [one.name for one in runtime.symbolic if one.open]
        )
        missing = [port for port in runtime.inputs if port.name not in arrays]
        if args.seed is not None:
            arrays |= tensors.random_inputs(missing, args.seed)
            sources |= {port.name: f"random, seed {args.seed}" for port in missing}
        elif missing:
            raise InputError(f"missing inputs: {tensors.describe(missing)}; give each with --input NAME=FILE")
        timings["input files"] = time.perf_counter() - before
        before = time.perf_counter()
        outputs = tensors.arrays_of(runtime.run(arrays))
        timings["first run"] = time.perf_counter() - before
        timings |= {step: seconds for step, seconds in runtime.timings.items() if step != "device"}
        latency = _latency(runtime, arrays, args.repeat)
        views = tuple(_view(name, array, args.top, labels) for name, array in outputs.items())
        if args.top and not any(view.top for view in views):
            raise InputError(
                f"--top: no output is a single row of scores; the model gives {tensors.describe(runtime.outputs)}"
            )
        written = tensors.write_outputs(args.outputs, outputs)
        where = runtime.where if args.where else ()
        return RunResult(
            DeviceName.of(device), runtime.decision, sources, views, written, latency, timings, where, _bucket(runtime)
        )


def _bucket(runtime: Runtime) -> str:
    return str(runtime.buckets[-1]) if runtime.buckets else ""


def _inputs_of(args: RunArgs) -> Sequence[Input | Port | PortView]:
    """The inputs of a model or program, which is not compiled for that."""
    from mace_cl.compiler import inputs_of
    from mace_cl.frontends.formats import opened
    from mace_cl.frontends.read import load
    from mace_cl.program.format import is_program, open_program
    from mace_cl.program.inspect import PortView

    with opened(args.model) as view:
        head = bytes(view[:16])
    if is_program(head):
        program = open_program(args.model).program
        return program.inputs or program.targets[0].schedule.inputs
    if found := inputs_of(args.model, args.shapes, args.model_outputs, bool(args.trust)):
        return found
    graph = load(args.model, args.shapes, args.model_outputs, trust=bool(args.trust)).graph
    inputs = [value for value in graph.inputs if value.name not in graph.initializers]
    return [
        PortView(
            str(value.name),
            value.dtype.numpy().name if value.dtype else "of unknown type",
            value.shape.numpy() if value.shape else (),
        )
        for value in inputs
    ]


def _latency(runtime: Any, arrays: Mapping[str, Any], repeat: int) -> Latency | None:
    from statistics import median

    seconds = []
    for _ in range(repeat):
        before = time.perf_counter()
        runtime.run(arrays)
        seconds.append(time.perf_counter() - before)
    return Latency(repeat, min(seconds), median(seconds)) if seconds else None


def _view(name: str, array: NDArray[Any], top: int, labels: list[str] | None) -> OutputView:
    import numpy as np

    known = array[~np.isnan(array)] if array.dtype.kind == "f" else array
    low, high, mean = (np.nan,) * 3
    if known.size and array.dtype.kind in "biuf":
        low, high, mean = float(known.min()), float(known.max()), float(known.mean(dtype=np.float64))
    scores: tuple[Score, ...] = ()
    if top and array.dtype.kind in "biuf" and array.size and array.size == max(array.shape, default=1):
        row = array.reshape(-1)
        if labels is not None and len(labels) != row.size:
            raise InputError(f"--labels: has {len(labels)} lines, but the output {name!r} has {row.size} scores")
        # highest first, NaN last
        order = np.argsort(-row.astype(np.float64), kind="stable")[:top]
        scores = tuple(Score(int(i), labels[i] if labels else None, float(row[i])) for i in order)
    return OutputView(name, str(array.dtype), array.shape, low, high, mean, array.size - known.size, scores, array)
