"""``mace-cl report``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mace_cl.cli.options import (
    Verbs,
    add_compile_options,
    add_device,
    add_exact,
    add_json,
    add_quiet,
    add_verb,
    count,
    shapes,
)

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "report",
        _run,
        "Write one page on a model and its compiled program. It tells of the device, the program file, the way from\n"
        "source to program, starts with and without the file, latency, every operation, accuracy, and what to watch\n"
        "on this device. The page needs no other file and no network. Kernels are compiled for it from nothing.",
        "  mace-cl report model.onnx\n"
        "  mace-cl report model.onnx --program mace-cl-compiled-program.bin -o report.html --pdf report.pdf\n"
        "  mace-cl report mace-cl-compiled-program.bin --json > report.json",
    )
    parser.add_argument("model", type=Path, metavar="MODEL|PROGRAM", help="a model or a compiled program")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--pdf", type=Path, metavar="FILE", help="the page as PDF too, by Chromium or Google Chrome")
    parser.add_argument(
        "--program", type=Path, metavar="FILE", help="the model's compiled program; written where it does not exist"
    )
    parser.add_argument("--runs", type=count, default=100, metavar="N", help="timed runs, default: 100")
    add_device(parser)
    add_compile_options(parser)
    add_exact(parser)
    add_json(parser)
    add_quiet(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.cli.progress import Steps
    from mace_cl.tools import report

    with Steps(options.quiet) as progress:
        result = report.run(
            report.ReportArgs(
                options.model, options.output, options.pdf, options.program, options.runs, device=options.device,
                shapes=shapes(options.shape), outputs=options.outputs, runtime=options.runtime,
                provider=options.provider, store=options.store, jobs=options.jobs, trust=options.trust,
                exact=options.exact, progress=progress,
            )
        )  # fmt: skip
    if options.json:
        print_json(result)
    else:
        rows = [(step.name, f"{step.seconds:.1f} s, {step.result}") for step in result.steps]
        rows += [("written", str(path)) for path in (result.output, result.pdf) if path is not None]
        print_lines(rows)
