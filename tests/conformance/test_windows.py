"""Convolutions and pools of every rank, type and attribute; what `test_ops` has of 2-D fp32 apart."""

from __future__ import annotations

import numpy as np
import pytest

from support import Array, Case, Oracle, Results, Start, agree, case, filled

CONVOLUTION = [
    case("1d", "y = Conv<pads=[1,1]>(x, w, b)", x=(1, 5, 9), w=(8, 5, 3), b=(8,)),
    case("1d_relu", "c = Conv<strides=[2], dilations=[2], pads=[1,2]>(x, w, b) y = Relu(c)",
         x=(2, 17, 20), w=(16, 17, 3), b=(16,)),
    case("1d_chain", "a = Conv<pads=[1,1]>(x, w) b = Sigmoid(a) c = Mul(a, b) d = Conv(c, v) y = Add(d, a)",
         x=(1, 16, 12), w=(16, 16, 3), v=(16, 16, 1)),
    case("1d_depthwise", "y = Conv<group=17, pads=[2,2]>(x, w)", x=(2, 17, 11), w=(17, 1, 5)),
    case("1d_grouped", "y = Conv<group=3>(x, w)", x=(2, 9, 11), w=(6, 3, 4)),
    case("1d_same", 'y = Conv<auto_pad="SAME_LOWER", strides=[2]>(x, w)', x=(1, 3, 8), w=(5, 3, 4)),
    case("1d_gate", "c = Conv(x, w) g = GlobalAveragePool(c) s = Sigmoid(g) y = Mul(c, s)", x=(1, 8, 12), w=(16, 8, 1)),
    case("1d_concat", "a = Conv(x, w) b = Conv(x, v) c = Concat<axis=1>(a, b) p, q = Split<axis=1, num_outputs=2>(c) "
         "y = Relu(p) y1 = Exp(q)", x=(1, 8, 6), w=(16, 8, 1), v=(16, 8, 1)),
    case("1d_column", "c = Conv(x, w) y = Add(c, x1)", x=(1, 8, 6), w=(17, 8, 1), x1=(1, 17, 1)),
    case("3d", "y = Conv<pads=[1,1,1,1,1,1]>(x, w, b)", x=(2, 3, 4, 5, 6), w=(5, 3, 3, 3, 3), b=(5,)),
    case("3d_strides", "c = Conv<strides=[2,1,2], dilations=[1,2,1], pads=[0,1,0,1,0,2]>(x, w) y = Relu(c)",
         x=(1, 4, 5, 6, 7), w=(6, 4, 2, 3, 3)),
    case("3d_grouped", "y = Conv<group=2>(x, w, b)", x=(2, 4, 4, 4, 4), w=(6, 2, 2, 2, 2), b=(6,)),
    case("3d_point", "c = Conv(x, w, b) d = Sigmoid(c) y = Add(d, x1)", x=(1, 5, 3, 4, 5), w=(8, 5, 1, 1, 1), b=(8,),
         x1=(1, 8, 3, 4, 5)),
    case("3d_same", 'y = Conv<auto_pad="SAME_UPPER", strides=[2,2,2]>(x, w)',
         x=(1, 2, 5, 6, 7), w=(3, 2, 3, 3, 3)),
    case("computed", "y = Conv<pads=[1,1,1,1]>(x, x1)", x=(2, 3, 5, 6), x1=(4, 3, 3, 3)),
    case("computed_bias", "c = Conv<group=2, strides=[2,2]>(x, x1, x2) y = Relu(c)",
         x=(1, 4, 7, 6), x1=(6, 2, 3, 3), x2=(6,)),
    case("computed_1d", "y = Conv(x, x1, b)", x=(1, 4, 7), x1=(6, 4, 3), b=(6,)),
    case("computed_bias_only", "y = Conv(x, w, x1)", x=(1, 4, 7, 6), w=(6, 4, 3, 3), x1=(6,)),
    case("computed_scaled", "c = Conv(x, x1) y = Mul(c, s)", x=(1, 4, 7, 6), x1=(6, 4, 3, 3), s=(6, 1, 1)),
]  # fmt: skip


