"""OpenCL program objects from sources or binaries, in this process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from mace_cl.device.device import Device
from mace_cl.errors import BuildError
from mace_cl.schedule import Schedule

if TYPE_CHECKING:
    import pyopencl

__all__ = ["Progress", "build_here", "build_source", "load_binary"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

SAFE_OPTION = "-cl-opt-disable"
"""What the safe variant of a kernel is built with besides the schedule's options."""


def build_source(
    context: pyopencl.Context, schedule: Schedule, kernels: Sequence[int], safe: bool = False
) -> pyopencl.Program:
    """Compile kernels of the schedule into one program object; ``safe`` without the compiler's optimisations.

    Raises:
        BuildError: the driver refused the text; the message holds its log.
    """
    import pyopencl

    source = "\n".join(schedule.kernels[index].source for index in kernels)
    try:
        options = f"{schedule.build_options} {SAFE_OPTION}" if safe else schedule.build_options
        return _built(pyopencl.Program(context, source), options)
    except pyopencl.Error as error:
        names = ", ".join(schedule.kernels[index].name for index in kernels)
        raise BuildError(
            f"the OpenCL compiler refused the kernels {names}: {error}. "
            "Please report this with the output of `mace-cl devices --json`; another device may work (--device)"
        ) from error


def build_here(device: Device, schedule: Schedule) -> tuple[Any, list[tuple[Sequence[int], Any]]]:
    """A context and the programs of a schedule as an executor takes them, compiled in this process.

    Raises:
        BuildError: the driver refused a kernel.
    """
    import pyopencl

    context = pyopencl.Context([device.handle])  # type: ignore[list-item]
    kernels = range(len(schedule.kernels))
    return context, [(kernels, build_source(context, schedule, kernels))] if kernels else []


def _built(program: pyopencl.Program, options: str) -> pyopencl.Program:
    """Build without pyopencl's own cache, and without its warning when a compiler says that all went well."""
    import pyopencl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyopencl.CompilerWarning)
        # False turns off the cache, though the annotation says str
        done: pyopencl.Program = program.build(options=options.split(), cache_dir=False)  # type: ignore[arg-type]
    return done


def load_binary(
    context: pyopencl.Context, device: Device, binary: bytes | memoryview, options: str
) -> pyopencl.Program:
    """Make a program object from what the driver gave out earlier.

    Raises:
        BuildError: the driver refused the binary.
    """
    import pyopencl

    try:
        program = pyopencl.Program(context, [device.handle], [bytes(binary)])  # type: ignore[list-item]
        return _built(program, options)
    except pyopencl.Error as error:
        raise BuildError(f"the driver of {device.name} refused the compiled binary: {error}") from error
