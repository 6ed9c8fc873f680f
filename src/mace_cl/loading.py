"""Executors from a program's part: proven ones at once, others in a child first, new ones after their self-check."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.errors import DeviceError, HostError, MaceClError
from mace_cl.program.format import Opened
from mace_cl.program.program import Target, Unit
from mace_cl.record import record
from mace_cl.request import Request
from mace_cl.runtime.build import build_source, load_units
from mace_cl.runtime.executor import Executor

__all__ = ["Checked", "Constants", "checked", "constants_of", "load", "prove"]

logger = logging.getLogger("mace_cl")

_PROOF_SECONDS = 120.0

Constants = NDArray[np.uint8]


def load(request: Request, opened: Opened, number: int, weights: memoryview | None) -> Executor:
    """The warm path: checksums are compared in other threads, the weights' until the executor is ready.

    Of the other buckets' sections nothing is read.
    """
    target, only = opened.program.targets[number], number if opened.program.inputs else None
    code, constants = _meanwhile(partial(opened.verify_code, only)), _meanwhile(partial(opened.verify_constants, only))
    try:
        context = _context(request)
        request.clock.mark("context")
    finally:
        code()
    if target.schedule.hosts:  # ONNX Runtime may read its constants at once
        constants()
    request.clock.mark("checksums")
    executor = _executor(request, target, constants_of(target, weights), context)
    try:
        constants()
    except MaceClError:
        executor.close()
        raise
    request.clock.mark("checksums")
    return executor


def _meanwhile(check: Callable[[], None]) -> Callable[[], None]:
    """Begin a check in another thread; what is returned waits for it, and raises what it found."""
    failures: list[MaceClError] = []

    def work() -> None:
        try:
            check()
        except MaceClError as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def wait() -> None:
        thread.join()
        if failures:
            raise failures[0]

    return wait


def prove(request: Request, opened: Opened, number: int, weights: memoryview | None) -> dict[str, Any]:
    """What a child process found: right, wrong, refused or died."""
    from mace_cl.child import Child, ChildError

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


@record
class Checked:
    """An executor, its part with golden values and safe kernels, and a sentence on what was wrong, if anything."""

    executor: Executor
    target: Target
    finding: str = ""


def checked(request: Request, target: Target, constants: Constants) -> Checked:
    """The executor of a part, its golden vectors answered; wrong kernels are replaced by their safe variant."""
    from mace_cl.runtime.golden import checkable, compare, expected, golden_inputs, quantises, sample, tolerance

    context = _context(request)
    found = Checked(_executor(request, target, constants, context), target)
    golden, inputs = expected(target.golden), golden_inputs(target.schedule.inputs)
    allowed = tolerance(target.provenance)
    try:
        outputs = found.executor.run(inputs)
    except HostError as error:
        if golden:
            raise
        logger.info("Nothing is kept to check later starts by, as the golden inputs do not suit this model: %s", error)
        return replace(found, target=replace(target, golden=()))
    quantised = quantises(target.schedule)
    difference = compare(golden, outputs, quantised, allowed)
    if difference is not None:
        found = _with_safe_kernels(request, target, constants, found.executor, context)
        outputs = found.executor.run(inputs)
        still = compare(golden, outputs, quantised, allowed)
        if still is not None:
            finding = (
                f"Output {still.output!r} departs from the reference by {still.relative:.1e} of its largest value on "
                f"{request.device.name}, also without the compiler's optimisations; the device's own answer is kept "
                "as the golden one."
            )
            found, golden = replace(found, finding=f"{found.finding} {finding}".lstrip()), {}
    if not golden:
        values = tuple((name, memoryview(sample(outputs[name]).tobytes())) for name in checkable(target.schedule))
        oracle = ("oracle", f"device ({request.device.runtime})")
        provenance = (oracle, *(pair for pair in found.target.provenance if pair[0] != "oracle"))
        found = replace(found, target=replace(found.target, golden=values, provenance=provenance))
    request.clock.mark("self-check")
    return found


def _with_safe_kernels(
    request: Request, target: Target, constants: Constants, executor: Executor, context: Any
) -> Checked:
    from mace_cl.runtime.golden import tolerance
    from mace_cl.runtime.repair import wrong_kernels
    from mace_cl.runtime.worker import complete_binary

    schedule, device = target.schedule, request.device
    wrong = wrong_kernels(device, context, schedule, executor, constants, tolerance(target.provenance))
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


def constants_of(target: Target, weights: memoryview | None) -> Constants:
    """The packed weights inside a part, or those given."""
    given = target.constants if target.constants is not None else weights
    assert given is not None
    return np.frombuffer(given, np.uint8)


def _context(request: Request) -> Any:
    import pyopencl as cl

    device = request.device
    if request.near is not None:
        return request.near.context
    try:
        return cl.Context([device.handle])  # type: ignore[list-item]
    except cl.Error as error:
        raise DeviceError(
            f"{device.name}: no context could be made: {error}; choose another device (--device)"
        ) from error


def _executor(request: Request, target: Target, constants: Constants, context: Any) -> Executor:
    device, schedule = request.device, target.schedule
    programs = load_units(context, device, schedule, target.units)
    request.clock.mark("load")
    settings = request.settings
    executor = Executor(
        device, context, schedule, programs, constants,
        near=request.near, window=settings.queue_window, limit=settings.kernel_limit,
    )  # fmt: skip
    request.clock.mark("set-up")
    return executor
