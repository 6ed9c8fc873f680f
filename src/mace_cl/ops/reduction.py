"""The Reduce ops over constant axes, in any type."""

from __future__ import annotations

import math

import onnx_ir as ir

from mace_cl.graph import array_of, attribute
from mace_cl.kernels.elementwise import contiguous
from mace_cl.kernels.reduce import REDUCTIONS, Reduce
from mace_cl.kernels.types import OPENCL_TYPES
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import emit_node, loops, offset

__all__ = ["GENERAL", "lower_reduce"]

GENERAL: dict[str, tuple[str, str, str]] = {
    "L1": ("0", "s += v < 0 ? -v : v;", "s"),
    "L2": ("0", "s += v * v;", "sqrt(s)"),
    "LogSum": ("0", "s += v;", "log(s)"),
    "LogSumExp": ("0", "s += exp(v - high);", "log(s) + high"),
    "Max": ("", "s = (v > s || v != v) ? v : s;", "s"),
    "Mean": ("0", "s += v;", "s / N"),
    "Min": ("", "s = (v < s || v != v) ? v : s;", "s"),
    "Prod": ("1", "s *= v;", "s"),
    "Sum": ("0", "s += v;", "s"),
    "SumSquare": ("0", "s += v * v;", "s"),
}
"""Start, step and end of each reduction: ``s`` is the running value, ``v`` an element, ``N`` their number.

Without a start, it is the least or greatest value of the type.
"""

_REAL = {"L2", "LogSum", "LogSumExp"}
"""Reductions that compute with real numbers; integers go through float."""

_LIMITS = {"int8": "CHAR", "int16": "SHRT", "int32": "INT", "int64": "LONG", "uint8": "UCHAR", "uint16": "USHRT",
           "uint32": "UINT", "uint64": "ULONG"}  # fmt: skip


def lower_reduce(builder: Builder, node: ir.Node) -> None:
    """Axes come as an attribute or, since opset 13 or 18, as an input; none means all."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape, kind = builder.shape(x), node.op_type.removeprefix("Reduce")
    reduced = _axes(builder, node, len(shape))
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    strides = contiguous(shape)
    if not reduced and kind in ("Sum", "Mean", "Max", "Min", "Prod"):
        builder.place(y, "nchw", builder.region(x))
        return
    if builder.type(x) == "float32" and kind.lower() in REDUCTIONS and 0 not in shape:
        problem = Reduce(
            builder.block,
            tuple(shape[axis] for axis in kept) or (1,),
            tuple(strides[axis] for axis in kept) or (1,),
            tuple(shape[axis] for axis in reduced),
            tuple(strides[axis] for axis in reduced),
            kind.lower(),
        )
        source = builder.region(x)
        builder.emit(problem, [source], builder.allocate(y, "nchw"), node)
        return
    sizes = [shape[axis] for axis in reduced]
    body = _body(kind, builder.type(x), sizes, [strides[axis] for axis in reduced])
    dims = tuple(shape[axis] for axis in kept)
    base = offset([f"i{index}" for index in range(len(kept))], [strides[axis] for axis in kept])
    text = f"const int base = {base};\n{body}\ny[at] = s_end;"
    emit_node(builder, node, [(x, None)], text, dims=dims or (1,), work=math.prod(sizes))


def _axes(builder: Builder, node: ir.Node, rank: int) -> list[int]:
    axes = attribute(node, "axes")
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = array_of(node.inputs[1])
        if given is None:
            raise builder.unsupported(node, "the axes are not constant")
        axes = given.reshape(-1).tolist()
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        return []
    return sorted({axis % rank for axis in axes} if axes else range(rank))


def _body(kind: str, element: str, sizes: list[int], strides: list[int]) -> str:
    """Statements that leave the result in ``s_end``."""
    start, step, end = GENERAL[kind]
    whole, real = OPENCL_TYPES[element], element in ("float32", "float64")
    if not start:
        limit = ("-" if kind == "Max" else "") + "INFINITY" if real else ""
        end_of = "MIN" if kind == "Max" else "MAX"
        name = _LIMITS.get(element, "")
        zero = element.startswith("uint") and kind == "Max"
        start = limit or ("0" if zero else ("0" if kind == "Max" else "1") if element == "bool" else f"{name}_{end_of}")
    running = whole if real or kind not in _REAL else "float"
    names = [f"j{index}" for index in range(len(sizes))]
    read = f"const {running} v = x0[base + {offset(names, strides)}];"
    lines = []
    if kind == "LogSumExp":
        lines += [f"{running} high = -INFINITY;", loops(names, sizes, f"{read} high = fmax(high, v);")]
        lines += ["high = isinf(high) ? 0 : high;"]
    count = math.prod(sizes)
    lines += [f"{running} s = {start};", loops(names, sizes, f"{read} {step}")]
    lines += [f"const {whole} s_end = {end.replace('N', str(count))};"]
    return "\n".join(lines)
