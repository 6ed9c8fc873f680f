"""A plan bound to one target: what an executor replays and a program file stores.

A `Schedule` is complete in itself: it needs no model, no graph and no template.  Sizes and offsets
are in bytes.  Every kernel argument is a buffer; shapes and strides are constants in the source.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALIGNMENT", "Kernel", "Launch", "Port", "Schedule", "Slot"]

ALIGNMENT = 1024
"""Bytes to which every allocation in the arena and every constant is aligned."""

Size3 = tuple[int, int, int]


@dataclass(frozen=True)
class Slot:
    """A byte range of the arena (``space="arena"``) or of the constants (``space="constants"``)."""

    space: str
    offset: int
    size: int


@dataclass(frozen=True)
class Port:
    """An input or output of the model: row-major, at ``slot`` in the arena.

    ``dtype`` is a NumPy dtype name, ``shape`` the static shape.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    slot: Slot


@dataclass(frozen=True)
class Kernel:
    """One ``__kernel`` function: its entry name, OpenCL C source, family and chosen parameters."""

    name: str
    family: str
    source: str
    parameters: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Launch:
    """One enqueue: ``kernels[kernel]`` over ``global_size`` with ``args`` in order.

    ``node`` names the model's nodes that it computes; ``flops`` counts their multiply-adds twice.
    """

    kernel: int
    global_size: Size3
    local_size: Size3
    args: tuple[Slot, ...]
    node: str
    flops: int = 0


@dataclass(frozen=True)
class Schedule:
    """Everything that a run needs besides the device's own binary code and the constants' bytes."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    kernels: tuple[Kernel, ...]
    launches: tuple[Launch, ...]
    arena_bytes: int
    constant_bytes: int
    build_options: str

    def check(self) -> None:
        """Prove that every index and byte range lies inside what it refers to.

        Raises:
            ValueError: naming the first port or launch that does not.
        """
        limits = {"arena": self.arena_bytes, "constants": self.constant_bytes}

        def fits(slot: Slot, where: str) -> None:
            limit = limits.get(slot.space)
            if limit is None or slot.size <= 0 or slot.offset < 0 or slot.offset + slot.size > limit:
                raise ValueError(f"{where}: {slot} lies outside its buffer of {limit} bytes")

        for port in (*self.inputs, *self.outputs):
            fits(port.slot, f"port {port.name!r}")
        for number, launch in enumerate(self.launches):
            where = f"launch {number} ({launch.node})"
            if not 0 <= launch.kernel < len(self.kernels):
                raise ValueError(f"{where}: kernel index {launch.kernel} of {len(self.kernels)}")
            if len(launch.global_size) != 3 or len(launch.local_size) != 3:
                raise ValueError(f"{where}: sizes must have three dimensions")
            for total, group in zip(launch.global_size, launch.local_size, strict=True):
                if group < 1 or total < 1 or total % group:
                    raise ValueError(f"{where}: {launch.global_size} over {launch.local_size}")
            for slot in launch.args:
                fits(slot, where)
