"""`Runtime`: a model or program, a device, and the decision between warm and cold.

The warm path imports no frontend, pass, op or kernel: those are behind the imports inside functions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from mace_cl.device import find
from mace_cl.device.device import Device
from mace_cl.errors import InputError, StorageError
from mace_cl.identity import model_sha256
from mace_cl.keeping import check_no_model, save_weights, signer
from mace_cl.loading import checked
from mace_cl.program.bucket import usual, values_of
from mace_cl.program.cipher import Key
from mace_cl.program.format import Opened, is_program, write
from mace_cl.program.policy import Decision, open_trusted
from mace_cl.program.program import ModelIdentity, Pairs, Target
from mace_cl.program.proofs import proof
from mace_cl.record import record
from mace_cl.request import Clock, Request, Shapes, access, proofs
from mace_cl.runtime.build import Progress
from mace_cl.schedule import Place, Port, Schedule, places
from mace_cl.settings import RUNTIMES, Settings
from mace_cl.start import ahead, open_inputs, renew, seek, start

if TYPE_CHECKING:
    from mace_cl.program.bucket import Bucket
    from mace_cl.runtime.compile import Built
    from mace_cl.runtime.executor import Executor
    from mace_cl.tune.search import State, Summary
    from mace_cl.variants import Variants

__all__ = [
    "Compiled",
    "Runtime",
    "compile_for",
    "compile_model",
    "compile_options",
    "opened_if_program",
    "request_for",
    "tune_model",
]

logger = logging.getLogger("mace_cl")

Watch = Callable[["State"], None]


class Runtime:
    """A network that is ready to run on an OpenCL device.

    Args:
        model: the path or the bytes of a model, of any format in docs/formats.md, or of a compiled program.
        program: the compiled-program file to use for the model and, if it is missing or does not fit,
            to write; by default one in the store.
        device: a device as `mace_cl.devices` lists them, or a specification such as ``"gpu"``,
            ``"intel"``, ``"1"``; by default the best.
        store: False keeps compiled programs in memory only.
        shapes: shapes of inputs that have symbolic dimensions, to be fixed.
        outputs: names of values or nodes to be the outputs in place of the model's own.
        jobs: how many processes compile kernels at the same time.
        progress: called with (what, done, total) while a program is made.
        trusted_keys: public keys, 64 hexadecimal digits or a file each: with any, only programs that one
            of them signed are used.
        key: decrypts programs: 32 bytes, or a function that gives them.
        runtime: ``"gpu+cpu"`` runs on the host, in ONNX Runtime, what OpenCL lacks; ``"gpu"`` refuses such
            models, naming all that is lacking; ``"cpu"`` runs all on the host; ``"npu"`` gives ``provider``
            what it takes, and runs the rest as ``"gpu+cpu"`` does.
        provider: the execution provider of ONNX Runtime for the host's part: ``"QNN"``, ``"XNNPACK"``, …
        fallback: False is short for ``runtime="gpu"``.
        exact: True forbids Winograd's method, whose rounding errors are some times larger.
        queue_window, kernel_limit: how many kernels wait in the device's queue at most, and after how many ms one is
            cut, so that a GPU that draws the screen as well stays responsive; 0 is no bound.
        trust: True lets code run that the model's file holds, such as a Lambda layer's or a pickle's.

    Attributes:
        inputs, outputs: ports with ``name``, ``dtype`` and ``shape``.
        device: the `Device` that it runs on.
        where: for each node of the model, constants folded, where it runs and why.
        decision: whether the compiled program was used, and why (``code``, ``sentence``).
        timings: seconds that each step of the start took.
        symbolic: where sizes are symbolic or inputs are parameters of ops, the model's inputs as it declares them.
        buckets: then, the sets of shapes and values that are ready in memory, the one used last at the end.

    Where sizes are symbolic, the model is compiled for each set of shapes that `run` meets, and where inputs are
    parameters of ops (axes, sizes), for each of their values; all are kept in the same program.  ``inputs``,
    ``outputs``, ``where``, ``schedule`` and ``decision`` are those of the set used last.  At first it is the one
    with a batch of 1; where more than the batch is open there is none before the first run, and they raise InputError.

    It may be used from several threads; runs take turns.  Errors are those of `mace_cl.errors`.
    """

    def __init__(
        self,
        model: str | Path | bytes,
        *,
        program: str | Path | None = None,
        device: str | Device | None = None,
        store: bool | None = None,
        shapes: Shapes | None = None,
        outputs: Sequence[str] = (),
        jobs: int | None = None,
        progress: Progress | None = None,
        trusted_keys: Sequence[str | Path] | None = None,
        key: Key | None = None,
        runtime: str | None = None,
        provider: str | None = None,
        fallback: bool | None = None,
        exact: bool | None = None,
        queue_window: int | None = None,
        kernel_limit: int | None = None,
        trust: bool | None = None,
    ) -> None:
        clock = Clock()
        settings = Settings.load(
            device=None if isinstance(device, Device) else device, store=store, jobs=jobs,
            trusted_keys=trusted_keys, key=key, runtime="gpu" if fallback is False else runtime, provider=provider,
            exact=exact, queue_window=queue_window, kernel_limit=kernel_limit, trust=trust,
        )  # fmt: skip
        clock.mark("settings")
        source = _source(model)
        given = opened_if_program(source, settings)
        if given is not None and (program is not None or shapes or outputs or exact):
            raise InputError(
                f"{given.name} is a compiled program; `program`, `shapes`, `outputs` and `exact` go with a model. "
                "Give the model first, or leave them out"
            )
        clock.mark("program file")
        chosen = device if isinstance(device, Device) else find(settings.device, mark=clock.mark)
        clock.mark("device")
        request = request_for(source, given, chosen, settings, program, shapes, progress, clock, outputs)
        clock.mark("identity")
        found = seek(request, given)
        with ahead(request, found) as request:
            self.symbolic = open_inputs(request, found)
            self._variants: Variants | None = None
            if self.symbolic:
                from mace_cl.variants import Variants

                self._variants = Variants(replace(request, inputs=self.symbolic), given)
                self._variants.begin(found)
            else:
                self._fixed = start(request, given, found)
        self.device = chosen
        self.timings = clock.seconds

    @property
    def _last(self) -> tuple[Executor, Decision]:
        return self._fixed if self._variants is None else self._variants.last()

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self.schedule.inputs if self._variants is None else self._variants.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self.schedule.outputs

    @property
    def where(self) -> tuple[Place, ...]:
        return places(self.schedule)

    @property
    def decision(self) -> Decision:
        return self._last[1]

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        return () if self._variants is None else self._variants.buckets

    @property
    def schedule(self) -> Schedule:
        """What a run consists of, launch by launch."""
        return self._last[0].schedule

    def profile(self, input_data: Mapping[str, Any]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """One inference: when each launch of the schedule, and each host step, began and ended.

        Launches are in ns of the device's clock, host steps in ns of the host's.

        Raises:
            InputError: a name, dtype, rank or shape does not fit.
            DeviceError: the device failed.
        """
        return (self._variants or self._fixed[0]).profile(input_data)

    def run(
        self, input_data: Mapping[str, Any], output_data: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """One inference: arrays by input name in, arrays by output name out.

        Shapes that were not met before raise, besides, what `Runtime` does.

        ``output_data`` gives arrays of the outputs' dtype and shape to write into.

        Raises:
            InputError: a name, dtype, rank or shape does not fit.
            DeviceError: the device failed.
        """
        return (self._variants or self._fixed[0]).run(input_data, output_data)

    def twin(self) -> Runtime:
        """The same network once more, to run at the same time in another thread: a stream.

        Kernels and weights are shared, the memory for activations is not.  Each is closed for itself.

        Raises:
            InputError: this one is closed.
            DeviceError: the device lacks memory.
        """
        twin = copy(self)
        if self._variants is not None:
            twin._variants = self._variants.twin()
        else:
            twin._fixed = self._fixed[0].twin(), self._fixed[1]
        return twin

    def close(self) -> None:
        """Give the device's memory back."""
        (self._variants or self._fixed[0]).close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def request_for(
    source: Path | bytes, given: Opened | None, device: Device, settings: Settings,
    program: str | Path | None = None, shapes: Shapes | None = None, progress: Progress | None = None,
    clock: Clock | None = None, outputs: Sequence[str] = (),
) -> Request:  # fmt: skip
    """What `mace_cl.start.start` needs, from what a caller gives."""
    return Request(
        model=None if given else source,
        identity=None if given else ModelIdentity(_name(source), model_sha256(source)),
        options=compile_options(settings, shapes, outputs),
        shapes=shapes,
        program=Path(program) if program else None,
        device=device,
        settings=settings,
        progress=progress,
        clock=clock or Clock(),
        outputs=tuple(outputs),
    )


