"""One page of the last results: latency and starts beside peers, memory, growth, operations and rooflines.

    python benchmarks/page.py [--results DIR] [--output FILE]

Reads what the other scripts here and `mace-cl benchmark MODEL --json` (as `operations-*.json`) have left in
``--results``; nothing is measured.  The page is one file that needs no other.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from latency import UNTUNED

from mace_cl.benchmark.operations import Operation, Stay
from mace_cl.benchmark.pairs import Latencies
from mace_cl.benchmark.svg import Plot, color_of
from mace_cl.tools.benchmark import BenchmarkResult, Machine, Memory, Start
from mace_cl.tools.benchmark_page import operations, roofline, waterfall
from mace_cl.tools.common import DeviceName
from mace_cl.tools.page import Section, details, document, figure, ms, paragraph, table

RUNTIMES = {"pocl-3.0": "PyPI's PoCL", "pocl-3.1": "PoCL 3.1", "intel": "Intel's runtime"}

Result = Mapping[str, Any]


def page(folder: Path) -> str:
    """The page as text."""
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    tuned = {name: kept[f"latency-tuned-{name}"] for name in RUNTIMES if f"latency-tuned-{name}" in kept}
    plots = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("growth-*.svg"))}
    sections = [
        Section("latency", "Latency beside peers", list(latency(tuned, kept["latency-tuned-again"]["runs"]))),
        Section("start", "Warm start", [starts(name, rows) for name, rows in kept["start"]["seconds"].items()]),
        Section("memory", "Peak memory", [memory(*(kept[f"memory-{one}"]["bytes"] for one in ("pocl", "intel")))]),
        Section("growth", "Growth", [figure(growth(name, kept[name]), plot) for name, plot in plots.items()]),
        *(Section(name, *profile(kept[name])) for name in kept if name.startswith("operations-")),
    ]
    machine = Machine(**kept["start"]["machine"])
    lead = f"{machine.processor}, {machine.processors} processors, {machine.system}; fp32, batch 1, as many threads."
    end = "Each engine ran in a process of its own, in turns with the others; docs/benchmarks.md tells how and when."
    return document("mace-cl", "Benchmarks", lead, "", sections, end)


def latency(tuned: Mapping[str, Result], again: Sequence[Result]) -> Iterator[str]:
    """Least latencies of all engines, and for each runtime the ratios to each peer."""
    every = [one for document in tuned.values() for one in document["results"]]
    versions = {one["peer"]: one["version"] for one in every if one["peer"] != UNTUNED}
    peers = list(versions)
    rows = []
    for model in sorted({one["model"] for one in every}):
        of = [one for one in every if one["model"] == model]
        ours = ([one["ours"]["minimum"] for one in of if one["device"] == runtime] for runtime in tuned)
        theirs = ([one["theirs"]["minimum"] for one in of if one["peer"] == peer] for peer in peers)
        rows.append([model, *(ms(min(times)) if times else "" for times in (*ours, *theirs))])
    title = f"Least latency, ms; {', '.join(' '.join(one) for one in versions.items())}"
    yield table(title, ["model", *(f"mace-cl, {RUNTIMES[runtime]}" for runtime in tuned), *peers], rows)
    for runtime, found in tuned.items():
        budget, results = found["budget"], found["results"]
        yield ratios(f"{RUNTIMES[runtime]}, tuned for {budget:.0f} s each: ours ÷ its latency", results, peers)
        head = ["model", *(f"÷ {peer}" for peer in (UNTUNED, *peers)), "blocks"]
        yield table(f"{RUNTIMES[runtime]}: medians of ours ÷ its (quartiles)", head, list(quotients(results, head)))
    rows = [
        [one["model"], RUNTIMES[one["device"]], one["peer"], *cell(one).split(" ", 1), f"{run['budget']:.0f}",
         str(one["blocks"])]
        for run in again for one in run["results"]
    ]  # fmt: skip
    head = ["model", "runtime", "peer", "ours ÷ its", "quartiles", "tuned for, s", "blocks"]
    yield details("Measured again", table("Medians of ours ÷ its", head, rows, text=(0, 1, 2)))


def quotients(results: Sequence[Result], head: Sequence[str]) -> Iterator[list[str]]:
    """A row for each model, and the geometric means."""
    for model in dict.fromkeys(one["model"] for one in results):
        of = {f"÷ {one['peer']}": one for one in results if one["model"] == model}
        blocks = max(one["blocks"] for one in of.values())
        yield [model, *(cell(of[name]) if name in of else "" for name in head[1:-1]), str(blocks)]
    columns = ([one["ratio"] for one in results if f"÷ {one['peer']}" == name] for name in head[1:-1])
    yield ["geometric mean", *(f"{statistics.geometric_mean(column):.2f}" for column in columns), ""]


def cell(one: Result) -> str:
    return f"{one['ratio']:.2f} ({one['low']:.2f}…{one['high']:.2f})"


def ratios(title: str, results: Sequence[Result], peers: Sequence[str]) -> str:
    """A line for each model, a disc for each peer; on the left of 1 mace-cl is faster."""
    models = list(dict.fromkeys(one["model"] for one in results))
    shown = [one for one in results if one["peer"] in peers]
    low, high = (edge(one["ratio"] for one in shown) for edge in (min, max))
    plot = Plot(
        title, (low / 1.1, max(high, 1) * 1.1), (len(models), 0), x_name="ours ÷ its", y_ticks=False, x_log=True,
        height=80 + 20 * len(models), left=150,
    )  # fmt: skip
    plot.line([(1, 0), (1, len(models))], "#888")
    for number, model in enumerate(models):
        plot.label(number + 0.5, model)
    for one in shown:
        tip = f"{one['model']} ÷ {one['peer']}: {cell(one)}, {one['blocks']} blocks"
        plot.point(one["ratio"], models.index(one["model"]) + 0.5, color_of(one["peer"], peers), tip, 5)
    return figure(title, plot.text, {peer: color_of(peer, peers) for peer in peers})


def starts(model: str, rows: Mapping[str, Sequence[float]]) -> str:
    """Medians as bars, their ranges in words."""
    medians = {name: statistics.median(times) for name, times in rows.items()}
    count = max(map(len, rows.values()))
    title = f"{model}: process start to first output, medians of {count} starts"
    plot = Plot(
        title, (0, max(medians.values()) * 1.25e3), (len(rows), 0), x_name="ms", y_ticks=False,
        height=80 + 24 * len(rows), left=150,
    )  # fmt: skip
    for number, (name, times) in enumerate(rows.items()):
        plot.label(number + 0.5, name)
        said = f"{ms(medians[name])} ({ms(min(times))} … {ms(max(times))})"
        kind = "mace-cl" if name.startswith("mace-cl") else "others"
        color = color_of(kind, ("mace-cl", "others"))
        plot.box((0, medians[name] * 1e3), (number + 0.15, number + 0.85), color, f"{name}: {said} ms")
        plot.note(medians[name] * 1e3, number + 0.5, said)
    return figure(title, plot.text)


def memory(*measured: Mapping[str, Mapping[str, Mapping[str, int]]]) -> str:
    """Peaks at the first output of a warm start, and their shares of ONNX Runtime's in the same run."""
    rows = []
    for model in measured[0]:
        row = [model, f"{measured[0][model]['ort']['peak'] / 2**20:.0f}"]
        for runtime in RUNTIMES:
            held = next(of[model] for of in measured if f"{runtime} warm" in of[model])
            peak = held[f"{runtime} warm"]["peak"]
            row.append(f"{peak / 2**20:.0f} ({peak / held['ort']['peak']:.2f})")
        rows.append(row)
    return table("MiB at most, warm (share of ONNX Runtime's)", ["model", "ort", *RUNTIMES.values()], rows)


