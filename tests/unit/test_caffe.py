"""Caffe's layers against NumPy written from Caffe's definitions, and against OpenCV where it is installed."""

# ruff: noqa: E501 - a network's text is read more easily in one line

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from google.protobuf import text_format
from hypothesis import HealthCheck, given, settings, strategies

from mace_cl.errors import InputError, ModelError, UnsupportedError
from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe import load
from support import Array, Outputs, difference, filled, reference

TOLERANCE = 2e-5


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer ``l`` over inputs ``x0``, ``x1`` …: its text, its blobs, and what it must give."""

    name: str
    text: str
    expected: Callable[..., Array | list[Array]]
    shapes: tuple[tuple[int, ...], ...] = ((1, 4, 7, 6),)
    blobs: tuple[Array, ...] = ()
    positive: bool = False
    opencv: bool = True
    values: tuple[Array, ...] = field(default=())

    def __str__(self) -> str:
        return self.name

    @property
    def inputs(self) -> Outputs:
        arrays = self.values or tuple(
            filled(f"{self.name}/{n}", shape, 0.1 if self.positive else None) for n, shape in enumerate(self.shapes)
        )
        return {f"x{number}": array for number, array in enumerate(arrays)}

    @property
    def prototxt(self) -> str:
        sources = "".join(source(name, array.shape) for name, array in self.inputs.items())
        bottoms = " ".join(f'bottom: "{name}"' for name in self.inputs)
        tops = "" if "top:" in self.text else 'top: "y"'
        return f'name: "net" {sources} layer {{ name: "l" {bottoms} {tops} {self.text} }}'


def source(name: str, shape: tuple[int, ...]) -> str:
    dims = " ".join(f"dim: {size}" for size in shape)
    return f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}\n'


def caffemodel(blobs: Mapping[str, tuple[Array, ...]]) -> bytes:
    weights = pb.Net()
    for name, arrays in blobs.items():
        layer = weights.layer.add(name=name, type="its own")
        for array in arrays:
            layer.blobs.add(shape=pb.BlobShape(dim=array.shape), data=[array.astype("<f4").tobytes()])
    return weights.SerializeToString()


def write(folder: Path, text: str, blobs: Mapping[str, tuple[Array, ...]] | bytes) -> Path:
    model = blobs if isinstance(blobs, bytes) else caffemodel(blobs)
    (folder / "net.caffemodel").write_bytes(model)
    (folder / "net.prototxt").write_text(text)
    return folder / "net.prototxt"


def proto(model: ir.Model) -> onnx.ModelProto:
    made = ir.serde.serialize_model(model)
    onnx.checker.check_model(made, full_check=True)
    return made


def run(path: Path, inputs: Outputs) -> Outputs:
    return reference(proto(load(path, {})), inputs)


def windows(x: Array, k: int, s: int, p: int) -> tuple[int, int]:
    """Caffe's output size."""
    sizes = []
    for size in x.shape[2:]:
        out = math.ceil((size + 2 * p - k) / s) + 1
        if p and (out - 1) * s >= size + p:
            out -= 1
        sizes.append(out)
    return sizes[0], sizes[1]


def pooled(x: Array, k: int, s: int, p: int, average: bool) -> Array:
    """caffe/src/caffe/layers/pooling_layer.cpp, as its loops read."""
    height, width = x.shape[2:]
    rows, columns = windows(x, k, s, p)
    y = np.zeros((*x.shape[:2], rows, columns), np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * s - p, column * s - p
            bottom, right = min(top + k, height + p), min(left + k, width + p)
            area = (bottom - top) * (right - left)
            part = x[:, :, max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
            y[:, :, row, column] = part.sum((2, 3)) / area if average else part.max((2, 3))
    return y


def convolved(x: Array, w: Array, b: Array, s: int, p: int, d: int, group: int) -> Array:
    n, _, height, width = x.shape
    outs, per, kh, kw = w.shape
    x = np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))
    rows, columns = (height + 2 * p - d * (kh - 1) - 1) // s + 1, (width + 2 * p - d * (kw - 1) - 1) // s + 1
    y = np.zeros((n, outs, rows, columns), np.float64)
    for out in range(outs):
        first = out // (outs // group) * per
        for r in range(rows):
            for c in range(columns):
                part = x[:, first : first + per, r * s : r * s + d * kh : d, c * s : c * s + d * kw : d]
                y[:, out, r, c] = (part * w[out]).sum((1, 2, 3)) + b[out]
    return y.astype(np.float32)


def transposed(x: Array, w: Array, b: Array, s: int, p: int) -> Array:
    n, _, height, width = x.shape
    outs, k = w.shape[1], w.shape[2]
    y = np.zeros((n, outs, s * (height - 1) + k, s * (width - 1) + k))
    for r in range(height):
        for c in range(width):
            y[:, :, r * s : r * s + k, c * s : c * s + k] += np.einsum("ni,iokl->nokl", x[:, :, r, c], w)
    return (y[:, :, p : y.shape[2] - p, p : y.shape[3] - p] + b[None, :, None, None]).astype(np.float32)


