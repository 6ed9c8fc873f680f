"""`Runtime`: a model or program, a device, and the decision between warm and cold.

The warm path imports no frontend, pass, op or kernel: those are behind the imports inside functions.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.device import find
from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DeviceError, InputError, MaceClError, ProgramError, StorageError
from mace_cl.identity import engine_fingerprint, model_sha256
from mace_cl.program.format import Opened, is_program, open_program, write
from mace_cl.program.policy import SET_ASIDE, Decision, decide, examine, quarantine
from mace_cl.program.program import ModelIdentity, Pairs, Program, Target
from mace_cl.program.store import Store
from mace_cl.runtime.build import Progress, build_source, load_binary
from mace_cl.runtime.executor import Executor
from mace_cl.schedule import Port
from mace_cl.settings import Settings

if TYPE_CHECKING:
    from mace_cl.compiler import Prepared

__all__ = ["Runtime", "compile_model"]

logger = logging.getLogger("mace_cl")

_LOCK_SECONDS = 600.0

Shapes = Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class _Request:
    """What is wanted: a model (None when only a program was given) on a device, with options."""

    model: Path | bytes | None
    identity: ModelIdentity | None
    options: Pairs
    shapes: Shapes | None
    device: Device
    settings: Settings
    progress: Progress | None


class Runtime:
    """A network that is ready to run on an OpenCL device.

    Args:
        model: the path or the bytes of an ONNX model, or of a compiled program.
        program: the compiled-program file to use for the model and, if it is missing or does not fit,
            to write; by default one in the store.
        device: a device as `mace_cl.devices` lists them, or a specification such as ``"gpu"``,
            ``"intel"``, ``"1"``; by default the best.
        store: False keeps compiled programs in memory only.
        shapes: shapes of inputs that have symbolic dimensions.
        jobs: how many processes compile kernels at the same time.
        progress: called with (what, done, total) while a program is made.

    Attributes:
        inputs, outputs: ports with ``name``, ``dtype`` and ``shape``.
        device: the `Device` that it runs on.
        decision: whether the compiled program was used, and why (``code``, ``sentence``).
        timings: seconds that each step of the start took.

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
        jobs: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        clock = _Clock()
        settings = Settings.load(device=None if isinstance(device, Device) else device, store=store, jobs=jobs)
        source = _source(model)
        given = _opened_if_program(source)
        clock.mark("settings")
        chosen = device if isinstance(device, Device) else find(settings.device)
        clock.mark("device")
        options: Pairs = ()
        if given is None and shapes:
            from mace_cl.compiler import shape_options

            options = shape_options(shapes)
        if given is not None and (program is not None or shapes):
            raise InputError(
                f"{given.name} is a compiled program; `program` and `shapes` go with a model. "
                "Give the model first, or leave them out"
            )
        identity = None if given is not None else ModelIdentity(_name(source), model_sha256(source))
        clock.mark("identity")
        request = _Request(None if given else source, identity, options, shapes, chosen, settings, progress)
        if given is not None:
            self._executor, self.decision = _start_program(request, given, clock)
        else:
            self._executor, self.decision = _start_model(request, Path(program) if program else None, clock)
        self.device = chosen
        self.timings = clock.seconds

    @property
    def inputs(self) -> tuple[Port, ...]:
        return self._executor.schedule.inputs

    @property
    def outputs(self) -> tuple[Port, ...]:
        return self._executor.schedule.outputs

    def run(
        self, input_data: Mapping[str, Any], output_data: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """One inference: arrays by input name in, arrays by output name out.

        ``output_data`` gives arrays of the outputs' dtype and shape to write into.

        Raises:
            InputError: a name, dtype, rank or shape does not fit.
            DeviceError: the device failed.
        """
        return self._executor.run(input_data, output_data)

    def close(self) -> None:
        """Give the device's memory back."""
        self._executor.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Clock:
    """Seconds between marks."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


def _source(model: str | Path | bytes) -> Path | bytes:
    if isinstance(model, (bytes, bytearray, memoryview)):
        return bytes(model)
    if not isinstance(model, (str, Path)):
        raise InputError(f"a model is a path or bytes, not {type(model).__name__}")
    path = Path(model)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; give the model's file")
    return path


def _name(source: Path | bytes) -> str:
    return source.name if isinstance(source, Path) else "model"


def _opened_if_program(source: Path | bytes) -> Opened | None:
    """The program if ``source`` is one by its first bytes.

    Raises:
        DamagedError, ProgramError: it is one, but can't be used.
    """
    if isinstance(source, bytes):
        head = source[:16]
    else:
        try:
            with source.open("rb") as file:
                head = file.read(16)
        except OSError as error:
            raise StorageError(f"{source}: can't be read ({error.strerror}); check its permissions") from error
    return open_program(source) if is_program(head) else None


def _start_program(request: _Request, opened: Opened, clock: _Clock) -> tuple[Executor, Decision]:
    """Only a program was given: use it, or the sources inside it, as there is no model to compile."""
    program, device = opened.program, request.device
    weights = _stored_weights(request, program)
    decision = decide(program, device=device.signature, weights=weights is not None)
    if decision.code == "no-weights":
        raise ProgramError(
            f"{opened.name}: holds no weights. Run the model with it (`mace-cl run MODEL --program FILE`, or "
            "Runtime(model, program=file)), or compile it anew with --bake"
        )
    target = program.targets[decision.target or 0]
    if decision.action == "use":
        return _load(request, opened, target, weights, clock), decision
    if target.constants is None and weights is None:
        raise ProgramError(f"{opened.name}: {decision.sentence} Its weights are not inside either; give the model")
    logger.warning("%s Its kernels are compiled from the sources inside the file.", decision.sentence)
    opened.verify()
    stripped = replace(target, units=tuple(replace(unit, binary=None) for unit in target.units))
    return _executor(request, stripped, _constants(target, weights), clock), decision


def _start_model(request: _Request, program: Path | None, clock: _Clock) -> tuple[Executor, Decision]:
    """A model was given: use the program that fits, else make it."""
    assert request.identity is not None
    path = program
    store = Store(request.settings.store_dir)
    if path is None and request.settings.store:
        path = store.path(request.identity.sha256, _keyed(request), engine_fingerprint())
    executor, decision = _try_file(request, path, clock)
    if executor is not None:
        return executor, decision
    if path is None or program is not None:
        return _make(request, path, decision, clock), decision
    try:
        store.prepare()
    except StorageError as error:
        logger.warning("%s The program is not kept.", error)
        return _make(request, None, decision, clock), decision
    with store.lock(path, _LOCK_SECONDS) as alone:
        if decision.code == "no-file":
            executor, later = _try_file(request, path, clock)
            if executor is not None:
                return executor, later
        return _make(request, path if alone else None, decision, clock), decision


def _keyed(request: _Request) -> Pairs:
    """What besides the model and the engine tells stored programs apart: options and device."""
    return (*request.options, ("device", request.device.signature.digest()))


def _try_file(request: _Request, path: Path | None, clock: _Clock) -> tuple[Executor | None, Decision]:
    """The executor from the file at ``path``, or None and the reason why not."""
    assert request.identity is not None
    found = None if path is None else examine(path)
    opened = found if isinstance(found, Opened) else None
    weights = _stored_weights(request, opened.program) if opened else None
    decision = decide(
        opened.program if opened else found,  # type: ignore[arg-type]
        device=request.device.signature, model=request.identity.sha256, options=request.options,
        engine=engine_fingerprint(), weights=weights is not None,
    )  # fmt: skip
    if decision.action == "use" and opened is not None:
        try:
            return _load(request, opened, opened.program.targets[decision.target or 0], weights, clock), decision
        except ProgramError as error:
            decision = Decision("compile", "damaged", str(error))
        except BuildError as error:
            decision = Decision("compile", "driver-refused", str(error))
    return None, decision


def _load(request: _Request, opened: Opened, target: Target, weights: memoryview | None, clock: _Clock) -> Executor:
    """The warm path: sections are checked in a second thread while the device is set up."""
    failures: list[MaceClError] = []

    def verify() -> None:
        try:
            opened.verify()
        except MaceClError as error:
            failures.append(error)

    checking = threading.Thread(target=verify)
    checking.start()
    try:
        context = _context(request.device)
        clock.mark("context")
    finally:
        checking.join()
    clock.mark("checksums")
    if failures:
        raise failures[0]
    return _executor(request, target, _constants(target, weights), clock, context)


def _context(device: Device) -> Any:
    import pyopencl as cl

    try:
        return cl.Context([device.handle])  # type: ignore[list-item]
    except cl.Error as error:
        raise DeviceError(
            f"{device.name}: no context could be made: {error}; choose another device (--device)"
        ) from error


def _constants(target: Target, weights: memoryview | None) -> NDArray[np.uint8]:
    given = target.constants if target.constants is not None else weights
    assert given is not None
    return np.frombuffer(given, np.uint8)


def _executor(
    request: _Request, target: Target, constants: NDArray[np.uint8], clock: _Clock, context: Any = None
) -> Executor:
    device, schedule = request.device, target.schedule
    context = context or _context(device)
    units = [(unit.kernels, unit.binary) for unit in target.units]
    programs = [
        (kernels, build_source(context, schedule, kernels))
        if binary is None
        else (kernels, load_binary(context, device, binary, schedule.build_options))
        for kernels, binary in units
    ]
    clock.mark("load")
    executor = Executor(device, context, schedule, programs, constants)
    clock.mark("set-up")
    return executor


def _stored_weights(request: _Request, program: Program) -> memoryview | None:
    """Prepacked weights of an unbaked program, from the store."""
    if all(target.constants is not None for target in program.targets) or not request.settings.store:
        return None
    path = _weights_path(request.settings, program.model, program.options, program.engine, request.device)
    found = examine(path)
    if not isinstance(found, Opened):
        return None
    try:
        found.verify()
    except ProgramError:
        return None
    return found.program.targets[0].constants


def _weights_path(settings: Settings, model: ModelIdentity, options: Pairs, engine: str, device: Device) -> Path:
    keyed = (*options, ("device", device.signature.digest()))
    return Store(settings.store_dir).weights_path(model.sha256, keyed, engine)


def _make(request: _Request, path: Path | None, decision: Decision, clock: _Clock) -> Executor:
    """The cold path: compile, save where ``path`` says, and run even if that fails."""
    from mace_cl import compiler

    assert request.model is not None
    assert request.identity is not None
    logger.info("%s", decision.sentence)
    prepared = compiler.prepare(request.model, request.device, request.shapes, request.progress)
    clock.mark("prepare")
    reused = _unbaked(request, path, prepared) if decision.code == "no-weights" else None
    made = reused or compiler.assemble(
        prepared, request.identity, request.options, request.device, request.settings.jobs, request.progress
    )
    clock.mark("compile")
    if path is not None:
        if reused is None:
            _save(made, path, decision)
        else:
            _save_weights(request.settings, made, request.device)
        clock.mark("save")
    target = made.targets[0]
    return _executor(request, target, prepared.constants, clock)


def _unbaked(request: _Request, path: Path | None, prepared: Prepared) -> Program | None:
    """The program at ``path`` with the weights put in, if the model still gives the same schedule."""
    found = examine(path) if path is not None else None
    if not isinstance(found, Opened):
        return None
    for target in found.program.targets:
        if target.signature == request.device.signature and target.schedule == prepared.schedule:
            found.verify()
            full = replace(target, constants=memoryview(prepared.constants))  # type: ignore[arg-type]
            return replace(found.program, targets=(full,))
    return None


def _save(program: Program, path: Path, decision: Decision) -> None:
    try:
        if decision.code in SET_ASIDE:
            logger.warning("%s It is kept as %s.", decision.sentence, quarantine(path))
        write(program, path)
    except StorageError as error:
        logger.warning("%s The program is not kept; this run goes on.", error)


def _save_weights(settings: Settings, program: Program, device: Device) -> None:
    if not settings.store:
        return
    try:
        Store(settings.store_dir).prepare()
        write(program, _weights_path(settings, program.model, program.options, program.engine, device))
    except StorageError as error:
        logger.warning("%s The weights are not kept; the next start packs them again.", error)


def compile_model(
    model: str | Path | bytes,
    output: str | Path,
    *,
    device: str | Device | None = None,
    bake: bool = False,
    shapes: Shapes | None = None,
    jobs: int | None = None,
    store: bool | None = None,
    progress: Progress | None = None,
) -> Path:
    """Compile a model for a device and write the compiled program.

    Args:
        model: the path or bytes of an ONNX model.
        output: the file to write.
        bake: put the weights inside; otherwise the file needs the model beside it, and the prepacked
            weights are kept in the store.
        device, shapes, jobs, store, progress: as for `Runtime`.

    Raises:
        InputError: the model is a compiled program already.
        StorageError: the file can't be written.
        ModelError, UnsupportedError, DeviceError, BuildError: as for `Runtime`.
    """
    from mace_cl import compiler

    settings = Settings.load(device=None if isinstance(device, Device) else device, store=store, jobs=jobs)
    source, target_path = _source(model), Path(output)
    if _opened_if_program(source) is not None:
        raise InputError(f"{_name(source)} is a compiled program, not a model; give the ONNX model it was made from")
    chosen = device if isinstance(device, Device) else find(settings.device)
    identity = ModelIdentity(_name(source), model_sha256(source))
    prepared = compiler.prepare(source, chosen, shapes, progress)
    program = compiler.assemble(prepared, identity, compiler.shape_options(shapes), chosen, settings.jobs, progress)
    if bake:
        write(program, target_path)
        return target_path
    targets = tuple(replace(target, constants=None) for target in program.targets)
    write(replace(program, targets=targets), target_path)
    _save_weights(settings, program, chosen)
    return target_path
