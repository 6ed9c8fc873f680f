"""MACE's models: written and read back, and read where they are built here by hand, against NumPy."""

# ruff: noqa: E501 - a case is read more easily in one line

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from mace_cl.demo.models import mobilenet_v2
from mace_cl.errors import InputError, ModelError, UnsupportedError
from mace_cl.export.mace import write
from mace_cl.frontends.mace import load
from mace_cl.frontends.mace import mace_pb2 as pb
from mace_cl.frontends.onnx import load as load_onnx
from mace_cl.passes.pipeline import simplify
from mace_models import Net, proto, run, save
from support import Array, Case, case, difference, filled, model_of, reference

TOLERANCE = 2e-5

X = (1, 8, 6, 5)

CASES = [
    case("conv", "y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)", x=X, w=(4, 8, 3, 3), b=(4,)),
    case("conv_dilated", "y = Conv<dilations=[2,2], pads=[2,2,2,2]>(x, w)", x=X, w=(4, 8, 3, 3)),
    case("conv_uneven", "y = Conv<pads=[0,1,1,2]>(x, w)", x=X, w=(4, 8, 3, 3)),
    case("conv_lower", "y = Conv<pads=[1,2,0,0]>(x, w)", x=X, w=(4, 8, 3, 3)),
    case("conv_same", 'y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w)', x=X, w=(4, 8, 3, 3), oracle="onnxruntime"),
    case("depthwise", "y = Conv<group=8, pads=[1,1,1,1]>(x, w, b)", x=X, w=(8, 1, 3, 3), b=(8,)),
    case("depthwise_wide", "y = Conv<group=8>(x, w)", x=X, w=(16, 1, 3, 3)),
    case("conv_norm_relu", "c = Conv(x, w) n = BatchNormalization(c, s, b, m, v) y = Relu(n)", x=X, w=(4, 8, 1, 1), s=(4,), b=(4,), m=(4,), v=np.arange(1, 5, dtype=np.float32)),
    case("depthwise_norm", "c = Conv<group=8>(x, w, d) y = BatchNormalization(c, s, b, m, v)", x=X, w=(8, 1, 3, 3), d=(8,), s=(8,), b=(8,), m=(8,), v=np.arange(1, 9, dtype=np.float32)),
    case("norm", "n = BatchNormalization(x, s, b, m, v) y = Relu(n)", x=X, s=(8,), b=(8,), m=(8,), v=np.arange(1, 9, dtype=np.float32)),
    case("conv_relu6", "c = Conv(x, w) y = Clip(c, lo, hi)", x=X, w=(4, 8, 1, 1), lo=np.float32(0), hi=np.float32(6)),
    case("conv_read_twice", "y = Conv(x, w) y1 = Relu(y)", x=X, w=(4, 8, 1, 1)),
    case("transposed", "c = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, w, b) y = Relu(c)", x=X, w=(8, 3, 4, 4), b=(3,)),
    case("transposed_depthwise", "y = ConvTranspose<strides=[2,2], group=8>(x, w)", x=X, w=(8, 1, 2, 2)),
    case("max_pool", "y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)", x=X),
    case("max_pool_ceil", "y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", x=X),
    case("mean_pool", "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", x=X),
    case("mean_pool_counted", "y = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1], count_include_pad=1>(x)", x=X),
    case("global", "a = GlobalAveragePool(x) b = GlobalMaxPool(x) y = Add(a, b)", x=X),
    case("gemm", "f = Flatten(x) y = Gemm<transB=1>(f, w, b)", x=X, w=(7, 240), b=(7,)),
    case("gemm_plain", "g = Gemm(x, w, b) y = Relu(g)", x=(3, 10), w=(10, 7), b=(7,)),
    case("two_matrices", "r = Reshape(x, s) h = Gemm(r, w) y = MatMul(h, u)", x=X, s=[1, -1], w=(240, 9), u=(9, 4)),
    case("mat_mul", "y = MatMul(x, x1)", x=(2, 3, 4), x1=(2, 4, 5)),
    *[case(name.lower(), f"y = {name}(x)", x=X) for name in ("Relu", "Tanh", "Sigmoid", "Abs", "Neg", "HardSwish", "Identity")],
    case("leaky", "y = LeakyRelu<alpha=0.2>(x)", x=X),
    case("elu", "y = Elu<alpha=0.7>(x)", x=X),
    case("hard_sigmoid", "y = HardSigmoid<alpha=0.3, beta=0.4>(x)", x=X),
    case("clip", "y = Clip(x, lo, hi)", x=X, lo=np.float32(-0.5), hi=np.float32(0.25)),
    case("prelu", "y = PRelu(x, s)", x=X, s=(8, 1, 1)),
    case("sqrt", "a = Abs(x) b = Sqrt(a) c = Add(b, one) y = Reciprocal(c)", x=X, one=np.float32(1)),
    *[case(f"{name.lower()}_of_two", f"y = {name}(x, x1)", x=X, x1=X) for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")],
    *[case(f"{name.lower()}_number", f"y = {name}(x, c) y1 = {name}(c, x)", x=X, c=np.float32(1.5)) for name in ("Add", "Sub", "Mul", "Div")],
    *[case(f"{name.lower()}_channels", f"y = {name}(x, c) y1 = {name}(c, x)", x=X, c=np.abs(filled("c", (8, 1, 1))) + np.float32(1)) for name in ("Add", "Sub", "Mul", "Div")],
    case("add_vector", "y = Add(x, c)", x=(3, 5), c=(1, 5)),
    case("scale_of_image", "g = GlobalAveragePool(x) y = Mul(x, g)", x=X),
    case("sum_of_three", "y = Sum(x, x1, x2)", x=X, x1=X, x2=X),
    case("softmax", "y = Softmax<axis=1>(x)", x=X),
    case("softmax_rows", "y = Softmax(x)", x=(3, 7)),
    case("softmax_last", "y = Softmax<axis=-1>(x)", x=X),
    case("log_softmax", "y = LogSoftmax(x)", x=(3, 7)),
    case("concat", "y = Concat<axis=1>(x, x1)", x=X, x1=(1, 3, 6, 5)),
    case("concat_rows", "y = Concat<axis=2>(x, x1)", x=X, x1=(1, 8, 2, 5)),
    case("concat_flat", "y = Concat<axis=1>(x, x1)", x=(2, 3), x1=(2, 5)),
    case("split", "y, y1 = Split<axis=1, num_outputs=2>(x)", x=X),
    case("shuffle", "a = Reshape(x, s) b = Transpose<perm=[0,2,1,3,4]>(a) y = Reshape(b, t)", x=X, s=[1, 2, 4, 6, 5], t=[1, 8, 6, 5]),
    case("reshape", "c = Relu(x) y = Reshape(c, s)", x=X, s=[1, 4, 60]),
    case("squeeze", "g = GlobalAveragePool(x) y = Squeeze(g, a)", x=X, a=[2, 3]),
    case("unsqueeze", "y = Unsqueeze(x, a)", x=(3, 4), a=[0, 3]),
    case("transpose", "c = Relu(x) y = Transpose<perm=[0,3,1,2]>(c)", x=X),
    case("nhwc", "a = Transpose<perm=[0,3,1,2]>(x) c = Conv(a, w) y = Transpose<perm=[0,2,3,1]>(c)", x=(1, 6, 5, 8), w=(4, 8, 3, 3)),
    case("ssd_head", "c = Conv(x, w) t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)", x=X, w=(6, 8, 3, 3), s=[1, -1, 3]),
    case("slice", "y = Slice(x, b, e, a)", x=X, b=[1, 2], e=[6, 5], a=[1, 2]),
    case("gather", "y = Gather<axis=1>(x, i)", x=X, i=[3, -1, 0]),
    case("gather_one", "y = Gather<axis=1>(x, i)", x=X, i=np.int64(3)),
    case("tile", "y = Tile(x, t)", x=X, t=[1, 2, 1, 3]),
    case("pad", "y = Pad(x, p, v)", x=X, p=[0, 0, 1, 2, 0, 0, 0, 3], v=np.float32(0.5)),
    case("pad_reflect", 'y = Pad<mode="reflect">(x, p)', x=X, p=[0, 0, 1, 2, 0, 0, 0, 3]),
    case("depth_to_space", "y = DepthToSpace<blocksize=2>(x)", x=X),
    case("space_to_depth", "y = SpaceToDepth<blocksize=2>(x)", x=(1, 3, 6, 4)),
    case("instance_norm", "y = InstanceNormalization(x, s, b)", x=X, s=(8,), b=(8,)),
    case("lrn", "y = LRN<size=3, alpha=0.3, beta=0.6, bias=2.0>(x)", x=X, oracle="onnxruntime"),
    case("nearest", 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(x, , s)', x=X, s=[1.0, 1.0, 2.0, 2.0]),
    *[case(f"linear_{mode}", f'y = Resize<mode="linear", coordinate_transformation_mode="{mode}">(x, , , s)', x=X, s=[1, 8, 11, 7]) for mode in ("asymmetric", "align_corners", "half_pixel")],
    *[case(f"{name.lower()}", f"y = {name}(x, a)", x=X, a=[2, 3]) for name in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd")],
    case("reduce_channels", "y = ReduceMean(x, a)", x=X, a=[1]),
    case("reduce_flat", "y = ReduceMean<keepdims=0>(x, a)", x=X, a=[2, 3]),
]  # fmt: skip


@pytest.mark.parametrize("one", CASES, ids=str)
@pytest.mark.parametrize("half", [False, True])
def test_there_and_back(one: Case, half: bool, tmp_path: Path) -> None:
    source = model_of(one)
    written = write(simplify(load_onnx(source.SerializeToString())), one.name, half)
    again = load(save(tmp_path, written.pb, written.data), {})
    assert [value.name for value in again.graph.inputs] == list(one.inputs)
    got = reference(proto(again), one.inputs)
    assert got.keys() == one.expected.keys()
    for name, array in one.expected.items():
        assert difference(got[name], array) <= (5e-3 if half else TOLERANCE), name


def test_mobilenet_there_and_back(tmp_path: Path) -> None:
    """The demonstration's network, whole: batch normalisation in weights, activations in the operators before."""
    source = mobilenet_v2()
    written = write(simplify(load_onnx(source)), "mobilenet_v2")
    graph = pb.MultiNetDef.FromString(written.pb).net_def[0]
    assert {op.type for op in graph.op} <= {
        "Conv2D",
        "DepthwiseConv2d",
        "Eltwise",
        "Pooling",
        "FullyConnected",
        "Reshape",
        "Softmax",
    }
    model = onnx.load_from_string(source)
    inputs = {port.name: filled("net", (1, 3, 224, 224)) for port in model.graph.input}
    expected = reference(model, inputs, "onnxruntime as users run it")
    got = reference(proto(load(save(tmp_path, written.pb, written.data), {})), inputs, "onnxruntime as users run it")
    for name, array in expected.items():
        assert difference(got[name], array) <= TOLERANCE


def test_all_nodes_without_an_operator_are_named() -> None:
    source = model_of(
        case(
            "many",
            "a = Erf(x) b = Det(m) c = Softmax<axis=2>(a) y1 = Conv<group=2>(x, w) y = Exp(c)",
            x=X,
            m=(1, 8, 6, 6),
            w=(4, 4, 1, 1),
        )
    )
    with pytest.raises(UnsupportedError, match=r"--outputs") as caught:
        write(simplify(load_onnx(source.SerializeToString())), "many.onnx")
    for part in (
        "'many.0' (op Erf)",
        "'many.2' (op Softmax): the axis 2 of 4",
        "(op Conv): 2 groups",
        "(op Exp)",
        "many.onnx",
    ):
        assert part in str(caught.value)


# By hand.


def convolved(x: Array, w: Array, dilation: int = 1) -> Array:
    """NHWC by OIHW, valid."""
    _, height, width, _ = x.shape
    outs, _, kh, kw = w.shape
    rows, columns = height - dilation * (kh - 1), width - dilation * (kw - 1)
    y = np.zeros((x.shape[0], rows, columns, outs), np.float32)
    for r in range(kh):
        for c in range(kw):
            y += x[:, r * dilation : r * dilation + rows, c * dilation : c * dilation + columns] @ w[:, :, r, c].T
    return y


def by_hand() -> dict[str, tuple[Callable[[Net], tuple[int, ...]], Callable[[Array], Array]]]:
    w, d, c = filled("w", (3, 4, 3, 3)), filled("d", (1, 4, 3, 3)), filled("c", (4,))
    image = filled("image", (1, 8, 8, 4))

    def conv(net: Net) -> tuple[int, ...]:
        net.op("Conv2D", ["x", net.tensor("w", w)], "y", (1, 6, 6, 3), strides=[1, 1], padding=0)
        return (1, 6, 6, 3)

    def half(net: Net) -> tuple[int, ...]:
        net.op("Conv2D", ["x", net.tensor("w", w.astype(np.float16))], "y", (1, 6, 6, 3), strides=[1, 1], padding=0)
        return (1, 6, 6, 3)

    def bfloat(net: Net) -> tuple[int, ...]:
        net.op(
            "Conv2D",
            ["x", net.tensor("w", (w.view(np.uint32) >> 16).astype(np.uint16))],
            "y",
            (1, 6, 6, 3),
            strides=[1, 1],
            padding=0,
        )
        return (1, 6, 6, 3)

    def atrous(net: Net) -> tuple[int, ...]:
        net.op("SpaceToBatchND", ["x"], "s", (4, 4, 4, 4), block_shape=[2, 2], paddings=[0, 0, 0, 0])
        net.op("DepthwiseConv2d", ["s", net.tensor("d", d)], "c", (4, 2, 2, 4), strides=[1, 1], padding=0)
        net.op("BatchToSpaceND", ["c"], "y", (1, 4, 4, 4), block_shape=[2, 2], crops=[0, 0, 0, 0])
        return (1, 4, 4, 4)

    def atrous_expected(x: Array) -> Array:
        full = np.zeros((4, 4, 3, 3), np.float32)
        full[range(4), range(4)] = d[0]
        return convolved(x, full, 2)

    def mixed(net: Net) -> tuple[int, ...]:
        """Channels as the last axis for Concat, BiasAdd, Eltwise and Reshape alike."""
        net.op("BiasAdd", ["x", net.tensor("c", c)], "b", (1, 8, 8, 4))
        net.op("Concat", ["x", "b"], "k", (1, 8, 8, 8), axis=3, has_data_format=1)
        net.op("Eltwise", ["k", net.tensor("m", np.tile(c, 2))], "e", (1, 8, 8, 8), type=2)
        net.op("Eltwise", ["e"], "f", (1, 8, 8, 8), type=1, scalar_input=2.0, scalar_input_index=0)
        net.op("Reshape", ["f"], "y", (8, 64), data_format=1)
        return (8, 64)

    def tensorflow_deconv(net: Net) -> tuple[int, ...]:
        shape = net.tensor("shape", np.array([1, 16, 16, 3], np.int32))
        net.op(
            "Deconv2D",
            ["x", net.tensor("w", w), shape, net.tensor("b", c[:3])],
            "y",
            (1, 16, 16, 3),
            strides=[2, 2],
            padding=1,
            framework_type=0,
        )
        return (1, 16, 16, 3)

    def tensorflow_deconv_expected(x: Array) -> Array:
        y = np.zeros((1, 17, 17, 3), np.float32)
        for r in range(8):
            for column in range(8):
                y[0, 2 * r : 2 * r + 3, 2 * column : 2 * column + 3] += np.einsum("i,oikl->klo", x[0, r, column], w)
        return y[:, :16, :16] + c[:3]

    def sliced(net: Net) -> tuple[int, ...]:
        limits = [
            net.tensor(name, np.array(one, np.int32))
            for name, one in (("b", [0, 1, -3, 0]), ("e", [0, 7, 8, 2]), ("s", [1, 2, 1, 1]))
        ]
        net.op("StridedSlice", ["x", *limits], "y", (3, 3, 2), data_format=1, begin_mask=1, shrink_axis_mask=1)
        return (3, 3, 2)

    def crossed(net: Net) -> tuple[int, ...]:
        net.op("Split", ["x"], "a", (1, 8, 8, 2), axis=3)
        net.net.op[-1].output.append("b")
        net.net.op[-1].output_shape.add(dims=(1, 8, 8, 2))
        net.op("SqrDiffMean", ["a", "b"], "m", (1, 1, 1, 2))
        net.op("Reduce", ["x"], "r", (1, 8, 8, 1), reduce_type=2, axis=[3], keepdims=1)
        net.op("Eltwise", ["r", "m"], "y", (1, 8, 8, 2), type=0)
        return (1, 8, 8, 2)

    def batch_norm(net: Net) -> tuple[int, ...]:
        parameters = [
            net.tensor(name, array) for name, array in (("g", c), ("h", c * 2), ("m", c * 3), ("v", np.abs(c)))
        ]
        net.op("BatchNorm", ["x", *parameters], "y", (1, 8, 8, 4), epsilon=0.01, activation=b"RELUX", max_limit=1.5)
        return (1, 8, 8, 4)

    def softmaxed(net: Net) -> tuple[int, ...]:
        net.op("FullyConnected", ["x", net.tensor("w", filled("fc", (5, 4, 8, 8)))], "f", (1, 1, 1, 5))
        net.op("Softmax", ["f"], "y", (1, 1, 1, 5))
        return (1, 1, 1, 5)

    def softmax_expected(x: Array) -> Array:
        e = np.exp(x.transpose(0, 3, 1, 2).reshape(1, -1) @ filled("fc", (5, 4, 8, 8)).reshape(5, -1).T)
        return np.asarray(e / e.sum()).reshape(1, 1, 1, 5)

    def full(net: Net) -> tuple[int, ...]:
        net.op("Pooling", ["x"], "y", (1, 10, 10, 4), pooling_type=2, kernels=[3, 3], strides=[1, 1], padding=2)
        return (1, 10, 10, 4)

    def full_expected(x: Array) -> Array:
        p = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)), constant_values=-np.inf)
        return np.asarray(np.max([p[:, r : r + 10, k : k + 10] for r in range(3) for k in range(3)], axis=0))

    assert image.size
    return {
        "conv": (conv, lambda x: convolved(x, w)),
        "half": (half, lambda x: convolved(x, w.astype(np.float16).astype(np.float32))),
        "bfloat16": (bfloat, lambda x: convolved(x, (w.view(np.uint32) >> 16 << 16).view(np.float32))),
        "atrous": (atrous, atrous_expected),
        "channels_last": (mixed, lambda x: (2 - np.concatenate([x, x + c], 3) * np.tile(c, 2)).reshape(8, 64)),
        "tensorflow_deconv": (tensorflow_deconv, tensorflow_deconv_expected),
        "strided_slice": (sliced, lambda x: x[0, 1:7:2, -3:8, :2]),
        "split_and_reduce": (
            crossed,
            lambda x: x.max(3, keepdims=True) + ((x[..., :2] - x[..., 2:]) ** 2).mean((1, 2), keepdims=True),
        ),
        "batch_norm": (batch_norm, lambda x: np.clip((x - c * 3) / np.sqrt(np.abs(c) + 0.01) * c + c * 2, 0, 1.5)),
        "fully_connected": (softmaxed, softmax_expected),
        "full_padding": (full, full_expected),
    }


