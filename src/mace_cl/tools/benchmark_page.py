"""A benchmark's result as one HTML page; its plots and tables are parts of a report too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from mace_cl.benchmark.operations import Operation, by_type
from mace_cl.benchmark.svg import COLORS, Plot, color_of
from mace_cl.tools.page import Section, cards, details, document, facts, figure, ms, paragraph, size, table, unit_for

if TYPE_CHECKING:
    from mace_cl.tools.benchmark import BenchmarkResult

__all__ = ["figures", "latency", "memory", "operations", "page", "roofline", "waterfall"]

_SHOWN = 15


def page(result: BenchmarkResult) -> str:
    """The page as text."""
    machine = result.machine
    lead = f"{result.device}; {machine.processor}, {machine.processors} processors; mace-cl {machine.mace_cl}."
    steps = {**result.start.steps, "first run": result.start.first_run}
    sections = [
        Section("start", "Start", [waterfall("From the first import to the first output", steps),
                                   paragraph(result.start.sentence)]),
        Section("latency", "Latency", latency(result)),
        *([Section("peers", "Beside peers", _peers(result))] if result.pairs or result.absent else []),
        Section("operations", "Operations", operations(result)),
        Section("roofline", "Roofline", roofline(result)),
        Section("memory", "Memory", memory(result)),
    ]  # fmt: skip
    end = "All figures are of this machine at the time of the measurement."
    lead += " Interrupted before all was measured." * result.interrupted
    return document("mace-cl benchmark", result.model.name, lead, cards(figures(result)), sections, end)


def figures(result: BenchmarkResult) -> list[tuple[str, str, str]]:
    """What a reader wants to see first."""
    start, times = result.start, result.latency
    rows = [
        ("Latency, median", f"{ms(times.p50)} ms", f"p99 {ms(times.p99)} ms, {times.runs} runs"),
        ("Initialisation", f"{ms(start.init)} ms", f"first run {ms(start.first_run)} ms"),
        ("Memory of activations", size(result.memory.arena), f"weights {size(result.memory.constants)}"),
    ]
    if result.cold is not None:
        rows.insert(2, ("Initialisation, compiling", f"{ms(result.cold.init)} ms", "without the program file"))
    if share := _reached(result):
        rows.append(("Reached of the ceilings", share, "see the roofline"))
    return rows


def waterfall(title: str, steps: Mapping[str, float]) -> str:
    """How a start spends its time, step after step, in seconds."""
    total = sum(steps.values()) or 1.0
    plot = Plot(
        title, (0, total * 1e3 * 1.12), (max(len(steps), 1), 0), x_name="ms", y_ticks=False,
        height=80 + 20 * len(steps), left=150,
    )  # fmt: skip
    begin = 0.0
    for number, (name, seconds) in enumerate(steps.items()):
        left, right = begin * 1e3, (begin + seconds) * 1e3
        plot.box((left, right), (number + 0.15, number + 0.85), COLORS[0], f"{name}: {ms(seconds)} ms")
        plot.label(number + 0.5, name)
        plot.note(right, number + 0.5, ms(seconds))
        begin += seconds
    return figure(title, plot.text)


def latency(result: BenchmarkResult) -> list[str]:
    """Percentiles, and every run."""
    times = result.latency
    columns = ("runs", "least, ms", "average, ms", "p50, ms", "p90, ms", "p99, ms", "most, ms")
    row = (str(times.runs), *map(ms, (times.minimum, times.average, times.p50, times.p90, times.p99, times.maximum)))
    shown = [table("Latency after the warm-up", columns, [row], text=())]
    if result.times:
        title = "Each run in turn, and the percentiles"
        lines = {"p50": times.p50, "p90": times.p90, "p99": times.p99}
        colors = {name: COLORS[index] for index, name in enumerate(lines, 1)}
        highest = max(result.times) * 1e3
        plot = Plot(title, (0, len(result.times)), (0, highest * 1.15), x_name="run", y_name="ms", height=300)
        for name, value in lines.items():
            plot.line([(0, value * 1e3), (len(result.times), value * 1e3)], colors[name])
        for number, seconds in enumerate(result.times):
            plot.point(number + 0.5, seconds * 1e3, COLORS[0], f"run {number + 1}: {ms(seconds)} ms", 3)
        shown.append(figure(title, plot.text, {"a run": COLORS[0], **colors}))
    return shown


def _peers(result: BenchmarkResult) -> list[str]:
    head = ("peer", "version", "ours ÷ its", "quartiles", "blocks", "ours p50, ms", "its p50, ms", "difference")
    pairs = [
        (
            pair.peer, pair.version, f"{pair.ratio:.3f}", f"{pair.low:.3f} … {pair.high:.3f}", str(pair.blocks),
            ms(pair.ours.p50), ms(pair.theirs.p50), "" if pair.difference is None else f"{pair.difference:.1e}",
        )
        for pair in result.pairs
    ]  # fmt: skip
    shown = [table("In turns; below 1 mace-cl is faster", head, pairs, text=(0, 1))] if pairs else []
    return shown + [f"<p>{escape(peer)}: not measured: {escape(why)}</p>" for peer, why in result.absent.items()]


def operations(result: BenchmarkResult) -> list[str]:
    """The timeline of a run, and tables by type and by time."""
    total = sum(one.seconds for one in result.operations) or 1.0
    types = [
        (group.type, group.route, str(group.count), ms(group.seconds), f"{group.seconds / total:.1%}",
         *_rates(result, group.flops, group.bytes, group.seconds))
        for group in by_type(result.operations)
    ]  # fmt: skip
    longest = sorted(result.operations, key=lambda one: -one.seconds)
    shown = [
        _timeline(result),
        table("By type", ("type", "route", "count", "ms", "share", *_RATES), types, text=(0, 1)),
        _slowest(result, longest[:_SHOWN], "The operations that take longest", total),
    ]
    if len(longest) > _SHOWN:
        shown.append(
            details(f"All {len(longest)} operations", _slowest(result, longest, "All operations by time", total))
        )
    return shown


def _timeline(result: BenchmarkResult) -> str:
    types = _by_time(result)
    end = max((one.start + one.seconds for one in result.operations), default=1e-6)
    routes = list(dict.fromkeys(one.route for one in result.operations)) or ["opencl"]
    title = "A run, operation by operation, by the device's clock"
    plot = Plot(title, (0, end * 1e3), (len(routes), 0), x_name="ms", y_ticks=False, height=80 + 48 * len(routes))
    for lane, route in enumerate(routes):
        plot.label(lane + 0.5, route)
    for one in result.operations:
        lane = routes.index(one.route)
        tip = f"{one.index} {one.type} {one.kernel}\n{one.node}\n{ms(one.seconds)} ms"
        span = (one.start * 1e3, (one.start + one.seconds) * 1e3)
        plot.box(span, (lane + 0.1, lane + 0.9), color_of(one.type, types), tip)
    return figure(title, plot.text, {name: color_of(name, types) for name in types})


def roofline(result: BenchmarkResult) -> list[str]:
    """Operations against the device's ceilings."""
    tops, types = result.ceilings, _by_time(result)
    if tops is None:
        return [paragraph("The ceilings of this device could not be measured.")]
    drawn = [one for one in result.operations if one.flops and one.bytes and one.seconds]
    low = min((one.flops / one.bytes for one in drawn), default=0.1) / 2
    high = max((one.flops / one.bytes for one in drawn), default=100.0) * 4
    least = min((one.flop_rate for one in drawn), default=tops["flops"] / 100) / 2
    title = "Each operation against what the device reaches at most; discs grow with the time it takes"
    plot = Plot(
        title, (low, high), (least, tops["flops"] * 2.5), x_name="operations per byte", y_name="operations per second",
        x_log=True, y_log=True, height=440,
    )  # fmt: skip
    for name, rate in (("memory", tops["far_bytes"]), ("caches", tops["near_bytes"])):
        ridge = tops["flops"] / rate
        said = f"{name} {rate / 1e9:.0f} GB/s"
        plot.line([(low, low * rate), (max(low, ridge), tops["flops"])], "#888", said, dashed=name == "caches")
    plot.line([(low, tops["flops"]), (high, tops["flops"])], "#888", f"{tops['flops'] / 1e9:.0f} GFLOP/s")
    longest = max((one.seconds for one in drawn), default=1.0)
    for one in drawn:
        tip = f"{one.index} {one.type}\n{one.node}\n{one.flop_rate / 1e9:.1f} GFLOP/s, "
        tip += f"{one.flop_rate / tops['flops']:.0%} of the peak"
        radius = 2.5 + 7 * (one.seconds / longest) ** 0.5
        plot.point(one.flops / one.bytes, one.flop_rate, color_of(one.type, types), tip, radius)
    used = dict.fromkeys(one.type for one in drawn)
    said = "Above the memory's line operands come from caches."
    if share := _reached(result):
        said = f"Were every operation at its ceiling, a run would take {share} of the time that it takes. {said}"
    ceilings = [
        ("arithmetic", f"{tops['flops'] / 1e9:.0f} GFLOP/s, multiply-adds in registers"),
        ("memory", f"{tops['far_bytes'] / 1e9:.0f} GB/s, a copy of more than caches hold"),
        ("caches", f"{tops['near_bytes'] / 1e9:.0f} GB/s, a copy that stays in them"),
    ]
    legend = {name: color_of(name, types) for name in types if name in used}
    return [figure(title, plot.text, legend), paragraph(said), facts(ceilings)]


