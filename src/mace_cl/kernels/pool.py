"""MaxPool and AveragePool over rows and columns of a blocked activation."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, tile_starts, unpacked
from mace_cl.kernels.epilogue import IDENTITY, Epilogue, masked
from mace_cl.kernels.windows import TileClass, Window, tile_classes, tile_start
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Pool2D"]


@dataclass(frozen=True)
class Pool2D:
    """``kind`` is "max" or "average"; padded positions count for the average only if ``count_pads``.

    ``extent`` is the padded image's (rows, columns), from the top-left pad on: what ``count_pads`` counts.
    """

    c: int
    batch: int
    channels: int
    window: Window
    kind: str
    count_pads: bool = False
    extent: tuple[int, int] = (0, 0)
    epilogue: Epilogue = IDENTITY

    @property
    def family(self) -> str:
        return "pool2d"

    @property
    def flops(self) -> int:
        return self.batch * self.channels * prod(self.window.kernel) * prod(self.window.output)

    def default(self, traits: Traits) -> dict[str, int]:
        return {"tile": min(self.window.output[1], 4)}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, (height, width) = self.c, self.window.output
        tile = min(parameters["tile"], width)
        blocks = ceil_div(self.channels, c)
        code = Code()
        with code.block(kernel_head(entry, ["x", *self.epilogue.names], "y")):
            code.add("const int oh = get_global_id(0), plane = get_global_id(1);", f"const int cb = plane % {blocks};")
            code.add(
                f"__global const float *restrict xc = x + plane * {self.window.input[0] * self.window.input[1] * c};"
            )
            code.add(*self.window.row_bounds())
            if self.kind == "average":
                code.add(f"const int rows = {self._counted_rows()};")
            for one in tile_classes(self.window, tile):
                for member in _runs(one.members):
                    self._tiles(code, entry, one, member, tile)
        return Rendered(prelude(c) + self.epilogue.function(entry) + code.text(), (height, self.batch * blocks, 1))

    def _counted_rows(self) -> str:
        if not self.count_pads:
            return "k1 - k0"
        w = self.window
        limit = self.extent[0] - w.pads[0]
        if (w.output[0] - 1) * w.strides[0] + (w.kernel[0] - 1) * w.dilations[0] < self.extent[0]:
            return str(w.kernel[0])
        return " + ".join(f"(top + {k * w.dilations[0]} < {limit})" for k in range(w.kernel[0]))

    def _counted_columns(self, one: TileClass, start: int, pixel: int) -> int:
        w = self.window
        if not self.count_pads:
            return sum(valid[pixel] for valid in one.valid)
        first = (start + pixel) * w.strides[1] - w.pads[1]
        return sum(first + k * w.dilations[1] < self.extent[1] - w.pads[1] for k in range(w.kernel[1]))

    def _tiles(self, code: Code, entry: str, one: TileClass, members: tuple[int, int], tile: int) -> None:
        w, c, width = self.window, self.c, self.window.output[1]
        starts = tile_starts(width, tile)
        first, last = members
        with code.block(f"for (int tile = {first}; tile <= {last}; ++tile)" if first != last else ""):
            code.add(f"const int ow = {tile_start(width, tile) if first != last else starts[first]};")
            start = "(vec)(0.0f)" if self.kind == "average" else "(vec)(-INFINITY)"
            code.add(f"vec a[{tile}];")
            with code.unrolled("t", tile):
                code.add(f"a[t] = {start};")
            with code.loop("kh", "k1", "k0"):
                code.add(
                    f"__global const float *restrict xp = xc + ((top + kh * {w.dilations[0]}) * {w.input[1]}"
                    f" + ow * {w.strides[1]} - {w.pads[1]}) * {c};"
                )
                for (left, right), (begin, end) in one.pixels():
                    with code.unrolled("t", right, left), code.unrolled("k", end, begin):
                        code.add(f"const vec v = LOAD(xp + (t * {w.strides[1]} + k * {w.dilations[1]}) * {c});")
                        code.add(
                            f"a[t] {'+= v' if self.kind == 'average' else '= ((v > a[t]) | (v != v)) ? v : a[t]'};"
                        )
            self._finish(code, entry, one, tile, starts[first])

    def _finish(self, code: Code, entry: str, one: TileClass, tile: int, start: int) -> None:
        c, (height, width) = self.c, self.window.output
        blocks, valid = ceil_div(self.channels, c), self.channels % c
        code.add(f"const int at = ((plane * {height} + oh) * {width} + ow) * {c};")
        if self.kind == "average":
            counts = [self._counted_columns(one, start, pixel) for pixel in range(tile)]
            count = str(counts[0])
            if len(set(counts)) > 1:
                code.add(f"const int counts[] = {{{', '.join(map(str, counts))}}};")
                count = "counts[t]"
        with code.unrolled("t", tile):
            if self.kind == "average":
                code.add(f"a[t] *= (vec)(1.0f / (float)(rows * {count}));")
            here = f"at + t * {c}"
            result = self.epilogue.call(entry, "a[t]", here, f"cb * {c}", f"plane * {c}")
            if valid and not self.epilogue.keeps_zero():
                code.add(f"const vec value = {result};")
                result = masked(code, "value", c, valid, f"(cb == {blocks - 1})")
            code.add(f"STORE(y + {here}, {result});")


def _runs(members: tuple[int, ...]) -> list[tuple[int, int]]:
    """Consecutive members as (first, last)."""
    runs: list[tuple[int, int]] = []
    for member in members:
        if runs and runs[-1][1] == member - 1:
            runs[-1] = (runs[-1][0], member)
        else:
            runs.append((member, member))
    return runs
