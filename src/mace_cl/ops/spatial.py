"""Ops that look at images by position: DepthToSpace, SpaceToDepth, GridSample, AffineGrid, RoI pools, and so on."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from mace_cl.expr import literal
from mace_cl.graph import attribute
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import emit_result, index, loops, pointer

__all__ = [
    "lower_affine_grid", "lower_depth_to_space", "lower_grid_sample", "lower_max_roi_pool", "lower_reverse_sequence",
    "lower_roi_align", "lower_space_to_depth",
]  # fmt: skip


def _permuted(builder: Builder, node: ir.Node, dims: Sequence[int], order: Sequence[int]) -> None:
    """The input, seen with ``dims``, transposed to ``order``."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    strides = contiguous(dims)
    turned = tuple(dims[axis] for axis in order)
    source = Access(tuple(strides[axis] for axis in order))
    problem = builder.copy(builder.type(x), source, Access(contiguous(turned)), turned)
    builder.emit(problem, [builder.plain(x)], builder.allocate(y, "nchw"), node)


def lower_depth_to_space(builder: Builder, node: ir.Node) -> None:
    """Modes DCR (blocks of channels first) and CRD (channels first)."""
    n, channels, height, width = builder.shape(node.inputs[0])
    b = attribute(node, "blocksize")
    if attribute(node, "mode", "DCR") == "DCR":
        _permuted(builder, node, (n, b, b, channels // (b * b), height, width), (0, 3, 4, 1, 5, 2))
    else:
        _permuted(builder, node, (n, channels // (b * b), b, b, height, width), (0, 1, 4, 2, 5, 3))


def lower_space_to_depth(builder: Builder, node: ir.Node) -> None:
    """The inverse of DepthToSpace in the same mode."""
    n, channels, height, width = builder.shape(node.inputs[0])
    b = attribute(node, "blocksize")
    order = (0, 3, 5, 1, 2, 4) if attribute(node, "mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    _permuted(builder, node, (n, channels, height // b, b, width // b, b), order)


def lower_reverse_sequence(builder: Builder, node: ir.Node) -> None:
    """The first ``sequence_lens[batch]`` steps backwards."""
    x, lengths = node.inputs[0], node.inputs[1]
    shape = builder.shape(x)
    time, batch = attribute(node, "time_axis", 0) % len(shape), attribute(node, "batch_axis", 1) % len(shape)
    builder.expect(node, lengths, (shape[batch],))
    names = [f"i{a}" for a in range(len(shape))]
    names[time] = "q"
    body = (
        f"const int n = (int)clamp((long)x1[i{batch}], 0L, {shape[time]}L);\n"
        f"const int q = i{time} < n ? n - 1 - i{time} : i{time};\nr = x0[{index(names, shape)}];"
    )
    emit_result(builder, node, "reverse_sequence", [pointer(builder, x), pointer(builder, lengths)], body)


def lower_affine_grid(builder: Builder, node: ir.Node) -> None:
    """Positions between -1 and 1, turned by ``theta``; of two and three axes."""
    theta, y = node.inputs[0], node.outputs[0]
    n, *image, axes = builder.shape(y)
    builder.expect(node, theta, (n, axes, axes + 1))
    aligned = attribute(node, "align_corners", 0)
    terms = []
    for a in range(axes):
        size, place = image[axes - 1 - a], f"i{axes - a}"
        position = f"({place} * {literal(2 / max(size - 1, 1))} - 1.0f)"
        if not aligned:
            position = f"((2 * {place} + 1) * {literal(1 / size)} - 1.0f)"
        terms.append(f"t[{a}] * {position}")
    head = f"__global const float *t = x0 + (i0 * {axes} + i{axes + 1}) * {axes + 1};"
    body = f"{head}\nr = {' + '.join(terms)} + t[{axes}];"
    emit_result(builder, node, "affine_grid", [pointer(builder, theta)], body)


_GRID = """
float ENTRY_reflect(float x, float low, float high) {
  const float range = high - low;
  if (!(range > 0.0f)) return low;
  const float d = x < low ? low - x : x > high ? x - high : 0.0f;
  const float n = floor(d / range), rest = d - n * range;
  const bool even = fmod(n, 2.0f) == 0.0f;
  return x < low ? (even ? low + rest : high - rest) : x > high ? (even ? high - rest : low + rest) : x;
}
float ENTRY_place(float g, int size) {
  float x = PLACE;
  x = fmin(fmax(x, -16777216.0f), 16777216.0f);
  return x;
}
float ENTRY_inside(float x, int size) {
  const float low = LOW, high = size - 1 - low;
  return INSIDE;
}
int ENTRY_index(float x, int size) {
  x = ENTRY_inside(x, size);
  return x >= 0.0f && x <= size - 1 ? (int)x : OUTSIDE;
}
float ENTRY_weight(float t) {
  t = fabs(t);
  return WEIGHT;
}
"""

_INSIDE = {
    "zeros": "x",
    "border": "(x < low || x > high) ? clamp(x, 0.0f, (float)(size - 1)) : x",
    "reflection": "(x < low || x > high) ? ENTRY_reflect(x, low, high) : x",
}
_CUBIC = (
    "t <= 1.0f ? (1.25f * t - 2.25f) * t * t + 1.0f : t < 2.0f ? ((-0.75f * t + 3.75f) * t - 6.0f) * t + 3.0f : 0.0f"
)
_WEIGHTS = {"nearest": "1.0f", "linear": "fmax(0.0f, 1.0f - t)", "cubic": _CUBIC}


def lower_grid_sample(builder: Builder, node: ir.Node) -> None:
    """Of two and three axes; nearest, linear and cubic; zeros, border and reflection."""
    x, grid = node.inputs[0], node.inputs[1]
    n, channels, *image = builder.shape(x)
    places = builder.shape(node.outputs[0])[2:]
    axes = len(image)
    builder.expect(node, grid, (n, *places, axes))
    mode = attribute(node, "mode", "linear")
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    padding, aligned = attribute(node, "padding_mode", "zeros"), attribute(node, "align_corners", 0)
    if mode not in _WEIGHTS or padding not in _INSIDE:
        raise builder.unsupported(node, f"the mode {mode!r} with padding {padding!r} is not known")
    functions = (
        _GRID.replace("PLACE", "(g + 1.0f) * 0.5f * (size - 1)" if aligned else "((g + 1.0f) * size - 1.0f) * 0.5f")
        .replace("LOW", "0.0f" if aligned else "-0.5f")
        .replace("INSIDE", _INSIDE[padding])
        .replace("OUTSIDE", "-1" if padding == "zeros" else "x > 0.0f ? size - 1 : 0")
        .replace("WEIGHT", _WEIGHTS[mode])
    )
    at = index(["i0", *(f"i{a + 2}" for a in range(axes))], (n, *places))
    lines, inner, names = [], [], []
    for a in range(axes):
        lines.append(f"float p{a} = ENTRY_place(x1[({at}) * {axes} + {axes - 1 - a}], {image[a]});")
        if mode == "nearest":
            lines.append(f"p{a} = rint(p{a});")
        if padding != "zeros":
            lines.append(f"p{a} = ENTRY_inside(p{a}, {image[a]});")
        lines.append(f"const float b{a} = floor(p{a}){' - 1.0f' if mode == 'cubic' else ''};")
        inner.append(f"const int q{a} = ENTRY_index(b{a} + k{a}, {image[a]});")
        names.append(f"k{a}")
    inner.append(f"if ({' || '.join(f'q{a} < 0' for a in range(axes))}) continue;")
    weights = " * ".join(f"ENTRY_weight(p{a} - b{a} - k{a})" for a in range(axes))
    source = index(["i0", "i1", *(f"q{a}" for a in range(axes))], (n, channels, *image))
    inner.append(f"r += {weights} * x0[{source}];")
    taps = {"nearest": 1, "linear": 2, "cubic": 4}[mode]
    body = "\n".join([*lines, "r = 0;", loops(names, [taps] * axes, "\n".join(inner))])
    reads = [pointer(builder, x), pointer(builder, grid)]
    emit_result(builder, node, "grid_sample", reads, body, functions=functions, work=8 * taps**axes)


def lower_roi_align(builder: Builder, node: ir.Node) -> None:
    """Means or maxima of bilinear samples; images that ``batch_indices`` name beyond the batch are its last."""
    x, rois, batches, y = node.inputs[0], node.inputs[1], node.inputs[2], node.outputs[0]
    n, channels, height, width = builder.shape(x)
    count, _, rows, columns = builder.shape(y)
    builder.expect(node, rois, (count, 4))
    builder.expect(node, batches, (count,))
    default = "half_pixel" if builder.opset >= 16 else "output_half_pixel"
    half = attribute(node, "coordinate_transformation_mode", default) == "half_pixel"
    largest = attribute(node, "mode", "avg") == "max"
    scale, ratio = literal(attribute(node, "spatial_scale", 1.0)), attribute(node, "sampling_ratio", 0)
    shift, least = ("0.5f", "") if half else ("0.0f", "\nh = fmax(h, 1.0f); w = fmax(w, 1.0f);")
    samples = f"{ratio}" if ratio > 0 else "(int)fmin(fmax(ceil({0}), 0.0f), 4096.0f)"
    corners = [f"{a} * {b} * p[{row} * {width} + {column}]" for a, row in (("(1 - v)", "y0"), ("v", "y1"))
               for b, column in (("(1 - u)", "c0"), ("u", "c1"))]  # fmt: skip
    take = (
        f"const float best = fmax(fmax({corners[0]}, {corners[1]}), fmax({corners[2]}, {corners[3]}));\n"
        "s = first ? best : fmax(s, best); first = false;"
        if largest else f"s += {' + '.join(corners)};"
    )  # fmt: skip
    body = f"""
__global const float *roi = x1 + i0 * 4;
__global const float *p = x0 + (clamp((long)x2[i0], 0L, {n - 1}L) * {channels} + i1) * {height * width};
const float left = roi[0] * {scale} - {shift}, top = roi[1] * {scale} - {shift};
float w = roi[2] * {scale} - {shift} - left, h = roi[3] * {scale} - {shift} - top;{least}
const float bh = h / {rows}, bw = w / {columns};
const int ny = {samples.format("bh")}, nx = {samples.format("bw")};
float s = 0.0f;
bool first = true;
for (int iy = 0; iy < ny; ++iy)
for (int ix = 0; ix < nx; ++ix) {{
  float sy = top + i2 * bh + (iy + 0.5f) * bh / ny, sx = left + i3 * bw + (ix + 0.5f) * bw / nx;
  if (!(sy >= -1.0f && sy <= {height}.0f && sx >= -1.0f && sx <= {width}.0f)) {{
    {"if (first) { s = 0.0f; first = false; } else s = fmax(s, 0.0f);" if largest else ""}
    continue;
  }}
  sy = clamp(sy, 0.0f, {height - 1}.0f); sx = clamp(sx, 0.0f, {width - 1}.0f);
  const int y0 = (int)sy, c0 = (int)sx, y1 = min(y0 + 1, {height - 1}), c1 = min(c0 + 1, {width - 1});
  const float v = sy - y0, u = sx - c0;
  {take}
}}
r = {"s" if largest else "s / max(ny * nx, 1)"};
"""
    reads = [pointer(builder, value) for value in (x, rois, batches)]
    emit_result(builder, node, "roi_align", reads, body.strip(), work=64)


def lower_max_roi_pool(builder: Builder, node: ir.Node) -> None:
    """``[batch index, left, top, right, bottom]`` per region; 0 where a bin is empty."""
    x, rois, y = node.inputs[0], node.inputs[1], node.outputs[0]
    n, channels, height, width = builder.shape(x)
    count, _, rows, columns = builder.shape(y)
    builder.expect(node, rois, (count, 5))
    scale = literal(attribute(node, "spatial_scale", 1.0))

    def edges(place: str, start: str, size: str, parts: int, limit: int) -> str:
        bin_size = f"{size} / {parts}"
        return (
            f"clamp((int)floor({place} * {bin_size}) + {start}, 0, {limit}), "
            f"b{place} = clamp((int)ceil(({place} + 1) * {bin_size}) + {start}, 0, {limit})"
        )

    body = f"""
__global const float *roi = x1 + i0 * 5;
int e[4];
for (int k = 0; k < 4; ++k) e[k] = (int)round(fmin(fmax(roi[k + 1] * {scale}, -1e6f), 1e6f));
const float w = max(e[2] - e[0] + 1, 1), h = max(e[3] - e[1] + 1, 1);
const int ai2 = {edges("i2", "e[1]", "h", rows, height)};
const int ai3 = {edges("i3", "e[0]", "w", columns, width)};
const int image = (int)fmin(fmax(roi[0], 0.0f), {n - 1}.0f);
__global const float *p = x0 + (image * {channels} + i1) * {height * width};
r = ai2 < bi2 && ai3 < bi3 ? -INFINITY : 0.0f;
for (int row = ai2; row < bi2; ++row)
  for (int column = ai3; column < bi3; ++column) r = fmax(r, p[row * {width} + column]);
"""
    emit_result(builder, node, "max_roi_pool", [pointer(builder, x), pointer(builder, rois)], body.strip(), work=64)
