"""From a model or program to something that runs: warm where it can be, cold where it must be.

A start looks for a program that fits, by the rules of `mace_cl.program.policy`.  Binaries that this
installation has not yet seen working on this device and driver are tried in a child process first, on
the golden vectors; a death, a refusal or a wrong answer costs those binaries and nothing else.  What is
missing for a device is compiled and added to the file; the parts for other devices stay.  What can't be
added to a given program, because it is bytes or its maker signed it, the store keeps beside it.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.device.device import Device
from mace_cl.device.signature import Signature
from mace_cl.errors import BuildError, DamagedError, DeviceError, MaceClError, ProgramError, SealError, StorageError
from mace_cl.identity import engine_fingerprint
from mace_cl.program.format import Opened, Signer, write
from mace_cl.program.policy import COPIED, SET_ASIDE, Decision, decide, examine, quarantine, same_device
from mace_cl.program.program import ModelIdentity, Pairs, Program, Target, Unit
from mace_cl.program.proofs import Proofs, proof, proof_of
from mace_cl.program.store import Store
from mace_cl.runtime.build import Built, Progress, build_source, compile_units, load_binary
from mace_cl.runtime.executor import Executor
from mace_cl.settings import Settings

if TYPE_CHECKING:
    from mace_cl.program.cipher import Key

__all__ = [
    "Checked", "Clock", "Found", "Request", "Shapes", "access", "checked", "foresee", "proofs", "save_weights",
    "signer", "start",
]  # fmt: skip

logger = logging.getLogger("mace_cl")

_LOCK_SECONDS = 600.0
_PROOF_SECONDS = 120.0
_STALE_SECONDS = 3600.0

Shapes = Mapping[str, Sequence[int]]
Constants = NDArray[np.uint8]
Found = Opened | MaceClError | None


class Clock:
    """Seconds between marks, and what was compiled meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.built: list[Built] = []
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """Count the time since the last mark as ``name``."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


@dataclass(frozen=True)
class Request:
    """What is wanted: a model (None when only a program was given) on a device, with options.

    ``program`` is the file to use and write, None for the store's own; ``outputs`` names those that replace the
    model's own.
    """

    model: Path | bytes | None
    identity: ModelIdentity | None
    options: Pairs
    shapes: Shapes | None
    program: Path | None
    device: Device
    settings: Settings
    progress: Progress | None = None
    clock: Clock = field(default_factory=Clock)
    outputs: tuple[str, ...] = ()


def access(settings: Settings) -> dict[str, Any]:
    """What it takes to open signed and encrypted programs."""
    return {"key": settings.key, "trusted_keys": settings.trusted_keys, "store_dir": settings.store_dir}


def proofs(settings: Settings) -> Proofs:
    """What is known to work here; nothing where there is no store."""
    return Proofs(settings.store_dir if settings.store else None)


def foresee(request: Request, given: Opened | None) -> tuple[Found, Decision]:
    """What `start` would find and decide, without running or changing anything.

    Binaries that are not proven here may still turn out not to work.
    """
    found = given or _look(_place(request, None), request)
    decision = _decide(request, found, _weights(request, found))
    if isinstance(found, Opened) and not _proven(request, found, decision):
        kept = _look(_beside(request, found), request)
        other = _decide(request, kept, _weights(request, kept))
        if other.target is not None:
            found, decision = kept, other
    whole = _whole(found)
    if whole is not found:
        return whole, _decide(request, whole, None)
    if isinstance(found, Opened) and decision.code == "driver-changed" and request.settings.reuse == "same-gpu":
        number = _other_driver(request, found)
        if number is not None:
            sentence = f"{decision.sentence} It is used if it still answers its golden vectors."
            decision = Decision("use", "same-gpu", sentence, number)
    return whole, decision


def start(request: Request, given: Opened | None) -> tuple[Executor, Decision]:
    """An executor, and how it came about.

    Raises:
        ProgramError: only a program was given, and it can't be used.
        SealError: a program was named, and it is not to be trusted or can't be decrypted.
        ModelError, DeviceError, BuildError: the model or the device does not allow it.
    """
    place = _place(request, given)
    found = given or _look(place, request)
    stamps = _stamps(request, place, found)
    executor, decision = _attempt(request, found)
    if executor is not None:
        return executor, decision
    _check_use(request, found, decision)
    if place is None:
        logger.info("Nothing is kept, as the store is off: the next start compiles again.")
    with _alone(request, place) as mine:
        # another process may have made it while this one waited
        if mine is not None and _stamps(request, mine, found) != stamps:
            later = _look(mine, request) if given is None or mine == Path(given.name) else given
            found = later if given is None or isinstance(later, Opened) else given
            executor, decision = _attempt(request, found)
            if executor is not None:
                return executor, decision
            _check_use(request, found, decision)
        make = _from_sources if request.model is None else _from_model
        return make(request, mine, found, decision)


def _place(request: Request, given: Opened | None) -> Path | None:
    """The file that a start reads and writes; None where nothing is kept."""
    if given is not None:
        return Path(given.name) if os.path.isfile(given.name) else _beside(request, given)
    if request.program is not None or not request.settings.store:
        return request.program
    assert request.identity is not None
    return Store(request.settings.store_dir).path(request.identity.sha256, request.options, engine_fingerprint())


def _beside(request: Request, opened: Opened) -> Path | None:
    """Where the store keeps the parts that a given program lacks and that can't be added to it."""
    if not request.settings.store or _is_kept(request.settings, opened.name):
        return None
    program = opened.program
    keyed = (*program.options, ("program", hashlib.sha256(opened.message()).hexdigest()))
    return Store(request.settings.store_dir).path(program.model.sha256, keyed, program.engine)


