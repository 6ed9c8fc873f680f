"""Text of convolutions: a work-item's tile of pixels and channels in registers."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, tile_starts
from mace_cl.kernels.epilogue import masked
from mace_cl.kernels.views import View, view
from mace_cl.kernels.windows import TileClass, Window, alternatives, tile_classes, tile_start
from mace_cl.plan import Parameters, Rendered

if TYPE_CHECKING:
    from mace_cl.kernels.conv2d import Conv2D

__all__ = ["Weights", "add_part", "finish", "in_registers", "sum_names", "take_total", "zeros"]


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
        names = sum_names(parameters["blocks"], tile)
        zeros(code, "a", names)
        if problem.gather:
            _accumulate_gathered(code, problem, entry, names, weights)
        else:
            for condition, one in alternatives(tile_classes(window, tile)):
                with code.block(condition) if condition else nullcontext():
                    _accumulate(code, problem, names, weights, one)
        finish(code, problem, entry, (parameters["blocks"], tile))
    groups = problem.groups * ceil_div(problem.blocks, parameters["blocks"])
    size = (groups, problem.batch * height, len(tile_starts(width, tile)))
    head = prelude(problem.c) + (_offsets(problem, entry) if problem.gather else "") + problem.epilogue.function(entry)
    return Rendered(head + code.text(), (size[axes[0]], size[axes[1]], size[axes[2]]), images=images)


def _offsets(problem: Conv2D, entry: str) -> str:
    """Where the gathered channels lie in their operands, in floats."""
    c, pixels = problem.c, prod(problem.window.input)
    channels = [problem.gather[index][1] for index in problem.channel_order]
    offsets = ", ".join(str(channel // c * pixels * c + channel % c) for channel in channels)
    return f"__constant int {entry}_offset[] = {{{offsets}}};\n"


def sum_names(r: int, t: int) -> list[list[str]]:
    """What tells the sums of each block of channels and each pixel."""
    return [[f"{block}_{pixel}" for pixel in range(t)] for block in range(r)]


def zeros(code: Code, prefix: str, names: list[list[str]]) -> None:
    """Declares sums that begin at zero: ``a`` of a part, ``s`` of all parts."""
    for sums in names:
        code.add("vec " + ", ".join(f"{prefix}{name} = (vec)(0.0f)" for name in sums) + ";")


def add_part(code: Code, names: list[list[str]]) -> None:
    """Adds the sums of a part to the total, and begins another."""
    for sums in names:
        code.add(" ".join(f"s{name} += a{name}; a{name} = (vec)(0.0f);" for name in sums))


def take_total(code: Code, names: list[list[str]]) -> None:
    """Makes the totals what `finish` stores."""
    for sums in names:
        code.add(" ".join(f"a{name} = s{name};" for name in sums))


def finish(code: Code, problem: Conv2D, entry: str, size: tuple[int, int], width: int = 0) -> None:
    """Bias, epilogue and store; with ``width`` of the pixels before that alone."""
    (r, t), c, oc = size, problem.c, problem.channels[1]
    y = view(problem.layouts[1], c, oc, *problem.window.output)
    total = problem.groups * problem.blocks
    mask = problem.layouts[1] == "blocked" and oc % c != 0 and not problem.epilogue.keeps_zero()
    lanes = problem.layouts[1] != "blocked" and oc % c != 0
    for block in range(r):
        with code.block(f"if (first + {block} < {total})" if total % r and block else ""):
            code.add(f"const int at = n * {y.image} + (first + {block}) * {y.block} + oh * {y.row} + ow * {y.column};")
            channel = f"(first + {block}) * {c}"
            if problem.bias:
                code.add(f"const vec bias = LOAD(b + {channel});")
            last = f"(first + {block} == {total - 1})"
            for pixel in range(t):
                here, name = f"at + {pixel * y.column}", f"a{block}_{pixel}"
                given = f"{name} + bias" if problem.bias else name
                with code.block(f"if (ow + {pixel} < {width})") if width else nullcontext():
                    value = problem.epilogue.call(entry, given, here, channel, f"n * {total * c} + {channel}")
                    if (mask or lanes) and value != name:
                        code.add(f"{name} = {value};")
                        value = name
                    if mask:
                        value = masked(code, value, c, oc % c, last)
                    _store(code, f"y + {here}", value, last, (oc % c, c) if lanes else None)


def _store(code: Code, pointer: str, value: str, last: str, lanes: tuple[int, int] | None) -> None:
    """``lanes``: where the result is not blocked, so many of the last block's channels are there, and of others'."""
    if lanes is None:
        code.add(f"STORE({pointer}, {value});")
        return
    stores = [f"({pointer})[{lane}] = {value}.s{lane:x};" for lane in range(lanes[1])]
    code.add(f"if ({last}) {{ {' '.join(stores[: lanes[0]])} }} else {{ {' '.join(stores)} }}")


def _accumulate(code: Code, problem: Conv2D, names: list[list[str]], weights: Weights, one: TileClass) -> None:
    c, window, block = problem.c, problem.window, problem.input_block
    r, (kh, kw) = len(names), window.kernel
    per_group = problem.channels[0] // problem.groups
    blocks, tail = ceil_div(per_group, block), per_group % block
    x = view(problem.layouts[0], c, problem.channels[0], *window.input)
    block_stride = x.block if block == c else x.channel * block
    icb = f"(first / {problem.blocks} * {blocks} + icb)" if problem.groups > 1 else "icb"
    parts = blocks > problem.part
    if parts:
        zeros(code, "s", names)
    with code.block(f"for (int icb = 0; icb < {blocks}; ++icb)"):
        if tail:
            code.add(f"const int channels = icb == {blocks - 1} ? {tail} : {block};")
        with code.block("for (int kh = k0; kh < k1; ++kh)"):
            row, column = f"(top + kh * {window.dilations[0]})", f"(ow * {window.strides[1]} - {window.pads[1]})"
            at = f"n * {x.image} + {icb} * {block_stride} + {row} * {x.row} + {column} * {x.column}"
            code.add(f"__global const float *restrict xp = x + {at};")
            code.add(weights.begin(f"((group * {blocks} + icb) * {kh} + kh)", kw * block * r))
            staged = _stage(code, window, one, x.column, (block, c)) if problem.staged else {}
            for k in range(kw):
                if any(one.valid[k]):
                    with code.block(f"for (int ic = 0; ic < {'channels' if tail else block}; ++ic)"):
                        at = f"{k * block * r * weights.step} + ic * {r * weights.step}"
                        _multiply(code, window, x, k, names, one.valid[k], (weights, at), staged)
        if parts:
            with code.block(f"if (icb % {problem.part} == {problem.part - 1} || icb == {blocks - 1})"):
                add_part(code, names)
    if parts:
        take_total(code, names)


def _accumulate_gathered(code: Code, problem: Conv2D, entry: str, names: list[list[str]], weights: Weights) -> None:
    r, t, c, done = len(names), len(names[0]), problem.c, 0
    code.add(weights.begin("group", problem.channels[0] * r))
    for source in range(problem.sources):
        count = sum(1 for one, _ in problem.gather if one == source)
        with code.block(f"for (int ic = {done}; ic < {done + count}; ++ic)"):
            code.add(f"__global const float *restrict xp = in{source} + ow * {c} + {entry}_offset[ic];")
            pixels, at = View(0, 0, 0, c, 0), f"ic * {r * weights.step}"
            _multiply(code, problem.window, pixels, 0, names, (True,) * t, (weights, at))
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
    names: list[list[str]],
    valid: tuple[bool, ...],
    weights: tuple[Weights, str],
    staged: Mapping[int, int] = MappingProxyType({}),
) -> None:
    reader, at = weights
    for index in range(len(names)):
        code.add(f"const vec w{index} = {reader.load(f'{at} + {index * reader.step}')};")
    code.add("vec v;")
    step = {0: "0", 1: "ic"}.get(x.channel, f"ic * {x.channel}")
    for pixel, inside in enumerate(valid):
        if inside:
            column = pixel * window.strides[1] + k * window.dilations[1]
            load = f"xs[{staged[column]} + {step}]" if staged else f"xp[{column * x.column} + {step}]"
            products = (f"a{sums[pixel]} = v * w{index} + a{sums[pixel]};" for index, sums in enumerate(names))
            code.add(f"v = (vec)({load}); {' '.join(products)}")
