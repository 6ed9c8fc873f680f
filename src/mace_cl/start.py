"""From a model or program to something that runs: warm where it can be, cold where it must be.

A start looks for a program that fits, by the rules of `mace_cl.program.policy`.  Binaries that this
installation has not yet seen working on this device and driver are tried in a child process first, on
the golden vectors; a death, a refusal or a wrong answer costs those binaries and nothing else.  What is
missing for a device is compiled and added to the file; the parts for other devices stay.
"""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DamagedError, DeviceError, MaceClError, ProgramError, SealError, StorageError
from mace_cl.identity import engine_fingerprint
from mace_cl.program.format import Opened, Signer, write
from mace_cl.program.policy import SET_ASIDE, Decision, decide, examine, quarantine
from mace_cl.program.program import ModelIdentity, Pairs, Program, Target, Unit
from mace_cl.program.proofs import Proofs, binaries_of, digest
from mace_cl.program.store import Store
from mace_cl.runtime.build import Progress, build_source, compile_units, load_binary
from mace_cl.runtime.executor import Executor
from mace_cl.settings import Settings

if TYPE_CHECKING:
    from mace_cl.runtime.golden import Difference

__all__ = [
    "Clock", "Request", "Shapes", "access", "checked", "foresee", "program_path", "remember", "save_weights", "signer",
    "start",
]  # fmt: skip

logger = logging.getLogger("mace_cl")

_LOCK_SECONDS = 600.0
_PROOF_SECONDS = 120.0

Shapes = Mapping[str, Sequence[int]]
Constants = NDArray[np.uint8]


class Clock:
    """Seconds between marks."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """Count the time since the last mark as ``name``."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Request:
    """What is wanted: a model (None when only a program was given) on a device, with options.

    ``program`` is the file to use and write, None for the store's own.
    """

    model: Path | bytes | None
    identity: ModelIdentity | None
    options: Pairs
    shapes: Shapes | None
    program: Path | None
    device: Device
    settings: Settings
    progress: Progress | None
    clock: Clock


def access(settings: Settings) -> dict[str, Any]:
    """What it takes to open signed and encrypted programs."""
    return {"key": settings.key, "trusted_keys": settings.trusted_keys, "store_dir": settings.store_dir}


def program_path(request: Request) -> Path | None:
    """The file that a start reads and writes; None where nothing is kept."""
    if request.program is not None or not request.settings.store:
        return request.program
    assert request.identity is not None
    return Store(request.settings.store_dir).path(request.identity.sha256, request.options, engine_fingerprint())


def foresee(request: Request, given: Opened | None) -> Decision:
    """What `start` would decide, without running or changing anything."""
    if given is not None:
        weights = _stored_weights(request, given.program) is not None
        return decide(given.program, device=request.device.signature, weights=weights)
    path = program_path(request)
    return _decide(request, None if path is None else examine(path, **access(request.settings)))


def start(request: Request, given: Opened | None) -> tuple[Executor, Decision]:
    """An executor, and how it came about.

    Raises:
        ProgramError: only a program was given, and it can't be used.
        ModelError, DeviceError, BuildError: the model or the device does not allow it.
    """
    return _start_model(request) if given is None else _start_program(request, given)


