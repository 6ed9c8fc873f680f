"""What `Plan.check` and `Schedule.check` refuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mace_cl.kernels.elementwise import Access, Elementwise
from mace_cl.plan import Buffer, Constant, KernelCall, Layout, Plan, PlanPort, Region
from mace_cl.schedule import Kernel, Launch, Port, Schedule, Slot

COPY = Elementwise(4, (64,), (Access((1,)), Access((1,))))
PLAN = Plan(
    Layout(4, 128),
    (Buffer("x", 256), Buffer("a", 512), Buffer("y", 256)),
    (PlanPort("x", "float32", (64,), Region(0, 0, 256)),),
    (PlanPort("y", "float32", (64,), Region(2, 0, 256)),),
    (
        KernelCall(COPY, (Region(0, 0, 256),), Region(1, 0, 256), "first"),
        KernelCall(COPY, (Region(0, 0, 256),), Region(1, 256, 256), "second"),
        KernelCall(COPY, (Region(1, 128, 256),), Region(2, 0, 256), "third"),
    ),
)


def with_call(number: int, **changes: object) -> Plan:
    calls = list(PLAN.calls)
    calls[number] = replace(calls[number], **changes)  # type: ignore[arg-type]
    return replace(PLAN, calls=tuple(calls))


def test_a_right_plan_passes() -> None:
    PLAN.check()


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (with_call(0, result=Region(3, 0, 256)), r"call 0 \(elementwise, first\): buffer 3 of 3"),
        (with_call(0, result=Region(-1, 0, 256)), "buffer -1 of 3"),
        (with_call(1, result=Region(1, 384, 256)), "call 1 .* outside its buffer of 512 bytes"),
        (with_call(1, result=Region(1, -128, 256)), "outside its buffer"),
        (with_call(1, result=Region(1, 256, 0)), "outside its buffer"),
        (with_call(1, result=Region(1, 64, 256)), "not aligned to 128 bytes"),
        (with_call(0, operands=(Region(1, 0, 256),)), "call 0 .* reads .* byte 0 was not written before"),
        (with_call(1, result=Region(1, 0, 256)), "call 2 .* byte 256 was not written before"),
        (with_call(2, operands=(Region(0, 0, 512),)), "outside its buffer of 256"),
        (replace(PLAN, calls=PLAN.calls[:2]), "output 'y': reads .* byte 0 was not written before"),
        (
            replace(PLAN, inputs=(replace(PLAN.inputs[0], region=Region(0, 0, 512)),)),
            "input 'x': .* outside its buffer",
        ),
        (replace(PLAN, outputs=(replace(PLAN.outputs[0], region=Region(5, 0, 4)),)), "output 'y': buffer 5 of 3"),
    ],
)
def test_a_wrong_plan_does_not(plan: Plan, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan.check()


def test_constants_are_told_apart_by_content() -> None:
    one, other = np.arange(6, dtype=np.float32), np.arange(6, dtype=np.float32).reshape(2, 3)
    assert Constant("a", one).digest == Constant("b", one.copy()).digest
    assert Constant("a", one).digest != Constant("a", other).digest
    assert Constant("a", one).digest != Constant("a", one.astype(np.int32)).digest


SCHEDULE = Schedule(
    (Port("x", "float32", (64,), Slot("arena", 0, 256)),),
    (Port("y", "float32", (64,), Slot("arena", 1024, 256)),),
    (Kernel("copy", "elementwise", "source", ()),),
    (
        Launch(
            0, (8, 1, 1), (1, 1, 1), (Slot("arena", 0, 256), Slot("constants", 0, 64), Slot("arena", 1024, 256)), "n"
        ),
    ),
    2048,
    64,
    "",
)


def with_launch(**changes: object) -> Schedule:
    return replace(SCHEDULE, launches=(replace(SCHEDULE.launches[0], **changes),))  # type: ignore[arg-type]


def test_a_right_schedule_passes() -> None:
    SCHEDULE.check()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (with_launch(kernel=1), r"launch 0 \(n\): kernel index 1 of 1"),
        (with_launch(kernel=-1), "kernel index -1"),
        (with_launch(args=(Slot("arena", 1920, 256),)), "outside its buffer of 2048"),
        (with_launch(args=(Slot("arena", -4, 8),)), "outside its buffer"),
        (with_launch(args=(Slot("arena", 0, 0),)), "outside its buffer"),
        (with_launch(args=(Slot("constants", 0, 68),)), "outside its buffer of 64"),
        (with_launch(args=(Slot("elsewhere", 0, 4),)), "outside its buffer of None"),
        (with_launch(global_size=(0, 1, 1)), r"\(0, 1, 1\) over \(1, 1, 1\)"),
        (with_launch(local_size=(3, 1, 1)), "over"),
        (with_launch(local_size=(0, 1, 1)), "over"),
        (with_launch(global_size=(8, 1)), "three dimensions"),
        (replace(SCHEDULE, arena_bytes=1024), "port 'y'"),
    ],
)
def test_a_wrong_schedule_does_not(schedule: Schedule, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule.check()