def transpose(name: str, x: tuple[int, ...], w: tuple[int, ...], attributes: str = "", bias: int = 0) -> Case:
    op = f"ConvTranspose<{attributes}>" if attributes else "ConvTranspose"
    if bias:
        return case(name, f"y = {op}(x, w, b)", x=x, w=w, b=(bias,), oracle="onnxruntime")
    return case(name, f"y = {op}(x, w)", x=x, w=w, oracle="onnxruntime")


TRANSPOSED = [
    transpose("stride_1", (1, 5, 4, 6), (5, 7, 3, 3)),
    transpose("pads", (2, 17, 5, 4), (17, 16, 3, 3), "pads=[1,1,1,1]", 16),
    transpose("twice", (1, 16, 5, 7), (16, 24, 2, 2), "strides=[2,2]", 24),
    transpose("twice_unaligned", (2, 5, 5, 7), (5, 3, 2, 2), "strides=[2,2]", 3),
    transpose("4x4", (1, 16, 6, 5), (16, 8, 4, 4), "strides=[2,2], pads=[1,1,1,1]"),
    transpose("3x3", (1, 8, 6, 5), (8, 8, 3, 3), "strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]", 8),
    transpose("wide_crop", (1, 8, 6, 5), (8, 8, 3, 4), "strides=[2,3], pads=[2,3,1,2]"),
    transpose("kernel_below_stride", (1, 5, 4, 3), (5, 4, 1, 2), "strides=[3,4]", 4),
    transpose("dilated", (1, 5, 4, 6), (5, 4, 3, 2), "strides=[2,1], dilations=[2,3], pads=[1,0,0,2]"),
    transpose("grouped", (2, 6, 4, 5), (6, 2, 3, 3), "group=3, strides=[2,2]", 6),
    transpose("grouped_blocks", (1, 32, 4, 5), (32, 16, 2, 2), "group=2, strides=[2,2]"),
    transpose("depthwise", (1, 17, 4, 5), (17, 1, 4, 4), "group=17, strides=[2,2], pads=[1,1,1,1]"),
    transpose("output_shape", (1, 3, 3, 3), (3, 2, 3, 3), "strides=[3,2], output_shape=[10,8]"),
    transpose("output_shape_crop", (1, 3, 4, 4), (3, 2, 3, 3), "strides=[2,2], output_shape=[8,7]"),
    transpose("same_upper", (1, 3, 3, 4), (3, 2, 3, 4), 'auto_pad="SAME_UPPER", strides=[2,2]'),
    transpose("same_lower", (1, 3, 3, 4), (3, 2, 3, 4), 'auto_pad="SAME_LOWER", strides=[2,2]'),
    transpose("valid", (1, 3, 3, 4), (3, 2, 3, 4), 'auto_pad="VALID", strides=[2,2]'),
    transpose("1d", (2, 5, 9), (5, 8, 4), "strides=[2], pads=[1,1]", 8),
    transpose("1d_long", (1, 16, 9), (16, 8, 16), "strides=[8], pads=[4,4]"),
    transpose("3d", (2, 4, 3, 4, 5), (4, 3, 2, 2, 2), "strides=[2,2,2]", 3),
    transpose("3d_grouped", (1, 4, 3, 4, 5), (4, 2, 3, 3, 3), "group=2, strides=[2,1,2], pads=[1,0,1,1,1,0]"),
    case("relu", "c = ConvTranspose<strides=[2,2]>(x, w, b) y = Relu(c)", x=(1, 8, 4, 4), w=(8, 5, 3, 3), b=(5,)),
    case("computed", "c = ConvTranspose<strides=[2,2]>(x, x1, b) y = Relu(c)", x=(1, 4, 4, 4), x1=(4, 5, 3, 3), b=(5,)),
    case("batch_norm", "c = ConvTranspose<strides=[2,2]>(x, w, b) y = BatchNormalization(c, s, t, m, v)",
         x=(1, 8, 4, 4), w=(8, 6, 2, 2), b=(6,), s=(6,), t=(6,), m=(6,), v=filled("variance", (6,), 0.1)),
    case("then_conv", "c = ConvTranspose<strides=[2,2]>(x, w) d = Concat<axis=1>(c, x1) y = Conv<pads=[1,1,1,1]>(d, v)",
         x=(1, 32, 4, 4), w=(32, 16, 2, 2), x1=(1, 16, 8, 8), v=(16, 32, 3, 3)),
]  # fmt: skip

