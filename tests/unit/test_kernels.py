"""Templates without a device: packing, tiles, strides, and that rendering is a pure function."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mace_cl.kernels as kernels
from mace_cl.kernels.base import Code, ceil_div, pad_to, tile_starts
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.elementwise import Access, contiguous, merge
from mace_cl.kernels.views import blocked_floats, view
from mace_cl.kernels.windows import Window, tile_classes
from mace_cl.plan import Problem
from problems import PROBLEMS, TRAITS


@pytest.mark.parametrize("name", PROBLEMS)
def test_rendering_is_pure_and_whole(name: str) -> None:
    problem = PROBLEMS[name]
    parameters = problem.default(TRAITS)
    assert parameters == problem.default(TRAITS)
    first, second = problem.render("entry", parameters), problem.render("entry", parameters)
    assert first == second
    assert first.source.count("__kernel ") == 1
    assert "void entry(" in first.source
    assert first.source.count("{") == first.source.count("}")
    assert min(first.global_size) >= 1
    assert problem.flops >= 0
    renamed = problem.render("another", parameters).source
    assert renamed.replace("another", "entry") == first.source


def test_every_family_has_a_problem() -> None:
    import pkgutil

    families = {problem.family for problem in PROBLEMS.values()}
    shared = {"base", "epilogue", "groups", "halves", "types", "views", "windows"}
    for module in pkgutil.iter_modules(kernels.__path__):
        assert module.name in shared or any(
            family.startswith(module.name.removesuffix("2d")) or module.name.startswith(family) for family in families
        ), f"no problem of kernels/{module.name}.py in tests/problems.py"


@pytest.mark.parametrize("name", PROBLEMS)
def test_problems_are_told_apart(name: str) -> None:
    same = [other for other, problem in PROBLEMS.items() if problem == PROBLEMS[name]]
    assert same == [name]
    assert len({hash(problem) for problem in PROBLEMS.values()}) == len(PROBLEMS)


@pytest.mark.parametrize(
    "problem",
    [
        PROBLEMS["conv2d_3x3"],
        PROBLEMS["conv2d_rgb"],
        PROBLEMS["conv2d_rows"],
        Conv2D(16, 1, (64, 128), Window((28, 28), (28, 28), (3, 3), pads=(1, 1)), groups=2),
        PROBLEMS["depthwise"],
        DepthwiseConv2D(8, 1, 24, Window((14, 14), (7, 7), (3, 3), (2, 2), (1, 1))),
    ],
)
def test_space(problem: Conv2D | DepthwiseConv2D) -> None:
    """The default is a point of the space; every point renders, and packs weights that are all used once."""
    space = list(problem.space(TRAITS))
    assert problem.default(TRAITS) in space
    assert len({tuple(point.items()) for point in space}) == len(space)
    for point in space[:: max(1, len(space) // 8)]:
        assert problem.render("entry", point).source


def shape_of_weights(problem: Conv2D) -> tuple[int, ...]:
    return (problem.channels[1], problem.channels[0] // problem.groups, *problem.window.kernel)


@pytest.mark.parametrize(
    "problem",
    [
        PROBLEMS["conv2d_3x3"],
        PROBLEMS["conv2d_rgb"],
        PROBLEMS["conv2d_rows"],
        Conv2D(4, 1, (7, 13), Window((4, 4), (4, 4), (1, 1))),
        Conv2D(4, 1, (16, 24), Window((4, 4), (4, 4), (1, 1)), groups=2),
    ],
)
def test_packed_weights(problem: Conv2D) -> None:
    """Each weight is there once, what was added is zero, and the size does not hang on the values."""
    weights = np.arange(1, 1 + np.prod(shape_of_weights(problem)), dtype=np.float32).reshape(shape_of_weights(problem))
    for point in problem.space(TRAITS):
        packed = problem.pack(1, weights, point)
        assert packed.dtype == np.float32
        assert sorted(packed[packed != 0].tolist()) == weights.ravel().tolist()
        assert packed.size % problem.c == 0


def test_packed_depthwise_weights() -> None:
    problem = DepthwiseConv2D(4, 1, 6, Window((5, 7), (5, 7), (3, 3), pads=(1, 1)))
    weights = np.arange(1, 55, dtype=np.float32).reshape(6, 1, 3, 3)
    packed = problem.pack(1, weights, {}).reshape(2, 9, 4)
    for channel, tap in itertools.product(range(6), range(9)):
        assert packed[channel // 4, tap, channel % 4] == weights[channel, 0, tap // 3, tap % 3]
    assert not packed[1, :, 2:].any()


@pytest.mark.parametrize(
    "name", [name for name in PROBLEMS if name.startswith(("pool", "reduce", "reorder", "softmax"))]
)
def test_kernels_without_constants_refuse_to_pack(name: str) -> None:
    with pytest.raises(AssertionError, match="is not a constant of this kernel"):
        PROBLEMS[name].pack(0, np.zeros(3, np.float32), {})


@given(st.integers(1, 60), st.integers(1, 60))
def test_tiles_cover_a_row(length: int, tile: int) -> None:
    tile = min(tile, length)
    starts = tile_starts(length, tile)
    assert {start + pixel for start in starts for pixel in range(tile)} == set(range(length))
    assert len(starts) == ceil_div(length, tile)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    size, kernel = draw(st.integers(1, 20)), draw(st.integers(1, 5))
    stride, dilation, pad, end = (draw(st.integers(low, high)) for low, high in ((1, 3), (1, 3), (0, 4), (0, 4)))
    reach = (kernel - 1) * dilation + 1
    size = max(size, reach - pad - end)
    output = (size + pad + end - reach) // stride + 1
    return Window((size, size), (output, output), (kernel, kernel), (stride, stride), (pad, pad), (dilation, dilation))


@given(windows(), st.integers(1, 8))
def test_tile_classes(window: Window, tile: int) -> None:
    """Each tile is in one class, and its class says which columns of the window lie in the image."""
    tile = min(tile, window.output[1])
    starts = tile_starts(window.output[1], tile)
    classes = tile_classes(window, tile)
    assert sorted(member for one in classes for member in one.members) == list(range(len(starts)))
    for one in classes:
        for member, k, pixel in itertools.product(one.members, range(window.kernel[1]), range(tile)):
            column = (starts[member] + pixel) * window.strides[1] + k * window.dilations[1] - window.pads[1]
            assert one.valid[k][pixel] == (0 <= column < window.input[1])
        inside = {(k, pixel) for k in range(window.kernel[1]) for pixel in range(tile) if one.valid[k][pixel]}
        by_column = [itertools.product(range(*columns), range(*pixels)) for columns, pixels in one.columns()]
        by_pixel = [itertools.product(range(*columns), range(*pixels)) for pixels, columns in one.pixels()]
        assert sorted(itertools.chain(*by_column)) == sorted(itertools.chain(*by_pixel)) == sorted(inside)
        condition = one.condition().removeprefix("if ").replace("||", "or").replace("&&", "and")
        assert [tile for tile in range(len(starts)) if eval(condition, {"tile": tile})] == list(one.members)


@given(windows())
def test_row_bounds(window: Window) -> None:
    """The C text of the bounds, run as Python, gives the rows of the window inside the image."""
    for oh in range(window.output[0]):
        names: dict[str, int] = {"oh": oh}
        for line in window.row_bounds():
            for name, text in re.findall(r"(\w+) = ([^,;]+)", line):
                condition, _, choice = text.partition(" ? ")
                if choice:
                    yes, _, no = choice.partition(" : ")
                    text = f"({yes}) if ({condition}) else ({no})"
                # C rounds towards zero, and these are never negative where that matters
                names[name] = int(eval(text, {}, dict(names)) if "/" not in text else _divided(text, names))
        inside = [k for k in range(window.kernel[0]) if 0 <= names["top"] + k * window.dilations[0] < window.input[0]]
        assert list(range(names["k0"], names["k1"])) == inside


def _divided(text: str, names: dict[str, int]) -> int:
    return int(eval(text.replace("/", "//"), {}, dict(names)))


@st.composite
def index_spaces(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[Access, ...]]:
    dims = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    steps = st.integers(-6, 12)
    accesses = [Access(contiguous(dims), draw(st.integers(0, 9)))]
    for _ in range(draw(st.integers(1, 2))):
        kind = draw(st.sampled_from(["any", "dense", "broadcast"]))
        strides = contiguous(dims) if kind != "any" else tuple(draw(steps) for _ in dims)
        if kind == "broadcast":
            strides = tuple(0 if draw(st.booleans()) else step for step in strides)
        accesses.append(Access(strides, draw(st.integers(0, 9))))
    return dims, tuple(accesses)


def addresses(dims: tuple[int, ...], access: Access) -> list[int]:
    points = itertools.product(*(range(size) for size in dims))
    return [access.offset + sum(i * step for i, step in zip(point, access.strides, strict=True)) for point in points]


@given(index_spaces())
def test_merged_dimensions_visit_the_same_addresses(space: tuple[tuple[int, ...], tuple[Access, ...]]) -> None:
    dims, accesses = space
    fewer, merged = merge(dims, accesses)
    assert len(fewer) <= max(1, len(dims))
    for before, after in zip(accesses, merged, strict=True):
        assert addresses(fewer, after) == addresses(dims, before)


def test_merging_reaches_one_dimension() -> None:
    dense = Access(contiguous((2, 3, 4)))
    assert merge((2, 3, 4), (dense, dense)) == ((24,), (Access((1,)), Access((1,))))


@pytest.mark.parametrize("layout", ["blocked", "nchw", "nhwc"])
def test_views(layout: str) -> None:
    """Every element of a tensor has a place of its own inside the buffer."""
    c, channels, height, width = 4, 6, 3, 5
    one = view(layout, c, channels, height, width)
    places = {
        n * one.image + ch // c * one.block + ch % c * one.channel + row * one.row + column * one.column
        for n, ch, row, column in itertools.product(range(2), range(channels), range(height), range(width))
    }
    assert len(places) == 2 * channels * height * width
    room = blocked_floats(c, 2, channels, height, width) if layout == "blocked" else len(places)
    assert min(places) == 0
    assert max(places) < room


def test_unknown_layout() -> None:
    with pytest.raises(ValueError, match="unknown layout 'chwn'"):
        view("chwn", 4, 4, 4, 4)


@given(st.integers(0, 9), st.integers(1, 9))
def test_pad_to(length: int, multiple: int) -> None:
    padded = pad_to(np.ones((2, length)), 1, multiple)
    assert padded.shape[1] == ceil_div(length, multiple) * multiple
    assert padded.sum() == 2 * length


def test_code_indents() -> None:
    code = Code()
    with code.block("if (x)"):
        code.add("a;", "", "b;")
    assert code.text() == "if (x) {\n  a;\n\n  b;\n}\n"


def test_flops_count_multiply_adds_twice() -> None:
    conv: Problem = Conv2D(4, 2, (8, 12), Window((5, 5), (3, 3), (3, 3)), groups=1)
    assert conv.flops == 2 * 2 * 12 * 9 * 8 * 9
