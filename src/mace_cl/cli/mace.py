"""``mace-cl mace repack``."""

from __future__ import annotations

import argparse
from pathlib import Path

from mace_cl.cli.options import Verbs, add_json, add_verb

__all__ = ["add_to"]


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
