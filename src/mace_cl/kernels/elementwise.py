"""Elementwise work over strided operands: arithmetic with broadcasting, and all plain data movement.

The result has ``dims``; each operand and the result have an offset and one stride per dimension, in
floats, 0 where it is broadcast.  With the identity expression this transposes, slices, expands and
concatenates.  The innermost dimension is vectorised where it is contiguous and aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.expr import Expr
from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude
from mace_cl.kernels.epilogue import masked
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["COPY", "Access", "Elementwise", "contiguous", "merge"]

COPY = Expr(1, ())


@dataclass(frozen=True)
class Access:
    """Element ``i`` of the index space is at ``offset + Σ strides·i``."""

    strides: tuple[int, ...]
    offset: int = 0


def contiguous(dims: Sequence[int]) -> tuple[int, ...]:
    """Row-major strides of ``dims``."""
    strides, step = [], 1
    for size in reversed(dims):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def merge(dims: Sequence[int], accesses: Sequence[Access]) -> tuple[tuple[int, ...], tuple[Access, ...]]:
    """The same index space with as few dimensions as all accesses allow; at least one."""
    kept: list[int] = []
    strides: list[list[int]] = []
    for index, size in enumerate(dims):
        if size == 1:
            continue
        column = [access.strides[index] for access in accesses]
        if kept and all(before == step * size for before, step in zip(strides[-1], column, strict=True)):
            kept[-1] *= size
            strides[-1] = column
        else:
            kept.append(size)
            strides.append(column)
    if not kept:
        kept, strides = [1], [[1] * len(accesses)]
    merged = tuple(
        Access(tuple(column[number] for column in strides), access.offset) for number, access in enumerate(accesses)
    )
    return tuple(kept), merged


@dataclass(frozen=True)
class Elementwise:
    """``result[i] = expr(operands[i])``; ``accesses`` are the operands' then the result's.

    ``mask`` = (blocks, valid lanes) zeroes the lanes from ``valid`` on in the last block of each image,
    where dims are (images, blocks, pixels, c).
    """

    c: int
    dims: tuple[int, ...]
    accesses: tuple[Access, ...]
    expr: Expr = COPY
    mask: tuple[int, int] | None = None

    @property
    def family(self) -> str:
        return "elementwise"

    @property
    def flops(self) -> int:
        return len(self.expr.body) * prod(self.dims)

    def default(self, traits: Traits) -> dict[str, int]:
        total = prod(self.dims)
        return {"chunk": max(256, min(8192, total // (4 * traits.cores)))}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return np.ascontiguousarray(array, dtype=np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        dims, accesses = (self.dims, self.accesses) if self.mask else merge(self.dims, self.accesses)
        if len(dims) == 1:
            dims = (1, *dims)
            accesses = tuple(Access((0, *access.strides), access.offset) for access in accesses)
        outer, (middle, inner) = dims[:-2], dims[-2:]
        by_row = middle > 1
        vector = _vectorisable(dims, accesses, self.c)
        if by_row:
            step = max(1, min(middle, parameters["chunk"] // inner))
            chunks = ceil_div(middle, step)
        else:
            step = max(self.c, parameters["chunk"] // self.c * self.c)
            chunks = ceil_div(inner, step)
        names = [f"x{index}" for index in range(self.expr.arity)]
        code = Code()
        with code.block(kernel_head(entry, names, "y")):
            code.add("const int chunk = get_global_id(0);", "int rest = get_global_id(1);")
            for index in range(len(outer) - 1, -1, -1):
                code.add(f"const int i{index} = rest % {outer[index]}; rest /= {outer[index]};")
            for name, access in zip([*names, "y"], accesses, strict=True):
                terms = [f"i{index} * {access.strides[index]}" for index in range(len(outer)) if access.strides[index]]
                code.add(f"const int {name}_at = {' + '.join([str(access.offset), *terms])};")
            limit = middle if by_row else inner
            code.add(f"const int begin = chunk * {step};")
            code.add(
                f"const int end = begin + {step} < {limit} ? begin + {step} : {limit};"
                if limit % step
                else f"const int end = begin + {step};"
            )
            with code.block("for (int row = begin; row < end; ++row)" if by_row else ""):
                if not by_row:
                    code.add("const int row = 0;")
                self._inner(code, accesses, inner, vector, by_row)
        return Rendered(prelude(self.c) + code.text(), (chunks, prod(outer), 1))

    def _inner(self, code: Code, accesses: Sequence[Access], inner: int, vector: bool, by_row: bool) -> None:
        first, last = ("0", str(inner)) if by_row else ("begin", "end")
        if vector:
            whole = str(inner // self.c * self.c) if by_row else f"(end / {self.c} * {self.c})"
            with code.block(f"for (int i = {first}; i < {whole}; i += {self.c})"):
                self._element(code, accesses, "vec")
            if inner % self.c:
                with code.block(f"for (int i = {whole}; i < {last}; ++i)"):
                    self._element(code, accesses, "float")
        else:
            with code.block(f"for (int i = {first}; i < {last}; ++i)"):
                self._element(code, accesses, "float")

    def _element(self, code: Code, accesses: Sequence[Access], kind: str) -> None:
        operands = []
        for index, access in enumerate(accesses[:-1]):
            at = _at(f"x{index}", access)
            if kind == "vec":
                operands.append(f"LOAD(x{index} + {at})" if access.strides[-1] else f"(vec)(x{index}[{at}])")
            else:
                operands.append(f"x{index}[{at}]")
        for index, operand in enumerate(operands):
            code.add(f"const {kind} a{index} = {operand};")
        lines, value = self.expr.code([f"a{index}" for index in range(len(operands))], kind, "v")
        code.add(*lines)
        if self.mask:
            value = masked(code, value, self.c, self.mask[1], f"(i1 == {self.mask[0] - 1})")
        at = _at("y", accesses[-1])
        code.add(f"STORE(y + {at}, {value});" if kind == "vec" else f"y[{at}] = {value};")


def _at(name: str, access: Access) -> str:
    row, column = access.strides[-2:]
    terms = [f"{name}_at"] + ([f"row * {row}"] if row else [])
    return " + ".join(terms + ([] if column == 0 else ["i"] if column == 1 else [f"i * {column}"]))


def _vectorisable(dims: Sequence[int], accesses: Sequence[Access], c: int) -> bool:
    """Whether every access moves by whole aligned vectors, apart from the end of the innermost dimension."""
    if dims[-1] < c or accesses[-1].strides[-1] != 1:
        return False
    for access in accesses:
        if access.strides[-1] not in (0, 1):
            return False
        others = [stride for size, stride in zip(dims[:-1], access.strides[:-1], strict=True) if size > 1]
        if access.strides[-1] == 1 and any(value % c for value in [access.offset, *others]):
            return False
    return True