def _start_program(request: Request, given: Opened) -> tuple[Executor, Decision]:
    """Only a program was given: there is no model to compile, but its sources are inside."""
    weights = _stored_weights(request, given.program)
    decision = decide(given.program, device=request.device.signature, weights=weights is not None)
    if decision.code == "no-weights":
        raise ProgramError(
            f"{given.name}: holds no weights. Run the model with it (`mace-cl run MODEL --program FILE`, or "
            "Runtime(model, program=file)), or compile it anew with --bake"
        )
    executor, decision = _use(request, given, decision, weights)
    if executor is not None:
        return executor, decision
    if decision.code == "damaged":
        raise DamagedError(decision.sentence)
    target = next((one for one in given.program.targets if one.constants is not None or weights is not None), None)
    if target is None:
        raise ProgramError(f"{given.name}: {decision.sentence} Its weights are not inside either; give the model")
    logger.warning("%s Its kernels are compiled from the sources inside the file.", decision.sentence)
    given.verify()
    built = compile_units(request.device, target.schedule, request.settings.jobs, request.progress)
    units = tuple(Unit(kernels, binary) for kernels, binary in built)
    made = replace(target, signature=request.device.signature, units=units, provenance=(("because", decision.code),))
    request.clock.mark("compile")
    executor, made = checked(request, made, _constants(target, weights))
    if os.path.isfile(given.name):
        _save(request, made, given.program, Path(given.name), decision)
    return executor, decision


def _start_model(request: Request) -> tuple[Executor, Decision]:
    """A model was given: use the program that fits, else make it."""
    path = program_path(request)
    executor, decision, _ = _attempt(request, path)
    if executor is not None:
        return executor, decision
    if decision.code == "refused" and request.program is not None:
        raise SealError(decision.sentence)
    with _alone(request, path) as alone:
        if alone:  # another process may have made it while this one waited
            executor, decision, _ = _attempt(request, path)
            if executor is not None:
                return executor, decision
        return _make(request, path if alone else None, decision), decision


@contextmanager
def _alone(request: Request, path: Path | None) -> Iterator[bool]:
    """Whether this process may write ``path``: others that want to make it wait here."""
    if path is None:
        yield False
        return
    if request.program is not None and not request.settings.store:
        yield True
        return
    store = Store(request.settings.store_dir)
    try:
        store.prepare()
    except StorageError as error:
        if request.program is None:
            logger.warning("%s The program is not kept.", error)
        yield request.program is not None
        return
    with store.lock(path if request.program is None else store.lock_path(path), _LOCK_SECONDS) as alone:
        yield alone or request.program is not None


def _decide(request: Request, found: Opened | MaceClError | None, weights: bool = False) -> Decision:
    assert request.identity is not None
    return decide(
        found.program if isinstance(found, Opened) else found, device=request.device.signature,
        model=request.identity.sha256, options=request.options, engine=engine_fingerprint(), weights=weights,
    )  # fmt: skip


def _attempt(request: Request, path: Path | None) -> tuple[Executor | None, Decision, Opened | None]:
    """The executor from the file at ``path``, or None and the reason why not."""
    found = None if path is None else examine(path, **access(request.settings))
    if not isinstance(found, Opened):
        return None, _decide(request, found), None
    weights = _stored_weights(request, found.program)
    executor, decision = _use(request, found, _decide(request, found, weights is not None), weights)
    if executor is not None and request.program is None and path is not None:
        Store(request.settings.store_dir).used(path)
    return executor, decision, found


def _use(
    request: Request, opened: Opened, decision: Decision, weights: memoryview | None
) -> tuple[Executor | None, Decision]:
    """The executor of an opened program if the decision is to use it and its binaries hold what they promise."""
    number = decision.target
    if decision.code == "driver-changed" and request.settings.reuse == "same-gpu":
        number = _same_gpu(request, opened, weights)
    if number is None:
        return None, decision
    target = opened.program.targets[number]
    try:
        proof = digest(binaries_of(opened, number), request.device.signature)
        proofs = Proofs(request.settings.store_dir if request.settings.store else None)
        if proofs.known(proof):
            return _load(request, opened, target, weights), decision
        return _try(request, opened, number, weights, decision, proofs, proof)
    except (ProgramError, BuildError) as error:
        code = "damaged" if isinstance(error, ProgramError) else "driver-refused"
        return None, Decision("compile", code, str(error))


def _same_gpu(request: Request, opened: Opened, weights: memoryview | None) -> int | None:
    """The newest part for this device under another driver that still answers its golden vectors."""
    from mace_cl.program.policy import same_device

    for number in reversed(range(len(opened.program.targets))):
        target = opened.program.targets[number]
        if same_device(target.signature, request.device.signature) and (target.constants is not None or weights):
            return number
    return None


