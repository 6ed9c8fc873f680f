"""Plots as SVG text: axes, lines, points and boxes, each with a tooltip; every text is escaped.

In a page their text, grid and outlines take the page's colors (``--ink``, ``--line``, ``--paper``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from xml.sax.saxutils import quoteattr

__all__ = ["COLORS", "Plot", "color_of", "lines"]

COLORS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#b07aa1", "#9c755f", "#edc948", "#ff9da7", "#8c8c8c")

_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 16, 28, 44


def color_of(name: str, names: Sequence[str]) -> str:
    """The same color for the same name of ``names``."""
    return COLORS[names.index(name) % len(COLORS)]


class Plot:
    """A plot whose x and y run over ranges, linear or logarithmic; `text` is the SVG element.

    ``title`` is what readers hear who do not see it, and what `heading` shows; ``left`` is the room for labels.
    """

    def __init__(
        self, title: str, x: tuple[float, float], y: tuple[float, float], *, x_name: str = "", y_name: str = "",
        x_log: bool = False, y_log: bool = False, width: int = 900, height: int = 360, y_ticks: bool = True,
        tick: Callable[[float], str] | None = None, left: int = _LEFT,
    ) -> None:  # fmt: skip
        self._width, self._height = width, height
        self._title, self._left = title, left
        self._x, self._y = _scale(*x, left, width - _RIGHT, x_log), _scale(*y, height - _BOTTOM, _TOP, y_log)
        self._parts: list[str] = []
        tick = tick or _short
        for value in _ticks(*x, x_log):
            at = self._x(value)
            self._parts.append(_line(at, _TOP, at, height - _BOTTOM, "grid"))
            self._parts.append(_text(at, height - _BOTTOM + 16, tick(value), "middle"))
        for value in _ticks(*y, y_log) if y_ticks else ():
            at = self._y(value)
            self._parts.append(_line(left, at, width - _RIGHT, at, "grid"))
            self._parts.append(_text(left - 6, at + 4, _short(value), "end"))
        self._parts.append(_text((left + width - _RIGHT) / 2, height - 8, x_name, "middle"))
        middle = (_TOP + height - _BOTTOM) / 2
        turned = f'<text x="14" y="{middle:.0f}" transform="rotate(-90 14 {middle:.0f})" text-anchor="middle">'
        self._parts.append(f"{turned}{escape(y_name)}</text>")

    def box(self, x: tuple[float, float], y: tuple[float, float], color: str, tip: str) -> None:
        """A rectangle; never narrower than half a pixel."""
        left, right = sorted(map(self._x, x))
        top, bottom = sorted(map(self._y, y))
        size = f'width="{max(right - left, 0.5):.2f}" height="{max(bottom - top, 0.5):.2f}"'
        self._parts.append(
            f'<rect x="{left:.2f}" y="{top:.2f}" {size} fill={quoteattr(color)}><title>{escape(tip)}</title></rect>'
        )

    def point(self, x: float, y: float, color: str, tip: str, radius: float = 4.0) -> None:
        """A disc of ``radius`` pixels."""
        where = f'cx="{self._x(x):.2f}" cy="{self._y(y):.2f}" r="{radius:.2f}"'
        self._parts.append(f"<circle {where} fill={quoteattr(color)}><title>{escape(tip)}</title></circle>")

    def line(self, points: Iterable[tuple[float, float]], color: str, name: str = "", dashed: bool = False) -> None:
        """Points joined; ``name`` stands at the last of them."""
        placed = [(self._x(x), self._y(y)) for x, y in points]
        path = " ".join(f"{x:.2f},{y:.2f}" for x, y in placed)
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        self._parts.append(f'<polyline points="{path}" fill="none" stroke={quoteattr(color)} stroke-width="2"{dash}/>')
        if name and placed:
            x, y = placed[-1]
            self._parts.append(_text(min(x, self._width - _RIGHT) - 4, y - 6, name, "end"))

    def note(self, x: float, y: float, text: str) -> None:
        """Text that begins at a place."""
        self._parts.append(_text(self._x(x) + 4, self._y(y) + 4, text, "start"))

    def label(self, y: float, text: str) -> None:
        """Text on the left of the axis, beside a value of it; cut where there is no room."""
        most = (self._left - 16) // 7
        shown = text if len(text) <= most else f"{text[: most - 1]}…"
        self._parts.append(_text(self._left - 8, self._y(y) + 4, shown, "end"))

    def heading(self) -> None:
        """The title, on top."""
        self._parts.append(_text(self._width / 2, 16, self._title, "middle", "title"))

    def legend(self, names: Mapping[str, str]) -> None:
        """Names and their colors, at the top on the left."""
        for place, (name, color) in enumerate(names.items()):
            y = _TOP + 14 + 16 * place
            self._parts.append(
                f'<rect x="{self._left + 8}" y="{y - 9}" width="10" height="10" fill={quoteattr(color)}/>'
            )
            self._parts.append(_text(self._left + 24, y, name, "start"))

    @property
    def text(self) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self._width} {self._height}" role="img" '
            f'aria-label={quoteattr(self._title)} font-family="system-ui,sans-serif" font-size="12">'
            "<style>svg text{fill:var(--ink,#333)}.title{font-weight:bold}.grid{stroke:var(--line,#ddd);stroke-width:1}"
            f"svg rect,circle{{stroke:var(--paper,#fff);stroke-width:.4}}</style>{''.join(self._parts)}</svg>"
        )


def lines(
    title: str, series: Mapping[str, Sequence[tuple[float, float]]], x_name: str, y_name: str, log: bool = True
) -> str:
    """A plot of several series by name, both axes logarithmic or both from zero."""
    every = [point for points in series.values() for point in points]
    (x_low, x_high), (y_low, y_high) = ((min(v), max(v)) for v in zip(*every, strict=True))
    low = (lambda value: value / 1.3) if log else (lambda value: 0.0)
    plot = Plot(
        title, (low(x_low), x_high * 1.1), (low(y_low), y_high * 1.2), x_name=x_name, y_name=y_name,
        x_log=log, y_log=log, width=640,
    )  # fmt: skip
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(series)}
    for name, points in series.items():
        plot.line(points, colors[name])
        for x, y in points:
            plot.point(x, y, colors[name], f"{name}: {_short(x)} → {_short(y)}")
    plot.legend(colors)
    plot.heading()
    return plot.text


def _scale(low: float, high: float, begin: float, end: float, log: bool) -> Callable[[float], float]:
    """From values to pixels, upwards or downwards; what lies outside is put on the edge."""
    if log:
        low, high = math.log10(max(low, 1e-300)), math.log10(max(high, 1e-300))
    span = high - low or 1.0
    least, most = min(low, high), max(low, high)

    def place(value: float) -> float:
        at = math.log10(max(value, 1e-300)) if log else value
        return begin + (min(max(at, least), most) - low) / span * (end - begin)

    return place


def _ticks(low: float, high: float, log: bool) -> list[float]:
    if log:
        first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
        decades = [10.0**power for power in range(first, last + 1)]
        if len(decades) > 2:
            return decades
        steps = [m * 10.0**power for power in range(first - 1, last + 1) for m in (1, 2, 5)]
        return [value for value in steps if low <= value <= high]
    if high <= low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / 4))
    step *= next(factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 6)
    first = math.ceil(low / step)
    return [index * step for index in range(first, int(high / step + 1e-9) + 1)]


def _short(value: float) -> str:
    for size, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.3g}{unit}"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _text(x: float, y: float, text: str, anchor: str, kind: str = "") -> str:
    class_ = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{class_}>{escape(text)}</text>'


def _line(x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
    return f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" class="{kind}"/>'