HANDMADE = by_hand()


@pytest.mark.parametrize("old", [True, False], ids=["NetDef", "MultiNetDef"])
@pytest.mark.parametrize("name", HANDMADE)
def test_by_hand(name: str, old: bool, tmp_path: Path) -> None:
    build, expected = HANDMADE[name]
    net, x = Net((1, 8, 8, 4)), filled("image", (1, 8, 8, 4))
    shape = build(net)
    assert difference(run(net.save(tmp_path, *shape, old=old), x=x), expected(x)) <= TOLERANCE


def test_nchw_ports(tmp_path: Path) -> None:
    """A model that came from Caffe or ONNX: NCHW outside, NHWC in the arguments of operators that choose."""
    net, x = Net((1, 4, 6, 5), data_format=2, io=2), filled("n", (1, 4, 6, 5))
    net.op("Concat", ["x", "x"], "c", (1, 6, 5, 8), axis=3, has_data_format=1)
    net.op("Transpose", ["c"], "y", (1, 5, 6, 8), data_format=2, dims=[0, 3, 2, 1])
    expected = np.concatenate([x, x], 1).transpose(0, 3, 2, 1)
    assert difference(run(net.save(tmp_path, 1, 5, 6, 8, form=2), x=x), expected) == 0


def test_quantised(tmp_path: Path) -> None:
    """uint8 in and out of each operator, filters OHWI, int32 biases; within one step of the output."""
    net, x = Net((1, 6, 6, 3), filter_format=103), filled("q", (1, 6, 6, 3)).clip(-2, 2)
    random = np.random.default_rng(0)
    w, d = random.integers(0, 256, (4, 3, 3, 3), np.uint8), random.integers(0, 256, (3, 3, 4, 1), np.uint8)
    bias = random.integers(-500, 500, 4).astype(np.int32)
    net.op("Quantize", ["x"], "q", (1, 6, 6, 3), T=2, quantize=(4 / 255, 128), data_format=1)
    inputs = [
        "q",
        net.tensor("w", w, scale=0.01, zero_point=120, quantized=True),
        net.tensor("b", bias, scale=0.01 * 4 / 255, zero_point=0, quantized=True),
    ]
    net.op("Conv2D", inputs, "c", (1, 4, 4, 4), T=2, strides=[1, 1], padding=0, activation=b"RELU", quantize=(0.1, 0))
    net.op(
        "DepthwiseConv2d",
        ["c", net.tensor("d", d, scale=0.005, zero_point=128, quantized=True)],
        "e",
        (1, 4, 4, 4),
        T=2,
        strides=[1, 1],
        padding=1,
        quantize=(0.2, 100),
    )
    net.op("Dequantize", ["e"], "y", (1, 4, 4, 4), T=2, data_format=1)
    got = run(net.save(tmp_path, 1, 4, 4, 4), x=x)

    def stepped(values: Array, scale: float, zero: int) -> Array:
        return np.asarray((np.clip(np.round(values / scale) + zero, 0, 255) - zero) * scale)

    value = stepped(x, 4 / 255, 128)
    value = convolved(value, ((w.astype(np.float64) - 120) * 0.01).transpose(0, 3, 1, 2)) + bias * 0.01 * 4 / 255
    value = np.pad(stepped(np.maximum(value, 0), 0.1, 0), ((0, 0), (1, 1), (1, 1), (0, 0)))
    full = np.zeros((4, 4, 3, 3))
    full[range(4), range(4)] = ((d.astype(np.float64) - 128) * 0.005)[..., 0].transpose(2, 0, 1)
    expected = stepped(convolved(value, full), 0.2, 100)
    assert np.mean(np.abs(got - expected) <= 0.2 * 1.001) >= 0.99


