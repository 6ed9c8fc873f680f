"""What runs in child processes, because a driver may end the process that calls it.

``builder`` compiles units of kernels and gives back the driver's binaries; drivers also lock their
compilers against their own threads, so that only processes compile in parallel.  ``prove`` loads a
part of a program file and answers its golden vectors.  ``refer`` runs a model in ONNX Runtime, whose
answer is the reference.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from mace_cl.child import Answer, Report
from mace_cl.device import find_same, quirk_for
from mace_cl.device.device import Device
from mace_cl.errors import BuildError, HostError, MaceClError
from mace_cl.program.bucket import Value
from mace_cl.program.program import Unit
from mace_cl.runtime.build import build_source, entry, load_units
from mace_cl.runtime.compile import schedule_from_request
from mace_cl.runtime.executor import Executor, image_of
from mace_cl.runtime.golden import compare, expected, golden_inputs, quantises, sample, tolerance
from mace_cl.schedule import Launch, Port, Schedule

__all__ = ["builder", "complete_binary", "prove", "refer"]


def complete_binary(
    device: Device,
    context: Any,
    schedule: Schedule,
    kernels: Sequence[int],
    program: Any,
    compiled: Callable[[int, float], None] | None = None,
) -> bytes:
    """The driver's binary of a built program.

    Where a driver makes machine code only at the first enqueue, each kernel is run once before, on
    buffers of zeros; otherwise the binary would have to be compiled again at each start.  ``compiled`` is
    then called with each kernel's index and the seconds that took.  A sequence runs as its binary holds it
    (`mace_cl.runtime.executor`), so that it need not run before.

    Raises:
        BuildError: the driver gives no binary.
    """
    import pyopencl as cl

    if quirk_for(device).binary_after_first_run and not schedule.shares:
        first: dict[int, Launch] = {}
        for launch in schedule.launches:
            first.setdefault(launch.kernel, launch)
        queue = cl.CommandQueue(context)
        for index in kernels:
            begin = time.perf_counter()
            launch = first[index]
            kernel = cl.Kernel(program, schedule.kernels[index].name)
            buffers = [cl.Buffer(context, cl.mem_flags.READ_WRITE, slot.size) for slot in launch.args]
            for buffer in buffers:
                cl.enqueue_fill_buffer(queue, buffer, np.zeros(1, np.uint8), 0, buffer.size)
            images = schedule.kernels[index].images
            kernel.set_args(*(image_of(context, one) if at in images else one for at, one in enumerate(buffers)))
            cl.enqueue_nd_range_kernel(queue, kernel, launch.global_size, launch.local_size)
            queue.finish()
            if compiled is not None:
                compiled(index, time.perf_counter() - begin)
    binaries = program.get_info(cl.program_info.BINARIES)
    if len(binaries) != 1 or not binaries[0]:
        raise BuildError(f"the driver of {device.name} gives no binary of a built program")
    return bytes(binaries[0])


def builder() -> Answer:
    """Compiles a unit, and loads its binary again as a later start will; any number of times, for one device."""
    import pyopencl as cl

    kept: list[Any] = []  # until the process ends, as what a driver takes to let go the answer need not wait for

    @cache
    def opened(runtime: str, signature: str) -> tuple[Device, Any]:
        device = find_same(runtime, signature)
        return device, cl.Context([device.handle])  # type: ignore[list-item]

    def build(request: dict[str, Any], blobs: list[bytes], report: Report) -> dict[str, Any]:
        try:
            device, context = opened(request["device"], request["signature"])
            schedule, kernels = schedule_from_request(request)
            program = build_source(context, schedule, kernels)
            kept.append(program)
            binary = complete_binary(
                device, context, schedule, kernels, program,
                lambda index, seconds: report({"kernel": index, "seconds": seconds}),
            )  # fmt: skip
            ((_, again),) = load_units(context, device, schedule, [Unit(tuple(kernels), binary)])
            kept.append(again)
            for index in kernels:
                cl.Kernel(again, entry(schedule, index))
            return {"binary": base64.b64encode(binary).decode()}
        except MaceClError as error:
            return {"error": str(error)}

    return build


def prove(request: dict[str, Any], blobs: list[bytes], report: Report) -> dict[str, Any]:
    """Load the binaries of a program's part and compare its golden outputs."""
    from mace_cl.program.format import open_program

    try:
        import pyopencl as cl

        opened = open_program(blobs[0], bytes.fromhex(request["key"]) if request["key"] else None)
        opened.verify()
        target = opened.program.targets[request["target"]]
        schedule = target.schedule
        constants = blobs[1] if target.constants is None else target.constants
        device = find_same(request["device"], request["signature"])
        context = cl.Context([device.handle])  # type: ignore[list-item]
        programs = load_units(context, device, schedule, target.units)
        executor = Executor(device, context, schedule, programs, np.frombuffer(constants, np.uint8))
        try:
            outputs = executor.run(golden_inputs(schedule.inputs))
        except HostError:
            if target.golden:
                raise
            outputs = {}  # the golden inputs are none that the host's part takes
        allowed = tolerance(target.provenance)
        difference = compare(expected(target.golden), outputs, quantises(schedule), allowed)
        return {"verdict": "right" if difference is None else "wrong"}
    except MaceClError as error:
        return {"verdict": "refused", "error": str(error)}


def refer(request: dict[str, Any], blobs: list[bytes], report: Report) -> dict[str, Any]:
    """Golden outputs by ONNX Runtime."""
    try:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        # each tensor rounded where the graph says so, not as integer kernels of its own do
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        session = ort.InferenceSession(blobs[0] if blobs else request["model"], options, ["CPUExecutionProvider"])
        ports = [Port(port["name"], port["dtype"], tuple(port["shape"]), None) for port in request["inputs"]]
        names = request["outputs"]
        fixed = [
            Value(name, dtype, tuple(shape), bytes.fromhex(data)) for name, dtype, shape, data in request["values"]
        ]
        inputs = golden_inputs(ports) | {value.name: value.array for value in fixed}
        values = zip(names, session.run(names, inputs), strict=True)
        golden = [(name, base64.b64encode(sample(value).tobytes()).decode()) for name, value in values]
        return {"golden": golden, "oracle": f"onnxruntime {ort.__version__}"}
    except Exception as error:  # any failure of the peer means that there is no reference
        return {"error": f"{type(error).__name__}: {error}"}
