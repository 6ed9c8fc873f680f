"""Softmax and LogSoftmax over one dimension of a row-major tensor, in three passes over it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, unpacked
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
        code = Code()
        element = f"i * {self.inner}" if self.inner > 1 else "i"
        loop = f"for (int i = 0; i < {self.length}; ++i)"
        with code.block(kernel_head(entry, ["x"], "y")):
            code.add(f"const int begin = get_global_id(0) * {step};")
            code.add(f"const int end = begin + {step} < {rows} ? begin + {step} : {rows};")
            with code.block("for (int row = begin; row < end; ++row)"):
                code.add(f"const int at = row / {self.inner} * {self.length * self.inner} + row % {self.inner};")
                code.add("float top = x[at];")
                code.add(f"{loop} top = top > x[at + {element}] ? top : x[at + {element}];")
                code.add("float sum = 0.0f;")
                if self.log:
                    code.add(f"{loop} sum += exp(x[at + {element}] - top);", "const float shift = top + log(sum);")
                    code.add(f"{loop} y[at + {element}] = x[at + {element}] - shift;")
                else:
                    with code.block(loop):
                        code.add(
                            f"const float e = exp(x[at + {element}] - top);", f"y[at + {element}] = e;", "sum += e;"
                        )
                    code.add("const float scale = 1.0f / sum;", f"{loop} y[at + {element}] *= scale;")
        return Rendered(prelude(self.c) + code.text(), (ceil_div(rows, step), 1, 1))