def _reached(result: BenchmarkResult) -> str:
    """The least time by the ceilings of arithmetic and caches, as a share of the time of the operations that count."""
    tops = result.ceilings
    known = [one for one in result.operations if one.route == "opencl" and one.seconds]
    if tops is None or not known:
        return ""
    least = sum(max(one.flops / tops["flops"], one.bytes / tops["near_bytes"]) for one in known)
    return f"{least / sum(one.seconds for one in known):.0%}"


def memory(result: BenchmarkResult) -> list[str]:
    """The arena over a run, and what the process holds."""
    held, types = result.memory, _by_time(result)
    made = {one.index: one for one in result.operations}
    name, unit = unit_for(held.arena)
    title = "The arena over a run: a box is a value, from the operation that writes it to the last that reads it"
    plot = Plot(
        title, (-1, len(made) + 1), (0, held.arena / unit), x_name="operation", y_name=name, height=360
    )  # fmt: skip
    for stay in result.stays:
        maker = made.get(stay.begin)
        color = color_of(maker.type, types) if maker else "#bbb"
        tip = f"{stay.name}\n{size(stay.size)} at {stay.offset}, operations {stay.begin} to {stay.end}"
        span = (stay.offset / unit, (stay.offset + stay.size) / unit)
        plot.box((stay.begin, stay.end + 0.9), span, color, tip)
    rows = [("arena of all activations", held.arena), ("packed weights", held.constants)]
    rows += [
        (what, count) for what, count in (("process at most", held.peak), ("of it mapped files", held.file)) if count
    ]
    legend = {name: color_of(name, types) for name in types} | {"inputs": "#bbb"}
    return [figure(title, plot.text, legend), facts((what, size(count)) for what, count in rows)]


def _slowest(result: BenchmarkResult, found: Iterable[Operation], title: str, total: float) -> str:
    rows = [
        (str(one.index), one.type, ms(one.seconds), f"{one.seconds / total:.1%}",
         *_rates(result, one.flops, one.bytes, one.seconds), one.node)
        for one in found
    ]  # fmt: skip
    return table(title, ("#", "type", "ms", "share", *_RATES, "nodes"), rows, text=(1, 8))


def _by_time(result: BenchmarkResult) -> Sequence[str]:
    """The types of operations, the longest first, so that these have colors of their own."""
    return list(dict.fromkeys(group.type for group in by_type(result.operations)))


_RATES = ("GFLOP/s", "of peak", "GB/s", "of memory")


def _rates(result: BenchmarkResult, flops: int, moved: int, seconds: float) -> tuple[str, ...]:
    tops, per = result.ceilings, seconds or float("inf")
    shares = (f"{flops / per / tops['flops']:.0%}", f"{moved / per / tops['far_bytes']:.0%}") if tops else ("", "")
    return f"{flops / per / 1e9:.1f}", shares[0], f"{moved / per / 1e9:.1f}", shares[1]
