"""``mace-cl why``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mace_cl.cli.options import Verbs, add_device, add_graph_options, add_json, add_verb, shapes

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "why",
        _run,
        "Tell what a run would use, rebuild or refuse, and why. Nothing is run or changed. The codes are those of\n"
        "docs/program-file.md, of logs and of --json.",
        "  mace-cl why model.onnx\n"
        "  mace-cl why model.onnx --program model.bin --device gpu\n"
        "  mace-cl why model.bin --json",
    )
    parser.add_argument("model", type=Path, metavar="MODEL|PROGRAM", help="a model or a compiled program")
    parser.add_argument("--program", type=Path, metavar="FILE", help="the compiled program that the run would name")
    add_graph_options(parser)
    parser.add_argument(
        "--no-store", dest="store", action="store_const", const=False, help="as if the run were given --no-store"
    )
    add_device(parser)
    add_json(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.tools import why

    args = why.WhyArgs(
        options.model, options.program, options.device, shapes(options.shape), options.store, options.outputs,
        options.runtime, options.provider, options.trust,
    )  # fmt: skip
    result = why.run(args)
    if options.json:
        print_json(result)
        return
    rows = [("device", str(result.device)), ("program", result.program or "none")]
    rows += [(result.action, result.code), ("because", result.sentence)]
    if result.action == "use":
        known = "yes" if result.proven else "not yet: a child process tries the binaries first"
        rows.append(("known to work here", known))
    print_lines(rows)
    for number, target in enumerate(result.targets):
        made = f"; made because: {target.because}" if target.because else ""
        bucket = f", for {target.bucket}" if target.bucket else ""
        print(f"\npart {number + 1}: {target.device}, driver {target.driver}{bucket}{made}")
        for difference in target.differences or ("the same device and driver",):
            print(f"  {difference}")
