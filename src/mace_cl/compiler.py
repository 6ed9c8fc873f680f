"""The cold path, from a model to a program: frontend, passes, lowering, binding, building."""

from __future__ import annotations

import base64
import gc
import importlib.util
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl import __version__
from mace_cl.bind import bind, kernels_of
from mace_cl.child import Child, ChildError
from mace_cl.device import block_for, quirk_for
from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DeviceError, HostError, MaceClError, ModelError, UnsupportedError
from mace_cl.frontends.read import as_onnx, declared, load
from mace_cl.graph import type_name
from mace_cl.identity import engine_fingerprint
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.lower import assign, halve, with_algorithms
from mace_cl.lower.winograd import possible
from mace_cl.placement import plan
from mace_cl.plan import Constant, HostCall, KernelCall, Layout, Plan, Traits
from mace_cl.program.bucket import Input, Value
from mace_cl.program.program import ModelIdentity, Pairs, Program, Target, Unit
from mace_cl.request import Request
from mace_cl.runtime.build import Progress
from mace_cl.runtime.compile import Built, Workers, compile_units
from mace_cl.runtime.golden import checkable
from mace_cl.runtime.host import HostPart, inferred, provider_name, refusal, require, share
from mace_cl.runtime.sequence import shares_for
from mace_cl.schedule import Schedule
from mace_cl.settings import Settings
from mace_cl.tune.measure import Bench
from mace_cl.tune.records import RUNGS, Records, place_of, records_path
from mace_cl.tune.search import Choices, State, Summary
from mace_cl.tune.search import tune as search
from mace_cl.tune.space import Convolution

__all__ = [
    "PRODUCER", "Prepared", "build", "choices_for", "inputs_of", "layout_of", "planned", "prepare", "program",
    "traits_of", "tune",
]  # fmt: skip

logger = logging.getLogger("mace_cl")

PRODUCER = f"mace-cl {__version__}"
_NEAR_CACHE = 1 << 20
_MOST_SWEPT = 1 << 26
_LARGE = 1 << 26


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model bound to a device, before its kernels are built.

    ``reference`` is the same model for ONNX Runtime, where it can have it; ``origins`` tells as pairs of
    provenance which choices are tuned, and whether floats lie as halves; ``values`` what the parameters were.
    """

    schedule: Schedule
    constants: NDArray[np.uint8]
    reference: Path | bytes | None
    origins: Pairs = ()
    values: tuple[Value, ...] = ()


def traits_of(device: Device) -> Traits:
    """What the parameter rules may know of a device.

    OpenCL does not tell the number of registers: 16-wide vectors mean AVX-512 with 32, others 16.
    """
    registers = 32 if block_for(device) == 16 else 16
    cores, local = max(1, device.compute_units), device.local_bytes if device.local_dedicated else 0
    if device.kind == "cpu":
        return Traits(cores, registers, _NEAR_CACHE, True)
    return Traits(cores, registers, _NEAR_CACHE, False, local, device.image_texels, max(1, device.max_work_group))


def layout_of(device: Device) -> Layout:
    """The layout family of plans for a device."""
    doubles, halves = "cl_khr_fp64" in device.extensions, not quirk_for(device).slow_halves
    narrow = device.kind == "gpu" and "cl_khr_fp16" in device.extensions  # CPUs compute halves by way of fp32
    return Layout(block_for(device), max(128, device.base_align), doubles, halves, narrow)


def planned(
    source: Path | bytes,
    device: Device,
    shapes: Mapping[str, Sequence[int]] | None,
    progress: Progress | None = None,
    *,
    outputs: Sequence[str] = (),
    values: Mapping[str, NDArray[Any]] | None = None,
    runtime: str = "gpu+cpu",
    provider: str | None = None,
    trust: bool = False,
) -> tuple[Plan, Path | bytes | None]:
    """The model as a plan in the layout of ``device``, and as ONNX Runtime can have it.

    ``runtime`` and ``provider`` say what may run where, ``trust`` whether code in its file may: see
    `mace_cl.settings`.

    Raises:
        HostError: parts of the model run on the host, and ONNX Runtime is missing.
        ModelError, UnsupportedError, InputError: as `mace_cl.frontends.read.load` and `mace_cl.placement.plan`.
    """
    report = progress or (lambda what, done, total: None)
    report("reading the model", 0, 3)
    model = load(source, shapes, outputs, values, trust)
    reference = as_onnx(model, source, outputs)
    with _blamed_on_the_model():
        report("optimising the graph", 1, 3)
        name = provider_name(provider)
        if runtime == "npu" and provider is None:
            raise HostError("--runtime npu needs the name of a provider: --provider QNN, say, or Runtime(provider=…)")
        taken = partial(share, provider=name) if runtime == "npu" else None
        found = plan(
            model,
            layout_of(device),
            provider=name,
            inferred=inferred,
            everything=runtime == "cpu",
            taken=taken,
            absorb=runtime != "gpu",
        )
        if runtime == "gpu" and any(node.reason for node in found.nodes):
            raise refusal(found.nodes)
        require([call.provider for call in found.calls if isinstance(call, HostCall)], found.nodes)
    del model
    _let_go(source)
    return found, reference


def inputs_of(
    source: Path | bytes,
    shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] = (),
    trust: bool = False,
) -> tuple[Input, ...]:
    """The inputs of a model of which some are open once those of ``shapes`` are fixed; empty where all are fixed.

    Raises:
        InputError: ``outputs`` do not fit the model.
    """
    made = tuple(_declared(source, shapes, outputs, trust))
    _let_go(source)
    return made if any(one.open for one in made) else ()


def _declared(
    source: Path | bytes, shapes: Mapping[str, Sequence[int]] | None, outputs: Sequence[str], trust: bool
) -> Iterator[Input]:
    found = declared(source, outputs, trust)
    if found is None:
        return
    model, parameters = found
    for value in model.graph.inputs:
        name = str(value.name)
        if name in model.graph.initializers:
            continue
        own = None if value.shape is None else tuple(size if isinstance(size, int) else None for size in value.shape)
        given = (shapes or {}).get(name)
        shape = own if given is None else tuple(given)
        yield Input(name, type_name(value), shape, name in parameters and given is None)


def _let_go(source: Path | bytes) -> None:
    """Free what was read of a large model: its graph refers to itself, and the collector does not count its weights."""
    size = len(source) if isinstance(source, bytes) else source.stat().st_size
    if size > _LARGE:
        gc.collect()


def choices_for(device: Device, settings: Settings) -> Choices:
    """Algorithms and parameters by the store's tuning records, and by rule where there are none."""
    records = Records(records_path(settings.store_dir) if settings.store else None)
    return Choices(records, traits_of(device), place_of(device), settings.exact)


