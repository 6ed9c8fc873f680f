"""Depthwise convolution: one filter per channel, c channels in a vector.

One work-item computes ``rows`` output rows of one channel block, ``tile`` neighbouring pixels at a
time; one row of the filter is in registers.  Weights are packed ``[C block][KH·KW][c]``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, pad_to, prelude, tile_starts
from mace_cl.kernels.epilogue import IDENTITY, Epilogue, masked
from mace_cl.kernels.groups import with_groups
from mace_cl.kernels.windows import TileClass, Window, tile_classes, tile_start
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["DepthwiseConv2D"]


@dataclass(frozen=True)
class DepthwiseConv2D:
    """``Conv`` with groups = channels in = channels out; x and the result are blocked.

    Operands: x, weights ``[C, 1, KH, KW]``, bias ``[C]`` if ``bias``, the epilogue's.
    """

    c: int
    batch: int
    channels: int
    window: Window
    bias: bool = True
    epilogue: Epilogue = IDENTITY

    @property
    def family(self) -> str:
        return "depthwise"

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.channels * prod(self.window.kernel) * prod(self.window.output)

    def space(self, traits: Traits) -> Iterator[dict[str, int]]:
        """All legal parameters: T accumulators and one row of the filter should fit the vector registers."""
        return with_groups(self._strips(traits), traits)

    def _strips(self, traits: Traits) -> Iterator[dict[str, int]]:
        height, width = self.window.output
        most = max(1, traits.vector_registers - 2 - min(9, self.window.kernel[1]))
        for tile in range(1, min(width, most) + 1):
            for rows in sorted({min(height, rows) for rows in (1, 2, 4, 7, 14, 28)}):
                yield {"tile": tile, "rows": rows}

    def default(self, traits: Traits) -> dict[str, int]:
        return min(self.space(traits), key=lambda parameters: self.cost(parameters, traits))

    def cost(self, parameters: Parameters, traits: Traits) -> float:
        """Estimated time, in vector operations of one core: loads of x are shared by neighbouring pixels."""
        (height, width), (kh, kw) = self.window.output, self.window.kernel
        t, rows = parameters["tile"], parameters["rows"]
        items = self.batch * ceil_div(self.channels, self.c) * ceil_div(height, rows)
        loads = (t - 1) * self.window.strides[1] + (kw - 1) * self.window.dilations[1] + 1
        per_tile = kh * (max(t, 6) * kw + 0.7 * (loads + kw) + 2) + 3 * t + 6
        rounds = ceil_div(items, traits.cores) * traits.cores / items + 2 * traits.cores / items
        return items * rounds * (rows * ceil_div(width, t) * per_tile + 200)

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        if operand != 1:
            return pad_to(array.reshape(-1), 0, self.c).astype(np.float32)
        padded = pad_to(array.reshape(array.shape[0], -1), 0, self.c)
        return np.ascontiguousarray(padded.reshape(-1, self.c, padded.shape[1]).transpose(0, 2, 1), dtype=np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, window = self.c, self.window
        height, width = window.output
        tile, rows = min(parameters["tile"], width), min(parameters["rows"], height)
        blocks = ceil_div(self.channels, c)
        code = Code()
        reads = ["x", "w"] + (["b"] if self.bias else []) + list(self.epilogue.names)
        with code.block(kernel_head(entry, reads, "y")):
            code.add("const int strip = get_global_id(0);")
            code.add("const int plane = get_global_id(1);")
            code.add(f"const int cb = plane % {blocks};")
            code.add(f"__global const float *restrict xc = x + plane * {window.input[0] * window.input[1] * c};")
            code.add(f"const vec bias = {f'LOAD(b + cb * {c})' if self.bias else '(vec)(0.0f)'};")
            code.add(f"const int end = strip * {rows} + {rows} < {height} ? strip * {rows} + {rows} : {height};")
            with code.loop("oh", "end", f"strip * {rows}"):
                code.add(*window.row_bounds())
                for one in tile_classes(window, tile):
                    self._tiles(code, entry, one, tile)
        text = prelude(c) + self.epilogue.function(entry) + code.text()
        return Rendered(text, (ceil_div(height, rows), self.batch * blocks, 1))

    def _tiles(self, code: Code, entry: str, one: TileClass, tile: int) -> None:
        width = self.window.output[1]
        first, last = one.members[0], one.members[-1]
        single = first == last
        with code.block("" if single else f"for (int tile = {first}; tile <= {last}; ++tile)"):
            if single:
                code.add(f"const int ow = {tile_starts(width, tile)[first]};")
            else:
                if one.members != tuple(range(first, last + 1)):
                    code.add(f"if (!{one.condition()[3:]}) continue;")
                code.add(f"const int ow = {tile_start(width, tile)};")
            code.add(f"vec a[{tile}] = {{(vec)(0.0f)}};")
            with code.loop("kh", "k1", "k0"):
                self._row(code, one)
            self._finish(code, entry, tile)

    def _row(self, code: Code, one: TileClass) -> None:
        window, c = self.window, self.c
        (kh, kw), step = window.kernel, window.strides[1]
        row = f"(top + kh * {window.dilations[0]}) * {window.input[1]}"
        code.add(f"__global const float *restrict xp = xc + ({row} + ow * {step} - {window.pads[1]}) * {c};")
        code.add(f"__global const float *restrict wp = w + (cb * {kh} + kh) * {kw * c};")
        code.add(f"vec weight[{kw}];")
        with code.unrolled("k", kw):
            code.add(f"weight[k] = LOAD(wp + k * {c});")
        for (left, right), (begin, end) in one.pixels():
            with code.unrolled("t", right, left), code.unrolled("k", end, begin):
                place = f"(t * {step} + k * {window.dilations[1]}) * {c}"
                code.add(f"a[t] = LOAD(xp + {place}) * weight[k] + a[t];")

    def _finish(self, code: Code, entry: str, tile: int) -> None:
        c, (height, width) = self.c, self.window.output
        blocks = ceil_div(self.channels, c)
        mask = self.channels % c != 0 and not self.epilogue.keeps_zero()
        code.add(f"const int at = ((plane * {height} + oh) * {width} + ow) * {c};")
        with code.unrolled("t", tile):
            here = f"at + t * {c}"
            value = self.epilogue.call(entry, "a[t] + bias", here, f"cb * {c}", f"plane * {c}")
            if mask:
                code.add(f"const vec value = {value};")
                value = masked(code, "value", c, self.channels % c, f"(cb == {blocks - 1})")
            code.add(f"STORE(y + {here}, {value});")
