"""Normalisations of any rank and type by computed parameters; `ops.normalization` has kernels for the usual ones."""

from __future__ import annotations

import math

import onnx_ir as ir

from mace_cl.expr import literal
from mace_cl.graph import attribute, is_used
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.map import Map, Operand
from mace_cl.kernels.types import OPENCL_TYPES, item_bytes
from mace_cl.ops.builder import Builder
from mace_cl.ops.columns import finish
from mace_cl.ops.points import Term, broadcast, emit_map, emit_result, given, index, loops, pointer
from mace_cl.plan import Region

__all__ = [
    "lower_batch_norm", "lower_group_norm", "lower_instance_norm_any", "lower_layer_norm_any", "lower_lp_norm",
    "lower_lrn", "lower_mean_variance",
]  # fmt: skip


def _moments(builder: Builder, node: ir.Node, rows: int, epsilon: float, centred: bool = True) -> Region:
    """Mean and 1 / √(variance + ε) of each of ``rows`` equal parts of the input; without ``centred``, 0 and 1 / rms."""
    x = node.inputs[0]
    kind = builder.type(x)
    length, real = math.prod(builder.shape(x)) // rows, OPENCL_TYPES[kind]
    whole, rest = length // 8 * 8, length % 8

    def total(value: str, name: str) -> str:
        """Eight sums side by side, which a compiler makes one vector."""
        lanes = loops(["k"], [whole // 8], loops(["j"], [8], f"const {real} v = p[8 * k + j];\ns[j] += {value};"))
        tail = loops(["k"], [rest], f"const {real} v = p[{whole} + k];\ns[k] += {value};")
        return (
            f"{real} {name} = 0;\n{{\n{real} s[8] = {{0, 0, 0, 0, 0, 0, 0, 0}};\n{lanes}\n{tail}\n"
            f"{name} = ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]));\n}}"
        )

    mean = f"{total('v', 'sum')}\nconst {real} mean = sum / {length};" if centred else f"const {real} mean = 0;"
    body = "\n".join([
        f"__global const {real} *p = x0 + at * {length};", mean, total("(v - mean) * (v - mean)", "squares"),
        f"y[2 * at] = mean;\ny[2 * at + 1] = 1 / sqrt(squares / {length} + {literal(epsilon)});",
    ])  # fmt: skip
    target = builder.scratch(f"{node.outputs[0].name}.moments", 2 * rows * item_bytes(kind))
    term = pointer(builder, x)
    problem = Map("moments", (rows,), (Operand(term.kind),), Operand(kind), body, work=2 * length)
    builder.emit(problem, [term.operand], target, node)
    return target


def _apply(
    builder: Builder, node: ir.Node, moments: Region, length: int, scale: Term | None, shift: Term | None
) -> None:
    """``(x - mean) · deviation⁻¹ · scale + shift``; parameters lie where their access says."""
    x, kind = node.inputs[0], builder.type(node.inputs[0])
    reads = [Term(pointer(builder, x).operand, kind, Access(contiguous(builder.shape(x)))), Term(moments, kind)]
    value = f"(a0 - x1[at / {length} * 2]) * x1[at / {length} * 2 + 1]"
    for term, sign in ((scale, "*"), (shift, "+")):
        if term is not None:
            value += f" {sign} a{len(reads)}"
            reads.append(term)
    if "epilogue" in node.attributes:
        product = emit_map(builder, node, "normalise", reads, f"r = {value};", builder.shape(x), kind=kind)
        finish(builder, node, product, None)
    else:
        emit_result(builder, node, "normalise", reads, f"r = {value};")


def _by_channel(builder: Builder, value: ir.Value | None, rank: int) -> Term | None:
    if value is None:
        return None
    return Term(builder.plain(value), builder.type(value), Access((0, 1, *(0,) * (rank - 2))))


def lower_instance_norm_any(builder: Builder, node: ir.Node) -> None:
    """``InstanceNormalization``: each channel of each image alone."""
    n, channels, *image = shape = builder.shape(node.inputs[0])
    moments = _moments(builder, node, n * channels, attribute(node, "epsilon", 1e-5))
    scale, shift = (_by_channel(builder, node.inputs[position], len(shape)) for position in (1, 2))
    _apply(builder, node, moments, math.prod(image), scale, shift)


def lower_group_norm(builder: Builder, node: ir.Node) -> None:
    """``GroupNormalization``: each group of channels of each image alone; parameters per channel."""
    x, scale, shift = node.inputs[:3]
    n, channels, *image = shape = builder.shape(x)
    groups = attribute(node, "num_groups")
    if channels % groups:
        raise builder.unsupported(node, f"{channels} channels are no {groups} groups")
    moments = _moments(builder, node, n * groups, attribute(node, "epsilon", 1e-5))
    length = channels // groups * math.prod(image)
    for value in (scale, shift):
        builder.expect(node, value, (channels,))
    terms = [_by_channel(builder, value, len(shape)) for value in (scale, shift)]
    _apply(builder, node, moments, length, terms[0], terms[1])


def lower_layer_norm_any(builder: Builder, node: ir.Node) -> None:
    """``LayerNormalization`` and ``RMSNormalization``, with all outputs; parameters are broadcast."""
    x = node.inputs[0]
    shape, kind = builder.shape(x), builder.type(x)
    axis = attribute(node, "axis", -1) % len(shape)
    rows = math.prod(shape[:axis])
    moments = _moments(builder, node, rows, attribute(node, "epsilon", 1e-5), node.op_type == "LayerNormalization")
    terms: list[Term | None] = []
    for position in (1, 2):
        value = given(node, position)
        if value is None:
            terms.append(None)
            continue
        own = builder.shape(value)
        if len(own) > len(shape) or any(a not in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False)):
            builder.expect(node, value, shape[axis:])
        terms.append(Term(builder.plain(value), builder.type(value), broadcast(own, shape)))
    _apply(builder, node, moments, math.prod(shape[axis:]), terms[0], terms[1])
    for position in (1, 2):
        if len(node.outputs) > position and is_used(node.outputs[position]):
            body = f"r = x0[2 * at + {position - 1}];"
            emit_result(builder, node, "moment", [Term(moments, kind)], body, output=position)


def lower_batch_norm(builder: Builder, node: ir.Node) -> None:
    """``BatchNormalization`` with computed parameters, or in training mode by the batch's own moments."""
    x, scale, shift, mean, variance = node.inputs[:5]
    n, channels, *image = shape = builder.shape(x)
    kind, pixels = builder.type(x), math.prod(image)
    for value in (scale, shift, mean, variance):
        builder.expect(node, value, (channels,))
    epsilon = literal(attribute(node, "epsilon", 1e-5))
    parameters = [_by_channel(builder, value, len(shape)) for value in (scale, shift, mean, variance)]
    if attribute(node, "training_mode", 0):
        keep = attribute(node, "momentum", 0.9)
        walk = f"const {OPENCL_TYPES[kind]} v = x0[(i * {channels} + i0) * {pixels} + k];\n"
        count = n * pixels
        average = f"r = 0;\n{loops(['i', 'k'], [n, pixels], walk + 'r += v;')}\nr /= {count};"
        reads = [pointer(builder, x)]
        means = emit_map(builder, node, "batch_mean", reads, average, (channels,), kind=kind, work=count)
        spread = f"r = 0;\n{loops(['i', 'k'], [n, pixels], walk + 'r += (v - x1[i0]) * (v - x1[i0]);')}\nr /= {count};"
        reads.append(Term(means, kind))
        variances = emit_map(builder, node, "batch_variance", reads, spread, (channels,), kind=kind, work=2 * count)
        for output, (old, new) in enumerate(((mean, means), (variance, variances)), 1):
            if len(node.outputs) > output and is_used(node.outputs[output]):
                body = f"r = {literal(keep)} * x0[at] + (1 - {literal(keep)}) * x1[at];"
                emit_result(builder, node, "running", [pointer(builder, old), Term(new, kind)], body, output=output)
        access = Access((0, 1, *(0,) * (len(shape) - 2)))
        parameters[2:] = [Term(means, kind, access), Term(variances, kind, access)]
    reads = [Term(pointer(builder, x).operand, kind, Access(contiguous(shape)))]
    reads += [term for term in parameters if term is not None]
    emit_result(builder, node, "batch_norm", reads, f"r = (a0 - a3) / sqrt(a4 + {epsilon}) * a1 + a2;")


def lower_mean_variance(builder: Builder, node: ir.Node) -> None:
    """``MeanVarianceNormalization`` over any axes: ``(x - mean) / (deviation + 1e-9)``, as ONNX defines it."""
    x = node.inputs[0]
    shape = builder.shape(x)
    axes = sorted({axis % len(shape) for axis in attribute(node, "axes", (0, 2, 3))})
    kept = [axis for axis in range(len(shape)) if axis not in axes]
    dims, count = tuple(shape[axis] for axis in kept) or (1,), math.prod(shape[axis] for axis in axes)
    names = [f"k{axis}" if axis in axes else f"i{kept.index(axis)}" for axis in range(len(shape))]
    walk = f"const float v = x0[{index(names, shape)}];\n"
    ends = [shape[axis] for axis in axes]
    body = f"r = 0;\n{loops([f'k{axis}' for axis in axes], ends, walk + 'r += STEP;')}\nr "
    reads = [pointer(builder, x)]
    mean = emit_map(builder, node, "mean", reads, body.replace("STEP", "v") + f"/= {count};", dims, work=count)
    reads.append(Term(mean, "float32"))
    squares = body.replace("STEP", "(v - x1[at]) * (v - x1[at])")
    deviation = emit_map(builder, node, "deviation", reads, f"{squares}= sqrt(r / {count});", dims, work=2 * count)
    reads.append(Term(deviation, "float32"))
    place = index([f"i{axis}" for axis in kept], [shape[axis] for axis in kept])
    emit_result(builder, node, "normalise", reads, f"r = (x0[at] - x1[{place}]) / (x2[{place}] + 1e-9f);")


def lower_lp_norm(builder: Builder, node: ir.Node) -> None:
    """``LpNormalization`` along an axis; 0 where the norm is 0."""
    x = node.inputs[0]
    shape, kind = builder.shape(x), builder.type(x)
    axis, p = attribute(node, "axis", -1) % len(shape), attribute(node, "p", 2)
    length, inner = shape[axis], math.prod(shape[axis + 1 :])
    outer = math.prod(shape[:axis])
    real, power = OPENCL_TYPES[kind], "v * v" if p == 2 else "fabs(v)"
    step = f"const {real} v = x0[(i0 * {length} + k) * {inner} + i1];\nr += {power};"
    body = f"r = 0;\n{loops(['k'], [length], step)}" + ("\nr = sqrt(r);" if p == 2 else "")
    norms = emit_map(builder, node, "norm", [pointer(builder, x)], body, (outer, inner), kind=kind, work=length)
    place = index([f"i{a}" for a in range(len(shape)) if a != axis], [s for a, s in enumerate(shape) if a != axis])
    reads = [Term(pointer(builder, x).operand, kind, Access(contiguous(shape))), Term(norms, kind)]
    emit_result(
        builder, node, "lp_normalise", reads, f"const {OPENCL_TYPES[kind]} n = x1[{place}];\nr = n == 0 ? 0 : a0 / n;"
    )


def lower_lrn(builder: Builder, node: ir.Node) -> None:
    """``LRN``: over neighbouring channels."""
    x = node.inputs[0]
    _, channels, *image = builder.shape(x)
    size, pixels = attribute(node, "size"), math.prod(image)
    alpha, beta, bias = attribute(node, "alpha", 1e-4), attribute(node, "beta", 0.75), attribute(node, "bias", 1.0)
    rank = 2 + len(image)
    pixel = index([f"i{a}" for a in range(2, rank)], image)
    body = "\n".join([
        f"const int first = max(i1 - {(size - 1) // 2}, 0), last = min(i1 + {size // 2}, {channels - 1});",
        "float s = 0.0f;",
        f"for (int k = first; k <= last; ++k) {{\nconst float v = x0[(i0 * {channels} + k) * {pixels} + {pixel}];",
        "s += v * v;\n}",
        f"r = x0[at] / pow({literal(bias)} + {literal(alpha / size)} * s, {literal(beta)});",
    ])  # fmt: skip
    emit_result(builder, node, "lrn", [pointer(builder, x)], body, work=2 * size)