def prepare(
    source: Path | bytes,
    device: Device,
    shapes: Mapping[str, Sequence[int]] | None,
    progress: Progress | None = None,
    *,
    outputs: Sequence[str] = (),
    values: Mapping[str, NDArray[Any]] | None = None,
    runtime: str = "gpu+cpu",
    provider: str | None = None,
    trust: bool = False,
    choices: Choices | None = None,
) -> Prepared:
    """The model as a schedule for ``device``, with its packed weights; without ``choices`` rules decide.

    Raises:
        HostError, ModelError, UnsupportedError, InputError: as `planned`.
    """
    choices = choices or Choices(Records(None), traits_of(device), place_of(device))
    report = progress or (lambda what, done, total: None)
    found, reference = planned(
        source,
        device,
        shapes,
        progress,
        outputs=outputs,
        values=values,
        runtime=runtime,
        provider=provider,
        trust=trust,
    )
    with _blamed_on_the_model():
        report("planning kernels and memory", 2, 3)
        chosen = halve(with_algorithms(found, choices.algorithm, choices.traits.is_cpu))
        schedule, constants = bind(chosen, choices.traits, choices.parameters, shares_for(device))
        for step in schedule.hosts:
            HostPart(step, constants)
        origins = _origins(found, chosen, schedule, choices)
    report("planning kernels and memory", 3, 3)
    if origins:
        logger.info("Tuning records are used: %s.", "; ".join(f"{name}: {value}" for name, value in origins))
    fixed = tuple(Value.of(name, array) for name, array in sorted((values or {}).items()))
    return Prepared(schedule, constants, reference, (*_halves(chosen), *origins), fixed)


def _origins(plan: Plan, chosen: Plan, schedule: Schedule, choices: Choices) -> Pairs:
    """Which kernels' parameters come from tuning records, and from which rung, as pairs of provenance."""
    rungs: dict[str, list[str]] = {}
    for kernel, problem in zip(schedule.kernels, kernels_of(chosen), strict=True):
        rungs.setdefault(choices.rung(problem), []).append(kernel.name)
    found = [(f"tuned, {rung}", ", ".join(rungs[rung])) for rung in RUNGS[:-1] if rung in rungs]
    if not choices.exact:
        algorithms = Counter(
            choices.rung(Convolution(problem))
            for problem in kernels_of(plan)
            if isinstance(problem, Conv2D) and len(possible(problem)) > 1
        )
        found += [(f"algorithms, {rung}", str(algorithms[rung])) for rung in RUNGS[:-1] if algorithms[rung]]
    return tuple(found)


