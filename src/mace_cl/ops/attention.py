"""mace_cl::Attention, which `mace_cl.passes.attention` makes."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.graph import attribute
from mace_cl.kernels.attention import Attention
from mace_cl.kernels.elementwise import Access
from mace_cl.ops.builder import Builder

__all__ = ["lower_attention"]


def lower_attention(builder: Builder, node: ir.Node) -> None:
    """``sizes`` are batch, heads, queries, keys, depth, width; ``strides`` four each for q, k, v, a mask, y."""
    batch, heads, queries, keys, depth, width = attribute(node, "sizes")
    strides, offsets = attribute(node, "strides"), (*attribute(node, "offsets"), 0)
    accesses = [Access(tuple(strides[4 * index : 4 * index + 4]), offset) for index, offset in enumerate(offsets)]
    scale = attribute(node, "scale")
    problem = Attention(builder.block, batch, heads, queries, keys, depth, width, scale, tuple(accesses))
    operands = [builder.plain(value) for value in node.inputs if value is not None]
    builder.emit(problem, operands, builder.allocate(node.outputs[0], "nchw"), node)
