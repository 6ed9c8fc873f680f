"""Ops that walk along one axis: ArgMax, ArgMin, CumSum, CumProd, Hardmax, TopK."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from mace_cl.graph import array_of, attribute, is_used
from mace_cl.kernels.elementwise import contiguous
from mace_cl.kernels.types import OPENCL_TYPES
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import emit_node, offset

__all__ = ["lower_arg", "lower_cumulative", "lower_hardmax", "lower_topk"]


def _lines(shape: Sequence[int], axis: int, name: str = "base") -> str:
    """The place of the first element of line (i0, i1, …) along ``axis``, in ``name``."""
    strides = contiguous(shape)
    return f"const int {name} = {offset([f'i{index}' for index in range(len(shape))], _without(strides, axis))};"


def _without(strides: Sequence[int], axis: int) -> list[int]:
    return [0 if index == axis else step for index, step in enumerate(strides)]


def _one(shape: Sequence[int], axis: int) -> tuple[int, ...]:
    return tuple(1 if index == axis else size for index, size in enumerate(shape))


def lower_arg(builder: Builder, node: ir.Node) -> None:
    """``ArgMax`` and ``ArgMin``; of equal values the first, or the last where that is asked for."""
    x = node.inputs[0]
    assert x is not None
    shape = builder.shape(x)
    axis = attribute(node, "axis", 0) % len(shape)
    step, sign = contiguous(shape)[axis], ">" if node.op_type == "ArgMax" else "<"
    if attribute(node, "select_last_index", 0):
        sign += "="
    kind = OPENCL_TYPES[builder.type(x)]
    body = (
        f"{_lines(shape, axis)}\n{kind} best = x0[base];\nint found = 0;\n"
        f"for (int j = 1; j < {shape[axis]}; ++j) {{ const {kind} v = x0[base + j * {step}]; "
        f"if (v {sign} best || (v != v && best == best)) {{ best = v; found = j; }} }}\ny[at] = found;"
    )
    emit_node(builder, node, [(x, None)], body, dims=_one(shape, axis), work=shape[axis])


def lower_cumulative(builder: Builder, node: ir.Node) -> None:
    """``CumSum`` and ``CumProd`` along a constant axis, forwards or backwards, with or without the element itself."""
    x, given = node.inputs[:2]
    assert x is not None
    shape, axis_given = builder.shape(x), array_of(given)
    if axis_given is None:
        raise builder.unsupported(node, "the axis is not constant")
    axis = int(axis_given.reshape(-1)[0]) % len(shape)
    step, length, kind = contiguous(shape)[axis], shape[axis], OPENCL_TYPES[builder.type(x)]
    sign, start = ("+", "0") if node.op_type == "CumSum" else ("*", "1")
    place = f"base + {f'({length - 1} - j)' if attribute(node, 'reverse', 0) else 'j'} * {step}"
    add = f"s = s {sign} x0[p];"
    both = f"y[p] = s; {add}" if attribute(node, "exclusive", 0) else f"{add} y[p] = s;"
    body = (
        f"{_lines(shape, axis)}\n{kind} s = {start};\n"
        f"for (int j = 0; j < {length}; ++j) {{ const int p = {place}; {both} }}"
    )
    emit_node(builder, node, [(x, None)], body, dims=_one(shape, axis), work=length)


def lower_hardmax(builder: Builder, node: ir.Node) -> None:
    """1 at the first greatest value, 0 elsewhere; before opset 13 all axes from ``axis`` on count as one."""
    x = node.inputs[0]
    assert x is not None
    shape = builder.shape(x)
    axis = attribute(node, "axis", -1 if builder.opset >= 13 else 1) % len(shape)
    if builder.opset < 13:
        rows = contiguous((*shape[:axis], 1))
        inner = 1
        for size in shape[axis:]:
            inner *= size
        dims, length, step = (*shape[:axis], 1), inner, 1
        base = offset([f"i{index}" for index in range(axis)], [row * inner for row in rows[:axis]])
        lines = f"const int base = {base};"
    else:
        dims, length, step, lines = _one(shape, axis), shape[axis], contiguous(shape)[axis], _lines(shape, axis)
    body = (
        f"{lines}\nint found = 0;\n"
        f"for (int j = 1; j < {length}; ++j) if (x0[base + j * {step}] > x0[base + found * {step}]) found = j;\n"
        f"for (int j = 0; j < {length}; ++j) y[base + j * {step}] = j == found;"
    )
    emit_node(builder, node, [(x, None)], body, dims=dims, work=2 * length)


def lower_topk(builder: Builder, node: ir.Node) -> None:
    """The k greatest or least along an axis, in order; of equal values the one with the lower index first.

    Each place of the result is searched for after the one before it: no scratch memory, k passes.
    """
    x = node.inputs[0]
    assert x is not None
    shape, result = builder.shape(x), builder.shape(node.outputs[0])
    axis = attribute(node, "axis", -1) % len(shape)
    length, count, step, out = shape[axis], result[axis], contiguous(shape)[axis], contiguous(result)[axis]
    sign = ">" if attribute(node, "largest", 1) else "<"
    kind = OPENCL_TYPES[builder.type(x)]
    for y, value in zip(node.outputs, ("best", "found"), strict=False):
        if not is_used(y):
            continue
        body = (
            f"{_lines(shape, axis)}\n{_lines(result, axis, 'place')}\nint last = -1;\n{kind} bound = 0;\n"
            f"for (int p = 0; p < {count}; ++p) {{\n"
            f"  int found = -1;\n  {kind} best = 0;\n"
            f"  for (int j = 0; j < {length}; ++j) {{\n    const {kind} v = x0[base + j * {step}];\n"
            f"    const int after = last < 0 || bound {sign} v || (v == bound && j > last);\n"
            f"    if (after && (found < 0 || v {sign} best)) {{ best = v; found = j; }}\n  }}\n"
            f"  y[place + p * {out}] = {value};\n  last = found;\n  bound = best;\n}}"
        )
        emit_node(builder, node, [(x, None)], body, y=y, dims=_one(shape, axis), work=length * count)
