"""Building, checking and timing candidates, each driver call in a child process.

`Bench` is the parent's side: children build in parallel, as nothing else needs the cores meanwhile, and
are then timed one after the other.  A child that dies or hangs costs its candidate and is replaced.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.child import Answer, Child, ChildError, Report
from mace_cl.device import find_same
from mace_cl.device.device import Device
from mace_cl.errors import DeviceError, MaceClError
from mace_cl.runtime.build import build_source
from mace_cl.runtime.executor import Executor
from mace_cl.runtime.golden import golden_inputs
from mace_cl.schedule import Kernel, Launch, Port, Schedule, Slot

__all__ = ["RESULT", "Bench", "Candidate", "Loaded", "answer"]

RESULT = "y"
"""The input and output of a candidate's schedule that is its result; the other inputs are also outputs."""

BUILD_SECONDS = 30.0
"""What a candidate's compiler and first run may take."""

_TIME_SECONDS = 60.0
_LONGEST_RUN = 1.0

_SWEEP = """
__kernel void sweep(__global float *x, const ulong lines) {
  const ulong share = (lines + get_global_size(0) - 1) / get_global_size(0), first = get_global_id(0) * share;
  const ulong end = first + share < lines ? first + share : lines;
  float sum = 0.0f;
  for (ulong i = first; i < end; ++i) sum += x[i * 16];
  if (sum == 1234.5678f) x[first * 16] = sum;
}
"""
"""Reads one float of each 64 bytes: what was in the caches before has to make room."""

_SWEEPERS = 64


@dataclass(frozen=True, eq=False)
class Candidate:
    """Something to build and time under a name: a schedule of a few launches, and its constants."""

    name: str
    schedule: Schedule
    constants: NDArray[np.uint8]


@dataclass(frozen=True)
class Loaded:
    """What became of a candidate: a verdict of `mace_cl.tune.records.VERDICTS` or "", and the seconds it took.

    ``difference`` is the greatest one from the reference, as a share of the reference's largest magnitude.
    """

    verdict: str
    seconds: float
    difference: float = 0.0
    why: str = ""


