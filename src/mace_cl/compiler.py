"""The cold path, from a model to a program: frontend, passes, lowering, binding, building."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mace_cl import __version__
from mace_cl.bind import bind
from mace_cl.device import block_for
from mace_cl.device.device import Device
from mace_cl.frontends.onnx import load
from mace_cl.identity import engine_fingerprint
from mace_cl.lower import lower
from mace_cl.passes.pipeline import optimise
from mace_cl.plan import Layout, Traits
from mace_cl.program.program import ModelIdentity, Pairs, Program, Target, Unit
from mace_cl.runtime.build import Progress, compile_units
from mace_cl.schedule import Schedule

__all__ = ["PRODUCER", "Prepared", "assemble", "prepare", "shape_options", "traits_of"]

PRODUCER = f"mace-cl {__version__}"
_NEAR_CACHE = 1 << 20


@dataclass(frozen=True, eq=False)
class Prepared:
    """A model bound to a device, before its kernels are built."""

    schedule: Schedule
    constants: NDArray[np.uint8]


def traits_of(device: Device) -> Traits:
    """What the parameter rules may know of a device.

    OpenCL does not tell the number of registers: 16-wide vectors mean AVX-512 with 32, others 16.
    """
    registers = 32 if block_for(device) == 16 else 16
    return Traits(max(1, device.compute_units), registers, _NEAR_CACHE, device.kind == "cpu")


def shape_options(shapes: Mapping[str, Sequence[int]] | None) -> Pairs:
    """Given input shapes as compile options."""
    return tuple(sorted((f"shape.{name}", ",".join(map(str, shape))) for name, shape in (shapes or {}).items()))


def prepare(
    source: Path | bytes, device: Device, shapes: Mapping[str, Sequence[int]] | None, progress: Progress | None = None
) -> Prepared:
    """The model as a schedule for ``device``, with its packed weights.

    Raises:
        ModelError, UnsupportedError, InputError: as `mace_cl.frontends.onnx.load` and `mace_cl.lower.lower`.
    """
    report = progress or (lambda what, done, total: None)
    report("reading the model", 0, 3)
    model = load(source, shapes)
    report("optimising the graph", 1, 3)
    model = optimise(model)
    report("planning kernels and memory", 2, 3)
    plan = lower(model, Layout(block_for(device), max(128, device.base_align)))
    schedule, constants = bind(plan, traits_of(device))
    report("planning kernels and memory", 3, 3)
    return Prepared(schedule, constants)


def assemble(
    prepared: Prepared,
    model: ModelIdentity,
    options: Pairs,
    device: Device,
    jobs: int,
    progress: Progress | None = None,
) -> Program:
    """Build all kernels and put the program together, weights included.

    Raises:
        DeviceError, BuildError: as `mace_cl.runtime.build.compile_units`.
    """
    built = compile_units(device, prepared.schedule, jobs, progress)
    units = tuple(Unit(kernels, binary) for kernels, binary in built)
    target = Target(device.signature, prepared.schedule, units, memoryview(prepared.constants))  # type: ignore[arg-type]
    program = Program(PRODUCER, engine_fingerprint(), model, options, (target,))
    program.check()
    return program
