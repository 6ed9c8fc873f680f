"""What runs in child processes, because a driver may end the process that calls it.

``build`` compiles one unit of kernels and gives back the driver's binary; drivers also lock their
compilers against their own threads, so that only processes compile in parallel.  ``prove`` loads a
part of a program file and answers its golden vectors.  ``refer`` runs a model in ONNX Runtime, whose
answer is the reference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mace_cl.device import find, quirk_for
from mace_cl.device.device import Device
from mace_cl.errors import BuildError, DeviceError, MaceClError
from mace_cl.runtime.build import build_source, load_binary, schedule_from_request
from mace_cl.runtime.child import answer, question
from mace_cl.runtime.executor import Executor
from mace_cl.runtime.golden import compare, golden_inputs, sample
from mace_cl.schedule import Launch, Port, Schedule, Slot

__all__ = ["build", "complete_binary", "prove", "refer"]


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
                cl.enqueue_fill_buffer(queue, buffer, np.zeros(1, np.uint32), 0, buffer.size)
            kernel.set_args(*buffers)
            cl.enqueue_nd_range_kernel(queue, kernel, launch.global_size, launch.local_size)
            queue.finish()
    binaries = program.get_info(cl.program_info.BINARIES)
    if len(binaries) != 1 or not binaries[0]:
        raise BuildError(f"the driver of {device.name} gives no binary of a built program")
    return bytes(binaries[0])


def _device(request: dict[str, Any]) -> Device:
    device = find(request["device"], alone=True)
    if device.signature.digest() != request["signature"]:
        raise DeviceError(f"another device answers to {request['device']!r} in a new process: {device.name}")
    return device


def build() -> None:
    """Compile a unit, write its binary, and load it again as a later start will."""
    request = question()
    try:
        import pyopencl as cl

        device = _device(request)
        schedule, kernels = schedule_from_request(request)
        context = cl.Context([device.handle])  # type: ignore[list-item]
        program = build_source(context, schedule, kernels, safe=request["safe"])
        binary = complete_binary(device, context, schedule, kernels, program)
        Path(request["binary"]).write_bytes(binary)
        again = load_binary(context, device, binary, schedule.build_options)
        for index in kernels:
            cl.Kernel(again, schedule.kernels[index].name)
        answer({"ok": True})
    except MaceClError as error:
        answer({"ok": False, "error": str(error)})


def prove() -> None:
    """Load the binaries of a program's part and compare its golden outputs."""
    from mace_cl.program.format import open_program

    request = question()
    try:
        import pyopencl as cl

        key = bytes.fromhex(request["key"]) if request["key"] else None
        opened = open_program(request["program"], key)
        opened.verify()
        target = opened.program.targets[request["target"]]
        constants = target.constants
        if constants is None:
            weights = open_program(request["weights"], key)
            weights.verify()
            constants = weights.program.targets[0].constants
        assert constants is not None
        device = _device(request)
        context = cl.Context([device.handle])  # type: ignore[list-item]
        schedule = target.schedule
        programs = [
            (unit.kernels, load_binary(context, device, unit.binary, schedule.build_options))
            for unit in target.units
            if unit.binary is not None
        ]
        missing = [index for unit in target.units if unit.binary is None for index in unit.kernels]
        if missing:
            programs.append((tuple(missing), build_source(context, schedule, missing)))
        executor = Executor(device, context, schedule, programs, np.frombuffer(constants, np.uint8))
        outputs = executor.run(golden_inputs(schedule.inputs))
        expected = {name: np.frombuffer(values, np.float32) for name, values in target.golden}
        difference = compare(expected, outputs)
        if difference is None:
            answer({"verdict": "right"})
        else:
            answer({"verdict": "wrong", "output": difference.output, "relative": difference.relative})
    except MaceClError as error:
        answer({"verdict": "refused", "error": str(error)})


def refer() -> None:
    """Golden outputs by ONNX Runtime, written to the file that the request names."""
    request = question()
    try:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 4
        session = ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
        ports = [
            Port(port["name"], port["dtype"], tuple(port["shape"]), Slot("arena", 0, 1)) for port in request["inputs"]
        ]
        names = [port.name for port in session.get_outputs()]
        values = dict(zip(names, session.run(names, golden_inputs(ports)), strict=True))
        kept = {str(index): sample(values[name]) for index, name in enumerate(names)}
        np.savez(request["outputs"], **kept)  # type: ignore[arg-type]  # the stub takes the names for its own
        answer({"outputs": names, "oracle": f"onnxruntime {ort.__version__}"})
    except Exception as error:  # any failure of the peer means that there is no reference
        answer({"outputs": [], "error": f"{type(error).__name__}: {error}"})