def _is_kept(settings: Settings, name: str | Path) -> bool:
    return Path(name).parent == settings.store_dir


def _look(path: Path | None, request: Request) -> Found:
    return None if path is None else examine(path, **access(request.settings))


def _whole(found: Found) -> Found:
    """The same, or the damage if an opened program does not stand a check of every byte."""
    if isinstance(found, Opened):
        try:
            found.verify()
        except DamagedError as error:
            return error
    return found


def _stamps(request: Request, path: Path | None, found: Found) -> list[tuple[int, int, int] | None]:
    """Changes when the file, or what is kept beside it, is replaced."""
    stamps: list[tuple[int, int, int] | None] = []
    for one in (path, _beside(request, found) if isinstance(found, Opened) else None):
        try:
            status = os.stat(one) if one is not None else None
        except OSError:
            status = None
        stamps.append((status.st_ino, status.st_size, status.st_mtime_ns) if status else None)
    return stamps


def _check_use(request: Request, found: Found, decision: Decision) -> None:
    """Raises where there is no way to go on."""
    if decision.code == "refused" and request.program is not None:
        raise SealError(decision.sentence)
    if request.model is not None:
        return
    if decision.code == "damaged":
        raise DamagedError(decision.sentence)
    if decision.code == "no-weights" and isinstance(found, Opened):
        raise ProgramError(
            f"{found.name}: holds no weights. Run the model with it (`mace-cl run MODEL --program FILE`, or "
            "Runtime(model, program=file)), or compile it anew with --bake"
        )


@contextmanager
def _alone(request: Request, path: Path | None) -> Iterator[Path | None]:
    """Where this process may write: ``path``, as soon as no other process is about to, or None."""
    settings = request.settings
    if path is None or not settings.store:
        yield path
        return
    store, kept = Store(settings.store_dir), _is_kept(settings, path)
    try:
        store.prepare()
    except StorageError as error:
        if kept:
            logger.warning("%s The program is not kept; this run goes on.", error)
        yield None if kept else path
        return
    with store.lock(path if kept else store.lock_path(path), _LOCK_SECONDS) as alone:
        if kept and not alone:
            logger.warning(
                "%s: can't be written, or another process has been at it for %.0f s. The program is not kept; "
                "this run goes on.", path, _LOCK_SECONDS,
            )  # fmt: skip
        yield None if kept and not alone else path


def _decide(request: Request, found: Found, weights: memoryview | None) -> Decision:
    signature = request.device.signature
    if not isinstance(found, Opened):
        return decide(found, device=signature)
    if request.identity is None:
        return decide(found.program, device=signature, weights=weights is not None)
    return decide(
        found.program, device=signature, model=request.identity.sha256, options=request.options,
        engine=engine_fingerprint(), weights=weights is not None,
    )  # fmt: skip


