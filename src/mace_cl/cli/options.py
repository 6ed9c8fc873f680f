"""How a verb is declared, options that several have, and how their text is read."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mace_cl.tools.common import Preprocessing

__all__ = [
    "Verbs",
    "add_compile_options",
    "add_device",
    "add_exact",
    "add_graph_options",
    "add_image",
    "add_json",
    "add_model_options",
    "add_quiet",
    "add_tune",
    "add_verb",
    "count",
    "preprocessing",
    "seconds",
    "shapes",
]


Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_verb(
    verbs: Verbs, name: str, run: Callable[[argparse.Namespace], None], description: str, examples: str
) -> argparse.ArgumentParser:
    """A parser whose result is handed to ``run``; the first sentence of ``description`` is its line in the list."""
    parser = verbs.add_parser(
        name,
        help=description.partition(".")[0].lower(),
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(verb=run)
    return parser


def add_device(parser: argparse.ArgumentParser, *, repeatable: bool = False) -> None:
    """``device``: a specification, or None; a list or None where it is ``repeatable``."""
    text = "cpu, gpu, a runtime such as pocl or intel, an index of `mace-cl devices`, or a part of a name"
    if repeatable:
        parser.add_argument("--device", action="append", metavar="SPEC", help=f"{text}; repeatable")
    else:
        parser.add_argument("--device", metavar="SPEC", help=text)


def add_json(parser: argparse._ActionsContainer) -> None:
    """``json``: a flag."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def add_quiet(parser: argparse.ArgumentParser) -> None:
    """``quiet``: a flag."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress and no notes, only warnings and errors")


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """As `add_graph_options`, and ``jobs`` (None or at least 1) and ``store`` (None or False)."""
    add_graph_options(parser)
    parser.add_argument("--jobs", type=count, metavar="N", help="compile kernels in N processes")
    parser.add_argument(
        "--no-store", dest="store", action="store_const", const=False,
        help="neither use nor write compiled programs in the user's cache directory",
    )  # fmt: skip


def add_graph_options(parser: argparse.ArgumentParser) -> None:
    """As `add_model_options`, and ``runtime`` and ``provider`` (None or a text)."""
    add_model_options(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--runtime", choices=("gpu+cpu", "gpu", "cpu", "npu"),
        help="what may run the model: OpenCL and, for what that lacks, the host (default); OpenCL alone; the host "
        "alone; what --provider takes there, and the rest as by default",
    )  # fmt: skip
    where.add_argument(
        "--no-fallback", dest="runtime", action="store_const", const="gpu",
        help="the same as --runtime gpu: fail, and name all that OpenCL lacks",
    )  # fmt: skip
    parser.add_argument(
        "--provider", metavar="NAME",
        help="the execution provider of ONNX Runtime for the host's part: QNN, NNAPI, XNNPACK, CoreML, …; "
        "default: its CPU provider",
    )  # fmt: skip


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """``shape`` (a list or None), ``outputs`` (a tuple) and ``trust`` (None or True)."""
    parser.add_argument(
        "--shape", "--input-shape", action="append", metavar="NAME=N,N,…",
        help="shape of an input with symbolic dimensions; repeatable",
    )  # fmt: skip
    parser.add_argument(
        "--outputs", type=_names, default=(), metavar="NAME[,…]",
        help="make these values or nodes the outputs, and leave out what comes after",
    )  # fmt: skip
    parser.add_argument(
        "--trust", action="store_const", const=True,
        help="let code run that the model's file holds (pickles, Lambda layers); refused without it",
    )  # fmt: skip


def add_image(parser: argparse.ArgumentParser) -> None:
    """How pixels become numbers; see `preprocessing`."""
    image = parser.add_argument_group("images")
    image.add_argument("--scale", type=_numbers, metavar="SCALE", help="default: 1/255")
    image.add_argument("--mean", type=_numbers, default=(0.0,), metavar="MEAN[,…]", help="one, or one for each channel")
    image.add_argument("--std", type=_numbers, default=(1.0,), metavar="STD[,…]", help="one, or one for each channel")
    image.add_argument("--layout", choices=("nchw", "nhwc"), help="default: by the input's shape")
    image.add_argument("--color", choices=("rgb", "bgr", "gray"), help="default: gray for one channel, rgb for three")


def _numbers(text: str) -> tuple[float, ...]:
    """``0.5``, ``1/255``, or several with commas."""
    try:
        parts = [[float(number) for number in part.split("/")] for part in text.split(",")]
        if all(len(part) <= 2 for part in parts):
            return tuple(part[0] / part[1] if len(part) == 2 else part[0] for part in parts)
    except (ValueError, ZeroDivisionError):
        pass
    raise argparse.ArgumentTypeError(f"{text!r} is not a number such as 0.5 or 1/255, nor several with commas")


def preprocessing(options: argparse.Namespace) -> Preprocessing:
    """What the options of `add_image` say.

    Raises:
        InputError: the scale is not one number.
    """
    from mace_cl.errors import InputError
    from mace_cl.tools.common import Preprocessing

    if options.scale is not None and len(options.scale) != 1:
        raise InputError("--scale: give one number; --mean and --std may differ between channels")
    return Preprocessing(
        scale=options.scale[0] if options.scale else None, mean=options.mean, std=options.std, layout=options.layout,
        color=options.color,
    )  # fmt: skip


def add_exact(parser: argparse.ArgumentParser) -> None:
    """``exact``: True or None."""
    parser.add_argument(
        "--exact", action="store_const", const=True,
        help="forbid Winograd's method, whose rounding errors are some times larger",
    )  # fmt: skip


def add_tune(parser: argparse.ArgumentParser) -> None:
    """``tune``: seconds, 0 without; and ``exact``."""
    parser.add_argument(
        "--tune", type=seconds, nargs="?", const=60.0, default=0.0, metavar="TIME",
        help="first measure what is fastest, for about this long: 30s, 2m, alone 60s; see `mace-cl tune`",
    )  # fmt: skip
    add_exact(parser)


def seconds(text: str) -> float:
    """``60``, ``60s``, ``1.5m`` or ``1h`` in seconds, at least a tenth."""
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:], 0.0)
    try:
        found = float(text[:-1]) * unit if unit else float(text)
    except ValueError:
        found = 0.0
    if not 0.1 <= found <= 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time such as 30s or 2m")
    return found


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in text.split(",") if name)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def shapes(texts: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """``NAME=1,3,224,224`` as a name and a shape.

    Raises:
        InputError: a text is not like that.
    """
    from mace_cl.errors import InputError

    found = {}
    for text in texts or ():
        name, _, sizes = text.rpartition("=")
        parts = sizes.split(",")
        if not name or not all(part.isdecimal() and int(part) > 0 for part in parts):
            raise InputError(f"--shape {text}: should be like NAME=1,3,224,224")
        found[name] = tuple(map(int, parts))
    return found


def values(texts: Sequence[str] | None) -> dict[str, list[float]]:
    """``NAME=1,2`` as a name and numbers.

    Raises:
        InputError: a text is not like that.
    """
    from mace_cl.errors import InputError

    found = {}
    for text in texts or ():
        name, _, numbers = text.rpartition("=")
        try:
            found[name] = [_number(part) for part in numbers.split(",")]
        except ValueError:
            name = ""
        if not name:
            raise InputError(f"--value {text}: should be like NAME=1,2")
    return found


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)
