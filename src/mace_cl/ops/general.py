"""What general lowerings share: index arithmetic as OpenCL C text, and calls of `Map`."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.map import Map, Operand
from mace_cl.ops.builder import Builder
from mace_cl.plan import Region

__all__ = ["broadcast", "emit_map", "loops", "offset"]


def broadcast(shape: Sequence[int], dims: Sequence[int]) -> Access:
    """Where a tensor of ``shape`` lies when it is broadcast to ``dims``."""
    padded = (1,) * (len(dims) - len(shape)) + tuple(shape)
    steps = contiguous(padded)
    return Access(tuple(0 if size == 1 else step for size, step in zip(padded, steps, strict=True)))


def offset(names: Sequence[str], strides: Sequence[int]) -> str:
    """``Σ name · stride``."""
    terms = [name if stride == 1 else f"{name} * {stride}" for name, stride in zip(names, strides, strict=True)]
    return " + ".join(terms) or "0"


def loops(names: Sequence[str], sizes: Sequence[int], body: str) -> str:
    """``body`` for each point of ``sizes``, the coordinates in int variables ``names``."""
    heads = [f"for (int {name} = 0; {name} < {size}; ++{name})" for name, size in zip(names, sizes, strict=True)]
    return "\n".join([*heads, f"{{ {body} }}"])


def emit_map(
    builder: Builder,
    node: ir.Node,
    inputs: Sequence[tuple[ir.Value, Access | None]],
    body: str,
    *,
    name: str = "",
    y: ir.Value | None = None,
    dims: Sequence[int] | None = None,
    target: Region | None = None,
    functions: str = "",
    work: int = 1,
) -> None:
    """A `Map` for ``node``: over the elements of ``y``, its first output, or over ``dims``, where ``body`` writes.

    Inputs are read at their access, or by the body where that is None.  ``target`` is a region to write to that was
    allocated before.
    """
    result = y or node.outputs[0]
    shape = builder.shape(result)
    operands = tuple(Operand(builder.type(value), access) for value, access in inputs)
    write = Operand(builder.type(result), Access(contiguous(shape)) if dims is None else None)
    space = tuple(shape if dims is None else dims)
    problem = Map(name or node.op_type.lower(), space, operands, write, body, functions, max(1, work))
    sources = [builder.plain(value) for value, _ in inputs]
    builder.emit(problem, sources, target or builder.allocate(result, "nchw"), node)
