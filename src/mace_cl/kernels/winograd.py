"""Winograd's minimal filtering for 3×3 convolutions of stride 1: the transforms around a batched product.

F(m×m, 3×3) computes m² results from (m+2)² inputs with (m+2)² multiplications instead of 9·m²
(Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).  The points of interpolation
are 0, ±1 for m = 2; for m = 4 they are 0, ±2/3, ±3/2, which have a fifth of the rounding error of the
usual 0, ±1, ±2 (docs/decisions.md).  `WinogradInput` writes (m+2)² matrices of tiles × channels, a grouped
1×1 `Conv2D` multiplies each by its weights, `WinogradOutput` transforms back and applies bias and epilogue.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.expr import literal
from mace_cl.kernels.base import Code, ceil_div, kernel_head, pad_to, prelude, unpacked
from mace_cl.kernels.epilogue import IDENTITY, Epilogue
from mace_cl.plan import Parameters, Rendered, Traits

__all__ = ["WinogradInput", "WinogradOutput", "transform_weights"]

Matrix = tuple[tuple[Fraction, ...], ...]


@dataclass(frozen=True)
class _Transforms:
    """The matrices of ``y = output · ((weights · g) ⊙ (input · d))``."""

    input: Matrix
    weights: Matrix
    output: Matrix


def _transforms(m: int, *points: Fraction) -> _Transforms:
    """Toom-Cook's construction from m + 1 finite points and infinity."""
    n = m + 2

    def product(skip: int | None) -> list[Fraction]:
        """Coefficients of Π (x - point), lowest first, without the factor ``skip``."""
        coefficients = [Fraction(1)]
        for index, point in enumerate(points):
            if index != skip:
                shifted = [Fraction(0), *coefficients]
                coefficients = [
                    high - point * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)
                ]
        return coefficients + [Fraction(0)] * (n - len(coefficients))

    rows, weights = [], []
    for index, point in enumerate(points):
        scale = Fraction(1)
        for other in points:
            scale *= point - other if other != point else 1
        rows.append(tuple(product(index)))
        weights.append(tuple(point**power / scale for power in range(3)))
    rows.append(tuple(product(None)))
    weights.append((Fraction(0), Fraction(0), Fraction(1)))
    output = tuple((*(point**power for point in points), Fraction(int(power == m - 1))) for power in range(m))
    return _Transforms(tuple(rows), tuple(weights), output)


_POINTS = {2: (0, 1, -1), 4: (0, Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2))}
_TRANSFORMS = {m: _transforms(m, *map(Fraction, points)) for m, points in _POINTS.items()}

_PAIRS = 1 << 12
"""Pairs of channels whose weights are transformed at a time: their values in fp64 stay in a cache."""


def transform_weights(weights: NDArray[Any], m: int) -> NDArray[np.float32]:
    """``[OC, IC, 3, 3]`` to ``[(m+2)²·OC, IC, 1, 1]``, computed in fp64, a few output channels at a time."""
    matrix = np.array([[float(entry) for entry in row] for row in _TRANSFORMS[m].weights])
    outputs, inputs = weights.shape[:2]
    result = np.empty((m + 2, m + 2, outputs, inputs), np.float32)
    step = ceil_div(_PAIRS, inputs)
    for first in range(0, outputs, step):
        some = weights[first : first + step].astype(np.float64)
        result[:, :, first : first + step] = np.einsum("ia,ocab,jb->ijoc", matrix, some, matrix, optimize=True)
    return result.reshape(-1, inputs, 1, 1)


def _combine(row: tuple[Fraction, ...], name: str) -> str:
    """The weighted sum of ``name``, which has ``{}`` for an index, as C text; equal weights share a multiplication."""
    groups: dict[Fraction, list[str]] = {}
    for index, factor in enumerate(row):
        if factor:
            groups.setdefault(abs(factor), []).append(("-" if factor < 0 else "+") + name.format(index))
    terms = []
    for factor, signed in groups.items():
        total = " ".join(f"{one[0]} {one[1:]}" for one in signed).removeprefix("+ ")
        terms.append(f"({total})" if factor == 1 else f"({total}) * {literal(float(factor))}")
    return " + ".join(terms)


