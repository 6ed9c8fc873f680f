"""Pools: MaxPool, AveragePool, LpPool, their global forms, MaxUnpool."""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from mace_cl.graph import attribute, is_used
from mace_cl.kernels.base import ceil_div
from mace_cl.kernels.pool import Pool2D
from mace_cl.kernels.reduce import Reduce
from mace_cl.kernels.types import OPENCL_TYPES
from mace_cl.ops.builder import Builder
from mace_cl.ops.columns import Geometry, finish
from mace_cl.ops.fused import epilogue_of
from mace_cl.ops.points import emit_map, emit_result, index, loops, pointer

__all__ = ["lower_global_pool", "lower_max_unpool", "lower_pool"]

_WIDEST = 32
"""Columns of a window that a kernel writes out one by one; of 100, Intel's compiler makes minutes."""


def lower_pool(builder: Builder, node: ir.Node) -> None:
    """fp32 pools of one or two axes have a kernel of their own, unless their window is wide."""
    x = node.inputs[0]
    assert x is not None
    shape = builder.shape(x)
    kernel, places = tuple(attribute(node, "kernel_shape")), builder.shape(node.outputs[0])[2:]
    indices = len(node.outputs) > 1 and is_used(node.outputs[1])
    rows = len(shape) <= 4 and kernel[-1] <= _WIDEST and node.op_type != "LpPool"
    if rows and builder.type(x) == "float32" and not indices:
        _lower_rows(builder, node, kernel)
        return
    geometry = Geometry.of(node, shape[2:], kernel, places)
    _lower_any(builder, node, geometry, tuple(attribute(node, "pads", (0,) * 2 * len(kernel)))[len(kernel) :])


def _lower_rows(builder: Builder, node: ir.Node, kernel: Sequence[int]) -> None:
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    window = builder.window(node, kernel)
    ends = tuple(attribute(node, "pads", (0,) * 2 * len(kernel)))[len(kernel) :]
    extent = tuple(
        size + before + after for size, before, after in zip(window.input, window.pads, (0, *ends)[-2:], strict=True)
    )
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    source = builder.blocked(x)
    target = builder.allocate(y, "blocked")
    batch, channels = builder.shape(x)[:2]
    problem = Pool2D(
        builder.block, batch, channels, window, "max" if node.op_type == "MaxPool" else "average",
        bool(attribute(node, "count_include_pad", 0)), (extent[0], extent[1]), epilogue,
    )  # fmt: skip
    builder.emit(problem, [source, *extras], target, node)


def _lower_any(builder: Builder, node: ir.Node, geometry: Geometry, ends: Sequence[int]) -> None:
    """A pool of any rank and type, and MaxPool's indices: a kernel per output."""
    x, g = node.inputs[0], geometry
    kind = builder.type(x)
    outer = builder.shape(x)[:2]
    kernel, places = [f"k{a}" for a in g.axes], [f"i{a + 2}" for a in g.axes]
    plane = f"(i0 * {outer[1]} + i1) * {math.prod(g.image)}"
    here = index([f"q{a}" for a in g.axes], g.image)
    walk = [*g.positions(kernel, places), "if (!inside) continue;", f"const int at_x = {here};",
            f"const {OPENCL_TYPES[kind]} v = x0[{plane} + at_x];"]  # fmt: skip
    work = math.prod(g.kernel)
    if node.op_type == "MaxPool":
        start = f"int best = -1;\n{OPENCL_TYPES[kind]} top = {'-INFINITY' if kind.startswith('float') else '0'};\n"
        step = "if (best < 0 || v > top || v != v) { top = v; best = at_x; }"
        body = start + loops(kernel, g.kernel, "\n".join([*walk, step]))
        results = ["r = top;", _number(plane, g.image, bool(attribute(node, "storage_order", 0)))]
        for output, result in enumerate(results):
            if len(node.outputs) > output and is_used(node.outputs[output]):
                emit_result(builder, node, "max_pool", [pointer(builder, x)], f"{body}\n{result}",
                            output=output, work=work)  # fmt: skip
        return
    if node.op_type == "AveragePool":
        counted = "++count;"
        if attribute(node, "count_include_pad", 0):
            padded = " && ".join(f"q{a} < {g.image[a] + ends[a]}" for a in g.axes)
            walk.insert(-3, f"if ({padded}) ++count;")
            counted = ""
        body = "int count = 0;\nr = 0;\n" + loops(kernel, g.kernel, "\n".join([*walk, "r += v;", counted]))
        body += "\nr /= max(count, 1);"
        if "epilogue" not in node.attributes:
            emit_result(builder, node, "average_pool", [pointer(builder, x)], body, work=work)
            return
        dims = builder.shape(node.outputs[0])
        finish(
            builder, node, emit_map(builder, node, "average_pool", [pointer(builder, x)], body, dims, work=work), None
        )
        return
    p = attribute(node, "p", 2)
    body = "r = 0;\n" + loops(kernel, g.kernel, "\n".join([*walk, f"r += {_power('fabs(v)', p)};"]))
    emit_result(builder, node, "lp_pool", [pointer(builder, x)], f"{body}\n{_root(p)}", work=work)


