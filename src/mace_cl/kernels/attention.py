"""Attention of every head in one kernel: ``softmax(scale · q · kᵀ + mask) · v``.

One work-item computes c neighbouring queries of one head, one in each lane: scores, maxima and sums of
the softmax are then plain vector operations, and keys and values are read where they lie, element by
element.  The scores of c queries stay in private memory.  Sums run over one chain per result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.expr import literal
from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, tile_starts, unpacked
from mace_cl.kernels.elementwise import Access
from mace_cl.kernels.windows import tile_start
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Attention"]


@dataclass(frozen=True)
class Attention:
    """``batch`` × ``heads`` heads of ``queries`` queries and ``keys`` keys of ``depth``, values of ``width``.

    Operands: q, k, v, the mask if there is one, each with an ``Access`` over (batch, head, row, column); so has the
    result, the last. Rows and columns of the mask are queries and keys.
    """

    c: int
    batch: int
    heads: int
    queries: int
    keys: int
    depth: int
    width: int
    scale: float
    accesses: tuple[Access, ...]

    @property
    def masked(self) -> bool:
        """Whether a mask is added to the scores."""
        return len(self.accesses) == 5

    @property
    def family(self) -> str:
        return "attention"

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.heads * self.queries * self.keys * (self.depth + self.width)

    def space(self, traits: Traits) -> Iterator[dict[str, int]]:
        """Keys and columns of values that are computed together; their sums must fit the registers."""
        most = max(1, traits.vector_registers - 4)
        for keys in range(1, min(most, self.keys) + 1):
            for columns in {min(most, self.width), self._even(self.width, most), min(8, self.width)}:
                yield {"keys": keys, "columns": columns}

    @staticmethod
    def _even(length: int, most: int) -> int:
        """The tile of at most ``most`` that covers ``length`` with the fewest computed twice, larger ones first."""
        return min(range(1, min(most, length) + 1), key=lambda tile: ceil_div(length, tile) * (tile + 2))

    def default(self, traits: Traits) -> dict[str, int]:
        return min(self.space(traits), key=lambda parameters: self.cost(parameters, traits))

    def cost(self, parameters: Parameters, traits: Traits) -> float:
        """Estimated time of one work-item, in vector multiply-adds of one core."""
        keys, columns = parameters["keys"], parameters["columns"]
        scores = ceil_div(self.keys, keys) * (self.depth * (max(keys, 8) + 1.5) + 4 * keys)
        results = ceil_div(self.width, columns) * (self.keys * (max(columns, 8) + 1.5) + 4 * columns)
        return scores + results

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return np.ascontiguousarray(array, dtype=np.float32) if operand == 3 else unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, queries, keys, width = self.c, self.queries, self.keys, self.width
        code = Code()
        names = ("q", "k", "v", "m", "y") if self.masked else ("q", "k", "v", "y")
        with code.block(kernel_head(entry, names[:-1], "y")):
            code.add("const int tile = get_global_id(0), head = get_global_id(1), image = get_global_id(2);")
            code.add(f"const int first = {tile_start(queries, c) if queries > c else '0'};")
            for name, access in zip(names, self.accesses, strict=True):
                at = f"{access.offset} + image * {access.strides[0]} + head * {access.strides[1]}"
                code.add(f"__global {'' if name == 'y' else 'const '}float *restrict {name}p = {name} + {at};")
            row, column = self.accesses[0].strides[2:]
            last = queries - 1
            for lane in range(c):
                at = f"first + {lane}"
                at = f"({f'{at} < {last} ? {at} : {last}' if queries < c else at})"
                code.add(f"const int q{lane} = {at} * {row};")
                if self.masked and self.accesses[3].strides[2]:
                    code.add(f"const int m{lane} = {at} * {self.accesses[3].strides[2]};")
            code.add(f"vec query[{self.depth}], score[{keys}], result[{width}];")
            lanes = ", ".join(f"qp[q{lane} + d * {column}]" for lane in range(c))
            scaled = f"(vec)({lanes}) * (vec)({literal(self.scale)})"
            code.add(f"for (int d = 0; d < {self.depth}; ++d) query[d] = {scaled};")
            code.add("vec top = (vec)(-INFINITY), sum = (vec)(0.0f);")

            masked = [f"a[t] += {self._mask('begin + t')};"] if self.masked else []
            keep = [*masked, "score[begin + t] = a[t];", "top = top > a[t] ? top : a[t];"]
            self._products(code, "k", parameters["keys"], keys, self.depth, "query", keep)
            code.add(f"for (int j = 0; j < {keys}; ++j) {{ score[j] = exp(score[j] - top); sum += score[j]; }}")
            code.add("const vec share = (vec)(1.0f) / sum;")
            weigh = ["result[begin + t] = a[t] * share;"]
            self._products(code, "v", parameters["columns"], width, keys, "score", weigh)
            code.add("const float *lanes = (const float *)result;")
            row, column = self.accesses[-1].strides[2:]
            with code.loop("lane", min(c, queries)):
                target = f"yp[(first + lane) * {row} + i * {column}]"
                code.add(f"for (int i = 0; i < {width}; ++i) {target} = lanes[i * {c} + lane];")
        return Rendered(prelude(c) + code.text(), (ceil_div(queries, c), self.heads, self.batch))

    def _mask(self, index: str) -> str:
        """The mask of key ``index`` for all lanes, whose rows of it begin at ``m0 m1 …``."""
        row, column = self.accesses[3].strides[2:]
        key = f"({index}) * {column}"
        if row == 0:
            return f"(vec)(mp[{key}])"
        return f"(vec)({', '.join(f'mp[m{lane} + {key}]' for lane in range(self.c))})"

    def _products(
        self, code: Code, name: str, tile: int, length: int, depth: int, factor: str, finish: list[str]
    ) -> None:
        """Σ over d of name[i, d] · factor[d] as ``a[t]``, and ``finish``, for all i = begin + t, ``tile`` at a time."""
        rows, columns = self.accesses["qkv".index(name)].strides[2:]
        step, inner = (rows, columns) if name == "k" else (columns, rows)
        with code.loop("tile", len(tile_starts(length, tile))):
            code.add(f"const int begin = {tile_start(length, tile)};")
            code.add(f"__global const float *restrict from = {name}p + begin * {step};")
            code.add(f"vec a[{tile}] = {{(vec)(0.0f)}};")
            with code.loop("d", depth):
                code.add(f"const vec f = {factor}[d];")
                with code.unrolled("t", tile):
                    code.add(f"a[t] = (vec)(from[t * {step} + d * {inner}]) * f + a[t];")
            with code.unrolled("t", tile):
                code.add(*finish)
