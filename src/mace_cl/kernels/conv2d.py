"""Direct convolution and matrix product: T pixels × R channel blocks in registers.

One work-item computes ``tile`` neighbouring pixels of one output row for ``blocks`` blocks of c output
channels.  The accumulators are an array whose loops are all unrolled, so that the compiler keeps them in
vector registers.  Padding costs nothing: columns are resolved when the text is made, per class of
tile; rows bound the loop over the kernel's height.  Weights are packed
``[OC group][IC block][KH][KW][ic][block][c]``, so that one work-item reads them in order.

A 1×1 convolution of stride 1 runs over all pixels as one row; a matrix product is that with layout
``nhwc``: rows are pixels, columns are channels.  There, on a device with local memory of its own, a work-group may
first copy what its work-items share: ``local`` blocks of c input channels at a time, of all their pixels and weights.
Weights may be read as an image (``image``), as GPUs with a texture cache like it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.kernels.base import ceil_div, pad_to
from mace_cl.kernels.conv2d_groups import in_groups
from mace_cl.kernels.conv2d_tiles import in_registers
from mace_cl.kernels.epilogue import IDENTITY, Epilogue
from mace_cl.kernels.groups import shapes, with_groups
from mace_cl.kernels.windows import Window
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Conv2D"]

_TEXEL = 4
"""Floats that an image holds at each place."""


@dataclass(frozen=True)
class Conv2D:
    """``Conv`` with 2-D kernels; ``channels`` are (in, out), ``layouts`` those of x and of the result.

    Operands: x, weights ``[OC, IC/groups, KH, KW]``, bias ``[OC]`` if ``bias``, the epilogue's.
    With ``groups`` > 1, channels per group must be multiples of c on both sides.  With ``gather``, for
    which `can_gather` must hold, x is several operands of the same rows and columns, and input channel i
    is channel ``gather[i][1]`` of operand ``gather[i][0]``.  With ``staged``, for which `can_stage` must hold, what a
    step needs of x is read by vectors into private memory first: worth it where reading converts.
    """

    c: int
    batch: int
    channels: tuple[int, int]
    window: Window
    groups: int = 1
    bias: bool = True
    layouts: tuple[str, str] = ("blocked", "blocked")
    epilogue: Epilogue = IDENTITY
    gather: tuple[tuple[int, int], ...] = ()
    staged: bool = False

    @property
    def family(self) -> str:
        return "conv2d"

    @property
    def can_gather(self) -> bool:
        """Whether each result hangs on one pixel of one image alone, and all of its channels."""
        pointwise = self.window.kernel == self.window.strides == (1, 1) and self.window.pads == (0, 0)
        return pointwise and self.batch == self.groups == 1 and self.layouts[0] == "blocked" and not self.gather

    @property
    def can_stage(self) -> bool:
        """Whether a step's input channels are whole vectors."""
        block = self.input_block
        whole = self.layouts[0] == "blocked" or self.channels[0] // self.groups % block == 0
        return self.layouts[0] != "nchw" and not self.gather and whole and block % self.c == 0

    @property
    def sources(self) -> int:
        """How many operands x is."""
        return 1 + max((source for source, _ in self.gather), default=0)

    @property
    def channel_order(self) -> list[int]:
        """The input channels in the order of computation: with a gather, source by source."""
        return sorted(range(len(self.gather)), key=lambda index: self.gather[index][0])

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.channels[1] * self._depth * prod(self.window.output)

    @cached_property
    def _depth(self) -> int:
        return self.channels[0] // self.groups * prod(self.window.kernel)

    @property
    def blocks(self) -> int:
        """Blocks of output channels per group."""
        return ceil_div(self.channels[1] // self.groups, self.c)

    @property
    def input_block(self) -> int:
        """Input channels of one step of the outer loop."""
        per_group = self.channels[0] // self.groups
        if self.gather:
            return per_group
        return {"blocked": self.c, "nchw": 1, "nhwc": min(per_group, 128)}[self.layouts[0]]

    @property
    def packed_depth(self) -> int:
        """Input channels of a group as the weights are packed: whole steps."""
        return ceil_div(self.channels[0] // self.groups, self.input_block) * self.input_block

    @property
    def part(self) -> int:
        """Input blocks whose products are summed before they are added to the total.

        Short chains keep rounding errors small.  These are the lengths that ONNX Runtime's kernels use
        (16 channels, 128 for a 1×1 kernel, one for a row-major input), so that results are equal to its.
        """
        if self.layouts[0] == "nchw":
            return 1
        return max(1, (128 if self.window.kernel == (1, 1) else 16) // self.input_block)

    @property
    def _is_pointwise(self) -> bool:
        """Whether each pixel of the result hangs on the same pixel of x alone."""
        w = self.window
        return w.kernel == w.strides == (1, 1) and w.pads == (0, 0) and w.input == w.output

    @cached_property
    def _flat(self) -> Conv2D:
        """The same convolution over one long row, where that is the same."""
        w = self.window
        if not self._is_pointwise:
            return self
        row = (1, w.input[0] * w.input[1])
        return replace(self, window=Window(row, row, (1, 1)))

    @property
    def can_share(self) -> bool:
        """Whether a work-group may copy what its work-items share into local memory first."""
        return self._is_pointwise and self.layouts[0] != "nchw" and not self.gather

    def space(self, traits: Traits) -> Iterator[dict[str, int]]:
        """All legal parameters: T·R accumulators and R weights must fit the vector registers.

        For other devices than CPUs also the work-group: ``group`` work-items, and where they share local memory, how
        many of them lie ``across`` the pixels.
        """
        width = self._flat.window.output[1]
        most = max(1, traits.vector_registers - 4)
        for blocks in (1, 2, 3, 4, 6, 8):
            if blocks > self.blocks or (self.groups > 1 and self.blocks % blocks):
                continue
            for tile in range(1, min(width, most // blocks) + 1):
                plain = ({"tile": tile, "blocks": blocks, "channels_first": first} for first in (0, 1))
                if traits.is_cpu:
                    yield from plain
                    continue
                images = (0, 1) if self.c == _TEXEL and self._weights(blocks) <= traits.texels else (0,)
                for one in with_groups(plain, traits):
                    yield from ({**one, "image": image} for image in images)
                if self.can_share:
                    shared = {"tile": tile, "blocks": blocks, "channels_first": 0}
                    yield from (
                        {**shared, **one, "image": image} for one in self._shares(shared, traits) for image in images
                    )

    def _shares(self, parameters: Parameters, traits: Traits) -> Iterator[dict[str, int]]:
        """Work-groups that share, and input blocks that local memory has room for in two groups at a time."""
        part, per_group = self.part * self.input_block, self.channels[0] // self.groups
        for group in shapes(traits):
            for across in (4, 8, 16, 32):
                pixels, vectors = across * parameters["tile"], group["group"] // across * parameters["blocks"]
                for local in (1, 2, 4, 8):
                    size = 4 * local * self.c * (pixels + vectors * self.c)
                    whole = part % (local * self.c) == 0 or per_group <= part
                    if across <= group["group"] and whole and 2 * size <= traits.local_memory:
                        yield {**group, "across": across, "local": local}

    def _weights(self, blocks: int) -> int:
        """Vectors of weights, packed."""
        taps = prod(self.window.kernel)
        return self.groups * ceil_div(self.blocks, blocks) * blocks * self.packed_depth * taps

    def default(self, traits: Traits) -> dict[str, int]:
        return min(self.space(traits), key=lambda parameters: self.cost(parameters, traits))

    def cost(self, parameters: Parameters, traits: Traits) -> float:
        """Estimated time, in vector multiply-adds of one core.

        Per input channel a work-item does T·R multiply-adds and reads R weight vectors; fewer than 8
        accumulators leave the multiply-add pipelines waiting (latency 4, two ports).  Sums in parts need
        twice the registers, or go through memory at the end of each part.  What does not fit the near
        cache is read again from further away.
        """
        window = self._flat.window
        height, width = window.output
        t, r = parameters["tile"], parameters["blocks"]
        tiles = height * ceil_div(width, t)
        if not traits.is_cpu:
            return self._cost_in_groups(parameters, traits, tiles)
        groups = self.groups * ceil_div(self.blocks, r)
        items = self.batch * tiles * groups
        step = max(t * r, 8) + 0.6 * r + 0.15 * t + 1.0
        parts = self._depth / (self.part * self.input_block * prod(self.window.kernel))
        add = 1 if 2 * t * r + r < traits.vector_registers else 5
        work = items * (self._depth * step + (parts * add * t * r if parts > 1 else 0) + 8 * t * r + 250)
        weights = self._depth * groups * r * self.c * 4
        image = prod(window.input) * self.channels[0] * 4
        if parameters["channels_first"]:
            far = image + weights * (tiles if weights > traits.near_cache else 1)
        else:
            far = weights + image * (groups if image > traits.near_cache else 1)
        rounds = ceil_div(items, traits.cores) * traits.cores / items
        return work * rounds + far / 24

    def _cost_in_groups(self, parameters: Parameters, traits: Traits, tiles: int) -> float:
        """Estimated time on a GPU, ``tiles`` in an image, in multiply-adds of a lane; counted, not measured.

        A compute unit runs 128 lanes.  A load from global memory takes as long as 4 multiply-adds, one from local
        memory as long as 2, a barrier as 40.
        """
        c, t, r = self.c, parameters["tile"], parameters["blocks"]
        loads, rows = 4.0 * (t + r), ceil_div(self.blocks, r)
        if local := parameters.get("local", 0):
            across, high = parameters["across"], parameters["group"] // parameters["across"]
            loads = 2.0 * (t / c + r) + 4.0 * (t / high / c + r / across) + 2 * 40 / (local * c)
            tiles, rows = ceil_div(tiles, across) * across, ceil_div(rows, high) * high
        items = self.batch * self.groups * tiles * rows
        return max(1.0, items / (traits.cores * 128)) * (self._depth * (t * r * c + loads) + 8 * t * r * c + 300)

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        r = parameters["blocks"]
        if operand != self.sources:
            per_group = pad_to(array.reshape(self.groups, -1), 1, r * self.c)
            return np.ascontiguousarray(per_group, dtype=np.float32).reshape(-1)
        oc, ic, kh, kw = array.shape
        block = self.input_block
        array = array[:, self.channel_order] if self.gather else array
        padded = pad_to(array.reshape(self.groups, oc // self.groups, ic, kh, kw), 1, r * self.c)
        padded = pad_to(padded, 2, block)
        split = padded.reshape(-1, r, self.c, padded.shape[2] // block, block, kh, kw)
        return np.ascontiguousarray(split.transpose(0, 3, 5, 6, 4, 1, 2), dtype=np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        return (in_groups if parameters.get("local") else in_registers)(self._flat, entry, parameters)
