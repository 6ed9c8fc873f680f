"""Whole channels of blocked activations, in another order: shuffles, slices and concatenations at any channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, unpacked
from mace_cl.kernels.epilogue import masked
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["ChannelGather"]


@dataclass(frozen=True)
class ChannelGather:
    """Channel j of the result is channel ``channels[j]`` of operand ``sources[j]``; one image of ``pixels`` pixels."""

    c: int
    pixels: int
    inputs: int
    sources: tuple[int, ...]
    channels: tuple[int, ...]

    @property
    def family(self) -> str:
        return "channel_gather"

    @property
    def flops(self) -> int:
        return 0

    def default(self, traits: Traits) -> dict[str, int]:
        return {"chunk": max(16, min(1024, ceil_div(self.pixels, 2 * traits.cores)))}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, chunk, total = self.c, parameters["chunk"], len(self.channels)
        blocks, tail = ceil_div(total, c), total % c
        offsets = [channel // c * self.pixels * c + channel % c for channel in self.channels]
        padding = [0] * (blocks * c - total)
        head = f"__constant int {entry}_source[] = {{{', '.join(map(str, [*self.sources, *padding]))}}};\n"
        head += f"__constant int {entry}_offset[] = {{{', '.join(map(str, [*offsets, *padding]))}}};\n"
        code = Code()
        with code.block(kernel_head(entry, [f"x{index}" for index in range(self.inputs)], "y")):
            code.add(f"const int begin = get_global_id(0) * {chunk}, cb = get_global_id(1);")
            code.add(f"const int end = begin + {chunk} < {self.pixels} ? begin + {chunk} : {self.pixels};")
            for lane in range(c):
                choice = f"x{self.inputs - 1}"
                for index in reversed(range(self.inputs - 1)):
                    choice = f"s{lane} == {index} ? x{index} : {choice}"
                code.add(f"const int s{lane} = {entry}_source[cb * {c} + {lane}];")
                code.add(f"__global const float *restrict p{lane} = ({choice}) + {entry}_offset[cb * {c} + {lane}];")
            with code.loop("i", "end", "begin"):
                code.add(f"const vec v = (vec)({', '.join(f'p{lane}[i * {c}]' for lane in range(c))});")
                value = masked(code, "v", c, tail, f"(cb == {blocks - 1})") if tail else "v"
                code.add(f"STORE(y + (cb * {self.pixels} + i) * {c}, {value});")
        return Rendered(prelude(c) + head + code.text(), (ceil_div(self.pixels, chunk), blocks, 1))
