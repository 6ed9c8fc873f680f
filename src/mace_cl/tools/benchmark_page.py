"""A benchmark's result as one HTML page, which needs nothing from anywhere else: no script, no font, no image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from mace_cl.benchmark.operations import by_type
from mace_cl.benchmark.svg import COLORS, Plot, color_of

if TYPE_CHECKING:
    from mace_cl.tools.benchmark import BenchmarkResult

__all__ = ["page"]

_STYLE = (
    "body{font-family:sans-serif;max-width:980px;margin:2em auto;padding:0 1em;color:#222;background:#fff}"
    "table{border-collapse:collapse;font-size:13px;margin:1em 0}td,th{padding:2px 10px;border-bottom:1px solid #ddd;"
    "text-align:right;white-space:nowrap}td.text,th.text{text-align:left;white-space:normal}svg{width:100%;height:auto}"
    "rect,circle{stroke:#fff;stroke-width:.4}p{color:#555;max-width:46em}"
)


def page(result: BenchmarkResult) -> str:
    """The page as text."""
    types = [group.type for group in by_type(result.operations)]
    name = result.model.name
    body = [
        f"<h1>{escape(name)}</h1>",
        f"<p>{escape(str(result.device))}; {escape(result.machine.processor)}, {result.machine.processors} processors; "
        f"mace-cl {escape(result.machine.mace_cl)}.{' Interrupted before all was measured.' * result.interrupted}</p>",
        _summary(result),
        "<h2>Start</h2>", _waterfall(result), f"<p>{escape(result.start.sentence)}</p>",
        "<h2>A run, operation by operation</h2>", _timeline(result, types),
        "<h2>Roofline</h2>", _roofline(result, types),
        "<h2>Memory</h2>", _arena(result, types),
        "<h2>Operations by type</h2>", _types(result),
        "<h2>Operations by time</h2>", _operations(result),
    ]  # fmt: skip
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>mace-cl benchmark: {escape(name)}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(body)}</body></html>\n"
    )


def _summary(result: BenchmarkResult) -> str:
    latency, memory = result.latency, result.memory
    rows = [
        ("latency, ms", f"p50 {_ms(latency.p50)}, p90 {_ms(latency.p90)}, p99 {_ms(latency.p99)}, average "
         f"{_ms(latency.average)}, least {_ms(latency.minimum)}; {latency.runs} runs"),
        ("init, ms", f"{_ms(result.start.init)}, first run {_ms(result.start.first_run)}"),
        ("memory, MiB", f"arena {_mib(memory.arena)}, weights {_mib(memory.constants)}, process at most "
         f"{_mib(memory.peak or 0)}"),
    ]  # fmt: skip
    if result.cold is not None:
        rows.insert(2, ("init, compiling, ms", f"{_ms(result.cold.init)}"))
    table = _table(("", ""), rows, text=(0, 1))
    if result.pairs:
        head = ("peer", "version", "ours ÷ its", "quartiles", "blocks", "ours p50, ms", "its p50, ms", "difference")
        pairs = [
            (
                pair.peer, pair.version, f"{pair.ratio:.3f}", f"{pair.low:.3f} … {pair.high:.3f}", str(pair.blocks),
                _ms(pair.ours.p50), _ms(pair.theirs.p50), "" if pair.difference is None else f"{pair.difference:.1e}",
            )
            for pair in result.pairs
        ]  # fmt: skip
        table += _table(head, pairs, text=(0, 1))
    return table + "".join(f"<p>{escape(peer)}: not measured: {escape(why)}</p>" for peer, why in result.absent.items())


def _waterfall(result: BenchmarkResult) -> str:
    steps = [*result.start.steps.items(), ("first run", result.start.first_run)]
    total = sum(seconds for _, seconds in steps) or 1.0
    plot = Plot(
        "from the first import to the first output", (0, total * 1e3 * 1.15), (len(steps), 0), x_name="ms",
        y_ticks=False, height=90 + 22 * len(steps),
    )  # fmt: skip
    begin = 0.0
    for number, (name, seconds) in enumerate(steps):
        left, right = begin * 1e3, (begin + seconds) * 1e3
        plot.box((left, right), (number + 0.15, number + 0.85), COLORS[0], f"{name}: {_ms(seconds)} ms")
        plot.note(right, number + 0.5, f"{name} {_ms(seconds)}")
        begin += seconds
    return plot.text


def _timeline(result: BenchmarkResult, types: Sequence[str]) -> str:
    end = max((one.start + one.seconds for one in result.operations), default=1e-6)
    routes = list(dict.fromkeys(one.route for one in result.operations)) or ["opencl"]
    plot = Plot(
        "by the device's clock", (0, end * 1e3), (len(routes), 0), x_name="ms", y_name=", ".join(routes),
        y_ticks=False, height=110 + 50 * len(routes) + 16 * len(types),
    )  # fmt: skip
    for one in result.operations:
        lane = routes.index(one.route)
        tip = f"{one.index} {one.type} {one.kernel}\n{one.node}\n{_ms(one.seconds)} ms"
        span = (one.start * 1e3, (one.start + one.seconds) * 1e3)
        plot.box(span, (lane + 0.6, lane + 0.95), color_of(one.type, types), tip)
    plot.legend({name: color_of(name, types) for name in types})
    return plot.text


def _roofline(result: BenchmarkResult, types: Sequence[str]) -> str:
    tops = result.ceilings
    if tops is None:
        return "<p>The ceilings of this device could not be measured.</p>"
    shown = [one for one in result.operations if one.flops and one.bytes and one.seconds]
    low = min((one.flops / one.bytes for one in shown), default=0.1) / 2
    high = max((one.flops / one.bytes for one in shown), default=100.0) * 4
    least = min((one.flop_rate for one in shown), default=tops["flops"] / 100) / 2
    plot = Plot(
        "operations against what the device reaches at most", (low, high), (least, tops["flops"] * 2.5),
        x_name="operations per byte", y_name="operations per second", x_log=True, y_log=True, height=480,
    )  # fmt: skip
    for name, rate in (("memory", tops["far_bytes"]), ("caches", tops["near_bytes"])):
        ridge = tops["flops"] / rate
        said = f"{name} {rate / 1e9:.0f} GB/s"
        plot.line([(low, low * rate), (max(low, ridge), tops["flops"])], "#888", said, dashed=name == "caches")
    plot.line([(low, tops["flops"]), (high, tops["flops"])], "#888", f"{tops['flops'] / 1e9:.0f} GFLOP/s")
    longest = max((one.seconds for one in shown), default=1.0)
    for one in shown:
        share = one.flop_rate / tops["flops"]
        tip = f"{one.index} {one.type}\n{one.node}\n{one.flop_rate / 1e9:.1f} GFLOP/s, {share:.0%} of the peak"
        radius = 2.5 + 7 * (one.seconds / longest) ** 0.5
        plot.point(one.flops / one.bytes, one.flop_rate, color_of(one.type, types), tip, radius)
    plot.legend({name: color_of(name, types) for name in types})
    text = "Discs grow with the time that an operation takes. Above the memory's line operands come from caches."
    return f"{plot.text}<p>{text}</p>"


def _arena(result: BenchmarkResult, types: Sequence[str]) -> str:
    made = {one.index: one for one in result.operations}
    plot = Plot(
        "the arena over a run: each box is a value, from the operation that writes it to the last that reads it",
        (-1, len(made) + 1), (0, result.memory.arena / 2**20), x_name="operation", y_name="MiB", height=420,
    )  # fmt: skip
    for stay in result.stays:
        maker = made.get(stay.begin)
        color = color_of(maker.type, types) if maker else "#bbb"
        tip = f"{stay.name}\n{_mib(stay.size)} MiB at {stay.offset}, operations {stay.begin} to {stay.end}"
        span = (stay.offset / 2**20, (stay.offset + stay.size) / 2**20)
        plot.box((stay.begin, stay.end + 0.9), span, color, tip)
    return plot.text


def _types(result: BenchmarkResult) -> str:
    total = sum(one.seconds for one in result.operations) or 1.0
    rows = [
        (group.type, group.route, str(group.count), _ms(group.seconds), f"{group.seconds / total:.1%}",
         *_rates(result, group.flops, group.bytes, group.seconds))
        for group in by_type(result.operations)
    ]  # fmt: skip
    return _table(("type", "route", "count", "ms", "share", *_RATES), rows, text=(0, 1))


def _operations(result: BenchmarkResult) -> str:
    total = sum(one.seconds for one in result.operations) or 1.0
    rows = [
        (str(one.index), one.type, _ms(one.seconds), f"{one.seconds / total:.1%}",
         *_rates(result, one.flops, one.bytes, one.seconds), one.node)
        for one in sorted(result.operations, key=lambda one: -one.seconds)
    ]  # fmt: skip
    return _table(("#", "type", "ms", "share", *_RATES, "nodes"), rows, text=(1, 8))


_RATES = ("GFLOP/s", "of peak", "GB/s", "of memory")


def _rates(result: BenchmarkResult, flops: int, moved: int, seconds: float) -> tuple[str, ...]:
    tops, per = result.ceilings, seconds or float("inf")
    shares = (f"{flops / per / tops['flops']:.0%}", f"{moved / per / tops['far_bytes']:.0%}") if tops else ("", "")
    return f"{flops / per / 1e9:.1f}", shares[0], f"{moved / per / 1e9:.1f}", shares[1]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], text: Sequence[int]) -> str:
    def cells(kind: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{kind}{' class=text' if index in text else ''}>{escape(cell)}</{kind}>" for index, cell in enumerate(row)
        )

    lines = [f"<tr>{cells('td', row)}</tr>" for row in rows]
    top = f"<tr>{cells('th', head)}</tr>" if any(head) else ""
    return f"<table>{top}{''.join(lines)}</table>"


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f}"
