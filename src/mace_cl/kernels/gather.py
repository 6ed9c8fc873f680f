"""Gather along one axis at positions that are computed or given as an input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.base import ALONE, Code, ceil_div
from mace_cl.kernels.types import OPENCL_TYPES, packed
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Gather"]


@dataclass(frozen=True)
class Gather:
    """``y[o, p, i] = x[o, positions[p], i]`` with x viewed as [outer, length, inner].

    Elements are of ``type``, positions of ``positions``; negative ones count from the end, those outside are
    taken as the nearest inside, so that nothing is read out of bounds.
    """

    outer: int
    length: int
    inner: int
    count: int
    type: str
    positions: str

    @property
    def family(self) -> str:
        return "gather"

    @property
    def flops(self) -> int:
        return 0

    def default(self, traits: Traits) -> dict[str, int]:
        return {"rows": max(1, min(ceil_div(self.count, 4 * traits.cores), ceil_div(8192, self.inner)))}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return packed(array, self.positions if operand == 1 else self.type)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        step, code = parameters["rows"], Code()
        element, position = OPENCL_TYPES[self.type], OPENCL_TYPES[self.positions]
        arguments = (
            f"__global const {element} *restrict x, __global const {position} *restrict positions, "
            f"__global {element} *restrict y"
        )
        if self.type == "float64":
            code.add("#pragma OPENCL EXTENSION cl_khr_fp64 : enable")
        with code.block(f"__kernel __attribute__(({ALONE}))\nvoid {entry}({arguments})"):
            code.add(f"const int begin = get_global_id(0) * {step}, outer = get_global_id(1);")
            code.add(f"const int end = begin + {step} < {self.count} ? begin + {step} : {self.count};")
            with code.loop("p", "end", "begin"):
                code.add(f"{position} at = positions[p];", f"at = at < 0 ? at + {self.length} : at;")
                code.add(f"at = at < 0 ? 0 : at >= {self.length} ? {self.length - 1} : at;")
                code.add(
                    f"__global const {element} *restrict xp = x + (outer * {self.length} + (int)at) * {self.inner};"
                )
                code.add(f"__global {element} *restrict yp = y + (outer * {self.count} + p) * {self.inner};")
                code.add(f"for (int i = 0; i < {self.inner}; ++i) yp[i] = xp[i];")
        return Rendered(code.text(), (ceil_div(self.count, step), self.outer, 1))
