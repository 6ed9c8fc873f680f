"""Gather and scatter families, and results that follow from positions: OneHot, Trilu, Tile, EyeLike.

Positions may be computed.  Negative ones count from the end; those outside are taken as the nearest inside, so that
nothing is read or written out of bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import onnx_ir as ir

from mace_cl.graph import array_of, attribute
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.types import OPENCL_TYPES
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import emit_node, offset
from mace_cl.plan import Region

__all__ = [
    "lower_eye_like", "lower_gather_elements", "lower_gather_nd", "lower_one_hot", "lower_scatter_elements",
    "lower_scatter_nd", "lower_tile", "lower_trilu",
]  # fmt: skip

_REDUCTIONS = {
    "none": "y[p] = v;",
    "add": "y[p] += v;",
    "mul": "y[p] *= v;",
    "max": "y[p] = (v > y[p] || v != v) ? v : y[p];",
    "min": "y[p] = (v < y[p] || v != v) ? v : y[p];",
}


def _inside(name: str, given: str, length: int) -> str:
    """Declares ``name`` as the position ``given`` in an axis of ``length``."""
    return f"const int {name} = clamp((int)({given} < 0 ? {given} + {length} : {given}), 0, {length - 1});"


def _coordinates(count: int) -> list[str]:
    return [f"i{index}" for index in range(count)]


def lower_gather_elements(builder: Builder, node: ir.Node) -> None:
    """``y[…, i, …] = x[…, positions[…, i, …], …]``."""
    x, where = node.inputs[:2]
    assert x is not None
    assert where is not None
    shape, dims = builder.shape(x), builder.shape(where)
    axis = attribute(node, "axis", 0) % len(shape)
    names = _coordinates(len(shape))
    names[axis] = "p"
    body = f"{_inside('p', 'a1', shape[axis])}\nr = x0[{offset(names, contiguous(shape))}];"
    emit_node(builder, node, [(x, None), (where, Access(contiguous(dims)))], body)


def lower_gather_nd(builder: Builder, node: ir.Node) -> None:
    """Each row of positions names a slice; the first ``batch_dims`` axes of both run together."""
    x, where = node.inputs[:2]
    assert x is not None
    assert where is not None
    shape, rows, batch = builder.shape(x), builder.shape(where), attribute(node, "batch_dims", 0)
    depth, outer = rows[-1], len(rows) - 1
    strides = contiguous(shape)
    first = offset(_coordinates(outer), contiguous((*rows[:-1], 1))[:-1])
    body = [f"const int row = ({first}) * {depth};"]
    names = _coordinates(batch)
    for index in range(depth):
        length = shape[batch + index]
        body += [f"const long g{index} = x1[row + {index}];", _inside(f"p{index}", f"g{index}", length)]
        names.append(f"p{index}")
    names += [f"i{outer + index}" for index in range(len(shape) - batch - depth)]
    body.append(f"r = x0[{offset(names, strides)}];")
    emit_node(builder, node, [(x, None), (where, None)], "\n".join(body))


def _copied(builder: Builder, node: ir.Node, x: ir.Value) -> Region:
    """The result, filled with x."""
    y = node.outputs[0]
    target, whole = builder.allocate(y, "nchw"), Access((1,))
    size = math.prod(builder.shape(x))
    builder.emit(builder.copy(builder.type(x), whole, whole, (size,)), [builder.plain(x)], target, node)
    return target


def _reduction(builder: Builder, node: ir.Node, kind: str) -> str:
    name = attribute(node, "reduction", "none")
    if kind == "bool" and name in ("add", "mul"):
        return _REDUCTIONS["max" if name == "add" else "min"]
    if name not in _REDUCTIONS:
        raise builder.unsupported(node, f"reduction {name!r} is not known")
    return _REDUCTIONS[name]


def lower_scatter_elements(builder: Builder, node: ir.Node) -> None:
    """``ScatterElements`` and ``Scatter``: updates move along the axis only, so that lines are independent."""
    x, where, updates = node.inputs[:3]
    assert x is not None
    assert where is not None
    assert updates is not None
    shape, dims = builder.shape(x), builder.shape(where)
    builder.expect(node, updates, dims)
    axis = attribute(node, "axis", 0) % len(shape)
    kind = builder.type(x)
    step = _reduction(builder, node, kind)
    target = _copied(builder, node, x)
    names, rows = _coordinates(len(shape)), _coordinates(len(shape))
    names[axis], rows[axis] = "q", "j"
    body = (
        f"for (int j = 0; j < {dims[axis]}; ++j) {{\n  const int u = {offset(rows, contiguous(dims))};\n"
        f"  const long g = x0[u];\n  {_inside('q', 'g', shape[axis])}\n"
        f"  const int p = {offset(names, contiguous(shape))};\n"
        f"  const {OPENCL_TYPES[kind]} v = x1[u];\n  {step}\n}}"
    )
    space = tuple(1 if index == axis else size for index, size in enumerate(dims))
    emit_node(builder, node, [(where, None), (updates, None)], body, dims=space, target=target, work=dims[axis])


def lower_scatter_nd(builder: Builder, node: ir.Node) -> None:
    """Updates of one element of a slice happen in order."""
    x, where, updates = node.inputs[:3]
    assert x is not None
    assert where is not None
    assert updates is not None
    shape, rows = builder.shape(x), builder.shape(where)
    depth, count = rows[-1], math.prod(rows[:-1])
    builder.expect(node, updates, (*rows[:-1], *shape[depth:]))
    kind, strides, inner = builder.type(x), contiguous(shape), math.prod(shape[depth:])
    step = _reduction(builder, node, kind)
    target = _copied(builder, node, x)
    body = [f"for (int j = 0; j < {count}; ++j) {{", "  int p = at;"]
    for index in range(depth):
        body += [
            f"  const long g{index} = x0[j * {depth} + {index}];",
            f"  {_inside(f'p{index}', f'g{index}', shape[index])}",
            f"  p += p{index} * {strides[index]};",
        ]
    body += [f"  const {OPENCL_TYPES[kind]} v = x1[j * {inner} + at];", f"  {step}", "}"]
    reads = [(where, None), (updates, None)]
    emit_node(builder, node, reads, "\n".join(body), dims=(inner,), target=target, work=count * (depth + 1))


def lower_one_hot(builder: Builder, node: ir.Node) -> None:
    """Positions outside of [-depth, depth - 1] give no hot element."""
    where, values = node.inputs[0], node.inputs[2]
    assert where is not None
    assert values is not None
    builder.expect(node, values, (2,))
    dims, own = builder.shape(node.outputs[0]), builder.shape(where)
    axis = attribute(node, "axis", -1) % len(dims)
    strides = contiguous(own)
    access = Access((*strides[:axis], 0, *strides[axis:]))
    depth = dims[axis]
    body = (
        f"const long hot = (long)a0;\nr = (hot < 0 ? hot + {depth} : hot) == i{axis} "
        f"&& hot >= -{depth} ? x1[1] : x1[0];"
    )
    emit_node(builder, node, [(where, access), (values, None)], body)


def lower_trilu(builder: Builder, node: ir.Node) -> None:
    """The upper or lower triangle from a constant diagonal on."""
    x = node.inputs[0]
    assert x is not None
    k = 0
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = array_of(node.inputs[1])
        if given is None:
            raise builder.unsupported(node, "the diagonal is not constant")
        k = int(given.reshape(-1)[0])
    shape = builder.shape(x)
    rank, sign = len(shape), ">=" if attribute(node, "upper", 1) else "<="
    body = f"r = (long)i{rank - 1} - i{rank - 2} {sign} {k}L ? a0 : 0;"
    emit_node(builder, node, [(x, Access(contiguous(shape)))], body)


def lower_eye_like(builder: Builder, node: ir.Node) -> None:
    """Ones on a diagonal of a matrix of x's shape."""
    k, x = attribute(node, "k", 0), node.inputs[0]
    assert x is not None
    emit_node(builder, node, [(x, None)], f"r = i1 == (long)i0 + {k}L;")


def lower_tile(builder: Builder, node: ir.Node) -> None:
    """x repeated along each axis; the repeats are those that shape inference found."""
    x = node.inputs[0]
    assert x is not None
    shape: Sequence[int] = builder.shape(x)
    names = [f"(i{index} % {size})" for index, size in enumerate(shape)]
    emit_node(builder, node, [(x, None)], f"r = x0[{offset(names, contiguous(shape))}];")
