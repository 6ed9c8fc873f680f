"""Which convolutions are computed by Winograd's method, and how: a rewriting of the plan.

Lowering writes each convolution as one direct kernel call.  `with_algorithms` replaces those for which
another algorithm is chosen: transform the input, multiply (m+2)² matrices as one grouped 1×1 convolution,
transform back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from mace_cl.kernels.base import ceil_div
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.windows import Window
from mace_cl.kernels.winograd import WinogradInput, WinogradOutput, transform_weights
from mace_cl.plan import Buffer, Constant, HostCall, KernelCall, Plan, Region

__all__ = ["Algorithm", "direct", "estimated", "possible", "with_algorithms"]

Algorithm = Callable[[Conv2D], int]
"""Gives Winograd's m for a convolution, as `possible` lists them; 0 is the direct kernel."""

_FLOAT = 4

_TRANSFORM_COST = {2: 250, 4: 400}
"""Vector operations that transforming one tile of one channel block costs, loads and stores included."""

_WEIGHT_COST = 16
"""Vector operations in the time in which one vector of weights comes from main memory."""

_VALUE_COST = (0, 10, 20)
"""The same for a vector of transformed values, written by one kernel and read by another: near, shared, main memory."""

_SHARED = 32
"""How many times the near cache the shared one is taken to be: drivers tell the size of the one or of the other."""

_TOGETHER = 8 << 20
"""Bytes of transformed values that some images of a batch, or rows of an image, make before they are read."""

_FEW_WEIGHTS = 1 << 20
"""Bytes of transformed weights that may be read for each band of rows."""

_TILES = 56
"""Tiles that a band must have: the product takes up to 14 at a time, on several cores."""


def possible(problem: Conv2D) -> tuple[int, ...]:
    """What an `Algorithm` may answer."""
    w, c = problem.window, problem.c
    plain = w.kernel == (3, 3) and w.strides == w.dilations == (1, 1) and max(w.pads) <= 2
    blocked = problem.layouts == ("blocked", "blocked") and not (problem.channels[0] % c or problem.channels[1] % c)
    return (0, *_TRANSFORM_COST) if plain and blocked and problem.groups == 1 else (0,)


def direct(problem: Conv2D) -> int:
    """The `Algorithm` that adds products in the order of a plain convolution."""
    return 0