DEFORMED = [
    case("plain", "y = DeformConv(x, w, x1)", x=(1, 3, 6, 5), w=(4, 3, 3, 3), x1=(1, 18, 4, 3)),
    case("mask", "y = DeformConv<pads=[1,1,1,1], strides=[2,1]>(x, w, x1, b, x2)", x=(2, 4, 6, 5), w=(6, 4, 3, 3),
         x1=(2, 18, 3, 5), b=(6,), x2=(2, 9, 3, 5)),
    case("groups", "y = DeformConv<group=2, offset_group=2, dilations=[2,1]>(x, w, x1)", x=(1, 4, 6, 5), w=(6, 2, 2, 3),
         x1=(1, 24, 4, 3)),
    case("far", "y = DeformConv(x, w, x1)", x=(1, 1, 4, 4), w=(1, 1, 2, 2), x1=np.full((1, 8, 3, 3), 1e30, np.float32)),
]  # fmt: skip

COLUMNS = [
    case("col2im", "y = Col2Im(x, i, b)", x=(1, 10, 5), i=[5, 5], b=[1, 5]),
    case("col2im_strides", "y = Col2Im<strides=[2,2], pads=[1,0,1,1]>(x, i, b)", x=(2, 18, 9), i=[5, 7], b=[3, 3]),
    case("col2im_dilations", "y = Col2Im<dilations=[1,5]>(x, i, b)", x=(1, 4, 5), i=[6, 6], b=[2, 2]),
    case("col2im_3d", "y = Col2Im(x, i, b)", x=(1, 10, 12), i=[3, 4, 5], b=[1, 1, 5]),
]


def pool(name: str, op: str, x: tuple[int, ...] | Array, attributes: str, oracle: Oracle = "onnxruntime") -> Case:
    return case(f"{op.lower()}_{name}", f"y = {op}<{attributes}>(x)", x=x, oracle=oracle)


def small(kind: str, *shape: int) -> Array:
    return np.random.default_rng(shape).integers(0, 100, shape).astype(kind)


INDICES = "y, z = MaxPool<{}>(x) y1 = Identity(z)"

