"""From a model or program to something that runs: warm where it can be, cold where it must be.

A start looks for a program that fits, by the rules of `mace_cl.program.policy`.  Binaries that this
installation has not yet seen working on this device and driver are tried in a child process first, on
the golden vectors; a death, a refusal or a wrong answer costs those binaries and nothing else.  What is
missing for a device is compiled and added to the file; the parts for other devices stay.  What can't be
added to a given program, because it is bytes or its maker signed it, the store keeps beside it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_cl.device.signature import Signature
from mace_cl.errors import BuildError, DamagedError, DeviceError, InputError, ProgramError, SealError
from mace_cl.identity import engine_fingerprint
from mace_cl.keeping import (
    alone,
    check_no_model,
    is_kept,
    look,
    looked_again,
    place_beside,
    place_of,
    save,
    save_weights,
    stamp_beside,
    stored_weights,
    verified,
)  # fmt: skip
from mace_cl.loading import Checked, Constants, checked, constants_of, load, prove
from mace_cl.program.bucket import Input
from mace_cl.program.format import Opened
from mace_cl.program.policy import COPIED, Decision, decide, listed, same_device
from mace_cl.program.program import Pairs, Target, Unit
from mace_cl.program.proofs import proof, proof_of, use
from mace_cl.program.store import Store
from mace_cl.request import Found, Request, proofs
from mace_cl.runtime.executor import Executor

if TYPE_CHECKING:
    from mace_cl.compiler import Prepared

__all__ = ["ahead", "foresee", "open_inputs", "renew", "seek", "start"]

logger = logging.getLogger("mace_cl")

_STAGES = ("read", "optimise", "plan")
"""The stages that `mace_cl.compiler.prepare` reports, in order."""


def foresee(request: Request, given: Opened | None) -> tuple[Found, Decision]:
    """What `start` would find and decide, without running or changing anything.

    Binaries that are not proven here may still turn out not to work.

    Raises:
        InputError: a program was named, and it is a model.
    """
    found = given or look(place_of(request, None), request)
    decision = _decide(request, found, _weights(request, found))
    if decision.code == "not-a-program" and request.program is not None:
        check_no_model(request.program)
    if isinstance(found, Opened) and not _proven(request, found, decision):
        kept = look(place_beside(request, found), request)
        other = _decide(request, kept, _weights(request, kept))
        if other.target is not None:
            found, decision = kept, other
    whole = verified(found)
    if whole is not found:
        return whole, _decide(request, whole, None)
    if isinstance(found, Opened) and decision.code == "driver-changed" and request.settings.reuse == "same-gpu":
        number = _other_driver(request, found)
        if number is not None:
            sentence = f"{decision.sentence} It is used if it still answers its golden vectors."
            decision = Decision("use", "same-gpu", sentence, number)
    return whole, decision


def seek(request: Request, given: Opened | None) -> Found:
    """The program that a start looks at first."""
    return given or look(place_of(request, given), request)


@contextmanager
def ahead(request: Request, found: Found) -> Iterator[Request]:
    """The request, meanwhile with processes that compile: begun at once where nothing was found."""
    if found is not None or not request.device.can_compile or request.settings.runtime == "cpu":
        yield request
        return
    from mace_cl.runtime.compile import Workers  # a warm start does without

    with Workers(request.settings.jobs) as workers:
        yield replace(request, workers=workers)


def open_inputs(request: Request, found: Found) -> tuple[Input, ...]:
    """The model's inputs if shapes or parameters are open: from the program, else from the model itself.

    Raises:
        InputError: the request's outputs do not fit the model.
    """
    if isinstance(found, Opened):
        program = found.program
        if request.identity is None or (program.model.sha256, dict(program.options), program.engine) == (
            request.identity.sha256, dict(request.options), engine_fingerprint(),
        ):  # fmt: skip
            return program.inputs
    if request.model is None:
        return ()
    from mace_cl import compiler

    return compiler.inputs_of(request.model, request.shapes, request.outputs, request.settings.trust)


def start(request: Request, given: Opened | None, sought: Found = None) -> tuple[Executor, Decision]:
    """An executor, and how it came about; ``sought`` is what `seek` gave.

    Raises:
        ProgramError: only a program was given, and it can't be used.
        SealError: a program was named, and it is not to be trusted or can't be decrypted.
        InputError: a program was named, and it is a model.
        ModelError, DeviceError, BuildError: the model or the device does not allow it.
    """
    path = place_of(request, given)
    found = given or sought or look(path, request)
    beside = stamp_beside(request, found)
    executor, decision = _attempt(request, found)
    if executor is not None:
        return executor, decision
    _check_use(request, found, decision)
    if path is None:
        logger.info("Nothing is kept, as the store is off: the next start compiles again.")
    with alone(request, path) as mine:
        # another process may have made it while this one waited
        later = looked_again(request, mine, given, found)
        if later is not found or stamp_beside(request, found) != beside:
            found = later
            executor, decision = _attempt(request, found)
            if executor is not None:
                return executor, decision
            _check_use(request, found, decision)
        make = _from_sources if request.model is None else _from_model
        return make(request, mine, found, decision)


def renew(request: Request) -> tuple[Executor, Decision]:
    """As `start` with a model, but a program of other choices than tuning records now give is compiled anew."""
    path = place_of(request, None)
    found = look(path, request)
    decision = _decide(request, found, _weights(request, found))
    if decision.target is not None and isinstance(found, Opened) and request.model is not None:
        prepared = _prepared(request)
        if prepared.schedule != found.program.targets[decision.target].schedule:
            sentence = f"{found.name}: tuning has found faster kernels since it was made; they are compiled."
            with alone(request, path) as mine:
                return _from_model(request, mine, found, Decision("compile", "tuned", sentence))
    return start(request, None)


def _check_use(request: Request, found: Found, decision: Decision) -> None:
    """Raises where there is no way to go on."""
    if decision.code == "refused" and request.program is not None:
        raise SealError(decision.sentence)
    if decision.code == "not-a-program" and request.program is not None:
        check_no_model(request.program)
    if request.model is not None:
        return
    if decision.code == "damaged":
        raise DamagedError(decision.sentence)
    if decision.code == "no-weights" and isinstance(found, Opened):
        raise ProgramError(
            f"{found.name}: holds no weights. Run the model with it (`mace-cl run MODEL --program FILE`, or "
            "Runtime(model, program=file)), or compile it anew with --bake"
        )


def _decide(request: Request, found: Found, weights: memoryview | None) -> Decision:
    signature = request.device.signature
    if not isinstance(found, Opened):
        return decide(found, device=signature)
    if request.identity is None:
        return decide(found.program, device=signature, weights=weights is not None, bucket=request.bucket)
    return decide(
        found.program, device=signature, model=request.identity.sha256, options=request.options,
        engine=engine_fingerprint(), weights=weights is not None, bucket=request.bucket,
    )  # fmt: skip


def _weights(request: Request, found: Found) -> memoryview | None:
    if not isinstance(found, Opened):
        return None
    return stored_weights(request.settings, found.program, request.device.signature, request.bucket)


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
        kept = look(place_beside(request, found), request)
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
    _check_hosts(request, target)
    if target.constants is None and (weights is None or decision.target is None):
        weights = stored_weights(request.settings, opened.program, target.signature, target.bucket)
    try:
        if _proven(request, opened, decision):
            executor: Executor | None = load(request, opened, number, weights)
        else:
            executor, decision = _first_use(request, opened, number, weights, decision)
    except (DamagedError, BuildError) as error:
        code = "damaged" if isinstance(error, DamagedError) else "driver-refused"
        return None, Decision("compile", code, str(error))
    if executor is not None and opened.program.inputs:
        proofs(request.settings).record(use(proof(target, target.signature), target.bucket))
    if executor is not None and is_kept(request.settings, opened.name):
        Store(request.settings.store_dir).used(Path(opened.name))
    return executor, decision


def _check_hosts(request: Request, target: Target) -> None:
    """That what runs on the host may and can.

    Raises:
        UnsupportedError: nothing may.
        HostError: ONNX Runtime or its provider is missing.
    """
    schedule = target.schedule
    if not schedule.hosts:
        return
    from mace_cl.runtime.host import refusal, require

    if request.settings.runtime == "gpu":
        raise refusal(schedule.nodes)
    require([step.provider for step in schedule.hosts], schedule.nodes)


def _other_driver(request: Request, opened: Opened) -> int | None:
    """The newest whole part for this device under another driver."""
    for number, target in reversed(list(enumerate(opened.program.targets))):
        if request.bucket not in (None, target.bucket):
            continue
        weights = target.constants is not None or stored_weights(
            request.settings, opened.program, target.signature, target.bucket
        )
        if same_device(target.signature, request.device.signature) and weights and all(u.binary for u in target.units):
            return number
    return None


def _first_use(
    request: Request, opened: Opened, number: int, weights: memoryview | None, decision: Decision
) -> tuple[Executor | None, Decision]:
    """Use of binaries that are not proven on this device and driver: in a child process, then here."""
    target, device, guard = opened.program.targets[number], request.device, request.settings.guard
    verdict = prove(request, opened, number, weights) if guard else {"verdict": "wrong"}
    request.clock.mark("proof")
    if verdict["verdict"] in ("died", "refused"):
        return None, Decision(
            "compile", f"driver-{verdict['verdict']}",
            f"{opened.name}: its binaries do not work on {device.name} ({verdict['error']}); "
            "they are compiled from source.",
        )  # fmt: skip
    if verdict["verdict"] == "right":
        found = Checked(load(request, opened, number, weights), target)
    else:
        opened.verify()
        found = checked(request, target, constants_of(target, weights))
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
        save(request, found.target, place_of(request, opened), opened, opened.program, decision)
    return found.executor, decision


def _from_model(request: Request, path: Path | None, found: Found, decision: Decision) -> tuple[Executor, Decision]:
    """The cold path: compile, check, save where ``path`` says, and run even if that fails."""
    from mace_cl import compiler

    assert request.model is not None
    assert request.identity is not None
    _say(decision)
    prepared = _prepared(request)
    if decision.code == "no-weights" and isinstance(found, Opened):
        executor, decision = _with_weights(request, found, prepared.schedule, prepared.constants, decision)
        if executor is not None:
            return executor, decision
    target, built = compiler.build(prepared, request.device, request.settings.jobs, request.progress, request.workers)
    request.clock.built += built
    request.clock.mark("compile")
    made = checked(request, replace(target, provenance=_because(target, decision.code)), prepared.constants)
    if made.finding:
        logger.warning("%s", made.finding)
    empty = compiler.program(request.identity, request.options, request.inputs)
    save(request, made.target, path, found, empty, decision)
    return made.executor, _with_finding(decision, made)


def _prepared(request: Request) -> Prepared:
    from mace_cl import compiler

    assert request.model is not None
    bucket, clock = request.bucket, request.clock
    clock.mark("compiler")  # which is imported here

    def report(what: str, done: int, total: int) -> None:
        if done:
            clock.mark(_STAGES[done - 1])
        if request.progress is not None:
            request.progress(what, done, total)

    return compiler.prepare(
        request.model, request.device, request.shapes if bucket is None else dict(bucket.shapes), report,
        outputs=request.outputs, values={value.name: value.array for value in bucket.values} if bucket else None,
        runtime=request.settings.runtime, provider=request.settings.provider, trust=request.settings.trust,
        choices=compiler.choices_for(request.device, request.settings),
    )  # fmt: skip


def _with_weights(
    request: Request, opened: Opened, schedule: Any, constants: Constants, decision: Decision
) -> tuple[Executor | None, Decision]:
    """The executor of an unbaked program, if its kernels are those that the model still gives."""
    for number, target in enumerate(opened.program.targets):
        fits = request.bucket in (None, target.bucket)
        if target.signature == request.device.signature and fits and target.schedule == schedule:
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
    from mace_cl.runtime.compile import compile_units
    from mace_cl.runtime.sequence import shares_for

    assert isinstance(found, Opened)
    fitting = [target for target in found.program.targets if request.bucket in (None, target.bucket)]
    if not fitting:
        raise InputError(
            f"{found.name}: is compiled for {listed(found.program.buckets())}, not for {request.bucket}. Give the "
            "model, so that it can be compiled for that too: `mace-cl run MODEL --program FILE`, or "
            "Runtime(model, program=file)"
        )
    logger.warning(
        "%s Its kernels are compiled from the sources inside the file. [%s]", decision.sentence, decision.code
    )
    found.verify()
    device, program, failure = request.device, found.program, None
    for target in sorted(fitting, key=lambda target: _distance(target.signature, device.signature)):
        weights = None
        if target.constants is None:
            weights = stored_weights(request.settings, program, target.signature, target.bucket)
            if weights is None:
                continue
        single = all(launch.local_size == (1, 1, 1) for launch in target.schedule.launches)
        shares = shares_for(device) if single else 0
        target = replace(target, schedule=replace(target.schedule, shares=shares))
        try:
            built = compile_units(device, target.schedule, request.settings.jobs, request.progress, request.workers)
            request.clock.built += built
            request.clock.mark("compile")
            units = tuple(Unit(unit.kernels, unit.binary) for unit in built)
            provenance = tuple(pair for pair in _because(target, decision.code) if pair[0] != "safe kernels")
            made = replace(target, signature=device.signature, units=units, provenance=provenance)
            done = checked(request, made, constants_of(target, weights))
        except DeviceError as error:  # what one device's kernels ask for, another may lack
            failure = error
            continue
        if done.finding:
            logger.warning("%s", done.finding)
        if target.constants is None and weights is not None:
            full = replace(done.target, constants=weights)
            save_weights(request.settings, replace(program, targets=(full,)))
        save(request, done.target, path, found, program, decision)
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
