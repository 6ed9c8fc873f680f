"""LayerNormalization over the innermost elements of a row-major tensor: mean and variance in two passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.expr import literal
from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["LayerNorm"]


@dataclass(frozen=True)
class LayerNorm:
    """``(x - mean) / sqrt(variance + epsilon) * scale + shift`` of each of ``rows`` rows of ``length`` elements.

    Operands: x, scale ``[length]``, shift ``[length]`` if ``shifted``.
    """

    c: int
    rows: int
    length: int
    epsilon: float
    shifted: bool = True

    @property
    def family(self) -> str:
        return "layer_norm"

    @property
    def flops(self) -> int:
        return 8 * self.rows * self.length

    def default(self, traits: Traits) -> dict[str, int]:
        return {"rows": max(1, min(ceil_div(self.rows, 4 * traits.cores), ceil_div(16384, self.length)))}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return np.ascontiguousarray(array.reshape(-1), dtype=np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        step, length = parameters["rows"], self.length
        width = self.c if length % self.c == 0 else 1
        kind = "vec" if width > 1 else "float"
        loop = f"for (int i = 0; i < {length}; i += {width})"
        code = Code()

        def load(name: str) -> str:
            return f"LOAD({name} + i)" if width > 1 else f"{name}[i]"

        def total(name: str) -> str:
            return " + ".join(f"{name}.s{lane:x}" for lane in range(width)) if width > 1 else name

        reads = ["x", "scale", *(["shift"] if self.shifted else [])]
        with code.block(kernel_head(entry, reads, "y")):
            code.add(f"const int begin = get_global_id(0) * {step};")
            code.add(f"const int end = begin + {step} < {self.rows} ? begin + {step} : {self.rows};")
            with code.loop("row", "end", "begin"):
                code.add(f"__global const float *restrict xp = x + row * {length};")
                code.add(f"__global float *restrict yp = y + row * {length};")
                code.add(f"{kind} sum = ({kind})(0.0f), squares = ({kind})(0.0f);", f"{loop} sum += {load('xp')};")
                code.add(f"const float mean = ({total('sum')}) * {literal(1 / length)};")
                with code.block(loop):
                    code.add(f"const {kind} d = {load('xp')} - ({kind})(mean);", "squares += d * d;")
                code.add(f"const float variance = ({total('squares')}) * {literal(1 / length)};")
                code.add(f"const {kind} gain = ({kind})(1.0f / sqrt(variance + {literal(self.epsilon)}));")
                with code.block(loop):
                    shift = f" + {load('shift')}" if self.shifted else ""
                    code.add(f"const {kind} v = ({load('xp')} - ({kind})(mean)) * gain * {load('scale')}{shift};")
                    code.add("STORE(yp + i, v);" if width > 1 else "yp[i] = v;")
        return Rendered(prelude(self.c) + code.text(), (ceil_div(self.rows, step), 1, 1))
