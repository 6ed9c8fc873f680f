"""What all kernel templates share: the prelude, small text helpers, tile arithmetic."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ALONE", "Code", "ceil_div", "kernel_head", "pad_to", "prelude", "tile_starts", "unaligned", "unpacked"]

ALONE = "reqd_work_group_size(1, 1, 1), vec_type_hint(float16)"
"""Attributes of kernels whose work-groups are one work-item.

The hint says that the text is in vectors already.  Without it Intel's compiler may make a variant for 16 work-items
besides, which is never run and takes three times as long to compile, or thirty.
"""


def ceil_div(a: int, b: int) -> int:
    """``a / b`` rounded up, for non-negative ``a`` and positive ``b``."""
    return -(-a // b)


def pad_to(array: NDArray[Any], axis: int, multiple: int) -> NDArray[Any]:
    """``array`` with zeros after the end of ``axis`` up to a multiple."""
    missing = -array.shape[axis] % multiple
    if not missing:
        return array
    widths = [(0, missing if index == axis else 0) for index in range(array.ndim)]
    return np.pad(array, widths)


def prelude(block: int) -> str:
    """Names that every kernel uses; repeating it in one source is legal C.

    Loads and stores go through pointers rather than ``vloadn``, multiply-adds through FP_CONTRACT
    rather than ``fma``: PoCL 3.0 calls those builtins instead of inlining them.
    """
    return (
        "#pragma OPENCL FP_CONTRACT ON\n"
        f"#define vec float{block}\n"
        "#define LOAD(p) (*(__global const vec *)(p))\n"
        "#define STORE(p, v) (*(__global vec *)(p) = (v))\n"
    )


def unaligned(entry: str, block: int) -> str:
    """Names for vector accesses at any float; the type is named after the kernel, as types can't be repeated."""
    return (
        f"typedef float{block} __attribute__((aligned(4))) {entry}_vec;\n"
        "#undef UNALIGNED\n#undef STORE_UNALIGNED\n"
        f"#define UNALIGNED(p) (*(__global const {entry}_vec *)(p))\n"
        f"#define STORE_UNALIGNED(p, v) (*(__global {entry}_vec *)(p) = (v))\n"
    )


def kernel_head(
    entry: str,
    reads: Iterable[str],
    write: str,
    local_size: tuple[int, int, int] | None = None,
    images: Container[str] = (),
) -> str:
    """The signature of a kernel that reads fp32 buffers, some of them as ``images``, and writes one."""
    attributes = f"reqd_work_group_size({', '.join(map(str, local_size))})" if local_size else ALONE
    kinds = {True: "__read_only image1d_buffer_t ", False: "__global const float *restrict "}
    arguments = [f"{kinds[name in images]}{name}" for name in reads] + [f"__global float *restrict {write}"]
    return f"__kernel __attribute__(({attributes}))\nvoid {entry}({', '.join(arguments)})"


def tile_starts(length: int, tile: int) -> list[int]:
    """Where tiles begin; the last overlaps the one before, so that no tile is partial."""
    return [min(start, length - tile) for start in range(0, length, tile)]


def unpacked(operand: int, array: NDArray[Any]) -> NDArray[Any]:
    """For kernels without constants: refuse to pack."""
    raise AssertionError(f"operand {operand} of shape {array.shape} is not a constant of this kernel")


class Code:
    """Lines of C with indentation kept by ``with code.block("for (…)"):``."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.depth = 0

    def add(self, *lines: str) -> None:
        self.lines += [("  " * self.depth + line) if line else "" for line in lines]

    @contextmanager
    def block(self, head: str = "") -> Iterator[None]:
        self.add(f"{head} {{" if head else "{")
        self.depth += 1
        yield
        self.depth -= 1
        self.add("}")

    def loop(self, name: str, end: int | str, begin: int | str = 0) -> AbstractContextManager[None]:
        """A loop from ``begin`` to before ``end``."""
        return self.block(f"for (int {name} = {begin}; {name} < {end}; ++{name})")

    @contextmanager
    def unrolled(self, name: str, end: int, begin: int = 0) -> Iterator[None]:
        """The same over few known numbers, so that the elements of arrays with this index are registers."""
        self.add("#pragma unroll")
        with self.loop(name, end, begin):
            yield

    def text(self) -> str:
        return "\n".join(self.lines) + "\n"