def _number(plane: str, image: Sequence[int], by_columns: bool) -> str:
    """The position of ``best`` counted over the whole tensor, or within the plane by columns first."""
    if not by_columns:
        return f"r = {plane} + best;"
    lines, rest = [], "best"
    for a in reversed(range(len(image))):
        lines.append(f"const int b{a} = {rest} % {image[a]}, c{a} = {rest} / {image[a]};")
        rest = f"c{a}"
    names = [f"b{a}" for a in reversed(range(len(image)))]
    return "\n".join([*lines, f"r = {plane} + {index(names, image[::-1])};"])


def _power(value: str, p: int) -> str:
    return {1: value, 2: f"{value} * {value}"}.get(p, f"pow({value}, {p})")


def _root(p: int) -> str:
    return {1: "", 2: "r = sqrt(r);"}.get(p, f"r = pow(r, 1.0f / {p});")


def lower_global_pool(builder: Builder, node: ir.Node) -> None:
    """Global pools of any rank."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    n, channels, *image = builder.shape(x)
    if node.op_type == "GlobalLpPool":
        p = attribute(node, "p", 2)
        body = (
            f"r = 0;\nfor (int k = 0; k < {math.prod(image)}; ++k) {{\nconst float v = x0[at * {math.prod(image)} + k];"
        )
        step = f"r += {_power('fabs(v)', p)};"
        emit_result(builder, node, "global_lp_pool", [pointer(builder, x)], f"{body}\n{step}\n}}\n{_root(p)}",
                    work=math.prod(image))  # fmt: skip
        return
    c, blocks, pixels = builder.block, ceil_div(channels, builder.block), math.prod(image)
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    source = builder.blocked(x)
    target = builder.allocate(y, "blocked")
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    problem = Reduce(c, (n * blocks, c), (pixels * c, 1), (pixels,), (c,), kind, True, channels, epilogue)
    builder.emit(problem, [source, *extras], target, node)


def lower_max_unpool(builder: Builder, node: ir.Node) -> None:
    """Each value goes to its index, counted over the tensor without the attribute's ``output_shape``; 0 elsewhere."""
    x, indices, y = node.inputs[0], node.inputs[1], node.outputs[0]
    shape, result = builder.shape(x), builder.shape(y)
    builder.expect(node, indices, shape)
    kernel = attribute(node, "kernel_shape")
    axes = range(len(kernel))
    strides, pads = attribute(node, "strides", (1,) * len(kernel)), attribute(node, "pads", (0,) * 2 * len(kernel))
    inner = tuple((shape[a + 2] - 1) * strides[a] - pads[a] - pads[a + len(kernel)] + kernel[a] for a in axes)
    inside = " && ".join(f"i{a + 2} < {inner[a]}" for a in axes)
    planes, count, area = f"(i0 * {shape[1]} + i1)", math.prod(shape[2:]), math.prod(inner)
    place = index([f"i{a + 2}" for a in axes], inner)
    find = loops(["k"], [count], f"if (x1[{planes} * {count} + k] == place) r = x0[{planes} * {count} + k];")
    body = f"r = 0;\nif ({inside}) {{\nconst long place = (long){planes} * {area} + {place};\n{find}\n}}"
    if len(result) != len(shape) or result[:2] != shape[:2]:
        raise builder.unsupported(node, f"{shape} can't be unpooled to {result}")
    emit_result(builder, node, "max_unpool", [pointer(builder, x), pointer(builder, indices)], body, work=count)
