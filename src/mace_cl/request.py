"""What is wanted of a start, what was found, and how long each step took."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_cl.device.device import Device
from mace_cl.errors import MaceClError
from mace_cl.program.bucket import Bucket, Input
from mace_cl.program.format import Opened
from mace_cl.program.program import ModelIdentity, Pairs
from mace_cl.program.proofs import Proofs
from mace_cl.record import record
from mace_cl.settings import Settings

if TYPE_CHECKING:
    from mace_cl.runtime.build import Progress
    from mace_cl.runtime.compile import Built, Workers
    from mace_cl.runtime.executor import Executor

__all__ = ["Clock", "Found", "Request", "Shapes", "access", "proofs"]

Shapes = Mapping[str, Sequence[int]]
Found = Opened | MaceClError | None
"""A program, the error that opening it gave, or None where there is no file."""


class Clock:
    """Seconds between marks, and what was compiled meanwhile."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.built: list[Built] = []
        self._last = time.perf_counter()

    def mark(self, name: str) -> None:
        """Count the time since the last mark as ``name``."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


@record
class Request:
    """What is wanted: a model (None when only a program was given) on a device, with options.

    ``program`` is the file to use and write, None for the store's own; ``outputs`` names those that replace the
    model's own.

    Where shapes or parameters are open, ``inputs`` are the model's and ``bucket`` is what is to be run now; without
    it any will do.  ``live`` are the executors for other buckets, the one used last at the end.  ``workers`` are
    processes that compile and may have begun.
    """

    model: Path | bytes | None
    identity: ModelIdentity | None
    options: Pairs
    shapes: Shapes | None
    program: Path | None
    device: Device
    settings: Settings
    progress: Progress | None = None
    clock: Clock = field(default_factory=Clock)
    outputs: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    bucket: Bucket | None = None
    workers: Workers | None = None
    live: tuple[tuple[Bucket, Executor], ...] = ()

    @property
    def near(self) -> Executor | None:
        """An executor to share a context and weights with."""
        return self.live[-1][1] if self.live else None


def access(settings: Settings) -> dict[str, Any]:
    """What it takes to open signed and encrypted programs."""
    return {"key": settings.key, "trusted_keys": settings.trusted_keys, "store_dir": settings.store_dir}


def proofs(settings: Settings) -> Proofs:
    """What is known to work here; nothing where there is no store."""
    return Proofs(settings.store_dir if settings.store else None)
