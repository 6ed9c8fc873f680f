"""Text shared by kernels that slide a window over rows and columns: bounds and classes of tiles."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from mace_cl.kernels.base import tile_starts

__all__ = ["TileClass", "Window", "alternatives", "tile_classes", "tile_start"]

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """A sliding window; pairs are (rows, columns); ``pads`` at top and left."""

    input: Pair
    output: Pair
    kernel: Pair
    strides: Pair = (1, 1)
    pads: Pair = (0, 0)
    dilations: Pair = (1, 1)

    def column_inside(self, k: int, ow: int) -> bool:
        """Whether column ``k`` of the window at output column ``ow`` lies in the image."""
        return 0 <= ow * self.strides[1] + k * self.dilations[1] - self.pads[1] < self.input[1]

    def rows_inside(self) -> bool:
        """Whether no window reaches above or below the image."""
        reach = (self.output[0] - 1) * self.strides[0] + (self.kernel[0] - 1) * self.dilations[0] - self.pads[0]
        return self.pads[0] == 0 and reach < self.input[0]

    def row_bounds(self) -> list[str]:
        """Declarations of ``top``, the window's first row for output row ``oh``, and of the range [k0, k1) inside."""
        lines = [f"const int top = oh * {self.strides[0]} - {self.pads[0]};"]
        if self.rows_inside():
            return [*lines, f"const int k0 = 0, k1 = {self.kernel[0]};"]
        d = self.dilations[0]
        return [
            *lines,
            f"const int k0 = top >= 0 ? 0 : (-top + {d - 1}) / {d};",
            f"const int below = ({self.input[0]} - top + {d - 1}) / {d};",
            f"const int k1 = below < {self.kernel[0]} ? below : {self.kernel[0]};",
        ]


@dataclass(frozen=True)
class TileClass:
    """Tiles whose windows meet the image's edge alike: ``valid[k][pixel]``."""

    valid: tuple[tuple[bool, ...], ...]
    members: tuple[int, ...]

    def columns(self) -> list[tuple[Pair, Pair]]:
        """The window's columns in runs of those in which the same pixels lie inside the image, and these pixels.

        Each as the first and that after the last.
        """
        return _runs(self.valid)

    def pixels(self) -> list[tuple[Pair, Pair]]:
        """The same the other way round: pixels that have the same columns, and these columns."""
        return _runs(tuple(zip(*self.valid, strict=True)))

    def condition(self) -> str:
        """An ``if`` that holds for the members of the class."""
        first, last = self.members[0], self.members[-1]
        if self.members == tuple(range(first, last + 1)) and len(self.members) > 2:
            return f"if (tile >= {first} && tile <= {last})"
        return "if (" + " || ".join(f"tile == {index}" for index in self.members) + ")"


def tile_classes(window: Window, tile: int) -> list[TileClass]:
    """The tiles of one output row grouped by class, the largest class last."""
    classes: dict[tuple[tuple[bool, ...], ...], list[int]] = {}
    for index, start in enumerate(tile_starts(window.output[1], tile)):
        valid = tuple(
            tuple(window.column_inside(k, start + pixel) for pixel in range(tile)) for k in range(window.kernel[1])
        )
        classes.setdefault(valid, []).append(index)
    found = [TileClass(valid, tuple(members)) for valid, members in classes.items()]
    return sorted(found, key=lambda one: len(one.members))


def alternatives(classes: list[TileClass]) -> list[tuple[str, TileClass]]:
    """The classes with the heads of the blocks of an ``if`` in which each has its own; the last is the ``else``."""
    if len(classes) == 1:
        return [("", classes[0])]
    heads = [f"{'else ' if number else ''}{one.condition()}" for number, one in enumerate(classes)]
    return list(zip([*heads[:-1], "else"], classes, strict=True))


def tile_start(width: int, tile: int) -> str:
    """The first output column of ``tile`` as C text."""
    starts = tile_starts(width, tile)
    if len(starts) == 1:
        return "0"
    if starts[-1] == (len(starts) - 1) * tile:
        return f"tile * {tile}"
    return f"(tile == {len(starts) - 1} ? {starts[-1]} : tile * {tile})"


def _runs(valid: tuple[tuple[bool, ...], ...]) -> list[tuple[Pair, Pair]]:
    """Runs of equal rows that hold at all, and where they do."""
    bounds = [row for row in range(1, len(valid)) if valid[row] != valid[row - 1]]
    runs = [run for run in pairwise([0, *bounds, len(valid)]) if any(valid[run[0]])]
    return [((a, b), (valid[a].index(True), len(valid[a]) - valid[a][::-1].index(True))) for a, b in runs]
