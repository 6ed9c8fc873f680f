"""Product of two computed matrices, batched: T rows × R vectors of columns in registers.

The second operand is read row by row as it lies, so nothing is packed.  The last tile of rows and of
columns overlaps the one before; vectors of columns need not be aligned.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, tile_starts, unaligned
from mace_cl.kernels.epilogue import IDENTITY, Epilogue
from mace_cl.kernels.groups import with_groups
from mace_cl.kernels.windows import tile_start
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["MatMul"]


@dataclass(frozen=True)
class MatMul:
    """``[batch…, M, K] × [batch…, K, N]``; ``size`` is (M, K, N).

    ``strides`` are both operands' strides per dimension of ``batch``, in floats; a stride of 0
    broadcasts.  The epilogue has no operands.
    """

    c: int
    batch: tuple[int, ...]
    strides: tuple[tuple[int, ...], tuple[int, ...]]
    size: tuple[int, int, int]
    epilogue: Epilogue = IDENTITY

    @property
    def family(self) -> str:
        return "matmul"

    @property
    def flops(self) -> int:
        return 2 * prod(self.size) * prod(self.batch)

    @property
    def _width(self) -> int:
        """Columns in one vector."""
        return self.c if self.size[2] >= self.c else 1

    def space(self, traits: Traits) -> Iterator[dict[str, int]]:
        """All legal parameters: T·R accumulators and R columns' vectors must fit the registers."""
        return with_groups(self._tiles(traits), traits)

    def _tiles(self, traits: Traits) -> Iterator[dict[str, int]]:
        most = max(1, traits.vector_registers - 4)
        for blocks in (1, 2, 3, 4):
            if blocks * self._width > self.size[2]:
                continue
            for tile in range(1, min(self.size[0], most // blocks) + 1):
                yield {"tile": tile, "blocks": blocks}

    def default(self, traits: Traits) -> dict[str, int]:
        return min(self.space(traits), key=lambda parameters: self.cost(parameters, traits))

    def cost(self, parameters: Parameters, traits: Traits) -> float:
        """Estimated time, in vector multiply-adds of one core."""
        m, k, n = self.size
        t, r = parameters["tile"], parameters["blocks"]
        items = ceil_div(m, t) * ceil_div(n, r * self._width)
        return items * (k * (max(t * r, 8) + 0.6 * r + 0.3 * t + 1.0) + 4 * t * r + 200)

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return np.ascontiguousarray(array, dtype=np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        (m, k, n), t, r, width = self.size, parameters["tile"], parameters["blocks"], self._width
        kind = "vec" if width > 1 else "float"
        code = Code()
        with code.block(kernel_head(entry, ["a", "b"], "y")):
            code.add("const int column_tile = get_global_id(0), batch = get_global_id(2);")
            code.add("int tile = get_global_id(1), rest = batch, at_a = 0, at_b = 0;")
            for size, left, right in reversed(list(zip(self.batch, *self.strides, strict=True))):
                if size > 1:
                    code.add(f"at_a += rest % {size} * {left}; at_b += rest % {size} * {right}; rest /= {size};")
            code.add(f"const int row = {tile_start(m, t)};")
            code.add("tile = column_tile;", f"const int column = {tile_start(n, r * width)};")
            code.add(f"__global const float *restrict ap = a + at_a + row * {k};")
            code.add("__global const float *restrict bp = b + at_b + column;")
            code.add(f"{kind} s[{t}][{r}] = {{{{({kind})(0.0f)}}}};")
            with code.loop("k", k):
                code.add(f"{kind} w[{r}];")
                with code.unrolled("j", r):
                    code.add(f"w[j] = {f'UNALIGNED(bp + k * {n} + j * {width})' if width > 1 else f'bp[k * {n} + j]'};")
                with code.unrolled("i", t):
                    code.add(f"const {kind} x = ({kind})(ap[i * {k} + k]);")
                    with code.unrolled("j", r):
                        code.add("s[i][j] = x * w[j] + s[i][j];")
            with code.unrolled("i", t), code.unrolled("j", r):
                self._store(code, kind)
        grid = (len(tile_starts(n, r * width)), len(tile_starts(m, t)), prod(self.batch))
        return Rendered(prelude(self.c) + unaligned(entry, self.c) + code.text(), grid)

    def _store(self, code: Code, kind: str) -> None:
        m, _, n = self.size
        value = "s[i][j]"
        if self.epilogue.expr is not None:
            lines, value = self.epilogue.expr.code([value], kind, "v")
            code.add(*lines)
        at = f"y + batch * {m * n} + (row + i) * {n} + column + j * {self._width}"
        code.add(f"STORE_UNALIGNED({at}, {value});" if kind == "vec" else f"*({at}) = {value};")