def test_large_weights_quantised(tmp_path: Path) -> None:
    """A float graph whose weights alone are uint8."""
    net, x = Net((1, 4, 4, 2)), filled("large", (1, 4, 4, 2))
    w = np.random.default_rng(1).integers(0, 256, (3, 2, 1, 1), np.uint8)
    net.op(
        "Conv2D",
        ["x", net.tensor("w", w, scale=0.02, zero_point=100, quantized=True)],
        "y",
        (1, 4, 4, 3),
        strides=[1, 1],
        padding=0,
    )
    assert (
        difference(
            run(net.save(tmp_path, 1, 4, 4, 3), x=x), convolved(x, (w.astype(np.float32) - 100) * np.float32(0.02))
        )
        <= TOLERANCE
    )


def test_graphs_in_a_row(tmp_path: Path) -> None:
    first, second = Net((1, 4)), Net((1, 4))
    first.op("Activation", ["x"], "middle", (1, 4), activation=b"RELU")
    second.net.input_info[0].name = "middle"
    second.op("Activation", ["middle"], "y", (1, 4), activation=b"TANH")
    second.net.output_info.add(name="y", dims=[1, 4])
    second.net.infer_order = 1
    whole = pb.MultiNetDef(net_def=[second.net, first.net], input_tensor=["x"], output_tensor=["y"])
    x = filled("row", (1, 4))
    assert difference(run(save(tmp_path, whole.SerializeToString(), b""), x=x), np.tanh(np.maximum(x, 0))) <= TOLERANCE


