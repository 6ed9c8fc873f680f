"""How an op gives a `kernels.map.Map` its operands and result, and index arithmetic as OpenCL C text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.map import Map, Operand
from mace_cl.kernels.types import item_bytes
from mace_cl.ops.builder import Builder
from mace_cl.plan import Constant, Region

__all__ = [
    "Term", "broadcast", "emit_into", "emit_map", "emit_node", "emit_result", "given", "index", "loops", "offset",
    "pointer", "table",
]  # fmt: skip


class Term(NamedTuple):
    """An operand: where it lies, its type, and the place that it is read at, if that follows from coordinates."""

    operand: Region | Constant
    kind: str
    access: Access | None = None


def given(node: ir.Node, position: int) -> ir.Value | None:
    """An optional input."""
    return node.inputs[position] if len(node.inputs) > position else None


def pointer(builder: Builder, value: ir.Value | None) -> Term:
    """A whole tensor that the body indexes itself."""
    assert value is not None
    return Term(builder.plain(value), builder.type(value))


def table(name: str, array: NDArray[np.generic]) -> Term:
    """Numbers that lowering worked out, for the body to look up."""
    return Term(Constant(name, array), array.dtype.name)


def emit_result(
    builder: Builder, node: ir.Node, op: str, reads: Sequence[Term], body: str, *, output: int = 0,
    functions: str = "", work: int = 1,
) -> None:  # fmt: skip
    """``body`` for each element of an output of the node, row-major; it assigns ``r``."""
    y = node.outputs[output]
    target, kind = builder.allocate(y, "nchw"), builder.type(y)
    emit_into(builder, node, op, reads, body, builder.shape(y), target, kind=kind, functions=functions, work=work)


def emit_map(
    builder: Builder, node: ir.Node, op: str, reads: Sequence[Term], body: str, dims: Sequence[int], *,
    kind: str = "float32", functions: str = "", work: int = 1,
) -> Region:  # fmt: skip
    """``body`` for each element of a new row-major tensor that is no value of the graph."""
    target = builder.scratch(f"{node.outputs[0].name}.{op}", math.prod(dims) * item_bytes(kind))
    emit_into(builder, node, op, reads, body, dims, target, kind=kind, functions=functions, work=work)
    return target


def emit_into(
    builder: Builder, node: ir.Node, op: str, reads: Sequence[Term], body: str, dims: Sequence[int], target: Region, *,
    kind: str = "float32", functions: str = "", work: int = 1,
) -> None:  # fmt: skip
    """``body`` for each element of a row-major region."""
    operands = tuple(Operand(term.kind, term.access) for term in reads)
    problem = Map(op, tuple(dims), operands, Operand(kind, Access(contiguous(dims))), body, functions, work)
    builder.emit(problem, [term.operand for term in reads], target, node)


def emit_node(
    builder: Builder, node: ir.Node, inputs: Sequence[tuple[ir.Value, Access | None]], body: str, *, name: str = "",
    y: ir.Value | None = None, dims: Sequence[int] | None = None, target: Region | None = None, functions: str = "",
    work: int = 1,
) -> None:  # fmt: skip
    """A `Map` over the elements of ``y``, the node's first output, or over ``dims``, where ``body`` writes itself.

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


def broadcast(shape: Sequence[int], dims: Sequence[int]) -> Access:
    """Where a tensor of ``shape`` lies when it is broadcast to ``dims``."""
    padded = (1,) * (len(dims) - len(shape)) + tuple(shape)
    steps = contiguous(padded)
    return Access(tuple(0 if size == 1 else step for size, step in zip(padded, steps, strict=True)))


def offset(names: Sequence[str], strides: Sequence[int]) -> str:
    """C text of ``Σ name · stride``."""
    terms = [name if stride == 1 else f"{name} * {stride}" for name, stride in zip(names, strides, strict=True)]
    return " + ".join(terms) or "0"


def index(names: Iterable[str], dims: Sequence[int]) -> str:
    """C text of the row-major number of the element at ``names`` in a tensor of ``dims``."""
    terms = [
        name if step == 1 else f"({name}) * {step}"
        for name, size, step in zip(names, dims, contiguous(dims), strict=True)
        if size > 1
    ]
    return " + ".join(terms) or "0"


def loops(names: Sequence[str], ends: Sequence[int], body: str) -> str:
    """Nested C loops of ``names`` from 0 to ``ends`` around ``body``."""
    heads = [f"for (int {name} = 0; {name} < {end}; ++{name})" for name, end in zip(names, ends, strict=True)]
    return "\n".join([*heads, "{", body, "}"])