def _try(
    request: Request, opened: Opened, number: int, weights: memoryview | None, decision: Decision, proofs: Proofs,
    proof: str,
) -> tuple[Executor | None, Decision]:  # fmt: skip
    """First use of binaries on this device and driver: in a child process, then here."""
    target = opened.program.targets[number]
    if request.settings.guard:
        verdict = _prove(request, opened, number)
        request.clock.mark("proof")
        if verdict["verdict"] in ("died", "refused"):
            sentence = (
                f"{opened.name}: its binaries do not work on {request.device.name} ({verdict['error']}); "
                "they are set aside and compiled from source."
            )
            logger.warning("%s", sentence)
            return None, Decision("compile", f"driver-{verdict['verdict']}", sentence)
        if verdict["verdict"] == "wrong":
            return _repaired(request, opened, number, weights, verdict)
    executor = _load(request, opened, target, weights)
    proofs.record(proof)
    if decision.action != "use":  # the same device under another driver: from now on also under this one
        again = replace(target, signature=request.device.signature, provenance=(("because", "same-gpu"),))
        if os.path.isfile(opened.name):
            _save(request, again, opened.program, Path(opened.name), decision)
        decision = Decision("use", "same-gpu", f"{decision.sentence} It still answers right, and is kept.", number)
    return executor, decision


def _prove(request: Request, opened: Opened, number: int) -> dict[str, Any]:
    """What a child process found: right, wrong, refused or died."""
    from mace_cl.runtime.child import Child, ChildError

    key = request.settings.key
    weights = _weights_path(request.settings, opened.program, request.device)
    with tempfile.TemporaryDirectory(prefix="mace-cl-") as folder:
        place = Path(opened.name)
        if not place.is_file():
            place = Path(folder) / "program.bin"
            place.write_bytes(opened.view)
        question = {
            "device": request.device.runtime, "signature": request.device.signature.digest(), "target": number,
            "program": str(place), "weights": str(weights),
            "key": (key() if callable(key) else key).hex() if key else "",
        }  # fmt: skip
        child = Child("mace_cl.runtime.worker", "prove")
        try:
            return child.ask(question, _PROOF_SECONDS)
        except ChildError as error:
            return {"verdict": "died", "error": str(error)}
        finally:
            child.kill()


def _repaired(
    request: Request, opened: Opened, number: int, weights: memoryview | None, verdict: Mapping[str, Any]
) -> tuple[Executor | None, Decision]:
    """The binaries run but answer wrong: find the kernels, and replace those by their safe variant."""
    target = opened.program.targets[number]
    executor, made = checked(request, target, _constants(target, weights))
    wrong = next((value for name, value in made.provenance if name == "safe kernels"), "none found")
    sentence = (
        f"{opened.name}: {verdict['output']!r} departed from its golden values by {verdict['relative']:.1e} of its "
        f"largest; kernels built without optimisation instead: {wrong}."
    )
    logger.warning("%s", sentence)
    decision = Decision("use", "wrong-answer", sentence, number)
    if os.path.isfile(opened.name):
        _save(request, made, opened.program, Path(opened.name), decision)
    return executor, decision


def _load(request: Request, opened: Opened, target: Target, weights: memoryview | None) -> Executor:
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
        request.clock.mark("context")
    finally:
        checking.join()
    request.clock.mark("checksums")
    if failures:
        raise failures[0]
    return _executor(request, target, _constants(target, weights), context)


def _context(device: Device) -> Any:
    import pyopencl as cl

    try:
        return cl.Context([device.handle])  # type: ignore[list-item]
    except cl.Error as error:
        raise DeviceError(
            f"{device.name}: no context could be made: {error}; choose another device (--device)"
        ) from error


