"""Kernels compiled in several processes at once, a unit at a time in each."""

from __future__ import annotations

import base64
import logging
import threading
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any

from mace_cl.child import Child, ChildError
from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DeviceError
from mace_cl.runtime.build import Progress, split
from mace_cl.schedule import Kernel, Launch, Schedule, Slot

__all__ = ["Built", "Workers", "compile_units", "schedule_from_request"]

logger = logging.getLogger("mace_cl")


@dataclass(frozen=True)
class Built:
    """A unit that was compiled: its kernels, the driver's binary, and the seconds that took.

    ``each`` holds the seconds of each kernel where the driver compiles one at a time, else nothing.
    """

    kernels: tuple[int, ...]
    binary: bytes
    seconds: float
    each: tuple[float, ...] = ()


class Workers:
    """Processes that compile, begun before there is something to compile: it takes them a while to start."""

    def __init__(self, count: int = 0) -> None:
        self._idle = [Child("mace_cl.runtime.worker", "builder", several=True) for _ in range(count)]

    def take(self, count: int) -> list[Child]:
        """``count`` of them, which are the caller's then; new ones where too few have begun."""
        self._idle += Workers(count - len(self._idle))._idle
        taken, self._idle = self._idle[:count], self._idle[count:]
        return taken

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End those that nobody took."""
        while self._idle:
            self._idle.pop().kill()


def compile_units(
    device: Device, schedule: Schedule, jobs: int, progress: Progress | None = None, workers: Workers | None = None
) -> list[Built]:
    """Compile all kernels, in ``jobs`` processes at once, of ``workers`` first; says in the log which took longest.

    A schedule without kernels, such as that of a model that only reshapes, has no unit.

    Raises:
        DeviceError: the device can't compile.
        BuildError: the driver refused a kernel, or its compiler died.
    """
    if not device.can_compile:
        raise DeviceError(f"{device.name} ({device.runtime}) {device.reason}")
    groups = split(schedule, jobs)
    if not groups:
        return []
    begin = time.perf_counter()
    count = _Count(len(schedule.kernels), progress)
    jobs = max(1, min(jobs, len(groups)))
    free: SimpleQueue[Child] = SimpleQueue()

    def work(kernels: tuple[int, ...]) -> Built:
        child = free.get()
        try:
            return _build(child, device, schedule, kernels, count)
        finally:
            free.put(child)

    children = (workers or Workers()).take(jobs)
    with ThreadPoolExecutor(jobs) as pool:
        try:
            for child in children:
                free.put(child)
            waiting = [pool.submit(work, group) for group in groups]
            done, _ = wait(waiting, return_when=FIRST_EXCEPTION)
            for future in waiting:  # the first that failed, as a child that died fails those after it, too
                if future in done:
                    future.result()
        finally:
            for future in waiting:
                future.cancel()
            for child in children:
                child.kill()
    built = [future.result() for future in waiting]
    logger.info(
        "%d kernels compiled in %.1f s; the slowest: %s",
        len(schedule.kernels), time.perf_counter() - begin, _slowest(schedule, built),
    )  # fmt: skip
    return built


class _Count:
    """Counts finished kernels for a progress callable; may be called from several threads."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._done, self._total, self._progress = 0, total, progress
        self._lock = threading.Lock()
        self.add(0)

    def add(self, more: int) -> None:
        with self._lock:
            self._done += more
            if self._progress is not None:
                self._progress("compiling kernels", self._done, self._total)


def _slowest(schedule: Schedule, built: Sequence[Built]) -> str:
    names = [kernel.name for kernel in schedule.kernels]
    if not any(unit.each for unit in built):
        found = [(unit.seconds, f"{names[unit.kernels[0]]} and {len(unit.kernels) - 1} more") for unit in built]
    else:
        found = [
            (seconds, names[index])
            for unit in built
            for index, seconds in zip(unit.kernels, unit.each, strict=True)
        ]  # fmt: skip
    return ", ".join(f"{what} {seconds:.1f} s" for seconds, what in sorted(found, reverse=True)[:3])


def _build(child: Child, device: Device, schedule: Schedule, kernels: tuple[int, ...], count: _Count) -> Built:
    first: dict[int, Launch] = {}
    for launch in schedule.launches:
        first.setdefault(launch.kernel, launch)
    request = {
        "device": device.runtime,
        "signature": device.signature.digest(),
        "options": schedule.build_options,
        "shares": schedule.shares,
        "numbers": kernels,
        "kernels": [asdict(kernel) for kernel in schedule.kernels],
        "launches": [asdict(first[index]) for index in kernels],
    }
    each: list[float] = []

    def compiled(said: dict[str, Any]) -> None:
        each.append(said["seconds"])
        count.add(1)

    begin = time.perf_counter()
    try:
        said = child.ask(request, report=compiled)
    except ChildError as error:
        names = ", ".join(schedule.kernels[index].name for index in kernels)
        raise BuildError(
            f"the compiler of {device.name} ({device.runtime}) died on the kernels {names}: {error}. "
            "Please report this; another device may work (--device)"
        ) from error
    if "error" in said:
        raise BuildError(said["error"])
    if len(each) < len(kernels):
        count.add(len(kernels) - len(each))
    return Built(kernels, base64.b64decode(said["binary"]), time.perf_counter() - begin, tuple(each))


def schedule_from_request(request: dict[str, Any]) -> tuple[Schedule, list[int]]:
    """What a worker needs of the schedule: all kernels, a launch of those that it compiles, and their indices."""
    numbers = list(request["numbers"])
    kernels = tuple(
        Kernel(one["name"], one["family"], one["source"], (), tuple(one["images"])) for one in request["kernels"]
    )
    launches = tuple(
        Launch(
            number, tuple(one["global_size"]), tuple(one["local_size"]),
            tuple(Slot(**slot) for slot in one["args"]), one["node"],
        )
        for number, one in zip(numbers, request["launches"], strict=True)
    )  # fmt: skip
    schedule = Schedule((), (), kernels, launches, 0, 0, request["options"], shares=request["shares"])
    return schedule, numbers
