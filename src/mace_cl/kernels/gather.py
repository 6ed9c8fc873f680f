"""Gather along one axis at positions that are computed or given as an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, prelude
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Gather"]


@dataclass(frozen=True)
class Gather:
    """``y[o, p, i] = x[o, positions[p], i]`` with x viewed as [outer, length, inner].

    Positions are of ``type`` ("long" or "int"); negative ones count from the end, those outside are taken
    as the nearest inside, so that nothing is read out of bounds.
    """

    c: int
    outer: int
    length: int
    inner: int
    count: int
    type: str

    @property
    def family(self) -> str:
        return "gather"

    @property
    def flops(self) -> int:
        return 0

    def default(self, traits: Traits) -> dict[str, int]:
        return {"rows": max(1, min(ceil_div(self.count, 4 * traits.cores), ceil_div(8192, self.inner)))}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        if operand == 1:
            return np.ascontiguousarray(array, dtype=np.int64 if self.type == "long" else np.int32)
        return np.ascontiguousarray(array, dtype=np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        step, code = parameters["rows"], Code()
        arguments = (
            f"__global const float *restrict x, __global const {self.type} *restrict positions, "
            "__global float *restrict y"
        )
        with code.block(f"__kernel __attribute__((reqd_work_group_size(1, 1, 1)))\nvoid {entry}({arguments})"):
            code.add(f"const int begin = get_global_id(0) * {step}, outer = get_global_id(1);")
            code.add(f"const int end = begin + {step} < {self.count} ? begin + {step} : {self.count};")
            with code.block("for (int p = begin; p < end; ++p)"):
                code.add(f"{self.type} at = positions[p];", f"at = at < 0 ? at + {self.length} : at;")
                code.add(f"at = at < 0 ? 0 : at >= {self.length} ? {self.length - 1} : at;")
                code.add(f"__global const float *restrict xp = x + (outer * {self.length} + (int)at) * {self.inner};")
                code.add(f"__global float *restrict yp = y + (outer * {self.count} + p) * {self.inner};")
                code.add(f"for (int i = 0; i < {self.inner}; ++i) yp[i] = xp[i];")
        return Rendered(prelude(self.c) + code.text(), (ceil_div(self.count, step), self.outer, 1))
