"""Arena and copies: no two live buffers overlap, and plans without copies compute what they did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mace_cl.expr import Expr
from mace_cl.kernels.elementwise import COPY, Access, Elementwise
from mace_cl.lower.elide import elide_copies
from mace_cl.lower.memory import assign
from mace_cl.plan import Buffer, KernelCall, Layout, Plan, PlanPort, Region
from mace_cl.schedule import ALIGNMENT

STEP = 128
"""Bytes of alignment, 32 floats."""


def elementwise(floats: int, expr: Expr = COPY) -> Elementwise:
    return Elementwise(4, (floats,), (Access((1,)),) * (expr.arity + 1), expr)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Chains of elementwise calls and copies into parts, as concatenations make them."""
    sizes = [draw(st.integers(1, 3))]
    calls: list[KernelCall] = []

    def whole(index: int) -> Region:
        return Region(index, 0, sizes[index] * STEP)

    for number in range(draw(st.integers(1, 9))):
        sources = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3))
        made = len(sizes)
        if draw(st.booleans()):
            sizes.append(sum(sizes[source] for source in sources))
            at = 0
            for source in sources:
                size = sizes[source] * STEP
                calls.append(KernelCall(elementwise(size // 4), (whole(source),), Region(made, at, size), f"{number}"))
                at += size
        else:
            sizes.append(sizes[sources[0]])
            problem = elementwise(sizes[made] * STEP // 4, Expr.of("linear", 1.0, float(number + 1)))
            calls.append(KernelCall(problem, (whole(sources[0]),), whole(made), f"{number}"))
    outputs = draw(st.lists(st.integers(0, len(sizes) - 1), min_size=1, max_size=3, unique=True))
    return Plan(
        Layout(4, STEP),
        tuple(Buffer(f"b{index}", size * STEP) for index, size in enumerate(sizes)),
        (PlanPort("x", "float32", (sizes[0] * STEP // 4,), whole(0)),),
        tuple(PlanPort(f"y{index}", "float32", (sizes[index] * STEP // 4,), whole(index)) for index in outputs),
        tuple(calls),
    )


def run(plan: Plan, in_arena: bool) -> dict[str, NDArray[np.float32]]:
    """Execute a plan of elementwise calls in NumPy, each buffer by itself or all in one arena."""
    arena = assign(plan)
    starts = [offset or 0 for offset in arena.offsets]
    if not in_arena:
        starts = np.cumsum([0, *(buffer.size for buffer in plan.buffers)]).tolist()
    memory = np.full((max(arena.size, sum(buffer.size for buffer in plan.buffers)) // 4,), np.nan, np.float32)

    def part(region: Region) -> NDArray[np.float32]:
        begin = (starts[region.buffer] + region.offset) // 4
        return memory[begin : begin + region.size // 4]

    for port in plan.inputs:
        assert port.region is not None
        part(port.region)[:] = np.arange(port.region.size // 4)
    for call in plan.calls:
        assert isinstance(call, KernelCall)
        assert isinstance(call.problem, Elementwise)
        regions = [operand for operand in call.operands if isinstance(operand, Region)]
        part(call.result)[:] = call.problem.expr.compute(*(part(region).copy() for region in regions))
    return {port.name: part(port.region).copy() for port in plan.outputs if port.region is not None}


def same(one: dict[str, NDArray[np.float32]], other: dict[str, NDArray[np.float32]]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


@given(plans())
def test_buffers_that_live_together_do_not_overlap(plan: Plan) -> None:
    plan.check()
    arena = assign(plan)
    same(run(plan, in_arena=True), run(plan, in_arena=False))
    for offset, buffer in zip(arena.offsets, plan.buffers, strict=True):
        assert offset is None or (offset % ALIGNMENT == 0 and offset + buffer.size <= arena.size)


@given(plans())
def test_plans_without_copies_compute_the_same(plan: Plan) -> None:
    elided = elide_copies(plan)
    elided.check()
    assert len(elided.calls) <= len(plan.calls)
    same(run(elided, in_arena=False), run(plan, in_arena=False))
    same(run(elided, in_arena=True), run(plan, in_arena=False))


def chain(count: int) -> Plan:
    """``count`` calls, each of which reads only what the one before wrote."""
    buffers = tuple(Buffer(f"b{index}", ALIGNMENT) for index in range(count + 1))
    whole = [Region(index, 0, ALIGNMENT) for index in range(count + 1)]
    problem = elementwise(ALIGNMENT // 4, Expr.of("neg"))
    calls = tuple(KernelCall(problem, (whole[index],), whole[index + 1], "n") for index in range(count))
    shape = (ALIGNMENT // 4,)
    ports = (PlanPort("x", "float32", shape, whole[0]),), (PlanPort("y", "float32", shape, whole[count]),)
    return Plan(Layout(4, STEP), buffers, *ports, calls)


def test_a_chain_needs_two_buffers() -> None:
    assert assign(chain(9)).size == 2 * ALIGNMENT


def test_unused_buffers_take_no_space() -> None:
    plan = replace(chain(1), buffers=(*chain(1).buffers, Buffer("unused", 1 << 30)))
    assert assign(plan) == replace(assign(chain(1)), offsets=(*assign(chain(1)).offsets, None))


def concat(*sources: int, sizes: tuple[int, ...] = (2, 2, 2), outputs: tuple[int, ...] = ()) -> Plan:
    """Buffer 0 is the input, 1 and 2 are computed from it, 3 is the concatenation of ``sources``."""
    total = sum(sizes[source] for source in sources)
    buffers = tuple(Buffer(f"b{index}", size * STEP) for index, size in enumerate((*sizes, total)))
    whole = [Region(index, 0, buffer.size) for index, buffer in enumerate(buffers)]
    calls = [
        KernelCall(elementwise(sizes[0] * 32, Expr.of("linear", 2.0, float(index))), (whole[0],), whole[index], "made")
        for index in (1, 2)
    ]
    at = 0
    for source in sources:
        part = Region(3, at, sizes[source] * STEP)
        calls.append(KernelCall(elementwise(sizes[source] * 32), (whole[source],), part, "concat"))
        at += sizes[source] * STEP
    ports = [PlanPort(f"b{index}", "float32", (buffers[index].size // 4,), whole[index]) for index in (0, 3, *outputs)]
    return Plan(Layout(4, STEP), buffers, (ports[0],), tuple(ports[1:]), tuple(calls))


def test_elision() -> None:
    """Two computed parts need no copy; an input, an output, and a buffer copied twice do."""
    for plan, left in (
        (concat(1, 2), 2),
        (concat(0, 1), 3),
        (concat(1, 2, outputs=(1,)), 3),
        (concat(1, 1), 4),
        (concat(1, 2, 1), 4),
    ):
        elided = elide_copies(plan)
        elided.check()
        assert len(elided.calls) == left
        same(run(elided, in_arena=True), run(plan, in_arena=False))
