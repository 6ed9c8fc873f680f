"""Halves: kernels' texts for 16-bit arguments, and which buffers of a plan become such."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.elementwise import Access, Elementwise
from mace_cl.kernels.halves import halved, takes_halves
from mace_cl.kernels.map import Map, Operand
from mace_cl.kernels.softmax import Softmax
from mace_cl.lower import halve, pack
from mace_cl.plan import Buffer, Constant, KernelCall, Layout, Plan, PlanPort, Problem, Region
from problems import PROBLEMS, TRAITS

WHOLE = Access((1,))
SQUARE = Elementwise(4, (512,), (WHOLE, WHOLE))


def text(problem: Problem, name: str) -> tuple[str, int]:
    source = problem.render(name, problem.default(TRAITS)).source
    return source, source.partition(f"void {name}(")[2].partition(")")[0].count(",") + 1


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", [name for name, one in PROBLEMS.items() if not isinstance(one, Map)])
def test_every_family_takes_halves(name: str, kind: str) -> None:
    """Each pointer to halves is used in a known way, or the family says that it can't have one."""
    source, count = text(PROBLEMS[name], name)
    kinds = [kind if takes_halves(PROBLEMS[name], index, count) else "" for index in range(count)]
    made = halved(source, name, kinds)
    assert made.count("__global const float *restrict x") < max(1, source.count("__global const float *restrict x"))
    assert halved(source, name, [""] * count) == source


def test_what_is_not_known_is_refused() -> None:
    source = "__kernel void f(__global const float *restrict x, __global float *restrict y) {\n  g(x);\n}\n"
    with pytest.raises(ValueError, match="the pointer x to halves"):
        halved(source, "f", ["float16", ""])
    mixed = "__kernel void f(__global const float *restrict x, __global float *restrict y) {\n"
    mixed += "  __global const float *restrict p = (x == y ? x : y) + 1;\n}\n"
    with pytest.raises(ValueError, match="bfloat16 and float16"):
        halved(mixed, "f", ["float16", "bfloat16"])


def test_accesses() -> None:
    source = (
        "__kernel void f(__global const float *restrict x, __global float *restrict y) {\n"
        "  __global float *restrict p = y + 3;\n  p[i[2]] = x[1] > 0.0f ? x[1] : 0.0f;\n  (y + 2)[1] = 1.0f;\n"
        "  *(y + 4) = x[x_at];\n  p[2] *= 0.5f;\n}\n"
    )
    assert halved(source, "f", ["float16", "float16"]) == (
        "__kernel void f(__global const half *restrict x, __global half *restrict y) {\n"
        "  __global half *restrict p = y + 3;\n"
        "  vstore_half_rte(vload_half(1, x) > 0.0f ? vload_half(1, x) : 0.0f, i[2], p);\n"
        "  vstore_half_rte(1.0f, 1, (y + 2));\n  vstore_half_rte(vload_half(x_at, x), 0, (y + 4));\n"
        "  vstore_half_rte(vload_half(2, p) * (0.5f), 2, p);\n}\n"
    )


def cast(source: str, target: str, count: int) -> Map:
    return Map("cast", (count,), (Operand(source, WHOLE),), Operand(target, WHOLE), "r = a0;")


def plan(*problems: Problem, count: int = 512, offset: int = 0, halves: bool = True) -> Plan:
    """Problems in a row from a float16 input to a float16 output, each of ``count`` elements."""
    buffers = [
        Buffer("x", 2 * count),
        *(Buffer(f"v{index}", 4 * count + offset, "float16") for index in range(len(problems) + 1)),
    ]
    steps = [Region(0, 0, 2 * count), *(Region(index + 1, offset, 4 * count) for index in range(len(problems) + 1))]
    ends = Region(len(buffers), 0, 2 * count)
    buffers.append(Buffer("y", 2 * count))
    chain = [cast("float16", "float32", count), *problems, cast("float32", "float16", count)]
    calls = [
        KernelCall(problem, (source,), target, "n")
        for problem, source, target in zip(chain, steps, [*steps[1:], ends], strict=True)
    ]
    inputs, outputs = PlanPort("x", "float16", (count,), steps[0]), PlanPort("y", "float16", (count,), ends)
    return Plan(Layout(4, 128, halves=halves), tuple(buffers), (inputs,), (outputs,), tuple(calls))


def test_ports_need_no_conversion() -> None:
    """Neither at the input nor at the output is anything copied."""
    found = halve(plan(SQUARE, SQUARE))
    assert [call.problem.family for call in found.calls if isinstance(call, KernelCall)] == ["elementwise"] * 2
    assert all(call.kinds == ("float16", "float16") for call in found.calls if isinstance(call, KernelCall))
    assert found.calls[0].operands == (found.inputs[0].region,)
    assert found.outputs[0].region == found.calls[-1].results[0]


def test_what_cant_take_halves_stays() -> None:
    """A softmax reads its own results; a region would lose its alignment; a layout is without halves."""
    found = halve(plan(Softmax(4, 1, 512, 1)))
    assert [buffer.size for buffer in found.buffers[1:3]] == [1024, 2048]
    assert found.calls[-1].results[0] == found.outputs[0].region  # the conversion at the end is still there
    small = plan(SQUARE, count=256)  # 1 KiB is what every buffer takes
    assert halve(small) is small
    shifted = plan(SQUARE, offset=128)
    assert [buffer.size for buffer in halve(shifted).buffers] == [buffer.size for buffer in shifted.buffers]
    without = plan(SQUARE, halves=False)
    assert halve(without) is without


def test_constants() -> None:
    weights = Constant("w", np.ones((7, 12, 1, 1), np.float16))
    problem = PROBLEMS["conv2d_rows"]
    assert isinstance(problem, Conv2D)
    call = KernelCall(problem, (Region(0, 0, 64), weights), Region(1, 0, 64), "n", ("", "float16", ""))
    parameters = problem.default(TRAITS)
    assert pack(call, 1, weights.array, parameters).dtype == np.float16
    assert pack(replace(call, kinds=()), 1, weights.array, parameters).dtype == np.float32
