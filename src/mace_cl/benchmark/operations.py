"""Where the time of a run goes, operation by operation, and how the arena fills meanwhile."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

from mace_cl.schedule import ITEM_BYTES, Port, Schedule, Slot

__all__ = ["Group", "Operation", "Stay", "by_type", "operations", "stays"]

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Operation:
    """One step of a run.

    ``type`` is the kernel family, ``node`` the model's nodes that it computes, ``route`` where it ran:
    ``opencl``, or ``host``; there ``type`` names the nodes' ops and ``kernel`` the provider.  ``start`` is
    when it began after the first one did, ``first`` what it took in the first profiled run, ``seconds`` on
    average: all in seconds.  ``bytes`` counts each operand and the result once, ``output_bytes`` the result alone.
    """

    index: int
    type: str
    node: str
    kernel: str
    route: str
    start: float
    first: float
    seconds: float
    flops: int
    bytes: int
    output_bytes: int

    @property
    def flop_rate(self) -> float:
        """Operations per second."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def byte_rate(self) -> float:
        """Bytes per second."""
        return self.bytes / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Group:
    """All operations of one type."""

    type: str
    route: str
    count: int
    seconds: float
    flops: int
    bytes: int


@dataclass(frozen=True)
class Stay:
    """Bytes of the arena that hold one value from operation ``begin`` to operation ``end``, both inclusive.

    -1 is before the first operation, when the inputs are put there.
    """

    name: str
    offset: int
    size: int
    begin: int
    end: int


def operations(schedule: Schedule, runs: Sequence[tuple[Spans, Spans]]) -> tuple[Operation, ...]:
    """The operations of a schedule over profiled ``runs``, as `mace_cl.Runtime.profile` gives them.

    The host's clock is not the device's: a host step is put behind the launch before it.
    """
    steps = sorted(
        [(step.at, 0, number) for number, step in enumerate(schedule.hosts)]
        + [(number, 1, number) for number in range(len(schedule.launches))]
    )
    starts: list[list[float]] = [[] for _ in steps]
    took: list[list[float]] = [[] for _ in steps]
    for launches, hosts in runs:
        reached, behind = 0, 0  # in ns: the end of the step before, and how far host steps put the launches off
        zero = launches[0][0] if launches else 0
        for index, (_, launched, number) in enumerate(steps):
            begin, end = launches[number] if launched else hosts[number]
            start = max(begin - zero + behind, reached) if launched else reached
            if launched and index and not steps[index - 1][1]:
                behind, start = reached - (begin - zero), reached
            reached = start + end - begin
            starts[index].append(start * 1e-9)
            took[index].append((end - begin) * 1e-9)
    found = []
    for index, (_, launched, number) in enumerate(steps):
        what = _launch(schedule, number) if launched else _host(schedule, number)
        times = statistics.median(starts[index]), took[index][0], statistics.fmean(took[index])
        found.append(Operation(index, *what[:4], *times, *what[4:]))
    return tuple(found)


def _launch(schedule: Schedule, number: int) -> tuple[str, str, str, str, int, int, int]:
    """Type, node, kernel, route, flops, bytes and output bytes of a launch."""
    launch = schedule.launches[number]
    kernel, sizes = schedule.kernels[launch.kernel], [slot.size for slot in launch.args]
    return kernel.family, launch.node, kernel.name, "opencl", launch.flops, sum(sizes), sizes[-1]


def _host(schedule: Schedule, number: int) -> tuple[str, str, str, str, int, int, int]:
    step = schedule.hosts[number]
    nodes = {node.name: node.op for node in schedule.nodes}
    types = dict.fromkeys(nodes.get(name, "?") for name in step.node.split())
    given, made = (sum(map(_bytes, ports)) for ports in ((*step.inputs, *step.constants), step.outputs))
    return ", ".join(types), step.node, step.provider, "host", 0, given + made, made


def _bytes(port: Port) -> int:
    """0 where it hangs on the data."""
    return prod(port.shape) * ITEM_BYTES.get(port.dtype, 0) if port.shape is not None else 0


def by_type(found: Iterable[Operation]) -> tuple[Group, ...]:
    """The operations summed up by type, the longest first."""
    groups: dict[tuple[str, str], list[Operation]] = {}
    for one in found:
        groups.setdefault((one.type, one.route), []).append(one)
    sums = [
        Group(
            kind, route, len(members), sum(one.seconds for one in members),
            sum(one.flops for one in members), sum(one.bytes for one in members),
        )
        for (kind, route), members in groups.items()
    ]  # fmt: skip
    return tuple(sorted(sums, key=lambda group: -group.seconds))


def stays(schedule: Schedule) -> tuple[Stay, ...]:
    """What lies in the arena and how long: from being written to the last read before it is written over.

    ``begin`` and ``end`` count as `Operation.index` does.
    """
    steps = sorted(
        [(step.at, 0, number) for number, step in enumerate(schedule.hosts)]
        + [(number, 1, number) for number in range(len(schedule.launches))]
    )
    writes = [(-1, port.name, port.slot) for port in schedule.inputs if port.slot]
    reads = [(len(steps), port.slot) for port in schedule.outputs if port.slot]
    for index, (_, launched, number) in enumerate(steps):
        if launched:
            *operands, result = schedule.launches[number].args
            writes.append((index, schedule.launches[number].node, result))
            reads += [(index, slot) for slot in operands if slot.space == "arena"]
        else:
            step = schedule.hosts[number]
            writes += [(index, port.name, port.slot) for port in step.outputs if port.slot]
            reads += [(index, port.slot) for port in step.inputs if port.slot]
    found = []
    for place, (begin, name, slot) in enumerate(writes):
        over = min((index for index, _, other in writes[place + 1 :] if _overlap(slot, other)), default=len(steps))
        used = (index for index, other in reads if begin < index <= over and _overlap(slot, other))
        found.append(Stay(name, slot.offset, slot.size, begin, max(used, default=begin)))
    return tuple(found)


def _overlap(one: Slot, other: Slot) -> bool:
    return one.offset < other.offset + other.size and other.offset < one.offset + one.size
