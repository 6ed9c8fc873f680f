"""A process that compiles one unit of kernels and gives back the driver's binary.

Compilers of OpenCL drivers lock themselves against their own threads, and some end the process when
they fail: both are reasons to build in a process of its own.  The parent writes a request as one line
of JSON; the worker answers with lines of JSON, and writes the binary to the file that the request names.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from mace_cl.device import find, quirk_for
from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DeviceError, MaceClError
from mace_cl.schedule import Launch, Schedule

__all__ = ["complete_binary", "main"]


def complete_binary(device: Device, context: Any, schedule: Schedule, kernels: list[int], program: Any) -> bytes:
    """The driver's binary of a built program.

    Where a driver makes machine code only at the first enqueue, each kernel is run once before, on
    buffers of zeros; otherwise the binary would have to be compiled again at each start.

    Raises:
        BuildError: the driver gives no binary.
    """
    import pyopencl as cl

    if quirk_for(device).binary_after_first_run:
        first: dict[int, Launch] = {}
        for launch in schedule.launches:
            first.setdefault(launch.kernel, launch)
        queue = cl.CommandQueue(context)
        for index in kernels:
            launch = first[index]
            kernel = cl.Kernel(program, schedule.kernels[index].name)
            buffers = [cl.Buffer(context, cl.mem_flags.READ_WRITE, slot.size) for slot in launch.args]
            for buffer in buffers:
                cl.enqueue_fill_buffer(queue, buffer, b"\0\0\0\0", 0, buffer.size)
            kernel.set_args(*buffers)
            cl.enqueue_nd_range_kernel(queue, kernel, launch.global_size, launch.local_size)
            queue.finish()
    binaries = program.get_info(cl.program_info.BINARIES)
    if len(binaries) != 1 or not binaries[0]:
        raise BuildError(f"the driver of {device.name} gives no binary of a built program")
    return bytes(binaries[0])


def main() -> int:
    """Serve one request on standard input; the exit code is 0 unless the process died."""
    from mace_cl.runtime.build import build_source, schedule_from_request

    request = json.loads(sys.stdin.readline())
    answer: dict[str, object]
    try:
        import pyopencl as cl

        device = find(request["device"], alone=True)
        if device.signature.digest() != request["signature"]:
            raise DeviceError(f"another device answers to {request['device']!r} in a new process: {device.name}")
        schedule, kernels = schedule_from_request(request)
        context = cl.Context([device.handle])  # type: ignore[list-item]
        program = build_source(context, schedule, kernels)
        binary = complete_binary(device, context, schedule, kernels, program)
        Path(request["binary"]).write_bytes(binary)
        answer = {"ok": True}
    except MaceClError as error:
        answer = {"ok": False, "error": str(error)}
    print(json.dumps(answer), flush=True)
    return 0