class Bench:
    """Child processes with a device each, to be used as a context.

    ``sweep`` bytes are read before each timed run, as much as the rest of a network would.
    """

    def __init__(self, device: Device, workers: int, sweep: int) -> None:
        self.workers = workers
        self._device = device
        self._sweep = sweep
        self._children: list[Child | None] = [None] * workers
        self._pool = ThreadPoolExecutor(workers)
        self._ended = False

    def load(self, lists: Sequence[Sequence[Candidate]], references: Sequence[str]) -> list[list[Loaded]]:
        """Build ``lists[i]`` in worker i, all workers at once, and compare answers with ``references[i]``'s.

        A reference "" compares with nothing.  What else the worker held is lost where a candidate kills it:
        `holds` tells.
        """
        waiting = [
            self._pool.submit(self._load, worker, candidates, reference)
            for worker, (candidates, reference) in enumerate(zip(lists, references, strict=True))
        ]
        return [future.result() for future in waiting]

    def _load(self, worker: int, candidates: Sequence[Candidate], reference: str) -> list[Loaded]:
        done: list[Loaded] = []
        for one in candidates:
            begin = time.perf_counter()
            request = {"do": "load", "name": one.name, "reference": reference, "schedule": asdict(one.schedule)}
            if reference and not self.holds(worker, reference):
                done.append(Loaded("lost", 0.0))
                continue
            try:
                said = self._ask(worker, request, [memoryview(one.constants)], BUILD_SECONDS)  # type: ignore[arg-type]
            except ChildError as error:
                verdict = "late" if "no answer" in str(error) else "died"
                done.append(Loaded(verdict, time.perf_counter() - begin, why=str(error)))
                continue
            seconds = time.perf_counter() - begin
            done.append(Loaded(said["verdict"], seconds, said.get("difference", 0.0), said.get("why", "")))
        return done

    def holds(self, worker: int, name: str) -> bool:
        """Whether a worker has something loaded under a name."""
        return self._children[worker] is not None and name in self._held[worker]

    def time(self, worker: int, names: tuple[str, str], pairs: int) -> list[tuple[float, float]]:
        """Seconds on the device of both, in turns; nothing where that killed the worker."""
        try:
            said = self._ask(worker, {"do": "time", "names": names, "pairs": pairs}, (), _TIME_SECONDS)
        except ChildError:
            return []
        return [(one, other) for one, other in said["seconds"]]

    def drop(self, worker: int, name: str) -> None:
        """Give a candidate's memory back."""
        if self.holds(worker, name):
            self._held[worker].discard(name)
            self._ask(worker, {"do": "drop", "name": name}, (), _TIME_SECONDS)

    def _ask(
        self, worker: int, request: Mapping[str, Any], blobs: Sequence[bytes | memoryview], timeout: float
    ) -> dict[str, Any]:
        child = self._children[worker]
        try:
            if child is None:
                child = Child("mace_cl.tune.measure", "answer", several=True)
                self._children[worker], self._held[worker] = child, set()
                if self._ended:  # it began when the others had been killed
                    raise ChildError("the bench has ended")
                opened = {
                    "do": "open", "device": self._device.runtime, "signature": self._device.signature.digest(),
                    "sweep": self._sweep,
                }  # fmt: skip
                said = child.ask(opened, timeout=BUILD_SECONDS)
                if said["verdict"]:
                    raise DeviceError(said["why"])
            said = child.ask(dict(request), blobs, timeout=timeout)
        except (ChildError, DeviceError):
            assert child is not None
            child.kill()
            self._children[worker] = None
            raise
        if request["do"] == "load" and not said["verdict"]:
            self._held[worker].add(request["name"])
        return said

    def __enter__(self) -> Bench:
        self._held: list[set[str]] = [set() for _ in range(self.workers)]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        for child in self._children:
            if child is not None:
                child.kill()
        self._pool.shutdown(cancel_futures=True)


