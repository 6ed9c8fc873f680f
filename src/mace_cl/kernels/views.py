"""Where the elements of an activation lie.

Three layouts of a tensor of N images, C channels, H rows and W columns, offsets in floats:

* ``blocked`` — NCHWc, ``[N][C/c][H][W][c]``; the lanes after the last channel hold zeros;
* ``nchw`` — row-major ONNX order;
* ``nhwc`` — channels innermost; also a matrix ``[W][C]`` with N = H = 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from mace_cl.kernels.base import ceil_div

__all__ = ["View", "blocked_floats", "view"]


@dataclass(frozen=True)
class View:
    """Strides in floats: per image, per block of c channels, row, column and channel in a block."""

    image: int
    block: int
    row: int
    column: int
    channel: int


def view(layout: str, c: int, channels: int, height: int, width: int) -> View:
    """The strides of ``layout`` ("blocked", "nchw" or "nhwc") for blocks of ``c`` channels."""
    if layout == "blocked":
        return View(ceil_div(channels, c) * height * width * c, height * width * c, width * c, c, 1)
    if layout == "nchw":
        return View(channels * height * width, c * height * width, width, 1, height * width)
    if layout == "nhwc":
        return View(height * width * channels, c, width * channels, channels, 1)
    raise ValueError(f"unknown layout {layout!r}")


def blocked_floats(c: int, batch: int, channels: int, height: int, width: int) -> int:
    """The number of floats that a blocked activation takes, padding lanes included."""
    return batch * ceil_div(channels, c) * c * height * width