def _weights(request: Request, found: Found) -> memoryview | None:
    if not isinstance(found, Opened):
        return None
    return _stored_weights(request.settings, found.program, request.device.signature)


def _proven(request: Request, found: Opened, decision: Decision) -> bool:
    if decision.target is None:
        return False
    return proofs(request.settings).known(proof_of(found, decision.target, request.device.signature))


def _attempt(request: Request, found: Found) -> tuple[Executor | None, Decision]:
    """The executor from what was found, or from what is kept beside it; or None, and the reason why not."""
    weights = _weights(request, found)
    decision = _decide(request, found, weights)
    if not isinstance(found, Opened):
        return None, decision
    if not _proven(request, found, decision):
        kept = _look(_beside(request, found), request)
        if isinstance(kept, Opened):
            executor, other = _use(request, kept, _decide(request, kept, _weights(request, kept)))
            if executor is not None:
                return executor, other
    return _use(request, found, decision, weights)


def _use(
    request: Request, opened: Opened, decision: Decision, weights: memoryview | None = None
) -> tuple[Executor | None, Decision]:
    """The executor of an opened program if the decision is to use it and its binaries hold what they promise."""
    number = decision.target
    if decision.code == "driver-changed" and request.settings.reuse == "same-gpu":
        number = _other_driver(request, opened)
    if number is None:
        return None, decision
    target = opened.program.targets[number]
    if target.constants is None and (weights is None or decision.target is None):
        weights = _stored_weights(request.settings, opened.program, target.signature)
    try:
        if _proven(request, opened, decision):
            executor: Executor | None = _load(request, opened, target, weights)
        else:
            executor, decision = _first_use(request, opened, number, weights, decision)
    except (DamagedError, BuildError) as error:
        code = "damaged" if isinstance(error, DamagedError) else "driver-refused"
        return None, Decision("compile", code, str(error))
    if executor is not None and _is_kept(request.settings, opened.name):
        Store(request.settings.store_dir).used(Path(opened.name))
    return executor, decision


def _other_driver(request: Request, opened: Opened) -> int | None:
    """The newest whole part for this device under another driver."""
    for number, target in reversed(list(enumerate(opened.program.targets))):
        weights = target.constants is not None or _stored_weights(request.settings, opened.program, target.signature)
        if same_device(target.signature, request.device.signature) and weights and all(u.binary for u in target.units):
            return number
    return None


def _first_use(
    request: Request, opened: Opened, number: int, weights: memoryview | None, decision: Decision
) -> tuple[Executor | None, Decision]:
    """Use of binaries that are not proven on this device and driver: in a child process, then here."""
    target, device, guard = opened.program.targets[number], request.device, request.settings.guard
    verdict = _prove(request, opened, number, weights) if guard else {"verdict": "wrong"}
    request.clock.mark("proof")
    if verdict["verdict"] in ("died", "refused"):
        return None, Decision(
            "compile", f"driver-{verdict['verdict']}",
            f"{opened.name}: its binaries do not work on {device.name} ({verdict['error']}); "
            "they are compiled from source.",
        )  # fmt: skip
    if verdict["verdict"] == "right":
        found = Checked(_load(request, opened, target, weights), target)
    else:
        opened.verify()
        found = checked(request, target, _constants(target, weights))
    if decision.target is None:
        if found.target is not target:
            found.executor.close()
            return None, replace(decision, sentence=f"{decision.sentence} What it holds no longer answers right.")
        provenance = _because(target, "same-gpu")
        found = Checked(found.executor, replace(target, signature=device.signature, provenance=provenance))
        decision = Decision("use", "same-gpu", f"{decision.sentence} It still answers right, and is kept.", number)
        if target.constants is None and weights is not None:
            save_weights(request.settings, replace(opened.program, targets=(replace(found.target, constants=weights),)))
    elif found.finding:
        decision = Decision("use", "wrong-answer", f"{opened.name}: {found.finding}", number)
        logger.warning("%s [%s]", decision.sentence, decision.code)
    if found.target is target:
        proofs(request.settings).record(proof(target, device.signature))
    else:
        _save(request, found.target, _place(request, opened), opened, opened.program, decision)
    return found.executor, decision


