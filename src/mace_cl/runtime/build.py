"""OpenCL program objects from sources or binaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mace_cl.devices.device import Device
from mace_cl.errors import BuildError
from mace_cl.schedule import Schedule

if TYPE_CHECKING:
    import pyopencl

__all__ = ["build_source", "load_binary", "source_of"]


def source_of(schedule: Schedule, kernels: Sequence[int]) -> str:
    """The OpenCL C text of one program object that holds ``kernels``."""
    return "\n".join(schedule.kernels[index].source for index in kernels)


def build_source(context: pyopencl.Context, schedule: Schedule, kernels: Sequence[int]) -> pyopencl.Program:
    """Compile kernels of the schedule.

    Raises:
        BuildError: the driver refused the text; the message holds its log.
    """
    import pyopencl

    names = ", ".join(schedule.kernels[index].name for index in kernels)
    try:
        program = pyopencl.Program(context, source_of(schedule, kernels))
        return program.build(options=schedule.build_options.split(), cache_dir=False)
    except pyopencl.Error as error:
        raise BuildError(
            f"the OpenCL compiler refused the kernels {names}: {error}. "
            "Please report this with the output of `mace-cl devices --json`; another device may work (--device)"
        ) from error


def load_binary(context: pyopencl.Context, device: Device, binary: bytes | memoryview, options: str) -> pyopencl.Program:
    """Make a program object from what the driver gave out earlier.

    Raises:
        BuildError: the driver refused the binary.
    """
    import pyopencl

    try:
        return pyopencl.Program(context, [device.handle], [bytes(binary)]).build(options=options.split())
    except pyopencl.Error as error:
        raise BuildError(f"the driver of {device.name} refused the compiled binary: {error}") from error
