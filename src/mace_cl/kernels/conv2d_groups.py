"""Text of matrix products for GPUs: a work-group copies what its work-items share into local memory first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude
from mace_cl.kernels.conv2d_tiles import Size, Weights, add_part, finish, take_total, zeros
from mace_cl.kernels.views import view
from mace_cl.plan import Parameters, Rendered

if TYPE_CHECKING:
    from mace_cl.kernels.conv2d import Conv2D

__all__ = ["in_groups"]


def in_groups(problem: Conv2D, entry: str, parameters: Parameters) -> Rendered:
    """OpenCL C of a convolution over one row, for which `Conv2D.can_share` must hold.

    ``across`` work-items take neighbouring tiles of pixels, by others that take the next channels; ``local`` blocks of
    input channels are in local memory at a time.  What lies beyond the last pixel or channel counts as zero.
    """
    c, t, r, local = problem.c, parameters["tile"], parameters["blocks"], parameters["local"]
    across, high = parameters["across"], parameters["group"] // parameters["across"]
    width, rows, pixels = problem.window.output[1], ceil_div(problem.blocks, r), across * t
    blocks, part = ceil_div(problem.channels[0] // problem.groups, c), problem.part * problem.input_block // c
    reads = ["x", "w"] + (["b"] if problem.bias else []) + list(problem.epilogue.names)
    weights, size = Weights(c, bool(parameters.get("image"))), (r, t)
    images = (reads.index("w"),) if weights.image else ()
    code = Code()
    with code.block(kernel_head(entry, reads, "y", (across, high, 1), [reads[index] for index in images])):
        code.add("const int column = get_local_id(0), line = get_local_id(1), group = get_global_id(1);")
        code.add(f"const int n = get_global_id(2) / {problem.groups}, part = get_global_id(2) % {problem.groups};")
        code.add(f"const int first = part * {problem.blocks} + group * {r}, oh = 0;")
        code.add(f"const int ow = get_global_id(0) * {t}, left = get_group_id(0) * {pixels};")
        code.add(f"__local vec xs[{local * pixels}], ws[{local * c * high * r}];")
        zeros(code, "a", size)
        if blocks > part:
            zeros(code, "s", size)
        with code.block(f"for (int icb = 0; icb < {blocks}; icb += {local})"):
            code.add("barrier(CLK_LOCAL_MEM_FENCE);")
            _copy_pixels(code, problem, parameters)
            _copy_weights(code, problem, parameters, weights)
            code.add("barrier(CLK_LOCAL_MEM_FENCE);")
            with code.loop("block", local):
                code.add(f"vec near[{t}];")
                with code.unrolled("t", t):
                    code.add(f"near[t] = xs[block * {pixels} + column * {t} + t];")
                for lane in range(c):
                    _multiply_lane(code, size, f"((block * {c} + {lane}) * {high} + line) * {r}", lane)
            if blocks > part:
                with code.block(f"if ((icb + {local}) % {part} == 0 || icb + {local} >= {blocks})"):
                    add_part(code, size)
        if blocks > part:
            take_total(code, size)
        with code.block(f"if (group < {rows})"):
            finish(code, problem, entry, size, width)
    grid = (ceil_div(width, pixels) * across, ceil_div(rows, high) * high, problem.batch * problem.groups)
    return Rendered(prelude(c) + problem.epilogue.function(entry) + code.text(), grid, (across, high, 1), images)


def _multiply_lane(code: Code, size: Size, at: str, lane: int) -> None:
    """Products with one input channel of a block: lane ``lane`` of each pixel's vector, and the weights at ``at``."""
    with code.unrolled("r", size[0]):
        code.add(f"const vec weight = ws[{at} + r];")
        with code.unrolled("t", size[1]):
            code.add(f"a[r][t] = near[t].s{lane:x} * weight + a[r][t];")


def _each(parameters: Parameters, count: int) -> str:
    """A loop in which the work-items of a group take ``count`` turns together."""
    return f"for (int i = line * {parameters['across']} + column; i < {count}; i += {parameters['group']})"


def _copy_weights(code: Code, problem: Conv2D, parameters: Parameters, weights: Weights) -> None:
    """Fills ``ws[channel][line][block]`` with the weights of the input channels from block ``icb`` on."""
    c, r, channels = problem.c, parameters["blocks"], parameters["local"] * problem.c
    high, rows, depth = parameters["group"] // parameters["across"], ceil_div(problem.blocks, r), problem.packed_depth
    with code.block(_each(parameters, channels * high * r)):
        code.add(f"const int row = i / {channels * r}, ic = i / {r} % {channels}, channel = icb * {c} + ic;")
        code.add(f"const int of = get_group_id(1) * {high} + row;")
        code.add(weights.begin(f"((part * {rows} + of) * {depth} + channel)", r))
        value = weights.load(f"i % {r} * {weights.step}")
        code.add("vec value = (vec)(0.0f);", f"if (of < {rows} && channel < {depth}) value = {value};")
        code.add(f"ws[(ic * {high} + row) * {r} + i % {r}] = value;")


def _copy_pixels(code: Code, problem: Conv2D, parameters: Parameters) -> None:
    """Fills ``xs[block][pixel]`` for the blocks of input channels from ``icb`` on and the pixels from ``left`` on."""
    c, channels, pixels = problem.c, parameters["local"] * problem.c, parameters["across"] * parameters["tile"]
    per_group, width = problem.channels[0] // problem.groups, problem.window.output[1]
    x = view(problem.layouts[0], c, problem.channels[0], *problem.window.input)
    if problem.layouts[0] == "blocked":
        blocks = ceil_div(per_group, c)
        with code.block(_each(parameters, channels // c * pixels)):
            code.add(f"const int pixel = left + i % {pixels}, block = icb + i / {pixels};")
            at = f"n * {x.image} + (part * {blocks} + block) * {x.block} + pixel * {x.column}"
            code.add("vec value = (vec)(0.0f);", f"if (pixel < {width} && block < {blocks}) value = LOAD(x + {at});")
            code.add("xs[i] = value;")
        return
    with code.block(_each(parameters, channels * pixels)):
        code.add(f"const int pixel = i / {channels}, ic = i % {channels}, channel = icb * {c} + ic;")
        at = f"n * {x.image} + (left + pixel) * {x.column} + part * {per_group} + channel"
        code.add("float value = 0.0f;", f"if (left + pixel < {width} && channel < {per_group}) value = x[{at}];")
        code.add(f"((__local float *)xs)[(ic / {c} * {pixels} + pixel) * {c} + ic % {c}] = value;")
