"""InstanceNormalization of a blocked activation: mean and variance of each channel's plane, in two passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.expr import literal
from mace_cl.kernels.base import Code, ceil_div, kernel_head, pad_to, prelude
from mace_cl.kernels.epilogue import IDENTITY, Epilogue, masked
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["InstanceNorm"]


@dataclass(frozen=True)
class InstanceNorm:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift``.

    Operands: x, scale ``[C]``, shift ``[C]``, the epilogue's.
    """

    c: int
    batch: int
    channels: int
    pixels: int
    epsilon: float
    epilogue: Epilogue = IDENTITY

    @property
    def family(self) -> str:
        return "instance_norm"

    @property
    def flops(self) -> int:
        return 6 * self.batch * self.channels * self.pixels

    def default(self, traits: Traits) -> dict[str, int]:
        return {}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return pad_to(array.reshape(-1), 0, self.c).astype(np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, blocks = self.c, ceil_div(self.channels, self.c)
        inverse = f"(vec)({literal(1 / self.pixels)})"
        loop = f"for (int i = 0; i < {self.pixels}; ++i)"
        code = Code()
        with code.block(kernel_head(entry, ["x", "scale", "shift", *self.epilogue.names], "y")):
            code.add("const int plane = get_global_id(0);", f"const int cb = plane % {blocks};")
            code.add(f"__global const float *restrict xp = x + plane * {self.pixels * c};")
            code.add(
                "vec sum = (vec)(0.0f);", f"{loop} sum += LOAD(xp + i * {c});", f"const vec mean = sum * {inverse};"
            )
            code.add("vec squares = (vec)(0.0f);")
            with code.block(loop):
                code.add(f"const vec d = LOAD(xp + i * {c}) - mean;", "squares += d * d;")
            code.add(
                f"const vec gain = LOAD(scale + cb * {c}) / sqrt(squares * {inverse} + (vec)({literal(self.epsilon)}));"
            )
            code.add(f"const vec base = LOAD(shift + cb * {c}) - mean * gain;")
            with code.block(loop):
                code.add(f"const int at = plane * {self.pixels * c} + i * {c};")
                code.add("const vec a = LOAD(x + at) * gain + base;")
                value = self.epilogue.call(entry, "a", "at", f"cb * {c}", f"plane * {c}")
                if self.channels % c and not self.epilogue.keeps_zero():
                    code.add(f"const vec v = {value};")
                    value = masked(code, "v", c, self.channels % c, f"(cb == {blocks - 1})")
                code.add(f"STORE(y + at, {value});")
        return Rendered(prelude(c) + self.epilogue.function(entry) + code.text(), (self.batch * blocks, 1, 1))