def growth(name: str, found: Result) -> str:
    """What a plot shows, with the exponents."""
    ((series, of),) = found["series"].items()
    said = ", ".join(f"{key} {value:.2f}" for key, value in of["exponents"].items())
    return f"Cost against {series} on {RUNTIMES[found['device']]}; exponents: {said}"


def profile(found: Result) -> tuple[str, list[str]]:
    """Title and parts of a model's section: start, operations, roofline."""
    result = BenchmarkResult(
        Path(found["model"]), Machine(**found["machine"]), DeviceName(**found["device"]), None,
        Start(**found["start"]), found["warm_up"], Latencies(**found["latency"]),
        tuple(Operation(**one) for one in found["operations"]), found["ceilings"], Memory(**found["memory"]),
        tuple(Stay(**one) for one in found["stays"]), (), {}, found["interrupted"],
    )  # fmt: skip
    steps = {**result.start.steps, "first run": result.start.first_run}
    times = f"Median of {result.latency.runs} runs: {ms(result.latency.p50)} ms."
    parts = [waterfall("From the first import to the first output", steps), paragraph(times)]
    return f"{result.model.stem} on {result.device.runtime}", [*parts, *operations(result), *roofline(result)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = Path(__file__).parent / "results"
    parser.add_argument("--results", type=Path, default=own)
    parser.add_argument("--output", type=Path, default=own / "page.html")
    arguments = parser.parse_args()
    arguments.output.write_text(page(arguments.results), encoding="utf-8")


if __name__ == "__main__":
    main()
