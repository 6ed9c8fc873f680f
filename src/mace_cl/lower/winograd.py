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

_WEIGHT_COST = (6, 20)
"""Vector operations in the time in which one vector of weights comes from a shared cache, or from main memory."""


_VALUE_COST = (0, 10, 20)
"""The same for a vector of transformed values, written by one kernel and read by another: near, shared, main memory."""

_SHARED = 32
"""How many times the near cache the shared one is taken to be: drivers tell the size of the one or of the other."""


_TOGETHER = 4 << 20
"""Bytes of transformed values that images of a batch may make together; more leave the caches before they are read."""


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
    with the transforms on top; and on both sides the weights, which come from far each time: from main
    memory if those of one layer exceed the ``near_cache``, as those of its whole network then are many.
    Transformed values of large images leave the caches, too.
    """
    if possible(problem) == (0,):
        return 0
    c, channels, window = problem.c, problem.channels, problem.window
    (height, width), pairs = window.output, channels[0] * channels[1] // c
    weight = _WEIGHT_COST[9 * 4 * channels[0] * channels[1] > near_cache]
    best, least = 0, 0.9 * (height * width * 9 * pairs + 9 * pairs * weight)
    for m, transform in _TRANSFORM_COST.items():
        tiles, points = ceil_div(height, m) * ceil_div(width, m), (m + 2) ** 2
        # few tiles leave the product's registers empty
        product = tiles * points * pairs * (1 + 4 / tiles)
        values = tiles * points * (sum(channels) // c)
        size = values * c * _FLOAT
        value = _VALUE_COST[(size > 2 * near_cache) + (size > _SHARED * near_cache)]
        cost = product + tiles * transform * (sum(channels) // c) + points * pairs * weight + values * value
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
            yield from whole(one, part, m)

    def whole(call: KernelCall, problem: Conv2D, m: int) -> Iterator[KernelCall]:
        c, batch, (channels, outputs), window = problem.c, problem.batch, problem.channels, problem.window
        tiles = (ceil_div(window.output[0], m), ceil_div(window.output[1], m))
        points, total = (m + 2) ** 2, batch * tiles[0] * tiles[1]
        source, constant, *rest = call.operands
        assert isinstance(constant, Constant)
        moved = scratch(f"{call.node}.tiles", points * total * channels)
        first = WinogradInput(c, m, batch, channels, window.input, tiles, window.pads)
        yield KernelCall(first, (source,), moved, call.node)
        product = scratch(f"{call.node}.products", points * total * outputs)
        row = Window((1, total), (1, total), (1, 1))
        matrices = Conv2D(c, 1, (points * channels, points * outputs), row, points, bias=False)
        yield KernelCall(matrices, (moved, transformed(constant, m)), product, call.node)
        last = WinogradOutput(c, m, batch, outputs, window.output, tiles, problem.bias, problem.epilogue)
        yield KernelCall(last, (product, *rest), call.result, call.node)

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


def _parts(call: KernelCall, problem: Conv2D, m: int, alignment: int) -> Iterator[tuple[KernelCall, Conv2D]]:
    """The call for as many images at a time as make `_TOGETHER` bytes, where views can be cut so."""
    tiles = ceil_div(problem.window.output[0], m) * ceil_div(problem.window.output[1], m)
    image = tiles * (m + 2) ** 2 * sum(problem.channels) * _FLOAT
    sizes = [one for one in range(1, problem.batch + 1) if problem.batch % one == 0]
    images = max(one for one in sizes if one == 1 or one * image <= _TOGETHER)
    count = problem.batch // images
    views = [one for one in (*call.operands, call.result) if isinstance(one, Region)]
    # half as long where values come to lie as halves
    if count == 1 or any(one.size // count % (2 * alignment) for one in views):
        yield call, problem
        return

    def cut(region: Region, number: int) -> Region:
        return Region(region.buffer, region.offset + number * (region.size // count), region.size // count)

    part = replace(problem, batch=images)
    for number in range(count):
        operands = tuple(cut(one, number) if isinstance(one, Region) else one for one in call.operands)
        yield replace(call, problem=part, operands=operands, result=cut(call.result, number)), part