def _halves(chosen: Plan) -> Pairs:
    """Which types of 16 bits the device's memory holds, as a pair of provenance."""
    kinds = {kind for call in chosen.calls if isinstance(call, KernelCall) for kind in call.kinds if kind}
    return (("halves", ", ".join(sorted(kinds))),) if kinds else ()


@contextmanager
def _blamed_on_the_model() -> Iterator[None]:
    """A file can contradict itself in more ways than there are checks."""
    try:
        yield
    except BuildError as error:
        raise UnsupportedError(str(error)) from error
    except MaceClError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        raise ModelError(
            f"the model can't be compiled ({type(cause).__name__}: {cause}). "
            "If onnx.checker.check_model(model, full_check=True) finds nothing wrong with it, please report this"
        ) from error


def tune(request: Request, choices: Choices, budget: float, watch: Callable[[State], None] | None = None) -> Summary:
    """Measure what is fastest for a model's kernels, for about ``budget`` seconds; results go to the records.

    Raises:
        HostError, ModelError, UnsupportedError, InputError: as `planned`.
        DeviceError: the device can't compile, or fails.
        StorageError: the records can't be written.
    """
    begin, device, settings = time.monotonic(), request.device, request.settings
    assert request.model is not None
    if not device.can_compile:
        raise DeviceError(f"{device.name} ({device.runtime}) {device.reason}")
    found, _ = planned(
        request.model, device, request.shapes, request.progress, outputs=request.outputs, runtime=settings.runtime,
        provider=settings.provider, trust=settings.trust,
    )  # fmt: skip
    calls = [call for call in found.calls if isinstance(call, KernelCall)]
    weights = {id(one): one.array.nbytes for call in calls for one in call.operands if isinstance(one, Constant)}
    before = len(choices.records)
    with Bench(device, settings.jobs, min(assign(found).size + sum(weights.values()), _MOST_SWEPT)) as bench:
        try:
            return search(found, choices, bench, budget - (time.monotonic() - begin), watch)
        except KeyboardInterrupt:
            measured, path = len(choices.records) - before, choices.records.path
            if path is not None:
                logger.warning("%d candidates were measured and are kept in %s; tuning again goes on.", measured, path)
            raise


def build(
    prepared: Prepared, device: Device, jobs: int, progress: Progress | None = None, workers: Workers | None = None
) -> tuple[Target, list[Built]]:
    """Build all kernels, and meanwhile ask ONNX Runtime, if it is installed, for the golden outputs.

    Raises:
        DeviceError, BuildError: as `mace_cl.runtime.compile.compile_units`.
    """
    with _Reference(prepared) as reference:
        built = compile_units(device, prepared.schedule, jobs, progress, workers)
        golden, oracle = reference.result()
    units = tuple(Unit(unit.kernels, unit.binary) for unit in built)
    constants = memoryview(prepared.constants)  # type: ignore[arg-type]
    provenance = (("oracle", oracle), *prepared.origins)
    return Target(device.signature, prepared.schedule, units, constants, provenance, golden, prepared.values), built


def program(model: ModelIdentity, options: Pairs, inputs: tuple[Input, ...] = ()) -> Program:
    """A program without parts, to which targets are added."""
    return Program(PRODUCER, engine_fingerprint(), model, options, (), inputs)


class _Reference:
    """ONNX Runtime in a child process, answering the golden inputs while kernels compile."""

    def __init__(self, prepared: Prepared) -> None:
        self._child: Child | None = None
        schedule, source = prepared.schedule, prepared.reference
        if source is None or importlib.util.find_spec("onnxruntime") is None or not checkable(schedule):
            return
        question = {
            "model": str(source) if isinstance(source, Path) else "",
            "inputs": [{"name": port.name, "dtype": port.dtype, "shape": port.shape or ()} for port in schedule.inputs],
            "outputs": checkable(schedule),
            "values": [[one.name, one.dtype, one.shape, one.data.hex()] for one in prepared.values],
        }
        self._child = Child("mace_cl.runtime.worker", "refer")
        self._pool = ThreadPoolExecutor(1)
        self._answer = self._pool.submit(self._child.ask, question, [source] if isinstance(source, bytes) else [])

    def result(self) -> tuple[tuple[tuple[str, memoryview], ...], str]:
        """The golden values by output, none where there is no reference; and who gave them."""
        if self._child is None:
            return (), "device"
        try:
            said = self._answer.result()
        except ChildError:
            return (), "device"
        if "error" in said:
            return (), "device"
        return tuple((name, memoryview(base64.b64decode(values))) for name, values in said["golden"]), said["oracle"]

    def __enter__(self) -> _Reference:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.kill()
            self._pool.shutdown()
