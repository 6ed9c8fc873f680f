"""``mace-cl benchmark``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.options import (
    Verbs,
    add_compile_options,
    add_device,
    add_json,
    add_quiet,
    add_verb,
    count,
    shapes,
)

if TYPE_CHECKING:
    from mace_cl.benchmark.operations import Group, Operation
    from mace_cl.benchmark.pairs import Latencies
    from mace_cl.tools.benchmark import BenchmarkResult, Start

__all__ = ["add_to", "show_in_short"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "benchmark",
        _run,
        "Measure a model: its start, latency, memory, and every operation by the device's own clock. Rates are\n"
        "shown as shares of what the device reaches at most: multiply-adds in registers, and a copy of more than\n"
        "caches hold. An operation above 100% of the latter finds its operands in a cache. After Ctrl-C the\n"
        "result has what was measured until then, and the exit code is 130.",
        "  mace-cl benchmark model.onnx\n"
        "  mace-cl benchmark model.onnx --peers ort,openvino --html report.html\n"
        "  mace-cl benchmark mace-cl-compiled-program.bin --runs 500 --json > result.json",
    )
    parser.add_argument("model", type=Path, metavar="MODEL|PROGRAM", help="an ONNX model or a compiled program")
    parser.add_argument("--runs", type=count, default=100, metavar="N", help="timed runs, default: 100")
    parser.add_argument("--warm-up", type=int, default=10, metavar="N", help="runs before them, default: 10")
    parser.add_argument(
        "--peers", type=_names, default=(), metavar="NAME,…",
        help="measure beside these engines: ort, openvino, openvino-default (bf16 where it pays), litert, mnn, ncnn",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=count, default=12, metavar="N", help="pairs of blocks with each peer, default: 12"
    )
    parser.add_argument("--threads", type=count, metavar="N", help="threads of the peers, default: all processors")
    parser.add_argument("--streams", type=count, default=1, metavar="N", help="also runs per second of N at a time")
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots; it needs no other file")
    parser.add_argument("--program", type=Path, metavar="FILE", help="compiled program to use and, if need be, write")
    add_device(parser)
    add_compile_options(parser)
    add_json(parser)
    add_quiet(parser)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.progress import Steps
    from mace_cl.errors import InputError
    from mace_cl.tools import benchmark

    if options.warm_up < 0:
        raise InputError("--warm-up: give a number of at least 0")
    with Steps(options.quiet) as progress:
        result = benchmark.run(
            benchmark.BenchmarkArgs(
                model=options.model,
                runs=options.runs,
                warm_up=options.warm_up,
                peers=options.peers,
                rounds=options.rounds,
                threads=options.threads,
                html=options.html,
                streams=options.streams,
                program=options.program,
                device=options.device,
                store=options.store,
                shapes=shapes(options.shape),
                outputs=options.outputs,
                runtime=options.runtime,
                provider=options.provider,
                jobs=options.jobs,
                trust=options.trust,
                progress=progress,
            )
        )
    if options.json:
        from mace_cl.cli.output import print_json

        print_json(result)
    else:
        _show(result)
        if options.html:
            print(f"\nwritten  {options.html}")
    if result.interrupted:
        raise KeyboardInterrupt


def _show(result: BenchmarkResult) -> None:
    from mace_cl.benchmark.operations import by_type

    total = sum(one.seconds for one in result.operations) or 1.0
    _show_operations("operations in the order of the run", result, result.operations, total)
    longest = sorted(result.operations, key=lambda one: -one.seconds)
    _show_operations("operations by time", result, longest, total)
    _show_types(result, by_type(result.operations), total)
    _show_summary(result)
    _show_peers(result)


def show_in_short(result: BenchmarkResult) -> None:
    """The result for a reader, without the operations one by one."""
    from mace_cl.benchmark.operations import by_type

    _show_types(result, by_type(result.operations), sum(one.seconds for one in result.operations) or 1.0)
    _show_summary(result)


def _show_operations(title: str, result: BenchmarkResult, found: object, total: float) -> None:
    from mace_cl.cli.output import bytes_, print_table

    assert isinstance(found, (list, tuple))
    print(title)
    rows, sum_ = [], 0.0
    for one in found:
        sum_ += one.seconds
        rows.append((
            str(one.index), one.type, one.route, _ms(one.start), _ms(one.first), _ms(one.seconds),
            f"{one.seconds / total:.1%}", f"{sum_ / total:.1%}", *_rates(result, one),
            bytes_(one.output_bytes), one.node,
        ))  # fmt: skip
    columns = ("#", "type", "route", "start", "first", "avg ms", "%", "sum %", *_RATES, "output", "nodes")
    print_table(columns, rows, numbers=(0, *range(3, 13)))


_RATES = ("GFLOP/s", "of peak", "GB/s", "of peak")


def _rates(result: BenchmarkResult, one: Operation | Group) -> tuple[str, str, str, str]:
    """Rates, and their shares of the device's ceilings."""
    seconds = one.seconds or float("inf")
    flops, moved = one.flops / seconds, one.bytes / seconds
    tops = result.ceilings
    return (
        f"{flops / 1e9:.1f}", f"{flops / tops['flops']:.0%}" if tops else "",
        f"{moved / 1e9:.1f}", f"{moved / tops['far_bytes']:.0%}" if tops else "",
    )  # fmt: skip


