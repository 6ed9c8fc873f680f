"""mace_cl::Attention, which `mace_cl.passes.attention` makes."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.graph import attribute
from mace_cl.kernels.attention import Attention
from mace_cl.kernels.elementwise import Access
from mace_cl.ops.builder import Builder

__all__ = ["lower_attention"]


def lower_attention(builder: Builder, node: ir.Node) -> None:
    """``sizes`` are batch, heads, queries, keys, depth, width; ``strides`` four each for q, k, v and the result."""
    batch, heads, queries, keys, depth, width = attribute(node, "sizes")
    strides, offsets = attribute(node, "strides"), (*attribute(node, "offsets"), 0)
    accesses = [Access(tuple(strides[4 * index : 4 * index + 4]), offset) for index, offset in enumerate(offsets)]
    q, k, v, y = accesses
    scale = attribute(node, "scale")
    problem = Attention(builder.block, batch, heads, queries, keys, depth, width, scale, (q, k, v, y))
    regions = [builder.region(value) for value in node.inputs if value is not None]
    builder.emit(problem, regions, builder.allocate(node.outputs[0], "nchw"), node)
