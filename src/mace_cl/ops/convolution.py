"""Conv, ConvTranspose and mace_cl::Linear (Gemm and MatMul with a constant matrix)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from mace_cl.graph import array_of, attribute
from mace_cl.kernels.base import ceil_div
from mace_cl.kernels.conv2d import Conv2D
from mace_cl.kernels.depthwise import DepthwiseConv2D
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.epilogue import Epilogue
from mace_cl.kernels.windows import Window
from mace_cl.ops.builder import Builder
from mace_cl.ops.columns import lower_conv_columns, lower_conv_transpose_columns
from mace_cl.ops.fused import epilogue_of
from mace_cl.ops.points import given
from mace_cl.plan import Constant, Region

__all__ = ["lower_conv", "lower_conv_transpose", "lower_linear"]


def lower_conv(builder: Builder, node: ir.Node) -> None:
    """1-D and 2-D ``Conv`` with constant weights has kernels of its own; every other is a product of columns."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    weights = array_of(node.inputs[1])
    if len(builder.shape(x)) > 4 or weights is None:
        lower_conv_columns(builder, node)
        return
    channels = builder.shape(x)[1]
    outputs, groups = weights.shape[0], attribute(node, "group", 1)
    kernel = tuple(attribute(node, "kernel_shape", weights.shape[2:]))
    window = builder.window(node, kernel)
    bias = given(node, 2) if attribute(node, "operands", len(node.inputs)) > 2 else None
    builder.expect(node, node.inputs[1], (outputs // groups * groups, channels // groups, *kernel))
    builder.expect(node, bias, (outputs,))
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    target = builder.allocate(y, "blocked")
    constant = builder.constant(node.inputs[1])  # type: ignore[arg-type]
    if weights.ndim == 3:
        constant = Constant(constant.name, weights[:, :, None])
    _convolve(builder, node, constant, bias, window, groups, epilogue, extras, target)


def _convolve(
    builder: Builder, node: ir.Node, weights: Constant, bias: ir.Value | None, window: Window, groups: int,
    epilogue: Epilogue, extras: Sequence[Region | Constant], target: Region,
) -> None:  # fmt: skip
    """``Conv`` of the node's first input into a blocked region; depthwise and dense, grouped where groups fill blocks.

    ``weights`` are ``[OC, IC/groups, KH, KW]``.
    """
    x, c = node.inputs[0], builder.block
    assert x is not None
    batch, channels = builder.shape(x)[:2]
    outputs = weights.array.shape[0]
    more = [*([] if bias is None else [builder.plain(bias)]), *extras]
    if groups == channels == outputs:
        deep = DepthwiseConv2D(c, batch, channels, window, bias is not None, epilogue)
        builder.emit(deep, [builder.blocked(x), weights, *more], target, node)
        return
    if groups > 1 and (channels // groups % c or outputs // groups % c):
        weights, groups = _ungrouped(weights, groups), 1
    # a few channels fill no block: read them where they are
    direct = channels < c and not builder.has(x, "blocked")
    source = builder.region(x) if direct else builder.blocked(x)
    layouts = ("nchw" if direct else "blocked", "blocked")
    problem = Conv2D(c, batch, (channels, outputs), window, groups, bias is not None, layouts, epilogue)
    builder.emit(problem, [source, weights, *more], target, node)


def _ungrouped(weights: Constant, groups: int) -> Constant:
    """Weights of the dense convolution that computes the same, zero between groups."""
    array = weights.array
    outputs, depth, *kernel = array.shape
    dense = np.zeros((outputs, depth * groups, *kernel), array.dtype)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        dense[rows, group * depth : (group + 1) * depth] = array[rows]
    return Constant(f"{weights.name}.dense", dense)


def lower_conv_transpose(builder: Builder, node: ir.Node) -> None:
    """1-D and 2-D ``ConvTranspose`` with constant weights: an ordinary convolution per phase of the strides.

    Positions ``q · stride + phase`` of the result see every stride-th tap of the kernel, flipped.
    """
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    weights = array_of(node.inputs[1])
    shape, result = builder.shape(x), builder.shape(y)
    pads = _transpose_pads(node, shape[2:], builder.shape(node.inputs[1])[2:], result[2:])
    if len(shape) > 4 or weights is None:
        lower_conv_transpose_columns(builder, node, pads)
        return
    groups, ones = attribute(node, "group", 1), (1,) * (len(shape) - 2)
    bias = given(node, 2) if attribute(node, "operands", len(node.inputs)) > 2 else None
    outputs = weights.shape[1] * groups
    builder.expect(node, node.inputs[1], (shape[1] // groups * groups, *weights.shape[1:]))
    builder.expect(node, bias, (outputs,))
    strides = _rows_and_columns(attribute(node, "strides", ones), 1)
    dilations = _rows_and_columns(attribute(node, "dilations", ones), 1)
    begins = _rows_and_columns(pads, 0)
    source, image = _rows_and_columns(shape[2:], 1), _rows_and_columns(result[2:], 1)
    kernel = _rows_and_columns(weights.shape[2:], 1)
    grouped = weights.reshape(groups, shape[1] // groups, outputs // groups, *kernel)
    plain = grouped.swapaxes(1, 2).reshape(outputs, shape[1] // groups, *kernel)
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    target = builder.allocate(y, "blocked")
    c = builder.block
    planes = shape[0] * ceil_div(outputs, c)
    for phase in np.ndindex(strides):
        size = tuple(ceil_div(image[a] - phase[a], strides[a]) for a in (0, 1))
        if 0 in size:
            continue
        taps = [_phase(kernel[a], begins[a] + phase[a], strides[a], dilations[a]) for a in (0, 1)]
        part = plain
        for axis, (chosen, _) in enumerate(taps, 2):
            part = np.take(np.insert(part, part.shape[axis], 0, axis), chosen, axis)
        window = Window(source, (size[0], size[1]), (len(taps[0][0]), len(taps[1][0])), pads=(taps[0][1], taps[1][1]))
        constant = Constant(f"{node.inputs[1].name}.phase", np.ascontiguousarray(part))  # type: ignore[union-attr]
        if strides == (1, 1):
            _convolve(builder, node, constant, bias, window, groups, epilogue, extras, target)
            return
        piece = builder.scratch(f"{y.name}.phase", 4 * planes * size[0] * size[1] * c)
        _convolve(builder, node, constant, bias, window, groups, epilogue, extras, piece)
        row = image[1] * c
        into = Access(
            (image[0] * row, strides[0] * row, strides[1] * c, 1), (phase[0] * image[1] + phase[1]) * c
        )  # fmt: skip
        dims = (planes, *size, c)
        builder.emit(builder.copy("float32", Access(contiguous(dims)), into, dims), [piece], target, node)


def _rows_and_columns(values: Sequence[int], row: int) -> tuple[int, int]:
    """Of two axes or the last alone."""
    first, last = (row, *values)[-2:]
    return first, last


def _phase(taps: int, begin: int, stride: int, dilation: int) -> tuple[list[int], int]:
    """The taps that a phase sees, flipped (``taps`` stands for none), and the pad before the image.

    ``begin`` is the phase counted from the start of the uncropped result.
    """
    shift, rest = divmod(begin, stride)
    count = max(ceil_div((taps - 1) * dilation + 1 - rest, stride), shift + 1)
    spread = [rest + stride * j for j in range(count)]
    chosen = [k // dilation if k % dilation == 0 and k // dilation < taps else taps for k in spread]
    return chosen[::-1], count - 1 - shift


def _transpose_pads(
    node: ir.Node, source: Sequence[int], kernel: Sequence[int], image: Sequence[int]
) -> tuple[int, ...]:
    """Begins of the pads, by the formulas of the ONNX operator ConvTranspose."""
    axes, mode = len(source), attribute(node, "auto_pad", "NOTSET")
    ones = (1,) * axes
    if mode == "VALID":
        return (0,) * axes
    if mode in ("NOTSET", "") and "output_shape" not in node.attributes:
        return tuple(attribute(node, "pads", (0,) * 2 * axes)[:axes])
    strides, dilations = attribute(node, "strides", ones), attribute(node, "dilations", ones)
    extra = attribute(node, "output_padding", (0,) * axes)
    totals = [
        max(0, strides[a] * (source[a] - 1) + extra[a] + (kernel[a] - 1) * dilations[a] + 1 - image[a])
        for a in range(axes)
    ]
    return tuple(total // 2 if mode == "SAME_UPPER" else total - total // 2 for total in totals)


def lower_linear(builder: Builder, node: ir.Node) -> None:
    """``x [..., K] · weights [OC, K]ᵀ + bias``: a 1×1 convolution over rows in layout ``nhwc``."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    assert node.inputs[1] is not None
    *outer, depth = builder.shape(x)
    rows = prod(outer)
    outputs = builder.shape(y)[-1]
    biased = attribute(node, "operands", len(node.inputs)) > 2
    builder.expect(node, node.inputs[1], (outputs, depth))
    if biased:
        builder.expect(node, node.inputs[2], (outputs,))
    operands: list[Region | Constant] = [builder.region(x)]
    weights = builder.constant(node.inputs[1])
    operands.append(Constant(weights.name, weights.array.reshape(outputs, depth, 1, 1)))
    if biased and node.inputs[2] is not None:
        operands.append(builder.constant(node.inputs[2]))
    epilogue, extras = epilogue_of(builder, node, channel_axis=-1)
    window = Window((1, rows), (1, rows), (1, 1))
    target = builder.allocate(y, "nchw")
    problem = Conv2D(builder.block, 1, (depth, outputs), window, 1, biased, ("nhwc", "nhwc"), epilogue)
    builder.emit(problem, [*operands, *extras], target, node)
