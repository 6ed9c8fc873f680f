"""``mace-cl compile``."""

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
    add_tune,
    add_verb,
    shapes,
    values,
)
from mace_cl.tools.common import PROGRAM_NAME

if TYPE_CHECKING:
    from mace_cl.tools.compile import CompiledTarget

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "compile",
        _run,
        "Compile a model for one device or several. The compiled program is written to a file:\n"
        "`mace-cl run FILE` then starts without compiling; without --bake, `mace-cl run MODEL --program FILE` does.",
        "  mace-cl compile model.onnx -o model.bin --bake\n"
        "  mace-cl compile model.onnx -o model.bin --device gpu --device intel --jobs 4\n"
        "  mace-cl compile model.onnx --shape images=1,3,640,640",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model of any format")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(PROGRAM_NAME), metavar="FILE", help="default: %(default)s"
    )
    parser.add_argument("--bake", action="store_true", help="put the weights inside; the file then runs alone")
    add_device(parser, repeatable=True)
    add_compile_options(parser)
    parser.add_argument(
        "--value", action="append", metavar="NAME=N[,…]",
        help="value of an input that is a parameter of ops (axes, sizes), to compile for; repeatable",
    )  # fmt: skip
    add_tune(parser)
    add_json(parser)
    add_quiet(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import bytes_, print_json, print_lines, seconds_
    from mace_cl.cli.progress import Steps
    from mace_cl.tools import compile

    with Steps(options.quiet) as progress:
        args = compile.CompileArgs(
            model=options.model,
            output=options.output,
            devices=tuple(options.device or ()),
            bake=options.bake,
            shapes=shapes(options.shape),
            values=values(options.value),
            outputs=options.outputs,
            runtime=options.runtime,
            provider=options.provider,
            jobs=options.jobs,
            store=options.store,
            progress=progress,
            exact=options.exact,
            trust=options.trust,
            tune=options.tune,
            watch=progress.watch,
        )
        result = compile.run(args)
    if options.json:
        print_json(result)
        return
    inside = "weights inside" if result.baked else "needs the model for its weights"
    rows = [("written", f"{result.output} ({bytes_(result.file_bytes)}, {inside})")]
    for target in result.targets:
        rows.append(("for", f"{target.device}, in {seconds_(target.seconds)}"))
        rows += [("slowest", what) for what in _slowest(target)[:3]]
        rows.append(("checked by", target.oracle))
        rows += list(target.tuned.items())
        if target.safe_kernels:
            rows.append(("without optimisation", target.safe_kernels))
    print_lines([*rows, ("in", seconds_(result.seconds))])


def _slowest(target: CompiledTarget) -> list[str]:
    """Kernels, or units where the driver compiles many at once, with their seconds; the slowest first."""
    from mace_cl.cli.output import seconds_

    found = [(seconds, name) for unit in target.units for name, seconds in unit.each.items()]
    if not found:
        found = [(unit.seconds, f"{unit.kernels[0]} and {len(unit.kernels) - 1} more") for unit in target.units]
    return [f"{name}, {seconds_(seconds)}" for seconds, name in sorted(found, reverse=True)]
