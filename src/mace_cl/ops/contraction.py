"""Sums of products over named dimensions: Einsum, and MatMul of integers and doubles."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import count

import onnx_ir as ir

from mace_cl.graph import attribute
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.types import OPENCL_TYPES
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import emit_node, loops, offset

__all__ = ["lower_contraction", "lower_einsum", "matmul_labels"]


def lower_contraction(
    builder: Builder, node: ir.Node, inputs: Sequence[ir.Value], labels: Sequence[Sequence[str]], result: Sequence[str]
) -> None:
    """``y[result] = Σ Π inputs[labels]`` over all labels that are not in ``result``; sizes of 1 are broadcast."""
    sizes: dict[str, int] = {}
    for value, names in zip(inputs, labels, strict=True):
        shape = builder.shape(value)
        if len(names) != len(shape):
            raise builder.unsupported(node, f"{value.name!r} of shape {shape} has other dimensions than the equation")
        for name, size in zip(names, shape, strict=True):
            if sizes.setdefault(name, size) != size and 1 not in (size, sizes[name]):
                raise builder.unsupported(node, f"{value.name!r} of shape {shape} has another size than the rest")
            sizes[name] = max(size, sizes[name])
    summed = [name for name in sizes if name not in result]
    place = {name: f"i{index}" for index, name in enumerate(result)}
    place |= {name: f"j{index}" for index, name in enumerate(summed)}
    factors = []
    for index, (value, names) in enumerate(zip(inputs, labels, strict=True)):
        shape = builder.shape(value)
        steps = [0 if size == 1 else step for size, step in zip(shape, contiguous(shape), strict=True)]
        factors.append(f"x{index}[{offset([place[name] for name in names], steps)}]")
    kind = OPENCL_TYPES[builder.type(node.outputs[0])]
    product = " * ".join(f"({kind}){factor}" for factor in factors)
    inner = [sizes[name] for name in summed]
    dims = tuple(sizes[name] for name in result)
    if dims != builder.shape(node.outputs[0]) and math.prod(dims) != math.prod(builder.shape(node.outputs[0])):
        raise builder.unsupported(node, f"the result would be of shape {dims}")
    body = f"{kind} s = 0;\n{loops([place[name] for name in summed], inner, f's += {product};')}\ny[at] = s;"
    reads: list[tuple[ir.Value, Access | None]] = [(value, None) for value in inputs]
    emit_node(builder, node, reads, body, dims=dims or (1,), work=2 * math.prod(inner))


def lower_einsum(builder: Builder, node: ir.Node) -> None:
    """Any equation, with diagonals, ellipses and an implied result."""
    inputs = [value for value in node.inputs if value is not None]
    left, arrow, right = attribute(node, "equation").replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(inputs):
        raise builder.unsupported(node, f"the equation has {len(terms)} terms for {len(inputs)} inputs")
    labels, widest = [], 0
    for term, value in zip(terms, inputs, strict=True):
        hidden = len(builder.shape(value)) - len(term.replace("...", "")) if "..." in term else 0
        labels.append(_expanded(term, hidden))
        widest = max(widest, hidden)
    if arrow:
        result = _expanded(right, widest)
    else:
        named = sorted({name for term in labels for name in term if len(name) == 1})
        once = [name for name in named if sum(term.count(name) for term in labels) == 1]
        result = [*_expanded("..." if widest else "", widest), *once]
    lower_contraction(builder, node, inputs, labels, result)


def _expanded(term: str, hidden: int) -> list[str]:
    """The labels of a term; those behind an ellipsis are numbered from the last on."""
    before, dots, after = term.partition("...")
    return [*before, *(f"#{number}" for number in range(hidden, 0, -1) if dots), *after]


def matmul_labels(left: int, right: int) -> tuple[list[str], list[str], list[str]]:
    """The labels of MatMul's operands of these ranks, and of its result."""
    numbers = count(1)
    batch = [f"#{next(numbers)}" for _ in range(max(left, right) - 2)][::-1]
    a = [*batch[len(batch) - max(left - 2, 0) :], "m", "k"] if left > 1 else ["k"]
    b = [*batch[len(batch) - max(right - 2, 0) :], "k", "n"] if right > 1 else ["k"]
    return a, b, [*batch, *(["m"] if left > 1 else []), *(["n"] if right > 1 else [])]