def _prove(request: Request, opened: Opened, number: int, weights: memoryview | None) -> dict[str, Any]:
    """What a child process found: right, wrong, refused or died."""
    from mace_cl.runtime.child import Child, ChildError

    key = opened.key() if callable(opened.key) else opened.key
    question = {
        "device": request.device.runtime, "signature": request.device.signature.digest(), "target": number,
        "key": key.hex() if key else "",
    }  # fmt: skip
    child = Child("mace_cl.runtime.worker", "prove")
    try:
        return child.ask(question, [opened.view, weights or b""], timeout=_PROOF_SECONDS)
    except ChildError as error:
        return {"verdict": "died", "error": str(error)}
    finally:
        child.kill()


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
    programs = []
    for unit in target.units:
        assert unit.binary is not None, "a part without binaries is compiled first"
        programs.append((unit.kernels, load_binary(context, device, unit.binary, schedule.build_options)))
    request.clock.mark("load")
    executor = Executor(device, context, schedule, programs, constants)
    request.clock.mark("set-up")
    return executor


def _from_model(request: Request, path: Path | None, found: Found, decision: Decision) -> tuple[Executor, Decision]:
    """The cold path: compile, check, save where ``path`` says, and run even if that fails."""
    from mace_cl import compiler

    assert request.model is not None
    assert request.identity is not None
    _say(decision)
    prepared = compiler.prepare(
        request.model, request.device, request.shapes, request.progress, outputs=request.outputs
    )  # fmt: skip
    request.clock.mark("prepare")
    if decision.code == "no-weights" and isinstance(found, Opened):
        executor, decision = _with_weights(request, found, prepared.schedule, prepared.constants, decision)
        if executor is not None:
            return executor, decision
    target, built = compiler.build(prepared, request.device, request.settings.jobs, request.progress)
    request.clock.built += built
    request.clock.mark("compile")
    made = checked(request, replace(target, provenance=_because(target, decision.code)), prepared.constants)
    if made.finding:
        logger.warning("%s", made.finding)
    _save(request, made.target, path, found, compiler.program(request.identity, request.options), decision)
    return made.executor, _with_finding(decision, made)


def _with_weights(
    request: Request, opened: Opened, schedule: Any, constants: Constants, decision: Decision
) -> tuple[Executor | None, Decision]:
    """The executor of an unbaked program, if its kernels are those that the model still gives."""
    for number, target in enumerate(opened.program.targets):
        if target.signature == request.device.signature and target.schedule == schedule:
            if any(unit.binary is None for unit in target.units):
                return None, decision
            weights = memoryview(constants)  # type: ignore[arg-type]
            executor, found = _use(request, opened, replace(decision, target=number), weights)
            if executor is None:
                _say(found)
            else:
                full = replace(target, constants=weights)
                save_weights(request.settings, replace(opened.program, targets=(full,)))
            return executor, replace(found, target=None)
    return None, decision


def _from_sources(request: Request, path: Path | None, found: Found, decision: Decision) -> tuple[Executor, Decision]:
    """There is no model, but a program holds the sources of its kernels: those of the nearest device first."""
    assert isinstance(found, Opened)
    logger.warning(
        "%s Its kernels are compiled from the sources inside the file. [%s]", decision.sentence, decision.code
    )
    found.verify()
    device, program, failure = request.device, found.program, None
    for target in sorted(program.targets, key=lambda target: _distance(target.signature, device.signature)):
        weights = _stored_weights(request.settings, program, target.signature) if target.constants is None else None
        if target.constants is None and weights is None:
            continue
        try:
            built = compile_units(device, target.schedule, request.settings.jobs, request.progress)
            request.clock.built += built
            request.clock.mark("compile")
            units = tuple(Unit(unit.kernels, unit.binary) for unit in built)
            provenance = tuple(pair for pair in _because(target, decision.code) if pair[0] != "safe kernels")
            made = replace(target, signature=device.signature, units=units, provenance=provenance)
            done = checked(request, made, _constants(target, weights))
        except DeviceError as error:  # what one device's kernels ask for, another may lack
            failure = error
            continue
        if done.finding:
            logger.warning("%s", done.finding)
        if target.constants is None and weights is not None:
            full = replace(done.target, constants=weights)
            save_weights(request.settings, replace(program, targets=(full,)))
        _save(request, done.target, path, found, program, decision)
        return done.executor, _with_finding(decision, done)
    if failure is not None:
        raise failure
    raise ProgramError(f"{found.name}: {decision.sentence} Its weights are not inside either; give the model")


