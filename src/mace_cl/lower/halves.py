"""Tensors of float16 and bfloat16 lie as 16 bits, in the arena and among the constants, where kernels can do that.

Lowering writes all floats as fp32.  A buffer that holds values of such a type, and that every call can read and write
so, becomes half as large here; calls keep their problems, and say of which types their arguments are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.elementwise import Access
from mace_cl.kernels.halves import computes_in_halves, halved, narrowed, takes_halves
from mace_cl.kernels.map import Map
from mace_cl.kernels.types import STORED_TYPES
from mace_cl.plan import Constant, HostCall, KernelCall, Parameters, Plan, PlanPort, Region, Rendered
from mace_cl.schedule import ALIGNMENT

__all__ = ["halve", "pack", "render"]


def render(call: KernelCall, entry: str, parameters: Parameters) -> Rendered:
    """The kernel of a call as its problem writes it, for arguments of the call's kinds."""
    made = call.problem.render(entry, parameters)
    if not any(call.kinds) or isinstance(call.problem, Map):  # which knows of types itself
        return made
    if call.narrow:
        assert computes_in_halves(call.problem)
        return replace(made, source=narrowed(made.source, call.problem.c))
    return replace(made, source=halved(made.source, entry, call.kinds))


def pack(call: KernelCall, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
    """A constant operand as the problem packs it, in the call's kind."""
    packed = call.problem.pack(operand, array, parameters)
    return packed.astype(array.dtype) if call.kinds and call.kinds[operand] else packed


def halve(plan: Plan) -> Plan:
    """The plan with halves where the model has them; the same where it has none, or the layout is without."""
    if not plan.layout.halves:
        return plan
    kinds = _kinds(plan)
    if not kinds and not any(_constant_kind(one) for call in plan.calls for one in call.operands):
        return plan
    buffers = tuple(
        replace(buffer, size=buffer.size // 2) if index in kinds else buffer
        for index, buffer in enumerate(plan.buffers)
    )
    calls = tuple(
        call if isinstance(call, HostCall) else _halved(call, kinds, plan.layout.narrow) for call in plan.calls
    )
    halved = _without_copies(replace(plan, buffers=buffers, calls=calls))
    halved.check()
    return halved


def _kinds(plan: Plan) -> dict[int, str]:
    """The types of the buffers that can lie as halves, and take less memory so."""
    kinds = {
        index: one.kind for index, one in enumerate(plan.buffers) if one.kind in STORED_TYPES and one.size > ALIGNMENT
    }
    for port in (*plan.inputs, *plan.outputs):
        if port.region is not None:
            kinds.pop(port.region.buffer, None)
    for call in plan.calls:
        for argument, one in enumerate(_arguments(call)):
            if isinstance(one, Region) and one.buffer in kinds:
                aligned = one.offset // 2 % plan.layout.view_alignment == 0
                able = isinstance(call, KernelCall) and takes_halves(call.problem, argument, len(call.operands) + 1)
                if not (aligned and able):
                    del kinds[one.buffer]
    return kinds


def _arguments(call: KernelCall | HostCall) -> Iterator[Region | Constant]:
    yield from call.operands
    yield from call.results


def _constant_kind(one: Region | Constant) -> str:
    """The type of a constant of halves, else nothing."""
    kind = str(one.array.dtype) if isinstance(one, Constant) else ""
    return kind if kind in STORED_TYPES else ""


def _halved(call: KernelCall, kinds: dict[int, str], narrow: bool) -> KernelCall:
    def moved(region: Region) -> Region:
        return Region(region.buffer, region.offset // 2, region.size // 2) if region.buffer in kinds else region

    found = []
    for argument, one in enumerate(_arguments(call)):
        kind = kinds.get(one.buffer, "") if isinstance(one, Region) else _constant_kind(one)
        found.append(kind if kind and takes_halves(call.problem, argument, len(call.operands) + 1) else "")
    if not any(found):
        return call
    operands = tuple(moved(one) if isinstance(one, Region) else one for one in call.operands)
    call = replace(call, operands=operands, result=moved(call.result), kinds=tuple(found))
    if isinstance(call.problem, Map):
        *given, made = (
            replace(one, type=kind or one.type)
            for one, kind in zip((*call.problem.operands, call.problem.result), found, strict=True)
        )
        call = replace(call, problem=replace(call.problem, operands=tuple(given), result=made))
    if narrow and computes_in_halves(call.problem) and set(found) == {"float16"}:
        return replace(call, narrow=True)
    if isinstance(call.problem, Conv2D) and found[0]:
        call = replace(call, problem=replace(call.problem, staged=call.problem.can_stage))
    return call


def _without_copies(plan: Plan) -> Plan:
    """The plan without the conversions at inputs and outputs that convert nothing any more."""
    written = Counter(result.buffer for call in plan.calls for result in call.results)
    parts: dict[int, Region] = {}
    for call in plan.calls:
        if isinstance(call, KernelCall) and _is_copy(call) and written[call.result.buffer] == 1:
            (source,) = call.operands
            if isinstance(source, Region) and call.result.size == plan.buffers[call.result.buffer].size:
                parts[call.result.buffer] = source

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
        operands = tuple(one if isinstance(one, Constant) else moved(one) for one in call.operands)
        return replace(call, operands=operands, result=moved(call.result))

    kept = (call for call in plan.calls if isinstance(call, HostCall) or call.result.buffer not in parts)
    return replace(plan, calls=tuple(map(rewritten, kept)), outputs=tuple(map(port, plan.outputs)))


def _is_copy(call: KernelCall) -> bool:
    problem, whole = call.problem, Access((1,))
    if not isinstance(problem, Map) or problem.op != "cast" or problem.body != "r = a0;":
        return False
    one, result = problem.operands[0], problem.result
    return one.access == result.access == whole and one.type == result.type
