"""Caffe's norms, scales and softmax."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe.step import Mapper, Step, f32

__all__ = ["LAYERS"]


def _batch_norm(at: Step) -> None:
    param, shape = at.layer.batch_norm_param, at.x.shape
    at.need(len(shape) > 1, f"reads a blob of the shape {list(shape)}")
    if param.HasField("use_global_stats") and not param.use_global_stats:
        axes = [axis for axis in range(len(shape)) if axis != 1]
        centred = at.op("Sub", at.x, at.op("ReduceMean", at.x, axes))
        variance = at.op("ReduceMean", at.op("Mul", centred, centred), axes)
        at.same("Div", centred, at.op("Sqrt", at.op("Add", variance, f32(param.eps))))
        return
    channels = (shape[1],)
    factor = float(at.weights(2).reshape(-1)[0]) if len(at.blobs) > 2 and at.blobs[2].size else 1.0
    scale = f32(1 / factor if factor else 0)
    own = param.scale_bias and len(at.blobs) > 4
    at.same(
        "BatchNormalization", at.x,
        at.weights(3, channels) if own else np.ones(channels, np.float32),
        at.weights(4, channels) if own else np.zeros(channels, np.float32),
        at.weights(0, channels) * scale, at.weights(1, channels) * scale, epsilon=param.eps,
    )  # fmt: skip


def _operand(at: Step, axis: int, num_axes: int) -> Any:
    """What a Scale or Bias layer applies along ``axis``: its second input, or its first blob."""
    shape = at.x.shape
    axis = at.axis(axis)
    if len(at.bottoms) > 1:
        own = at.bottoms[1].shape
        axis = axis if own else 0
        at.need(shape[axis : axis + len(own)] == own, f"applies {list(own)} to {list(shape)} at the axis {axis}")
        return at.op("Reshape", at.bottoms[1], [*own, *[1] * (len(shape) - axis - len(own))])
    end = len(shape) if num_axes < 0 else axis + num_axes
    at.need(end <= len(shape), f"covers {num_axes} axes from {axis}, but there are {len(shape)}")
    return at.weights(0, shape[axis:end]).reshape(*shape[axis:end], *[1] * (len(shape) - end))


def _scale(at: Step) -> None:
    param = at.layer.scale_param
    factor = _operand(at, param.axis, param.num_axes)
    if not param.bias_term:
        at.same("Mul", at.x, factor)
        return
    if len(at.bottoms) > 1:
        own = at.bottoms[1].shape
        bias = at.weights(0, (*own, *[1] * (len(at.x.shape) - at.axis(param.axis) - len(own))))
    else:
        bias = at.weights(1, factor.shape)
    at.same("Add", at.op("Mul", at.x, factor), bias)


def _bias(at: Step) -> None:
    param = at.layer.bias_param
    at.same("Add", at.x, _operand(at, param.axis, param.num_axes))


def _lrn(at: Step) -> None:
    param = at.layer.lrn_param
    size = int(param.local_size)
    at.need(size % 2 == 1, f"has the even size {size}")
    if param.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        at.same("LRN", at.x, size=size, alpha=param.alpha, beta=param.beta, bias=param.k)
        return
    at.need(len(at.x.shape) == 4, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    mean = at.op(
        "AveragePool", at.op("Mul", at.x, at.x), kernel_shape=[size] * 2, strides=[1, 1], pads=[size // 2] * 4,
        count_include_pad=1,
    )  # fmt: skip
    base = at.op("Add", at.op("Mul", mean, f32(param.alpha)), f32(1))
    at.same("Mul", at.x, at.op("Pow", base, f32(-param.beta)))


def _mvn(at: Step) -> None:
    param, rank = at.layer.mvn_param, len(at.x.shape)
    at.need(rank == 4, f"reads a blob of the shape {list(at.x.shape)}; four dimensions are needed")
    axes = [1, 2, 3] if param.across_channels else [2, 3]
    mean = at.op("ReduceMean", at.x, axes)
    if not param.normalize_variance:
        at.same("Sub", at.x, mean)
        return
    centred = at.op("Sub", at.x, mean)
    deviation = at.op("Sqrt", at.op("ReduceMean", at.op("Mul", centred, centred), axes))
    at.same("Div", centred, at.op("Add", deviation, f32(param.eps)))


def _group_norm(at: Step) -> None:
    param, shape = at.layer.group_norm_param, at.x.shape
    groups = int(param.group_num)
    at.need(len(shape) > 2 and groups > 0 and shape[1] % groups == 0, f"has {groups} groups for {list(shape)}")
    grouped = at.op("Reshape", at.x, [shape[0], groups, -1])
    one, zero = np.ones(groups, np.float32), np.zeros(groups, np.float32)
    at.end(shape, "Reshape", at.op("InstanceNormalization", grouped, one, zero, epsilon=param.eps), list(shape))


def _normalize(at: Step) -> None:
    """SSD's norm over channels, or over an image."""
    param, shape = at.layer.norm_param, at.x.shape
    at.need(len(shape) == 4, f"reads a blob of the shape {list(shape)}; four dimensions are needed")
    axes = [1, 2, 3] if param.across_spatial else [1]
    length = at.op("Sqrt", at.op("Add", at.op("ReduceSumSquare", at.x, axes), f32(param.eps)))
    scale = at.weights(0, (1,) if param.channel_shared else (shape[1], 1, 1))
    at.same("Mul", at.op("Div", at.x, length), scale)


def _lp_normalization(at: Step) -> None:
    axis = at.axis(at.layer.l2normalization_param.axis)
    at.same("LpNormalization", at.x, axis=axis, p=1 if at.layer.type.startswith("L1") else 2)


def _softmax(at: Step) -> None:
    at.same("Softmax", at.x, axis=at.axis(at.layer.softmax_param.axis))


LAYERS: dict[str, Mapper] = {
    "BatchNorm": _batch_norm,
    "Bias": _bias,
    "GroupNorm": _group_norm,
    "L1Normalization": _lp_normalization,
    "L2Normalization": _lp_normalization,
    "LRN": _lrn,
    "MVN": _mvn,
    "Normalize": _normalize,
    "Scale": _scale,
    "Softmax": _softmax,
}
