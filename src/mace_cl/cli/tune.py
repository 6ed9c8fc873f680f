"""``mace-cl tune``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.options import (
    Verbs,
    add_compile_options,
    add_device,
    add_exact,
    add_json,
    add_quiet,
    add_verb,
    seconds,
    shapes,
)

if TYPE_CHECKING:
    from mace_cl.tools.tune import MovedResult
    from mace_cl.tune.search import Summary

__all__ = ["add_to", "gain"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "tune",
        _run,
        "Measure what is fastest for a model's kernels on a device, and compile the model so. Each result is kept at\n"
        "once: interrupt it when you like, the same command goes on from there. `mace-cl tune show` lists what is\n"
        "known, `export` and `import` move it between machines.",
        "  mace-cl tune model.onnx --budget 2m\n"
        "  mace-cl tune model.onnx --device gpu --exact\n"
        "  mace-cl tune show\n"
        "  mace-cl tune export records.jsonl\n"
        "  mace-cl tune import records.jsonl",
    )
    parser.add_argument("what", metavar="MODEL|show|export|import", help="a model, or what to do with the records")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="for export and import")
    parser.add_argument(
        "--budget", type=seconds, default=60.0, metavar="TIME", help="such as 30s or 2m, about; default: 60s"
    )
    parser.add_argument("--program", type=Path, metavar="FILE", help="compiled program to write; default: the store's")
    add_device(parser)
    add_exact(parser)
    add_compile_options(parser)
    add_json(parser)
    add_quiet(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.errors import InputError

    actions = {"show": _show, "export": _export, "import": _import}
    moves = options.what in ("export", "import")
    if moves != (options.file is not None):
        raise InputError(
            f"tune {options.what}: needs a FILE"
            if moves
            else f"{options.file}: a file goes with export and import only"
        )
    actions.get(options.what, _tune)(options)


def _tune(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines, seconds_
    from mace_cl.cli.progress import Steps
    from mace_cl.tools import tune

    with Steps(options.quiet) as progress:
        args = tune.TuneArgs(
            model=Path(options.what),
            budget=options.budget,
            device=options.device,
            program=options.program,
            shapes=shapes(options.shape),
            outputs=options.outputs,
            jobs=options.jobs,
            store=options.store,
            runtime=options.runtime,
            provider=options.provider,
            exact=options.exact,
            trust=options.trust,
            progress=progress,
            watch=progress.watch,
        )
        result = tune.run(args)
    if options.json:
        print_json(result)
        return
    found = result.summary
    verdicts = ", ".join(f"{count} {name}" for name, count in found.verdicts.items())
    left = "nothing left to try" if found.finished else "not all was tried: the same command goes on"
    print_lines(
        [
            ("device", str(result.device)),
            (
                "measured",
                f"{found.measured} candidates in {seconds_(found.seconds)}{': ' if verdicts else ''}{verdicts}",
            ),
            ("known before", f"{found.known} candidates"),
            ("gain", gain(found)),
            ("", left),
            ("records", str(result.records or "not kept (--no-store)")),
        ]
    )


def gain(found: Summary) -> str:
    """What the tuning saved, in words."""
    from mace_cl.cli.output import seconds_

    if not found.before:
        return "none: everything was measured before"
    percent = 100 * (1 - found.after / found.before)
    return (
        f"{found.won} of the kernels' choices replaced; the kernels looked at take {seconds_(found.after)} of a run, "
        f"not {seconds_(found.before)} ({percent:.1f} % less)"
    )


def _show(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_table
    from mace_cl.tools import tune

    result = tune.show(options.device)
    if options.json:
        print_json(result)
        return
    rows = [
        (one.problem, one.parameters, f"{one.microseconds:.1f} µs", f"{100 * one.noise:.1f} %", one.rung, one.device)
        for one in result.records
    ]
    if rows:
        print_table(("problem", "best", "time", "noise", "rung here", "measured on"), rows, numbers=(2, 3))
    print(f"{len(rows)} problems, {result.measured} candidates measured, in {result.file}; here is {result.device}")


def _export(options: argparse.Namespace) -> None:
    from mace_cl.tools import tune

    _moved(tune.export(options.file), options.json)


def _import(options: argparse.Namespace) -> None:
    from mace_cl.tools import tune

    _moved(tune.import_(options.file), options.json)


def _moved(result: MovedResult, json: bool) -> None:
    from mace_cl.cli.output import print_json

    if json:
        print_json(result)
    else:
        known = f", {result.known} were known" if result.known else ""
        print(f"{result.records} records from {result.source} to {result.target}{known}")
