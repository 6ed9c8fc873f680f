"""mace_cl::ChannelGather: runs of whole blocks are views or copies, everything else one kernel."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.graph import attribute
from mace_cl.kernels.channel_gather import ChannelGather
from mace_cl.kernels.elementwise import Access, Elementwise
from mace_cl.ops.builder import Builder
from mace_cl.plan import Region

__all__ = ["lower_channel_gather"]


def lower_channel_gather(builder: Builder, node: ir.Node) -> None:
    """Inputs are rank-4, one image; ``sources`` and ``channels`` say where each channel comes from."""
    y, c = node.outputs[0], builder.block
    sources, channels = attribute(node, "sources"), attribute(node, "channels")
    inputs = [value for value in node.inputs if value is not None]
    pixels = builder.shape(y)[2] * builder.shape(y)[3]
    regions = [builder.blocked(value) for value in inputs]
    runs = _runs(sources, channels)
    whole = all(start % c == first % c == count % c == 0 for start, _, first, count in runs)
    aligned = all(
        4 * first * pixels % builder.layout.view_alignment == 0
        for start, _, first, _ in runs
        for first in (first, start)
    )
    if len(runs) == 1 and whole and aligned:
        ((_, source, first, count),) = runs
        region = regions[source]
        builder.place(y, "blocked", Region(region.buffer, region.offset + 4 * first * pixels, 4 * count * pixels))
        return
    target = builder.allocate(y, "blocked")
    if whole and aligned:
        for start, source, first, count in runs:
            region, size = regions[source], count * pixels
            part = Region(region.buffer, region.offset + 4 * first * pixels, 4 * size)
            place = Region(target.buffer, target.offset + 4 * start * pixels, 4 * size)
            builder.emit(Elementwise(c, (size,), (Access((1,)), Access((1,)))), [part], place, node)
        return
    problem = ChannelGather(c, pixels, len(inputs), tuple(sources), tuple(channels))
    builder.emit(problem, regions, target, node)


def _runs(sources: list[int], channels: list[int]) -> list[tuple[int, int, int, int]]:
    """Consecutive channels of one source: (first of the result, source, its first channel, count)."""
    runs: list[tuple[int, int, int, int]] = []
    for index, (source, channel) in enumerate(zip(sources, channels, strict=True)):
        if runs and runs[-1][1] == source and runs[-1][2] + runs[-1][3] == channel:
            start, _, first, count = runs[-1]
            runs[-1] = (start, source, first, count + 1)
        else:
            runs.append((index, source, channel, 1))
    return runs
