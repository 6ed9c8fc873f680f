"""Compile a model into a program file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mace_cl.tools.common import PROGRAM_NAME, DeviceName, Progress, check_writable

__all__ = ["CompileArgs", "CompileResult", "run"]


@dataclass(frozen=True)
class CompileArgs:
    """As the parameters of `mace_cl.compile`."""

    model: Path
    output: Path = Path(PROGRAM_NAME)
    device: str | None = None
    bake: bool = False
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    jobs: int | None = None
    store: bool | None = None
    progress: Progress | None = None


@dataclass(frozen=True)
class CompileResult:
    """The file that was written, its size in bytes, whether the weights are inside, and the seconds it took."""

    output: Path
    file_bytes: int
    baked: bool
    device: DeviceName
    seconds: float


def run(args: CompileArgs) -> CompileResult:
    """Compile for the chosen device; raises as `mace_cl.compile`."""
    begin = time.perf_counter()
    check_writable(args.output)
    from mace_cl.device import find
    from mace_cl.engine import compile_model
    from mace_cl.settings import Settings

    settings = Settings.load(device=args.device, store=args.store, jobs=args.jobs)
    device = find(settings.device, alone=True)
    compile_model(
        args.model, args.output, device=device, bake=args.bake, shapes=args.shapes or None,
        jobs=settings.jobs, store=settings.store, progress=args.progress,
    )  # fmt: skip
    size = args.output.stat().st_size
    return CompileResult(args.output, size, args.bake, DeviceName.of(device), time.perf_counter() - begin)
