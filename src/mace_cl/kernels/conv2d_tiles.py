"""Text of convolutions: a work-item's tile of pixels and channels in registers."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, tile_starts
from mace_cl.kernels.epilogue import masked
from mace_cl.kernels.views import View, view
from mace_cl.kernels.windows import TileClass, Window, alternatives, tile_classes, tile_start
from mace_cl.plan import Parameters, Rendered

if TYPE_CHECKING:
    from mace_cl.kernels.conv2d import Conv2D

__all__ = ["Size", "Weights", "add_part", "finish", "in_registers", "take_total", "zeros"]

Size = tuple[int, int]
"""Blocks of channels and pixels of a work-item's tile."""


@dataclass(frozen=True)
class Weights:
    """How the packed weights are read: by vectors, at a pointer ``wp`` or as texels from the index ``wp`` on."""

    c: int
    image: bool

    @property
    def step(self) -> int:
        """What one vector counts in an offset."""
        return 1 if self.image else self.c

    def begin(self, index: str, vectors: int) -> str:
        """Declares ``wp``, where the part ``index`` of so many vectors begins."""
        at = f"{index} * {vectors * self.step}"
        return f"const int wp = {at};" if self.image else f"__global const float *restrict wp = w + {at};"

    def load(self, offset: str) -> str:
        """The vector at an offset from ``wp``, in steps."""
        return f"read_imagef(w, wp + {offset})" if self.image else f"LOAD(wp + {offset})"


def in_registers(problem: Conv2D, entry: str, parameters: Parameters) -> Rendered:
    """OpenCL C of a convolution whose work-items know nothing of each other."""
    window = problem.window
    height, width = window.output
    tile = min(parameters["tile"], width)
    sources = [f"in{index}" for index in range(problem.sources)] if problem.gather else ["x"]
    reads = [*sources, "w"] + (["b"] if problem.bias else []) + list(problem.epilogue.names)
    axes = (0, 1, 2) if parameters["channels_first"] else (2, 1, 0)
    weights = Weights(problem.c, bool(parameters.get("image")))
    images = (reads.index("w"),) if weights.image else ()
    code = Code()
    with code.block(kernel_head(entry, reads, "y", images=[reads[index] for index in images])):
        code.add(f"const int group = get_global_id({axes[0]});")
        code.add(f"const int line = get_global_id({axes[1]});")
        code.add(f"const int tile = get_global_id({axes[2]});")
        code.add(f"const int n = line / {height}, oh = line % {height};")
        code.add(f"const int first = group * {parameters['blocks']};")
        code.add(f"const int ow = {tile_start(width, tile)};")
        code.add(*window.row_bounds())
        size = parameters["blocks"], tile
        zeros(code, "a", size)
        if problem.gather:
            _accumulate_gathered(code, problem, entry, size, weights)
        else:
            for condition, one in alternatives(tile_classes(window, tile)):
                with code.block(condition) if condition else nullcontext():
                    _accumulate(code, problem, size, weights, one)
        finish(code, problem, entry, size)
    groups = problem.groups * ceil_div(problem.blocks, parameters["blocks"])
    grid = (groups, problem.batch * height, len(tile_starts(width, tile)))
    head = prelude(problem.c) + (_offsets(problem, entry) if problem.gather else "") + problem.epilogue.function(entry)
    return Rendered(head + code.text(), (grid[axes[0]], grid[axes[1]], grid[axes[2]]), images=images)