def _distance(one: Signature, other: Signature) -> tuple[bool, bool, bool]:
    return (one != other, not same_device(one, other), one.platform != other.platform)


def _say(decision: Decision) -> None:
    """Tell why something is compiled: a first start is no news, a driver that dies is."""
    level = logging.WARNING if decision.code in COPIED else logging.INFO
    logger.log(level, "%s [%s]", decision.sentence, decision.code)


def _because(target: Target, code: str) -> Pairs:
    return (*(pair for pair in target.provenance if pair[0] != "because"), ("because", code))


def _with_finding(decision: Decision, found: Checked) -> Decision:
    return replace(decision, sentence=f"{decision.sentence} {found.finding}".rstrip())


@dataclass(frozen=True)
class Checked:
    """An executor, its part with golden values and safe kernels, and a sentence on what was wrong, if anything."""

    executor: Executor
    target: Target
    finding: str = ""


def checked(request: Request, target: Target, constants: Constants) -> Checked:
    """The executor of a part, its golden vectors answered; wrong kernels are replaced by their safe variant."""
    from mace_cl.runtime.golden import compare, expected, golden_inputs, sample

    context = _context(request.device)
    found = Checked(_executor(request, target, constants, context), target)
    golden, inputs = expected(target.golden), golden_inputs(target.schedule.inputs)
    outputs = found.executor.run(inputs)
    difference = compare(golden, outputs)
    if difference is not None:
        found = _with_safe_kernels(request, target, constants, found.executor, context)
        outputs = found.executor.run(inputs)
        still = compare(golden, outputs)
        if still is not None:
            finding = (
                f"Output {still.output!r} departs from the reference by {still.relative:.1e} of its largest value on "
                f"{request.device.name}, also without the compiler's optimisations; the device's own answer is kept "
                "as the golden one."
            )
            found, golden = replace(found, finding=f"{found.finding} {finding}".lstrip()), {}
    if not golden:
        values = tuple((name, memoryview(sample(array).tobytes())) for name, array in outputs.items())
        oracle = ("oracle", f"device ({request.device.runtime})")
        provenance = (oracle, *(pair for pair in found.target.provenance if pair[0] != "oracle"))
        found = replace(found, target=replace(found.target, golden=values, provenance=provenance))
    request.clock.mark("self-check")
    return found


def _with_safe_kernels(
    request: Request, target: Target, constants: Constants, executor: Executor, context: Any
) -> Checked:
    from mace_cl.runtime.repair import wrong_kernels
    from mace_cl.runtime.worker import complete_binary

    schedule, device = target.schedule, request.device
    wrong = wrong_kernels(device, context, schedule, executor, constants)
    if not wrong:
        return Checked(executor, target)
    kernels = tuple(wrong)
    names = ", ".join(schedule.kernels[index].name for index in kernels)
    first = schedule.launches[wrong[kernels[0]]].node
    executor.close()
    safe = build_source(context, schedule, kernels, safe=True)
    units = [
        replace(unit, kernels=kept)
        for unit in target.units
        if (kept := tuple(index for index in unit.kernels if index not in wrong))
    ]
    units.append(Unit(kernels, complete_binary(device, context, schedule, kernels, safe), safe=True))
    earlier = [value for name, value in target.provenance if name == "safe kernels"]
    provenance = (
        *(pair for pair in target.provenance if pair[0] != "safe kernels"),
        ("safe kernels", ", ".join([*earlier, names])),
    )
    target = replace(target, units=tuple(units), provenance=provenance)
    finding = (
        f"{device.name} answers wrong in kernel {schedule.kernels[kernels[0]].name} ({first}) first. "
        f"Built without the compiler's optimisations instead: {names}."
    )
    return Checked(_executor(request, target, constants, context), target, finding)


