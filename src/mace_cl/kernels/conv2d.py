"""Direct convolution and matrix product: T pixels × R channel blocks in registers.

One work-item computes ``tile`` neighbouring pixels of one output row for ``blocks`` blocks of c output
channels.  The accumulators are named variables, fully unrolled, so that the compiler keeps them in
vector registers.  Padding costs nothing: columns are resolved when the text is made, per class of
tile; rows bound the loop over the kernel's height.  Weights are packed
``[OC group][IC block][KH][KW][ic][block][c]``, so that one work-item reads them in order.

A 1×1 convolution of stride 1 runs over all pixels as one row; a matrix product is that with layout
``nhwc``: rows are pixels, columns are channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.kernels.base import Code, ceil_div, kernel_head, pad_to, prelude, tile_starts
from mace_cl.kernels.epilogue import IDENTITY, Epilogue, masked
from mace_cl.kernels.views import View, view
from mace_cl.kernels.windows import TileClass, Window, tile_classes, tile_start
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Conv2D"]


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
        block = self._input_block
        whole = self.layouts[0] == "blocked" or self.channels[0] // self.groups % block == 0
        return self.layouts[0] != "nchw" and not self.gather and whole and block % self.c == 0

    @property
    def _sources(self) -> int:
        """How many operands x is."""
        return 1 + max((source for source, _ in self.gather), default=0)

    @property
    def _order(self) -> list[int]:
        """The input channels in the order of computation: with a gather, source by source."""
        return sorted(range(len(self.gather)), key=lambda index: self.gather[index][0])

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.channels[1] * self._depth * int(np.prod(self.window.output))

    @property
    def _depth(self) -> int:
        return self.channels[0] // self.groups * int(np.prod(self.window.kernel))

    @property
    def _blocks(self) -> int:
        """Blocks of output channels per group."""
        return ceil_div(self.channels[1] // self.groups, self.c)

    @property
    def _input_block(self) -> int:
        """Input channels of one step of the outer loop."""
        per_group = self.channels[0] // self.groups
        if self.gather:
            return per_group
        return {"blocked": self.c, "nchw": 1, "nhwc": min(per_group, 128)}[self.layouts[0]]

    @property
    def _part(self) -> int:
        """Input blocks whose products are summed before they are added to the total.

        Short chains keep rounding errors small.  These are the lengths that ONNX Runtime's kernels use
        (16 channels, 128 for a 1×1 kernel, one for a row-major input), so that results are equal to its.
        """
        if self.layouts[0] == "nchw":
            return 1
        return max(1, (128 if self.window.kernel == (1, 1) else 16) // self._input_block)

    @property
    def _flat(self) -> Conv2D:
        """The same convolution over one long row, where that is the same."""
        w = self.window
        if not (w.kernel == w.strides == (1, 1) and w.pads == (0, 0) and w.input == w.output):
            return self
        row = (1, w.input[0] * w.input[1])
        return replace(self, window=Window(row, row, (1, 1)))

    def space(self, traits: Traits) -> Iterator[dict[str, int]]:
        """All legal parameters: T·R accumulators and R weights must fit the vector registers."""
        width = self._flat.window.output[1]
        most = max(1, traits.vector_registers - 4)
        for blocks in (1, 2, 3, 4, 6, 8):
            if blocks > self._blocks or (self.groups > 1 and self._blocks % blocks):
                continue
            for tile in range(1, min(width, most // blocks) + 1):
                for channels_first in (0, 1):
                    yield {"tile": tile, "blocks": blocks, "channels_first": channels_first}

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
        groups = self.groups * ceil_div(self._blocks, r)
        items = self.batch * tiles * groups
        step = max(t * r, 8) + 0.6 * r + 0.15 * t + 1.0
        parts = self._depth / (self._part * self._input_block * np.prod(self.window.kernel))
        add = 1 if 2 * t * r + r < traits.vector_registers else 5
        work = items * (self._depth * step + (parts * add * t * r if parts > 1 else 0) + 8 * t * r + 250)
        weights = self._depth * groups * r * self.c * 4
        image = int(np.prod(window.input)) * self.channels[0] * 4
        if parameters["channels_first"]:
            far = image + weights * (tiles if weights > traits.near_cache else 1)
        else:
            far = weights + image * (groups if image > traits.near_cache else 1)
        rounds = ceil_div(items, traits.cores) * traits.cores / items
        return work * rounds + far / 24

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        r = parameters["blocks"]
        if operand != self._sources:
            per_group = pad_to(array.reshape(self.groups, -1), 1, r * self.c)
            return np.ascontiguousarray(per_group, dtype=np.float32).reshape(-1)
        oc, ic, kh, kw = array.shape
        block = self._input_block
        array = array[:, self._order] if self.gather else array
        padded = pad_to(array.reshape(self.groups, oc // self.groups, ic, kh, kw), 1, r * self.c)
        padded = pad_to(padded, 2, block)
        split = padded.reshape(-1, r, self.c, padded.shape[2] // block, block, kh, kw)
        return np.ascontiguousarray(split.transpose(0, 3, 5, 6, 4, 1, 2), dtype=np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        return _render(self._flat, entry, parameters)


def _render(problem: Conv2D, entry: str, parameters: Parameters) -> Rendered:
    window = problem.window
    height, width = window.output
    tile = min(parameters["tile"], width)
    sources = [f"in{index}" for index in range(problem._sources)] if problem.gather else ["x"]
    reads = [*sources, "w"] + (["b"] if problem.bias else []) + list(problem.epilogue.names)
    axes = (0, 1, 2) if parameters["channels_first"] else (2, 1, 0)
    code = Code()
    with code.block(kernel_head(entry, reads, "y")):
        code.add(f"const int group = get_global_id({axes[0]});")
        code.add(f"const int line = get_global_id({axes[1]});")
        code.add(f"const int tile = get_global_id({axes[2]});")
        code.add(f"const int n = line / {height}, oh = line % {height};")
        code.add(f"const int first = group * {parameters['blocks']};")
        code.add(f"const int ow = {tile_start(width, tile)};")
        code.add(*window.row_bounds())
        classes = tile_classes(window, tile)
        for number, one in enumerate(classes):
            condition = "" if number == len(classes) - 1 else one.condition()
            with code.block(" ".join(filter(None, ("else" if number else "", condition)))):
                _tile(code, problem, entry, parameters["blocks"], tile, one)
    groups = problem.groups * ceil_div(problem._blocks, parameters["blocks"])
    size = (groups, problem.batch * height, len(tile_starts(width, tile)))
    head = prelude(problem.c) + (_offsets(problem, entry) if problem.gather else "")
    return Rendered(head + code.text(), (size[axes[0]], size[axes[1]], size[axes[2]]))


def _offsets(problem: Conv2D, entry: str) -> str:
    """Where the gathered channels lie in their operands, in floats."""
    c, pixels = problem.c, int(np.prod(problem.window.input))
    channels = [problem.gather[index][1] for index in problem._order]
    offsets = ", ".join(str(channel // c * pixels * c + channel % c) for channel in channels)
    return f"__constant int {entry}_offset[] = {{{offsets}}};\n"


def _tile(code: Code, problem: Conv2D, entry: str, r: int, t: int, one: TileClass) -> None:
    c, oc, epilogue = problem.c, problem.channels[1], problem.epilogue
    y = view(problem.layouts[1], c, oc, *problem.window.output)
    for block in range(r):
        code.add("vec " + ", ".join(f"a{block}_{pixel} = (vec)(0.0f)" for pixel in range(t)) + ";")
    if problem.gather:
        _accumulate_gathered(code, problem, entry, r, t)
    else:
        _accumulate(code, problem, r, t, one)
    total = problem.groups * problem._blocks
    mask = problem.layouts[1] == "blocked" and oc % c != 0 and not epilogue.keeps_zero()
    for block in range(r):
        with code.block(f"if (first + {block} < {total})" if total % r and block else ""):
            code.add(f"const int at = n * {y.image} + (first + {block}) * {y.block} + oh * {y.row} + ow * {y.column};")
            channel = f"(first + {block}) * {c}"
            if problem.bias:
                code.add(f"const vec bias = LOAD(b + {channel});")
                code.add(" ".join(f"a{block}_{pixel} += bias;" for pixel in range(t)))
            last = f"(first + {block} == {total - 1})"
            for pixel in range(t):
                here = f"at + {pixel * y.column}"
                gate = f"n * {total * c} + {channel}"
                lines, value = epilogue.code(f"a{block}_{pixel}", here, channel, gate, f"v{pixel}_")
                code.add(*lines)
                if mask:
                    value = masked(code, value, c, oc % c, last)
                _store(code, problem, f"y + {here}", value, last)


def _store(code: Code, problem: Conv2D, pointer: str, value: str, last: str) -> None:
    c, tail = problem.c, problem.channels[1] % problem.c
    if problem.layouts[1] == "blocked" or tail == 0:
        code.add(f"STORE({pointer}, {value});")
        return
    lanes = [f"({pointer})[{lane}] = {value}.s{lane:x};" for lane in range(c)]
    code.add(f"if ({last}) {{ {' '.join(lanes[:tail])} }} else {{ {' '.join(lanes)} }}")


def _accumulate(code: Code, problem: Conv2D, r: int, t: int, one: TileClass) -> None:
    c, window, block = problem.c, problem.window, problem._input_block
    kh, kw = window.kernel
    per_group = problem.channels[0] // problem.groups
    blocks, tail = ceil_div(per_group, block), per_group % block
    x = view(problem.layouts[0], c, problem.channels[0], *window.input)
    block_stride = x.block if block == c else x.channel * block
    icb = f"(first / {problem._blocks} * {blocks} + icb)" if problem.groups > 1 else "icb"
    names = [[f"{index}_{pixel}" for pixel in range(t)] for index in range(r)]
    parts = blocks > problem._part
    if parts:
        for sums in names:
            code.add("vec " + ", ".join(f"s{name} = (vec)(0.0f)" for name in sums) + ";")
    with code.block(f"for (int icb = 0; icb < {blocks}; ++icb)"):
        if tail:
            code.add(f"const int channels = icb == {blocks - 1} ? {tail} : {block};")
        with code.block("for (int kh = k0; kh < k1; ++kh)"):
            row, column = f"(top + kh * {window.dilations[0]})", f"(ow * {window.strides[1]} - {window.pads[1]})"
            at = f"n * {x.image} + {icb} * {block_stride} + {row} * {x.row} + {column} * {x.column}"
            weights = f"((group * {blocks} + icb) * {kh} + kh) * {kw * block * r * c}"
            code.add(f"__global const float *restrict xp = x + {at};")
            code.add(f"__global const float *restrict wp = w + {weights};")
            staged = _stage(code, window, one, x.column, (block, c)) if problem.staged else {}
            for k in range(kw):
                if any(one.valid[k]):
                    with code.block(f"for (int ic = 0; ic < {'channels' if tail else block}; ++ic)"):
                        at = f"{k * block * r * c} + ic * {r * c}"
                        _multiply(code, window, x, k, (r, t), one.valid[k], at, c, staged)
        if parts:
            with code.block(f"if (icb % {problem._part} == {problem._part - 1} || icb == {blocks - 1})"):
                for sums in names:
                    code.add(" ".join(f"s{name} += a{name}; a{name} = (vec)(0.0f);" for name in sums))
    if parts:
        for sums in names:
            code.add(" ".join(f"a{name} = s{name};" for name in sums))


def _accumulate_gathered(code: Code, problem: Conv2D, entry: str, r: int, t: int) -> None:
    c, done = problem.c, 0
    code.add(f"__global const float *restrict wp = w + group * {problem.channels[0] * r * c};")
    for source in range(problem._sources):
        count = sum(1 for one, _ in problem.gather if one == source)
        with code.block(f"for (int ic = {done}; ic < {done + count}; ++ic)"):
            code.add(f"__global const float *restrict xp = in{source} + ow * {c} + {entry}_offset[ic];")
            pixels = View(0, 0, 0, c, 0)
            _multiply(code, problem.window, pixels, 0, (r, t), (True,) * t, f"ic * {r * c}", c)
        done += count


def _stage(code: Code, window: Window, one: TileClass, step: int, block: tuple[int, int]) -> dict[int, int]:
    """Copies a block of channels, vector by vector, of all columns that a tile needs; where each lies, by column."""
    pairs = [(k, pixel) for k, valid in enumerate(one.valid) for pixel, inside in enumerate(valid) if inside]
    columns = sorted({pixel * window.strides[1] + k * window.dilations[1] for k, pixel in pairs})
    channels, c = block
    code.add(f"vec near[{len(columns) * channels // c}];", "const float *xs = (const float *)near;")
    places = [(column, part) for column in columns for part in range(channels // c)]
    code.add(*(f"near[{index}] = LOAD(xp + {a * step + b * c});" for index, (a, b) in enumerate(places)))
    return {column: index * channels for index, column in enumerate(columns)}


def _multiply(
    code: Code,
    window: Window,
    x: View,
    k: int,
    size: tuple[int, int],
    valid: tuple[bool, ...],
    weights: str,
    c: int,
    staged: Mapping[int, int] = MappingProxyType({}),
) -> None:
    for index in range(size[0]):
        code.add(f"const vec w{index} = LOAD(wp + {weights} + {index * c});")
    step = {0: "0", 1: "ic"}.get(x.channel, f"ic * {x.channel}")
    for pixel in range(size[1]):
        if valid[pixel]:
            column = pixel * window.strides[1] + k * window.dilations[1]
            load = f"xs[{staged[column]} + {step}]" if staged else f"xp[{column * x.column} + {step}]"
            sums = " ".join(f"a{index}_{pixel} = x{pixel} * w{index} + a{index}_{pixel};" for index in range(size[0]))
            code.add(f"const vec x{pixel} = (vec)({load}); {sums}")
