"""Replay a schedule: buffers once, arguments once, then one enqueue per launch."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DeviceError, InputError
from mace_cl.runtime.host import HostPart
from mace_cl.schedule import ALIGNMENT, ITEM_BYTES, Launch, Port, Schedule, Slot

__all__ = ["Executor"]


class Executor:
    """A schedule on a device, ready to run; safe to use from several threads, one run at a time.

    ``programs[i]`` holds the kernels ``units[i]`` of the schedule.  ``constants`` are the schedule's
    ``constant_bytes``; on a device that shares the host's memory they are used where they lie, and where a
    buffer of them is ``shared``, that is used; so is that of ``near``, an executor in the same context, if it is equal.
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
    ) -> None:
        import pyopencl as cl

        self.schedule = schedule
        self.device = device
        self._cl = cl
        self.context, self._programs = context, programs
        self._lock = threading.Lock()
        self._closed = False
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
            holders = {index: program for kernels, program in programs for index in kernels}
            self._launches = []
            for launch in schedule.launches:
                kernel = self._kernel(holders[launch.kernel], launch)
                self._launches.append((kernel, launch.global_size, launch.local_size))
            self._inputs = {port.name: port for port in schedule.inputs}
            self._outputs = {port.name: port for port in schedule.outputs}
            self._hosts: dict[int, list[HostPart]] = {}
            for step in schedule.hosts:
                self._hosts.setdefault(step.at, []).append(HostPart(step, constants))
            self._values: dict[str, Any] = {}
        except cl.Error as error:
            size = schedule.arena_bytes + schedule.constant_bytes
            raise DeviceError(
                f"{device.name}: could not set up {size} bytes of buffers and {len(schedule.launches)} kernels: "
                f"{error}. Free memory on the device, or choose another (--device)"
            ) from error

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
        kernel.set_args(*(self.part(slot) for slot in launch.args))
        return kernel

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
        enqueue = cl.enqueue_nd_range_kernel
        with self._lock:
            if self._closed:
                raise InputError("this runtime is closed; make a new one, or run it before it is closed")
            try:
                self._give(arrays)
                begin = 0
                for at in self._hosts:
                    for kernel, global_size, local_size in self._launches[begin:at]:
                        enqueue(queue, kernel, global_size, local_size)
                    self.run_host(at)
                    begin = at
                for kernel, global_size, local_size in self._launches[begin:]:
                    enqueue(queue, kernel, global_size, local_size)
                self._take(results)
                queue.finish()
            except cl.Error as error:
                raise DeviceError(f"{self.device.name} failed while running: {error}") from error
        return results  # type: ignore[return-value]  # none is missing after a run

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
                for at in range(len(self._launches) + 1):
                    for part in self._hosts.get(at, ()):
                        self._queue.finish()
                        begin = time.perf_counter_ns()
                        self._run_part(part)
                        hosts.append((begin, time.perf_counter_ns()))
                    if at < len(self._launches):
                        events.append(cl.enqueue_nd_range_kernel(self._queue, *self._launches[at]))
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
            return Executor(self.device, self.context, self.schedule, self._programs, self._keep[0], self._constants)

    def upload(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Put inputs in place without running."""
        self._give(inputs)
        self._queue.finish()

    def enqueue(self, queue: Any) -> list[Any]:
        """Enqueue every launch on a queue of the caller's, such as one that profiles, and give their events."""
        return [self._cl.enqueue_nd_range_kernel(queue, *launch) for launch in self._launches]

    def launch(self, number: int) -> None:
        """Run one launch of the schedule and wait for it."""
        self._cl.enqueue_nd_range_kernel(self._queue, *self._launches[number])
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
            self._launches.clear()
            self._hosts.clear()
            self._values.clear()
            for part in self._parts.values():
                part.release()
            self._parts.clear()
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