POOLS = [
    *(
        one
        for op in ("MaxPool", "AveragePool", "LpPool")
        for one in (
            pool("1d", op, (2, 5, 9), "kernel_shape=[3], strides=[2], pads=[1,1]"),
            pool("1d_same", op, (1, 17, 8), 'kernel_shape=[4], strides=[2], auto_pad="SAME_LOWER"'),
            pool("2d", op, (2, 17, 7, 8), "kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]"),
            pool("3d", op, (2, 3, 5, 6, 7), "kernel_shape=[2,3,2], strides=[1,2,2], pads=[0,1,0,1,1,1]"),
            pool("3d_same", op, (1, 3, 5, 6, 7), 'kernel_shape=[2,3,2], strides=[1,2,2], auto_pad="SAME_UPPER"'),
            pool("dilated", op, (1, 5, 9, 11), "kernel_shape=[2,3], dilations=[3,2], pads=[1,1,1,1]"),
            pool("3d_dilated", op, (1, 2, 6, 7, 8), "kernel_shape=[2,2,3], dilations=[3,2,2]"),
            pool("ceil", op, (1, 5, 8, 9), "kernel_shape=[3,3], strides=[2,2], ceil_mode=1"),
            pool("1d_ceil", op, (1, 5, 10), "kernel_shape=[3], strides=[2], ceil_mode=1, pads=[0,1]"),
        )
        if not (op == "LpPool" and one.name.endswith("same_lower"))
    ),
    pool("wide_1d", "MaxPool", (2, 5, 90), "kernel_shape=[40], strides=[3], pads=[7,2]"),
    case("wide_relu", "p = AveragePool<kernel_shape=[2,40], pads=[1,3,0,8]>(x) y = Relu(p)", x=(1, 5, 6, 90)),
    pool("counts_1d", "AveragePool", (1, 5, 9), "kernel_shape=[3], pads=[1,2], count_include_pad=1"),
    pool("counts_3d", "AveragePool", (1, 2, 5, 6, 4), "kernel_shape=[3,3,2], pads=[1,1,0,1,1,1], count_include_pad=1"),
    pool("counts_3d_ceil", "AveragePool", (1, 2, 5, 6, 4),
         "kernel_shape=[3,3,3], strides=[2,2,2], pads=[1,1,1,1,1,1], count_include_pad=1, ceil_mode=1"),
    pool("p1", "LpPool", (1, 3, 5, 6), "kernel_shape=[2,2], p=1"),
    pool("p3", "LpPool", (1, 3, 5, 6), "kernel_shape=[2,2], p=3"),
    *(pool(kind, "MaxPool", small(kind, 1, 3, 6, 7), "kernel_shape=[3,2], pads=[1,0,0,1]")
      for kind in ("int8", "uint8")),
    *(
        case(f"indices_{name}", INDICES.format(attributes), x=x, oracle="onnxruntime")
        for name, x, attributes in (
            ("1d", (2, 3, 9), "kernel_shape=[3], strides=[2], pads=[1,0]"),
            ("2d", (2, 3, 6, 7), "kernel_shape=[3,2], strides=[2,1], pads=[1,0,1,1]"),
            ("columns", (2, 3, 6, 7), "kernel_shape=[3,2], strides=[2,1], storage_order=1"),
            ("3d", (1, 3, 4, 5, 6), "kernel_shape=[2,2,3], strides=[2,1,3]"),
            ("3d_columns", (1, 3, 4, 5, 6), "kernel_shape=[2,2,3], strides=[2,1,3], storage_order=1"),
            ("dilated", (1, 3, 8, 8), "kernel_shape=[2,2], dilations=[3,2]"),
            ("double", small("float64", 1, 2, 6, 6), "kernel_shape=[2,2]"),
        )
    ),
    *(case(f"{op.lower()}_{len(x)}d", f"y = {op}(x)", x=x, oracle="onnxruntime")
      for op in ("GlobalAveragePool", "GlobalMaxPool") for x in ((2, 17, 5), (1, 5, 3, 4, 5))),
    *(case(f"globallppool_{p}", f"y = GlobalLpPool<p={p}>(x)", x=(2, 5, 4, 3), oracle="onnxruntime")
      for p in (1, 2, 3)),
    case("unpool", "y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(x, i)", x=(1, 1, 2, 2),
         i=np.array([[[[0, 7], [8, 15]]]]), oracle="onnxruntime"),
    case("unpool_pool", "p, i = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x) "
         "y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(p, i)", x=(2, 3, 6, 8), oracle="onnxruntime"),
    case("unpool_outside", "y = MaxUnpool<kernel_shape=[2,2], strides=[2,2]>(x, x1)", x=(1, 1, 2, 2),
         x1=np.array([[[[5, 7], [13, 14]]]])),
    case("pool_then_relu", "p, i = MaxPool<kernel_shape=[2,2]>(x) y = Relu(p) y1 = Identity(i)", x=(1, 3, 4, 4),
         oracle="onnxruntime"),
    case("average_3d_relu", "p = AveragePool<kernel_shape=[2,2,2]>(x) y = Relu(p)", x=(1, 3, 4, 4, 4)),
]  # fmt: skip

FAMILIES = {
    "pools": POOLS,
    "convolution": CONVOLUTION,
    "transposed": TRANSPOSED,
    "deformed": DEFORMED,
    "columns": COLUMNS,
}


@pytest.fixture(scope="module")
def results(start_whole: Start) -> Results:
    return Results(start_whole, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"), [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items()
                        for one in cases]
)  # fmt: skip
def test_window(family: str, one: Case, results: Results) -> None:
    agree(results.of(family, one), one.expected, 1e-5)
