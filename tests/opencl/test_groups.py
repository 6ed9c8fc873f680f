"""Kernels as GPUs get them, in groups of many work-items and with 4 channels in a vector, answer the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from conformance.test_channels import CASES as CHANNELS
from conformance.test_fusion import CASES as FUSION
from conformance.test_ops import FAMILIES
from mace_cl.bind import bind
from mace_cl.compiler import traits_of
from mace_cl.device import Device
from mace_cl.frontends.read import load
from mace_cl.kernels.groups import ITEMS, grouped
from mace_cl.lower import direct, lower, with_algorithms
from mace_cl.passes.pipeline import optimise
from mace_cl.plan import Layout, Rendered
from mace_cl.runtime.build import build_source, split
from mace_cl.runtime.executor import Executor
from opencl.test_kernels import WINOGRAD
from support import Case, difference, model_of, reference

GROUPS: Mapping[str, Sequence[Case]] = {**FAMILIES, "channels": CHANNELS, "fusion": FUSION, "winograd": WINOGRAD}


@pytest.mark.parametrize("group", GROUPS)
def test_groups_answer_as_the_reference(device: Device, context: Any, group: str) -> None:
    traits = replace(traits_of(device), is_cpu=False, vector_registers=32)
    algorithm = (lambda problem: 2) if group == "winograd" else direct
    for opset in sorted({one.opset for one in GROUPS[group]}):
        cases = [one for one in GROUPS[group] if one.opset == opset]
        model = model_of(*cases)
        plan = lower(optimise(load(model.SerializeToString())), Layout(4, max(128, device.base_align)))
        schedule, constants = bind(with_algorithms(plan, algorithm), traits)
        for launch in schedule.launches:
            assert 1 <= np.prod(launch.local_size) <= ITEMS
            assert launch.global_size == (1, 1, 1) or max(launch.local_size) > 1
        programs = [(kernels, build_source(context, schedule, kernels)) for kernels in split(device, schedule, 1)]
        inputs: dict[str, Any] = {}
        for one in cases:
            prefix = f"{one.name}/" if len(cases) > 1 else ""
            inputs |= {prefix + name: array for name, array in one.inputs.items()}
        with Executor(device, context, schedule, programs, constants) as executor:
            got = executor.run(inputs)
        for name, wanted in reference(model, inputs).items():
            assert difference(got[name], wanted) < 2e-4, name


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
    source = "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\nvoid k(__global float *y) {\n  y[0] = 1;\n}\n"
    made = grouped(Rendered(source, grid))
    assert (made.local_size, made.global_size) == (local, total)
    assert f"reqd_work_group_size({local[0]}, {local[1]}, {local[2]})" in made.source
    assert ("return;" in made.source) == (grid != total)


def test_a_kernel_with_groups_of_its_own_stays() -> None:
    own = Rendered("__kernel void k() {}", (64, 1, 1), (64, 1, 1))
    assert grouped(own) is own
