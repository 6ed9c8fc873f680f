"""Drop copies of whole buffers: their producers write to the copy's place directly.

A concatenation is lowered as one copy per operand.  Where an operand is a buffer of its own that is
copied once, unchanged, into an aligned part of the result, it can just as well be that part.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from mace_cl.kernels.elementwise import COPY, Access, Elementwise
from mace_cl.plan import Constant, HostCall, KernelCall, Plan, PlanPort, Region

__all__ = ["elide_copies"]


def elide_copies(plan: Plan) -> Plan:
    """The same plan with buffers renamed into parts of others, and without the copies between them."""
    copies = Counter(
        operand.buffer
        for call in plan.calls
        if isinstance(call, KernelCall) and _is_whole_copy(plan, call)
        for operand in call.operands
        if isinstance(operand, Region)
    )
    fixed = {port.region.buffer for port in (*plan.inputs, *plan.outputs) if port.region is not None}
    written = Counter(result.buffer for call in plan.calls for result in call.results)
    parts: dict[int, Region] = {}
    kept: list[KernelCall | HostCall] = []
    for call in plan.calls:
        if isinstance(call, KernelCall) and _is_whole_copy(plan, call):
            (source,) = call.operands
            assert isinstance(source, Region)
            own = source.buffer not in fixed and copies[source.buffer] == 1 and written[source.buffer] > 0
            # a part must not hold the buffer that it becomes part of, nor be changed once it is copied
            once = sum(_overlap(call.result, result) for other in plan.calls for result in other.results) == 1
            if own and call.result.buffer != source.buffer and once:
                parts[source.buffer] = call.result
                continue
        kept.append(call)

    def moved(region: Region) -> Region:
        while region.buffer in parts:
            place = parts[region.buffer]
            region = Region(place.buffer, place.offset + region.offset, region.size)
        return region

    def port(port: PlanPort) -> PlanPort:
        return port if port.region is None else replace(port, region=moved(port.region))

    def rewritten(call: KernelCall | HostCall) -> KernelCall | HostCall:
        if isinstance(call, HostCall):
            return replace(call, inputs=tuple(map(port, call.inputs)), outputs=tuple(map(port, call.outputs)))
        operands = tuple(item if isinstance(item, Constant) else moved(item) for item in call.operands)
        return replace(call, operands=operands, result=moved(call.result))

    return replace(plan, calls=tuple(rewritten(call) for call in kept))


def _overlap(one: Region, other: Region) -> bool:
    return (
        one.buffer == other.buffer and one.offset < other.offset + other.size and other.offset < one.offset + one.size
    )


def _is_whole_copy(plan: Plan, call: KernelCall) -> bool:
    problem = call.problem
    if not isinstance(problem, Elementwise) or problem.expr != COPY or problem.accesses != (Access((1,)), Access((1,))):
        return False
    (source,) = call.operands
    if not isinstance(source, Region) or source.offset != 0:
        return False
    return source.size == call.result.size == plan.buffers[source.buffer].size
