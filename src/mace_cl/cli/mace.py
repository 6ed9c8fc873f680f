"""``mace-cl mace repack``, and the program ``mace_run``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from mace_cl.cli.options import Verbs, add_json, add_verb

__all__ = ["add_to", "mace_run"]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "mace",
        _repack,
        "Write files of MACE anew. Compiled programs and tuned parameters are read in both of their layouts; what\n"
        "MACE wrote comes out byte for byte as it was, if the layout stays.",
        "  mace-cl mace repack mace_cl_compiled_program.bin -o again.bin\n"
        "  mace-cl mace repack old.bin -o new.bin --layout protobuf",
    )
    parser.add_argument("action", choices=("repack",), help="what is to be done")
    parser.add_argument("file", type=Path, metavar="FILE", help="compiled programs or tuned parameters of MACE")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
    parser.add_argument(
        "--layout", choices=("protobuf", "counted"), default="protobuf",
        help="protobuf (the default) is for MACE since March 2021, counted for v1.0 and before",
    )  # fmt: skip
    add_json(parser)


def _repack(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import bytes_, print_json, print_lines
    from mace_cl.tools import foreign as tool

    result = tool.repack(tool.RepackArgs(options.file, options.output, options.layout))
    if options.json:
        print_json(result)
        return
    layout = result.layout if result.layout == result.layout_before else f"{result.layout_before} → {result.layout}"
    rows = [("written", f"{result.output} ({bytes_(result.file_bytes)})"), ("pairs", str(result.pairs))]
    print_lines([*rows, ("layout", layout), ("identical", "yes" if result.identical else "no")])


def mace_run(argv: Sequence[str] | None = None) -> int:
    """The program ``mace_run``: the one question about a file for which people call MACE's tool of this name."""
    from mace_cl.cli.app import main

    parser = argparse.ArgumentParser(
        prog="mace_run",
        description="Tells what compiled kernels are in a file, as `mace-cl inspect --dump_binary_info` does.",
        epilog="To run a model, use `mace-cl run`.",
        allow_abbrev=False,
    )
    parser.add_argument("--model_file", required=True, metavar="FILE", help="a compiled program, of mace-cl or MACE")
    parser.add_argument("--dump_binary_info", action="store_true", required=True, help="print six lines about it")
    try:
        options = parser.parse_args(argv)
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    return main(["inspect", "--dump_binary_info", "--", options.model_file])