def _apply(code: Code, matrix: Matrix, name: str, result: str) -> None:
    """``result = matrix · name``, with indices for ``{}``; rows of opposite points share their even and odd halves."""
    index = 0
    while index < len(matrix):
        row, following = matrix[index], matrix[index + 1] if index + 1 < len(matrix) else None
        opposite = following is not None and all(abs(a) == abs(b) for a, b in zip(row, following, strict=True))
        if following is None or not opposite or row == following:
            code.add(f"{result.format(index)} = {_combine(row, name)};")
            index += 1
            continue
        same = tuple(a if a == b else Fraction(0) for a, b in zip(row, following, strict=True))
        turned = tuple(a if a != b else Fraction(0) for a, b in zip(row, following, strict=True))
        with code.block():
            code.add(f"const vec even = {_combine(same, name)}, odd = {_combine(turned, name)};")
            code.add(f"{result.format(index)} = even + odd;", f"{result.format(index + 1)} = even - odd;")
        index += 2


def _default(traits: Traits) -> dict[str, int]:
    """A work-item takes a row of tiles; where there are many, ``each`` tile has one."""
    return {} if traits.is_cpu else {"each": 1}


def _row(plane: str, pixels: int, height: int, width: int, row: str) -> str:
    """The first pixel of a row, in a plane of so many pixels, or of ``height`` rows."""
    return f"{plane} * {pixels} + ({row}) * {width}" if pixels else f"({plane} * {height} + {row}) * {width}"


def _place(code: Code, parameters: Parameters) -> None:
    """Declares the tile's row ``th`` and its ``plane``, a block of channels of an image; ``tw`` if there is no loop."""
    names = ("tw", "th", "plane") if parameters else ("th", "plane")
    code.add(f"const int {', '.join(f'{name} = get_global_id({axis})' for axis, name in enumerate(names))};")


def _tiles(code: Code, columns: int, parameters: Parameters) -> AbstractContextManager[None]:
    """The block of one tile."""
    return nullcontext() if parameters else code.loop("tw", columns)


def _grid(tiles: tuple[int, int], planes: int, parameters: Parameters) -> tuple[int, int, int]:
    rows, columns = tiles
    return (columns, rows, planes) if parameters else (rows, planes, 1)


@dataclass(frozen=True)
class WinogradInput:
    """x blocked ``[N][C/c][H][W][c]`` to tiles ``[(m+2)²][C/c][N·tiles][c]``; ``tiles`` = (rows, columns).

    With ``plane`` > 0, x is ``input`` rows and columns of a larger image, in which a plane has so many pixels.
    """

    c: int
    m: int
    batch: int
    channels: int
    input: tuple[int, int]
    tiles: tuple[int, int]
    pads: tuple[int, int]
    plane: int = 0

    @property
    def family(self) -> str:
        return "winograd_input"

    @property
    def flops(self) -> int:
        n = self.m + 2
        return 4 * n * n * self.batch * self.channels * self.tiles[0] * self.tiles[1]

    def default(self, traits: Traits) -> dict[str, int]:
        return _default(traits)

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return unpacked(operand, array)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, n, (height, width), (rows, columns) = self.c, self.m + 2, self.input, self.tiles
        blocks = ceil_div(self.channels, c)
        total = self.batch * rows * columns
        code = Code()
        with code.block(kernel_head(entry, ["x"], "u")):
            _place(code, parameters)
            code.add(f"const int image = plane / {blocks}, cb = plane % {blocks};")
            code.add(f"const int top = th * {self.m} - {self.pads[0]};")
            with _tiles(code, columns, parameters):
                code.add(f"const int left = tw * {self.m} - {self.pads[1]};")
                pixel = f"{_row('plane', self.plane, height, width, 'top')} + left"
                code.add(f"__global const float *restrict xp = x + ({pixel}) * {c};")
                code.add(
                    f"__global float *restrict up = u + (cb * {total} + (image * {rows} + th) * {columns} + tw) * {c};"
                )
                code.add(f"vec d[{n}][{n}] = {{{{(vec)(0.0f)}}}}, e[{n}][{n}], f[{n}];")
                with (
                    code.unrolled("i", n),
                    code.block(f"if (top + i >= 0 && top + i < {height})"),
                    code.unrolled("j", n),
                ):
                    code.add(f"if (left + j >= 0 && left + j < {width}) d[i][j] = LOAD(xp + (i * {width} + j) * {c});")
                matrix = _TRANSFORMS[self.m].input
                with code.unrolled("j", n):
                    _apply(code, matrix, "d[{}][j]", "e[{}][j]")
                with code.unrolled("i", n):
                    _apply(code, matrix, "e[i][{}]", "f[{}]")
                    with code.unrolled("j", n):
                        code.add(f"STORE(up + (i * {n} + j) * {blocks * total * c}, f[j]);")
        return Rendered(prelude(c) + code.text(), _grid(self.tiles, self.batch * blocks, parameters))