def estimated(problem: Conv2D, near_cache: int = 1 << 20) -> int:
    """The `Algorithm` that takes what is estimated to be fastest.

    The estimate counts vector multiply-adds: 9 per pixel and pair of channels directly, (m+2)² per tile
    with the transforms on top.  Meanwhile the weights come from main memory; whatever takes longer counts.
    Transformed values that exceed the ``near_cache``, in bytes, leave it, unless few weights allow it to go
    band by band.
    """
    if possible(problem) == (0,):
        return 0
    c, batch, channels, (height, width) = problem.c, problem.batch, problem.channels, problem.window.output
    pairs = channels[0] * channels[1] // c
    best, least = 0, 0.9 * 9 * pairs * max(batch * height * width, _WEIGHT_COST)
    for m, transform in _TRANSFORM_COST.items():
        tiles, points = batch * ceil_div(height, m) * ceil_div(width, m), (m + 2) ** 2
        # few tiles leave the product's registers empty
        product = points * pairs * max(tiles + 4, _WEIGHT_COST)
        values = tiles * points * (sum(channels) // c)
        size = values * c * _FLOAT * _rows_together(problem, m) // (batch * ceil_div(height, m))
        value = _VALUE_COST[(size > 2 * near_cache) + (size > _SHARED * near_cache)]
        cost = product + tiles * transform * (sum(channels) // c) + values * value
        if cost < least:
            best, least = m, cost
    return best


def with_algorithms(plan: Plan, algorithm: Algorithm, in_parts: bool = True) -> Plan:
    """The plan with each direct convolution replaced by what ``algorithm`` chooses for it.

    ``in_parts`` lets a batch be transformed a few images at a time, so that caches hold what is in between; a GPU
    would rather have more to do at once.
    """
    buffers, calls = list(plan.buffers), list[KernelCall | HostCall]()
    weights: dict[tuple[int, int], Constant] = {}

    def scratch(name: str, floats: int) -> Region:
        buffers.append(Buffer(name, floats * _FLOAT))
        return Region(len(buffers) - 1, 0, floats * _FLOAT)

    def transformed(constant: Constant, m: int) -> Constant:
        key = (id(constant), m)
        if key not in weights:
            weights[key] = Constant(f"{constant.name}.winograd{m}", transform_weights(constant.array, m))
        return weights[key]

    def winograd(call: KernelCall, problem: Conv2D, m: int) -> Iterator[KernelCall]:
        parts = _parts(call, problem, m, plan.layout.view_alignment) if in_parts else [(call, problem)]
        for one, part in parts:
            bands = _bands(one, part, m, plan.layout.view_alignment) if in_parts else ()
            for band in bands or [(0, ceil_div(part.window.output[0], m))]:
                yield from transformed_call(one, part, m, band, bool(bands))

    def transformed_call(
        call: KernelCall, problem: Conv2D, m: int, band: tuple[int, int], cut: bool
    ) -> Iterator[KernelCall]:  # fmt: skip
        """The rows of tiles of a ``band``, which is ``cut`` out of an image or all of it."""
        c, batch, (channels, outputs), window = problem.c, problem.batch, problem.channels, problem.window
        (height, width), (bottom, right), (top, left) = window.input, window.output, window.pads
        begin, end = max(0, band[0] * m - top), min(height, band[1] * m + 2 - top)
        first, last = band[0] * m, min(bottom, band[1] * m)
        tiles, points = (band[1] - band[0], ceil_div(right, m)), (m + 2) ** 2
        total = batch * tiles[0] * tiles[1]
        source, constant, *rest = call.operands
        assert isinstance(constant, Constant)
        moved = scratch(f"{call.node}.tiles", points * total * channels)
        pads = (begin - (band[0] * m - top), left)
        before = WinogradInput(
            c, m, batch, channels, (end - begin, width), tiles, pads, height * width if cut else 0
        )  # fmt: skip
        source = _from(source, begin * width * c) if isinstance(source, Region) else source
        yield KernelCall(before, (source,), moved, call.node)
        product = scratch(f"{call.node}.products", points * total * outputs)
        row = Window((1, total), (1, total), (1, 1))
        matrices = Conv2D(c, 1, (points * channels, points * outputs), row, points, bias=False)
        yield KernelCall(matrices, (moved, transformed(constant, m)), product, call.node)
        after = WinogradOutput(
            c, m, batch, outputs, (last - first, right), tiles, problem.bias, problem.epilogue,
            bottom * right if cut else 0,
        )  # fmt: skip
        skipped = first * right * c
        operands = [
            _from(one, skipped) if kind == "full" and isinstance(one, Region) else one
            for one, kind in zip(rest, _kinds(problem), strict=True)
        ]
        yield KernelCall(after, (product, *operands), _from(call.result, skipped), call.node)

    for call in plan.calls:
        problem = call.problem if isinstance(call, KernelCall) else None
        m = algorithm(problem) if isinstance(problem, Conv2D) else 0
        if m:
            assert isinstance(call, KernelCall)
            assert isinstance(problem, Conv2D)
            calls += winograd(call, problem, m)
        else:
            calls.append(call)
    return replace(plan, buffers=tuple(buffers), calls=tuple(calls))


def _rows_together(problem: Conv2D, m: int) -> int:
    """How many rows of tiles make at most `_TOGETHER` bytes and divide all; all rows where that can't be.

    Each band reads the weights anew, so they must be few.
    """
    channels, window = problem.channels, problem.window
    rows, columns, points = ceil_div(window.output[0], m), ceil_div(window.output[1], m), (m + 2) ** 2
    row = columns * points * sum(channels) * _FLOAT
    if problem.batch > 1 or rows * row <= _TOGETHER or points * channels[0] * channels[1] * _FLOAT > _FEW_WEIGHTS:
        return rows
    sizes = [one for one in range(1, rows) if rows % one == 0 and one * row <= _TOGETHER and one * columns >= _TILES]
    return max(sizes, default=rows)


def _parts(call: KernelCall, problem: Conv2D, m: int, alignment: int) -> Iterator[tuple[KernelCall, Conv2D]]:
    """The call for as many images at a time as make `_TOGETHER` bytes, where views can be cut so."""
    tiles = ceil_div(problem.window.output[0], m) * ceil_div(problem.window.output[1], m)
    image = tiles * (m + 2) ** 2 * sum(problem.channels) * _FLOAT
    sizes = [one for one in range(1, problem.batch + 1) if problem.batch % one == 0]
    images = max(one for one in sizes if one == 1 or one * image <= _TOGETHER)
    count = problem.batch // images
    own = [True, False, *(kind in ("full", "gate") for kind in _kinds(problem)), True]
    views = [one for one, cut in zip((*call.operands, call.result), own, strict=True) if cut]
    # half as long where values come to lie as halves
    if count == 1 or not all(isinstance(one, Region) and one.size // count % (2 * alignment) == 0 for one in views):
        yield call, problem
        return

    def part(region: Region | Constant, number: int) -> Region:
        assert isinstance(region, Region)
        return Region(region.buffer, region.offset + number * (region.size // count), region.size // count)

    fewer = replace(problem, batch=images)
    for number in range(count):
        operands = tuple(part(one, number) if cut else one for one, cut in zip(call.operands, own[:-1], strict=True))
        yield replace(call, problem=fewer, operands=operands, result=part(call.result, number)), fewer


def _kinds(problem: Conv2D) -> tuple[str, ...]:
    """What the operands after the weights are."""
    return (*(["bias"] if problem.bias else []), *problem.epilogue.kinds)


def _from(view: Region, floats: int) -> Region:
    """The rest of a view after so many floats."""
    return Region(view.buffer, view.offset + floats * _FLOAT, view.size - floats * _FLOAT)


def _bands(call: KernelCall, problem: Conv2D, m: int, alignment: int) -> list[tuple[int, int]]:
    """Ranges of rows of tiles that make `_TOGETHER` bytes each, or none: the image is small, or can't be cut so."""
    window, rows, size = problem.window, ceil_div(problem.window.output[0], m), _rows_together(problem, m)
    bands = [(begin, begin + size) for begin in range(0, rows, size)]
    starts = [max(0, begin * m - window.pads[0]) * window.input[1] for begin, _ in bands]
    starts += [begin * m * window.output[1] for begin, _ in bands]
    # half as long where values come to lie as halves
    even = all(start * problem.c * _FLOAT % (2 * alignment) == 0 for start in starts)
    full = [one for one, kind in zip(call.operands[2:], _kinds(problem), strict=True) if kind == "full"]
    return (
        bands if len(bands) > 1 and even and all(isinstance(one, Region) for one in (call.operands[0], *full)) else []
    )
