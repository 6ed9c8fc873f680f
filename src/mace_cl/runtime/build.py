"""OpenCL program objects from sources or binaries, in this process."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from mace_cl.device import quirk_for
from mace_cl.device.device import Device
from mace_cl.errors import BuildError
from mace_cl.program.program import Unit
from mace_cl.runtime import sequence
from mace_cl.schedule import Schedule

if TYPE_CHECKING:
    import pyopencl

__all__ = ["Progress", "build_here", "build_source", "entry", "load_units", "split"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

_FEW = 8
"""Kernels that are compiled in one unit though several could be at the same time."""

SAFE_OPTION = "-cl-opt-disable"
"""What the safe variant of a kernel is built with besides the schedule's options."""


def build_source(
    context: pyopencl.Context, schedule: Schedule, kernels: Sequence[int], safe: bool = False
) -> pyopencl.Program:
    """Compile kernels of the schedule into one program object; ``safe`` without the compiler's optimisations.

    Raises:
        BuildError: the driver refused the text; the message holds its log. Or the text is none of mace-cl's.
    """
    import pyopencl

    if schedule.shares:
        source = sequence.source(schedule, kernels)
    else:
        source = "\n".join(schedule.kernels[index].source for index in kernels)
    try:
        options = f"{schedule.build_options} {SAFE_OPTION}" if safe else schedule.build_options
        with _quiet():
            return _built(pyopencl.Program(context, source), options)
    except pyopencl.Error as error:
        names = ", ".join(schedule.kernels[index].name for index in kernels)
        raise BuildError(
            f"the OpenCL compiler refused the kernels {names}: {error}. "
            "Please report this with the output of `mace-cl devices --json`; another device may work (--device)"
        ) from error


def split(schedule: Schedule, parts: int) -> list[tuple[int, ...]]:
    """The schedule's kernels in at most ``parts`` groups of about equal text; compile time goes with text.

    Of a schedule that runs in sequences they are neighbours.
    """
    if schedule.shares:
        return _stretches(schedule, parts if len(schedule.kernels) > _FEW else 1)
    groups: list[list[int]] = [[] for _ in range(max(1, min(parts, len(schedule.kernels))))]
    loads = [0] * len(groups)
    order = sorted(range(len(schedule.kernels)), key=lambda index: -len(schedule.kernels[index].source))
    for index in order:
        lightest = loads.index(min(loads))
        groups[lightest].append(index)
        loads[lightest] += len(schedule.kernels[index].source)
    return [tuple(sorted(group)) for group in groups if group]


def _stretches(schedule: Schedule, wanted: int) -> list[tuple[int, ...]]:
    from mace_cl.runtime.alike import alike  # a warm start does without

    lengths = {one.kernels[0]: len(one.text) for one in alike(dict(enumerate(schedule.kernels)))}
    total = sum(lengths.values())
    groups: list[list[int]] = [[]]
    done = 0
    for index in range(len(schedule.kernels)):
        if groups[-1] and len(groups) < wanted and done >= total * len(groups) / wanted:
            groups.append([])
        groups[-1].append(index)
        done += lengths.get(index, 0)  # of several of a kind the first is the text
    return [tuple(group) for group in groups if group]


def entry(schedule: Schedule, kernel: int) -> str:
    """Name of the ``__kernel`` function that runs a kernel of the schedule."""
    return sequence.entry(schedule) if schedule.shares else schedule.kernels[kernel].name


def build_here(device: Device, schedule: Schedule) -> tuple[Any, list[tuple[Sequence[int], Any]]]:
    """A context and the programs of a schedule as an executor takes them, compiled in this process.

    Raises:
        BuildError: the driver refused a kernel.
    """
    import pyopencl

    context = pyopencl.Context([device.handle])  # type: ignore[list-item]
    return context, [(kernels, build_source(context, schedule, kernels)) for kernels in split(schedule, 1)]


def load_units(
    context: pyopencl.Context, device: Device, schedule: Schedule, units: Sequence[Unit]
) -> list[tuple[Sequence[int], pyopencl.Program]]:
    """Program objects, as an executor takes them, from the binaries that the driver gave out earlier.

    A driver whose binaries are complete links them when they are built and when the first kernel is made:
    there units are loaded at the same time.

    Raises:
        BuildError: the driver refused a binary.
    """
    import pyopencl

    def load(unit: Unit) -> pyopencl.Program:
        assert unit.binary is not None, "a part without binaries is compiled, not loaded"
        try:
            program = pyopencl.Program(context, [device.handle], [bytes(unit.binary)])  # type: ignore[list-item]
            _built(program, schedule.build_options)
            if together:
                with suppress(pyopencl.LogicError):  # a kernel that is missing is the executor's to tell
                    pyopencl.Kernel(program, entry(schedule, unit.kernels[0]))
            return program
        except pyopencl.Error as error:
            raise BuildError(f"the driver of {device.name} refused the compiled binary: {error}") from error

    together = len(units) > 1 and not quirk_for(device).binary_after_first_run
    with _quiet():
        if not together:
            return [(unit.kernels, load(unit)) for unit in units]
        from concurrent.futures import ThreadPoolExecutor  # a start with one unit does without

        with ThreadPoolExecutor(len(units)) as pool:
            return list(zip([unit.kernels for unit in units], pool.map(load, units), strict=True))


@contextmanager
def _quiet() -> Iterator[None]:
    """No warning when a compiler says that all went well; not for several threads at once."""
    import pyopencl

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pyopencl.CompilerWarning)
        yield


def _built(program: pyopencl.Program, options: str) -> pyopencl.Program:
    """Build without pyopencl's own cache."""
    # False turns off the cache, though the annotation says str
    done: pyopencl.Program = program.build(options=options.split(), cache_dir=False)  # type: ignore[arg-type]
    return done
