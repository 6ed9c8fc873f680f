"""Resize, Upsample and Pad of any axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx_ir as ir

from mace_cl.expr import literal
from mace_cl.graph import array_of, attribute
from mace_cl.kernels.resample import Axis, Resample
from mace_cl.kernels.types import OPENCL_TYPES, item_bytes
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import Term, emit_into, emit_result, given, index, loops, pointer, table

__all__ = ["Mapping1D", "coordinate", "lower_pad", "lower_resize"]


@dataclass(frozen=True)
class Mapping1D:
    """How output positions of one axis follow from input positions: the attributes of the ONNX operator Resize.

    ``roi`` is the axis's part of the region of interest, of which only ``tf_crop_and_resize`` makes use.
    """

    mode: str
    transform: str
    rounding: str
    a: float = -0.75
    antialias: bool = False
    exclude_outside: bool = False
    roi: tuple[float, float] = (0.0, 1.0)

    def axis(self, scale: float, length: int, output: int) -> Axis:
        """Which positions each output position reads, and how much of each; edges are repeated.

        Raises:
            ValueError: for a mode that is not known.
        """
        found = [self._taps(coordinate(self, index, scale, length, output), scale, length) for index in range(output)]
        return Axis(length, tuple(taps for taps, _ in found), tuple(weights for _, weights in found))

    def _taps(self, x: float, scale: float, length: int) -> tuple[tuple[int, ...], tuple[float, ...]]:
        if self.transform == "tf_crop_and_resize" and not 0 <= x <= length - 1:
            count = len(self._taps(0.0, scale, length)[0])
            return (-1,) * count, (1.0 / count,) * count
        if self.mode == "nearest":
            return (min(max(_nearest(self.rounding, x), 0), length - 1),), (1.0,)
        if self.mode not in ("linear", "cubic"):
            raise ValueError(f"mode {self.mode!r} is not supported")
        kernel = partial(_cubic, self.a) if self.mode == "cubic" else _triangle
        stretch = min(scale, 1.0) if self.antialias else 1.0
        reach = 1 if self.mode == "linear" else 2
        first = math.floor(-reach / stretch) + 1
        if -first > 2 * length + 2:
            raise ValueError(f"a scale of {scale} is too small")
        base = math.ceil(x) - 1
        near = [base + offset for offset in range(first, 2 - first)]
        weights = [kernel(abs(tap - x) * stretch) for tap in near]
        if self.exclude_outside:
            weights = [weight if 0 <= tap < length else 0.0 for tap, weight in zip(near, weights, strict=True)]
        total = sum(weights)
        return tuple(min(max(tap, 0), length - 1) for tap in near), tuple(weight / total for weight in weights)


def coordinate(mapping: Mapping1D, position: int, scale: float, length: int, output: int) -> float:
    """The input coordinate of an output position; formulas of the ONNX operator Resize."""
    start, end = mapping.roi
    match mapping.transform:
        case "half_pixel" | "half_pixel_symmetric":
            adjust = output / (scale * length) if mapping.transform == "half_pixel_symmetric" else 1.0
            centre = length / 2 * (1 - adjust)
            return centre + (position + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (position + 0.5) / scale - 0.5 if output > 1 else 0.0
        case "tf_half_pixel_for_nn":
            return (position + 0.5) / scale
        case "align_corners":
            return position * (length - 1) / (output - 1) if output > 1 else 0.0
        case "asymmetric":
            return position / scale
        case "tf_crop_and_resize" if output > 1:
            return start * (length - 1) + position * (end - start) * (length - 1) / (output - 1)
        case "tf_crop_and_resize":
            return (start + end) * (length - 1) / 2
    raise ValueError(f"coordinate_transformation_mode {mapping.transform!r} is not supported")


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


def _triangle(t: float) -> float:
    return max(0.0, 1 - t)


def _cubic(a: float, t: float) -> float:
    """Keys' kernel (1981), as the ONNX operator Resize cites it."""
    if t <= 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return ((a * t - 5 * a) * t + 8 * a) * t - 4 * a if t < 2 else 0.0


