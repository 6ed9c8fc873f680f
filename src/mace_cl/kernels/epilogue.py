"""What a kernel does to its result in registers before it stores it: bias-free elementwise work.

An `Epilogue` holds an `Expr` whose input 0 is the kernel's own value; the other inputs are operands of
the kernel, each of a kind: ``full`` (the shape and layout of the result), ``channel`` (one value per
channel, a constant), ``gate`` (one value per image and channel, computed by an earlier kernel).
"""

from __future__ import annotations

from dataclasses import dataclass

from mace_cl.expr import Expr
from mace_cl.kernels.base import Code

__all__ = ["IDENTITY", "Epilogue", "masked"]


@dataclass(frozen=True)
class Epilogue:
    """``expr`` over the kernel's value and operands of ``kinds``."""

    expr: Expr | None = None
    kinds: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the extra kernel arguments."""
        return tuple(f"e{index}" for index in range(len(self.kinds)))

    def keeps_zero(self) -> bool:
        """Whether padding lanes that hold zeros before still do after."""
        return self.expr is None or self.expr.keeps_zero([False] * self.expr.arity)

    def function(self, entry: str) -> str:
        """The function that `call` calls, of kernel ``entry``; once for all values, as compile time goes with text."""
        if self.expr is None:
            return ""
        lines, result = self.expr.code(["a", *self.names], "vec", "v")
        arguments = ", ".join(f"const vec {name}" for name in ("a", *self.names))
        code = Code()
        with code.block(f"static inline __attribute__((always_inline)) vec {entry}_epilogue({arguments})"):
            code.add(*lines, f"return {result};")
        return code.text()

    def call(self, entry: str, value: str, full: str, channel: str, gate: str) -> str:
        """The final value, in a kernel before which stands `function`.

        ``full``, ``channel`` and ``gate`` are the float offsets at which operands of that kind are read.
        """
        if self.expr is None:
            return value
        offsets = {"full": full, "channel": channel, "gate": gate}
        loads = [f"LOAD({name} + {offsets[kind]})" for name, kind in zip(self.names, self.kinds, strict=True)]
        return f"{entry}_epilogue({', '.join([value, *loads])})"


IDENTITY = Epilogue()


def masked(code: Code, value: str, block: int, valid: int, last: str) -> str:
    """Code that zeroes the lanes of ``value`` from ``valid`` on where condition ``last`` holds."""
    mask = ", ".join("-1" if lane < valid else "0" for lane in range(block))
    code.add(f"const vec {value}m = {last} ? ((int{block})({mask}) ? {value} : (vec)(0.0f)) : {value};")
    return f"{value}m"
