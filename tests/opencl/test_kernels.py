"""Kernels beyond what a device's own rules choose: other channel blocks, other parameters, Winograd on small images."""

from __future__ import annotations

from typing import Any

import pytest

from mace_cl.device import Device, block_for
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.windows import Window
from mace_cl.lower import estimated
from mace_cl.plan import Problem, Traits
from mace_cl.runtime.executor import Executor
from support import MIXED, Case, case, difference, filled, model_of, start_with

TOLERANCE = 1e-5


def check(executor: Executor, one: Case, tolerance: float = TOLERANCE) -> None:
    with executor:
        got = executor.run(one.inputs)
    for name, expected in one.expected.items():
        assert difference(got[name], expected) <= tolerance, name


def check_same(executor: Executor, other: Executor, one: Case) -> None:
    """Both answer right, and alike but for the order of sums."""
    with other:
        wanted = other.run(one.inputs)["y"]
    with executor:
        got = executor.run(one.inputs)["y"]
    assert difference(got, wanted) <= 1e-6
    assert difference(got, one.expected["y"]) <= 5e-5


@pytest.mark.parametrize("block", [4, 8, 16])
def test_block(device: Device, context: Any, block: int) -> None:
    if block > block_for(device) == 8:
        pytest.skip("the quirks table keeps this device from wider blocks, as its compiler crashes on them")
    check(start_with(device, context, model_of(MIXED), block=block), MIXED)


PARAMETERS = [
    case("conv", "y = Conv<pads=[1,1,1,1]>(x, w, b)", x=(2, 24, 7, 11), w=(56, 24, 3, 3), b=(56,)),
    case("rgb", "y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)", x=(1, 3, 9, 15), w=(33, 3, 3, 3), b=(33,)),
    case("pointwise", "y = Conv(x, w)", x=(2, 40, 5, 5), w=(48, 40, 1, 1)),
    case("groups", "y = Conv<group=2>(x, w)", x=(1, 32, 5, 6), w=(96, 16, 1, 1)),
    case("rows", "y = MatMul(x, w)", x=(7, 33), w=(33, 37)),
    case("depthwise", "y = Conv<group=24, pads=[1,1,1,1]>(x, w, b)", x=(2, 24, 9, 13), w=(24, 1, 3, 3), b=(24,)),
    case(
        "depthwise_stride", "y = Conv<group=16, pads=[0,0,2,2], strides=[2,2]>(x, w)", x=(1, 16, 9, 13), w=(16, 1, 5, 5)
    ),
]