def compile_options(settings: Settings, shapes: Shapes | None, outputs: Sequence[str] = ()) -> Pairs:
    """What else than model and device decides what is compiled: input shapes, outputs that replace the model's,
    what may run it, and whether Winograd's method is forbidden; nothing where all is as usual.
    """
    pairs = [(f"shape.{name}", ",".join(map(str, shape))) for name, shape in (shapes or {}).items()]
    if outputs:
        pairs.append(("outputs", ",".join(outputs)))
    if settings.runtime != RUNTIMES[0]:
        pairs.append(("runtime", settings.runtime))
    if settings.provider:
        pairs.append(("provider", settings.provider))
    if settings.exact:
        pairs.append(("exact", "true"))
    return tuple(sorted(pairs))


def _source(model: str | Path | bytes) -> Path | bytes:
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model)
    if not isinstance(model, (str, Path)):
        raise InputError(f"a model is a path or bytes, not {type(model).__name__}")
    path = Path(model)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if path.is_dir() and not (path / "saved_model.pb").exists():
        raise InputError(f"{path}: is a directory; give the model's file")
    return path


def _name(source: Path | bytes) -> str:
    return source.name if isinstance(source, Path) else "model"


def opened_if_program(source: Path | bytes, settings: Settings) -> Opened | None:
    """The program if ``source`` is one by its first bytes.

    Raises:
        DamagedError, ProgramError: it is one, but can't be used.
    """
    if isinstance(source, bytes):
        head = source[:16]
    elif source.is_dir():
        return None
    else:
        try:
            with source.open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise StorageError(f"{source}: can't be read ({error.strerror}); check its permissions") from error
    return open_trusted(source, **access(settings)) if is_program(head) else None


