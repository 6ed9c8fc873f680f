"""MACE's convolutions and pools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.frontends.mace.step import Constant, Mapper, Shape, Step

__all__ = ["OPS"]


def _pads(
    at: Step, sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], up: bool = False
) -> tuple[list[int], list[int]]:
    """The output's sizes and ONNX's pads; MACE gives a type of padding, or the padding of both sides together."""
    given = at.arguments.get("padding_values")
    kind = int(at.arguments.get("padding", 0)) if not given else -1
    at.need(
        given is None or (isinstance(given, list) and len(given) == 2 and min(given) >= 0), f"has the padding {given}"
    )
    at.need(-1 <= kind <= 3, f"has the padding {kind}")
    outs, begins, ends = [], [], []
    for place, (size, k, s) in enumerate(zip(sizes, kernel, strides, strict=True)):
        if given:
            room = size + given[place] - k
            out = (-(-room // s) if up else room // s) + 1
            begin = given[place] // 2
            end = max(given[place] - begin, (out - 1) * s + k - size - begin if up else 0)
        else:
            out = {0: (size - k) // s, 2: (size + k - 2) // s}.get(kind, (size - 1) // s) + 1
            total = max(0, (out - 1) * s + k - size)
            begin = total - total // 2 if kind == 3 else total // 2
            end = total - begin
        at.need(out > 0, f"has windows of {k} on an input of {size}")
        outs.append(out)
        begins.append(begin)
        ends.append(end)
    return outs, begins + ends


def _as_oihw(at: Step, array: NDArray[Any]) -> NDArray[Any]:
    order = {100: (3, 2, 0, 1), 101: (0, 1, 2, 3), 103: (0, 3, 1, 2)}.get(at.filters)
    if order is None:
        at.lacks(f"the filter format {at.filters}")
    at.need(array.ndim == 4, f"has a filter of the shape {list(array.shape)}")
    return array.transpose(order)


def _as_depthwise(at: Step, array: NDArray[Any]) -> NDArray[Any]:
    """Filters [multiplier, channels, height, width], or [height, width, channels, multiplier], as ONNX has them."""
    at.need(array.ndim == 4, f"has a filter of the shape {list(array.shape)}")
    turned = array.transpose(1, 0, 2, 3) if at.filters == 101 else array.transpose(2, 3, 0, 1)
    channels, multiplier, height, width = turned.shape
    return turned.reshape(channels * multiplier, 1, height, width)


def _shape_after(at: Step, arrange: Callable[[Step, NDArray[Any]], NDArray[Any]]) -> Shape:
    found = at.source_of(1)
    at.need(isinstance(found, Constant), "has a filter that is not constant")
    return arrange(at, np.broadcast_to(np.uint8(0), found.shape)).shape


def _conv(at: Step) -> None:
    depthwise = at.definition.type == "DepthwiseConv2d"
    arrange = _as_depthwise if depthwise else _as_oihw
    if at.arguments.get("is_filter_transformed"):
        at.lacks("its filter is transformed for Winograd")
    n, channels, *sizes = at.shape(layout="NCHW")
    outs, inner, *kernel = _shape_after(at, arrange)
    group = channels if depthwise else int(at.arguments.get("group", 1))
    at.need(
        group > 0 and inner * group == channels and outs % group == 0, f"has filters of {inner} for {channels} channels"
    )
    strides, dilations = at.sizes("strides", 2, 1), at.sizes("dilations", 2, 1)
    extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    found, pads = _pads(at, sizes, extent, strides)
    inputs = [at.value(layout="NCHW"), at.weights(1, lambda array: arrange(at, array))]
    if at.has(2):
        inputs.append(at.weights(2, lambda array: array.reshape(outs)))
    value = at.op("Conv", *inputs, kernel_shape=kernel, strides=strides, dilations=dilations, pads=pads, group=group)
    at.image(value, (n, outs, *found))


def _deconv(at: Step) -> None:
    depthwise = at.definition.type == "DepthwiseDeconv2d"
    tensorflow = int(at.arguments.get("framework_type", 0)) == 0
    n, channels, *sizes = at.shape(layout="NCHW")
    first, second, *kernel = _shape_after(at, _as_oihw)
    group = channels if depthwise else int(at.arguments.get("group", 1))
    if depthwise and first != 1:
        at.lacks(f"{first} filters for each channel")
    at.need((second if group == 1 else second * first) == channels, f"has filters of {second} for {channels} channels")
    if group not in (1, channels):
        at.lacks(f"{group} groups")
    outs = first if group == 1 else channels
    strides = at.sizes("strides", 2, 1)
    full = [(size - 1) * s + k for size, s, k in zip(sizes, strides, kernel, strict=True)]
    if tensorflow:
        wanted = [int(size) for size in at.constant(2).reshape(-1)] if at.has(2) else list(at.declared() or ())
        at.need(len(wanted) == 4, "tells no output shape")
        out = wanted[1:3] if at.layout == "NHWC" or at.has(2) else wanted[2:]
        total = [whole - size for whole, size in zip(full, out, strict=True)]
    else:
        total = [int(one) for one in at.arguments.get("padding_values", [0, 0])]
        out = [whole - pad for whole, pad in zip(full, total, strict=True)]
    at.need(len(total) == 2 and min(out) > 0, f"makes the size {out}")
    begins = [max(pad, 0) // 2 for pad in total]
    ends = [max(pad, 0) - begin for pad, begin in zip(total, begins, strict=True)]
    beyond = [max(-pad, 0) for pad in total]
    inputs = [
        at.value(layout="NCHW"),
        at.weights(1, lambda array: _as_oihw(at, array).transpose(1, 0, 2, 3)),
    ]
    place = 3 if tensorflow else 2
    if at.has(place):
        inputs.append(at.weights(place, lambda array: array.reshape(outs)))
    value = at.op(
        "ConvTranspose", *inputs, kernel_shape=kernel, strides=strides, pads=begins + ends, output_padding=beyond,
        group=group,
    )  # fmt: skip
    at.image(value, (n, outs, *out))


def _pooling(at: Step) -> None:
    n, channels, *sizes = at.shape(layout="NCHW")
    average = {1: True, 2: False}.get(int(at.arguments.get("pooling_type", 0)))
    at.need(average is not None, "has no pooling_type")
    x = at.value(layout="NCHW")
    if at.arguments.get("global_pooling"):
        at.image(at.op("GlobalAveragePool" if average else "GlobalMaxPool", x), (n, channels, 1, 1))
        return
    kernel, strides = at.sizes("kernels", 2), at.sizes("strides", 2, 1)
    dilations = at.sizes("dilations", 2, 1)
    extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
    found, pads = _pads(at, sizes, extent, strides, int(at.arguments.get("round_mode", 0)) == 1)
    attributes = {"kernel_shape": kernel, "strides": strides, "pads": pads}
    if dilations != [1, 1]:  # ONNX Runtime knows no quantised average with this attribute
        attributes["dilations"] = dilations
    value = at.op("AveragePool" if average else "MaxPool", x, **attributes)
    at.image(value, (n, channels, *found))


OPS: dict[str, Mapper] = {
    "Conv2D": _conv,
    "Deconv2D": _deconv,
    "DepthwiseConv2d": _conv,
    "DepthwiseDeconv2d": _deconv,
    "Pooling": _pooling,
}
