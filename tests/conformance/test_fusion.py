"""Graphs whose nodes fuse, share, alias or nearly do: the passes and the planner against the evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import Case, Results, Start, case, difference, filled

TOLERANCE = 1e-5

C3 = "<pads=[1,1,1,1]>"
WEIGHTS: dict[str, Any] = {"w": (16, 16, 3, 3), "b": (16,)}
NORM: dict[str, Any] = {"s": (16,), "o": (16,), "m": (16,), "v": filled("variance", (16,), 0.1)}
X = (1, 16, 6, 6)
SEVEN: dict[str, Any] = {f"x{number or ''}": (3, 5) for number in range(7)}

CASES = [
    case("conv_bn_relu", f"c = Conv{C3}(x, w) n = BatchNormalization(c, s, o, m, v) y = Relu(n)",
         x=X, w=(16, 16, 3, 3), **NORM),
    case("conv_bias_bn_clip", f"c = Conv{C3}(x, w, b) n = BatchNormalization(c, s, o, m, v) y = Clip(n, l, h)",
         x=X, l=np.float32(0), h=np.float32(6), **WEIGHTS, **NORM),
    case("conv_add_constant", f"c = Conv{C3}(x, w) y = Add(k, c)", x=X, w=(17, 16, 3, 3), k=(17, 1, 1)),
    case("conv_mul_constant", f"c = Conv{C3}(x, w, b) d = Mul(c, k) y = Sub(d, j)", x=X, k=(1, 16, 1, 1), j=(16, 1, 1),
         **WEIGHTS),
    case("conv_rows_constant", f"c = Conv{C3}(x, w, b) y = Mul(c, k)", x=X, k=(1, 1, 6, 1), **WEIGHTS),
    case("grouped_bn", "c = Conv<group=2>(x, w) n = BatchNormalization(c, s, o, m, v) y = Relu(n)",
         x=X, w=(16, 8, 1, 1), **NORM),
    case("depthwise_bn_hardswish", "c = Conv<group=16>(x, w) n = BatchNormalization(c, s, o, m, v) y = HardSwish(n)",
         x=X, w=(16, 1, 3, 3), **NORM),
    case("bn_before_conv",
         "n = BatchNormalization(x, s, o, m, v) r = Relu(n) y = Conv(r, w, b)", x=X, **WEIGHTS, **NORM),
    case("residual", f"c = Conv{C3}(x, w, b) a = Add(c, x) y = Relu(a)", x=X, **WEIGHTS),
    case("residual_two_convs",
         f"c = Conv{C3}(x, w, b) d = Conv{C3}(x, w, b) e = Conv{C3}(c, w) a = Add(d, e) y = Relu(a)",
         x=X, **WEIGHTS),
    case("residual_shared", f"c = Conv{C3}(x, w, b) r = Relu(c) a = Add(r, x) y = Mul(a, r)", x=X, **WEIGHTS),
    case("residual_unaligned", f"c = Conv{C3}(x, w) a = Add(c, x) y = Sigmoid(a)", x=(1, 5, 6, 6), w=(5, 5, 3, 3)),
    case("relu_then_add", f"c = Conv{C3}(x, w, b) r = Relu(c) y = Add(r, x)", x=X, **WEIGHTS),
    case("subtracted_from", f"c = Conv{C3}(x, w, b) y = Sub(x, c)", x=X, **WEIGHTS),
    case("divided_by", f"c = Conv{C3}(x, w, b) e = Exp(c) y = Div(x, e)", x=X, **WEIGHTS),
    case("square", f"c = Conv{C3}(x, w, b) y = Mul(c, c)", x=X, **WEIGHTS),
    case("swish", f"c = Conv{C3}(x, w, b) g = Sigmoid(c) y = Mul(c, g)", x=X, **WEIGHTS),
    case("hardswish_by_hand", f"c = Conv{C3}(x, w, b) p = Add(c, t) q = Clip(p, l, h) r = Mul(c, q) y = Div(r, h)",
         x=X, t=np.float32(3), l=np.float32(0), h=np.float32(6), **WEIGHTS),
    case("leaky", f"c = Conv{C3}(x, w, b) y = LeakyRelu<alpha=0.1>(c)", x=X, **WEIGHTS),
    case("leaky_by_hand", f"c = Conv{C3}(x, w, b) p = Mul(c, t) y = Max(c, p)", x=X, t=np.float32(0.1), **WEIGHTS),
    case("gelu_by_hand",
         "m = MatMul(x, w) p = Div(m, r) q = Erf(p) s = Add(q, t) u = Mul(m, s) y = Mul(u, h)",
         x=(5, 16), w=(16, 32), r=np.float32(1.4142135), t=np.float32(1), h=np.float32(0.5)),
    case("erf_far", "y = Erf(x)", oracle="onnxruntime",
         x=np.array([0, 1e-6, -1e-3, 0.5, -2, 3.9, 3.95, -9, np.inf, -np.inf, np.nan], np.float32)),
    case("linear_of_rows", "r = Reshape(x, s) m = Gemm(r, w, b) u = Reshape(m, t) y = Add(u, x1)",
         x=(2, 3, 16), x1=(2, 3, 32), w=(16, 32), b=(32,), s=[6, 16], t=[2, 3, 32]),
    case("linear_of_other_rows", "r = Reshape(x, s) m = Gemm(r, w, b) u = Reshape(m, t) y = Add(u, x1)",
         x=(2, 3, 2, 8), x1=(3, 2, 32), w=(16, 32), b=(32,), s=[6, 16], t=[3, 2, 32]),
    case("attention",
         "q = Transpose<perm=[0,2,1,3]>(x) k = Transpose<perm=[0,2,3,1]>(x1) v = Transpose<perm=[0,2,1,3]>(x2) "
         "s = MatMul(q, k) d = Div(s, t) p = Softmax(d) o = MatMul(p, v) y = Transpose<perm=[0,2,1,3]>(o)",
         x=(2, 21, 3, 8), x1=(2, 19, 3, 8), x2=(2, 19, 3, 5), t=np.float32(2.5)),
    case("attention_few_queries", "s = MatMul(x, x1) p = Softmax<axis=-1>(s) y = MatMul(p, x2)",
         x=(1, 2, 3, 4), x1=(1, 2, 4, 37), x2=(1, 2, 37, 30)),
    case("attention_of_split",
         "t = Transpose<perm=[2,0,3,1,4]>(x) a, b, c = Split<axis=0, num_outputs=3>(t) q = Squeeze(a, z) "
         "k = Squeeze(b, z) v = Squeeze(c, z) m = Transpose<perm=[0,1,3,2]>(k) s = MatMul(q, m) d = Mul(s, f) "
         "p = Softmax(d) y = MatMul(p, v)", x=(1, 17, 3, 2, 8), z=[0], f=np.float32(0.3)),
    case("attention_scores_are_output", "y1 = MatMul(x, x1) p = Softmax(y1) y = MatMul(p, x2)",
         x=(1, 2, 3, 4), x1=(1, 2, 4, 5), x2=(1, 2, 5, 7)),
    *(
        case(f"attention_masked_{name}",
             f"s = MatMul(x, x1) d = Mul(f, s) a = Add({mask}) p = Softmax(a) y = MatMul(p, x2)",
             x=(2, 3, queries, 4), x1=(2, 3, 4, 21), x2=(2, 3, 21, 5), f=np.float32(0.3), **values)
        for name, mask, queries, values in (
            ("by_key", "d, x3", 19, {"x3": np.float32(-1e4) * (np.arange(42).reshape(2, 1, 1, 21) % 5 == 0)}),
            ("by_query", "x3, d", 19, {"x3": (2, 1, 19, 21)}),
            ("by_head", "d, x3", 3, {"x3": (3, 3, 1)}),
            ("causal", "d, k", 21, {"k": np.triu(np.full((21, 21), -np.inf, np.float32), 1)}),
            ("everywhere", "d, x3", 5, {"x3": np.full((1, 1, 1, 21), -np.inf, np.float32)}),
        )
    ),
    case("attention_scaled_before",
         "a = Mul(x, f) t = Transpose<perm=[0,1,3,2]>(x1) b = Mul(t, f) s = MatMul(a, b) e = Expand(x3, z) "
         "m = Add(s, e) p = Softmax(m) y = MatMul(p, x2)",
         x=(1, 3, 9, 4), x1=(1, 3, 7, 4), x2=(1, 3, 7, 5), x3=(1, 1, 1, 7), f=np.float32(0.7), z=[1, 1, 9, 7]),
    case("attention_of_nan", "s = MatMul(x, x1) p = Softmax(s) y = MatMul(p, x2)",
         x=np.where(np.arange(24).reshape(1, 2, 3, 4) == 5, np.float32("nan"), filled("n", (1, 2, 3, 4))),
         x1=(1, 2, 4, 5), x2=(1, 2, 5, 7)),
    case("se",
         "g = GlobalAveragePool(x) e = Conv(g, w1, b1) r = Relu(e) f = Conv(r, w2, b2) h = Sigmoid(f) y = Mul(x, h)",
         x=(2, 24, 5, 5), w1=(5, 24, 1, 1), b1=(5,), w2=(24, 5, 1, 1), b2=(24,)),
    case("se_after_conv",
         f"c = Conv{C3}(x, w, b) g = GlobalAveragePool(c) e = Conv(g, w1) h = HardSigmoid(e) z = Mul(c, h) y = Relu(z)",
         x=(2, *X[1:]), w1=(16, 16, 1, 1), **WEIGHTS),
    case("gate_in_epilogue", f"c = Conv{C3}(x, w, b) g = GlobalAveragePool(x) y = Mul(c, g)", x=(3, *X[1:]), **WEIGHTS),
    case("gate_unaligned", f"c = Conv{C3}(x, w) g = GlobalAveragePool(x) a = Add(c, g) y = Relu(a)",
         x=(2, 17, 4, 4), w=(17, 17, 3, 3)),
    case("zero_is_not_kept", f"c = Conv{C3}(x, w) e = Exp(c) y = Conv(e, w1)", x=X, w=(5, 16, 3, 3), w1=(3, 5, 3, 3)),
    case("zero_is_not_kept_pool", "p = MaxPool<kernel_shape=[2,2]>(x) e = Cos(p) y = Conv(e, w)",
         x=(1, 5, 6, 6), w=(3, 5, 3, 3)),
    case("zero_is_not_kept_mean",
         "p = GlobalAveragePool(x) e = Sigmoid(p) y = Conv(e, w)", x=(2, 5, 6, 6), w=(3, 5, 1, 1)),
    case("zero_is_not_kept_plain", "c = Conv(x, w) e = Exp(c) f = Add(e, k) y = Conv(f, w)",
         x=(1, 5, 6, 6), w=(5, 5, 3, 3), k=(5, 4, 4)),
    case("zero_is_not_kept_norm", "n = InstanceNormalization(x, s, b) e = Exp(n) y = Conv(e, w)",
         x=(1, 5, 6, 6), s=(5,), b=(5,), w=(3, 5, 3, 3)),
    case("output_in_chain", f"c = Conv{C3}(x, w, b) y1 = Relu(c) y = Add(y1, x)", x=X, **WEIGHTS),
    case("output_of_conv", f"y1 = Conv{C3}(x, w, b) y = Relu(y1)", x=X, **WEIGHTS),
    case("output_of_conv_bn", f"y1 = Conv{C3}(x, w, b) y = BatchNormalization(y1, s, o, m, v)", x=X, **WEIGHTS, **NORM),
    case("output_of_elementwise", "y1 = Exp(x) y2 = Neg(y1) y = Add(y1, y2)", x=(3, 5)),
    case("output_views", "y = Reshape(x, s) y1 = Squeeze(y) y2 = Identity(x)", x=(1, 3, 5), s=[3, 1, 5]),
    case("output_views_of_blocked",
         f"c = Conv{C3}(x, w, b) y = Reshape(c, s) y1 = Identity(c)", x=X, s=[16, 36], **WEIGHTS),
    case("output_slices", "y, y1, y2 = Split<axis=0, num_outputs=3>(x)", x=(3, 64)),
    case("output_and_its_view", "r = Relu(x) y = Reshape(r, s) y1 = Relu(x)", x=(4, 6), s=[24]),
    case("duplicate_outputs", "y = Relu(x) y1 = Relu(x)", x=(4, 6)),
    case("duplicate_convs", f"y = Conv{C3}(x, w, b) y1 = Conv{C3}(x, w, b)", x=X, **WEIGHTS),
    case("constant_output", "y1 = Identity(k) y = Relu(x)", x=(4, 6), k=(3, 5)),
    case("folded_output", "y1 = Mul(k, k) y = Add(x, y1)", x=(4, 6), k=(4, 6)),
    case("shape_arithmetic",
         "s = Shape(x) i = Gather(s, z) u = Unsqueeze(i, a) t = Concat<axis=0>(u, e) y = Reshape(x, t)",
         x=(2, 3, 5), z=np.int64(0), a=[0], e=[-1]),
    case("range_of_constants", "r = Constant<value_floats=[1.0,2.0,3.0]>() y = Mul(x, r)", x=(2, 3)),
    case("concat_same_conv", f"c = Conv{C3}(x, w, b) y = Concat<axis=1>(c, c)", x=X, **WEIGHTS),
    case("concat_nested",
         f"c = Conv{C3}(x, w, b) r = Relu(x) d = Concat<axis=1>(c, r) e = Concat<axis=1>(d, c, d) y = Conv(e, w1)",
         x=X, w1=(5, 80, 1, 1), **WEIGHTS),
    case("concat_nested_unaligned",
         f"c = Conv{C3}(x, w) d = Concat<axis=1>(c, x) e = Concat<axis=1>(d, c, d) y = Conv(e, w1)",
         x=(1, 5, 4, 4), w=(3, 5, 3, 3), w1=(5, 19, 1, 1)),
    case("concat_rows_of_convs", f"c = Conv{C3}(x, w, b) r = Relu(x) y = Concat<axis=2>(c, r)", x=X, **WEIGHTS),
    case("concat_batch", f"c = Conv{C3}(x, w, b) y = Concat<axis=0>(c, x)", x=X, **WEIGHTS),
    case("concat_inputs", "y = Concat<axis=1>(x, x1, x)", x=X, x1=(1, 32, 6, 6)),
    case("concat_inputs_then_conv", "a = Concat<axis=1>(x, x1) y = Conv(a, w)", x=(2, 16, 4, 4), x1=(2, 16, 4, 4),
         w=(5, 32, 3, 3)),
    case("concat_output_too", f"y1 = Conv{C3}(x, w, b) y = Concat<axis=1>(y1, x)", x=X, **WEIGHTS),
    case("concat_of_output", f"c = Conv{C3}(x, w, b) y1 = Concat<axis=1>(c, x) r = Relu(c) y = Concat<axis=1>(y1, r)",
         x=X, **WEIGHTS),
    case("concat_read_later",
         f"c = Conv{C3}(x, w, b) d = Concat<axis=1>(c, x) y1 = Relu(d) y = Exp(c)", x=X, **WEIGHTS),
    case("densenet",
         f"c1 = Conv{C3}(x, w1) d1 = Concat<axis=1>(x, c1) c2 = Conv{C3}(d1, w2) d2 = Concat<axis=1>(d1, c2) "
         f"c3 = Conv{C3}(d2, w3) d3 = Concat<axis=1>(d2, c3) y = Relu(d3)",
         x=X, w1=(16, 16, 3, 3), w2=(16, 32, 3, 3), w3=(16, 48, 3, 3)),
    case("densenet_unaligned",
         f"c1 = Conv{C3}(x, w1) d1 = Concat<axis=1>(x, c1) c2 = Conv{C3}(d1, w2) y = Concat<axis=1>(d1, c2)",
         x=(2, 5, 4, 4), w1=(3, 5, 3, 3), w2=(7, 8, 3, 3)),
    case("channel_shuffle",
         f"c = Conv{C3}(x, w, b) r = Reshape(c, s) t = Transpose<perm=[0,2,1,3,4]>(r) u = Reshape(t, o) "
         f"p, q = Split<axis=1, num_outputs=2>(u) d = Conv{C3}(p, w1) y = Concat<axis=1>(d, q)",
         x=X, s=[1, 2, 8, 6, 6], o=[1, 16, 6, 6], w1=(8, 8, 3, 3), **WEIGHTS),
    case("split_of_blocks", f"c = Conv{C3}(x, w) p, q = Split<axis=1, num_outputs=2>(c) r = Conv(p, w1) y = Mul(r, q)",
         x=X, w=(32, 16, 3, 3), w1=(16, 16, 1, 1)),
    case("nhwc_head", f"c = Conv{C3}(x, w, b) t = Transpose<perm=[0,2,3,1]>(c) r = Reshape(t, s) y = Softmax(r)",
         x=X, s=[1, -1, 4], **WEIGHTS),
    case("classifier",
         "c = Conv(x, w, b) g = GlobalAveragePool(c) f = Flatten(g) l = Gemm<transB=1>(f, k) y = Softmax(l)",
         x=(2, *X[1:]), k=(10, 16), **WEIGHTS),
    case("classifier_dropout", "g = GlobalAveragePool(x) d, z = Dropout(g) f = Flatten(d) y = Gemm(f, k, l)",
         x=(1, 17, 3, 3), k=(17, 5), l=(5,)),
    case("pool_epilogue", "p = AveragePool<kernel_shape=[2,2]>(x) r = Relu(p) y = Add(r, p)", x=(1, 17, 5, 5)),
    case("elementwise_fan", "a = Exp(x) b = Add(a, x1) c = Mul(a, x2) d = Sub(b, c) y = Max(d, x3, a)",
         x=(3, 5), x1=(3, 5), x2=(3, 5), x3=(3, 5)),
    case("elementwise_many",
         "a = Add(x, x1) b = Add(a, x2) c = Add(b, x3) d = Add(c, x4) e = Add(d, x5) y = Add(e, x6)",
         **SEVEN),
    case("elementwise_broadcast_then_full",
         "a = Add(x, x1) b = Exp(a) y = Mul(b, x2)", x=(3, 1), x1=(1, 5), x2=(2, 3, 5)),
    case("two_heads", f"c = Conv{C3}(x, w, b) y = Relu(c) y1 = Sigmoid(c)", x=X, **WEIGHTS),
    case("same_weights_twice", f"c = Conv{C3}(x, w, b) y = Conv{C3}(c, w, b)", x=X, **WEIGHTS),
    case("one_pixel_views", "g = GlobalAveragePool(x) f = Flatten(g) u = Reshape(f, s) y = Conv(u, w)",
         x=(1, 16, 3, 3), s=[1, 16, 1, 1], w=(5, 16, 1, 1)),
    case("one_pixel_batch", "g = GlobalAveragePool(x) f = Flatten(g) u = Reshape(f, s) y = Conv(u, w)",
         x=(3, 16, 3, 3), s=[3, 16, 1, 1], w=(5, 16, 1, 1)),
    case("upsample_add", f"c = Conv{C3}(x, w, b) u = Resize(c, , s) y = Add(u, x1)",
         x=X, x1=(1, 16, 12, 12), s=[1.0, 1.0, 2.0, 2.0], **WEIGHTS),
    case("pad_conv", 'p = Pad<mode="reflect">(x, q) c = Conv(p, w, b) y = Relu(c)', x=X, q=[0, 0, 1, 1, 0, 0, 1, 1],
         **WEIGHTS),
    case("unused_branch", "z = Exp(x) y = Relu(x)", x=(3, 5)),
]  # fmt: skip

SEPARATE = [
    case("input_is_output", "y = Identity(x)", x=(3, 5)),
    case("only_views", "y = Reshape(x, s)", x=(3, 5), s=[15]),
    case("only_constants", "y1 = Identity(k) y = Identity(x)", x=(2, 2), k=(3, 5)),
    case("scalar", "y = Relu(x)", x=np.array(-2, np.float32)),
]
"""Models that must also run alone: there is little or nothing to launch."""


@pytest.fixture(scope="module")
def results(start: Start) -> Results:
    return Results(start, {"fusion": CASES, **{f"{one}": [one] for one in SEPARATE}})


@pytest.mark.parametrize("one", CASES, ids=str)
def test_fusion(one: Case, results: Results) -> None:
    check(one, results, "fusion")


@pytest.mark.parametrize("one", SEPARATE, ids=str)
def test_alone(one: Case, results: Results) -> None:
    check(one, results, one.name)


def check(one: Case, results: Results, family: str) -> None:
    got = results.of(family, one)
    for name, expected in one.expected.items():
        assert difference(got[name], expected) <= TOLERANCE, f"{name}: {got[name]} instead of {expected}"
