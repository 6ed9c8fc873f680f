"""Convolutions as a product of weights and columns of the input: all that `ops.convolution` has no kernel for.

``cols[n, c, k…, o…] = x[n, c, o · stride + k · dilation - pad …]`` (im2col); its adjoint sums columns back (col2im).
Grouped convolutions are batches of products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mace_cl.expr import Expr
from mace_cl.graph import array_of, attribute
from mace_cl.kernels.elementwise import COPY, Access, Elementwise, contiguous
from mace_cl.kernels.matmul import MatMul
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import Term, broadcast, emit_map, emit_result, given, index, loops, pointer
from mace_cl.plan import Constant, Region

__all__ = [
    "Geometry",
    "finish",
    "lower_col2im",
    "lower_conv_columns",
    "lower_conv_transpose_columns",
    "lower_deform_conv",
]


@dataclass(frozen=True)
class Geometry:
    """A window that slides over an image of ``image`` positions per axis and stops at ``places`` of them."""

    image: tuple[int, ...]
    kernel: tuple[int, ...]
    places: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]

    @staticmethod
    def of(node: ir.Node, image: Sequence[int], kernel: Sequence[int], places: Sequence[int]) -> Geometry:
        """With the strides, dilations and begins of pads that the node's attributes give."""
        ones = (1,) * len(kernel)
        return Geometry(
            tuple(image), tuple(kernel), tuple(places), tuple(attribute(node, "strides", ones)),
            tuple(attribute(node, "pads", (0,) * 2 * len(kernel)))[: len(kernel)],
            tuple(attribute(node, "dilations", ones)),
        )  # fmt: skip

    @property
    def axes(self) -> range:
        return range(len(self.kernel))

    def positions(self, kernel: Sequence[str], place: Sequence[str]) -> list[str]:
        """C declarations of ``q0 q1 …``, the position per axis, and ``inside``."""
        lines = [
            f"const int q{a} = {place[a]} * {self.strides[a]} + {kernel[a]} * {self.dilations[a]} - {self.pads[a]};"
            for a in self.axes
        ]
        inside = " && ".join(f"q{a} >= 0 && q{a} < {self.image[a]}" for a in self.axes)
        return [*lines, f"const bool inside = {inside};"]


def _columns(builder: Builder, node: ir.Node, channels: int, geometry: Geometry) -> Region:
    """im2col of the node's first input; a view where the window is one position that visits all."""
    x = node.inputs[0]
    assert x is not None
    g, rank = geometry, len(geometry.kernel)
    if set(g.kernel) == set(g.strides) == {1} and not any(g.pads) and g.image == g.places:
        return builder.region(x)
    dims = (builder.shape(x)[0], channels, *g.kernel, *g.places)
    names = [f"i{axis}" for axis in range(2, 2 + 2 * rank)]
    at = index(["i0", "i1", *(f"q{a}" for a in g.axes)], (dims[0], channels, *g.image))
    body = [*g.positions(names[:rank], names[rank:]), f"r = inside ? x0[{at}] : 0.0f;"]
    return emit_map(builder, node, "im2col", [pointer(builder, x)], "\n".join(body), dims)


def _product(
    builder: Builder, node: ir.Node, left: Region | Constant, right: Region, batch: tuple[int, int],
    size: tuple[int, int, int], target: Region,
) -> None:  # fmt: skip
    """``left [G, M, K] × right [N, G, K, L]``; ``batch`` is (N, G), ``size`` (M, K, L)."""
    m, k, n = size
    problem = MatMul(builder.block, batch, ((0, m * k), (batch[1] * k * n, k * n)), size)
    builder.emit(problem, [left, right], target, node)


def _finished(builder: Builder, node: ir.Node, bias: ir.Value | None) -> bool:
    return bias is None and "epilogue" not in node.attributes


def finish(builder: Builder, node: ir.Node, product: Region, bias: ir.Value | None) -> None:
    """The node's result from a row-major ``product``: add the bias, apply the epilogue."""
    y = node.outputs[0]
    dims = builder.shape(y)
    text = attribute(node, "epilogue")
    expr = COPY if text is None else Expr.parse(text)
    operands: list[Region | Constant] = [product]
    accesses = [Access(contiguous(dims))]
    if bias is not None:
        expr = expr.substitute(0, Expr.of("add")) if expr.body else Expr.of("add")
        operands.append(builder.plain(bias))
        accesses.append(Access((0, 1, *(0,) * (len(dims) - 2))))
    for value in node.inputs[attribute(node, "operands", len(node.inputs)) :]:
        assert value is not None
        operands.append(builder.plain(value))
        accesses.append(broadcast(builder.shape(value), dims))
    problem = Elementwise(builder.block, dims, (*accesses, Access(contiguous(dims))), expr)
    builder.emit(problem, operands, builder.allocate(y, "nchw"), node)