def signer(settings: Settings) -> Signer | None:
    """Signs what is compiled here, where only signed programs are used: else the next start would refuse it."""
    if not settings.trusted_keys or not settings.store:
        return None
    from mace_cl.program.seal import local_signer

    Store(settings.store_dir).prepare()
    return local_signer(settings.store_dir)


def _save(
    request: Request, target: Target, path: Path | None, found: Found, empty: Program, decision: Decision
) -> None:
    """Add ``target`` to the file at ``path``, or, where that has to stay as it is, to what is kept beside it.

    Where nothing can be written there is one warning, and nothing else.  ``empty`` is what the file
    becomes where none is there that fits.
    """
    from mace_cl.program.seal import may_rewrite

    settings, key = request.settings, None
    proofs(settings).record(proof(target, request.device.signature))
    if path is None:
        return
    try:
        if isinstance(found, Opened):
            beside = _beside(request, found)
            if not _is_kept(settings, path) and not may_rewrite(path, settings.store_dir):
                logger.warning(
                    "%s is signed or encrypted by its maker, and stays as it is; the part made for %s is %s.",
                    path, request.device.name, "not kept" if beside is None else f"kept as {beside}",
                )  # fmt: skip
                path = beside
                if path is None:
                    return
            if path == beside:
                Store(settings.store_dir).prepare()
                empty = replace(found.program, targets=())
            if _is_kept(settings, path) and found.manifest.key:
                key = found.key
        _add(request, target, path, empty, decision, key)
    except (StorageError, SealError) as error:
        logger.warning("%s The program is not kept; this run goes on.", error)
    request.clock.mark("save")


def _add(request: Request, target: Target, path: Path, empty: Program, decision: Decision, key: Key | None) -> None:
    """Read the file anew, as another process may have added to it, and replace it."""
    from mace_cl.program.edit import add_target

    settings, base = request.settings, empty
    there = _whole(_look(path, request))
    if isinstance(there, Opened):
        held = there.program
        if (held.model.sha256, dict(held.options), held.engine) == (
            empty.model.sha256,
            dict(empty.options),
            empty.engine,
        ):
            base = held
        if decision.code in COPIED:
            logger.warning("The file is kept as %s.", quarantine(path, copy=True))
    elif there is not None and decide(there, device=request.device.signature).code in SET_ASIDE:
        logger.warning("%s It is kept as %s.", there, quarantine(path))
    write(add_target(base, target), path, key=key, signer=signer(settings))
    logger.info("Later starts on %s load %s.", request.device.name, path)
    _sweep(settings, path)


def save_weights(settings: Settings, program: Program) -> None:
    """Keep the prepacked weights of a program's one part in the store."""
    if not settings.store:
        return
    try:
        Store(settings.store_dir).prepare()
        path = _weights_path(settings, program, program.targets[0].signature)
        write(program, path, signer=signer(settings))
        _sweep(settings, path)
    except (StorageError, SealError) as error:
        logger.warning("%s The weights are not kept; the next start packs them again.", error)


def _stored_weights(settings: Settings, program: Program, signature: Signature) -> memoryview | None:
    """Prepacked weights for an unbaked program's part for ``signature``, from the store."""
    if not settings.store or all(target.constants is not None for target in program.targets):
        return None
    found = examine(_weights_path(settings, program, signature), **access(settings))
    if not isinstance(found, Opened):
        return None
    try:
        found.verify()
    except ProgramError:
        return None
    return found.program.targets[0].constants


def _weights_path(settings: Settings, program: Program, signature: Signature) -> Path:
    keyed = (*program.options, ("device", signature.digest()))
    return Store(settings.store_dir).weights_path(program.model.sha256, keyed, program.engine)


def _sweep(settings: Settings, path: Path) -> None:
    """After ``path`` was written: keep the store within its budget, and remove what killed processes left."""
    with suppress(OSError):
        if _is_kept(settings, path):
            Store(settings.store_dir).gc(settings.store_budget, engine=engine_fingerprint(), keep=[path])
            return
        before = time.time() - _STALE_SECONDS
        for left in path.parent.glob(".mace-cl-*.tmp"):
            if left.lstat().st_mtime < before:
                left.unlink()