def _offsets(problem: Conv2D, entry: str) -> str:
    """Where the gathered channels lie in their operands, in floats."""
    c, pixels = problem.c, prod(problem.window.input)
    channels = [problem.gather[index][1] for index in problem.channel_order]
    offsets = ", ".join(str(channel // c * pixels * c + channel % c) for channel in channels)
    return f"__constant int {entry}_offset[] = {{{offsets}}};\n"


def zeros(code: Code, name: str, size: Size) -> None:
    """Declares sums that begin at zero: ``a`` of a part, ``s`` of all parts."""
    code.add(f"vec {name}[{size[0]}][{size[1]}] = {{{{(vec)(0.0f)}}}};")


def add_part(code: Code, size: Size) -> None:
    """Adds the sums of a part to the total, and begins another."""
    with code.unrolled("r", size[0]), code.unrolled("t", size[1]):
        code.add("s[r][t] += a[r][t];", "a[r][t] = (vec)(0.0f);")


def take_total(code: Code, size: Size) -> None:
    """Makes the totals what `finish` stores."""
    with code.unrolled("r", size[0]), code.unrolled("t", size[1]):
        code.add("a[r][t] = s[r][t];")


def finish(code: Code, problem: Conv2D, entry: str, size: Size, width: int = 0) -> None:
    """Bias, epilogue and store; with ``width`` of the pixels before that alone."""
    (r, t), c, oc = size, problem.c, problem.channels[1]
    y = view(problem.layouts[1], c, oc, *problem.window.output)
    total = problem.groups * problem.blocks
    mask = problem.layouts[1] == "blocked" and oc % c != 0 and not problem.epilogue.keeps_zero()
    lanes = problem.layouts[1] != "blocked" and oc % c != 0
    with code.unrolled("r", r), code.block(f"if (first + r < {total})") if total % r else nullcontext():
        code.add(f"const int at = n * {y.image} + (first + r) * {y.block} + oh * {y.row} + ow * {y.column};")
        channel = f"(first + r) * {c}"
        if problem.bias:
            code.add(f"const vec bias = LOAD(b + {channel});")
        last, here = f"(first + r == {total - 1})", f"at + t * {y.column}"
        with code.unrolled("t", t), code.block(f"if (ow + t < {width})") if width else nullcontext():
            given = "a[r][t] + bias" if problem.bias else "a[r][t]"
            value = problem.epilogue.call(entry, given, here, channel, f"n * {total * c} + {channel}")
            if mask or lanes:
                code.add(f"const vec value = {value};")
                value = masked(code, "value", c, oc % c, last) if mask else "value"
            _store(code, f"y + {here}", value, last, (oc % c, c) if lanes else None)


def _store(code: Code, pointer: str, value: str, last: str, lanes: tuple[int, int] | None) -> None:
    """``lanes``: where the result is not blocked, so many of the last block's channels are there, and of others'."""
    if lanes is None:
        code.add(f"STORE({pointer}, {value});")
        return
    stores = [f"({pointer})[{lane}] = {value}.s{lane:x};" for lane in range(lanes[1])]
    code.add(f"if ({last}) {{ {' '.join(stores[: lanes[0]])} }} else {{ {' '.join(stores)} }}")


def _accumulate(code: Code, problem: Conv2D, size: Size, weights: Weights, one: TileClass) -> None:
    c, window, block = problem.c, problem.window, problem.input_block
    r, (kh, kw) = size[0], window.kernel
    per_group = problem.channels[0] // problem.groups
    blocks, tail = ceil_div(per_group, block), per_group % block
    x = view(problem.layouts[0], c, problem.channels[0], *window.input)
    block_stride = x.block if block == c else x.channel * block
    icb = f"(first / {problem.blocks} * {blocks} + icb)" if problem.groups > 1 else "icb"
    parts = blocks > problem.part
    if parts:
        zeros(code, "s", size)
    with code.loop("icb", blocks):
        if tail:
            code.add(f"const int channels = icb == {blocks - 1} ? {tail} : {block};")
        with code.loop("kh", "k1", "k0"):
            row, column = f"(top + kh * {window.dilations[0]})", f"(ow * {window.strides[1]} - {window.pads[1]})"
            at = f"n * {x.image} + {icb} * {block_stride} + {row} * {x.row} + {column} * {x.column}"
            code.add(f"__global const float *restrict xp = x + {at};")
            code.add(weights.begin(f"((group * {blocks} + icb) * {kh} + kh)", kw * block * r))
            pixels = _stage(code, window, one, x, (block, c)) if problem.staged else _Pixels("xp", x.column, x.channel)
            for (begin, end), inside in one.columns():
                columns = code.unrolled if block == 1 else code.loop  # one channel alone is too little work for a loop
                with columns("kw", end, begin), code.loop("ic", "channels" if tail else block):
                    at = f"(kw * {block} + ic) * {r * weights.step}"
                    place = f"t * {window.strides[1]} + kw * {window.dilations[1]}"
                    _multiply(code, (place, pixels), size, inside, (weights, at))
        if parts:
            with code.block(f"if (icb % {problem.part} == {problem.part - 1} || icb == {blocks - 1})"):
                add_part(code, size)
    if parts:
        take_total(code, size)


def _accumulate_gathered(code: Code, problem: Conv2D, entry: str, size: Size, weights: Weights) -> None:
    (r, t), c, done = size, problem.c, 0
    code.add(weights.begin("group", problem.channels[0] * r))
    for source in range(problem.sources):
        count = sum(1 for one, _ in problem.gather if one == source)
        with code.loop("ic", done + count, done):
            code.add(f"__global const float *restrict xp = in{source} + ow * {c} + {entry}_offset[ic];")
            _multiply(code, ("t", _Pixels("xp", c, 0)), size, (0, t), (weights, f"ic * {r * weights.step}"))
        done += count


@dataclass(frozen=True)
class _Pixels:
    """Where a channel of a pixel lies: from ``array`` on, ``first`` being the column there."""

    array: str
    column: int
    channel: int
    first: int = 0

    def at(self, column: str) -> str:
        """The number in that column, of the channel ``ic``."""
        place = f"({column}{f' - {self.first}' if self.first else ''}) * {self.column}"
        return f"{self.array}[{place}{f' + ic * {self.channel}' if self.channel else ''}]"


def _stage(code: Code, window: Window, one: TileClass, x: View, block: tuple[int, int]) -> _Pixels:
    """Copies a block of channels, vector by vector, of all columns that a tile needs."""
    pairs = [(k, pixel) for k, valid in enumerate(one.valid) for pixel, inside in enumerate(valid) if inside]
    columns = [pixel * window.strides[1] + k * window.dilations[1] for k, pixel in pairs]
    first, count, (channels, c) = min(columns), max(columns) - min(columns) + 1, block
    code.add(f"vec near[{count * channels // c}];", "const float *xs = (const float *)near;")
    with code.unrolled("t", count), code.unrolled("part", channels // c):
        code.add(f"near[t * {channels // c} + part] = LOAD(xp + (t + {first}) * {x.column} + part * {c});")
    return _Pixels("xs", channels, 1, first)


def _multiply(
    code: Code, place: tuple[str, _Pixels], size: Size, inside: tuple[int, int], weights: tuple[Weights, str]
) -> None:
    """Products of the pixels ``inside``, of one channel, with the weights at an offset."""
    (column, pixels), (reader, at) = place, weights
    code.add(f"vec weight[{size[0]}];")
    with code.unrolled("r", size[0]):
        code.add(f"weight[r] = {reader.load(f'{at} + r * {reader.step}')};")
    with code.unrolled("t", inside[1], inside[0]):
        code.add(f"const vec v = (vec)({pixels.at(column)});")
        with code.unrolled("r", size[0]):
            code.add("a[r][t] = v * weight[r] + a[r][t];")