class _Station:
    """The child's side: what is loaded on its device."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        import pyopencl as cl

        device = find_same(request["device"], request["signature"])
        self._cl, self._device = cl, device
        self._context = cl.Context([device.handle])  # type: ignore[list-item]
        self._queue = cl.CommandQueue(self._context, properties=cl.command_queue_properties.PROFILING_ENABLE)
        self._executors: dict[str, Executor] = {}
        program = cl.Program(self._context, _SWEEP).build(cache_dir=False)  # type: ignore[arg-type]
        self._sweeper = cl.Kernel(program, "sweep")
        self._swept = cl.Buffer(self._context, cl.mem_flags.READ_WRITE, max(64, request["sweep"]))
        cl.enqueue_fill_buffer(self._queue, self._swept, np.zeros(1, np.float32), 0, self._swept.size)

    def load(self, request: Mapping[str, Any], constants: bytes) -> dict[str, Any]:
        """Build, fill inputs with random numbers and results with NaN, run once, compare with the reference."""
        schedule = _schedule(request["schedule"])
        everything = range(len(schedule.kernels))
        program = build_source(self._context, schedule, everything)
        aligned = _aligned(constants)
        executor = Executor(self._device, self._context, schedule, [(everything, program)], aligned)
        inputs = golden_inputs(schedule.inputs)
        inputs[RESULT].fill(np.nan)
        executor.upload(inputs)
        begin = time.perf_counter()
        executor.enqueue(self._queue)
        self._queue.finish()
        seconds = time.perf_counter() - begin
        difference = 0.0
        if request["reference"]:
            difference = _difference(self._executors[request["reference"]], executor)
        self._executors[request["name"]] = executor
        return {"verdict": "", "difference": difference, "seconds": seconds}

    def time(self, names: Sequence[str], pairs: int) -> list[list[float]]:
        """Pairs in turns, the order changing each time."""
        one, other = (self._executors[name] for name in names)
        measured, spent = [], 0.0
        for number in range(pairs):
            if number % 2:
                later, first = self._run(other), self._run(one)
            else:
                first, later = self._run(one), self._run(other)
            measured.append([first, later])
            spent += first + later
            if spent > _LONGEST_RUN and number >= 2:
                break
        return measured

    def _run(self, executor: Executor) -> float:
        self._sweep(self._swept)
        for port in executor.schedule.inputs:  # as if a kernel before had just written them
            if port.name != RESULT and port.slot is not None:
                self._sweep(executor.part(port.slot))
        events = executor.enqueue(self._queue)
        self._queue.finish()
        return float(events[-1].profile.end - events[0].profile.start) * 1e-9

    def _sweep(self, buffer: Any) -> None:
        self._sweeper.set_args(buffer, np.uint64(buffer.size // 64))
        self._cl.enqueue_nd_range_kernel(self._queue, self._sweeper, (_SWEEPERS,), (1,))

    def drop(self, name: str) -> None:
        """Release what is loaded under a name."""
        self._executors.pop(name).close()


def answer() -> Answer:
    """What a child of `Bench` runs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    stations: list[_Station] = []

    def answered(request: dict[str, Any], blobs: list[bytes], report: Report) -> dict[str, Any]:
        try:
            if request["do"] == "open":
                stations.append(_Station(request))
            elif request["do"] == "load":
                return stations[0].load(request, blobs[0])
            elif request["do"] == "time":
                return {"seconds": stations[0].time(request["names"], request["pairs"])}
            else:
                stations[0].drop(request["name"])
        except MaceClError as error:
            return {"verdict": "refused", "why": str(error)}
        return {"verdict": ""}

    return answered


def _difference(reference: Executor, executor: Executor) -> float:
    """The greatest difference of the results; infinite where something is no longer finite."""
    wanted, given = (
        one.read(port.slot)
        for one in (reference, executor)
        for port in one.schedule.outputs
        if port.name == RESULT and port.slot is not None
    )
    finite = np.isfinite(wanted)
    if wanted.shape != given.shape or not np.array_equal(finite, np.isfinite(given)):
        return float("inf")
    scale = max(float(np.abs(wanted[finite]).max(initial=0.0)), 1e-30)
    return float(np.abs(given[finite] - wanted[finite]).max(initial=0.0)) / scale


def _aligned(content: bytes) -> NDArray[np.uint8]:
    """A copy of bytes that a device can use in place."""
    room = np.zeros(len(content) + 1024, np.uint8)
    start = -room.ctypes.data % 1024
    room[start : start + len(content)] = np.frombuffer(content, np.uint8)
    return room[start : start + len(content)]


def _schedule(said: Mapping[str, Any]) -> Schedule:
    """A schedule from what `dataclasses.asdict` and JSON made of it."""

    def slot(one: Mapping[str, Any]) -> Slot:
        return Slot(**one)

    def ports(of: Sequence[Mapping[str, Any]]) -> tuple[Port, ...]:
        return tuple(Port(one["name"], one["dtype"], tuple(one["shape"]), slot(one["slot"])) for one in of)

    kernels = tuple(
        Kernel(one["name"], one["family"], one["source"], (), tuple(one["images"])) for one in said["kernels"]
    )
    launches = tuple(
        Launch(
            one["kernel"], tuple(one["global_size"]), tuple(one["local_size"]), tuple(map(slot, one["args"])),
            one["node"],
        )
        for one in said["launches"]
    )  # fmt: skip
    return Schedule(
        ports(said["inputs"]), ports(said["outputs"]), kernels, launches,
        said["arena_bytes"], said["constant_bytes"], said["build_options"],
    )  # fmt: skip