def _constants(target: Target, weights: memoryview | None) -> Constants:
    given = target.constants if target.constants is not None else weights
    assert given is not None
    return np.frombuffer(given, np.uint8)


def _executor(request: Request, target: Target, constants: Constants, context: Any) -> Executor:
    device, schedule = request.device, target.schedule
    programs = [
        (unit.kernels, build_source(context, schedule, unit.kernels, unit.safe))
        if unit.binary is None
        else (unit.kernels, load_binary(context, device, unit.binary, schedule.build_options))
        for unit in target.units
    ]
    request.clock.mark("load")
    executor = Executor(device, context, schedule, programs, constants)
    request.clock.mark("set-up")
    return executor


def _stored_weights(request: Request, program: Program) -> memoryview | None:
    """Prepacked weights of an unbaked program, from the store."""
    if all(target.constants is not None for target in program.targets) or not request.settings.store:
        return None
    found = examine(_weights_path(request.settings, program, request.device), **access(request.settings))
    if not isinstance(found, Opened):
        return None
    try:
        found.verify()
    except ProgramError:
        return None
    return found.program.targets[0].constants


def _weights_path(settings: Settings, program: Program, device: Device) -> Path:
    keyed = (*program.options, ("device", device.signature.digest()))
    return Store(settings.store_dir).weights_path(program.model.sha256, keyed, program.engine)


def _make(request: Request, path: Path | None, decision: Decision) -> Executor:
    """The cold path: compile, check, save where ``path`` says, and run even if that fails."""
    from mace_cl import compiler

    assert request.model is not None
    assert request.identity is not None
    logger.info("%s", decision.sentence)
    prepared = compiler.prepare(request.model, request.device, request.shapes, request.progress)
    request.clock.mark("prepare")
    found = examine(path, **access(request.settings)) if path is not None else None
    opened = found if isinstance(found, Opened) else None
    reused = _unbaked(request, opened, prepared.schedule) if decision.code == "no-weights" else None
    if reused is not None:
        full = replace(reused, constants=memoryview(prepared.constants))  # type: ignore[arg-type]
        request.clock.mark("compile")
        executor, full = checked(request, full, prepared.constants)
        assert opened is not None
        save_weights(request, replace(opened.program, targets=(full,)))
        return executor
    target = compiler.build(prepared, request.model, request.device, request.settings.jobs, request.progress)
    target = replace(target, provenance=(*target.provenance, ("because", decision.code)))
    request.clock.mark("compile")
    executor, target = checked(request, target, prepared.constants)
    if path is not None:
        fits = opened is not None and decision.code not in ("other-model", "other-options", "engine-changed")
        base = opened.program if opened is not None and fits else compiler.program(request.identity, request.options)
        _save(request, target, base, path, decision)
    return executor


def _unbaked(request: Request, opened: Opened | None, schedule: Any) -> Target | None:
    """The part of an unbaked program whose kernels the model still gives."""
    if opened is None:
        return None
    opened.verify()
    return next(
        (
            target
            for target in opened.program.targets
            if target.signature == request.device.signature and target.schedule == schedule
        ),
        None,
    )


def checked(request: Request, target: Target, constants: Constants) -> tuple[Executor, Target]:
    """The executor of a part, its golden vectors answered; wrong kernels are replaced by their safe variant."""
    from mace_cl.runtime.golden import compare, golden_inputs, sample

    context = _context(request.device)
    executor = _executor(request, target, constants, context)
    outputs = executor.run(golden_inputs(target.schedule.inputs))
    expected = {name: np.frombuffer(values, np.float32) for name, values in target.golden}
    difference = compare(expected, outputs)
    if difference is not None:
        executor, target = _with_safe_kernels(request, target, constants, executor, context, difference)
        outputs = executor.run(golden_inputs(target.schedule.inputs))
        still = compare(expected, outputs)
        if still is not None:
            logger.warning(
                "%r departs from the reference by %.1e of its largest value on %s, also without the compiler's "
                "optimisations; the device's own answer is kept as the golden one.",
                still.output, still.relative, request.device.name,
            )  # fmt: skip
            expected = {}
    if not expected:
        golden = tuple((name, memoryview(sample(array).tobytes())) for name, array in outputs.items())
        target = replace(target, golden=golden)
    request.clock.mark("self-check")
    return executor, target


