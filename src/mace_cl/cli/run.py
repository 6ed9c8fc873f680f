"""``mace-cl run``."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.deploy import add_run_options, run_config
from mace_cl.cli.options import (
    Verbs,
    add_compile_options,
    add_device,
    add_image,
    add_json,
    add_quiet,
    add_tune,
    add_verb,
    count,
    preprocessing,
    shapes,
)

if TYPE_CHECKING:
    from mace_cl.schedule import Place
    from mace_cl.tools.run import OutputView, RunResult

__all__ = ["add_to", "show"]

_BAR = 40


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "run",
        _run,
        "Run a model or a compiled program. An image is resized to the input's size; each value is then\n"
        "(pixel * SCALE - MEAN) / STD, where a pixel is 0 to 255. What was done is printed.",
        "  mace-cl run model.onnx --random --repeat 20\n"
        "  mace-cl run model.onnx --input image=input.npy --output result.npz\n"
        "  mace-cl run model.onnx --input photo.jpg --top 5 --labels classes.txt \\\n"
        "      --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225\n"
        "  mace-cl run mace-cl-compiled-program.bin --input input.npy --timings\n"
        "  mace-cl run model.onnx --where\n"
        "  mace-cl run --config mobilenet.yml --validate --benchmark --tune\n"
        "  mace-cl run --config mobilenet.yml --report report.html",
    )
    parser.add_argument("model", type=Path, nargs="?", metavar="MODEL|PROGRAM", help="a model or a compiled program")
    parser.add_argument(
        "-i", "--input", action="append", default=[], metavar="[NAME=]FILE",
        help="an input from a .npy, .npz, raw (.bin or .raw, little-endian) or image file; repeatable",
    )  # fmt: skip
    parser.add_argument("--random", action="store_true", help="fill inputs that are not given with random numbers")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of --random, default: 0")
    parser.add_argument(
        "-o", "--output", action="append", default=[], metavar="FILE",
        help="write FILE.npz with all outputs, NAME=FILE.npy with one, or a .npy each into a directory; repeatable",
    )  # fmt: skip
    parser.add_argument("--top", type=count, default=0, metavar="K", help="show the K best scores")
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one in a line")
    add_image(parser)
    parser.add_argument(
        "--program", type=Path, metavar="FILE", help="compiled program to use and, if need be, to write"
    )
    add_device(parser)
    add_compile_options(parser)
    add_tune(parser)
    parser.add_argument("--repeat", type=count, default=0, metavar="N", help="run N more times and show the latency")
    parser.add_argument("--timings", action="store_true", help="show how long each step of the start took")
    parser.add_argument(
        "--where", action="store_true",
        help="list for each node whether it runs on OpenCL, by which kernels, or on the host, and why; needs no input",
    )  # fmt: skip
    add_run_options(parser)
    add_json(parser)
    add_quiet(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.progress import Steps
    from mace_cl.errors import InputError
    from mace_cl.tools import run

    if (options.model is None) == (options.config is None):
        raise InputError("give a model or a compiled program, or a deployment file with --config")
    if options.seed < 0:
        raise InputError("--seed: give a number of at least 0")
    if options.config is not None:
        run_config(options)
        return
    if options.model_name or options.validate or options.benchmark or options.report:
        raise InputError(
            "--model_name, --validate, --benchmark and --report go with --config; for a model there are the verbs "
            "validate, benchmark and report"
        )
    with Steps(options.quiet) as progress:
        args = run.RunArgs(
            model=options.model,
            inputs=tuple(options.input),
            outputs=tuple(options.output),
            seed=options.seed if options.random else None,
            image=preprocessing(options),
            top=options.top,
            labels=options.labels,
            repeat=options.repeat,
            program=options.program,
            device=options.device,
            store=options.store,
            shapes=shapes(options.shape),
            model_outputs=options.outputs,
            runtime=options.runtime,
            provider=options.provider,
            where=options.where,
            jobs=options.jobs,
            progress=progress,
            exact=options.exact,
            trust=options.trust,
            tune=options.tune,
            watch=progress.watch,
        )
        result = run.run(replace(args, before=_before()))
    if options.json:
        from mace_cl.cli.output import print_json

        print_json(result)
    else:
        show(result)
        if options.timings:
            _show_timings(result.timings)


def _before() -> dict[str, float]:
    """Seconds that the interpreter took to start, as far as that is known, and the command line until now."""
    from mace_cl.cli import STARTED
    from mace_cl.tools.common import process_seconds

    here, whole = time.perf_counter() - STARTED, process_seconds()
    interpreter = {"interpreter": max(0.0, whole - here)} if whole is not None else {}
    return interpreter | {"command line": here}


def show(result: RunResult) -> None:
    """The result for a reader."""
    from mace_cl.cli.output import print_lines, seconds_

    rows = [("device", str(result.device)), ("program", result.decision.sentence)]
    rows += [("compiled for", result.bucket)] if result.bucket else []
    rows += [(f"input {name}", source) for name, source in result.inputs.items()]
    rows += [(f"output {view.name}", _summary(view)) for view in result.outputs]
    rows += [("written", str(path)) for path in result.written]
    if result.latency:
        least, median = seconds_(result.latency.minimum), seconds_(result.latency.median)
        rows.append(("latency", f"median {median}, least {least}, of {result.latency.runs} runs after the first"))
    print_lines(rows)
    if result.where:
        _show_where(result.where)
    for view in result.outputs:
        for place, score in enumerate(view.top, 1):
            print(f"{place:4}. {score.label or score.index}  {score.value:.6g}")


def _show_where(where: Sequence[Place]) -> None:
    from mace_cl.cli.output import print_table

    rows = [(place.node, place.op, place.on, place.by or "no kernel of its own", place.reason) for place in where]
    print_table(("node", "op", "runs on", "by", "because"), rows)
    hosted = sum(place.on == "host" for place in where)
    print(f"{len(where) - hosted} of {len(where)} nodes on OpenCL, {hosted} on the host")


def _summary(view: OutputView) -> str:
    if view.minimum != view.minimum:  # NaN: no numbers
        return f"{view.dtype} {list(view.shape)}"
    nans = f", {view.nans} NaN" if view.nans else ""
    return f"{view.dtype} {list(view.shape)}, {view.minimum:.6g} to {view.maximum:.6g}, mean {view.mean:.6g}{nans}"


def _show_timings(timings: dict[str, float]) -> None:
    """A waterfall."""
    total, begin = sum(timings.values()), 0.0
    for name, seconds in timings.items():
        left, right = (round(_BAR * at / total) for at in (begin, begin + seconds))
        print(f"{name:<13} {seconds * 1e3:8.1f} ms  {' ' * left}{'█' * (right - left)}".rstrip())
        begin += seconds
    print(f"{'together':<13} {total * 1e3:8.1f} ms from the start of the process to the first output")