@dataclass(frozen=True)
class WinogradOutput:
    """Tiles ``[(m+2)²][C/c][N·tiles][c]`` to the blocked result; operands tiles, bias if ``bias``, the epilogue's.

    ``plane`` is as for `WinogradInput`.
    """

    c: int
    m: int
    batch: int
    channels: int
    output: tuple[int, int]
    tiles: tuple[int, int]
    bias: bool = True
    epilogue: Epilogue = IDENTITY
    plane: int = 0

    @property
    def family(self) -> str:
        return "winograd_output"

    @property
    def flops(self) -> int:
        n = self.m + 2
        return 2 * n * (n + self.m) * self.batch * self.channels * self.tiles[0] * self.tiles[1]

    def default(self, traits: Traits) -> dict[str, int]:
        return _default(traits)

    def pack(self, operand: int, array: NDArray[Any], parameters: Parameters) -> NDArray[Any]:
        return pad_to(array.reshape(-1), 0, self.c).astype(np.float32)

    def render(self, entry: str, parameters: Parameters) -> Rendered:
        c, m, n, (height, width), (rows, columns) = self.c, self.m, self.m + 2, self.output, self.tiles
        blocks = ceil_div(self.channels, c)
        total = self.batch * rows * columns
        code = Code()
        reads = ["v", *(["b"] if self.bias else []), *self.epilogue.names]
        with code.block(kernel_head(entry, reads, "y")):
            _place(code, parameters)
            code.add(f"const int image = plane / {blocks}, cb = plane % {blocks};")
            if self.bias:
                code.add(f"const vec bias = LOAD(b + cb * {c});")
            with _tiles(code, columns, parameters):
                code.add(f"const int tile = (image * {rows} + th) * {columns} + tw;")
                code.add(f"__global const float *restrict vp = v + (cb * {total} + tile) * {c};")
                code.add(f"vec d[{n}], e[{m}][{n}], f[{m}];")
                matrix = _TRANSFORMS[m].output
                with code.unrolled("j", n):
                    with code.unrolled("i", n):
                        code.add(f"d[i] = LOAD(vp + (i * {n} + j) * {blocks * total * c});")
                    code.add(*(f"e[{index}][j] = {_combine(row, 'd[{}]')};" for index, row in enumerate(matrix)))
                pixel = f"{_row('plane', self.plane, height, width, f'th * {m}')} + tw * {m}"
                code.add(f"const int first = ({pixel}) * {c};")
                with code.unrolled("i", m):
                    code.add(*(f"f[{index}] = {_combine(row, 'e[i][{}]')};" for index, row in enumerate(matrix)))
                    with code.unrolled("j", m):
                        self._result(code, entry)
        text = prelude(c) + self.epilogue.function(entry) + code.text()
        return Rendered(text, _grid(self.tiles, self.batch * blocks, parameters))

    def _result(self, code: Code, entry: str) -> None:
        c, m, (height, width) = self.c, self.m, self.output
        inside = [f"th * {m} + i < {height}"] if height % m else []
        inside += [f"tw * {m} + j < {width}"] if width % m else []
        with code.block(f"if ({' && '.join(inside)})") if inside else nullcontext():
            code.add(f"const int at = first + (i * {width} + j) * {c};")
            result = self.epilogue.call(
                entry, f"f[j]{' + bias' if self.bias else ''}", "at", f"cb * {c}", f"plane * {c}"
            )
            code.add(f"STORE(y + at, {result});")
