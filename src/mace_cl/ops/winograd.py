"""When a convolution is computed by Winograd's method, and how."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from mace_cl.kernels.base import ceil_div
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.epilogue import Epilogue
from mace_cl.kernels.windows import Window
from mace_cl.kernels.winograd import WinogradInput, WinogradOutput, transform_weights
from mace_cl.ops.builder import Builder
from mace_cl.plan import Constant, Region

__all__ = ["emit", "tile_size"]

_TRANSFORM_COST = {2: 150, 4: 350}
"""Vector operations that transforming one tile of one channel block costs, loads and stores included."""

_WEIGHT_COST = 20
"""Vector operations in the time in which one vector of weights comes from main memory."""


def tile_size(c: int, channels: tuple[int, int], window: Window) -> int:
    """m of F(m×m, 3×3) where that is estimated to beat the direct kernel, else 0.

    The estimate counts vector multiply-adds: 9 per pixel and pair of channels directly, (m+2)² per tile
    with the transforms on top; and on both sides the weights, which come from far each time.
    """
    plain = window.kernel == (3, 3) and window.strides == window.dilations == (1, 1) and max(window.pads) <= 2
    if not plain or channels[0] % c or channels[1] % c:
        return 0
    (height, width), pairs = window.output, channels[0] * channels[1] // c
    best, least = 0, 0.9 * (height * width * 9 * pairs + 9 * pairs * _WEIGHT_COST)
    for m, transform in _TRANSFORM_COST.items():
        tiles, points = ceil_div(height, m) * ceil_div(width, m), (m + 2) ** 2
        # few tiles leave the product's registers empty
        product = tiles * points * pairs * (1 + 4 / tiles)
        cost = product + tiles * transform * (sum(channels) // c) + points * pairs * _WEIGHT_COST
        if cost < least:
            best, least = m, cost
    return best


def emit(
    builder: Builder,
    node: ir.Node,
    m: int,
    x: ir.Value,
    y: ir.Value,
    window: Window,
    constants: Sequence[Constant],
    epilogue: Epilogue,
    extras: Sequence[Region | Constant],
) -> None:
    """Transform the input, multiply (m+2)² matrices as one grouped 1×1 convolution, transform back."""
    c, weights = builder.block, constants[0].array
    batch, (outputs, channels) = builder.shape(x)[0], weights.shape[:2]
    tiles = (ceil_div(window.output[0], m), ceil_div(window.output[1], m))
    points, total = (m + 2) ** 2, batch * tiles[0] * tiles[1]
    source = builder.blocked(x)
    moved = builder.scratch(f"{y.name}.tiles", points * total * channels)
    first = WinogradInput(c, m, batch, channels, window.input, tiles, window.pads)
    builder.emit(first, [source], moved, node)
    product = builder.scratch(f"{y.name}.products", points * total * outputs)
    packed = Constant(f"{constants[0].name}.winograd{m}", transform_weights(weights, m))
    row = Window((1, total), (1, total), (1, 1))
    matrices = Conv2D(c, 1, (points * channels, points * outputs), row, points, bias=False)
    builder.emit(matrices, [moved, packed], product, node)
    target = builder.allocate(y, "blocked")
    last = WinogradOutput(c, m, batch, outputs, window.output, tiles, len(constants) > 1, epilogue)
    builder.emit(last, [product, *constants[1:], *extras], target, node)
