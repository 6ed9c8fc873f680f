"""Kernels that differ in numbers alone become one text, from which each is found again."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.windows import Window
from mace_cl.plan import Traits
from mace_cl.runtime.alike import Alike, alike, kind
from mace_cl.schedule import Kernel

TRAITS = Traits(2, 32, 1 << 20, True)


def rendered(problem: Conv2D | DepthwiseConv2D, number: int, **parameters: int) -> Kernel:
    name = f"{problem.family}_{number}"
    text = problem.render(name, problem.default(TRAITS) | parameters).source
    return Kernel(name, problem.family, text, ())


def conv(channels: tuple[int, int], side: int = 28) -> Conv2D:
    return Conv2D(8, 1, channels, Window((side, side), (side, side), (3, 3), pads=(1, 1)))


def again(one: Alike, index: int, name: str) -> str:
    """The text of a kernel from the common one."""
    at = one.kernels.index(index)
    text = re.sub(rf"\b{one.name}", name, one.text)
    return re.sub(r"\bnumber\d+\b", lambda found: str(one.numbers[found[0]][at]), text)


CONVOLUTIONS = {
    7: rendered(conv((32, 32)), 7, tile=4, blocks=2, channels_first=0),
    8: rendered(conv((32, 64)), 8, tile=4, blocks=2, channels_first=0),
    12: rendered(conv((64, 64)), 12, tile=4, blocks=2, channels_first=0),
}
OTHERS = {
    1: rendered(conv((32, 32)), 1, tile=6, blocks=2, channels_first=0),
    2: rendered(conv((32, 32)), 2, tile=4, blocks=2, channels_first=1),
    3: rendered(DepthwiseConv2D(8, 1, 32, Window((28, 28), (28, 28), (3, 3), pads=(1, 1))), 3),
    4: rendered(DepthwiseConv2D(8, 1, 96, Window((28, 28), (28, 28), (3, 3), pads=(1, 1))), 4),
}


def test_each_kernel_is_found_again() -> None:
    kernels = CONVOLUTIONS | OTHERS
    groups = list(alike(kernels))
    assert sorted(index for one in groups for index in one.kernels) == sorted(kernels)
    assert (7, 8, 12) in [one.kernels for one in groups]
    assert (3, 4) in [one.kernels for one in groups]
    for one in groups:
        for index in one.kernels:
            assert again(one, index, kernels[index].name) == kernels[index].source


def test_equal_columns_of_numbers_are_one() -> None:
    (one,) = alike(CONVOLUTIONS)
    assert one.name == "conv2d_7"
    assert len(set(one.numbers.values())) == len(one.numbers)
    assert all(len(set(numbers)) > 1 for numbers in one.numbers.values())


def test_a_kernel_alone_keeps_its_text() -> None:
    (one,) = alike({4: OTHERS[1]})
    assert (one.name, one.text, one.kernels, dict(one.numbers)) == ("conv2d_1", OTHERS[1].source, (4,), {})


def kernel(body: str, family: str = "conv2d", name: str = "k") -> Kernel:
    return Kernel(name, family, f"void {name}() {{ {body} }}", ())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("int a[4];", "int a[5];"),  # a size
        ("\n#pragma unroll\nfor (int t = 0; t < 4; ++t)\n", "\n#pragma unroll\nfor (int t = 0; t < 5; ++t)\n"),
        ("get_global_id(0);", "get_global_id(1);"),  # text that sequences replace
        ("a = 1.5f;", "a = 2.5f;"),
        ("a = 1e-5f;", "a = 1e-6f;"),
        ("a = 0x10;", "a = 0x11;"),
        ("float4 a;", "float8 a;"),
        ("a.s1;", "a.s2;"),
        ("a = 1000000000;", "a = 9999999999;"),  # no int
    ],
)
def test_what_has_to_be_literal_stays_so(one: str, other: str) -> None:
    assert kind(kernel(one)) != kind(kernel(other))


def test_names_that_make_texts_alike_by_accident() -> None:
    """As a damaged file may have them: without its name the first reads as the second does without its number."""
    one, other = Kernel("k", "conv2d", "void k() { a = k; }", ()), Kernel("m", "conv2d", "void m() { a = 1; }", ())
    assert kind(one) == kind(other)
    assert [found.kernels for found in alike({0: one, 1: other})] == [(0,), (1,)]


def test_tables_before_a_kernel_are_its_own() -> None:
    """A gather's offsets stand outside of all functions."""
    texts = [
        f"__constant int k_offset[] = {{{table}}};\nvoid k() {{ a = {number}; }}" for table, number in ((1, 2), (3, 4))
    ]
    one, other = (Kernel("k", "conv2d", text, ()) for text in texts)
    assert kind(one) != kind(other)
    assert kind(one) == kind(replace(one, source=one.source.replace("a = 2", "a = 5")))


def test_other_families_are_alike_only_if_they_are_equal() -> None:
    """Their numbers divide for each element."""
    one, other = kernel("a = b / 3;", "map"), kernel("a = b / 5;", "map", "m")
    assert [found.kernels for found in alike({0: one, 1: other})] == [(0,), (1,)]
    assert [found.kernels for found in alike({0: one, 1: replace(other, source=one.source, name="k")})] == [(0, 1)]
