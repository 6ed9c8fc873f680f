"""Resize, Upsample and Pad over rows and columns of a rank-4 tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from mace_cl.graph import array_of, attribute
from mace_cl.kernels.resample import Axis, Resample
from mace_cl.ops.builder import Builder

__all__ = ["coordinate", "lower_pad", "lower_resize", "resize_axis"]


def coordinate(mode: str, position: int, scale: float, length: int, output: int) -> float:
    """The input coordinate of an output position; formulas of the ONNX operator Resize."""
    match mode:
        case "half_pixel" | "half_pixel_symmetric":
            adjust = output / (scale * length) if mode == "half_pixel_symmetric" else 1.0
            centre = length / 2 * (1 - adjust)
            return centre + (position + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (position + 0.5) / scale - 0.5 if output > 1 else 0.0
        case "align_corners":
            return position * (length - 1) / (output - 1) if output > 1 else 0.0
        case "asymmetric":
            return position / scale
    raise ValueError(f"coordinate_transformation_mode {mode!r} is not supported")


def _nearest(mode: str, x: float) -> int:
    match mode:
        case "floor":
            return math.floor(x)
        case "ceil":
            return math.ceil(x)
        case "round_prefer_floor":
            return math.ceil(x - 0.5)
        case "round_prefer_ceil":
            return math.floor(x + 0.5)
    raise ValueError(f"nearest_mode {mode!r} is not supported")


def _cubic(fraction: float, a: float) -> tuple[float, ...]:
    """Weights of the four neighbours (Keys, 1981, as the ONNX operator Resize cites it)."""

    def near(t: float) -> float:
        return ((a + 2) * t - (a + 3)) * t * t + 1

    def far(t: float) -> float:
        return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a

    return far(1 + fraction), near(fraction), near(1 - fraction), far(2 - fraction)


def resize_axis(
    mode: str, transform: str, rounding: str, scale: float, length: int, output: int, a: float = -0.75
) -> Axis:
    """Which positions each output position reads, and how much of each; edges are repeated.

    Raises:
        ValueError: for a mode that is not known.
    """
    positions: list[tuple[int, ...]] = []
    weights: list[tuple[float, ...]] = []
    by: tuple[float, ...]
    for index in range(output):
        x = coordinate(transform, index, scale, length, output)
        if mode == "nearest":
            taps, by = [_nearest(rounding, x)], (1.0,)
        elif mode == "linear":
            x = min(max(x, 0.0), length - 1.0)
            low = math.floor(x)
            taps, by = [low, low + 1], (1 - (x - low), x - low)
        elif mode == "cubic":
            low = math.floor(x)
            taps, by = [low - 1, low, low + 1, low + 2], _cubic(x - low, a)
        else:
            raise ValueError(f"mode {mode!r} is not supported")
        positions.append(tuple(min(max(tap, 0), length - 1) for tap in taps))
        weights.append(by)
    return Axis(length, tuple(positions), tuple(weights))


def lower_resize(builder: Builder, node: ir.Node) -> None:
    """Nearest, linear and cubic over rows and columns."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape, result = builder.shape(x), builder.shape(y)
    if len(shape) != 4 or shape[:2] != result[:2]:
        raise builder.unsupported(
            node, f"only rows and columns of a 4-D tensor can be resized, not {shape} to {result}"
        )
    if attribute(node, "exclude_outside", 0) or attribute(node, "antialias", 0):
        raise builder.unsupported(node, "exclude_outside and antialias are not supported yet")
    old = node.op_type == "Upsample" or builder.opset < 11
    transform = attribute(node, "coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    rounding = attribute(node, "nearest_mode", "floor" if old else "round_prefer_floor")
    scales = _scales(node, 1 if old else 2, len(shape)) or [size / own for size, own in zip(result, shape, strict=True)]
    try:
        rows, columns = (
            resize_axis(
                attribute(node, "mode", "nearest"), transform, rounding, scales[axis - len(shape)], shape[axis],
                result[axis], attribute(node, "cubic_coeff_a", -0.75),
            )
            for axis in (2, 3)
        )  # fmt: skip
    except ValueError as error:
        raise builder.unsupported(node, str(error)) from error
    source = builder.blocked(x)
    problem = Resample(builder.block, shape[0], shape[1], rows, columns)
    builder.emit(problem, [source], builder.allocate(y, "blocked"), node)


def _scales(node: ir.Node, position: int, rank: int) -> list[float] | None:
    given = attribute(node, "scales")
    if given is None and len(node.inputs) > position:
        array = array_of(node.inputs[position])
        given = None if array is None else array.reshape(-1).tolist()
    return list(given) if given is not None and len(given) > 0 else None


def _pad_axis(mode: str, begin: int, length: int, output: int) -> Axis:
    def position(index: int) -> int:
        at = index - begin
        if 0 <= at < length:
            return at
        if mode == "constant":
            return -1
        if mode == "edge":
            return min(max(at, 0), length - 1)
        if mode == "wrap":
            return at % length
        period = 2 * (length - 1)
        at = abs(at) % period if period else 0
        return period - at if at >= length else at

    return Axis(length, tuple((position(index),) for index in range(output)), ((1.0,),) * output)


def lower_pad(builder: Builder, node: ir.Node) -> None:
    """``Pad`` of rows and columns in all modes."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape, result = builder.shape(x), builder.shape(y)
    pads, fill = attribute(node, "pads"), attribute(node, "value", 0.0)
    if pads is None:
        array = array_of(node.inputs[1])
        if array is None:
            raise builder.unsupported(node, "the pads are not constant")
        pads = _all_axes(node, array.tolist(), len(shape))
        if len(node.inputs) > 2 and node.inputs[2] is not None:
            value = array_of(node.inputs[2])
            if value is None:
                raise builder.unsupported(node, "the value to pad with is not constant")
            fill = float(value.reshape(-1)[0])
    if len(shape) != 4 or shape[:2] != result[:2] or pads[0] or pads[1]:
        raise builder.unsupported(node, f"only rows and columns of a 4-D tensor can be padded, not {shape} to {result}")
    mode = attribute(node, "mode", "constant")
    rows, columns = (_pad_axis(mode, pads[axis], shape[axis], result[axis]) for axis in (2, 3))
    source = builder.blocked(x)
    problem = Resample(builder.block, shape[0], shape[1], rows, columns, fill)
    builder.emit(problem, [source], builder.allocate(y, "blocked"), node)


def _all_axes(node: ir.Node, pads: Sequence[int], rank: int) -> list[int]:
    """``pads`` of the axes that opset 18 may name, as pads of all axes."""
    axes = array_of(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] is not None else None
    if axes is None:
        return list(pads)
    full = [0] * (2 * rank)
    for index, axis in enumerate(axes.reshape(-1).tolist()):
        full[axis % rank] = pads[index]
        full[axis % rank + rank] = pads[index + len(axes)]
    return full
