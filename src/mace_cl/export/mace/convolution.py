"""Convolutions, pools and products as MACE's operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.export.mace.graph import CAFFE, Shape
from mace_cl.export.mace.node import Mapper, Node, Tail

__all__ = ["NODES"]


def _window(at: Node, kernel: Sequence[int], counted: bool = False) -> tuple[str, dict[str, Any]]:
    """The input and the arguments of a window; padding that MACE can't tell becomes an operator before it."""
    sizes = at.shape()[2:]
    at.need(len(sizes) == 2, "only rows and columns")
    strides = [int(one) for one in at.get("strides") or [1, 1]]
    dilations = [int(one) for one in at.get("dilations") or [1, 1]]
    at.need(all(d == 1 or s == 1 for d, s in zip(dilations, strides, strict=True)), "strides and dilations together")
    automatic = at.get("auto_pad", "NOTSET")
    pads = [int(one) for one in at.get("pads") or [0] * 4]
    if automatic == "VALID":
        pads = [0] * 4
    elif automatic != "NOTSET":
        extent = [d * (k - 1) + 1 for d, k in zip(dilations, kernel, strict=True)]
        total = [max(0, ((size - 1) // s) * s + e - size) for size, s, e in zip(sizes, strides, extent, strict=True)]
        begins = [t // 2 if automatic == "SAME_UPPER" else t - t // 2 for t in total]
        pads = begins + [t - b for t, b in zip(total, begins, strict=True)]
    name = at.tensor()
    totals = [pads[0] + pads[2], pads[1] + pads[3]]
    if any(pads[axis] != totals[axis] // 2 for axis in (0, 1)) or (counted and any(totals)):
        at.need(at.node.op_type == "Conv" or counted, f"the padding {pads}")
        n, c, h, w = at.shape()
        full = (n, c, h + totals[0], w + totals[1])
        paddings = [0, 0, pads[0], pads[2], pads[1], pads[3], 0, 0]
        padded = f"{at.name}/padded"
        at.writer.operator("Pad", [name], padded, padded, full, paddings=paddings, constant_value=0.0)
        name, totals = padded, [0, 0]
    return name, {"strides": strides, "dilations": dilations, "padding_values": totals}


def _weights(at: Node, tail: Tail, weights: NDArray[Any], axis: int, bias: NDArray[Any] | None) -> list[str]:
    """Weights and, where there is one, bias, with what follows in them; ``axis`` is that of the outputs."""
    outs = weights.shape[axis]
    shift = None if bias is None else bias.astype(np.float64).reshape(-1)
    if tail.factor is not None:
        along = [1] * weights.ndim
        along[axis] = outs
        weights = weights.astype(np.float64) * tail.factor.reshape(along)
        shift = np.zeros(outs) if shift is None else shift * tail.factor
    if tail.shift is not None:
        shift = tail.shift if shift is None else shift + tail.shift
    stored = [weights.astype(np.float32), *([shift.astype(np.float32)] if shift is not None else [])]
    return [at.store(array, word) for array, word in zip(stored, ("filter", "bias"), strict=False)]


def _conv(at: Node) -> None:
    weights, bias = at.known(1, "its filter"), at.known(2, "its bias") if at.has(2) else None
    at.need(weights.ndim == 4, "only rows and columns")
    group, channels = int(at.get("group", 1)), at.shape()[1]
    tail = at.tail(weights.shape[0])
    if group == 1:
        name, arguments = _window(at, weights.shape[2:])
        at.ended_by(tail, "Conv2D", [name, *_weights(at, tail, weights, 0, bias)], group=1, **arguments)
        return
    at.need(group == channels and weights.shape[1] == 1, f"{group} groups for {channels} channels")
    name, arguments = _window(at, weights.shape[2:])
    multiplier = weights.shape[0] // channels
    scaled = weights if tail.factor is None else weights * tail.factor.reshape(-1, 1, 1, 1)
    turned = scaled.reshape(channels, multiplier, *weights.shape[2:]).transpose(1, 0, 2, 3)
    shift = None if bias is None else bias.astype(np.float64)
    if tail.factor is not None:
        shift = None if shift is None else shift * tail.factor
    if tail.shift is not None:
        shift = tail.shift if shift is None else shift + tail.shift
    inputs = [name, at.store(turned.astype(np.float32), "filter")]
    if shift is not None:
        inputs.append(at.store(shift.astype(np.float32), "bias"))
    at.ended_by(tail, "DepthwiseConv2d", inputs, group=1, **arguments)


def _conv_transpose(at: Node) -> None:
    weights, bias = at.known(1, "its filter"), at.known(2, "its bias") if at.has(2) else None
    group, channels = int(at.get("group", 1)), at.shape()[1]
    at.need(weights.ndim == 4 and at.get("auto_pad", "NOTSET") == "NOTSET", "only rows and columns, and explicit pads")
    at.need(not any(at.get("output_padding") or ()) and not at.get("output_shape"), "an output padding or shape")
    at.need(all(one == 1 for one in at.get("dilations") or [1]), "dilations")
    at.need(group == 1 or (group == channels and weights.shape[1] == 1), f"{group} groups for {channels} channels")
    pads = [int(one) for one in at.get("pads") or [0] * 4]
    totals = [pads[0] + pads[2], pads[1] + pads[3]]
    at.need(all(pads[axis] == totals[axis] // 2 for axis in (0, 1)), f"the padding {pads}")
    tail = at.tail(weights.shape[1] * group)
    if group == 1:
        stored = _weights(at, tail, weights.transpose(1, 0, 2, 3), 0, bias)
        kind = "Deconv2D"
    else:
        stored = _weights(at, tail, weights.transpose(1, 0, 2, 3), 1, bias)
        kind = "DepthwiseDeconv2d"
    strides = [int(one) for one in at.get("strides") or [1, 1]]
    # Caffe's order of inputs: x, filter, bias
    at.ended_by(
        tail,
        kind,
        [at.tensor(), *stored],
        CAFFE,
        strides=strides,
        padding_values=totals,
        group=group,
        dilations=[1, 1],
    )


def _pool(at: Node) -> None:
    average = at.node.op_type == "AveragePool"
    kernel = [int(one) for one in at.get("kernel_shape")]
    at.need(len(at.node.outputs) == 1 or not at.node.outputs[1].uses(), "the places of the maxima")
    counted, up = average and bool(at.get("count_include_pad", 0)), int(at.get("ceil_mode", 0))
    at.need(not (counted and up), "an average that counts the padding, rounded up")
    name, arguments = _window(at, kernel, counted)
    rounding: dict[str, Any] = {"round_mode": 1} if up else {}
    at.end(
        "Pooling",
        [name],
        pooling_type=1 if average else 2,
        kernels=kernel,
        **arguments,
        **rounding,
    )


def _global_pool(at: Node) -> None:
    shape = at.shape()
    at.need(len(shape) == 4, "only rows and columns")
    average = at.node.op_type == "GlobalAveragePool"
    at.end(
        "Pooling", [at.tensor()], pooling_type=1 if average else 2, kernels=list(shape[2:]), strides=[1, 1],
        dilations=[1, 1], padding=0,
    )  # fmt: skip


def _linear(at: Node) -> None:
    """Gemm, or MatMul with a constant matrix: FullyConnected, which is for images."""
    b, shape = at.constant(1), at.shape()
    if b is None or b.ndim != 2 or len(shape) != 2:
        at.need(at.node.op_type == "MatMul", "a matrix that is not constant")
        _mat_mul(at)
        return
    scale, turned = 1.0, False
    if at.node.op_type == "Gemm":
        at.need(not at.get("transA", 0) and at.get("beta", 1.0) == 1.0, "a transposed input, or beta")
        scale, turned = float(at.get("alpha", 1.0)), bool(at.get("transB", 0))
    matrix = (b if turned else b.T) * np.float32(scale)
    bias = at.known(2, "its bias") if at.has(2) else None
    outs, length = matrix.shape
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1), (outs,))
    source = at.value()
    dims: Shape = (length, 1, 1)
    before = source.producer()
    image = before.inputs[0] if before is not None and before.op_type in ("Flatten", "Reshape") else None
    if image is not None and len(self_shape := at.writer.shape(image)) == 4 and self_shape[0] == shape[0]:
        name, dims = at.writer.tensor(image), self_shape[1:]
    else:
        name = f"{at.name}/image"
        wide = (shape[0], length, 1, 1)
        at.writer.operator("Reshape", [at.tensor(), at.store(np.array(wide), "shape")], name, name, wide, image=False)
    tail = at.tail(outs, affine=False)
    inputs = [name, *_weights(at, tail, matrix.reshape(outs, *dims), 0, bias)]
    flat, inner = str(tail.last.name), f"{at.name}/connected"
    at.writer.operator("FullyConnected", inputs, inner, at.name, (shape[0], outs, 1, 1), **tail.arguments)
    full = (shape[0], outs)
    at.writer.operator("Reshape", [inner, at.store(np.array(full), "flat")], flat, f"{at.name}/flat", full)


def _mat_mul(at: Node) -> None:
    at.need(all(len(at.shape(place)) in (2, 3) for place in (0, 1)), "more than three dimensions")
    at.end("MatMul", [at.tensor(0), at.tensor(1)], image=False, transpose_a=0, transpose_b=0)


NODES: dict[str, Mapper] = {
    "AveragePool": _pool,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _linear,
    "GlobalAveragePool": _global_pool,
    "GlobalMaxPool": _global_pool,
    "MatMul": _linear,
    "MaxPool": _pool,
}
