"""Reductions over any dimensions: sum, mean, max, min, prod."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, unpacked
from mace_cl.kernels.elementwise import Access, merge
from mace_cl.kernels.epilogue import IDENTITY, Epilogue, masked
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["REDUCTIONS", "Reduce"]

REDUCTIONS = {
    "sum": ("0.0f", "{a} + {x}"),
    "mean": ("0.0f", "{a} + {x}"),
    "max": ("-INFINITY", "((({x} > {a}) | ({x} != {x})) ? {x} : {a})"),
    "min": ("INFINITY", "((({x} < {a}) | ({x} != {x})) ? {x} : {a})"),
    "prod": ("1.0f", "{a} * {x}"),
}
"""Start value and step of each reduction; ``{a}`` is the running value, ``{x}`` the next element."""


@dataclass(frozen=True)
class Reduce:
    """``result[kept] = kind over reduced``; the result is contiguous in the order of ``kept``.

    ``kept`` and ``reduced`` are dimensions with their strides in x.  Where the last kept dimension is a
    block of c channels (``blocked``), c results are computed together and the epilogue may follow;
    ``channels`` says how many of the lanes are real.
    """

    c: int
    kept: tuple[int, ...]
    kept_strides: tuple[int, ...]
    reduced: tuple[int, ...]
    reduced_strides: tuple[int, ...]
    kind: str
    blocked: bool = False
    channels: int = 0
    epilogue: Epilogue = IDENTITY

    @property
    def family(self) -> str:
        return "reduce"

    @property
    def flops(self) -> int:
        return prod(self.kept) * prod(self.reduced)

    def default(self, traits: Traits) -> dict[str, int]:
        return {}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        kind, width = ("vec", self.c) if self.blocked else ("float", 1)
        start, step = REDUCTIONS[self.kind]
        dims, (access,) = merge(self.reduced, [Access(self.reduced_strides)])
        count = prod(self.kept) // width
        kept = (*self.kept[:-1], self.kept[-1] // width)
        strides = (*self.kept_strides[:-1], self.kept_strides[-1] * width)
        load = "LOAD(x + {0})" if self.blocked else "x[{0}]"
        code = Code()
        with code.block(kernel_head(entry, ["x", *self.epilogue.names], "y")):
            code.add("const int at = get_global_id(0);", "int rest = at, base = 0;")
            for size, stride in reversed(list(zip(kept, strides, strict=True))):
                if size > 1:
                    code.add(f"base += rest % {size} * {stride}; rest /= {size};")
            code.add(f"{kind} a = ({kind})({start});")
            for index, size in enumerate(dims):
                code.add(f"for (int i{index} = 0; i{index} < {size}; ++i{index})")
            position = " + ".join(["base", *(f"i{index} * {access.strides[index]}" for index in range(len(dims)))])
            code.add("{", f"  const {kind} v = {load.format(position)};", f"  a = {step.format(a='a', x='v')};", "}")
            if self.kind == "mean":
                code.add(f"a *= ({kind})({1 / prod(self.reduced)!r}f);")
            value = "a"
            if self.blocked:
                blocks = ceil_div(self.channels, self.c)
                code.add(f"const int cb = at % {blocks};")
                value = self.epilogue.call(entry, "a", f"at * {self.c}", f"cb * {self.c}", f"at * {self.c}")
                zero = self.epilogue.keeps_zero() and self.kind != "prod"
                if self.channels % self.c and not zero:
                    code.add(f"a = {value};")
                    value = masked(code, "a", self.c, self.channels % self.c, f"(cb == {blocks - 1})")
            code.add(f"STORE(y + at * {self.c}, {value});" if self.blocked else f"y[at] = {value};")
        return Rendered(prelude(self.c) + self.epilogue.function(entry) + code.text(), (count, 1, 1))
