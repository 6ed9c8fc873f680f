"""``mace-cl validate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.options import (
    Verbs,
    add_compile_options,
    add_device,
    add_image,
    add_json,
    add_quiet,
    add_verb,
    preprocessing,
    shapes,
)

if TYPE_CHECKING:
    from mace_cl.tools.validate import ValidateResult

__all__ = ["FAILED", "add_to", "show"]

FAILED = 9
"""The exit code where an output is below the threshold."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "validate",
        _run,
        "Compare a model's outputs with those of another engine, by default the one that the model was made for.\n"
        "Where one is below the threshold, the first layer that departs is found by bisection, the inputs are saved,\n"
        "and the exit code is 9.",
        "  mace-cl validate model.onnx\n"
        "  mace-cl validate model.tflite --data photos --labels labels.txt\n"
        "  mace-cl validate model.tflite --reference onnxruntime --data samples --script my_metric.py --json",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model of any known format")
    parser.add_argument(
        "--reference", choices=("onnxruntime", "tflite", "tensorflow", "torch", "opencv"),
        help="the engine to compare with; default: by the model's format",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="DIR",
        help="a .npy, .npz or image file for each sample, in a subfolder for each class or listed in labels.txt where "
        "classes are known; default: random",
    )  # fmt: skip
    parser.add_argument("--labels", type=Path, metavar="FILE", help="names of the classes, one in a line")
    parser.add_argument(
        "--script", type=Path, metavar="FILE.py",
        help="run this Python file, and show what its function metric(ours, reference, inputs, names) returns",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of random numbers, default: 0")
    parser.add_argument(
        "--threshold", type=float, metavar="X",
        help="least cosine similarity, default: MACE's, 0.999 on a CPU, 0.995 on a GPU, 0.98 for quantised models",
    )  # fmt: skip
    parser.add_argument(
        "--save", type=Path, default=Path("validate-inputs.npz"), metavar="FILE",
        help="inputs that fail, default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--program", type=Path, metavar="FILE", help="compiled program to use and, if need be, write")
    add_image(parser)
    add_device(parser)
    add_compile_options(parser)
    add_json(parser)
    add_quiet(parser)


def _run(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json
    from mace_cl.cli.progress import Steps
    from mace_cl.errors import InputError
    from mace_cl.tools import validate as tool

    if options.seed < 0:
        raise InputError("--seed: give a number of at least 0")
    with Steps(options.quiet) as progress:
        result = tool.run(
            tool.ValidateArgs(
                model=options.model, program=options.program, reference=options.reference, data=options.data,
                labels=options.labels,
                image=preprocessing(options), script=options.script, seed=options.seed, threshold=options.threshold,
                save=options.save, shapes=shapes(options.shape), outputs=options.outputs, device=options.device,
                runtime=options.runtime, provider=options.provider, store=options.store, jobs=options.jobs,
                trust=options.trust, progress=progress,
            )
        )  # fmt: skip
    if options.json:
        print_json(result)
    else:
        show(result)
    if not result.passed:
        sys.stdout.flush()
        sys.exit(FAILED)


def show(result: ValidateResult) -> None:
    """The result for a reader."""
    from mace_cl.cli.output import print_lines, print_table

    rows = [("output", one) for one in result.outputs]
    if result.departure is not None:
        rows += [("departs after", one) for one in result.departure.before]
        rows.append((f"first: {result.departure.op} {result.departure.node}", result.departure.after))
    print_table(
        ("", "value", "cosine", "SQNR dB", "max error", "mean error"),
        [
            (what, one.name, f"{one.cosine:.6f}", f"{one.sqnr:.1f}", f"{one.maximum:.3g}", f"{one.mean:.3g}")
            for what, one in rows
        ],
        (2, 3, 4, 5),
    )
    verdict = "passed" if result.passed else f"FAILED; the inputs are in {result.saved}"
    lines = [("device", str(result.device)), ("reference", result.reference), ("samples", str(result.samples))]
    if (found := result.accuracy) is not None:
        lines += [
            (f"top-{k}", f"{one:.2%}, the reference {other:.2%}, of {found.samples} samples")
            for k, one, other in ((1, found.top1, found.reference_top1), (5, found.top5, found.reference_top5))
        ]
    lines += [(name, f"{number:.6g}") for name, number in result.metrics.items()]
    print_lines([*lines, ("threshold", f"{result.threshold:g}"), ("verdict", verdict)])
    if not result.passed and result.departure is None:
        print("No layer departs: the difference is in how the model was read, or goes when kernels are not fused.")
    elif result.departure is not None and result.departure.reference != result.reference:
        print(f"The layer was found with {result.departure.reference}; {result.reference} tells of none.")
