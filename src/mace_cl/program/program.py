"""A compiled program: everything that a start needs, for one model and one or more targets."""

from __future__ import annotations

from dataclasses import dataclass

from mace_cl.device.signature import Signature
from mace_cl.schedule import Schedule

__all__ = ["MAX_ARENA_BYTES", "ModelIdentity", "Program", "Target", "Unit"]

Pairs = tuple[tuple[str, str], ...]

MAX_ARENA_BYTES = 1 << 40
"""A program that asks for a larger arena is not believed."""


@dataclass(frozen=True)
class ModelIdentity:
    """The source model: a name for people and the SHA-256 of its bytes, hexadecimal."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Unit:
    """One OpenCL program object: which of the schedule's kernels it holds, and the driver's binary of it.

    ``binary`` is None where the kernels have to be built from their sources; ``safe`` says that this is
    done without the compiler's optimisations, as the driver gets these kernels wrong with them.
    """

    kernels: tuple[int, ...]
    binary: bytes | memoryview | None
    safe: bool = False


@dataclass(frozen=True)
class Target:
    """The part of a program that is for one device: its schedule, binaries and prepacked weights.

    ``constants`` is one blob of ``schedule.constant_bytes`` bytes, or None when the weights are not
    inside.  ``provenance`` says how the part came about: tuning, measurements, history.  ``golden`` holds
    for each output its name and fp32 samples of what the golden inputs give (`mace_cl.runtime.golden`).
    """

    signature: Signature
    schedule: Schedule
    units: tuple[Unit, ...]
    constants: memoryview | None
    provenance: Pairs = ()
    golden: tuple[tuple[str, memoryview], ...] = ()

    def check(self) -> None:
        """Prove that every index and size fits what it refers to.

        Raises:
            ValueError: naming the first part that does not.
        """
        schedule = self.schedule
        if not 0 <= schedule.arena_bytes <= MAX_ARENA_BYTES:
            raise ValueError(f"an arena of {schedule.arena_bytes} bytes, more than {MAX_ARENA_BYTES}")
        schedule.check()
        for kernel in schedule.kernels:
            if not (kernel.name.isascii() and kernel.name.isidentifier()):
                raise ValueError(f"kernel name {kernel.name!r} is not an identifier")
        held = sorted(kernel for unit in self.units for kernel in unit.kernels)
        if held != list(range(len(schedule.kernels))):
            raise ValueError(f"units hold the kernels {held}, not each of {len(schedule.kernels)} once")
        for number, unit in enumerate(self.units):
            if not unit.kernels:
                raise ValueError(f"unit {number} holds no kernel")
            if unit.binary is not None and not len(unit.binary):
                raise ValueError(f"unit {number} has an empty binary")
        for name, values in self.golden:
            if name not in {port.name for port in schedule.outputs} or values.nbytes % 4:
                raise ValueError(f"golden values of {name!r}, {values.nbytes} bytes, are of no output")
        if self.constants is not None and self.constants.nbytes != schedule.constant_bytes:
            raise ValueError(f"{self.constants.nbytes} bytes of constants, not {schedule.constant_bytes}")


@dataclass(frozen=True)
class Program:
    """What a compiled-program file holds; ``mace_cl.program.format`` writes and reads it.

    ``producer`` is the writer with its version, ``engine`` the fingerprint of the code that made the
    kernels, ``options`` what was asked of the compiler.
    """

    producer: str
    engine: str
    model: ModelIdentity
    options: Pairs
    targets: tuple[Target, ...]

    def check(self) -> None:
        """`Target.check` for every target, and that there is one.

        Raises:
            ValueError: naming the target and what is wrong with it.
        """
        if not self.targets:
            raise ValueError("a program without a target")
        for number, target in enumerate(self.targets):
            try:
                target.check()
            except ValueError as error:
                raise ValueError(f"target {number} ({target.signature.device}): {error}") from None
