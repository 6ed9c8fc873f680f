"""A plan and a target to a schedule: sharing, packing, alignment, and the same result each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mace_cl.bind import BUILD_OPTIONS, bind
from mace_cl.frontends.onnx import load
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.lower import lower
from mace_cl.passes.pipeline import optimise
from mace_cl.plan import KernelCall, Layout, Plan, Problem, Traits
from mace_cl.schedule import ALIGNMENT
from problems import TRAITS
from support import case, model_of

NET = case(
    "net",
    "c = Conv<pads=[1,1,1,1]>(x, w) d = Conv<pads=[1,1,1,1]>(c, w) e = Conv<pads=[1,1,1,1]>(d, w1, b) y = Relu(e)",
    x=(1, 8, 6, 6), w=(8, 8, 3, 3), w1=(8, 8, 3, 3), b=(8,),
)  # fmt: skip


@pytest.fixture(scope="module")
def plan() -> Plan:
    return lower(optimise(load(model_of(NET).SerializeToString())), Layout(4, 128))


def test_equal_problems_share_a_kernel(plan: Plan) -> None:
    schedule, _ = bind(plan, TRAITS)
    convolutions = [launch for launch in schedule.launches if schedule.kernels[launch.kernel].family == "conv2d"]
    assert len(convolutions) == 3
    assert convolutions[0].kernel == convolutions[1].kernel != convolutions[2].kernel
    assert len({kernel.name for kernel in schedule.kernels}) == len(schedule.kernels)
    assert all(f"void {kernel.name}(" in kernel.source for kernel in schedule.kernels)


def test_equal_weights_are_packed_once_for_a_kernel(plan: Plan) -> None:
    schedule, _ = bind(plan, TRAITS)
    first, second, third = (launch.args[1] for launch in schedule.launches if len(launch.args) > 2)
    assert first == second
    assert first != third


def test_equal_weights_of_different_constants_are_packed_once() -> None:
    one, same = NET.values["w"], NET.values["w"].copy()
    almost = one.copy()
    almost[-1, -1, -1, -1] *= -1
    net = case(
        "net", "c = Conv<pads=[1,1,1,1]>(x, w) d = Conv<pads=[1,1,1,1]>(c, w1) y = Conv<pads=[1,1,1,1]>(d, w2)",
        x=(1, 8, 6, 6), w=one, w1=same, w2=almost,
    )  # fmt: skip
    schedule, constants = bind(lower(optimise(load(model_of(net).SerializeToString())), Layout(4, 128)), TRAITS)
    first, second, third = (launch.args[1] for launch in schedule.launches if len(launch.args) > 2)
    assert first == second != third
    assert constants.nbytes == -(-first.size // ALIGNMENT) * ALIGNMENT + -(-third.size // ALIGNMENT) * ALIGNMENT


def test_constants(plan: Plan) -> None:
    schedule, constants = bind(plan, TRAITS)
    assert constants.nbytes == schedule.constant_bytes
    assert constants.ctypes.data % ALIGNMENT == 0
    slots = {slot for launch in schedule.launches for slot in launch.args if slot.space == "constants"}
    ends = 0
    for slot in sorted(slots, key=lambda slot: slot.offset):
        assert slot.offset % ALIGNMENT == 0
        assert slot.offset >= ends
        ends = slot.offset + slot.size
    total = sum(np.abs(constants[slot.offset : slot.offset + slot.size].view(np.float32)).sum() for slot in slots)
    np.testing.assert_allclose(total, sum(np.abs(NET.values[name]).sum() for name in ("w", "w1", "b")), rtol=1e-5)


def test_ports(plan: Plan) -> None:
    schedule, _ = bind(plan, TRAITS)
    assert [(port.name, port.dtype, port.shape) for port in schedule.inputs] == [("x", "float32", (1, 8, 6, 6))]
    assert [(port.name, port.shape, port.slot and port.slot.size) for port in schedule.outputs] == [
        ("y", (1, 8, 6, 6), 8 * 36 * 4)
    ]
    assert schedule.build_options == BUILD_OPTIONS


def test_the_same_each_time(plan: Plan) -> None:
    again = lower(optimise(load(model_of(NET).SerializeToString())), Layout(4, 128))
    (first, one), (second, other) = bind(plan, TRAITS), bind(again, TRAITS)
    assert first == second
    np.testing.assert_array_equal(one, other)


def test_parameters_are_chosen(plan: Plan) -> None:
    def choose(problem: Problem, traits: Traits) -> dict[str, int]:
        assert traits is TRAITS
        parameters = problem.default(traits)
        return parameters | {"tile": 1, "blocks": 1} if isinstance(problem, Conv2D) else parameters

    schedule, _ = bind(plan, TRAITS, choose)
    for kernel in schedule.kernels:
        if kernel.family == "conv2d":
            assert dict(kernel.parameters)["tile"] == 1


def test_options_keep_nan_and_infinity() -> None:
    for option in ("-cl-fast-relaxed-math", "-cl-finite-math-only", "-cl-unsafe-math-optimizations"):
        assert option not in BUILD_OPTIONS


def test_a_wrong_plan_is_not_bound(plan: Plan) -> None:
    last = plan.calls[-1]
    assert isinstance(last, KernelCall)
    broken = replace(last, result=replace(last.result, size=1 << 30))
    with pytest.raises(ValueError, match="outside its buffer"):
        bind(replace(plan, calls=(*plan.calls[:-1], broken)), TRAITS)
