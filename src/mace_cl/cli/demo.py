"""``mace-cl demo``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.options import Verbs, add_device, add_json, add_quiet, add_verb

if TYPE_CHECKING:
    from mace_cl.tools.demo import DemoResult, Row

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "demo",
        _run,
        "Show what a compiled program saves. Two image classifiers, a small trained one and a MobileNet-v2 with\n"
        "seeded weights, are compiled, started again from the program file in fresh processes, and measured.",
        "  mace-cl demo\n  mace-cl demo --device pocl --keep here\n  mace-cl demo --json",
    )
    add_device(parser)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the models and the compiled programs in DIR")
    add_json(parser)
    add_quiet(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json
    from mace_cl.cli.progress import Steps
    from mace_cl.tools import demo

    with Steps(options.quiet) as progress:
        result = demo.run(demo.DemoArgs(options.device, options.keep, progress))
    if options.json:
        print_json(result)
    else:
        _show(result)


def _show(result: DemoResult) -> None:
    from mace_cl.cli.output import print_table

    print(f"device: {result.device}")
    columns = ("model", "cold start", "warm start", "tax removed", "latency", "top-1", "difference to ONNX Runtime")
    print_table(columns, map(_cells, result.rows), numbers=range(1, 7))
    print("cold start    process start to first output; nothing was compiled or cached anywhere")
    print("warm start    the same from mace-cl-compiled-program.bin; the median of", len(result.rows[0].warm_starts))
    print("latency       one run; the median of", ", ".join(f"{row.runs} ({row.model})" for row in result.rows))
    print("top-1         on held-out digits; the weights of mobilenet-v2 are random numbers from a seed")
    if result.reference:
        print(f"difference    to ONNX Runtime {result.reference}, of the output's greatest element; 1e-4 is allowed")
    else:
        print("difference    ONNX Runtime is not installed; `pip install onnxruntime` and try again")
    for row in result.rows if result.kept else ():
        print(f"kept          {row.program}")


def _cells(row: Row) -> tuple[str, ...]:
    from mace_cl.cli.output import seconds_

    top = "-" if row.right is None or row.images is None else f"{row.right / row.images:.1%} ({row.right}/{row.images})"
    difference = "not installed" if row.difference is None else f"{row.difference:.1e}"
    return (row.model, *map(seconds_, (row.cold, row.warm, row.tax, row.latency)), top, difference)
