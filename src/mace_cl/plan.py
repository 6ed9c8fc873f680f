"""The plan: a model as buffers, constants and kernel calls, for a layout family and no device.

A plan names kernel families and problems, not sources and grids; `mace_cl.bind` chooses those for a
target.  Regions are byte ranges of buffers; each byte of a buffer is written by one call only, except
where `memory` later lets buffers share the arena.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from mace_cl.schedule import Node

__all__ = [
    "Buffer",
    "Constant",
    "HostCall",
    "KernelCall",
    "Layout",
    "Plan",
    "PlanPort",
    "Problem",
    "Region",
    "Rendered",
    "Traits",
    "Tunable",
]

Parameters = Mapping[str, int]
Size3 = tuple[int, int, int]


@dataclass(frozen=True)
class Layout:
    """A layout family: activations are NCHWc with ``block`` channels together.

    ``view_alignment`` is the alignment in bytes that a part of a buffer needs to be an argument;
    ``doubles`` says whether kernels can compute in float64, ``halves`` whether 16-bit floats lie as such, and
    ``narrow`` whether products and sums of float16 are computed in it.
    """

    block: int
    view_alignment: int
    doubles: bool = True
    halves: bool = True
    narrow: bool = False


@dataclass(frozen=True)
class Traits:
    """What parameter rules may look at in a target: sizes in bytes, counts of cores, registers and work-items.

    ``local_memory`` is 0 where local memory is no faster than global memory, as on CPUs; ``texels`` is how many
    vectors of four floats an image made of a buffer may hold, 0 without such images.
    """

    cores: int
    vector_registers: int
    near_cache: int
    is_cpu: bool
    local_memory: int = 0
    texels: int = 0
    group: int = 1


@dataclass(frozen=True)
class Rendered:
    """A kernel as OpenCL C text with its grid; ``images`` are the arguments that it reads as images."""

    source: str
    global_size: Size3
    local_size: Size3 = (1, 1, 1)
    images: tuple[int, ...] = ()


class Problem(Protocol):
    """One kernel family applied to one shape; a frozen dataclass of plain values.

    Arguments of the kernel are the call's operands in order, then its result.
    """

    @property
    def family(self) -> str:
        """The kernel family's name."""
        ...

    @property
    def flops(self) -> int:
        """Floating-point operations of one run, a multiply-add counted twice."""
        ...

    def default(self, traits: Traits) -> dict[str, int]:
        """Parameters that are good without tuning."""
        ...

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        """OpenCL C text; a pure function of its arguments and the problem."""
        ...

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        """A constant operand in the order in which the kernel reads it."""
        ...


@runtime_checkable
class Tunable(Problem, Protocol):
    """A problem whose parameters are worth measuring; the default is the cheapest of the space."""

    def space(self, traits: Traits) -> Iterable[dict[str, int]]:
        """All parameters that `render` may be given on such a target."""
        ...

    def cost(self, parameters: Parameters, traits: Traits) -> float:
        """An estimate of the time of one run, in any unit: which to try first."""
        ...


@dataclass(frozen=True)
class Buffer:
    """An activation: ``size`` bytes; ``kind`` is the type that the model gives its elements, if that is known."""

    name: str
    size: int
    kind: str = ""


@dataclass(frozen=True)
class Region:
    """A byte range of a buffer."""

    buffer: int
    offset: int
    size: int


@dataclass(frozen=True, eq=False)
class Constant:
    """A weight as the model gives it; kernels pack it."""

    name: str
    array: NDArray[Any] = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """sha256 of dtype, shape and bytes."""
        text = f"{self.array.dtype.str}{self.array.shape}".encode()
        return hashlib.sha256(text + np.ascontiguousarray(self.array).tobytes()).hexdigest()


@dataclass(frozen=True)
class KernelCall:
    """Run ``problem`` on ``operands`` into ``result``; ``node`` names the model's nodes it computes.

    ``kinds`` are the types of the arguments that lie as halves, the result's last, and "" for all others; it may be
    empty as a whole.  With ``narrow`` all are float16, and computed in it.
    """

    problem: Problem
    operands: tuple[Region | Constant, ...]
    result: Region
    node: str
    kinds: tuple[str, ...] = ()
    narrow: bool = False

    @property
    def results(self) -> tuple[Region, ...]:
        return (self.result,)


@dataclass(frozen=True)
class PlanPort:
    """An input or output of the model or of a host call, row-major.

    A value that no kernel touches has no region: it stays on the host under its name, and may be of a
    type or shape that no buffer holds.  See `mace_cl.schedule.Port`.
    """

    name: str
    dtype: str
    shape: tuple[int, ...] | None
    region: Region | None


@dataclass(frozen=True)
class HostCall:
    """Run a sub-model, an ONNX ModelProto, in ONNX Runtime's ``provider``.

    Its inputs and outputs are ``inputs`` and ``outputs`` in their order; ``constants`` are its large
    initializers by name.  ``node`` names the model's nodes it computes.
    """

    model: bytes = field(repr=False)
    provider: str
    inputs: tuple[PlanPort, ...]
    outputs: tuple[PlanPort, ...]
    constants: tuple[tuple[str, Constant], ...]
    node: str

    @property
    def operands(self) -> tuple[Region, ...]:
        return tuple(port.region for port in self.inputs if port.region is not None)

    @property
    def results(self) -> tuple[Region, ...]:
        return tuple(port.region for port in self.outputs if port.region is not None)


@dataclass(frozen=True)
class Plan:
    """A whole model, lowered."""

    layout: Layout
    buffers: tuple[Buffer, ...]
    inputs: tuple[PlanPort, ...]
    outputs: tuple[PlanPort, ...]
    calls: tuple[KernelCall | HostCall, ...]
    nodes: tuple[Node, ...] = ()

    def check(self) -> None:
        """Prove that regions lie in their buffers, are aligned, and are written before they are read.

        Raises:
            ValueError: naming the first call or port that is wrong.
        """
        written: dict[int, list[Region]] = {}

        def fits(region: Region, where: str) -> None:
            if not 0 <= region.buffer < len(self.buffers):
                raise ValueError(f"{where}: buffer {region.buffer} of {len(self.buffers)}")
            size = self.buffers[region.buffer].size
            if region.size <= 0 or region.offset < 0 or region.offset + region.size > size:
                raise ValueError(f"{where}: {region} outside its buffer of {size} bytes")
            if region.offset % self.layout.view_alignment:
                raise ValueError(f"{where}: {region} is not aligned to {self.layout.view_alignment} bytes")

        def defined(region: Region, where: str) -> None:
            reached = region.offset
            for part in sorted(written.get(region.buffer, ()), key=lambda part: part.offset):
                if part.offset <= reached:
                    reached = max(reached, part.offset + part.size)
            if reached < region.offset + region.size:
                raise ValueError(f"{where}: reads {region}, of which byte {reached} was not written before")

        for port in self.inputs:
            if port.region is not None:
                fits(port.region, f"input {port.name!r}")
                written.setdefault(port.region.buffer, []).append(port.region)
        for number, call in enumerate(self.calls):
            family = call.problem.family if isinstance(call, KernelCall) else "host"
            where = f"call {number} ({family}, {call.node})"
            for operand in call.operands:
                if isinstance(operand, Region):
                    fits(operand, where)
                    defined(operand, where)
            for result in call.results:
                fits(result, where)
                written.setdefault(result.buffer, []).append(result)
        for port in self.outputs:
            if port.region is not None:
                fits(port.region, f"output {port.name!r}")
                defined(port.region, f"output {port.name!r}")
