"""Caffe's convolutions and pools."""

from __future__ import annotations

from typing import Any

import numpy as np

from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.frontends.caffe.step import Mapper, Step

__all__ = ["LAYERS"]


def _spatial(at: Step, param: Any, what: str, rank: int, default: int | None) -> list[int]:
    """A size for each spatial axis: given once, for each, or as _h and _w."""
    base = "kernel" if what == "kernel_size" else what
    if rank == 2 and (param.HasField(f"{base}_h") or param.HasField(f"{base}_w")):
        found = [getattr(param, f"{base}_h"), getattr(param, f"{base}_w")]
    else:
        given = list(getattr(param, what))
        at.need(bool(given) or default is not None, f"has no {what}")
        at.need(len(given) in (0, 1, rank), f"has {len(given)} numbers for {what}, but {rank} spatial axes")
        found = given * rank if len(given) == 1 else given or [default or 0] * rank
    least = 0 if what == "pad" else 1
    at.need(all(least <= size < 1 << 20 for size in found), f"has the {what} {found}")
    return [int(size) for size in found]


def _convolution(at: Step) -> None:
    _convolve(at, at.layer.convolution_param.group)


def _depthwise(at: Step) -> None:
    _convolve(at, at.x.shape[1] if len(at.x.shape) > 1 else 1)


def _convolve(at: Step, group: int) -> None:
    param, rank = at.layer.convolution_param, len(at.x.shape) - 2
    transposed = at.layer.type == "Deconvolution"
    at.need(rank >= 1, f"reads a blob of the shape {list(at.x.shape)}")
    if at.axis(param.axis) != 1:
        at.lacks(f"its axis is {param.axis}; only 1 is known")
    at.need(len(at.bottoms) == 1 or len(at.bottoms) == len(at.names), "has not as many outputs as inputs")
    kernel = _spatial(at, param, "kernel_size", rank, None)
    stride, pad = _spatial(at, param, "stride", rank, 1), _spatial(at, param, "pad", rank, 0)
    dilation = [1] * rank
    if param.dilation:
        at.need(len(param.dilation) in (1, rank), f"has {len(param.dilation)} dilations, but {rank} spatial axes")
        dilation = [int(size) for size in param.dilation] * (rank if len(param.dilation) == 1 else 1)
        at.need(all(1 <= size < 1 << 20 for size in dilation), f"has the dilation {dilation}")
    outs = int(param.num_output)
    at.need(outs > 0, "has no num_output")
    for bottom in at.bottoms:
        ins = bottom.shape[1]
        at.need(
            0 < group <= ins and ins % group == 0 and outs % group == 0,
            f"has {group} groups for {ins} channels in and {outs} out",
        )
        inner = (ins, outs // group) if transposed else (outs, ins // group)
        inputs: list[Any] = [bottom, at.weights(0, (*inner, *kernel))]
        if param.bias_term:
            inputs.append(at.weights(1, (outs,)))
        extent = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
        around = zip(bottom.shape[2:], extent, stride, pad, strict=True)
        if transposed:
            sizes = [s * (size - 1) + e - 2 * p for size, e, s, p in around]
        else:
            sizes = [(size + 2 * p - e) // s + 1 for size, e, s, p in around]
        at.end(
            (bottom.shape[0], outs, *sizes), "ConvTranspose" if transposed else "Conv", *inputs,
            kernel_shape=kernel, strides=stride, pads=pad * 2, dilations=dilation, group=group,
        )  # fmt: skip


def _pooling(at: Step) -> None:
    """Pooling with Caffe's sizes: rounded up, but no window begins in the padding at the end.

    An average counts the padding, but not what lies beyond it: where a window reaches there, the average of
    ONNX, which is over the whole window, is scaled.
    """
    param, shape = at.layer.pooling_param, at.x.shape
    at.need(len(shape) == 4, f"reads a blob of the shape {list(shape)}; four dimensions are needed")
    if param.pool == pb.PoolingParameter.STOCHASTIC:
        at.lacks("stochastic pooling")
    if len(at.names) > 1:
        at.lacks("a second output, the places of the maxima")
    maximum = param.pool == pb.PoolingParameter.MAX
    if param.global_pooling:
        at.end((*shape[:2], 1, 1), "GlobalMaxPool" if maximum else "GlobalAveragePool", at.x)
        return
    kernel = _spatial(at, param, "kernel_size", 2, None)
    stride, pad = _spatial(at, param, "stride", 2, 1), _spatial(at, param, "pad", 2, 0)
    up = param.ceil_mode and param.round_mode == pb.PoolingParameter.CEIL
    sizes, beyond, scales = [], [], []
    for size, k, s, p in zip(shape[2:], kernel, stride, pad, strict=True):
        at.need(p < k, f"has a padding of {p}, but windows of {k}")
        at.need(size + 2 * p >= k, f"has windows of {k} on an input of {size} with a padding of {p}")
        out = (size + 2 * p - k + (s - 1 if up else 0)) // s + 1
        if p and (out - 1) * s >= size + p:
            out -= 1
        sizes.append(out)
        beyond.append(max(0, (out - 1) * s + k - size - p))
        starts = np.arange(out) * s - p
        scales.append(k / (np.minimum(starts + k, size + p) - starts))
    attributes = {"kernel_shape": kernel, "strides": stride, "pads": pad + beyond}
    full = (*shape[:2], *sizes)
    if maximum:
        at.end(full, "MaxPool", at.x, **attributes)
    elif all((one == 1).all() for one in scales):
        at.end(full, "AveragePool", at.x, count_include_pad=1, **attributes)
    else:
        mean = at.op("AveragePool", at.x, count_include_pad=1, **attributes)
        at.end(full, "Mul", mean, np.multiply.outer(*scales).astype(np.float32)[None, None])


LAYERS: dict[str, Mapper] = {
    "Convolution": _convolution,
    "ConvolutionDepthwise": _depthwise,
    "Deconvolution": _convolution,
    "DepthwiseConvolution": _depthwise,
    "Pooling": _pooling,
}
