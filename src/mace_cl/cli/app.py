"""The verbs together, and errors as exit codes."""

from __future__ import annotations

import argparse
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from mace_cl import __version__
from mace_cl.cli import (
    benchmark,
    convert,
    demo,
    devices,
    fingerprint,
    inspect,
    mace,
    program_edit,
    program_seal,
    report,
    run,
    store,
    tune,
    validate,
    why,
)
from mace_cl.cli import compile as compile_
from mace_cl.errors import MaceClError

__all__ = ["main"]

_EPILOG = """\
exit codes:
    0  done
    1  internal error: please report it
    2  an argument, input, image or setting does not fit
    3  the model can't be read
    4  the model needs something that mace-cl lacks
    5  the compiled program can't be used
    6  no OpenCL device fits, or it failed
    7  the device's driver refused a kernel
    8  a file can't be read or written
    9  validate: an output is below the threshold
  130  interrupted
  141  the reader of the output went away

examples:
  mace-cl demo
  mace-cl run model.onnx --input photo.jpg --top 5
  mace-cl compile model.onnx -o model.bin --bake
  mace-cl benchmark model.onnx --peers ort
  mace-cl run --help
"""


def main(
    argv: Sequence[str] | None = None,
    parser: argparse.ArgumentParser | None = None,
    expand: Callable[[Sequence[str]], Sequence[str]] | None = None,
) -> int:
    """Run a command line and return its exit code, which `mace_cl.errors` lists.

    ``parser`` is that of a program of its own, whose options have ``verb`` and ``traceback``; ``expand`` gives the
    arguments that it parses for those that were given.

    Standard output gets results, standard error all else.
    """
    traceback = False
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that can't show an arrow is no error
            stream.reconfigure(errors="replace")
    _log_to_stderr()
    try:
        options = (parser or _parser()).parse_args(expand(argv or ()) if expand else argv)
        traceback = options.traceback
        if getattr(options, "quiet", False):
            logging.getLogger("mace_cl").setLevel(logging.WARNING)
        options.verb(options)
        sys.stdout.flush()
        return 0
    except SystemExit as exit_:  # argparse has said why
        return exit_.code if isinstance(exit_.code, int) else 0
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except BrokenPipeError:
        # nothing may be written when the interpreter ends either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MaceClError as error:
        _show_traceback(traceback)
        _say(f"error: {error}")
        return error.exit_code
    except Exception as error:
        _show_traceback(traceback)
        _say(
            f"internal error: {type(error).__name__}: {error}. This is a fault of mace-cl; please report it with "
            "what the same command prints as `mace-cl --traceback …`, and the output of `mace-cl devices --json`"
        )
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mace-cl",
        description="Neural networks on OpenCL devices: compiled once, started at once ever after.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mace-cl {__version__}")
    parser.add_argument("--traceback", action="store_true", help="show where in the code an error came from")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    known = (
        demo,
        run,
        compile_,
        benchmark,
        convert,
        inspect,
        why,
        fingerprint,
        program_edit,
        program_seal,
        mace,
        tune,
        validate,
        report,
        store,
        devices,
    )
    for verb in known:
        verb.add_to(verbs)
    return parser


def _say(text: str) -> None:
    print("mace-cl:", " ".join(text.split()), file=sys.stderr)


def _show_traceback(wanted: bool) -> None:
    if wanted:
        import traceback

        traceback.print_exc()


def _log_to_stderr() -> None:
    """Show what the package logs, as lines like those of errors, and drop drivers' harmless notes."""
    logger = logging.getLogger("mace_cl")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("mace-cl: %(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    warnings.filterwarnings("ignore", "Non-empty compiler output")