def across(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    squares = np.pad(x * x, ((0, 0), (size // 2, size // 2), (0, 0), (0, 0)))
    sums = sum(squares[:, i : i + x.shape[1]] for i in range(size))
    return np.asarray(x * (k + alpha / size * sums) ** -beta, np.float32)


def reorganised(x: Array, s: int) -> Array:
    """Darknet's reorg_cpu(x, w, h, c, batch, stride, forward=0, out), index by index."""
    n, c, h, w = x.shape
    flat, out = x.reshape(n, -1), np.empty((n, x[0].size), np.float32)
    for k in range(c):
        for j in range(h):
            for i in range(w):
                small, offset = k % (c // (s * s)), k // (c // (s * s))
                column, row = i * s + offset % s, j * s + offset // s
                out[:, i + w * (j + h * k)] = flat[:, column + w * s * (row + h * s * small)]
    return out.reshape(n, c * s * s, h // s, w // s)


def resized(x: Array, rows: int, columns: int) -> Array:
    """Bilinear, corners in place."""
    height, width = x.shape[2:]
    r, c = np.linspace(0, height - 1, rows), np.linspace(0, width - 1, columns)
    top, left = np.minimum(r.astype(int), height - 2), np.minimum(c.astype(int), width - 2)
    dr, dc = (r - top)[:, None], c - left
    a, b = x[:, :, top][:, :, :, left], x[:, :, top][:, :, :, left + 1]
    e, f = x[:, :, top + 1][:, :, :, left], x[:, :, top + 1][:, :, :, left + 1]
    return np.asarray((a * (1 - dc) + b * dc) * (1 - dr) + (e * (1 - dc) + f * dc) * dr, np.float32)


def softmax(x: Array, axis: int) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True))


def normed(x: Array, axes: tuple[int, ...], eps: float, variance: bool = True) -> Array:
    x = x - x.mean(axes, keepdims=True)
    return np.asarray(x / (np.sqrt((x * x).mean(axes, keepdims=True)) + eps) if variance else x)


def weights(name: str, *shape: int) -> Array:
    return filled(f"weights/{name}", shape)


W, B = weights("conv", 6, 2, 3, 3), weights("bias", 6)
D, E = weights("deconv", 4, 5, 4, 4), weights("debias", 5)
F, G = weights("fc", 5, 168), weights("fcbias", 5)
MEAN, VAR, S4, B4 = weights("mean", 4), np.abs(weights("var", 4)) + 1, weights("s", 4), weights("b", 4)
C4 = (4, 1, 1)

LAYERS = [
    Layer(
        "conv", 'type: "Convolution" convolution_param { num_output: 6 kernel_size: 3 pad: 2 stride: 2 dilation: 2 group: 2 }',
        lambda x: convolved(x, W, B, 2, 2, 2, 2), ((2, 4, 9, 8),), (W, B),
    ),
    Layer(
        "conv_asymmetric", 'type: "Convolution" convolution_param { num_output: 3 kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1 stride: 1 bias_term: false }',
        lambda x: convolved(np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1))), weights("a", 3, 4, 1, 3), np.zeros(3), 1, 0, 1, 1),
        blobs=(weights("a", 3, 4, 1, 3),),
    ),
    Layer(
        "deconv", 'type: "Deconvolution" convolution_param { num_output: 5 kernel_size: 4 pad: 1 stride: 2 }',
        lambda x: transposed(x, D, E, 2, 1), blobs=(D, E),
    ),
    Layer("inner_product", 'type: "InnerProduct" inner_product_param { num_output: 5 }', lambda x: x.reshape(1, -1) @ F.T + G, blobs=(F, G)),
    Layer(
        "inner_product_axis", 'type: "InnerProduct" inner_product_param { num_output: 3 axis: 2 transpose: true bias_term: false }',
        lambda x: x.reshape(2, 4, 6) @ weights("t", 6, 3), ((2, 4, 3, 2),), (weights("t", 6, 3),), opencv=False,
    ),
    *[
        Layer(
            f"{name}_{k}_{s}_{p}_{size}", f'type: "Pooling" pooling_param {{ pool: {kind} kernel_size: {k} stride: {s} pad: {p} }}',
            lambda x, k=k, s=s, p=p, average=average: pooled(x, k, s, p, average), ((1, 2, size, size + 1),),
        )
        for name, kind, average in (("max", "MAX", False), ("mean", "AVE", True))
        for k, s, p, size in ((2, 2, 0, 7), (3, 2, 0, 8), (3, 2, 1, 8), (3, 3, 1, 8), (2, 2, 1, 6), (5, 3, 2, 10), (3, 1, 1, 5))
    ],
    Layer("mean_global", 'type: "Pooling" pooling_param { pool: AVE global_pooling: true }', lambda x: x.mean((2, 3), keepdims=True)),
    Layer(
        "max_floor", 'type: "Pooling" pooling_param { pool: MAX kernel_size: 2 stride: 2 ceil_mode: false }',
        lambda x: pooled(x[:, :, :6], 2, 2, 0, False),
    ),
    Layer("relu", 'type: "ReLU"', lambda x: np.maximum(x, 0)),
    Layer("leaky", 'type: "ReLU" relu_param { negative_slope: 0.1 }', lambda x: np.where(x > 0, x, 0.1 * x)),
    Layer("relu6", 'type: "ReLU6"', lambda x: np.clip(x, 0, 6)),
    Layer("clip", 'type: "Clip" clip_param { min: -0.5 max: 0.3 }', lambda x: np.clip(x, -0.5, 0.3), opencv=False),
    Layer("prelu", 'type: "PReLU"', lambda x: np.where(x > 0, x, x * S4.reshape(C4)), blobs=(S4,)),
    Layer("prelu_shared", 'type: "PReLU" prelu_param { channel_shared: true }', lambda x: np.where(x > 0, x, x * 0.2), blobs=(np.array([0.2]),)),
    Layer("elu", 'type: "ELU" elu_param { alpha: 0.7 }', lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1)), opencv=False),
    Layer("sigmoid", 'type: "Sigmoid"', lambda x: 1 / (1 + np.exp(-x))),
    Layer("tanh", 'type: "TanH"', np.tanh),
    Layer("absval", 'type: "AbsVal"', np.abs),
    Layer("bnll", 'type: "BNLL"', lambda x: np.log1p(np.exp(x))),
    Layer("swish", 'type: "Swish"', lambda x: x / (1 + np.exp(-x))),
    Layer("power", 'type: "Power" power_param { power: 3 scale: 0.5 shift: 2 }', lambda x: (0.5 * x + 2) ** 3),
    Layer("power_scale", 'type: "Power" power_param { scale: 0.0078125 shift: -1 }', lambda x: x * 0.0078125 - 1),
    Layer("exp", 'type: "Exp" exp_param { base: 2 scale: 0.5 shift: 1 }', lambda x: 2 ** (0.5 * x + 1)),
    Layer("log", 'type: "Log" log_param { base: 10 scale: 2 shift: 1 }', lambda x: np.log10(2 * x + 1), positive=True, opencv=False),
    Layer("threshold", 'type: "Threshold" threshold_param { threshold: 0.3 }', lambda x: (x > 0.3).astype(np.float32), opencv=False),
    Layer(
        "batch_norm", 'type: "BatchNorm" batch_norm_param { eps: 0.001 }',
        lambda x: (x - MEAN.reshape(C4) / 2) / np.sqrt(VAR.reshape(C4) / 2 + 0.001), blobs=(MEAN, VAR, np.array([2.0])),
    ),
    Layer(
        "batch_norm_no_factor", 'type: "BatchNorm"', lambda x: x / np.sqrt(np.float32(1e-5)), blobs=(MEAN, VAR, np.array([0.0])), opencv=False,
    ),
    Layer(
        "batch_norm_of_batch", 'type: "BatchNorm" batch_norm_param { use_global_stats: false }',
        lambda x: (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5), ((2, 4, 3, 3),),
        (MEAN, VAR, np.array([1.0])), opencv=False,
    ),
    Layer("scale", 'type: "Scale" scale_param { bias_term: true }', lambda x: x * S4.reshape(C4) + B4.reshape(C4), blobs=(S4, B4)),
    Layer("scale_of_two", 'type: "Scale" scale_param { axis: 0 }', lambda x, y: x * y[:, :, None, None], ((2, 4, 3, 2), (2, 4)), opencv=False),
    Layer(
        "scale_of_two_bias", 'type: "Scale" scale_param { axis: 1 bias_term: true }',
        lambda x, y: x * y.reshape(C4) + B4.reshape(C4), ((2, 4, 3, 2), (4,)), (B4,), opencv=False,
    ),
    Layer("bias", 'type: "Bias"', lambda x: x + B4.reshape(C4), blobs=(B4,), opencv=False),
    Layer("sum", 'type: "Eltwise"', lambda a, b, c: a + b + c, ((1, 2, 3, 4),) * 3),
    Layer("difference", 'type: "Eltwise" eltwise_param { operation: SUM coeff: 1 coeff: -2 }', lambda a, b: a - 2 * b, ((1, 2, 3, 4),) * 2),
    Layer("product", 'type: "Eltwise" eltwise_param { operation: PROD }', lambda a, b: a * b, ((1, 2, 3, 4),) * 2),
    Layer("maximum", 'type: "Eltwise" eltwise_param { operation: MAX }', lambda a, b, c: np.maximum(a, np.maximum(b, c)), ((1, 2, 3, 4),) * 3),
    Layer("axpy", 'type: "Axpy"', lambda a, x, y: a * x + y, ((2, 4, 1, 1), (2, 4, 3, 3), (2, 4, 3, 3)), opencv=False),
    Layer("mat_mul", 'type: "MatMul"', lambda a, b: a @ b, ((1, 2, 3, 4), (1, 2, 4, 5)), opencv=False),
    Layer("concat", 'type: "Concat"', lambda a, b: np.concatenate([a, b], 1), ((1, 2, 3, 4), (1, 5, 3, 4))),
    Layer("concat_axis", 'type: "Concat" concat_param { axis: -1 }', lambda a, b: np.concatenate([a, b], 3), ((1, 2, 3, 4), (1, 2, 3, 1))),
    Layer(
        "slice", 'type: "Slice" top: "y" top: "z" top: "u" slice_param { axis: 1 slice_point: 1 slice_point: 4 }',
        lambda x: [x[:, :1], x[:, 1:4], x[:, 4:]], ((1, 6, 2, 3),),
    ),
    Layer("slice_even", 'type: "Slice" top: "y" top: "z"', lambda x: [x[:, :2], x[:, 2:]], opencv=False),
    Layer("split", 'type: "Split" top: "y" top: "z"', lambda x: [x, x]),
    Layer("dropout", 'type: "Dropout" dropout_param { dropout_ratio: 0.5 }', lambda x: x),
    Layer("softmax", 'type: "Softmax"', lambda x: softmax(x, 1)),
    Layer("softmax_axis", 'type: "Softmax" softmax_param { axis: -1 }', lambda x: softmax(x, 3)),
    Layer("flatten", 'type: "Flatten"', lambda x: x.reshape(1, -1)),
    Layer("flatten_part", 'type: "Flatten" flatten_param { axis: 1 end_axis: 2 }', lambda x: x.reshape(1, 28, 6)),
    Layer("reshape", 'type: "Reshape" reshape_param { shape { dim: 0 dim: 2 dim: -1 } }', lambda x: x.reshape(1, 2, 84)),
    Layer("reshape_part", 'type: "Reshape" reshape_param { shape { dim: 3 dim: -1 } axis: 3 }', lambda x: x.reshape(1, 4, 7, 3, 2)),
    Layer("reshape_end", 'type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 }', lambda x: x[..., None], opencv=False),
    Layer("reshape_axes", 'type: "Reshape" reshape_param { shape { dim: -1 } axis: 1 num_axes: 2 }', lambda x: x.reshape(1, 28, 6)),
    Layer("permute", 'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', lambda x: x.transpose(0, 2, 3, 1)),
    Layer("permute_begin", 'type: "Permute" permute_param { order: 1 }', lambda x: x.transpose(1, 0, 2, 3), opencv=False),
    Layer("lrn", 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 }', lambda x: across(x, 3, 0.5, 0.6, 1)),
    Layer("lrn_k", 'type: "LRN" lrn_param { k: 2 }', lambda x: across(x, 5, 1, 0.75, 2), opencv=False),
    Layer(
        "lrn_within", 'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 norm_region: WITHIN_CHANNEL }',
        lambda x: x * (1 + 0.5 * pooled(x * x, 3, 1, 1, True)) ** -0.6,
    ),
    Layer("mvn", 'type: "MVN" mvn_param { eps: 0.01 }', lambda x: normed(x, (2, 3), 0.01), opencv=False),
    Layer("mvn_across", 'type: "MVN" mvn_param { across_channels: true normalize_variance: false }', lambda x: normed(x, (1, 2, 3), 0, False)),
    Layer(
        "group_norm", 'type: "GroupNorm" group_norm_param { group_num: 2 eps: 0 }',
        lambda x: normed(x.reshape(1, 2, -1), (2,), 0).reshape(x.shape), opencv=False,
    ),
    Layer(
        "normalize", 'type: "Normalize" norm_param { across_spatial: false channel_shared: false }',
        lambda x: x / np.sqrt((x * x).sum(1, keepdims=True) + 1e-10) * S4.reshape(C4), blobs=(S4,),
    ),
    Layer(
        "normalize_image", 'type: "Normalize"', lambda x: x / np.sqrt((x * x).sum((1, 2, 3), keepdims=True) + 1e-10) * 3, blobs=(np.array([3.0]),),
    ),
    Layer("l2", 'type: "L2Normalization"', lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)), opencv=False),
    Layer("crop", 'type: "Crop" crop_param { axis: 2 offset: 1 offset: 2 }', lambda x, y: x[:, :, 1:5, 2:5], ((1, 2, 6, 6), (1, 9, 4, 3))),
    Layer("tile", 'type: "Tile" tile_param { axis: 2 tiles: 3 }', lambda x: np.tile(x, (1, 1, 3, 1)), opencv=False),
    Layer(
        "shuffle", 'type: "ShuffleChannel" shuffle_channel_param { group: 3 }',
        lambda x: x.reshape(1, 3, 2, 2, 2).transpose(0, 2, 1, 3, 4).reshape(1, 6, 2, 2), ((1, 6, 2, 2),),
    ),
    Layer("reorg", 'type: "Reorg" reorg_param { stride: 2 }', lambda x: reorganised(x, 2), ((2, 8, 4, 6),)),
    Layer("interp", 'type: "Interp" interp_param { height: 9 width: 4 }', lambda x: resized(x, 9, 4)),
    Layer("interp_zoom", 'type: "Interp" interp_param { zoom_factor: 2 }', lambda x: resized(x, 13, 11)),
    Layer("interp_shrink", 'type: "Interp" interp_param { shrink_factor: 3 pad_end: -1 }', lambda x: resized(x[:, :, :-1, :-1], 2, 2), opencv=False),
    Layer("interp_as", 'type: "Interp"', lambda x, y: resized(x, 5, 8), ((1, 2, 3, 4), (1, 1, 5, 8)), opencv=False),
    Layer("upsample", 'type: "Upsample" upsample_param { scale: 2 }', lambda x: x.repeat(2, 2).repeat(2, 3), opencv=False),
    Layer("resize_nearest", 'type: "ResizeNearest"', lambda x: x.repeat(2, 2).repeat(2, 3), opencv=False),
    Layer("sum_all", 'type: "Reduction" reduction_param { axis: 1 coeff: 0.5 }', lambda x: 0.5 * x.reshape(1, -1).sum(1), opencv=False),
    Layer("sum_of_squares", 'type: "Reduction" reduction_param { operation: SUMSQ axis: 2 }', lambda x: (x * x).sum((2, 3)), opencv=False),
    Layer("sum_of_sizes", 'type: "Reduction" reduction_param { operation: ASUM axis: -1 }', lambda x: np.abs(x).sum(3), opencv=False),
    Layer("mean_of_all", 'type: "Reduction" reduction_param { operation: MEAN axis: 1 }', lambda x: x.mean((1, 2, 3)), opencv=False),
    Layer("argmax", 'type: "ArgMax" argmax_param { axis: 1 }', lambda x: x.argmax(1)[:, None].astype(np.float32), opencv=False),
    Layer(
        "argmax_top", 'type: "ArgMax" argmax_param { top_k: 3 out_max_val: true }',
        lambda x: np.stack([np.argsort(-x.reshape(-1))[:3], np.sort(x.reshape(-1))[::-1][:3]]).astype(np.float32)[None], opencv=False,
    ),
    Layer(
        "embed", 'type: "Embed" embed_param { num_output: 3 input_dim: 5 bias_term: false }', lambda x: weights("e", 5, 3)[x.astype(int)],
        values=(np.array([[0, 4, 2]], np.float32),), blobs=(weights("e", 5, 3),), opencv=False,
    ),
]  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_layer(layer: Layer, tmp_path: Path) -> None:
    path = write(tmp_path, layer.prototxt, {"l": layer.blobs})
    got = list(run(path, layer.inputs).values())
    expected = layer.expected(*layer.inputs.values())
    expected = expected if isinstance(expected, list) else [expected]
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert difference(one, other) <= TOLERANCE


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if layer.opencv], ids=str)
def test_layer_as_in_opencv(layer: Layer, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = write(tmp_path, layer.prototxt, {"l": layer.blobs})
    net = cv2.dnn.readNetFromCaffe(str(path), str(path.with_suffix(".caffemodel")))
    for name, array in layer.inputs.items():
        net.setInput(array, name)
    outputs = run(path, layer.inputs)
    for name, array in zip(outputs, net.forward(list(net.getUnconnectedOutLayersNames())), strict=False):
        assert difference(outputs[name], array.reshape(outputs[name].shape)) <= TOLERANCE


# SSD.

PRIORS = [
    ("min_size: 6", (8, 6), (48, 36)),
    ("min_size: 6 max_size: 13 aspect_ratio: 2 aspect_ratio: 3 clip: true variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2", (5, 7), (40, 50)),
    ("min_size: 6 min_size: 9 max_size: 13 max_size: 15 aspect_ratio: 1 aspect_ratio: 2 flip: false step: 8 offset: 0.25", (3, 3), (25, 24)),
]  # fmt: skip


def priors(text: str, cells: tuple[int, int], image: tuple[int, int]) -> Array:
    """prior_box_layer.cpp, as its loops read."""
    param = pb.PriorBoxParameter()
    text_format.Parse(text, param)
    found = []
    for row in range(cells[0]):
        for column in range(cells[1]):
            cx = (column + param.offset) * (param.step or image[1] / cells[1])
            cy = (row + param.offset) * (param.step or image[0] / cells[0])
            for number, least in enumerate(param.min_size):
                sizes = [(least, least)]
                if param.max_size:
                    sizes.append((math.sqrt(least * param.max_size[number]),) * 2)
                for ratio in param.aspect_ratio:
                    if ratio != 1:
                        sizes.append((least * math.sqrt(ratio), least / math.sqrt(ratio)))
                        if param.flip:
                            sizes.append((least / math.sqrt(ratio), least * math.sqrt(ratio)))
                for w, h in sizes:
                    found += [
                        (cx - w / 2) / image[1],
                        (cy - h / 2) / image[0],
                        (cx + w / 2) / image[1],
                        (cy + h / 2) / image[0],
                    ]
    boxes = np.clip(found, 0, 1) if param.clip else np.array(found)
    variance = list(param.variance) or [0.1]
    return np.stack([boxes, np.tile(variance * (4 // len(variance)), len(boxes) // 4)])[None].astype(np.float32)


@pytest.mark.parametrize(("text", "cells", "image"), PRIORS)
def test_prior_box(text: str, cells: tuple[int, int], image: tuple[int, int], tmp_path: Path) -> None:
    net = f"{source('f', (1, 2, *cells))}{source('data', (1, 3, *image))}"
    net += f'layer {{ name: "p" type: "PriorBox" bottom: "f" bottom: "data" top: "p" prior_box_param {{ {text} }} }}'
    inputs = {"f": filled("f", (1, 2, *cells)), "data": filled("data", (1, 3, *image))}
    expected = priors(text, cells, image)
    assert difference(run(write(tmp_path, net, {"p": ()}), inputs)["p"], expected) <= 1e-6


def overlap(a: Array, b: Array) -> float:
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    both = float(np.prod(sides))
    return both / (float(np.prod(a[2:] - a[:2])) + float(np.prod(b[2:] - b[:2])) - both)


def detections(
    places: Array, scores: Array, prior: Array, code: str, share: bool, encoded: bool, top_k: int, keep: int
) -> Array:
    """detection_output_layer.cpp for one image: confidence 0.3, overlap 0.45, class 0 the background."""
    count, classes = scores.shape
    base, variance = prior[0, 0].reshape(-1, 4), prior[0, 1].reshape(-1, 4)
    found = []
    for label in range(1, classes):
        p = places.reshape(count, -1, 4)[:, 0 if share else label] * (1 if encoded else variance)
        size, centre = base[:, 2:] - base[:, :2], (base[:, 2:] + base[:, :2]) / 2
        if code == "CENTER_SIZE":
            middle, half = p[:, :2] * size + centre, np.exp(p[:, 2:]) * size / 2
            boxes = np.concatenate([middle - half, middle + half], 1)
        else:
            boxes = base + p * (np.concatenate([size, size], 1) if code == "CORNER_SIZE" else 1)
        order = [i for i in np.argsort(-scores[:, label], kind="stable") if scores[i, label] > 0.3][:top_k]
        kept: list[int] = []
        for i in order:
            if all(overlap(boxes[i], boxes[j]) <= 0.45 for j in kept):
                kept.append(i)
        found += [(0, label, scores[i, label], *boxes[i]) for i in kept]
    if len(found) > keep:
        least = sorted((row[2] for row in found), reverse=True)[keep - 1]
        found = [row for row in found if row[2] >= least]
    return np.array(found or [(0, *[-1] * 6)], np.float32)[None, None]


@pytest.mark.parametrize("keep", [200, 7])
@pytest.mark.parametrize("top_k", [400, 9])
@pytest.mark.parametrize(
    ("code", "share", "encoded"),
    [
        ("CENTER_SIZE", True, False),
        ("CENTER_SIZE", False, True),
        ("CORNER", True, False),
        ("CORNER_SIZE", False, False),
    ],
)
def test_detection_output(code: str, share: bool, encoded: bool, top_k: int, keep: int, tmp_path: Path) -> None:
    classes, prior = 4, priors("min_size: 9 max_size: 15", (6, 6), (40, 40))
    count = prior.shape[2] // 4
    places = filled("places", (1, count * 4 * (1 if share else classes))) * np.float32(0.3)
    scores = softmax(filled("scores", (1, count, classes)) * 2, 2).reshape(1, -1)
    net = source("loc", places.shape) + source("conf", scores.shape) + source("prior", prior.shape)
    net += (
        'layer { name: "d" type: "DetectionOutput" bottom: "loc" bottom: "conf" bottom: "prior" top: "d" '
        f"detection_output_param {{ num_classes: {classes} share_location: {str(share).lower()} code_type: {code} "
        f"variance_encoded_in_target: {str(encoded).lower()} keep_top_k: {keep} confidence_threshold: 0.3 "
        f"nms_param {{ nms_threshold: 0.45 top_k: {top_k} }} }} }}"
    )
    path = write(tmp_path, net, {"d": ()})
    for values in (scores, scores * np.float32(0.1)):
        got = run(path, {"loc": places, "conf": values, "prior": prior})["d"]
        expected = detections(places[0], values.reshape(count, classes), prior, code, share, encoded, top_k, keep)
        assert difference(got, expected) <= 1e-5


# The whole of a network.

CONV = 'layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 6 kernel_size: 3 group: 2 } }\n'
RELU = 'layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }\n'
DATA = source("data", (1, 4, 7, 6))
WEIGHTS = {"conv": (W, B)}


def expected_conv(x: Array) -> Array:
    return np.maximum(convolved(x, W, B, 1, 0, 1, 2), 0)


class TestNetwork:
    def test_in_place(self, tmp_path: Path) -> None:
        model = load(write(tmp_path, DATA + CONV + RELU, WEIGHTS), {})
        assert [node.name for node in model.graph] == ["conv", "relu"]
        assert [value.name for value in model.graph.outputs] == ["conv"]
        x = filled("x", (1, 4, 7, 6))
        assert difference(reference(proto(model), {"data": x})["conv"], expected_conv(x)) <= TOLERANCE

    def test_old_inputs(self, tmp_path: Path) -> None:
        for head in (
            'input: "data" input_dim: 1 input_dim: 4 input_dim: 7 input_dim: 6\n',
            'input: "data" input_shape { dim: 1 dim: 4 dim: 7 dim: 6 }\n',
            'layer { name: "d" type: "MemoryData" top: "data" top: "label" memory_data_param { batch_size: 1 channels: 4 height: 7 width: 6 } }',
            'layer { name: "d" type: "DummyData" top: "data" dummy_data_param { shape { dim: 1 dim: 4 dim: 7 dim: 6 } } }',
        ):
            model = load(write(tmp_path, head + CONV + RELU, WEIGHTS), {})
            assert [(value.name, tuple(value.shape or ())) for value in model.graph.inputs] == [("data", (1, 4, 7, 6))]

    def test_old_layers(self, tmp_path: Path) -> None:
        text = (
            'input: "data" input_dim: 1 input_dim: 4 input_dim: 7 input_dim: 6 '
            'layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 '
            'convolution_param { num_output: 6 kernel_size: 3 group: 2 weight_filler { type: "xavier" } } } '
            'layers { name: "relu" type: RELU bottom: "conv" top: "conv" }'
        )
        old = pb.Weights()
        layer = old.layers.add(name="conv")
        layer.blobs.add(num=6, channels=2, height=3, width=3, data=[W.tobytes()])
        layer.blobs.add(num=1, channels=1, height=1, width=6, double_data=[B.astype("<f8").tobytes()])
        x = filled("x", (1, 4, 7, 6))
        got = run(write(tmp_path, text, old.SerializeToString()), {"data": x})
        assert difference(got["conv"], expected_conv(x)) <= TOLERANCE

    def test_half_weights(self, tmp_path: Path) -> None:
        half = pb.Weights()
        layer = half.layer.add(name="conv")
        for array in (W, B):
            layer.blobs.add(
                shape=pb.BlobShape(dim=array.shape), raw_data=array.astype("<f2").tobytes(), raw_data_type=2
            )
        x = filled("x", (1, 4, 7, 6))
        got = run(write(tmp_path, DATA + CONV + RELU, half.SerializeToString()), {"data": x})
        assert 0 < difference(got["conv"], expected_conv(x)) <= 1e-3

    def test_training_falls_away(self, tmp_path: Path) -> None:
        text = (
            'layer { name: "train" type: "Data" top: "data" top: "label" include { phase: TRAIN } data_param { source: "x" batch_size: 64 } }'
            'layer { name: "test" type: "Data" top: "data" top: "label" include { phase: TEST } data_param { source: "y" batch_size: 50 } }'
            + CONV + RELU
            + 'layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" exclude { phase: TEST } }'
            'layer { name: "staged" type: "Sigmoid" bottom: "conv" top: "conv" include { stage: "deploy" } }'
            'layer { name: "accuracy" type: "Accuracy" bottom: "conv" bottom: "label" top: "accuracy" include { phase: TEST } }'
            'layer { name: "weighted" type: "Eltwise" bottom: "label" bottom: "label" top: "w" }'
            'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" }'
        )  # fmt: skip
        path = write(tmp_path, text, WEIGHTS)
        with pytest.raises(InputError, match=r"input 'data' has no shape; give one"):
            load(path, {})
        model = load(path, {"data": (1, 4, 7, 6)})
        assert [node.name for node in model.graph] == ["conv", "relu"]
        assert [value.name for value in model.graph.outputs] == ["conv"]

    def test_other_shape(self, tmp_path: Path) -> None:
        path = write(tmp_path, DATA + CONV + RELU, WEIGHTS)
        x = filled("x", (2, 4, 9, 8))
        got = reference(proto(load(path, {"data": (2, 4, 9, 8)})), {"data": x})
        assert difference(got["conv"], expected_conv(x)) <= TOLERANCE
        for shapes in ({"data": (4, 7, 6)}, {"other": (1, 4, 7, 6)}):
            with pytest.raises(InputError, match=r"does not fit input 'data'|shapes given for"):
                load(path, shapes)

    def test_caffemodel_alone(self, tmp_path: Path) -> None:
        path = write(tmp_path, DATA + CONV + RELU, WEIGHTS)
        net = pb.Net()
        text_format.Parse(path.read_text(), net)
        for number, array in enumerate((W, B)):
            net.layer[1].blobs.add(shape=pb.BlobShape(dim=array.shape), data=[array.tobytes()])
            assert len(net.layer[1].blobs) == number + 1
        path.unlink()
        whole = path.with_suffix(".caffemodel")
        whole.write_bytes(net.SerializeToString())
        x = filled("x", (1, 4, 7, 6))
        for source_ in (whole, whole.read_bytes()):
            assert difference(reference(proto(load(source_, {})), {"data": x})["conv"], expected_conv(x)) <= TOLERANCE

    def test_partner(self, tmp_path: Path) -> None:
        path = write(tmp_path, DATA + CONV + RELU, WEIGHTS)
        model = path.with_suffix(".caffemodel")
        load(model, {})
        model.rename(tmp_path / "iter_1000.caffemodel")
        load(path, {})
        (tmp_path / "iter_2000.caffemodel").write_bytes(b"")
        with pytest.raises(ModelError, match=r"network without weights; put its \.caffemodel beside it"):
            load(path, {})
        load(path, {}, tmp_path / "iter_1000.caffemodel")


WORDS = [
    "layer", "layers", "{", "}", "<", ">", ":", '"', "'", "#", "\n", "-1", "0", "1e38", "99999999999", "TEST", "MAX", "name", "type", "top",
    "bottom", '"data"', '"conv"', '"Pooling"', '"Reshape"', '"Slice"', '"Tile"', "pooling_param", "kernel_size", "pad", "stride", "axis",
    "reshape_param", "shape", "dim", "slice_param", "slice_point", "tile_param", "tiles", "include", "phase", "input", "input_dim",
]  # fmt: skip


class TestWrong:
    def test_all_layers_are_named(self, tmp_path: Path) -> None:
        text = DATA + CONV
        text += 'layer { name: "roi" type: "ROIPooling" bottom: "conv" top: "roi" roi_pooling_param { pooled_w: 6 } }'
        text += 'layer { name: "pool" type: "Pooling" bottom: "conv" top: "p" pooling_param { pool: STOCHASTIC kernel_size: 2 } }'
        text += 'layer { name: "own" type: "Python" bottom: "roi" top: "own" python_param { module: "os" } }'
        with pytest.raises(UnsupportedError) as caught:
            load(write(tmp_path, text, WEIGHTS), {})
        for part in ("'roi' (ROIPooling)", "'pool' (Pooling): stochastic", "'own' (Python)", "net.prototxt"):
            assert part in str(caught.value)

    def test_unknown_fields_are_named(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        text = (
            DATA
            + CONV.replace("group: 2", 'group: 2 engine: CUDNN tricks { depth: 3 } speed: "#}"')
            + "colour: RED # {{\n"
        )
        load(write(tmp_path, text, WEIGHTS), {})
        assert "ConvolutionParameter.speed, ConvolutionParameter.tricks, Net.colour" in caplog.text

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no output in the phase TEST"),
            ("hello", "not a Caffe network"),
            ('layer { name: "x" ', "not a Caffe network"),
            ("\xff\xfe", "not a Caffe network"),
            ("layer {" * 5000, "nested too deeply|not a Caffe network"),
            (CONV, "'conv' .Convolution. reads 'data', which no layer before it writes"),
            (DATA + RELU + CONV, "reads 'conv', which no layer before it writes"),
            (DATA.replace("dim: 7", "dim: -7"), "shape .1, 4, -7, 6.; each size must be at least 1"),
            (DATA.replace("dim: 7", "dim: 999999999999"), "elements fewer than"),
            (DATA + CONV.replace("num_output: 6", "num_output: 7"), "'conv'.*7 out"),
            (DATA + CONV.replace("num_output: 6", "num_output: 8"), "blob 0 of the shape .6, 2, 3, 3. should have the shape .8,"),
            (DATA + CONV.replace("kernel_size: 3", "kernel_size: 0"), "kernel_size .0, 0."),
            (DATA + CONV.replace("kernel_size: 3", "kernel_size: 4294967295"), "kernel_size"),
            (DATA + CONV.replace("kernel_size: 3", "kernel_size: 3 stride: 0"), "stride .0, 0."),
            (DATA + CONV.replace("group: 2", "group: 0"), "has 0 groups"),
            (DATA + CONV.replace('name: "conv"', 'name: "other"'), "has no blobs for it.*do the two files belong together"),
            (DATA + CONV.replace("kernel_size: 3", "kernel_size: 3 dilation: 9"), "each size must be at least 1"),
            (DATA + 'layer { name: "p" type: "Pooling" bottom: "data" top: "p" pooling_param { kernel_size: 2 pad: 2 } }', "padding of 2"),
            (DATA + 'layer { name: "t" type: "Tile" bottom: "data" top: "t" tile_param { tiles: 2000000000 } }', "elements fewer"),
            (DATA + 'layer { name: "r" type: "Reshape" bottom: "data" top: "r" reshape_param { shape { dim: -1 dim: -1 } } }', "has the shape"),
            (DATA + 'layer { name: "c" type: "Concat" top: "c" }', "needs 1 inputs"),
            (DATA + 'layer { name: "f" type: "Flatten" bottom: "data" top: "f" flatten_param { axis: 9 } }', "has the axis 9"),
            (DATA + 'layer { name: "s" type: "Slice" bottom: "data" top: "a" top: "b" slice_param { slice_point: 9 } }', "cuts 4 at .9."),
            (
                source("f", (1, 1, 9999, 9999)) + source("d", (1, 3, 10, 10))
                + 'layer { name: "p" type: "PriorBox" bottom: "f" bottom: "d" top: "p" prior_box_param { min_size: 3 } }',
                "99980001 boxes",
            ),
        ],
    )  # fmt: skip
    def test_text(self, text: str, message: str, tmp_path: Path) -> None:
        path = write(tmp_path, "", WEIGHTS)
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ModelError, match=message) as caught:
            load(path, {})
        assert "net.prototxt" in str(caught.value)

    def test_large_text(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"a \.prototxt of 16777217 bytes"):
            load(write(tmp_path, "#" * ((1 << 24) + 1), WEIGHTS), {})

    @pytest.mark.parametrize("data", [b"", b"layer {", b"\xff" * 99, b"\x08\x01"])
    def test_weights(self, data: bytes, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"net\.caffemodel: (not a \.caffemodel|holds no layers)"):
            load(write(tmp_path, DATA + CONV, data), {})

    @pytest.mark.parametrize("dims", [(6, 2, 3), (6, 2, 3, 4), (-6, -2, 3, 3), (1 << 62, 4)])
    def test_shape_of_weights(self, dims: tuple[int, ...], tmp_path: Path) -> None:
        weights = pb.Weights()
        weights.layer.add(name="conv").blobs.add(shape=pb.BlobShape(dim=dims), data=[W.tobytes()])
        with pytest.raises(ModelError, match=r"'conv'.*weights: the shape"):
            load(write(tmp_path, DATA + CONV, weights.SerializeToString()), {})

    def test_truncated_anywhere(self, tmp_path: Path) -> None:
        data = caffemodel(WEIGHTS)
        for length in range(0, len(data), 11):
            with pytest.raises(ModelError):
                load(write(tmp_path, DATA + CONV, data[:length]), {})

    def test_damaged_anywhere(self, tmp_path: Path) -> None:
        """A flipped bit gives a model or an `InputError`, never another exception."""
        text, data = bytearray((DATA + CONV + RELU).encode()), bytearray(caffemodel(WEIGHTS))
        random = np.random.default_rng(1)
        for one in (text, data):
            for place in random.integers(0, len(one) * 8, 400):
                one[place // 8] ^= 1 << place % 8
                path = write(tmp_path, "", bytes(data))
                path.write_bytes(text)
                with contextlib.suppress(InputError):
                    load(path, {})
                one[place // 8] ^= 1 << place % 8

    @settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(words=strategies.lists(strategies.sampled_from(WORDS), max_size=40), place=strategies.integers(0, 400))
    def test_any_words(self, words: list[str], place: int, tmp_path: Path) -> None:
        """The format's words in any order, somewhere in a network."""
        text = DATA + CONV + RELU
        path = write(tmp_path, text[:place] + " ".join(words) + text[place:], WEIGHTS)
        with contextlib.suppress(InputError):
            load(path, {})