@pytest.mark.parametrize("one", PARAMETERS, ids=str)
def test_parameters(device: Device, context: Any, one: Case) -> None:
    """Points from all over a family's space give the same answer."""
    count = 3
    for number in range(count):

        def choose(problem: Problem, traits: Traits, number: int = number) -> dict[str, int]:
            if not isinstance(problem, (Conv2D, DepthwiseConv2D)):
                return problem.default(traits)
            space = list(problem.space(traits))
            return space[number * (len(space) - 1) // (count - 1)]

        check(start_with(device, context, model_of(one), block=block_for(device), choose=choose), one)


def winograd_case(
    name: str, x: tuple[int, ...], outputs: int, pads: str = "1,1,1,1", after: str = "", **extra: Any
) -> Case:
    body = f"c = Conv<pads=[{pads}]>(x, w, b) {after or 'y = Relu(c)'}"
    return case(name, body, x=x, w=filled(name, (outputs, x[1], 3, 3)), b=(outputs,), **extra)


WINOGRAD = [
    winograd_case("even", (1, 16, 8, 8), 32),
    winograd_case("odd", (2, 32, 9, 7), 16),
    winograd_case("unpadded", (1, 16, 7, 6), 16, "0,0,0,0"),
    winograd_case("asymmetric", (1, 16, 6, 7), 16, "2,0,1,2"),
    winograd_case("tiny", (3, 16, 2, 1), 16),
    winograd_case("residual", (2, 16, 6, 5), 16, after="a = Add(c, x) y = Relu(a)"),
    winograd_case("gate", (2, 16, 6, 5), 16, after="g = GlobalAveragePool(x) y = Mul(c, g)"),
]


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize("one", WINOGRAD, ids=str)
def test_winograd(device: Device, context: Any, one: Case, m: int) -> None:
    """On images that are too small to gain from it; its rounding errors are some times larger."""
    executor = start_with(device, context, model_of(one), block=block_for(device), algorithm=lambda problem: m)
    assert "winograd_input" in {kernel.family for kernel in executor.schedule.kernels}
    check(executor, one, 5e-5)


ALONE, SUM, GATE = "y = Relu(c)", "a = Add(c, x) y = Relu(a)", "g = GlobalAveragePool(x) y = Mul(c, g)"


@pytest.mark.parametrize("after", [ALONE, SUM, GATE])
def test_winograd_a_few_images_at_a_time(
    device: Device, context: Any, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:  # fmt: skip
    one = winograd_case("batch", (6, 64, 8, 8), 64, after=after)
    whole = start_with(device, context, model_of(one), block=block_for(device), algorithm=lambda problem: 4)
    monkeypatch.setattr("mace_cl.lower.winograd._TOGETHER", 3 * 4 * 36 * 128 * 4)  # three images of four tiles
    parts = start_with(device, context, model_of(one), block=block_for(device), algorithm=lambda problem: 4)
    families = [parts.schedule.kernels[launch.kernel].family for launch in parts.schedule.launches]
    assert families.count("winograd_input") == families.count("winograd_output") == 2
    assert len(parts.schedule.launches) == len(whole.schedule.launches) + 3
    check_same(parts, whole, one)


@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(
    ("rows", "pads", "after"),
    [
        (32, "1,1,1,1", ALONE), (30, "1,1,1,1", SUM), (31, "0,1,2,1", SUM), (32, "2,0,0,2", SUM), (31, "1,1,1,1", GATE),
        (34, "0,1,0,1", ALONE), (34, "0,1,0,1", GATE),
    ],
)  # fmt: skip
def test_winograd_band_by_band(
    device: Device, context: Any, monkeypatch: pytest.MonkeyPatch, m: int, rows: int, pads: str, after: str
) -> None:
    """Bands at the top, within and at the bottom, whole tiles or not, with and without an operand of the same rows."""
    one = winograd_case("bands", (1, 16, rows, 32), 16, pads, after=after)
    whole = start_with(device, context, model_of(one), block=block_for(device), algorithm=lambda problem: m)
    monkeypatch.setattr("mace_cl.lower.winograd._TOGETHER", (1 << 18) + 1)
    monkeypatch.setattr("mace_cl.lower.winograd._TILES", 8)
    bands = start_with(device, context, model_of(one), block=block_for(device), algorithm=lambda problem: m)
    families = [bands.schedule.kernels[launch.kernel].family for launch in bands.schedule.launches]
    count = families.count("winograd_input")
    assert count == families.count("winograd_output") > 1
    check_same(bands, whole, one)


def test_winograd_keeps_a_batch_whole_that_no_view_can_part(
    device: Device, context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mace_cl.lower.winograd._TOGETHER", 1)
    one = winograd_case("odd_batch", (3, 16, 5, 5), 16)
    executor = start_with(device, context, model_of(one), block=block_for(device), algorithm=lambda problem: 2)
    families = [kernel.family for kernel in executor.schedule.kernels]
    assert families.count("winograd_input") == 1
    check(executor, one, 5e-5)


def test_winograd_is_chosen_only_where_it_can_be() -> None:
    for channels, window in (
        ((17, 16), Window((64, 64), (64, 64), (3, 3), pads=(1, 1))),
        ((16, 17), Window((64, 64), (64, 64), (3, 3), pads=(1, 1))),
        ((64, 64), Window((64, 64), (32, 32), (3, 3), (2, 2), pads=(1, 1))),
        ((64, 64), Window((64, 64), (64, 64), (3, 3), pads=(2, 2), dilations=(2, 2))),
        ((64, 64), Window((64, 64), (64, 64), (5, 5), pads=(2, 2))),
        ((64, 64), Window((4, 4), (2, 2), (3, 3))),
    ):
        assert estimated(Conv2D(16, 1, channels, window)) == 0
    assert estimated(Conv2D(16, 1, (64, 64), Window((56, 56), (56, 56), (3, 3), pads=(1, 1)))) == 4
    large = Window((512, 512), (512, 512), (3, 3), pads=(1, 1))
    assert estimated(Conv2D(16, 1, (16, 32), large)) == 4


def test_winograds_weights_are_weighed_against_its_products() -> None:
    """F(4×4) reads four times the weights: a few tiles do not pay for that."""
    small, medium = (Window((side, side), (side, side), (3, 3), pads=(1, 1)) for side in (7, 13))
    assert estimated(Conv2D(16, 1, (512, 512), small)) == 2
    assert estimated(Conv2D(16, 2, (512, 512), small)) == 4
    assert estimated(Conv2D(16, 1, (512, 1024), medium)) == 4
    single = Window((3, 3), (3, 3), (3, 3), pads=(1, 1))
    assert estimated(Conv2D(16, 1, (512, 512), single)) == 0
