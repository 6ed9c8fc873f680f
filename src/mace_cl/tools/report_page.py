"""A report as one HTML page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING

from mace_cl.benchmark.svg import COLORS, Plot
from mace_cl.tools import benchmark_page
from mace_cl.tools.page import (
    Section,
    cards,
    command,
    details,
    document,
    facts,
    figure,
    ms,
    note,
    paragraph,
    size,
    table,
    unit_for,
)

if TYPE_CHECKING:
    from mace_cl.tools.report import ReportResult, Start
    from mace_cl.tools.validate import Agreement

__all__ = ["page"]

_STAGES: dict[str, tuple[str, ...]] = {
    "Python and imports": ("interpreter", "command line", "imports", "pyopencl", "settings", "input files"),
    "device": ("driver scan", "device", "context"),
    "model to plan": ("identity", "compiler", "read", "optimise", "plan"),
    "kernels compiled": ("compile",),
    "checked and saved": ("proof", "self-check", "save"),
    "program loaded": ("program file", "checksums", "load", "set-up"),
    "first run": ("first run",),
}
_COLORS = {name: COLORS[index] for index, name in enumerate((*_STAGES, "other"))}


def page(result: ReportResult) -> str:
    """The page as text."""
    lead = f"{result.device.name} ({result.device.runtime}); made {result.created}"
    sections = [
        Section("overview", "Overview", _overview(result)),
        Section("program", "Program file", _program(result)),
        Section("workflow", "From source to program", _workflow(result)),
        Section("placement", "What runs where", _placement(result)),
        Section("start", "Initialisation", _start(result)),
        Section("latency", "Latency", benchmark_page.latency(result.benchmark)),
        Section("operations", "Operations", benchmark_page.operations(result.benchmark)),
        Section("roofline", "Roofline", benchmark_page.roofline(result.benchmark)),
        Section("memory", "Memory", benchmark_page.memory(result.benchmark)),
        Section("accuracy", "Accuracy", _accuracy(result)),
        Section("notes", "Troubleshooting", _notes(result)),
    ]
    end = (
        f"Made by `mace-cl report` of mace-cl {result.benchmark.machine.mace_cl}. All figures are of this machine, at "
        "that time; the page needs nothing from elsewhere."
    ).replace("`", "")
    return document("mace-cl report", result.name, lead, cards(_figures(result)), sections, end)


def _figures(result: ReportResult) -> list[tuple[str, str, str]]:
    warm, cold, times = _median(result), result.cold, result.benchmark.latency
    hosted = sum(one.on == "host" for one in result.places)
    rows = [
        ("Start from the program file", _seconds(warm.seconds), "process start to first output, median"),
        (
            "Start without it",
            _seconds(cold.seconds) if cold else "not measured",
            f"{cold.seconds / warm.seconds:.0f} times as long" if cold else "",
        ),
        ("Latency, median", f"{ms(times.p50)} ms", f"p99 {ms(times.p99)} ms, {times.runs} runs"),
        ("Program file", size(result.program.file_bytes), f"{result.program.kernel_count} kernels"),
        (
            "Nodes on OpenCL",
            f"{len(result.places) - hosted} of {len(result.places)}",
            f"{hosted} on the host" if hosted else "none on the host",
        ),
    ]
    if result.accuracy is not None:
        least = min((one.cosine for one in result.accuracy.outputs), default=math.nan)
        rows.append(("Accuracy", "passed" if result.accuracy.passed else "failed", f"cosine at least {least:.6f}"))
    else:
        rows.append(("Accuracy", "not compared", ""))
    return rows


def _overview(result: ReportResult) -> list[str]:
    device, machine = result.device, result.benchmark.machine
    target = result.program.targets[result.target]
    model = [("model", str(result.model) if result.model else "not given: only its compiled program")]
    if result.model_bytes is not None:
        model.append(("size", size(result.model_bytes)))
    model += [("SHA-256", result.program.model.sha256)]
    model += [(f"input {port.name}", f"{port.dtype} {_shape(port.shape)}") for port in target.inputs]
    model += [(f"output {port.name}", f"{port.dtype} {_shape(port.shape)}") for port in target.outputs]
    return [
        "<h3>Model</h3>", facts(model),
        "<h3>Device</h3>",
        facts([
            ("device", f"{device.name} ({device.kind})"), ("vendor", device.vendor),
            ("runtime", f"{device.runtime}: {device.platform}, {device.platform_version}"),
            ("driver", device.driver), ("OpenCL", f"{device.version}, {device.c_version}"),
            ("compute units", str(device.compute_units)),
            ("vector width", f"{device.vector_width} floats"),
            ("memory", f"{size(device.global_bytes)}, at most {size(device.max_alloc_bytes)} in one buffer"),
            ("local memory", f"{size(device.local_bytes)} for each work-group"),
            ("state", device.reason),
        ]),
        "<h3>Machine</h3>",
        facts([
            ("processor", f"{machine.processor}, {machine.processors} processors"), ("system", machine.system),
            ("Python", machine.python), ("mace-cl", machine.mace_cl),
        ]),
    ]  # fmt: skip


def _program(result: ReportResult) -> list[str]:
    seen, target = result.program, result.program.targets[result.target]
    signed = ", ".join(f"{one.key} ({one.state}{', trusted' if one.trusted else ''})" for one in seen.signatures)
    rows = [
        ("file", seen.file), ("size", f"{size(seen.file_bytes)} ({seen.file_bytes} bytes)"),
        ("format version", str(seen.format_version)), ("CRC32", seen.crc32),
        ("producer", f"{seen.producer}, engine {seen.engine}"),
        ("options", ", ".join("=".join(pair) for pair in seen.options) or "none"),
        ("signed by", signed or "nobody"), ("encrypted", f"with the key {seen.encrypted_with}"
                                            if seen.encrypted_with else "no"),
    ]  # fmt: skip
    targets = [
        (
            f"{number}{', used here' if number == result.target + 1 else ''}", one.signature.device,
            one.signature.driver, one.signature.digest()[:12], one.bucket or "fixed shapes",
            str(len(one.kernels)), f"{one.units_with_binary} of {one.units}, {size(one.binary_bytes)}",
            size(one.constant_bytes) + (" inside" if one.constants_inside else " not inside"), size(one.arena_bytes),
        )
        for number, one in enumerate(seen.targets, 1)
    ]  # fmt: skip
    head = (
        "part", "device", "driver", "fingerprint", "compiled for", "kernels", "binaries", "weights",
        "arena",
    )  # fmt: skip
    kernels = [
        (one.name, one.family, str(one.launches), f"{one.source_bytes / 1024:.1f}",
         ", ".join(f"{name}={value}" for name, value in one.parameters), one.source_sha256[:16])
        for one in target.kernels
    ]  # fmt: skip
    sections = [(one.kind, str(one.offset), str(one.length), one.crc32, one.sha256[:16]) for one in seen.sections]
    sizes = {"head": seen.head_bytes, **seen.section_bytes}
    return [
        facts(rows), _sizes(sizes),
        table("Parts, one for each device", head, targets, text=range(5)),
        facts((name, value) for name, value in target.provenance),
        details(
            f"All {len(target.kernels)} kernels",
            table("Kernels of the part used here", ("kernel", "family", "launches", "source, KiB", "parameters",
                                                    "source's SHA-256"), kernels, text=(0, 1, 4, 5)),
        ),
        details(
            f"All {len(sections)} sections",
            table("Sections of the file", ("kind", "offset", "bytes", "CRC32", "SHA-256"), sections, text=(0, 3, 4)),
        ),
    ]  # fmt: skip


def _sizes(sizes: Mapping[str, int]) -> str:
    title, most = "What takes the file's bytes", max(sizes.values(), default=1)
    name, unit = unit_for(most)
    plot = Plot(
        title, (0, most / unit * 1.15), (len(sizes), 0), x_name=name, y_ticks=False, height=80 + 26 * len(sizes),
        left=110,
    )  # fmt: skip
    for number, (kind, count) in enumerate(sizes.items()):
        plot.label(number + 0.5, kind)
        plot.box((0, count / unit), (number + 0.15, number + 0.85), COLORS[0], f"{kind}: {count} bytes")
        plot.note(count / unit, number + 0.5, size(count))
    return figure(title, plot.text)


def _workflow(result: ReportResult) -> list[str]:
    shown = ["<h3>Steps, as they were run</h3>"]
    for number, step in enumerate(result.steps, 1):
        shown.append(
            f"<p><strong>{number}. {escape(step.name)}</strong>: {_seconds(step.seconds)}"
            f"{'; ' if step.result else ''}{escape(step.result)}</p>{command(step.command)}"
        )
    shown.append("<h3>Stages of the compilation</h3>")
    if result.cold is not None:
        shown.append(benchmark_page.waterfall("From the start of the process to the first output", result.cold.steps))
    else:
        shown.append(paragraph(f"Not measured: {result.absent['cold']}."))
    shown.append("<h3>Passes over the graph</h3>")
    if result.passes:
        rows = [
            (one.name.removesuffix("Pass"), str(one.before), str(one.after),
             f"{one.after - one.before:+d}".replace("+0", ""), ms(one.seconds))
            for one in result.passes
        ]  # fmt: skip
        head = ("pass", "nodes before", "after", "change", "ms")
        shown.append(table("In order, run once more for this page", head, rows))
    if "passes" in result.absent:
        shown.append(paragraph(f"Not counted: {result.absent['passes']}."))
    return shown


def _placement(result: ReportResult) -> list[str]:
    counts: dict[str, Counter[str]] = {}
    for one in result.places:
        counts.setdefault(one.op, Counter())[one.on] += 1
    ranked = sorted(counts.items(), key=lambda item: -item[1].total())
    title = "Nodes of the model by op and route"
    most = max((count.total() for count in counts.values()), default=1)
    colors = {"OpenCL": COLORS[0], "host": COLORS[1]}
    plot = Plot(title, (0, most * 1.08), (max(len(ranked), 1), 0), x_name="nodes", y_ticks=False,
                height=80 + 22 * len(ranked), left=190)  # fmt: skip
    for number, (op, count) in enumerate(ranked):
        plot.label(number + 0.5, op)
        reached = 0
        for route, color in colors.items():
            if count[route]:
                span = (reached, reached + count[route])
                plot.box(span, (number + 0.15, number + 0.85), color, f"{op}: {count[route]} on {route}")
                reached += count[route]
        plot.note(reached, number + 0.5, str(reached))
    rows = [(one.node, one.op, one.on, one.by or "no kernel of its own", one.reason) for one in result.places]
    hosted = [row for row in rows if row[2] == "host"]
    head = ("node", "op", "route", "by", "because")
    shown = [figure(title, plot.text, {route: colors[route] for route in colors if route == "OpenCL" or hosted})]
    if hosted:
        shown.append(table("Nodes on the host", head, hosted, text=range(5)))
    return [*shown, details(f"All {len(rows)} nodes", table("Nodes in the model's order", head, rows, text=range(5)))]


def _start(result: ReportResult) -> list[str]:
    warm = _median(result)
    starts = {"with the file": warm}
    if result.first is not None:
        starts = {"first with it": result.first} | starts
    if result.cold is not None:
        starts = {"without it": result.cold} | starts
    title = "Process start to first output, with and without the program file"
    longest = max(one.seconds for one in starts.values()) or 1.0
    plot = Plot(title, (0, longest * 1.1), (len(starts), 0), x_name="s", y_ticks=False, height=80 + 44 * len(starts),
                left=110)  # fmt: skip
    used: dict[str, None] = {}
    for number, (name, start) in enumerate(starts.items()):
        plot.label(number + 0.5, name)
        begin = 0.0
        for stage, seconds in _stages(start).items():
            used[stage] = None
            span = (begin, begin + seconds)
            plot.box(span, (number + 0.15, number + 0.85), _COLORS[stage], f"{stage}: {_seconds(seconds)}")
            begin += seconds
        plot.note(begin, number + 0.5, _seconds(start.seconds))
    rows = [
        (stage, *(_seconds(_stages(one)[stage]) if stage in _stages(one) else "" for one in starts.values()))
        for stage in (stage for stage in _COLORS if stage in used)
    ]
    rows.append(("together", *(_seconds(one.seconds) for one in starts.values())))
    each = ", ".join(_seconds(one.seconds) for one in result.warm)
    shown = [
        figure(title, plot.text, {name: _COLORS[name] for name in _COLORS if name in used}),
        table("The same in figures", ("stage", *starts), rows),
        facts((name, one.sentence) for name, one in starts.items()),
        paragraph(
            "Each start is a process of its own that finds drivers' caches empty. Those with the file: "
            f"{each}; shown is the median."
        ),
    ]
    if result.cold is None:
        shown.append(paragraph(f"The start without it was not measured: {result.absent['cold']}."))
    elif result.model is None:
        shown.append(
            paragraph("Without it: as there is no source model, kernels were compiled from the sources in the file.")
        )
    return [*shown, "<h3>With the program file, step by step</h3>",
            benchmark_page.waterfall("From the start of the process to the first output", warm.steps)]  # fmt: skip


def _accuracy(result: ReportResult) -> list[str]:
    found = result.accuracy
    if found is None:
        oracle = dict(result.program.targets[result.target].provenance).get("oracle", "")
        shown = [paragraph(f"Not compared with another engine: {result.absent['accuracy']}.")]
        if oracle:
            shown.append(
                paragraph(f"When the program was made, the answers that its starts are checked by came from: {oracle}.")
            )
        return shown
    inputs = "one seeded random input" if found.samples == 1 else f"{found.samples} inputs"
    rows = [_agreement("output", one) for one in found.outputs]
    if found.departure is not None:
        rows += [_agreement("read by the first layer that departs", one) for one in found.departure.before]
        rows.append(_agreement(f"made by it: {found.departure.op} {found.departure.node}", found.departure.after))
    verdict = "passed" if found.passed else "failed"
    head = ("", "value", "cosine", "SQNR, dB", "largest error", "mean error")
    shown = [
        f"<p>Compared with {escape(found.reference)} on {inputs}: "
        f'<strong class="{"good" if found.passed else "bad"}">{verdict}</strong>; the least cosine similarity that '
        f"counts is {found.threshold:g}.</p>",
        table("Agreement of the outputs", head, rows, text=(0, 1)),
    ]
    if found.departure is not None and found.departure.reference != found.reference:
        shown.append(paragraph(f"The layer was found with {found.departure.reference}, which tells of layers."))
    if found.saved is not None:
        shown.append(paragraph(f"The inputs that fail are in {found.saved.name}, for a bug report."))
    return shown


def _agreement(what: str, one: Agreement) -> tuple[str, ...]:
    sqnr = "∞: equal" if one.sqnr == math.inf else f"{one.sqnr:.1f}"
    return what, one.name, f"{one.cosine:.7f}", sqnr, f"{one.maximum:.3g}", f"{one.mean:.3g}"


def _notes(result: ReportResult) -> list[str]:
    if not result.notes:
        return [paragraph("Nothing is known that would need care on this device.")]
    lead = paragraph("What may be met on this device with this model.", "soft")
    return [lead, *(note(_upper(one.see), f"{_upper(one.means)}.", f"To do: {one.do}.") for one in result.notes)]


def _upper(text: str) -> str:
    """A sentence's capital, but not for names such as p99."""
    return text[:1].upper() + text[1:] if text.partition(" ")[0].isalpha() else text


def _median(result: ReportResult) -> Start:
    return sorted(result.warm, key=lambda one: one.seconds)[len(result.warm) // 2]


def _stages(start: Start) -> dict[str, float]:
    """The steps summed up, in the order of `_STAGES`."""
    of = {step: stage for stage, steps in _STAGES.items() for step in steps}
    sums = dict.fromkeys(_COLORS, 0.0)
    for step, seconds in start.steps.items():
        sums[of.get(step, "other")] += seconds
    return {stage: seconds for stage, seconds in sums.items() if seconds}


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{ms(seconds)} ms"


def _shape(shape: tuple[int, ...] | None) -> str:
    return "of any shape" if shape is None else ", ".join(map(str, shape)) or "a scalar"
