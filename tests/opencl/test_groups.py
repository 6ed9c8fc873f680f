"""Kernels as GPUs get them answer the same: in groups of many work-items, with local memory and with images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.test_channels import CASES as CHANNELS
from conformance.test_fusion import CASES as FUSION
from conformance.test_ops import FAMILIES
from mace_cl.device import Device
from mace_cl.errors import DeviceError
from mace_cl.kernels.base import ALONE
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.groups import grouped, shapes, usual
from mace_cl.kernels.windows import Window
from mace_cl.lower import direct
from mace_cl.plan import Problem, Rendered, Traits
from opencl.test_halves import TOKENS, rounded
from opencl.test_kernels import PARAMETERS, WINOGRAD
from support import Case, case, difference, filled, model_of, reference, start_with

GROUPS: Mapping[str, Sequence[Case]] = {**FAMILIES, "channels": CHANNELS, "fusion": FUSION, "winograd": WINOGRAD}

GPU = Traits(
    cores=4, vector_registers=16, near_cache=1 << 20, is_cpu=False, local_memory=1 << 15, texels=1 << 16, group=256
)

DEEP = [
    *PARAMETERS,
    case("parts", "a = Conv(x, w, b) y = Relu(a)", x=(2, 301, 6, 5), w=filled("w", (37, 301, 1, 1)) / 8, b=(37,)),
    case("deep_rows", "m = MatMul(x, w) y = Add(m, b)", x=(3, 70, 300), w=filled("w", (300, 90)) / 8, b=(90,)),
    case("short_rows", "y = Gemm<transB=1>(x, w, b)", x=(5, 10), w=(3, 10), b=(3,)),
    case("residual", "a = Conv(x, w) s = Add(a, x) g = Sigmoid(s) y = Mul(g, s)", x=(2, 24, 7, 3), w=(24, 24, 1, 1)),
]
"""Products over more channels than are summed at once, over parts of blocks and with something behind."""


def shaped(**wanted: int) -> Any:
    """Chooses parameters with these values, the widest tile first; by the rule where a kernel has none such."""

    def choose(problem: Problem, traits: Traits) -> dict[str, int]:
        if not isinstance(problem, Conv2D):
            return problem.default(traits)
        fit = [one for one in problem.space(traits) if all(one.get(name, 0) == at for name, at in wanted.items())]
        return max(fit, key=lambda one: one["tile"], default=problem.default(traits))

    return choose


@pytest.mark.parametrize("group", GROUPS)
def test_groups_answer_as_the_reference(device: Device, context: Any, group: str) -> None:
    algorithm = (lambda problem: 2) if group == "winograd" else direct
    for opset in sorted({one.opset for one in GROUPS[group]}):
        cases = [one for one in GROUPS[group] if one.opset == opset]
        model = model_of(*cases)
        executor = start_with(device, context, model, block=4, algorithm=algorithm, traits=replace(GPU, texels=0))
        for launch in executor.schedule.launches:
            assert 1 <= np.prod(launch.local_size) <= GPU.group
            assert launch.global_size == (1, 1, 1) or max(launch.local_size) > 1
        inputs: dict[str, Any] = {}
        for one in cases:
            prefix = f"{one.name}/" if len(cases) > 1 else ""
            inputs |= {prefix + name: array for name, array in one.inputs.items()}
        with executor:
            got = executor.run(inputs)
        for name, wanted in reference(model, inputs).items():
            assert difference(got[name], wanted) < 2e-4, name


@pytest.mark.parametrize(
    ("local", "across", "group", "block"), [(1, 4, 64, 4), (4, 8, 128, 4), (8, 32, 64, 4), (2, 16, 64, 8)]
)
@pytest.mark.parametrize("one", [*DEEP, *WINOGRAD[:2]], ids=str)
def test_local_memory(
    device: Device, context: Any, one: Case, local: int, across: int, group: int, block: int
) -> None:  # fmt: skip
    choose = shaped(local=local, across=across, group=group)
    algorithm = (lambda problem: 4) if one in WINOGRAD else direct
    executor = start_with(
        device, context, model_of(one), block=block, algorithm=algorithm, choose=choose, traits=GPU
    )  # fmt: skip
    shared = ["barrier" in kernel.source for kernel in executor.schedule.kernels if kernel.family == "conv2d"]
    assert all(shared) == (one.name not in ("conv", "rgb"))
    with executor:
        got = executor.run(one.inputs)
    for name, expected in one.expected.items():
        assert difference(got[name], expected) <= 5e-5, name


def test_local_memory_of_halves(device: Device, context: Any) -> None:
    halves, _ = rounded(TOKENS, "float16")
    executor = start_with(
        device, context, model_of(halves), block=4, choose=shaped(local=4, across=8), traits=GPU
    )  # fmt: skip
    assert any("barrier" in one.source and "vload_half" in one.source for one in executor.schedule.kernels)
    assert not any(one.images for one in executor.schedule.kernels)
    with executor:
        got = executor.run(halves.inputs)
    for name, expected in halves.expected.items():
        assert difference(got[name].astype(np.float32), expected.astype(np.float32)) <= 9 * 2.0**-11, name


@pytest.mark.parametrize("local", [0, 4])
@pytest.mark.parametrize("one", [*DEEP, *WINOGRAD[:1]], ids=str)
def test_weights_as_images(device: Device, context: Any, one: Case, local: int) -> None:
    if not device.image_texels:
        with pytest.raises(DeviceError, match=r"an image of .* texels is wanted, but it has 0"):
            start_with(device, context, model_of(DEEP[0]), block=4, choose=shaped(image=1), traits=GPU)
        return
    algorithm = (lambda problem: 2) if one in WINOGRAD else direct
    executor = start_with(
        device, context, model_of(one), block=4, algorithm=algorithm, choose=shaped(image=1, local=local), traits=GPU
    )  # fmt: skip
    images = [kernel.images for kernel in executor.schedule.kernels if kernel.family == "conv2d"]
    assert images or "depthwise" in one.name
    assert all(images) or (local and one.name in ("conv", "rgb"))
    with executor:
        got = executor.run(one.inputs)
    for name, expected in one.expected.items():
        assert difference(got[name], expected) <= 5e-5, name


@pytest.mark.parametrize(
    ("grid", "local", "total"),
    [
        ((1, 1, 1), (1, 1, 1), (1, 1, 1)),
        ((100, 3, 7), (64, 1, 1), (128, 3, 7)),
        ((5, 3, 7), (8, 4, 2), (8, 4, 8)),
        ((1, 200, 3), (1, 64, 1), (1, 256, 3)),
        ((3, 1, 1000), (4, 1, 16), (4, 1, 1008)),
    ],
)
def test_shape_of_a_group(grid: tuple[int, int, int], local: tuple[int, int, int], total: tuple[int, int, int]) -> None:
    source = f"__kernel __attribute__(({ALONE}))\nvoid k(__global float *y) {{\n  y[0] = 1;\n}}\n"
    made = grouped(Rendered(source, grid))
    assert (made.local_size, made.global_size) == (local, total)
    assert f"reqd_work_group_size({local[0]}, {local[1]}, {local[2]})" in made.source
    assert ("return;" in made.source) == (grid != total)


def test_a_kernel_with_groups_of_its_own_stays() -> None:
    own = Rendered("__kernel void k() {}", (64, 1, 1), (64, 1, 1))
    assert grouped(own) is own


@pytest.mark.parametrize(("most", "sizes"), [(1024, [64, 128, 256]), (128, [64, 128]), (48, [32]), (1, [1])])
def test_sizes_of_groups_fit_the_device(most: int, sizes: list[int]) -> None:
    assert usual(replace(GPU, group=most)) == sizes[0]
    assert [one["group"] for one in shapes(replace(GPU, group=most))] == sizes


def test_the_space_asks_what_a_gpu_has() -> None:
    problem = Conv2D(4, 1, (256, 256), Window((28, 28), (28, 28), (1, 1)))
    whole = list(problem.space(GPU))
    assert any(one.get("local") for one in whole)
    assert any(one["image"] for one in whole)
    assert not any(one.get("local") for one in problem.space(replace(GPU, local_memory=0)))
    assert not any(one["image"] for one in problem.space(replace(GPU, texels=(256 * 256 // 4) - 1)))
    assert not any(one["image"] for one in replace(problem, c=8).space(GPU))
    assert set(problem.default(traits_of_cpu())) == {"tile", "blocks", "channels_first"}
    for one in whole:
        if local := one.get("local", 0):
            rendered = problem.render("k", one)
            assert np.prod(rendered.local_size) == one["group"]
            size = 4 * local * 4 * (one["across"] * one["tile"] + one["group"] // one["across"] * one["blocks"] * 4)
            assert 2 * size <= GPU.local_memory


def traits_of_cpu() -> Traits:
    return Traits(cores=2, vector_registers=32, near_cache=1 << 20, is_cpu=True)
