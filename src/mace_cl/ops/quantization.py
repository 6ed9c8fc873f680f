"""QuantizeLinear, DequantizeLinear, and convolutions and products of quantised tensors, in exact integers.

Rounding is to nearest even, then saturating, as the ONNX operators say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mace_cl.graph import attribute
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.types import OPENCL_TYPES
from mace_cl.ops.builder import Builder
from mace_cl.ops.columns import Geometry
from mace_cl.ops.points import Term, emit_result, given, index, loops, pointer

__all__ = ["lower_dequantize", "lower_integer_conv", "lower_integer_matmul", "lower_quantize"]


def _saturated(value: str, kind: str) -> str:
    """A statement that assigns the float ``value``, a whole number, to ``r``."""
    limits = np.iinfo(kind)
    return f"r = ({OPENCL_TYPES[kind]})clamp({value}, {limits.min}.0f, {limits.max}.0f);"


def _place(builder: Builder, node: ir.Node, scale: ir.Value | None) -> str:
    """The element of scale and zero point for a point of the tensor: of all, of an axis, or of a block of an axis."""
    shape, own = builder.shape(node.inputs[0]), builder.shape(scale)
    if math.prod(own) == 1:
        return "0"
    axis = attribute(node, "axis", 1) % len(shape)
    block = attribute(node, "block_size", 0)
    if not block:
        builder.expect(node, scale, (shape[axis],))
        return f"i{axis}"
    builder.expect(node, scale, tuple(-(-size // block) if a == axis else size for a, size in enumerate(shape)))
    return index([f"i{a} / {block}" if a == axis else f"i{a}" for a in range(len(shape))], own)


def _operands(builder: Builder, node: ir.Node) -> tuple[list[Term], str, str]:
    """The tensor's elements, scale and zero point; the last two's values in C."""
    x, scale, zero = node.inputs[0], node.inputs[1], given(node, 2)
    place = _place(builder, node, scale)
    if place != "0" or (zero is not None and math.prod(builder.shape(zero)) != 1):  # [] and [1] mean the same
        builder.expect(node, zero, builder.shape(scale))
    dims = builder.shape(x)
    reads = [Term(pointer(builder, x).operand, builder.type(x), Access(contiguous(dims))), pointer(builder, scale)]
    if zero is not None:
        reads.append(pointer(builder, zero))
    return reads, f"x1[{place}]", "0" if zero is None else f"x2[{place}]"


def lower_quantize(builder: Builder, node: ir.Node) -> None:
    """``QuantizeLinear`` to integers of up to 16 bits, per tensor, axis or block."""
    kind = builder.type(node.outputs[0])
    if kind not in ("int8", "uint8", "int16", "uint16"):
        raise builder.unsupported(node, f"does not run to {kind}")
    reads, scale, zero = _operands(builder, node)
    body = f"float v = rint((float)a0 / {scale}) + (float){zero};\n{_saturated('(isnan(v) ? 0.0f : v)', kind)}"
    emit_result(builder, node, "quantize", reads, body)


def lower_dequantize(builder: Builder, node: ir.Node) -> None:
    """``DequantizeLinear`` of integers, per tensor, axis or block."""
    reads, scale, zero = _operands(builder, node)
    emit_result(builder, node, "dequantize", reads, f"r = (float)((long)a0 - (long){zero}) * {scale};")


def _scalar(builder: Builder, reads: list[Term], value: ir.Value | None, place: str, none: str) -> str:
    """C text of an element of a parameter, which is one number or as many as ``place`` counts."""
    if value is None:
        return none
    reads.append(pointer(builder, value))
    return f"x{len(reads) - 1}[{'0' if math.prod(builder.shape(value)) == 1 else place}]"


def _few(builder: Builder, node: ir.Node, value: ir.Value | None, count: int) -> None:
    if value is not None and math.prod(builder.shape(value)) != 1:
        builder.expect(node, value, (count,))


def lower_integer_conv(builder: Builder, node: ir.Node) -> None:
    """``ConvInteger`` and ``QLinearConv`` of any rank and groups."""
    quantised = node.op_type == "QLinearConv"
    x, w, y = node.inputs[0], node.inputs[3 if quantised else 1], node.outputs[0]
    batch, channels, *image = builder.shape(x)
    outputs, depth, *kernel = builder.shape(w)
    groups = attribute(node, "group", 1)
    builder.expect(node, w, (outputs // groups * groups, channels // groups, *kernel))
    g = Geometry.of(node, image, kernel, builder.shape(y)[2:])
    reads = [pointer(builder, x), pointer(builder, w)]
    positions = (2, 5) if quantised else (2, 3)
    for position in positions[1:]:
        _few(builder, node, given(node, position), outputs)
    zeros = [_scalar(builder, reads, given(node, position), "i1", "0") for position in positions]
    taps, places = [f"k{a}" for a in g.axes], [f"i{a + 2}" for a in g.axes]
    source = index(["i0", f"(i1 / {outputs // groups} * {depth} + c)", *(f"q{a}" for a in g.axes)],
                   (batch, channels, *image))  # fmt: skip
    weight = index(["i1", "c", *taps], (outputs, depth, *kernel))
    step = [*g.positions(taps, places), "if (!inside) continue;",
            f"s += ((int)x0[{source}] - zx) * ((int)x1[{weight}] - zw);"]  # fmt: skip
    head = f"const int zx = {zeros[0]}, zw = {zeros[1]};\nint s = 0;"
    body = f"{head}\n{loops(['c', *taps], [depth, *kernel], chr(10).join(step))}"
    work = 4 * depth * math.prod(kernel)
    if not quantised:
        emit_result(builder, node, "conv_integer", reads, f"{body}\nr = s;", work=work)
        return
    bias = given(node, 8)
    builder.expect(node, bias, (outputs,))
    _few(builder, node, node.inputs[4], outputs)
    total = f"s + {_scalar(builder, reads, bias, 'i1', '0')}"
    scales = [_scalar(builder, reads, node.inputs[position], "i1", "1") for position in (1, 4, 6)]
    body = f"{body}\n{_requantised(builder, node, reads, total, scales, node.inputs[7])}"
    emit_result(builder, node, "qlinear_conv", reads, body, work=work)


def _requantised(
    builder: Builder, node: ir.Node, reads: list[Term], total: str, scales: Sequence[str], zero: ir.Value | None
) -> str:
    """``total`` in units of the first two scales' product as the result's number."""
    kind = builder.type(node.outputs[0])
    shift = _scalar(builder, reads, zero, "0", "0")
    value = f"rint((float)({total}) * ({scales[0]} * {scales[1]} / {scales[2]})) + (float){shift}"
    return f"const float v = {value};\n{_saturated('v', kind)}"


def lower_integer_matmul(builder: Builder, node: ir.Node) -> None:
    """``MatMulInteger`` and ``QLinearMatMul``: ranks as ``numpy.matmul``, parameters per row and column."""
    quantised = node.op_type == "QLinearMatMul"
    a, b, y = node.inputs[0], node.inputs[3 if quantised else 1], node.outputs[0]
    left, right = builder.shape(a), builder.shape(b)
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    (m, k), (depth, n) = left[-2:], right[-2:]
    rank = max(len(left), len(right))
    outer = [(1,) * (rank - len(shape)) + shape[:-2] for shape in (left, right)]
    batch = tuple(max(pair) for pair in zip(*outer, strict=True))
    fits = depth == k and all(size in (1, whole) for shape in outer for size, whole in zip(shape, batch, strict=True))
    if not fits or math.prod(batch) * m * n != math.prod(builder.shape(y)):
        raise builder.unsupported(node, f"{left} and {right} can't be multiplied")
    dims = (*batch, m, n)
    places = contiguous(dims)
    coordinate = [f"(at / {step} % {size})" for step, size in zip(places, dims, strict=True)]
    row, column = coordinate[-2:]

    def start(shape: Sequence[int], area: int) -> str:
        names = ["0" if size == 1 else name for size, name in zip(shape, coordinate, strict=False)]
        return f"({index(names, shape)}) * {area}" if shape else "0"

    reads = [pointer(builder, a), pointer(builder, b)]
    positions = (2, 5) if quantised else (2, 3)
    for position, count in zip(positions, (m, n), strict=True):
        value = given(node, position)
        if value is not None and math.prod(builder.shape(value)) not in (1, count):
            raise builder.unsupported(node, f"zero points of shape {builder.shape(value)} do not run")
    zeros = [
        _scalar(builder, reads, given(node, position), place, "0")
        for position, place in zip(positions, (row, column), strict=True)
    ]
    body = "\n".join([
        f"const int za = {zeros[0]}, zb = {zeros[1]};",
        f"__global const {OPENCL_TYPES[builder.type(a)]} *p = x0 + {start(outer[0], m * k)} + {row} * {k};",
        f"__global const {OPENCL_TYPES[builder.type(b)]} *q = x1 + {start(outer[1], k * n)} + {column};",
        "int s = 0;",
        f"for (int k = 0; k < {k}; ++k) s += ((int)p[k] - za) * ((int)q[k * {n}] - zb);",
    ])  # fmt: skip
    if not quantised:
        emit_result(builder, node, "matmul_integer", reads, f"{body}\nr = s;", work=2 * k)
        return
    for position, count in ((1, m), (4, n)):
        if math.prod(builder.shape(node.inputs[position])) not in (1, count):
            raise builder.unsupported(node, f"scales of shape {builder.shape(node.inputs[position])} do not run")
    scales = [
        _scalar(builder, reads, node.inputs[position], place, "1")
        for position, place in ((1, row), (4, column), (6, "0"))
    ]
    body = f"{body}\n{_requantised(builder, node, reads, 's', scales, node.inputs[7])}"
    emit_result(builder, node, "qlinear_matmul", reads, body, work=2 * k)
