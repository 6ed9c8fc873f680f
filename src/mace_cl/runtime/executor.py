"""Replay a schedule: buffers once, arguments once, then one enqueue per launch."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import groupby, pairwise
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.device import general_variants, quirk_for
from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DeviceError, InputError
from mace_cl.runtime import sequence
from mace_cl.runtime.host import HostPart
from mace_cl.schedule import ALIGNMENT, ITEM_BYTES, TEXEL_BYTES, Launch, Port, Schedule, Size3, Slot

__all__ = ["Executor", "image_of"]

Enqueue = tuple[Any, Size3, Size3, Size3 | None]
"""A kernel with its arguments, its global and local size, and where its global ids begin if not at 0."""


class Executor:
    """A schedule on a device, ready to run; safe to use from several threads, one run at a time.

    ``programs[i]`` holds the kernels ``units[i]`` of the schedule.  ``constants`` are the schedule's
    ``constant_bytes``; on a device that shares the host's memory they are used where they lie, and where a
    buffer of them is ``shared``, that is used; so is that of ``near``, an executor in the same context, if it is equal.

    For a device that draws the screen, too: ``window`` > 0 bounds how many enqueues wait in the queue, and a launch
    that takes longer than ``limit`` ms is cut into slices of about that, if ``limit`` > 0 and there are no sequences.
    """

    def __init__(
        self,
        device: Device,
        context: Any,
        schedule: Schedule,
        programs: Sequence[tuple[Sequence[int], Any]],
        constants: NDArray[np.uint8],
        shared: Any = None,
        near: Executor | None = None,
        window: int = 0,
        limit: float = 0.0,
    ) -> None:
        import pyopencl as cl

        self.schedule = schedule
        self.device = device
        self._cl = cl
        self.context, self._programs = context, programs
        self._lock = threading.Lock()
        self._closed = False
        self._window, self._limit = window, limit
        self._queue = cl.CommandQueue(context)
        flags = cl.mem_flags
        try:
            self._arena = cl.Buffer(context, flags.READ_WRITE, schedule.arena_bytes)
            self._keep: list[Any] = [constants]
            self._constants: Any = None
            if near is not None and near._constants is not None and np.array_equal(near._keep[0], constants):
                shared, self._keep = near._constants, [near._keep[0]]
            if shared is not None:
                self._constants = cl.Buffer.from_int_ptr(shared.int_ptr, True)
            elif schedule.constant_bytes:
                place = flags.USE_HOST_PTR if _usable_in_place(device, constants) else flags.COPY_HOST_PTR
                self._constants = cl.Buffer(context, flags.READ_ONLY | place, hostbuf=constants)
            self._parts: dict[Slot, Any] = {}
            self._images: dict[Slot, Any] = {}
            self._inputs = {port.name: port for port in schedule.inputs}
            self._outputs = {port.name: port for port in schedule.outputs}
            self._hosts: dict[int, list[HostPart]] = {}
            for step in schedule.hosts:
                self._hosts.setdefault(step.at, []).append(HostPart(step, constants))
            self._unit = {index: number for number, (kernels, _) in enumerate(programs) for index in kernels}
            bounds = sorted({0, *self._hosts, len(schedule.launches)})
            self._shared = self._common() if schedule.shares and programs else ()
            self._enqueues: list[Enqueue] | None = None
            # each host part comes before the launches of one stretch
            self._stretches = [(begin, self._stretch(begin, end)) for begin, end in pairwise([*bounds, bounds[-1]])]
            if self._shared and quirk_for(device).binary_after_first_run:
                self._wake()
            if limit > 0 and not schedule.shares:
                self._stretches = self._sliced()
            self._values: dict[str, Any] = {}
        except cl.Error as error:
            size = schedule.arena_bytes + schedule.constant_bytes
            raise DeviceError(
                f"{device.name}: could not set up {size} bytes of buffers and {len(schedule.launches)} kernels: "
                f"{error}. Free memory on the device, or choose another (--device)"
            ) from error

    def _common(self) -> tuple[Any, ...]:
        """Name of every sequence of the schedule, and what it takes after its first and last launch."""
        cl, schedule = self._cl, self.schedule
        for number, launch in enumerate(schedule.launches):
            kernel = schedule.kernels[launch.kernel]
            if (taken := sequence.arguments(kernel.source, kernel.name)) != len(launch.args):
                raise BuildError(
                    f"launch {number}: kernel {kernel.name} takes {taken} arguments, not {len(launch.args)}"
                )
        rows = sequence.table(schedule)
        zeros = np.zeros(sequence.counters(schedule), np.int32)
        flags = cl.mem_flags
        table = cl.Buffer(self.context, flags.READ_ONLY | flags.COPY_HOST_PTR, hostbuf=rows)
        counters = cl.Buffer(self.context, flags.READ_WRITE | flags.COPY_HOST_PTR, hostbuf=zeros)
        constants = self._arena if self._constants is None else self._constants
        return sequence.entry(schedule), np.int32(rows.shape[1]), table, counters, self._arena, constants

    def _stretch(self, begin: int, end: int) -> list[Enqueue]:
        """What runs the launches ``begin`` to ``end`` - 1: where there are sequences, one for neighbours of a unit."""
        launches, unit = self.schedule.launches, self._unit
        if not self.schedule.shares:
            return [
                (self._kernel(self._programs[unit[one.kernel]][1], one), one.global_size, one.local_size, None)
                for one in launches[begin:end]
            ]
        found: list[Enqueue] = []
        for number, together in groupby(range(begin, end), lambda at: unit[launches[at].kernel]):
            numbers = list(together)
            kernel = self._sequence(self._programs[number][1], numbers[0], numbers[-1] + 1)
            found.append((kernel, *sequence.grid(self.schedule), None))
        return found

    def _sequence(self, program: Any, first: int, last: int) -> Any:
        """A kernel of its own for each sequence, so that arguments are set once.

        Raises:
            BuildError: the program is none of a sequence.
        """
        arguments, name = (np.int32(first), np.int32(last), *self._shared[1:]), self._shared[0]
        try:
            kernel = self._cl.Kernel(program, name)
            taken = kernel.num_args
        except self._cl.LogicError as error:
            raise BuildError(f"{self.device.name}: the binary holds no kernel {name}: {error}") from error
        if taken != len(arguments):
            raise BuildError(f"{self.device.name}: kernel {name} takes {taken} arguments, not {len(arguments)}")
        kernel.set_args(*arguments)
        return kernel

    def _wake(self) -> None:
        """Run a sequence of no launch of each unit, in the variant that binaries hold."""
        with general_variants():
            for _, program in self._programs:
                kernel = self._sequence(program, 0, 0)
                self._cl.enqueue_nd_range_kernel(self._queue, kernel, *sequence.grid(self.schedule))
            self._queue.finish()

    def _sliced(self) -> list[tuple[int, list[Enqueue]]]:
        """The stretches with long launches cut, by the time that each takes on what lies in the arena."""
        queue = self._cl.CommandQueue(self.context, properties=self._cl.command_queue_properties.PROFILING_ENABLE)
        for _ in range(2):  # the first time may compile
            events = self.enqueue(queue)
            queue.finish()
        taken = iter([(event.profile.end - event.profile.start) * 1e-6 for event in events])
        return [
            (at, [piece for one in enqueues for piece in _slices(one, next(taken) / self._limit)])
            for at, enqueues in self._stretches
        ]

    def _each(self) -> list[Enqueue]:
        """Every launch as an enqueue of its own."""
        if self._enqueues is None:
            numbers = range(len(self.schedule.launches))
            self._enqueues = [one for number in numbers for one in self._stretch(number, number + 1)]
        return self._enqueues

    def _kernel(self, program: Any, launch: Launch) -> Any:
        """A kernel of its own for each launch, so that arguments are set once.

        Raises:
            BuildError: the program lacks the kernel, or has another one of its name.
        """
        name = self.schedule.kernels[launch.kernel].name
        try:
            kernel = self._cl.Kernel(program, name)
            taken = kernel.num_args
        except self._cl.LogicError as error:
            raise BuildError(f"{self.device.name}: the binary holds no kernel {name}: {error}") from error
        if taken != len(launch.args):
            raise BuildError(f"{self.device.name}: kernel {name} takes {taken} arguments, not {len(launch.args)}")
        images = self.schedule.kernels[launch.kernel].images
        kernel.set_args(*(self._image(one) if at in images else self.part(one) for at, one in enumerate(launch.args)))
        return kernel

    def _image(self, slot: Slot) -> Any:
        """The slot as an image of four floats a place, kept as its buffer is."""
        if slot not in self._images:
            texels = slot.size // TEXEL_BYTES
            if texels > self.device.image_texels:
                raise DeviceError(
                    f"{self.device.name}: an image of {texels} texels is wanted, but it has {self.device.image_texels} "
                    "at most; compile the model on this device"
                )
            self._images[slot] = image_of(self.context, self.part(slot))
        return self._images[slot]

    def part(self, slot: Slot) -> Any:
        """The buffer for a slot; parts are kept, as OpenCL does not keep a kernel's arguments alive."""
        if slot not in self._parts:
            whole = self._arena if slot.space == "arena" else self._constants
            assert whole is not None
            self._parts[slot] = whole.get_sub_region(slot.offset, slot.size)
        return self._parts[slot]

    def run(
        self, inputs: Mapping[str, Any], outputs: Mapping[str, NDArray[Any]] | None = None
    ) -> dict[str, NDArray[Any]]:
        """All outputs by name; results go into ``outputs`` where an array is given.

        Raises:
            InputError: a name, dtype or shape does not fit, or the executor is closed.
            DeviceError: the device failed.
        """
        arrays = self._checked_inputs(inputs)
        results = self._checked_outputs(outputs or {})
        cl, queue = self._cl, self._queue
        with self._lock:
            if self._closed:
                raise InputError("this runtime is closed; make a new one, or run it before it is closed")
            try:
                self._give(arrays)
                for at, enqueues in self._stretches:
                    self.run_host(at)
                    self._fill(queue, enqueues)
                self._take(results)
                queue.finish()
            except cl.Error as error:
                raise DeviceError(f"{self.device.name} failed while running: {error}") from error
        return results  # type: ignore[return-value]  # none is missing after a run

    def _fill(self, queue: Any, enqueues: Sequence[Enqueue]) -> None:
        enqueue = self._cl.enqueue_nd_range_kernel
        if not self._window:
            for one in enqueues:
                enqueue(queue, *one)
            return
        waiting = deque[Any]()
        for one in enqueues:
            waiting.append(enqueue(queue, *one))
            if len(waiting) > self._window:
                waiting.popleft().wait()

    def _give(self, arrays: Mapping[str, Any]) -> None:
        """Put inputs in place, on the device or on the host."""
        self._values = {}
        for name, array in arrays.items():
            slot = self._inputs[name].slot
            if slot is None:
                self._values[name] = array
            elif array.size:
                self._cl.enqueue_copy(self._queue, self.part(slot), array, is_blocking=False)

    def _take(self, results: dict[str, Any]) -> None:
        """Fill ``results``; where there is no array, take the host's own value."""
        for name, array in results.items():
            port = self._outputs[name]
            if port.slot is not None:
                if array.size:
                    self._cl.enqueue_copy(self._queue, array, self.part(port.slot), is_blocking=False)
            elif array is None:
                value = self._values[name]
                results[name] = np.copy(value) if name in self._inputs and isinstance(value, np.ndarray) else value
            else:
                np.copyto(array, self._values[name])

    def run_host(self, at: int) -> None:
        """Run the host steps that come before the launch ``at``, if there are any."""
        for part in self._hosts.get(at, ()):
            self._run_part(part)

    def _run_part(self, part: HostPart) -> None:
        self._queue.finish()
        with ExitStack() as stack:
            inputs = [self._seen(port, stack) for port in part.step.inputs]
            outputs = part.run(inputs)
        for port, value in zip(part.step.outputs, outputs, strict=True):
            if port.slot is None:
                self._values[port.name] = value
            elif value.size:
                self._cl.enqueue_copy(self._queue, self.part(port.slot), np.ascontiguousarray(value))

    def _seen(self, port: Port, stack: ExitStack) -> Any:
        """A value as the host reads it, until ``stack`` closes; not copied where the device shares its memory."""
        if port.slot is None:
            return self._values[port.name]
        assert port.shape is not None
        part = self.part(port.slot)
        if 0 in port.shape:
            return np.empty(port.shape, port.dtype)
        if self.device.kind == "cpu":
            array, _ = self._cl.enqueue_map_buffer(
                self._queue, part, self._cl.map_flags.READ, 0, port.shape, np.dtype(port.dtype)
            )
            stack.callback(array.base.release, self._queue)
        else:
            array = np.empty(port.shape, port.dtype)
            self._cl.enqueue_copy(self._queue, array, part)
        return array

    def _checked_inputs(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        ports = self._inputs
        wrong = sorted(set(inputs) ^ set(ports))
        if wrong:
            unknown, absent = [name for name in wrong if name in inputs], [name for name in wrong if name in ports]
            said = (f"unknown inputs {unknown}; " if unknown else "") + (f"missing inputs {absent}; " if absent else "")
            raise InputError(f"{said}the model takes {', '.join(map(str, ports.values()))}")
        return {name: _checked(array, ports[name], "input") for name, array in inputs.items()}

    def _checked_outputs(self, outputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any] | None]:
        """An array for each output; None for those that the host makes itself."""
        ports = self._outputs
        unknown = sorted(set(outputs) - set(ports))
        if unknown:
            raise InputError(f"unknown outputs {unknown}; the model gives {', '.join(map(str, ports.values()))}")
        for name, array in outputs.items():
            if _checked(array, ports[name], "output buffer") is not array or not array.flags.writeable:
                raise InputError(f"output buffer {name!r} must be a writeable, C-contiguous array")
        made = {name: np.empty(port.shape or (), port.dtype) for name, port in ports.items() if port.slot is not None}
        return {name: outputs.get(name, made.get(name)) for name in ports}

    def profile(self, inputs: Mapping[str, Any]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """One inference without its outputs: when each launch, and each host step, began and ended.

        Launches are in ns of the device's clock, host steps in ns of the host's.

        Raises:
            InputError: a name, dtype or shape does not fit.
            DeviceError: the device failed, or has no clock.
        """
        arrays, cl, usual = self._checked_inputs(inputs), self._cl, self._queue
        events, hosts = [], []
        with self._lock:
            try:
                self._queue = cl.CommandQueue(self.context, properties=cl.command_queue_properties.PROFILING_ENABLE)
                self._give(arrays)
                each = self._each()
                for at in range(len(each) + 1):
                    for part in self._hosts.get(at, ()):
                        self._queue.finish()
                        begin = time.perf_counter_ns()
                        self._run_part(part)
                        hosts.append((begin, time.perf_counter_ns()))
                    if at < len(each):
                        events.append(cl.enqueue_nd_range_kernel(self._queue, *each[at]))
                self._queue.finish()
                return [(event.profile.start, event.profile.end) for event in events], hosts
            except cl.Error as error:
                raise DeviceError(f"{self.device.name} failed while being profiled: {error}") from error
            finally:
                self._queue = usual

    def twin(self) -> Executor:
        """Another executor of the same schedule, to run at the same time; only the arena is its own."""
        with self._lock:
            if self._closed:
                raise InputError("this runtime is closed; make a new one, or take its twin before it is closed")
            return Executor(
                self.device, self.context, self.schedule, self._programs, self._keep[0], self._constants,
                window=self._window, limit=self._limit,
            )  # fmt: skip

    def upload(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Put inputs in place without running."""
        self._give(inputs)
        self._queue.finish()

    def enqueue(self, queue: Any) -> list[Any]:
        """Enqueue every launch on a queue of the caller's, such as one that profiles, and give their events."""
        return [self._cl.enqueue_nd_range_kernel(queue, *launch) for launch in self._each()]

    def launch(self, number: int) -> None:
        """Run one launch of the schedule and wait for it."""
        self._cl.enqueue_nd_range_kernel(self._queue, *self._each()[number])
        self._queue.finish()

    def read(self, slot: Slot) -> NDArray[np.float32]:
        """The fp32 values that a slot holds now."""
        values = np.empty(slot.size // 4, np.float32)
        self._cl.enqueue_copy(self._queue, values, self.part(slot))
        return values

    def copy_arena(self, other: Executor) -> None:
        """Take over all intermediate values of an executor of the same schedule and context."""
        self._cl.enqueue_copy(self._queue, self._arena, other._arena).wait()

    def close(self) -> None:
        """Release the device's memory; the executor can't run after.  Closing it again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._stretches.clear()
            self._enqueues, self._shared = None, ()
            self._hosts.clear()
            self._values.clear()
            for kept in (self._images, self._parts):
                for part in kept.values():
                    part.release()
                kept.clear()
            for buffer in (self._arena, self._constants):
                if buffer is not None:
                    buffer.release()
            self._constants = None
            self._keep.clear()

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def image_of(context: Any, buffer: Any) -> Any:
    """The same bytes as an image of four floats a place."""
    import pyopencl as cl

    kind = cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT)
    return cl.create_image(
        context, cl.mem_flags.READ_ONLY, kind, shape=(buffer.size // TEXEL_BYTES,), buffer=buffer
    )  # fmt: skip


def _slices(one: Enqueue, pieces: float) -> Iterator[Enqueue]:
    """The launch in so many pieces along its longest dimension, whole work-groups in each."""
    kernel, total, local, _ = one
    groups = [size // group for size, group in zip(total, local, strict=True)]
    axis = groups.index(max(groups))
    step = max(1, math.ceil(groups[axis] / max(pieces, 1.0)))
    for begin in range(0, groups[axis], step):
        size, offset = list(total), [0, 0, 0]
        size[axis], offset[axis] = min(step, groups[axis] - begin) * local[axis], begin * local[axis]
        yield kernel, (size[0], size[1], size[2]), local, (offset[0], offset[1], offset[2])


def _usable_in_place(device: Device, constants: NDArray[np.uint8]) -> bool:
    """Whether kernels can read the host's own bytes, at the alignment that vector loads need."""
    return device.kind == "cpu" and constants.ctypes.data % ALIGNMENT == 0


def _checked(value: Any, port: Port, what: str) -> Any:
    """``value`` as a C-contiguous array of the port's dtype and shape; only the memory order is changed.

    What is no array of numbers is ONNX Runtime's to check.
    """
    if port.dtype not in ITEM_BYTES:
        return np.asarray(value, object) if port.dtype == "string" else value
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype != port.dtype:
        raise InputError(
            f"{what} {port.name!r} is {array.dtype}, the model has {port.dtype}; "
            f"convert it with .astype({port.dtype!r})"
        )
    if port.shape is not None and array.shape != port.shape:
        raise InputError(f"{what} {port.name!r} has shape {list(array.shape)}, the model has {list(port.shape)}")
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)
