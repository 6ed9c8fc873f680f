"""Random numbers from a seed: the same at each run, on each device.

Each element hashes its number and the seed with the finaliser of MurmurHash3 (Appleby, 2011); normal numbers are made
of two uniform ones (Box and Muller, 1958).  Without a seed, the node's name gives one.
"""

from __future__ import annotations

import struct
import zlib

import onnx_ir as ir

from mace_cl.graph import attribute
from mace_cl.kernels.elementwise import Access, contiguous
from mace_cl.kernels.map import Map, Operand
from mace_cl.ops.builder import Builder
from mace_cl.ops.points import emit_node

__all__ = ["lower_bernoulli", "lower_random"]

_HASH = """
float ENTRY_uniform(uint n, uint seed) {
  uint h = n * 0x9E3779B9u + seed;
  h = (h ^ (h >> 16)) * 0x85EBCA6Bu;
  h = (h ^ (h >> 13)) * 0xC2B2AE35u;
  h ^= h >> 16;
  return ((h >> 8) + 0.5f) / 16777216.0f;
}
"""


def _seed(node: ir.Node) -> int:
    given = attribute(node, "seed")
    if given is None:
        return zlib.crc32((node.name or node.outputs[0].name or "").encode())
    return int.from_bytes(struct.pack("<f", given), "little")


def lower_random(builder: Builder, node: ir.Node) -> None:
    """``RandomUniform``, ``RandomNormal`` and their ``Like`` forms."""
    y, seed = node.outputs[0], _seed(node)
    dims = builder.shape(y)
    if "Normal" in node.op_type:
        mean, scale = attribute(node, "mean", 0.0), attribute(node, "scale", 1.0)
        size = f"sqrt(-2.0f * log(ENTRY_uniform(2u * at, {seed}u)))"
        value = f"{scale!r}f * {size} * cospi(2.0f * ENTRY_uniform(2u * at + 1u, {seed}u)) + {mean!r}f"
    else:
        low, high = attribute(node, "low", 0.0), attribute(node, "high", 1.0)
        value = f"{low!r}f + {high - low!r}f * ENTRY_uniform(at, {seed}u)"
    write = Operand(builder.type(y), Access(contiguous(dims)))
    problem = Map(node.op_type.lower(), dims, (), write, f"r = {value};", _HASH, 20)
    builder.emit(problem, [], builder.allocate(y, "nchw"), node)


def lower_bernoulli(builder: Builder, node: ir.Node) -> None:
    """1 with the probability that x gives, else 0."""
    x = node.inputs[0]
    assert x is not None
    access = Access(contiguous(builder.shape(x)))
    emit_node(builder, node, [(x, access)], f"r = ENTRY_uniform(at, {_seed(node)}u) < a0;", functions=_HASH, work=10)