def lower_resize(builder: Builder, node: ir.Node) -> None:
    """``Resize`` and ``Upsample`` of any axes: each axis alone, by a table of positions and weights.

    fp32 images whose rows and columns are resized have a kernel of their own.
    """
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape, result = builder.shape(x), builder.shape(y)
    if len(shape) != len(result):
        raise builder.unsupported(node, f"{shape} can't be resized to {result}")
    old = node.op_type == "Upsample" or builder.opset < 11
    mode = attribute(node, "mode", "nearest")
    base = Mapping1D(
        "linear" if mode == "bilinear" else mode,
        attribute(node, "coordinate_transformation_mode", "asymmetric" if old else "half_pixel"),
        attribute(node, "nearest_mode", "floor" if old else "round_prefer_floor"),
        attribute(node, "cubic_coeff_a", -0.75),
        bool(attribute(node, "antialias", 0)),
        bool(attribute(node, "exclude_outside", 0)),
    )
    scales, crop = _scales(builder, node, shape, result), base.transform == "tf_crop_and_resize"
    regions = _roi(builder, node, len(shape)) if crop else [base.roi] * len(shape)
    moved = [a for a in range(len(shape)) if shape[a] != result[a] or scales[a] != 1 or (crop and regions[a] != (0, 1))]
    try:
        axes = {a: replace(base, roi=regions[a]).axis(scales[a], shape[a], result[a]) for a in moved}
    except ValueError as error:
        raise builder.unsupported(node, str(error)) from error
    fill = attribute(node, "extrapolation_value", 0.0)
    small = all(axis.taps <= 4 for axis in axes.values())
    if builder.type(x) == "float32" and len(shape) in (3, 4) and not {0, 1} & set(moved) and small:
        _resample(builder, node, axes, fill)
    else:
        _by_axes(builder, node, axes, fill)


def _resample(builder: Builder, node: ir.Node, axes: dict[int, Axis], fill: float) -> None:
    """Rows and columns of a blocked value; those that ``axes`` does not have stay."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape = builder.shape(x)
    rows = axes.get(len(shape) - 2, _same(shape[2])) if len(shape) == 4 else _same(1)
    columns = axes.get(len(shape) - 1, _same(shape[-1]))
    source = builder.blocked(x)
    problem = Resample(builder.block, shape[0], shape[1], rows, columns, fill)
    builder.emit(problem, [source], builder.allocate(y, "blocked"), node)


def _same(length: int) -> Axis:
    return Axis(length, tuple((index,) for index in range(length)), ((1.0,),) * length)


def _by_axes(builder: Builder, node: ir.Node, axes: dict[int, Axis], fill: float) -> None:
    """One pass over the tensor per axis, those that shrink it first."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    dims, kind = list(builder.shape(x)), builder.type(x)
    if not axes:
        builder.place(y, "nchw", builder.region(x))
        return
    plain = all(axis.plain for axis in axes.values())
    inner_kind = kind if plain or kind == "float64" else "float32"
    term = pointer(builder, x)
    order = sorted(axes, key=lambda a: len(axes[a].positions) / axes[a].length)
    for number, a in enumerate(order):
        axis, length = axes[a], dims[a]
        dims[a] = len(axis.positions)
        space = (math.prod(dims[:a]), dims[a], math.prod(dims[a + 1 :]))
        positions = table(f"{y.name}.positions", np.array(axis.positions, np.int32))
        weights = table(f"{y.name}.weights", np.array(axis.weights, np.float32))
        value = f"x0[(i0 * {length} + p) * {space[2]} + i2]"
        if any(-1 in row for row in axis.positions):
            value = f"(p < 0 ? {literal(fill)} : {value})"
        if axis.plain:
            body, reads = f"const int p = x1[i1];\nr = {value};", [term, positions]
        else:
            step = f"const int p = x1[i1 * {axis.taps} + k];\ns += x2[i1 * {axis.taps} + k] * {value};"
            body = "\n".join([f"{OPENCL_TYPES[inner_kind]} s = 0;", loops(["k"], [axis.taps], step), "r = s;"])
            reads = [term, positions, weights]
        last = number == len(order) - 1
        target = (
            builder.allocate(y, "nchw") if last else
            builder.scratch(f"{y.name}.{a}", math.prod(dims) * item_bytes(inner_kind))
        )  # fmt: skip
        result = kind if last else inner_kind
        emit_into(builder, node, "resize", reads, body, space, target, kind=result, work=axis.taps)
        term = Term(target, result)


def _chosen(builder: Builder, node: ir.Node, rank: int) -> list[int]:
    """The axes that scales, sizes and regions are given for."""
    return [axis % rank for axis in attribute(node, "axes", range(rank))]


