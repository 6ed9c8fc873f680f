"""Between row-major NCHW and the blocked layout; padding lanes are written as zeros."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, unpacked
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Reorder"]


@dataclass(frozen=True)
class Reorder:
    """``x`` [N, C, P pixels] from ``nchw`` to ``blocked`` (``to_blocked``) or back."""

    c: int
    batch: int
    channels: int
    pixels: int
    to_blocked: bool

    @property
    def family(self) -> str:
        return "reorder"

    @property
    def flops(self) -> int:
        return 0

    def default(self, traits: Traits) -> dict[str, int]:
        return {"chunk": max(16, min(512, ceil_div(self.pixels, 2 * traits.cores)))}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        blocks, chunk, tail = ceil_div(self.channels, self.c), parameters["chunk"], self.channels % self.c
        code = Code()
        with code.block(kernel_head(entry, ["x"], "y")):
            code.add(f"const int begin = get_global_id(0) * {chunk};")
            code.add("const int plane = get_global_id(1);")
            code.add(f"const int end = begin + {chunk} < {self.pixels} ? begin + {chunk} : {self.pixels};")
            code.add(f"const int n = plane / {blocks}, cb = plane % {blocks};")
            rows = f"(n * {self.channels} + cb * {self.c}) * {self.pixels}"
            packed = f"plane * {self.pixels * self.c}"
            if tail:
                code.add(f"const int valid = cb == {blocks - 1} ? {tail} : {self.c};")
            with code.loop("p", "end", "begin"):
                for lane in range(self.c):
                    source = f"x[{rows} + {lane * self.pixels} + p]"
                    target = f"y[{packed} + p * {self.c} + {lane}]"
                    sure = not tail or lane < tail
                    if self.to_blocked:
                        code.add(f"{target} = {source};" if sure else f"{target} = {lane} < valid ? {source} : 0.0f;")
                    else:
                        source = f"x[{packed} + p * {self.c} + {lane}]"
                        target = f"y[{rows} + {lane * self.pixels} + p]"
                        code.add(f"{target} = {source};" if sure else f"if ({lane} < valid) {target} = {source};")
        return Rendered(prelude(self.c) + code.text(), (ceil_div(self.pixels, chunk), self.batch * blocks, 1))
