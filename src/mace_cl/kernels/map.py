"""One body for each point of an index space: the kernel of every op that needs no tuning.

An op gives OpenCL C for one point.  In it stand ``i0 i1 …``, the coordinates; ``at``, the row-major number of the
point; ``a0 a1 …``, the elements of operands that are read at a place that follows from the coordinates; ``x0 x1 …``,
pointers to the other operands, and ``y``, the result's; ``r``, which the body assigns where the result too lies at
such a place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from typing import Any

from numpy.typing import NDArray

from mace_cl.kernels import types
from mace_cl.kernels.base import ALONE, Code, ceil_div
from mace_cl.kernels.elementwise import Access, merge
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Map", "Operand"]

_COORDINATE = re.compile(r"\bi\d+\b")


@dataclass(frozen=True)
class Operand:
    """Elements of ``type``, read or written at ``access``; without one, the body indexes the pointer itself."""

    type: str
    access: Access | None = None


@dataclass(frozen=True)
class Map:
    """``body`` for each point of ``dims``; ``op`` names it in reports, ``work`` counts its operations per point.

    ``functions`` are OpenCL C functions that the body calls; in both, ``ENTRY`` stands for the kernel's name.
    """

    op: str
    dims: tuple[int, ...]
    operands: tuple[Operand, ...]
    result: Operand
    body: str
    functions: str = ""
    work: int = 1

    @property
    def family(self) -> str:
        return f"map_{self.op}"

    @property
    def flops(self) -> int:
        return self.work * prod(self.dims)

    def default(self, traits: Traits) -> dict[str, int]:
        """On a CPU a work-item takes a run of points; on a GPU one, in groups of 64."""
        total = prod(self.dims)
        if not traits.is_cpu:
            return {"chunk": 1, "group": 64}
        most = max(1, 8192 // max(1, self.work))
        return {"chunk": max(1, min(most, ceil_div(total, 4 * traits.cores))), "group": 1}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return types.packed(array, self.operands[operand].type)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        dims, accesses = self._space()
        total = prod(dims)
        chunk, group = parameters["chunk"], parameters["group"]
        items = ceil_div(ceil_div(total, chunk), group) * group
        code = Code()
        if any(one.type == "float64" for one in (*self.operands, self.result)):
            code.add("#pragma OPENCL EXTENSION cl_khr_fp64 : enable")
        if self.functions:
            code.add(*self.functions.replace("ENTRY", entry).strip("\n").split("\n"))
        with code.block(self._head(entry, group)):
            code.add(f"const int begin = get_global_id(0) * {chunk};")
            code.add(f"const int end = min(begin + {chunk}, {total});")
            with code.loop("at", "end", "begin"):
                self._point(code, dims, accesses, entry)
        return Rendered(code.text(), (items, 1, 1), (group, 1, 1))

    def _space(self) -> tuple[tuple[int, ...], list[Access | None]]:
        """The index space; with dimensions merged where the body does not look at coordinates."""
        accesses = [one.access for one in (*self.operands, self.result)]
        dims = self.dims or (1,)
        given = [access if access.strides else Access((0,), access.offset) for access in accesses if access]
        if not _COORDINATE.search(self.body) and "at" not in re.findall(r"\w+", self.body):
            dims, merged = merge(dims, given)
            given = list(merged)
        left = iter(given)
        return dims, [next(left) if access else None for access in accesses]

    def _head(self, entry: str, group: int) -> str:
        arguments = [
            f"__global const {types.opencl_type(one.type)} *restrict x{index}"
            for index, one in enumerate(self.operands)
        ]
        arguments.append(f"__global {types.opencl_type(self.result.type)} *restrict y")
        attributes = ALONE if group == 1 else f"reqd_work_group_size({group}, 1, 1)"
        return f"__kernel __attribute__(({attributes}))\nvoid {entry}({', '.join(arguments)})"

    def _point(self, code: Code, dims: tuple[int, ...], accesses: list[Access | None], entry: str) -> None:
        wanted = " ".join([self.body, *(_position(dims, access) for access in accesses if access)])
        lowest = min((int(name[1:]) for name in _COORDINATE.findall(wanted)), default=len(dims))
        if lowest < len(dims):
            step = 1
            for index in range(len(dims) - 1, lowest - 1, -1):
                parts = "at" if step == 1 else f"at / {step}"
                if index > 0:
                    parts = f"({parts}) % {dims[index]}" if step > 1 else f"at % {dims[index]}"
                code.add(f"const int i{index} = {parts};")
                step *= dims[index]
        *reads, write = accesses
        for index, (one, access) in enumerate(zip(self.operands, reads, strict=True)):
            if access:
                value = types.load(one.type, f"x{index}", _position(dims, access))
                code.add(f"const {types.OPENCL_TYPES[types.computed(one.type)]} a{index} = {value};")
        if write:
            code.add(f"{types.OPENCL_TYPES[types.computed(self.result.type)]} r;")
        code.add(*self.body.replace("ENTRY", entry).strip("\n").split("\n"))
        if write:
            code.add(types.store(self.result.type, "y", _position(dims, write), "r"))


def _position(dims: tuple[int, ...], access: Access) -> str:
    """The element that an access reaches, in coordinates; the point's own number where it is dense."""
    step, dense = 1, access.offset == 0
    for size, stride in zip(reversed(dims), reversed(access.strides), strict=True):
        dense = dense and (stride == step or size == 1)
        step *= size
    if dense:
        return "at"
    terms = [
        f"i{index}" if stride == 1 else f"i{index} * {stride}"
        for index, (size, stride) in enumerate(zip(dims, access.strides, strict=True))
        if stride and size > 1
    ]
    return " + ".join(([str(access.offset)] if access.offset or not terms else []) + terms)
