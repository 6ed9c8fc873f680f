"""Resize and Pad over rows and columns of a blocked activation: each output is a weighted sum of few inputs.

For each axis a table says which input positions an output position reads and with which weights; the
tables are constants of the source.  Nearest takes one position, linear two, cubic four.  A position of
-1 stands for the ``fill`` value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mace_cl.expr import literal
from mace_cl.kernels.base import Code, ceil_div, kernel_head, prelude, unpacked
from mace_cl.kernels.epilogue import masked
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["Axis", "Resample"]


@dataclass(frozen=True)
class Axis:
    """``positions[o][tap]`` and ``weights[o][tap]`` for each output position o."""

    length: int
    positions: tuple[tuple[int, ...], ...]
    weights: tuple[tuple[float, ...], ...]

    @property
    def taps(self) -> int:
        return len(self.positions[0])

    @property
    def plain(self) -> bool:
        """Whether each output is one input, unscaled."""
        return self.taps == 1 and all(weight == (1.0,) for weight in self.weights)


@dataclass(frozen=True)
class Resample:
    """``y[oh, ow] = Σ rows.weights · columns.weights · x[rows.positions, columns.positions]``."""

    c: int
    batch: int
    channels: int
    rows: Axis
    columns: Axis
    fill: float = 0.0

    @property
    def family(self) -> str:
        return "resample"

    @property
    def flops(self) -> int:
        taps = self.rows.taps * self.columns.taps
        return 2 * taps * self.batch * self.channels * len(self.rows.positions) * len(self.columns.positions)

    def default(self, traits: Traits) -> dict[str, int]:
        return {}

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, height, width = self.c, len(self.rows.positions), len(self.columns.positions)
        blocks = ceil_div(self.channels, c)
        head = "".join(
            _table(f"{entry}_{name}", axis) for name, axis in (("rows", self.rows), ("columns", self.columns))
        )
        code = Code()
        with code.block(kernel_head(entry, ["x"], "y")):
            code.add("const int oh = get_global_id(0), plane = get_global_id(1);")
            code.add(f"__global const float *restrict xc = x + plane * {self.rows.length * self.columns.length * c};")
            for tap in range(self.rows.taps):
                code.add(f"const int r{tap} = {entry}_rows_at[oh * {self.rows.taps} + {tap}];")
                if not self.rows.plain:
                    code.add(f"const vec u{tap} = (vec)({entry}_rows_by[oh * {self.rows.taps} + {tap}]);")
            with code.loop("ow", width):
                self._pixel(code, entry)
                value = "a"
                if self.channels % c and self.fill:
                    value = masked(code, value, c, self.channels % c, f"(plane % {blocks} == {blocks - 1})")
                code.add(f"STORE(y + ((plane * {height} + oh) * {width} + ow) * {c}, {value});")
        return Rendered(prelude(c) + head + code.text(), (height, self.batch * blocks, 1))

    def _pixel(self, code: Code, entry: str) -> None:
        for tap in range(self.columns.taps):
            code.add(f"const int q{tap} = {entry}_columns_at[ow * {self.columns.taps} + {tap}];")
            if not self.columns.plain:
                code.add(f"const vec v{tap} = (vec)({entry}_columns_by[ow * {self.columns.taps} + {tap}]);")
        terms = []
        for row in range(self.rows.taps):
            for column in range(self.columns.taps):
                outside = [
                    f"{name} < 0"
                    for name, axis in ((f"r{row}", self.rows), (f"q{column}", self.columns))
                    if any(-1 in positions for positions in axis.positions)
                ]
                load = f"LOAD(xc + (r{row} * {self.columns.length} + q{column}) * {self.c})"
                code.add(
                    f"const vec x{row}_{column} = "
                    + (f"{' || '.join(outside)} ? (vec)({literal(self.fill)}) : {load};" if outside else f"{load};")
                )
                factors = ([] if self.rows.plain else [f"u{row}"]) + ([] if self.columns.plain else [f"v{column}"])
                terms.append(" * ".join([*factors, f"x{row}_{column}"]))
        code.add(f"const vec a = {' + '.join(terms)};")


def _table(name: str, axis: Axis) -> str:
    positions = ", ".join(str(value) for row in axis.positions for value in row)
    text = f"__constant int {name}_at[] = {{{positions}}};\n"
    if not axis.plain:
        weights = ", ".join(literal(value) for row in axis.weights for value in row)
        text += f"__constant float {name}_by[] = {{{weights}}};\n"
    return text
