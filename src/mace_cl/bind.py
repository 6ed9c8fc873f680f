"""Plan and target to schedule: parameters, sources, grids, packed weights, one arena.

Calls whose problem and parameters are equal share one kernel; constants that are equal once packed, one place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.lower import assign, grouped, pack, render, usual
from mace_cl.plan import Constant, HostCall, KernelCall, Plan, PlanPort, Problem, Region, Rendered, Traits
from mace_cl.schedule import ALIGNMENT, HostStep, Kernel, Launch, Port, Schedule, Slot

__all__ = ["BUILD_OPTIONS", "Choose", "bind", "by_rule", "kernels_of"]

BUILD_OPTIONS = "-cl-std=CL1.2 -cl-mad-enable -cl-no-signed-zeros"
"""Options that keep NaN and infinity as IEEE 754 has them."""

_HEAD = 64
"""Bytes by which packed constants are told apart before all of them are compared."""

Choose = Callable[[Problem, Traits], dict[str, int]]


def by_rule(problem: Problem, traits: Traits) -> dict[str, int]:
    """The parameters that a problem's own rule gives."""
    return problem.default(traits)


def kernels_of(plan: Plan) -> tuple[Problem, ...]:
    """The problem of each kernel that `bind` makes, in the schedule's order."""
    found = dict.fromkeys(
        (call.problem, call.kinds, call.narrow) for call in plan.calls if isinstance(call, KernelCall)
    )
    return tuple(problem for problem, *_ in found)


def bind(plan: Plan, traits: Traits, choose: Choose = by_rule, shares: int = 0) -> tuple[Schedule, NDArray[np.uint8]]:
    """The schedule, and the bytes of its constants.

    ``choose`` picks the parameters of a problem; by default its own rule does.  ``shares`` is that of `Schedule`.
    Kernels for other devices than CPUs come in groups of several work-items.
    """
    arena = assign(plan)
    kernels: dict[tuple[Problem, tuple[str, ...], bool], tuple[int, Kernel, Rendered, dict[str, int]]] = {}
    packed: list[NDArray[np.uint8]] = []
    alike: dict[tuple[int, bytes], list[tuple[Slot, NDArray[np.uint8]]]] = {}
    places: dict[tuple[int, int, int], Slot] = {}
    launches: list[Launch] = []
    hosts: list[HostStep] = []
    size = 0

    def slot(region: Region) -> Slot:
        base = arena.offsets[region.buffer]
        assert base is not None
        return Slot("arena", base + region.offset, region.size)

    def port(port: PlanPort) -> Port:
        return Port(port.name, port.dtype, port.shape, None if port.region is None else slot(port.region))

    def constant(key: tuple[int, int, int], make: Callable[[], NDArray[Any]]) -> Slot:
        nonlocal size
        if key not in places:
            array = np.ascontiguousarray(make()).reshape(-1)
            array = (array if array.size else np.zeros(1, array.dtype)).view(np.uint8)  # of no buffer is empty
            twins = alike.setdefault((array.nbytes, array[:_HEAD].tobytes()), [])
            place = next((slot for slot, other in twins if np.array_equal(array, other)), None)
            if place is None:
                place = Slot("constants", size, array.nbytes)
                twins.append((place, array))
                packed.append(array)
                size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
            places[key] = place
        return places[key]

    for call in plan.calls:
        if isinstance(call, HostCall):
            own = [
                Port(name, str(one.array.dtype), one.array.shape, constant((id(one), -1, -1), partial(_same, one)))
                for name, one in call.constants
            ]
            ports = tuple(map(port, call.inputs)), tuple(map(port, call.outputs))
            hosts.append(HostStep(len(launches), call.provider, call.model, *ports, tuple(own), call.node))
            continue
        key = call.problem, call.kinds, call.narrow
        if key not in kernels:
            parameters = choose(call.problem, traits)
            if any(call.kinds):  # an image's texels are fp32
                parameters = {name: value for name, value in parameters.items() if name != "image"}
            name = f"{call.problem.family}_{len(kernels)}"
            rendered = render(call, name, parameters)
            rendered = rendered if traits.is_cpu else grouped(rendered, parameters.get("group", usual(traits)))
            kernel = Kernel(name, call.problem.family, rendered.source, tuple(parameters.items()), rendered.images)
            kernels[key] = (len(kernels), kernel, rendered, parameters)
        index, _, rendered, parameters = kernels[key]
        args = []
        for position, operand in enumerate(call.operands):
            if isinstance(operand, Constant):
                place = (id(operand), index, position)
                args.append(constant(place, partial(pack, call, position, operand.array, parameters)))
            else:
                args.append(slot(operand))
        args.append(slot(call.result))
        launches.append(
            Launch(index, rendered.global_size, rendered.local_size, tuple(args), call.node, call.problem.flops)
        )
    alike.clear()  # so that each array goes as soon as it is copied
    constants = _aligned(size)
    at = 0
    while packed:
        array = packed.pop(0)
        constants[at : at + array.nbytes] = array
        at += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
    schedule = Schedule(
        tuple(map(port, plan.inputs)),
        tuple(map(port, plan.outputs)),
        tuple(kernel for _, kernel, _, _ in kernels.values()),
        tuple(launches),
        arena.size,
        size,
        BUILD_OPTIONS,
        tuple(hosts),
        plan.nodes,
        shares,
    )
    schedule.check()
    return schedule, constants


def _same(constant: Constant) -> NDArray[Any]:
    return constant.array


def _aligned(size: int) -> NDArray[np.uint8]:
    """``size`` zero bytes that begin at a multiple of `ALIGNMENT`, so that a device can use them in place."""
    room = np.zeros(size + ALIGNMENT, np.uint8)
    start = -room.ctypes.data % ALIGNMENT
    return room[start : start + size]
