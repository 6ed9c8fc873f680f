"""One arena for all buffers: those that are never alive together share bytes."""

from __future__ import annotations

from dataclasses import dataclass

from mace_cl.plan import Plan, Region
from mace_cl.schedule import ALIGNMENT

__all__ = ["Arena", "assign"]


@dataclass(frozen=True)
class Arena:
    """``offsets[buffer]`` in bytes (None for a buffer that no call uses), and the total ``size``."""

    offsets: tuple[int | None, ...]
    size: int


def assign(plan: Plan) -> Arena:
    """Offsets by greedy best fit, largest buffer first.

    A buffer lives from its first write to its last read; inputs live from the start, outputs to the
    end.  After Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020
    (greedy by size).
    """
    end = len(plan.calls)
    first: dict[int, int] = {}
    last: dict[int, int] = {}

    def touch(buffer: int, time: int) -> None:
        first[buffer] = min(first.get(buffer, time), time)
        last[buffer] = max(last.get(buffer, time), time)

    for port in plan.inputs:
        if port.region is not None:
            touch(port.region.buffer, -1)
    for time, call in enumerate(plan.calls):
        for result in call.results:
            touch(result.buffer, time)
        for operand in call.operands:
            if isinstance(operand, Region):
                touch(operand.buffer, time)
    for port in plan.outputs:
        if port.region is not None:
            touch(port.region.buffer, end)

    offsets: dict[int, int] = {}
    sizes = {index: -(-plan.buffers[index].size // ALIGNMENT) * ALIGNMENT for index in first}
    for buffer in sorted(first, key=lambda index: (-sizes[index], first[index], index)):
        busy = sorted(
            (offsets[other], offsets[other] + sizes[other])
            for other in offsets
            if first[other] <= last[buffer] and first[buffer] <= last[other]
        )
        offsets[buffer] = _gap(busy, sizes[buffer])
    size = max((offsets[index] + sizes[index] for index in offsets), default=ALIGNMENT)
    return Arena(tuple(offsets.get(index) for index in range(len(plan.buffers))), size)


def _gap(busy: list[tuple[int, int]], size: int) -> int:
    """The smallest hole between ``busy`` ranges that takes ``size``, else the end."""
    best, best_hole, reached = None, 0, 0
    for begin, end in busy:
        hole = begin - reached
        if hole >= size and (best is None or hole < best_hole):
            best, best_hole = reached, hole
        reached = max(reached, end)
    return reached if best is None else best