def compile_model(
    model: str | Path | bytes,
    output: str | Path,
    *,
    device: str | Device | Sequence[str | Device] | None = None,
    bake: bool = False,
    shapes: Shapes | None = None,
    outputs: Sequence[str] = (),
    jobs: int | None = None,
    store: bool | None = None,
    progress: Progress | None = None,
    exact: bool | None = None,
    tune: float = 0.0,
    trust: bool | None = None,
    values: Mapping[str, Any] | None = None,
) -> Path:
    """Compile a model for one device or several and write the compiled program.

    Args:
        model: the path or bytes of a model.
        output: the file to write.
        device: as for `Runtime`, or several of them: the file then serves each.
        bake: put the weights inside; otherwise the file needs the model beside it, and the prepacked
            weights are kept in the store.
        shapes, outputs, jobs, store, progress, exact, trust: as for `Runtime`.
        tune: seconds for each device in which what is fastest there is measured first, as by `tune_model`.
        values: of inputs that are parameters of ops (axes, sizes), by name: what is compiled is for these.

    Raises:
        InputError: the model is a compiled program already, ``output`` is a model, or ``values`` are not those
            that the model is compiled for.
        StorageError: the file can't be written.
        ModelError, UnsupportedError, DeviceError, BuildError: as for `Runtime`.
    """
    several = [device] if device is None or isinstance(device, (str, Device)) else list(device)
    settings = Settings.load(store=store, jobs=jobs, exact=exact, trust=trust)
    devices = [one if isinstance(one, Device) else find(one or settings.device) for one in several]
    compile_for(
        devices, model, output, settings,
        bake=bake, shapes=shapes, outputs=outputs, progress=progress, tune=tune, values=values,
    )  # fmt: skip
    return Path(output)


