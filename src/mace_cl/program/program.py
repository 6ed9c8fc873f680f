"""A compiled program: everything that a start needs, for one model and one or more targets."""

from __future__ import annotations

from mace_cl.device.signature import Signature
from mace_cl.program.bucket import Bucket, Input, Value
from mace_cl.record import record
from mace_cl.schedule import Schedule

__all__ = ["MAX_ARENA_BYTES", "ModelIdentity", "Program", "Target", "Unit"]

Pairs = tuple[tuple[str, str], ...]

MAX_ARENA_BYTES = 1 << 40
"""A program that asks for a larger arena is not believed."""


@record
class ModelIdentity:
    """The source model: a name for people and the SHA-256 of its bytes, hexadecimal."""

    name: str
    sha256: str


@record
class Unit:
    """One OpenCL program object: which of the schedule's kernels it holds, and the driver's binary of it.

    ``binary`` is None where the kernels have to be built from their sources; ``safe`` says that this is
    done without the compiler's optimisations, as the driver gets these kernels wrong with them.
    """

    kernels: tuple[int, ...]
    binary: bytes | memoryview | None
    safe: bool = False


@record
class Target:
    """The part of a program that is for one device and bucket: its schedule, binaries and prepacked weights.

    ``constants`` is one blob of ``schedule.constant_bytes`` bytes, or None when the weights are not
    inside.  ``provenance`` says how the part came about: tuning, measurements, history.  ``golden`` holds
    for each output its name and fp32 samples of what the golden inputs give (`mace_cl.runtime.golden`).
    ``values`` are those of the inputs that are parameters of ops, which the schedule does not have.
    """

    signature: Signature
    schedule: Schedule
    units: tuple[Unit, ...]
    constants: memoryview | None
    provenance: Pairs = ()
    golden: tuple[tuple[str, memoryview], ...] = ()
    values: tuple[Value, ...] = ()

    @property
    def bucket(self) -> Bucket:
        """The shapes and values that it is for."""
        return Bucket.of(self.schedule.inputs, self.values)

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
        for value in self.values:
            value.check()
        if self.constants is not None and self.constants.nbytes != schedule.constant_bytes:
            raise ValueError(f"{self.constants.nbytes} bytes of constants, not {schedule.constant_bytes}")


@record
class Program:
    """What a compiled-program file holds; ``mace_cl.program.format`` writes and reads it.

    ``producer`` is the writer with its version, ``engine`` the fingerprint of the code that made the
    kernels, ``options`` what was asked of the compiler.  ``inputs`` are the model's where shapes or
    parameters are open, so that there may be several parts for one device; empty where all is fixed.
    """

    producer: str
    engine: str
    model: ModelIdentity
    options: Pairs
    targets: tuple[Target, ...]
    inputs: tuple[Input, ...] = ()

    def buckets(self, device: Signature | None = None) -> tuple[Bucket, ...]:
        """What the parts, or those for a device, are for; nothing where all is fixed."""
        found = (target.bucket for target in self.targets if device in (None, target.signature))
        return tuple(dict.fromkeys(found)) if self.inputs else ()

    def check(self) -> None:
        """`Target.check` for every target, and that there is one.

        Raises:
            ValueError: naming the target and what is wrong with it.
        """
        if not self.targets:
            raise ValueError("a program without a target")
        for one in self.inputs:
            one.check()
        if len({one.name for one in self.inputs}) < len(self.inputs):
            raise ValueError("two inputs of one name")
        for number, target in enumerate(self.targets):
            try:
                target.check()
                self._check_bucket(target)
            except ValueError as error:
                raise ValueError(f"target {number} ({target.signature.device}): {error}") from None

    def _check_bucket(self, target: Target) -> None:
        ports = {port.name: (port.dtype, port.shape) for port in target.schedule.inputs}
        values = {value.name: (value.dtype, value.shape) for value in target.values}
        if not self.inputs:
            if values:
                raise ValueError(f"values of {sorted(values)}, but no inputs that are parameters")
            return
        known = {one.name: one for one in self.inputs}
        if len(values) < len(target.values) or values.keys() != {one.name for one in self.inputs if one.parameter}:
            raise ValueError(f"values of {sorted(values)}, which are not each parameter once")
        if ports.keys() != known.keys() - values.keys() or len(ports) < len(target.schedule.inputs):
            raise ValueError(f"ports {sorted(ports)}, which are not each other input once")
        for name, (dtype, shape) in (ports | values).items():
            if known[name].dtype != dtype or not (shape is None or known[name].fits(shape)):
                raise ValueError(f"{name!r} is {dtype} {shape}, where the model takes {known[name]}")