def _with_safe_kernels(
    request: Request, target: Target, constants: Constants, executor: Executor, context: Any, difference: Difference
) -> tuple[Executor, Target]:
    from mace_cl.runtime.repair import wrong_kernels
    from mace_cl.runtime.worker import complete_binary

    schedule, device = target.schedule, request.device
    wrong = wrong_kernels(device, context, schedule, executor, constants)
    if not wrong:
        return executor, target
    names = ", ".join(schedule.kernels[index].name for index in wrong)
    first = next(launch for launch in schedule.launches if launch.kernel == wrong[0])
    logger.warning(
        "%s compiles kernel %s (%s) wrongly: output %r departs by %.1e. Built without optimisation instead: %s.",
        device.name, schedule.kernels[wrong[0]].name, first.node, difference.output, difference.relative, names,
    )  # fmt: skip
    executor.close()
    safe = build_source(context, schedule, wrong, safe=True)
    units = [
        replace(unit, kernels=kept)
        for unit in target.units
        if (kept := tuple(index for index in unit.kernels if index not in wrong))
    ]
    units.append(Unit(wrong, complete_binary(device, context, schedule, list(wrong), safe), safe=True))
    provenance = (*(pair for pair in target.provenance if pair[0] != "safe kernels"), ("safe kernels", names))
    target = replace(target, units=tuple(units), provenance=provenance)
    return _executor(request, target, constants, context), target


def signer(settings: Settings) -> Signer | None:
    """Signs what is compiled here, where only signed programs are used: else the next start would refuse it."""
    if not settings.trusted_keys or not settings.store:
        return None
    from mace_cl.program.seal import local_signer

    Store(settings.store_dir).prepare()
    return local_signer(settings.store_dir)


def _save(request: Request, target: Target, base: Program, path: Path, decision: Decision) -> None:
    """Add ``target`` to ``base`` and write that to ``path``; where it can't be, one warning and nothing else."""
    from mace_cl.program.edit import add_target

    settings = request.settings
    try:
        if decision.code in SET_ASIDE:
            logger.warning("%s It is kept as %s.", decision.sentence, quarantine(path))
        program = add_target(base, target)
        write(program, path, signer=signer(settings))
        remember(request, path)
        _sweep(settings, path)
    except (StorageError, SealError) as error:
        logger.warning("%s The program is not kept; this run goes on.", error)
    request.clock.mark("save")


def remember(request: Request, path: Path) -> None:
    """Record that the newest part of the file at ``path`` works here: it has just answered."""
    settings = request.settings
    found = examine(path, **access(settings)) if settings.store else None
    if isinstance(found, Opened):
        binaries = binaries_of(found, len(found.program.targets) - 1)
        Proofs(settings.store_dir).record(digest(binaries, request.device.signature))


def save_weights(request: Request, program: Program) -> None:
    """Keep the prepacked weights of an unbaked program in the store."""
    settings = request.settings
    if not settings.store:
        return
    try:
        Store(settings.store_dir).prepare()
        path = _weights_path(settings, program, request.device)
        write(program, path, signer=signer(settings))
        _sweep(settings, path)
    except (StorageError, SealError) as error:
        logger.warning("%s The weights are not kept; the next start packs them again.", error)


def _sweep(settings: Settings, path: Path) -> None:
    """Keep the store within its budget after ``path`` was written into it."""
    if settings.store and path.parent == settings.store_dir:
        with suppress(OSError):
            Store(settings.store_dir).gc(settings.store_budget, engine=engine_fingerprint(), keep=[path])
