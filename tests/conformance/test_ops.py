"""Every op family: attributes, shapes and opsets against the ONNX reference evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from support import Case, Oracle, Results, Start, case, difference, filled

TOLERANCE = 1e-5
"""Of the greatest absolute value of an output; sums here are short."""


def conv(name: str, x: tuple[int, ...], w: tuple[int, ...], attributes: str = "", bias: bool = True) -> Case:
    op = f"Conv<{attributes}>" if attributes else "Conv"
    if bias:
        return case(name, f"y = {op}(x, w, b)", x=x, w=w, b=(w[0],))
    return case(name, f"y = {op}(x, w)", x=x, w=w)


CONVOLUTION = [
    conv("1x1", (1, 16, 7, 5), (24, 16, 1, 1)),
    conv("1x1_batch", (3, 17, 4, 5), (5, 17, 1, 1)),
    conv("1x1_no_bias", (1, 40, 3, 3), (40, 40, 1, 1), bias=False),
    conv("1x1_stride", (2, 16, 9, 9), (16, 16, 1, 1), "strides=[2,2]"),
    conv("1x1_padded", (1, 16, 4, 4), (16, 16, 1, 1), "pads=[1,1,1,1]"),
    conv("3x3_rgb", (1, 3, 9, 11), (16, 3, 3, 3), "pads=[1,1,1,1]"),
    conv("3x3_rgb_stride", (2, 3, 15, 13), (24, 3, 3, 3), "strides=[2,2], pads=[0,0,1,1]"),
    conv("3x3_grey", (1, 1, 8, 8), (5, 1, 3, 3)),
    conv("3x3_one_to_one", (1, 1, 6, 7), (1, 1, 3, 3), "pads=[1,1,1,1]"),
    conv("3x3", (1, 16, 13, 29), (40, 16, 3, 3), "pads=[1,1,1,1]"),
    conv("3x3_unaligned", (2, 24, 7, 7), (17, 24, 3, 3), "pads=[1,1,1,1]"),
    conv("3x3_dilated", (1, 17, 12, 11), (16, 17, 3, 3), "dilations=[2,3], pads=[2,3,2,3]"),
    conv("3x3_wide_pads", (1, 5, 4, 4), (3, 5, 3, 3), "pads=[4,3,5,2]"),
    conv("5x3_asymmetric", (1, 16, 10, 9), (24, 16, 5, 3), "pads=[2,0,1,2], strides=[2,1]"),
    conv("7x7_stem", (1, 3, 31, 33), (8, 3, 7, 7), "strides=[2,2], pads=[3,3,3,3]"),
    conv("1x7_7x1", (1, 24, 9, 9), (16, 24, 1, 7), "pads=[0,3,0,3]"),
    conv("whole_image", (2, 16, 5, 5), (10, 16, 5, 5)),
    conv("one_pixel", (1, 40, 1, 1), (17, 40, 1, 1)),
    conv("one_column", (1, 16, 9, 1), (16, 16, 3, 1), "pads=[1,0,1,0]"),
    conv("deep", (1, 160, 3, 3), (33, 160, 3, 3), "pads=[1,1,1,1]"),
    conv("same_upper", (1, 5, 8, 7), (8, 5, 3, 2), 'auto_pad="SAME_UPPER", strides=[2,2]'),
    conv("same_lower", (1, 5, 8, 7), (8, 5, 4, 2), 'auto_pad="SAME_LOWER", strides=[1,2]'),
    conv("valid", (1, 5, 8, 7), (8, 5, 3, 3), 'auto_pad="VALID"'),
    conv("grouped_whole_blocks", (1, 32, 6, 6), (64, 16, 3, 3), "group=2, pads=[1,1,1,1]"),
    conv("grouped_batch", (2, 64, 5, 4), (32, 16, 1, 1), "group=4"),
    conv("grouped_3", (1, 9, 6, 6), (12, 3, 3, 3), "group=3, pads=[1,1,1,1]"),
    conv("grouped_multiplier", (1, 5, 6, 6), (10, 1, 3, 3), "group=5, pads=[1,1,1,1]"),
    conv("depthwise", (1, 16, 14, 14), (16, 1, 3, 3), "group=16, pads=[1,1,1,1]"),
    conv("depthwise_unaligned", (2, 24, 7, 9), (24, 1, 3, 3), "group=24, pads=[1,1,1,1], strides=[2,2]"),
    conv("depthwise_5x5", (1, 3, 11, 8), (3, 1, 5, 5), "group=3, pads=[2,2,2,2]", bias=False),
    conv("depthwise_dilated", (1, 17, 12, 12), (17, 1, 3, 3), "group=17, dilations=[2,2], pads=[1,2,3,0]"),
    conv("depthwise_asymmetric", (1, 40, 9, 16), (40, 1, 3, 1), "group=40, pads=[0,0,2,0], strides=[1,3]"),
    conv("depthwise_valid", (1, 16, 5, 5), (16, 1, 5, 5), "group=16"),
    case("gemm", "y = Gemm<transB=1>(x, w, b)", x=(3, 33), w=(10, 33), b=(10,)),
    case("gemm_scaled", "y = Gemm<alpha=0.5, beta=2.0>(x, w, b)", x=(1, 16), w=(16, 24), b=(1, 24)),
    case("gemm_scalar_bias", "y = Gemm(x, w, b)", x=(2, 5), w=(5, 17), b=(1,)),
    case("gemm_no_bias", "y = Gemm(x, w)", x=(1, 300), w=(300, 1)),
    case("matmul", "y = MatMul(x, w)", x=(2, 3, 5, 24), w=(24, 17)),
    case("matmul_bias_relu", "m = MatMul(x, w) a = Add(m, b) y = Relu(a)", x=(7, 40), w=(40, 32), b=(32,)),
    case("matmul_add_full", "m = MatMul(x, w) y = Add(m, x1)", x=(4, 40), w=(40, 32), x1=(4, 32)),
    case("matmul_add_full_unaligned", "m = MatMul(x, w) y = Add(m, x1)", x=(4, 40), w=(40, 5), x1=(4, 5)),
]

MATMUL = [
    case("square", "y = MatMul(x, x1)", x=(16, 16), x1=(16, 16)),
    case("unaligned", "y = MatMul(x, x1)", x=(7, 33), x1=(33, 19)),
    case("narrow", "y = MatMul(x, x1)", x=(7, 5), x1=(5, 3)),
    case("one_column", "y = MatMul(x, x1)", x=(7, 40), x1=(40, 1)),
    case("one_row", "y = MatMul(x, x1)", x=(1, 40), x1=(40, 24)),
    case("vectors", "y = MatMul(x, x1)", x=(17,), x1=(17,)),
    case("vector_matrix", "y = MatMul(x, x1)", x=(17,), x1=(2, 17, 5)),
    case("matrix_vector", "y = MatMul(x, x1)", x=(2, 5, 17), x1=(17,)),
    case("batches", "y = MatMul(x, x1)", x=(2, 3, 5, 8), x1=(2, 3, 8, 17)),
    case("broadcast_left", "y = MatMul(x, x1)", x=(5, 8), x1=(2, 3, 8, 6)),
    case("broadcast_both", "y = MatMul(x, x1)", x=(2, 1, 5, 8), x1=(3, 8, 6)),
    case("constant_batches", "y = MatMul(x, w)", x=(2, 5, 8), w=(2, 8, 17)),
    case("constant_left", "y = MatMul(w, x)", x=(2, 8, 17), w=(5, 8)),
    case("with_itself", "y = MatMul(x, x)", x=(9, 9)),
    case("then_scaled", "m = MatMul(x, x1) d = Div(m, k) y = Relu(d)", x=(2, 5, 8), x1=(2, 8, 16), k=np.float32(3)),
    case("then_added", "m = MatMul(x, x1) y = Add(m, x2)", x=(2, 5, 8), x1=(2, 8, 16), x2=(16,)),
    case("attention",
         "q = MatMul(x, w) k = MatMul(x, w1) v = MatMul(x, w2) t = Transpose<perm=[0,2,1]>(k) s = MatMul(q, t) "
         "d = Div(s, c) p = Softmax(d) y = MatMul(p, v)",
         x=(2, 7, 24), w=(24, 24), w1=(24, 24), w2=(24, 24), c=np.float32(5)),
]  # fmt: skip

ROUND = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.4, 3.7], np.float32)
EDGES = np.array([-np.inf, np.inf, np.nan, -1, 0, 1, 80, -80], np.float32)

ACTIVATIONS = (
    "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "HardSigmoid", "HardSwish", "LeakyRelu", "Neg", "Relu",
    "Sigmoid", "Sin", "Softplus", "Tanh",
)  # fmt: skip

ELEMENTWISE = [
    *(case(name.lower(), f"y = {name}(x)", x=(2, 3, 5, 7)) for name in ACTIVATIONS),
    *(case(name.lower(), f"y = {name}(x)", x=filled(name, (5, 7), 0.1)) for name in ("Log", "Sqrt", "Reciprocal")),
    *(
        case(f"{name.lower()}_edges", f"y = {name}(x)", x=EDGES)
        for name in ("Abs", "Ceil", "HardSigmoid", "LeakyRelu", "Neg", "Relu", "Sigmoid", "Sqrt", "Tanh")
    ),
    case("clip_edges", "y = Clip(x, low, high)", x=EDGES, low=np.float32(-2), high=np.float32(6)),
    case("round", "y = Round(x)", x=ROUND),
    case("elu_alpha", "y = Elu<alpha=0.3>(x)", x=(5, 5)),
    case("leaky_alpha", "y = LeakyRelu<alpha=0.3>(x)", x=(1, 17, 3, 3)),
    case("hard_sigmoid_attributes", "y = HardSigmoid<alpha=0.16667, beta=0.4>(x)", x=(5, 5)),
    case("clip", "y = Clip(x, low, high)", x=(3, 5), low=np.float32(-0.5), high=np.float32(0.5)),
    case("clip_below", "y = Clip(x, low)", x=(3, 5), low=np.float32(-0.5)),
    case("clip_above", "y = Clip(x, , high)", x=(3, 5), high=np.float32(0.5)),
    case("clip_none", "y = Clip(x)", x=(3, 5)),
    case("pow", "y = Pow(x, e)", x=filled("pow", (3, 5), 0.1), e=np.float32(1.7)),
    case("pow_2", "y = Pow(x, e)", x=(3, 5), e=np.float32(2)),
    case("add_same", "y = Add(x, x)", x=(1, 5, 3, 3)),
    case("add_row", "y = Add(x, x1)", x=(2, 3, 4), x1=(4,)),
    case("mul_column", "y = Mul(x, x1)", x=(2, 3, 4), x1=(3, 1)),
    case("sub_both_broadcast", "y = Sub(x, x1)", x=(2, 1, 4), x1=(3, 1)),
    case("div_constant", "y = Div(x, d)", x=(2, 3, 17), d=filled("div", (3, 1), 0.5)),
    case("div_by_input", "y = Div(c, x)", x=filled("divisor", (2, 3, 17), 0.5), c=np.float32(3)),
    case("rank_grows", "y = Add(x, c)", x=(3,), c=(1, 1, 1)),
    case("scalars", "y = Add(x, x1)", x=np.array(2, np.float32), x1=np.array(3, np.float32)),
    case("max_3", "y = Max(x, x1, c)", x=(2, 5), x1=(2, 5), c=np.float32(0.1)),
    case("min_broadcast", "y = Min(x, x1)", x=(2, 5), x1=(1, 5)),
    case("max_nan", "y = Max(x, x1)", x=EDGES, x1=EDGES[::-1].copy()),
    case("min_nan", "y = Min(x, x1)", x=EDGES, x1=EDGES[::-1].copy()),
    case("max_one", "y = Max(x)", x=(2, 5)),
    case("sum_3", "y = Sum(x, x1, x2)", x=(2, 5), x1=(2, 5), x2=(5,)),
    case("large", "y = Relu(x)", x=(3, 41, 67)),
    case("chain_with_infinity", "a = Exp(x) b = Reciprocal(a) y = Add(a, b)", x=EDGES),
]

MOVEMENT = [
    case("concat_rows", "y = Concat<axis=0>(x, x1)", x=(3, 5), x1=(2, 5)),
    case("concat_last", "y = Concat<axis=-1>(x, x1)", x=(2, 3, 5), x1=(2, 3, 17)),
    case("concat_channels_unaligned", "y = Concat<axis=1>(x, x1)", x=(2, 5, 3, 3), x1=(2, 3, 3, 3)),
    case("concat_channels", "y = Concat<axis=1>(x, x1)", x=(1, 32, 4, 4), x1=(1, 16, 4, 4)),
    case("concat_constant", "y = Concat<axis=1>(c, x, c)", x=(2, 5), c=(2, 3)),
    case("concat_twice", "y = Concat<axis=0>(x, x)", x=(32, 8)),
    case("concat_one", "y = Concat<axis=0>(x)", x=(3, 5)),
    case("expand", "y = Expand(x, s)", x=(3, 1), s=[2, 3, 4]),
    case("expand_same", "y = Expand(x, s)", x=(3, 4), s=[3, 4]),
    case("flatten", "y = Flatten(x)", x=(2, 3, 5)),
    case("flatten_0", "y = Flatten<axis=0>(x)", x=(2, 3, 5)),
    case("gather", "y = Gather<axis=1>(x, i)", x=(2, 5, 3), i=np.int64(3)),
    case("gather_negative", "y = Gather(x, i)", x=(5, 3), i=[-1]),
    case("gather_range", "y = Gather<axis=1>(x, i)", x=(3, 9, 2), i=[1, 3, 5]),
    case("gather_backwards", "y = Gather(x, i)", x=(5, 3), i=[4, 3, 2]),
    case("gather_repeat", "y = Gather(x, i)", x=(5, 3), i=[2, 2, 2]),
    case("reshape", "y = Reshape(x, s)", x=(2, 3, 5), s=[5, -1]),
    case("reshape_zero", "y = Reshape(x, s)", x=(2, 3, 5), s=[0, -1]),
    case("squeeze", "y = Squeeze(x, a)", x=(1, 3, 1, 5), a=[0, 2]),
    case("unsqueeze", "y = Unsqueeze(x, a)", x=(3, 5), a=[0, 3]),
    case("slice", "y = Slice(x, s, e)", x=(5, 7), s=[1, 2], e=[4, 6]),
    case("slice_axes", "y = Slice(x, s, e, a)", x=(3, 7, 4), s=[-3], e=[9999], a=[1]),
    case("slice_steps", "y = Slice(x, s, e, a, t)", x=(3, 9), s=[1], e=[8], a=[-1], t=[3]),
    case("slice_backwards", "y = Slice(x, s, e, a, t)", x=(3, 9), s=[-1], e=[-99], a=[1], t=[-2]),
    case("slice_view", "y = Slice(x, s, e, a)", x=(4, 32, 4), s=[1], e=[3], a=[0]),
    case("slice_channels", "c = Relu(x) y = Slice(c, s, e, a)", x=(1, 48, 4, 4), s=[16], e=[48], a=[1]),
    case("split", "y, y1 = Split<axis=1>(x, s)", x=(2, 5), s=[2, 3]),
    case("split_equal", "y, y1 = Split<axis=-1, num_outputs=2>(x)", x=(2, 6)),
    case("split_first", "y, z = Split<axis=0>(x, s)", x=(5, 3), s=[4, 1]),
    case("transpose", "y = Transpose(x)", x=(2, 3, 5)),
    case("transpose_perm", "y = Transpose<perm=[0,2,1,3]>(x)", x=(2, 3, 5, 4)),
    case("transpose_nhwc", "y = Transpose<perm=[0,2,3,1]>(x)", x=(2, 17, 3, 4)),
    case("transpose_trivial", "y = Transpose<perm=[1,0,2]>(x)", x=(1, 3, 5)),
    case("shuffle", "r = Reshape(x, s) t = Transpose<perm=[0,2,1,3,4]>(r) y = Reshape(t, o)",
         x=(1, 8, 3, 3), s=[1, 2, 4, 3, 3], o=[1, 8, 3, 3]),
    case("pixel_shuffle", "r = Reshape(x, s) t = Transpose<perm=[0,1,4,2,5,3]>(r) y = Reshape(t, o)",
         x=(1, 9, 4, 5), s=[1, 1, 3, 3, 4, 5], o=[1, 1, 12, 15]),
    case("gather_anywhere", "y = Gather<axis=1>(x, i)", x=(2, 7, 3), i=[0, 1, 4, -1, 4]),
    case("gather_matrix", "y = Gather(x, i)", x=(7, 3), i=np.array([[0, 5], [6, -7]], np.int32)),
    case("gather_input", "y = Gather(t, x)", x=np.array([[0, 4, -1], [2, 2, 3]]), t=(5, 17)),
    case("gather_input_int32", "y = Gather<axis=1>(x1, x)", x=np.array([3, 0, -4], np.int32), x1=(2, 4, 3)),
    case("identity", "y = Identity(x)", x=(3, 5)),
    case("dropout", "y, mask = Dropout(x)", x=(3, 5)),
]  # fmt: skip


def pool(name: str, op: str, x: tuple[int, ...], attributes: str, oracle: Oracle = "reference") -> Case:
    return case(f"{op.lower()}_{name}", f"y = {op}<{attributes}>(x)", x=x, oracle=oracle)


POOLING = [
    pool("2x2", "MaxPool", (1, 16, 8, 8), "kernel_shape=[2,2], strides=[2,2]"),
    pool("3x3_padded", "MaxPool", (2, 5, 9, 7), "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]"),
    pool("asymmetric", "MaxPool", (1, 17, 7, 8), "kernel_shape=[3,2], pads=[0,0,2,1]", "onnxruntime"),
    pool("ceil", "MaxPool", (1, 24, 8, 10), "kernel_shape=[3,3], strides=[2,2], ceil_mode=1"),
    pool("dilated", "MaxPool", (1, 3, 9, 9), "kernel_shape=[2,3], dilations=[3,2]"),
    pool("same", "MaxPool", (1, 5, 7, 7), 'kernel_shape=[2,2], auto_pad="SAME_UPPER"'),
    pool("2x2", "AveragePool", (1, 16, 8, 8), "kernel_shape=[2,2], strides=[2,2]"),
    pool("padded", "AveragePool", (2, 5, 9, 7), "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]"),
    pool("counts", "AveragePool", (1, 40, 7, 7), "kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1"),
    pool("ceil", "AveragePool", (1, 3, 8, 10), "kernel_shape=[3,3], strides=[2,2], ceil_mode=1"),
    pool("ceil_counts", "AveragePool", (1, 3, 8, 9),
         "kernel_shape=[3,3], strides=[2,2], pads=[1,0,0,1], ceil_mode=1, count_include_pad=1"),
    pool("asymmetric", "AveragePool", (1, 17, 7, 8), "kernel_shape=[3,2], pads=[0,1,2,0]"),
    pool("wide", "AveragePool", (1, 1, 5, 6), "kernel_shape=[5,6]"),
    case("global_average", "y = GlobalAveragePool(x)", x=(2, 17, 5, 7)),
    case("global_average_relu", "p = GlobalAveragePool(x) y = Relu(p)", x=(1, 40, 3, 3)),
    case("global_max", "y = GlobalMaxPool(x)", x=(2, 17, 5, 7)),
    case("global_max_negative", "m = Exp(x) n = Neg(m) y = GlobalMaxPool(n)", x=(1, 5, 3, 3)),
]  # fmt: skip

REDUCTION = [
    *(
        case(name.lower(), f"y = {name}<keepdims=0>(x, a)", x=(3, 5, 7), a=[1])
        for name in ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd")
    ),
    case("reduce_all", "y = ReduceSum(x)", x=(3, 5, 7)),
    case("reduce_all_flat", "y = ReduceMean<keepdims=0>(x)", x=(3, 5)),
    case("reduce_outer", "y = ReduceMax(x, a)", x=(4, 3, 5), a=[0, 1]),
    case("reduce_split", "y = ReduceMean(x, a)", x=(4, 3, 5), a=[0, -1]),
    case("reduce_channels", "y = ReduceMean(x, a)", x=(2, 17, 3, 4), a=[1]),
    case("reduce_image", "y = ReduceMean<keepdims=0>(x, a)", x=(2, 17, 3, 4), a=[2, 3]),
    case("reduce_image_kept", "y = ReduceMean<keepdims=1>(x, a)", x=(2, 17, 3, 4), a=[-1, -2]),
    case("reduce_noop", "y = ReduceSum<noop_with_empty_axes=1>(x)", x=(3, 5)),
]

NORMALIZATION = [
    case("softmax", "y = Softmax(x)", x=(3, 5, 7)),
    case("softmax_axis", "y = Softmax<axis=1>(x)", x=(3, 5, 7)),
    case("softmax_0", "y = Softmax<axis=0>(x)", x=(33,)),
    case("softmax_large", "y = Softmax(x)", x=np.array([[1000, 1001, 999], [-1000, 0, 1000]], np.float32)),
    case("log_softmax", "y = LogSoftmax<axis=-2>(x)", x=(2, 5, 3)),
    case("softmax_vectors", "y = Softmax(x)", x=(3, 37)),
    case("log_softmax_vectors", "y = LogSoftmax(x)", x=(3, 37)),
    case("layer_norm", "y = LayerNormalization(x, s, b)", x=(2, 3, 32), s=(32,), b=(32,)),
    case("layer_norm_unaligned", "y = LayerNormalization<epsilon=0.1>(x, s, b)", x=(5, 19), s=(19,), b=(19,)),
    case("layer_norm_axis", "y = LayerNormalization<axis=1>(x, s)", x=(2, 3, 5), s=(3, 5)),
    case("layer_norm_large", "y = LayerNormalization(x, s, b)", x=(1, 300), s=(300,), b=(300,)),
    case("instance_norm", "y = InstanceNormalization(x, s, b)", x=(2, 5, 6, 7), s=(5,), b=(5,)),
    case("instance_norm_relu", "n = InstanceNormalization<epsilon=0.01>(x, s, b) y = Relu(n)",
         x=(1, 16, 6, 7), s=(16,), b=(16,)),
    case("batch_norm", "y = BatchNormalization(x, s, b, m, v)",
         x=(2, 5, 3, 4), s=(5,), b=(5,), m=(5,), v=filled("variance", (5,), 0.1)),
    case("batch_norm_rank_2", "y = BatchNormalization<epsilon=0.01>(x, s, b, m, v)",
         x=(2, 5), s=(5,), b=(5,), m=(5,), v=filled("variance", (5,), 0.1)),
]  # fmt: skip


def resize(name: str, attributes: str, x: tuple[int, ...], scales: tuple[float, float] = (2.0, 2.0)) -> Case:
    return case(f"resize_{name}", f"y = Resize<{attributes}>(x, , s)", x=x, s=[1.0, 1.0, *scales])


RESIZING = [
    resize("nearest", 'mode="nearest"', (1, 5, 3, 4)),
    resize("nearest_floor", 'coordinate_transformation_mode="asymmetric", nearest_mode="floor"', (2, 17, 3, 4)),
    resize("nearest_ceil", 'coordinate_transformation_mode="asymmetric", nearest_mode="ceil"', (1, 5, 4, 6),
           (1.5, 0.5)),
    resize("nearest_prefer_ceil", 'nearest_mode="round_prefer_ceil"', (1, 5, 4, 6), (1.5, 0.5)),
    resize("nearest_align", 'coordinate_transformation_mode="align_corners"', (1, 5, 4, 4), (2.0, 3.0)),
    resize("linear", 'mode="linear"', (1, 5, 3, 4)),
    resize("linear_align", 'mode="linear", coordinate_transformation_mode="align_corners"', (1, 16, 3, 4), (3.0, 2.0)),
    resize("linear_pytorch", 'mode="linear", coordinate_transformation_mode="pytorch_half_pixel"', (1, 5, 4, 4)),
    resize("linear_asymmetric", 'mode="linear", coordinate_transformation_mode="asymmetric"', (2, 5, 3, 4)),
    resize("linear_down", 'mode="linear"', (1, 5, 8, 6), (0.5, 0.75)),
    resize("linear_symmetric", 'mode="linear", coordinate_transformation_mode="half_pixel_symmetric"', (1, 5, 5, 5),
           (1.3, 0.7)),
    resize("cubic", 'mode="cubic"', (1, 3, 5, 6)),
    resize("cubic_a", 'mode="cubic", cubic_coeff_a=-0.5, coordinate_transformation_mode="align_corners"', (1, 3, 5, 6)),
    case("resize_sizes", 'y = Resize<mode="linear">(x, , , z)', x=(1, 3, 5, 6), z=[1, 3, 8, 7]),
    case("resize_axes", 'y = Resize<mode="linear", axes=[2,3]>(x, , , z)', x=(1, 3, 5, 6), z=[10, 12]),
    case("pad", "y = Pad(x, p)", x=(2, 5, 3, 4), p=[0, 0, 1, 2, 0, 0, 0, 3]),
    case("pad_value", "y = Pad(x, p, v)", x=(1, 17, 3, 4), p=[0, 0, 1, 1, 0, 0, 1, 1], v=np.float32(2.5)),
    case("pad_reflect", 'y = Pad<mode="reflect">(x, p)', x=(1, 3, 5, 4), p=[0, 0, 2, 3, 0, 0, 1, 2]),
    case("pad_edge", 'y = Pad<mode="edge">(x, p)', x=(1, 16, 3, 4), p=[0, 0, 2, 3, 0, 0, 1, 2]),
    case("pad_wrap", 'y = Pad<mode="wrap">(x, p)', x=(1, 3, 5, 4), p=[0, 0, 2, 3, 0, 0, 1, 2]),
    case("pad_axes", "y = Pad(x, p, , a)", x=(1, 3, 5, 4), p=[1, 2, 0, 3], a=[-1, 2]),
    case("pad_crop", "y = Pad(x, p)", x=(1, 3, 5, 6), p=[0, 0, -1, 0, 0, 0, 0, -2], oracle="onnxruntime"),
    case("pad_infinite", "y = Pad(x, p, v)", x=(1, 3, 3, 3), p=[0, 0, 1, 1, 0, 0, 1, 1], v=np.float32(-np.inf)),
]  # fmt: skip

OPSETS = [
    case("clip_6", "y = Clip<min=-0.5, max=0.5>(x)", x=(3, 5), opset=6 + 1),
    case("batch_norm_7", "y = BatchNormalization(x, s, b, m, v)", opset=7,
         x=(1, 5, 3, 4), s=(5,), b=(5,), m=(5,), v=filled("variance", (5,), 0.1), oracle="onnxruntime"),
    case("upsample_7", "y = Upsample<scales=[1.0,1.0,2.0,3.0]>(x)", x=(1, 5, 3, 4), opset=7, oracle="onnxruntime"),
    case("dropout_7", "y, mask = Dropout<ratio=0.3>(x)", x=(3, 5), opset=7, oracle="onnxruntime"),
    case("sum_8", "y = Sum(x, x1)", x=(3, 5), x1=(1, 5), opset=8),
    case("upsample_9", "y = Upsample(x, s)", x=(1, 5, 3, 4), s=[1.0, 1.0, 2.0, 2.0], opset=9, oracle="onnxruntime"),
    case("upsample_9_linear", 'y = Upsample<mode="linear">(x, s)', x=(1, 5, 3, 4), s=[1.0, 1.0, 2.0, 2.0], opset=9,
         oracle="onnxruntime"),
    case("slice_9", "y = Slice<starts=[1,-3], ends=[3,99], axes=[0,1]>(x)", x=(4, 5), opset=9),
    case("slice_9_all", "y = Slice<starts=[1], ends=[3]>(x)", x=(4, 5), opset=9),
    case("pad_2", "y = Pad<pads=[0,0,1,2,0,0,3,0], value=1.5>(x)", x=(1, 5, 3, 4), opset=9),
    case("maxpool_8", "y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", x=(1, 5, 4, 4), opset=9),
    case("resize_10", 'y = Resize<mode="linear">(x, s)', x=(1, 5, 3, 4), s=[1.0, 1.0, 2.0, 2.0], opset=10,
         oracle="onnxruntime"),
    case("resize_10_nearest", "y = Resize(x, s)", x=(1, 5, 4, 4), s=[1.0, 1.0, 1.5, 0.5], opset=10,
         oracle="onnxruntime"),
    case("slice_10", "y = Slice(x, s, e)", x=(4, 5), s=[1, 0], e=[3, 4], opset=10),
    case("softmax_11", "y = Softmax<axis=1>(x)", x=(2, 3, 5), opset=11, oracle="onnxruntime"),
    case("softmax_11_default", "y = Softmax(x)", x=(2, 3, 5), opset=11, oracle="onnxruntime"),
    case("log_softmax_11", "y = LogSoftmax<axis=2>(x)", x=(2, 3, 5, 2), opset=11, oracle="onnxruntime"),
    case("clip_11", "y = Clip(x, low)", x=(3, 5), low=np.float32(0), opset=11),
    case("pad_11", 'y = Pad<mode="reflect">(x, p)', x=(1, 5, 3, 4), p=[0, 0, 1, 2, 0, 0, 2, 0], opset=11),
    case("resize_11", 'y = Resize<mode="nearest">(x, r, s)', x=(1, 5, 3, 4), r=np.zeros(0, np.float32),
         s=[1.0, 1.0, 2.0, 2.0], opset=11),
    case("squeeze_11", "y = Squeeze<axes=[0]>(x)", x=(1, 5, 1), opset=11),
    case("squeeze_11_all", "y = Squeeze(x)", x=(1, 5, 1), opset=11),
    case("unsqueeze_11", "y = Unsqueeze<axes=[0,3]>(x)", x=(5, 2), opset=11),
    case("split_11", "y, y1 = Split<axis=1, split=[2,3]>(x)", x=(2, 5), opset=11),
    case("reduce_mean_13", "y = ReduceMean<axes=[1], keepdims=0>(x)", x=(2, 5, 3), opset=13),
    case("reduce_mean_13_image", "y = ReduceMean<axes=[2,3]>(x)", x=(2, 5, 3, 3), opset=13),
    case("reduce_sum_13", "y = ReduceSum(x, a)", x=(2, 5, 3), a=[-1], opset=13),
    case("resize_13", 'y = Resize<mode="cubic">(x, , s)', x=(1, 5, 3, 4), s=[1.0, 1.0, 2.0, 2.0], opset=13),
    case("reduce_mean_18", "y = ReduceMean(x, a)", x=(2, 5, 3), a=[0], opset=18),
    case("pad_18", "y = Pad(x, p, , a)", x=(1, 5, 3, 4), p=[1, 2], a=[2], opset=18),
    case("resize_18", 'y = Resize<mode="linear">(x, , s)', x=(1, 5, 3, 4), s=[1.0, 1.0, 2.0, 1.5], opset=18),
]  # fmt: skip

FAMILIES: Mapping[str, Sequence[Case]] = {
    "convolution": CONVOLUTION,
    "elementwise": ELEMENTWISE,
    "matmul": MATMUL,
    "movement": MOVEMENT,
    "normalization": NORMALIZATION,
    "opsets": OPSETS,
    "pooling": POOLING,
    "reduction": REDUCTION,
    "resizing": RESIZING,
}


@pytest.fixture(scope="module")
def results(start: Start) -> Results:
    return Results(start, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"),
    [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items() for one in cases],
)
def test_op(family: str, one: Case, results: Results) -> None:
    got = results.of(family, one)
    for name, expected in one.expected.items():
        assert difference(got[name], expected) <= TOLERANCE, f"{name}: {got[name]} instead of {expected}"
