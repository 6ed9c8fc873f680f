"""Softmax and LogSoftmax over one dimension of a row-major tensor, in three passes over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, unaligned, unpacked
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Softmax"]


@dataclass(frozen=True)
class Softmax:
    """x viewed as [outer, length, inner]; the greatest element is subtracted first, as the ONNX operator asks."""

    c: int
    outer: int
    length: int
    inner: int
    log: bool = False

    @property
    def family(self) -> str:
        return "softmax"

    @property
    def flops(self) -> int:
        return 5 * self.outer * self.length * self.inner

    def default(self, traits: Traits) -> dict[str, int]:
        rows = self.outer * self.inner
        return {"rows": max(1, min(ceil_div(rows, 4 * traits.cores), 4096 // self.length))}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        rows, step = self.outer * self.inner, parameters["rows"]
        vector = self.inner == 1 and self.length >= self.c
        code = Code()
        with code.block(kernel_head(entry, ["x"], "y")):
            code.add(f"const int begin = get_global_id(0) * {step};")
            code.add(f"const int end = begin + {step} < {rows} ? begin + {step} : {rows};")
            with code.loop("row", "end", "begin"):
                code.add(f"const int at = row / {self.inner} * {self.length * self.inner} + row % {self.inner};")
                code.add("__global const float *restrict xp = x + at;", "__global float *restrict yp = y + at;")
                if vector:
                    self._by_vectors(code)
                else:
                    self._by_elements(code)
        head = prelude(self.c) + (unaligned(entry, self.c) if vector else "")
        return Rendered(head + code.text(), (ceil_div(rows, step), 1, 1))

    def _by_elements(self, code: Code) -> None:
        loop, element = f"for (int i = 0; i < {self.length}; ++i)", f"i * {self.inner}"
        code.add("float top = xp[0], sum = 0.0f;", f"{loop} top = top > xp[{element}] ? top : xp[{element}];")
        if self.log:
            code.add(f"{loop} sum += exp(xp[{element}] - top);", "const float shift = top + log(sum);")
            code.add(f"{loop} yp[{element}] = xp[{element}] - shift;")
            return
        with code.block(loop):
            code.add(f"const float e = exp(xp[{element}] - top);", f"yp[{element}] = e;", "sum += e;")
        code.add("const float scale = 1.0f / sum;", f"{loop} yp[{element}] *= scale;")

    def _by_vectors(self, code: Code) -> None:
        whole = self.length // self.c * self.c
        loop = f"for (int i = 0; i < {whole}; i += {self.c})"
        tail = f"for (int i = {whole}; i < {self.length}; ++i)"
        lanes = [f".s{lane:x}" for lane in range(self.c)]
        code.add("vec tops = UNALIGNED(xp), sums = (vec)(0.0f);")
        code.add(f"{loop} {{ const vec v = UNALIGNED(xp + i); tops = tops > v ? tops : v; }}")
        code.add("float top = tops.s0, sum = 0.0f;")
        code.add(" ".join(f"top = top > tops{lane} ? top : tops{lane};" for lane in lanes[1:]))
        code.add(f"{tail} top = top > xp[i] ? top : xp[i];")
        keep, keep_one = ("", "") if self.log else ("STORE_UNALIGNED(yp + i, e); ", "yp[i] = e; ")
        code.add(f"{loop} {{ const vec e = exp(UNALIGNED(xp + i) - (vec)(top)); {keep}sums += e; }}")
        code.add(f"{tail} {{ const float e = exp(xp[i] - top); {keep_one}sum += e; }}")
        code.add(f"sum += {' + '.join('sums' + lane for lane in lanes)};")
        if self.log:
            code.add("const float shift = top + log(sum);")
            code.add(f"{loop} STORE_UNALIGNED(yp + i, UNALIGNED(xp + i) - (vec)(shift));")
            code.add(f"{tail} yp[i] = xp[i] - shift;")
        else:
            code.add("const float scale = 1.0f / sum;")
            code.add(f"{loop} STORE_UNALIGNED(yp + i, UNALIGNED(yp + i) * (vec)(scale));")
            code.add(f"{tail} yp[i] *= scale;")