class TestWrong:
    def net(self) -> Net:
        net = Net((1, 8, 8, 4))
        HANDMADE["conv"][0](net)
        return net

    def test_all_operators_are_named(self, tmp_path: Path) -> None:
        net = Net((1, 8, 8, 4))
        net.op("DynamicLSTM", ["x"], "a", (1, 8))
        net.op("Activation", ["a"], "b", (1, 8), activation=b"RELU")
        net.op("Activation", ["x"], "c", (1, 8, 8, 4), activation=b"MISH")
        net.op(
            "Conv2D",
            ["x", net.tensor("w", filled("w", (3, 4, 4, 4)))],
            "y",
            (1, 6, 6, 3),
            strides=[1, 1],
            is_filter_transformed=1,
        )
        with pytest.raises(UnsupportedError) as caught:
            load(net.save(tmp_path, 1, 6, 6, 3), {})
        for part in (
            "'DynamicLSTM/a' (DynamicLSTM)",
            "'Activation/c' (Activation): the activation MISH",
            "transformed for Winograd",
            "net.pb",
        ):
            assert part in str(caught.value)
        assert "Activation/b" not in str(caught.value)

    def test_no_data(self, tmp_path: Path) -> None:
        path = self.net().save(tmp_path, 1, 6, 6, 3)
        path.with_suffix(".data").unlink()
        with pytest.raises(
            ModelError, match=r"net\.pb: is a graph whose 1 tensors lie in a \.data file; put it beside"
        ):
            load(path, {})

    def test_short_data(self, tmp_path: Path) -> None:
        path = self.net().save(tmp_path, 1, 6, 6, 3)
        path.with_suffix(".data").write_bytes(bytes(431))
        with pytest.raises(
            ModelError, match=r"net\.pb: the tensor 'w' .*needs 432 bytes from byte 0 on, but the \.data has 431"
        ):
            load(path, {})

    @pytest.mark.parametrize(
        "data", [b"", b"hello", b"\xff" * 99, b"\x0a\x02\x08\x01", b"\x08\x01", b"\x0a\xff\xff\xff\xff\x07"]
    )
    def test_not_a_graph(self, data: bytes, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"net\.pb"):
            load(save(tmp_path, data, b""), {})

    @pytest.mark.parametrize(
        ("edit", "message"),
        [
            (lambda net: net.op[0].input.__setitem__(0, "y"), "reads 'y', which can|written by no operator"),
            (
                lambda net: net.op[0].input.__setitem__(0, "nowhere"),
                "reads 'nowhere', which no operator before it writes",
            ),
            (lambda net: net.output_info[0].__setattr__("name", "z"), "the output 'z' is written by no operator"),
            (lambda net: net.input_info[0].dims.__setitem__(1, -8), "input 'x' has the shape"),
            (lambda net: net.input_info[0].dims.__setitem__(1, 2**31 - 1), "input 'x' has the shape"),
            (lambda net: net.tensors[0].dims.__setitem__(0, -3), "'w' of the shape"),
            (lambda net: net.tensors[0].dims.__setitem__(0, 2**62), "has 108 elements"),
            (lambda net: net.tensors[0].__setattr__("offset", -4), "from byte -4 on"),
            (lambda net: net.tensors[0].__setattr__("offset", 2**62), "needs 432 bytes from byte"),
            (lambda net: net.op[0].arg[2].ints.__setitem__(0, 0), r"has \[0, 1\] for strides"),
            (lambda net: net.op[0].arg[3].__setattr__("i", 77), "padding 77"),
            (lambda net: net.op[0].input.pop(), "needs 2 inputs|contradicts itself"),
            (lambda net: net.op[0].output.append("more"), "contradicts itself"),
        ],
    )
    def test_contradictions(self, edit: Callable[[pb.NetDef], object], message: str, tmp_path: Path) -> None:
        net = self.net()
        path = net.save(tmp_path, 1, 6, 6, 3)
        edit(net.net)
        path.write_bytes(net.net.SerializeToString())
        with pytest.raises(ModelError, match=message):
            load(path, {})

    def test_other_shape(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="does not fit input 'x'"):
            load(self.net().save(tmp_path, 1, 6, 6, 3), {"x": (1, 9, 9, 4)})

    def test_damaged_anywhere(self, tmp_path: Path) -> None:
        """A flipped bit, or a cut, gives a model or an `InputError`, never another exception."""
        random = np.random.default_rng(1)
        for name in ("atrous", "channels_last", "split_and_reduce", "strided_slice"):
            net = Net((1, 8, 8, 4))
            shape = HANDMADE[name][0](net)
            path = net.save(tmp_path, *shape)
            data = bytearray(path.read_bytes())
            for place in random.integers(0, len(data) * 8, 250):
                data[place // 8] ^= 1 << place % 8
                for content in (data, data[: place // 8]):
                    path.write_bytes(content)
                    with contextlib.suppress(InputError):
                        load(path, {})
                data[place // 8] ^= 1 << place % 8

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=strategies.binary(max_size=200), graph=strategies.booleans())
    def test_any_bytes(self, data: bytes, graph: bool, tmp_path: Path) -> None:
        """Bytes as a whole graph, or as an operator in one."""
        if graph:
            net = Net((1, 8, 8, 4))
            HANDMADE["conv"][0](net)
            net.net.output_info.add(name="y", dims=(1, 6, 6, 3))
            data = net.net.SerializeToString() + b"\x0a" + bytes([len(data) % 128]) + data
        with contextlib.suppress(InputError):
            load(save(tmp_path, data, bytes(500)), {})
