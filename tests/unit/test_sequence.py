"""Kernels in sequence: the text, the table of launches, and how kernels are parted into units."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mace_cl.device import Device
from mace_cl.errors import BuildError
from mace_cl.runtime import sequence
from mace_cl.runtime.build import split
from mace_cl.schedule import Kernel, Launch, Schedule, Slot

HEAD = "__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\n"


def device(runtime: str) -> Device:
    return Device(0, runtime, "", runtime, usable=True, reason="", kind="cpu")


def kernel(number: int, arguments: str = "__global const float *restrict x, __global float *restrict y") -> Kernel:
    body = "{ y[get_global_id(1)] = x[get_global_id(0)]; }\n"
    return Kernel(f"copy_{number}", "copy", f"#define C {number}\n{HEAD}void copy_{number}({arguments}) {body}", ())


def schedule(kernels: int, shares: int = 2) -> Schedule:
    x, y, w = Slot("arena", 0, 64), Slot("arena", 1024, 64), Slot("constants", 2048, 64)
    launches = tuple(
        Launch(number, (3, 5, 7), (1, 1, 1), (w, x) if number % 2 else (x, y), "n") for number in range(kernels)
    )
    return Schedule((), (), tuple(map(kernel, range(kernels))), launches, 2048, 4096, "", shares=shares)


def test_kernels_become_functions_of_one_kernel() -> None:
    text = sequence.source(schedule(3), (1, 2))
    assert text.count("__kernel") == 1
    assert "get_global_id" not in text
    assert "void copy_1(const int id0, const int id1, const int id2, __global const float *restrict x, " in text
    assert "copy_1(item % columns, item / columns % rows, item / columns / rows, (__global const float *)" in text
    assert "case 0:" not in text
    assert "case 1:" in text
    assert "case 2:" in text
    assert "copy_0" not in text


def test_launches_are_a_function_out_of_line() -> None:
    """PoCL compiles what is inlined into a kernel once for each way to enqueue it."""
    text = sequence.source(schedule(2), (0, 1))
    function, kernel = text.split("static __attribute__((noinline))\n")[1].split("__kernel")
    assert function.startswith("void launches(")
    assert "copy_0(" in function
    assert "copy_1(" in function
    assert "launches(first, last, " in kernel
    assert "copy_" not in kernel


def alike(number: int, factor: int = 1) -> Kernel:
    """Kernels that differ in their factors alone."""
    text = kernel(number).source.replace(f"#define C {number}\n", "").replace("= x", f"= {factor} * x")
    return Kernel(f"copy_{number}", "conv2d", text, ())


def test_kernels_that_differ_in_numbers_are_one_function() -> None:
    made = replace(schedule(4), kernels=tuple(alike(number, 7 + number // 2) for number in range(4)))
    text = sequence.source(made, (0, 2, 3))
    assert "void copy_0(const int id0, const int id1, const int id2, const int number0, __global const float *" in text
    assert "y[id1] = number0 * x[id0]" in text
    assert "case 0:\n        case 2:\n        case 3:\n" in text
    assert "const int number0 = row[0] == 0 ? 7 : row[0] == 2 ? 8 : 8;" in text
    assert "copy_0(item % columns, item / columns % rows, item / columns / rows, number0, (__global" in text
    assert "void copy_2(" not in text


def test_units_have_the_same_text_when_kernels_alike_are_one() -> None:
    plain = schedule(10)
    assert split(plain, 2) == [tuple(range(5)), tuple(range(5, 10))]
    kernels = tuple(alike(at, at) if at >= 4 else one for at, one in enumerate(plain.kernels))
    assert split(replace(plain, kernels=kernels), 2) == [(0, 1, 2), tuple(range(3, 10))]


def test_a_sequence_takes_the_attributes_of_its_kernels() -> None:
    hint = "reqd_work_group_size(1, 1, 1), vec_type_hint(float16)"
    kernels = tuple(
        replace(one, source=one.source.replace("reqd_work_group_size(1, 1, 1)", hint)) for one in schedule(2).kernels
    )
    assert f"__kernel __attribute__(({hint}))\nvoid sequence_" in sequence.source(
        replace(schedule(2), kernels=kernels), (0, 1)
    )


@pytest.mark.parametrize(
    "source", ["", "__kernel void copy_0(__global float *y) {}", kernel(1).source, HEAD.replace("1, 1, 1", "8, 1, 1")]
)
def test_a_text_that_no_template_makes_is_refused(source: str) -> None:
    odd = schedule(1)
    with pytest.raises(BuildError, match="copy_0 does not begin as one of mace-cl's; compile the model"):
        sequence.source(replace(odd, kernels=(replace(odd.kernels[0], source=source),)), (0,))


def test_a_row_tells_where_arguments_lie() -> None:
    rows = sequence.table(schedule(3))
    assert rows.tolist() == [
        [0, 105, 3, 5, 0, 2048],
        [1, 105, 3, 5, 4097, 0],
        [2, 105, 3, 5, 0, 2048],
    ]


def test_arguments_are_counted_in_the_text() -> None:
    assert sequence.arguments(kernel(0).source, "copy_0") == 2
    assert sequence.arguments(kernel(0, "__global float *restrict y").source, "copy_0") == 1
    assert sequence.arguments(kernel(0).source, "copy_1") == 0


@pytest.mark.parametrize("count", [1, 2, 9, 16, 17, 40, 131])
@pytest.mark.parametrize("jobs", [1, 2, 5])
def test_units_of_sequences_are_neighbours(count: int, jobs: int) -> None:
    units = split(schedule(count), jobs)
    assert [index for unit in units for index in unit] == list(range(count))
    assert len(units) == (1 if count <= 8 else jobs)


def test_units_without_sequences_are_as_many_as_jobs() -> None:
    units = split(schedule(40, shares=0), 3)
    assert len(units) == 3
    assert sorted(index for unit in units for index in unit) == list(range(40))


@pytest.mark.parametrize("shares", [-1, 65])
def test_shares_are_bounded(shares: int) -> None:
    with pytest.raises(ValueError, match=f"in {shares} shares"):
        schedule(1, shares).check()


def test_a_sequence_takes_no_larger_groups() -> None:
    whole = schedule(1)
    odd = replace(whole, launches=(replace(whole.launches[0], global_size=(8, 1, 1), local_size=(8, 1, 1)),))
    replace(odd, shares=0).check()
    with pytest.raises(ValueError, match=r"launch 0 .* in a sequence"):
        odd.check()


def test_a_sequence_counts_in_an_int() -> None:
    whole = schedule(1)
    odd = replace(whole, launches=(replace(whole.launches[0], global_size=(1 << 16, 1 << 15, 1)),))
    replace(odd, shares=0).check()
    with pytest.raises(ValueError, match=r"launch 0 .* counts to 2147483647"):
        odd.check()
