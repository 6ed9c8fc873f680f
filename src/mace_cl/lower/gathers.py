"""1×1 convolutions read the channels of a gather where they lie, so that the gather's result is never made."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from mace_cl.kernels.channel_gather import ChannelGather
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.plan import HostCall, KernelCall, Plan, Region

__all__ = ["absorb_gathers"]


def absorb_gathers(plan: Plan) -> Plan:
    """The same plan without the gathers whose only reader is a 1×1 convolution of stride 1."""
    gathers = {
        call.result.buffer: call
        for call in plan.calls
        if isinstance(call, KernelCall) and isinstance(call.problem, ChannelGather)
    }
    reads = Counter(operand.buffer for call in plan.calls for operand in call.operands if isinstance(operand, Region))
    reads.update(port.region.buffer for port in plan.outputs if port.region is not None)
    writes = Counter(call.result.buffer for call in plan.calls if isinstance(call, KernelCall))
    gone: set[int] = set()
    calls: list[KernelCall | HostCall] = []
    for call in plan.calls:
        source = call.operands[0] if isinstance(call, KernelCall) and call.operands else None
        gather = gathers.get(source.buffer) if isinstance(source, Region) else None
        if gather is not None and isinstance(call, KernelCall) and source == gather.result:
            buffer = gather.result.buffer
            problem = _gathered(call, gather.problem) if reads[buffer] == writes[buffer] == 1 else None
            if problem is not None:
                operands = (*gather.operands, *call.operands[1:])
                node = f"{gather.node} {call.node}"
                call = replace(call, problem=problem, operands=operands, node=node)
                gone.add(buffer)
        calls.append(call)
    kept = (call for call in calls if isinstance(call, HostCall) or call.result.buffer not in gone)
    return replace(plan, calls=tuple(kept))


def _gathered(call: KernelCall, gather: object) -> Conv2D | None:
    problem = call.problem
    if not isinstance(problem, Conv2D) or not isinstance(gather, ChannelGather) or not problem.can_gather:
        return None
    return replace(problem, gather=tuple(zip(gather.sources, gather.channels, strict=True)))