def _bias(builder: Builder, node: ir.Node, position: int, outputs: int) -> ir.Value | None:
    if attribute(node, "operands", len(node.inputs)) <= position:
        return None
    bias = given(node, position)
    builder.expect(node, bias, (outputs,))
    return bias


def lower_conv_columns(builder: Builder, node: ir.Node) -> None:
    """``Conv`` of any rank and groups; weights may be computed."""
    x, weights, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert weights is not None
    batch, channels, *image = builder.shape(x)
    outputs, depth, *kernel = builder.shape(weights)
    groups = attribute(node, "group", 1)
    builder.expect(node, weights, (outputs // groups * groups, channels // groups, *kernel))
    bias = _bias(builder, node, 2, outputs)
    geometry = Geometry.of(node, image, kernel, builder.shape(y)[2:])
    columns = _columns(builder, node, channels, geometry)
    _contract(builder, node, columns, weights, (batch, groups), outputs, depth * math.prod(kernel), bias)


def _contract(
    builder: Builder, node: ir.Node, columns: Region, weights: ir.Value, batch: tuple[int, int], outputs: int,
    depth: int, bias: ir.Value | None,
) -> None:  # fmt: skip
    y = node.outputs[0]
    size = (outputs // batch[1], depth, math.prod(builder.shape(y)[2:]))
    done = _finished(builder, node, bias)
    target = builder.allocate(y, "nchw") if done else builder.scratch(f"{y.name}.product", _bytes(builder.shape(y)))
    _product(builder, node, builder.plain(weights), columns, batch, size, target)
    if not done:
        finish(builder, node, target, bias)


def _bytes(shape: Sequence[int]) -> int:
    return 4 * math.prod(shape)


def lower_conv_transpose_columns(builder: Builder, node: ir.Node, pads: Sequence[int]) -> None:
    """``ConvTranspose`` of any rank and groups; weights may be computed."""
    x, weights, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert x is not None
    assert weights is not None
    batch, channels, *places = builder.shape(x)
    _, per_group, *kernel = builder.shape(weights)
    groups = attribute(node, "group", 1)
    outputs, rows = per_group * groups, per_group * math.prod(kernel)
    builder.expect(node, weights, (channels // groups * groups, per_group, *kernel))
    bias = _bias(builder, node, 2, outputs)
    flipped = _transposed(builder, node, weights, (groups, channels // groups, rows))
    inner = math.prod(places)
    columns = builder.scratch(f"{y.name}.columns", _bytes((batch, groups, rows, inner)))
    size = (rows, channels // groups, inner)
    _product(builder, node, flipped, builder.region(x), (batch, groups), size, columns)
    image = builder.shape(y)[2:]
    ones = (1,) * len(kernel)
    geometry = Geometry(
        image, tuple(kernel), tuple(places), tuple(attribute(node, "strides", ones)), tuple(pads),
        tuple(attribute(node, "dilations", ones)),
    )  # fmt: skip
    body, work = _col2im(geometry, (batch, outputs)), math.prod(kernel)
    if _finished(builder, node, bias):
        emit_result(builder, node, "col2im", [Term(columns, "float32")], body, work=work)
        return
    total = emit_map(builder, node, "col2im", [Term(columns, "float32")], body, builder.shape(y), work=work)
    finish(builder, node, total, bias)


def _transposed(builder: Builder, node: ir.Node, weights: ir.Value, dims: tuple[int, int, int]) -> Region | Constant:
    """``weights`` as ``[G, K, M]`` turned to ``[G, M, K]``."""
    array = array_of(weights)
    if array is not None:
        turned = np.ascontiguousarray(array.reshape(dims).swapaxes(1, 2))
        return Constant(f"{weights.name}.transposed", turned)
    groups, k, m = dims
    target = builder.scratch(f"{weights.name}.transposed", _bytes(dims))
    copy = builder.copy("float32", Access((k * m, 1, m)), Access((k * m, k, 1)), (groups, m, k))
    builder.emit(copy, [builder.region(weights)], target, node)
    return target


def _col2im(geometry: Geometry, outer: tuple[int, int], zero: str = "0.0f") -> str:
    """For the point (n, c, position…): the sum of the columns that the window took from there."""
    g = geometry
    kernel, places = [f"k{a}" for a in g.axes], [f"p{a}" for a in g.axes]
    lines = []
    for a in g.axes:
        lines += [
            f"const int t{a} = i{a + 2} + {g.pads[a]} - k{a} * {g.dilations[a]}, p{a} = t{a} / {g.strides[a]};",
            f"if (t{a} < 0 || t{a} % {g.strides[a]} || p{a} >= {g.places[a]}) continue;",
        ]
    at = index(["i0", "i1", *kernel, *places], (*outer, *g.kernel, *g.places))
    return f"r = {zero};\n" + loops(kernel, g.kernel, "\n".join([*lines, f"r += x0[{at}];"]))


def lower_col2im(builder: Builder, node: ir.Node) -> None:
    """``Col2Im``; image and block have constant shapes."""
    x, y = node.inputs[0], node.outputs[0]
    block = array_of(node.inputs[2])
    if block is None:
        raise builder.unsupported(node, "the shape of the blocks is not constant")
    batch, channels, *image = builder.shape(y)
    kernel = tuple(int(size) for size in block.reshape(-1))
    ones = (1,) * len(kernel)
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    pads = attribute(node, "pads", (0,) * 2 * len(kernel))
    places = tuple(
        (image[a] + pads[a] + pads[a + len(kernel)] - dilations[a] * (kernel[a] - 1) - 1) // strides[a] + 1
        for a in range(len(kernel))
    )
    builder.expect(node, x, (batch, channels * math.prod(kernel), math.prod(places)))
    geometry = Geometry(tuple(image), kernel, places, tuple(strides), tuple(pads[: len(kernel)]), tuple(dilations))
    body = _col2im(geometry, (batch, channels), "0")
    emit_result(builder, node, "col2im", [pointer(builder, x)], body, work=math.prod(kernel))


_SAMPLE = """
float ENTRY_sample(__global const float *x, float row, float column) {
  const float top = floor(row), left = floor(column);
  float sum = 0.0f;
  for (int corner = 0; corner < 4; ++corner) {
    const float y = top + (corner >> 1), z = left + (corner & 1);
    if (y >= 0.0f && y < HEIGHT.0f && z >= 0.0f && z < WIDTH.0f)
      sum += (1.0f - fabs(row - y)) * (1.0f - fabs(column - z)) * x[(int)y * WIDTH + (int)z];
  }
  return sum;
}
"""


def lower_deform_conv(builder: Builder, node: ir.Node) -> None:
    """2-D ``DeformConv``: columns are sampled at the offsets, bilinear, zero outside, times the mask."""
    x, weights, offset, y = node.inputs[0], node.inputs[1], node.inputs[2], node.outputs[0]
    assert weights is not None
    shape = builder.shape(x)
    if len(shape) != 4:
        raise builder.unsupported(node, f"only 2-D deformable convolutions run, the input is {shape}")
    batch, channels, height, width = shape
    outputs, depth, *kernel = builder.shape(weights)
    groups, offset_groups = attribute(node, "group", 1), attribute(node, "offset_group", 1)
    places = builder.shape(y)[2:]
    taps = math.prod(kernel)
    builder.expect(node, weights, (outputs // groups * groups, channels // groups, *kernel))
    builder.expect(node, offset, (batch, offset_groups * taps * 2, *places))
    mask, bias = given(node, 4), _bias(builder, node, 3, outputs)
    builder.expect(node, mask, (batch, offset_groups * taps, *places))
    g = Geometry.of(node, (height, width), kernel, places)
    tap = f"(i0 * {offset_groups} + i1 / {channels // offset_groups}) * {taps} + i2 * {kernel[1]} + i3"
    area = math.prod(places)
    body = [
        f"const int tap = {tap}, place = i4 * {places[1]} + i5;",
        f"const float row = i4 * {g.strides[0]} + i2 * {g.dilations[0]} - {g.pads[0]} + x1[2 * tap * {area} + place];",
        f"const float column = i5 * {g.strides[1]} + i3 * {g.dilations[1]} - {g.pads[1]}"
        f" + x1[(2 * tap + 1) * {area} + place];",
        f"r = ENTRY_sample(x0 + (i0 * {channels} + i1) * {height * width}, row, column)"
        + (f" * x2[tap * {area} + place];" if mask is not None else ";"),
    ]
    reads = [pointer(builder, value) for value in (x, offset, mask) if value is not None]
    functions = _SAMPLE.replace("HEIGHT", str(height)).replace("WIDTH", str(width))
    dims = (batch, channels, *kernel, *places)
    columns = emit_map(builder, node, "deform", reads, "\n".join(body), dims, functions=functions, work=16)
    _contract(builder, node, columns, weights, (batch, groups), outputs, depth * taps, bias)
