"""Compile a model into a program file."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.tools.common import PROGRAM_NAME, DeviceName, Progress, check_writable, tuned

if TYPE_CHECKING:
    from mace_cl.engine import Compiled
    from mace_cl.tune.search import State

__all__ = ["CompileArgs", "CompileResult", "CompiledTarget", "CompiledUnit", "run"]


@dataclass(frozen=True)
class CompileArgs:
    """As the parameters of `mace_cl.compile`; no device means that of the settings."""

    model: Path
    output: Path = Path(PROGRAM_NAME)
    devices: tuple[str, ...] = ()
    bake: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    values: Mapping[str, Sequence[float]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    runtime: str | None = None
    provider: str | None = None
    jobs: int | None = None
    store: bool | None = None
    progress: Progress | None = None
    exact: bool | None = None
    trust: bool | None = None
    tune: float = 0.0
    watch: Callable[[State], None] | None = None


@dataclass(frozen=True)
class CompiledUnit:
    """Kernels that were compiled into one binary, and the seconds that took.

    ``each`` has the seconds of each kernel where the driver compiles one at a time; else it is empty.
    """

    kernels: tuple[str, ...]
    binary_bytes: int
    seconds: float
    each: dict[str, float]


@dataclass(frozen=True)
class CompiledTarget:
    """What was made for one device; ``oracle`` gave the golden outputs, ``seconds`` include the self-check.

    ``tuned`` tells by rung of the ladder how many kernels' parameters and convolutions' algorithms are tuned.
    """

    device: DeviceName
    oracle: str
    safe_kernels: str
    tuned: dict[str, str]
    units: tuple[CompiledUnit, ...]
    seconds: float

    @classmethod
    def of(cls, made: Compiled) -> CompiledTarget:
        names = [kernel.name for kernel in made.target.schedule.kernels]
        units = []
        for unit in made.built:
            kernels = tuple(names[index] for index in unit.kernels)
            each = dict(zip(kernels, unit.each, strict=bool(unit.each)))
            units.append(CompiledUnit(kernels, len(unit.binary), unit.seconds, each))
        said = dict(made.target.provenance)
        return cls(
            DeviceName.of(made.device), said["oracle"], said.get("safe kernels", ""), tuned(made.target), tuple(units),
            made.seconds,
        )  # fmt: skip


@dataclass(frozen=True)
class CompileResult:
    """The file that was written, its size in bytes, whether the weights are inside, and the seconds it took."""

    output: Path
    file_bytes: int
    baked: bool
    targets: tuple[CompiledTarget, ...]
    seconds: float


def run(args: CompileArgs) -> CompileResult:
    """Compile for the chosen devices; raises as `mace_cl.compile`."""
    begin = time.perf_counter()
    check_writable(args.output)
    from mace_cl.device import find
    from mace_cl.engine import compile_for
    from mace_cl.settings import Settings

    settings = Settings.load(
        store=args.store,
        jobs=args.jobs,
        runtime=args.runtime,
        provider=args.provider,
        exact=args.exact,
        trust=args.trust,
    )
    alone = len(args.devices) < 2
    devices = [find(spec, alone=alone) for spec in args.devices or (settings.device,)]
    made = compile_for(
        devices, args.model, args.output, settings,
        bake=args.bake, shapes=args.shapes or None, outputs=args.outputs, progress=args.progress,
        tune=args.tune, watch=args.watch, values=args.values,
    )  # fmt: skip
    size = args.output.stat().st_size
    targets = tuple(map(CompiledTarget.of, made))
    return CompileResult(args.output, size, args.bake, targets, time.perf_counter() - begin)