def _scales(builder: Builder, node: ir.Node, shape: Sequence[int], result: Sequence[int]) -> list[float]:
    """The scale of each axis: as given, or as the sizes and the policy on the aspect ratio make it."""
    rank = len(shape)
    axes = _chosen(builder, node, rank)
    given_scales = attribute(node, "scales")
    position = 1 if node.op_type == "Upsample" or builder.opset < 11 else 2
    if given_scales is None and given(node, position) is not None:
        array = array_of(node.inputs[position])
        if array is None:
            raise builder.unsupported(node, "the scales are not constant")
        given_scales = array.reshape(-1).tolist()
    scales = [after / before for before, after in zip(shape, result, strict=True)]
    if given_scales:
        for axis, scale in zip(axes, given_scales, strict=True):
            scales[axis] = scale
        return scales
    policy = attribute(node, "keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        sizes = array_of(given(node, 3))
        if sizes is None:
            raise builder.unsupported(node, "the sizes are not constant")
        wanted = [size / shape[axis] for axis, size in zip(axes, sizes.reshape(-1).tolist(), strict=True)]
        for axis in axes:
            scales[axis] = min(wanted) if policy == "not_larger" else max(wanted)
    return scales


def _roi(builder: Builder, node: ir.Node, rank: int) -> list[tuple[float, float]]:
    """Start and end of the region of interest per axis."""
    array = array_of(given(node, 1))
    if array is None:
        raise builder.unsupported(node, "the region of interest is not constant")
    axes, flat = _chosen(builder, node, rank), array.reshape(-1).tolist()
    regions = [(0.0, 1.0)] * rank
    if len(flat) == 2 * len(axes):
        for index, axis in enumerate(axes):
            regions[axis] = (flat[index], flat[index + len(axes)])
    return regions


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
    """``Pad`` of any axes and type in all modes; fp32 images whose rows and columns are padded go another way."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape, result = builder.shape(x), builder.shape(y)
    pads, value, mode = attribute(node, "pads"), given(node, 2), attribute(node, "mode", "constant")
    if pads is None:
        array = array_of(node.inputs[1])
        if array is None:
            raise builder.unsupported(node, "the pads are not constant")
        pads = _all_axes(node, array.reshape(-1).tolist(), len(shape))
    moved = [a for a in range(len(shape)) if pads[a] or shape[a] != result[a]]
    if any(shape[a] + pads[a] + pads[a + len(shape)] != result[a] for a in range(len(shape))):
        raise builder.unsupported(node, f"{shape} can't be padded by {pads} to {result}")
    axes = {a: _pad_axis(mode, pads[a], shape[a], result[a]) for a in moved}
    constant = array_of(value) if value is not None else np.array(attribute(node, "value", 0.0))
    images = builder.type(x) == "float32" and len(shape) in (3, 4) and not {0, 1} & set(moved)
    if images and constant is not None:
        _resample(builder, node, axes, float(constant.reshape(-1)[0]))
        return
    reads = [pointer(builder, x), *(table(f"{y.name}.{a}", np.array(axes[a].positions, np.int32)) for a in moved)]
    names = [f"i{a}" for a in range(len(shape))]
    lines = []
    for number, a in enumerate(moved, 1):
        lines.append(f"const int q{a} = x{number}[i{a}];")
        names[a] = f"q{a}"
    outside = " || ".join(f"q{a} < 0" for a in moved) if mode == "constant" and moved else "false"
    fill = "0"
    if value is not None:
        reads.append(pointer(builder, value))
        fill = f"x{len(reads) - 1}[0]"
    elif constant is not None and constant != 0:
        fill = literal(float(constant))
    body = "\n".join([*lines, f"r = {outside} ? {fill} : x0[{index(names, shape)}];"])
    emit_result(builder, node, "pad", reads, body)


def _all_axes(node: ir.Node, pads: Sequence[int], rank: int) -> list[int]:
    """``pads`` of the axes that opset 18 may name, as pads of all axes."""
    axes = array_of(given(node, 3))
    if axes is None:
        return list(pads)
    full = [0] * (2 * rank)
    for position, axis in enumerate(axes.reshape(-1).tolist()):
        full[axis % rank] = pads[position]
        full[axis % rank + rank] = pads[position + len(axes)]
    return full