def _show_types(result: BenchmarkResult, groups: tuple[Group, ...], total: float) -> None:
    from mace_cl.cli.output import print_table

    print("operations by type")
    rows, sum_ = [], 0.0
    for group in groups:
        sum_ += group.seconds
        rows.append((
            group.type, group.route, str(group.count), _ms(group.seconds), f"{group.seconds / total:.1%}",
            f"{sum_ / total:.1%}", f"{group.flops / 2e6:.1f}", *_rates(result, group),
        ))  # fmt: skip
    columns = ("type", "route", "count", "avg ms", "%", "sum %", "M MAC", *_RATES)
    print_table(columns, rows, numbers=range(2, 11))


def _show_summary(result: BenchmarkResult) -> None:
    from mace_cl.cli.output import bytes_, print_lines

    memory, latency = result.memory, result.latency
    device_time = sum(one.seconds for one in result.operations)
    rows = [("model", str(result.model)), ("device", str(result.device)), ("program", result.start.sentence)]
    if result.cold is not None:
        rows.append(("init, compiling", f"{_start(result.cold)}  (this start made the program; the next loaded it)"))
    rows += [
        ("init", _start(result.start)),
        ("warm-up", f"{_ms(result.warm_up)} ms"),
        ("latency", f"{_latencies(latency)}; {latency.runs} runs"),
        ("on the device", f"{_ms(device_time)} ms in {len(result.operations)} operations"),
    ]
    if tops := result.ceilings:
        rows.append((
            "device at most",
            f"{tops['flops'] / 1e9:.0f} GFLOP/s, {tops['far_bytes'] / 1e9:.0f} GB/s from memory, "
            f"{tops['near_bytes'] / 1e9:.0f} GB/s from caches",
        ))  # fmt: skip
    held = [f"arena {bytes_(memory.arena)}", f"weights {bytes_(memory.constants)}"]
    held += [f"process at most {bytes_(memory.peak)}"] if memory.peak else []
    held += [f"of it mapped files {bytes_(memory.file)}"] if memory.file else []
    print_lines([*rows, ("memory", ", ".join(held))])


def _start(start: Start) -> str:
    return f"{_ms(start.init)} ms, first run {_ms(start.first_run)} ms"


def _latencies(found: Latencies) -> str:
    return (
        f"average {_ms(found.average)} ms, p50 {_ms(found.p50)}, p90 {_ms(found.p90)}, p99 {_ms(found.p99)}, "
        f"least {_ms(found.minimum)}"
    )


def _show_peers(result: BenchmarkResult) -> None:
    from mace_cl.cli.output import bytes_, print_table

    if result.pairs:
        print("\nbeside peers, in turns: ratio is ours ÷ theirs, below 1 where mace-cl is faster")
        rows = [
            (
                pair.peer, pair.version, f"{pair.ratio:.3f}", f"{pair.low:.3f} … {pair.high:.3f}", str(pair.blocks),
                _ms(pair.ours.p50), _ms(pair.theirs.p50), _ms(pair.ours.minimum), _ms(pair.theirs.minimum),
                "" if pair.difference is None else f"{pair.difference:.1e}",
                _ms(pair.peer_init + pair.peer_first_run), bytes_(pair.peer_peak) if pair.peer_peak else "",
            )
            for pair in result.pairs
        ]  # fmt: skip
        columns = (
            "peer", "version", "ratio", "quartiles", "blocks", "ours p50", "its p50", "ours min", "its min",
            "difference", "its init + first", "its memory",
        )  # fmt: skip
        print_table(columns, rows, numbers=(2, *range(4, 12)))
    for one in result.throughput:
        streams = "1 stream" if one.streams == 1 else f"{one.streams} streams"
        print(f"throughput of {one.engine}, {streams}: {one.rate:.1f} runs per second")
    for peer, why in result.absent.items():
        print(f"{peer}: not measured: {why}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}" if seconds < 0.1 else f"{seconds * 1e3:.0f}"
