"""A plan bound to one target: what an executor replays and a program file stores.

A `Schedule` is complete in itself: it needs no model, no graph and no template.  Sizes and offsets
are in bytes.  Every kernel argument is a buffer; shapes and strides are constants in the source.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from math import prod

from mace_cl.record import record

__all__ = [
    "ALIGNMENT",
    "CPU",
    "ITEM_BYTES",
    "MOST_SHARES",
    "TEXEL_BYTES",
    "HostStep",
    "Kernel",
    "Launch",
    "Node",
    "Place",
    "Port",
    "Schedule",
    "Size3",
    "Slot",
    "places",
]

ALIGNMENT = 1024
"""Bytes to which every allocation in the arena and every constant is aligned."""

MOST_SHARES = 64
"""Into how many parts the work-items of a launch may be shared out."""

TEXEL_BYTES = 16
"""Bytes of one place of an image: four floats."""

CPU = "CPUExecutionProvider"
"""The provider of ONNX Runtime that every build of it has."""

ITEM_BYTES = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "int16": 2,
    "uint16": 2,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "uint32": 4,
    "float32": 4,
    "int64": 8,
    "uint64": 8,
    "float64": 8,
}
"""Element types that a port in the arena may have, and the bytes of one element."""

Size3 = tuple[int, int, int]


@record
class Slot:
    """A byte range of the arena (``space="arena"``) or of the constants (``space="constants"``)."""

    space: str
    offset: int
    size: int


@record
class Port:
    """An input or output of the model or of a host step: row-major, at ``slot``.

    ``dtype`` is a NumPy dtype name, ``shape`` the static shape.  A value that no kernel touches has no
    slot: it stays on the host, under its name.  It may then be what no array is, of a ``dtype`` such as
    ``"string"`` or ``"seq(tensor(float))"``, and its shape may hang on the data: None.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    slot: Slot | None

    def __str__(self) -> str:
        shape = "of any shape" if self.shape is None else list(self.shape)
        return f"{self.name!r} {self.dtype} {shape}"


@record
class Kernel:
    """One ``__kernel`` function: its entry name, OpenCL C source, family and chosen parameters.

    ``images`` are the arguments that it reads as images of four floats a place, made of their buffers.
    """

    name: str
    family: str
    source: str
    parameters: tuple[tuple[str, int], ...]
    images: tuple[int, ...] = ()


@record
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


@record
class HostStep:
    """A part of the model that ONNX Runtime's ``provider`` runs, before the launch of index ``at``.

    ``model`` is an ONNX ModelProto whose inputs and outputs are, in that order, ``inputs`` and
    ``outputs``; ``constants`` are those of its initializers that lie in the constants.  ``node`` names
    the model's nodes that it computes.
    """

    at: int
    provider: str
    model: bytes | memoryview = field(repr=False)
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: tuple[Port, ...]
    node: str


@record
class Node:
    """A node of the model after constants were folded; ``reason`` says why it is on the host, if it is."""

    name: str
    op: str
    reason: str = ""


@record
class Schedule:
    """Everything that a run needs besides the device's own binary code and the constants' bytes.

    With ``shares`` > 0 the launches of each unit of kernels run in sequence within one enqueue, their
    work-items parted into so many shares (`mace_cl.runtime.sequence`); else each launch is an enqueue.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    kernels: tuple[Kernel, ...]
    launches: tuple[Launch, ...]
    arena_bytes: int
    constant_bytes: int
    build_options: str
    hosts: tuple[HostStep, ...] = ()
    nodes: tuple[Node, ...] = ()
    shares: int = 0

    def check(self) -> None:
        """Prove that every index and byte range lies inside what it refers to.

        Raises:
            ValueError: naming the first port, launch or host step that does not.
        """
        limits = {"arena": self.arena_bytes, "constants": self.constant_bytes}

        def fits(slot: Slot, where: str) -> None:
            limit = limits.get(slot.space)
            if limit is None or slot.size <= 0 or slot.offset < 0 or slot.offset + slot.size > limit:
                raise ValueError(f"{where}: {slot} lies outside its buffer of {limit} bytes")

        def placed(port: Port, space: str, where: str) -> None:
            if port.slot is None:
                return
            item = ITEM_BYTES.get(port.dtype)
            if item is None:
                raise ValueError(f"{where}: element type {port.dtype!r} is not known")
            fits(port.slot, where)
            size = None if port.shape is None else prod(port.shape) * item
            if port.slot.space != space or size is None or size > port.slot.size or port.slot.offset % item:
                raise ValueError(f"{where}: {port} does not fit {port.slot}")

        for port in (*self.inputs, *self.outputs):
            placed(port, "arena", f"port {port.name!r}")
        self._check_hosts(placed)
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
            for image in self.kernels[launch.kernel].images:
                if not 0 <= image < len(launch.args) or launch.args[image].size % TEXEL_BYTES or self.shares:
                    raise ValueError(f"{where}: argument {image} of {len(launch.args)} can't be an image")
            if self.shares and launch.local_size != (1, 1, 1):
                raise ValueError(f"{where}: groups of {launch.local_size} in a sequence, whose groups are single items")
            if self.shares and prod(launch.global_size) >= 1 << 31:
                raise ValueError(f"{where}: {launch.global_size} work-items in a sequence, which counts to 2147483647")
        if not 0 <= self.shares <= MOST_SHARES:
            raise ValueError(f"work-items in {self.shares} shares, not in 0 to {MOST_SHARES}")

    def _check_hosts(self, placed: Callable[[Port, str, str], None]) -> None:
        held = {port.name for port in self.inputs if port.slot is None}
        reached = 0
        for number, step in enumerate(self.hosts):
            where = f"host step {number} ({step.node})"
            if not reached <= step.at <= len(self.launches):
                raise ValueError(f"{where}: before launch {step.at}, not within {reached} and {len(self.launches)}")
            reached = step.at
            for port in (*step.inputs, *step.outputs):
                placed(port, "arena", f"{where}, {port.name!r}")
            for port in step.constants:
                placed(port, "constants", f"{where}, {port.name!r}")
                if port.slot is None:
                    raise ValueError(f"{where}: the constant {port.name!r} lies nowhere")
            absent = [port.name for port in step.inputs if port.slot is None and port.name not in held]
            if absent:
                raise ValueError(f"{where}: reads {absent}, which no step before it makes")
            held |= {port.name for port in step.outputs if port.slot is None}
        absent = [port.name for port in self.outputs if port.slot is None and port.name not in held]
        if absent:
            raise ValueError(f"no host step makes the outputs {absent}")


@record
class Place:
    """Where a node of the model runs.

    ``on`` is ``"OpenCL"`` or ``"host"``; ``by`` names the kernel families, or ONNX Runtime's provider.  A
    node on OpenCL without a kernel of its own is a view, or was found to be like another.  ``reason`` says
    why a node is on the host.
    """

    node: str
    op: str
    on: str
    by: str
    reason: str


def places(schedule: Schedule) -> tuple[Place, ...]:
    """Where each node of the model runs, in the model's order."""
    by: dict[str, dict[str, None]] = {}
    for launch in schedule.launches:
        for name in launch.node.split():
            by.setdefault(name, {})[schedule.kernels[launch.kernel].family] = None
    for step in schedule.hosts:
        for name in step.node.split():
            by[name] = {step.provider: None}
    return tuple(
        Place(node.name, node.op, "host" if node.reason else "OpenCL", ", ".join(by.get(node.name, ())), node.reason)
        for node in schedule.nodes
    )