def tune_model(
    model: str | Path | bytes,
    budget: float = 60.0,
    *,
    device: str | Device | None = None,
    program: str | Path | None = None,
    shapes: Shapes | None = None,
    outputs: Sequence[str] = (),
    jobs: int | None = None,
    store: bool | None = None,
    runtime: str | None = None,
    provider: str | None = None,
    exact: bool | None = None,
    trust: bool | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> Summary:
    """Measure what is fastest for a model on a device, and compile the model so.

    What was measured is kept in the store, and not measured again.  An interrupt loses nothing of it.

    Args:
        budget: seconds to spend on measuring, about.
        watch: called with how far it is, a `mace_cl.tune.search.State`.
        model, device, program, shapes, outputs, jobs, store, runtime, provider, exact, trust, progress: as for
            `Runtime`.

    Raises:
        InputError: the model is a compiled program, or the budget is not positive.
        StorageError: the records can't be written.
        ModelError, UnsupportedError, DeviceError, BuildError: as for `Runtime`.
    """
    settings = Settings.load(
        device=None if isinstance(device, Device) else device, store=store, jobs=jobs, runtime=runtime,
        provider=provider, exact=exact, trust=trust,
    )  # fmt: skip
    source = _source(model)
    if opened_if_program(source, settings) is not None:
        raise InputError(f"{_name(source)} is a compiled program, not a model; give the model it was made from")
    if not budget > 0:
        raise InputError(f"a budget of {budget} s is none; give a number of seconds above 0")
    chosen = device if isinstance(device, Device) else find(settings.device)
    request = request_for(source, None, chosen, settings, program, shapes, progress, outputs=outputs)
    from mace_cl import compiler

    summary = compiler.tune(request, compiler.choices_for(chosen, settings), budget, watch)
    inputs = compiler.inputs_of(source, shapes, outputs, settings.trust)
    bucket = usual(inputs) if inputs else None
    if bucket is not None or not inputs:  # else what is tuned is compiled when the parameters are known
        executor, _ = renew(replace(request, inputs=inputs, bucket=bucket))
        executor.close()
    return summary


@record
class Compiled:
    """What was made for one device, and the seconds that it took, the self-check included."""

    device: Device
    target: Target
    built: tuple[Built, ...]
    seconds: float


def compile_for(
    devices: Sequence[Device],
    model: str | Path | bytes,
    output: str | Path,
    settings: Settings,
    *,
    bake: bool = False,
    shapes: Shapes | None = None,
    outputs: Sequence[str] = (),
    progress: Progress | None = None,
    tune: float = 0.0,
    watch: Watch | None = None,
    values: Mapping[str, Any] | None = None,
) -> list[Compiled]:
    """As `compile_model`; tells what was made.  The file is written when all devices are done.

    ``watch`` is called with how far the tuning is.
    """
    from mace_cl import compiler
    from mace_cl.program.edit import add_target, strip

    source, path = _source(model), Path(output)
    if opened_if_program(source, settings) is not None:
        raise InputError(f"{_name(source)} is a compiled program, not a model; give the model it was made from")
    check_no_model(path)
    identity, options = ModelIdentity(_name(source), model_sha256(source)), compile_options(settings, shapes, outputs)
    inputs = compiler.inputs_of(source, shapes, outputs, settings.trust)
    fixed = {value.name: value.array for value in values_of(inputs, values or {}, _name(source))}
    made, done = compiler.program(identity, options, inputs), []
    for device in devices:
        begin = time.perf_counter()
        request = Request(source, identity, options, shapes, path, device, settings, progress, outputs=tuple(outputs))
        choices = compiler.choices_for(device, settings)
        if tune:
            compiler.tune(request, choices, tune, watch)
        prepared = compiler.prepare(
            source,
            device,
            shapes,
            progress,
            outputs=outputs,
            values=fixed,
            runtime=settings.runtime,
            provider=settings.provider,
            trust=settings.trust,
            choices=choices,
        )
        target, built = compiler.build(prepared, device, settings.jobs, progress)
        provenance = (*target.provenance, ("because", "compile"))
        found = checked(request, replace(target, provenance=provenance), prepared.constants)
        found.executor.close()
        if found.finding:
            logger.warning("%s", found.finding)
        made = add_target(made, found.target)
        done.append(Compiled(device, found.target, tuple(built), time.perf_counter() - begin))
    write(made if bake else strip(made, constants=True), path, signer=signer(settings))
    for one in done:
        proofs(settings).record(proof(one.target, one.device.signature))
        if not bake:
            save_weights(settings, replace(made, targets=(one.target,)))
    return done
