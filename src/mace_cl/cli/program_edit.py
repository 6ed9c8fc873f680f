"""``mace-cl merge``, ``extract``, ``strip``, ``encrypt`` and ``diff``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.cli.options import Verbs, add_json, add_verb

if TYPE_CHECKING:
    from mace_cl.program.edit import TargetDifference
    from mace_cl.tools.program_edit import EditResult

__all__ = ["add_to"]


def add_to(verbs: Verbs) -> None:
    """Declare the verbs."""
    merge = add_verb(
        verbs,
        "merge",
        _merge,
        "Join compiled programs of one model into one file for many devices. Where two hold a part for the same\n"
        "device and driver, the later file's counts.",
        "  mace-cl merge phone.bin laptop.bin -o both.bin",
    )
    merge.add_argument("files", type=Path, nargs="+", metavar="FILE", help="compiled programs of one model")
    extract = add_verb(
        verbs,
        "extract",
        _extract,
        "Write a part of a file into a file of its own. With --target, a compiled program's part for one device, or\n"
        "for several; with ENTRY, the bytes of an entry of any file that `mace-cl inspect` knows.",
        "  mace-cl extract both.bin --target 2 -o laptop.bin\n"
        "  mace-cl extract both.bin --target adreno -o phone.bin\n"
        "  mace-cl extract mace_cl_compiled_program.bin 3 -o softmax.bin",
    )
    extract.add_argument(
        "--target", action="append", metavar="NAME",
        help="its number in `mace-cl inspect`, or a part of its device, platform or driver; repeatable",
    )  # fmt: skip
    strip = add_verb(
        verbs,
        "strip",
        _strip,
        "Make a compiled program smaller. Without weights it needs the model; without binaries, a start compiles.",
        "  mace-cl strip program.bin --weights -o small.bin",
    )
    strip.add_argument("--weights", action="store_true", help="leave out the weights")
    strip.add_argument("--binaries", action="store_true", help="leave out what the drivers compiled")
    encrypt = add_verb(
        verbs,
        "encrypt",
        _encrypt,
        "Encrypt the weights and kernel sources of a compiled program. The key is the setting key: MACE_CL_KEY, 64\n"
        "hexadecimal digits. Whoever runs the program needs it too.",
        "  mace-cl encrypt program.bin -o secret.bin",
    )
    for parser in (extract, strip, encrypt):
        parser.add_argument("file", type=Path, metavar="FILE", help="a compiled program")
    extract.add_argument(
        "entry", nargs="?", metavar="ENTRY",
        help="its number in `mace-cl inspect` (2.1: the first in the second), or a part of its name; of a compiled "
        "program, a section's number, from 1, or a part of its SHA-256 in `mace-cl inspect --json`",
    )  # fmt: skip
    for parser in (merge, extract, strip, encrypt):
        parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the file to write")
        add_json(parser)
    diff = add_verb(
        verbs,
        "diff",
        _diff,
        "Tell what differs between two compiled programs. Model, options, devices, kernels and sizes are compared.",
        "  mace-cl diff before.bin after.bin\n  mace-cl diff before.bin after.bin --json",
    )
    diff.add_argument("first", type=Path, metavar="A", help="a compiled program")
    diff.add_argument("second", type=Path, metavar="B", help="another")
    add_json(diff)


def _merge(options: argparse.Namespace) -> None:
    from mace_cl.tools import program_edit as tool

    _show(tool.merge(tool.MergeArgs(tuple(options.files), options.output)), options.json)


def _extract(options: argparse.Namespace) -> None:
    from mace_cl.errors import InputError
    from mace_cl.tools import program_edit as tool

    if (options.entry is None) == (options.target is None):
        raise InputError("say either which ENTRY or which --target is wanted; `mace-cl inspect FILE` shows both")
    if options.entry is not None:
        _extract_entry(options)
        return
    _show(tool.extract(tool.ExtractArgs(options.file, tuple(options.target), options.output)), options.json)


def _extract_entry(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import bytes_, print_json, print_lines
    from mace_cl.tools import foreign as tool

    result = tool.extract_entry(tool.EntryArgs(options.file, options.entry, options.output))
    if options.json:
        print_json(result)
        return
    written = f"{result.output} ({bytes_(result.file_bytes)})"
    print_lines([("written", written), ("entry", result.name), ("was at byte", str(result.offset))])


def _strip(options: argparse.Namespace) -> None:
    from mace_cl.tools import program_edit as tool

    args = tool.StripArgs(options.file, options.output, weights=options.weights, binaries=options.binaries)
    _show(tool.strip(args), options.json)


def _encrypt(options: argparse.Namespace) -> None:
    from mace_cl.tools import program_edit as tool

    _show(tool.encrypt(options.file, options.output), options.json)


def _show(result: EditResult, json: bool) -> None:
    from mace_cl.cli.output import bytes_, print_json, print_lines

    if json:
        print_json(result)
        return
    rows = [("written", f"{result.output} ({bytes_(result.file_bytes)})"), ("for", ", ".join(result.devices))]
    if result.encrypted:
        rows.append(("encrypted", "weights and sources, with the key of the settings"))
    if result.unsigned:
        rows.append(("signed", "no longer; sign it with `mace-cl sign`"))
    print_lines(rows)


def _diff(options: argparse.Namespace) -> None:
    from mace_cl.cli.output import print_json, print_lines
    from mace_cl.tools import program_edit as tool

    found = tool.diff(options.first, options.second)
    if options.json:
        print_json(found)
        return
    if found.empty:
        print("no difference")
    rows = [(change.name, f"{change.first} → {change.second}") for change in found.changes]
    rows += [("only in the first", device) for device in found.removed]
    rows += [("only in the second", device) for device in found.added]
    print_lines(rows)
    for target in found.targets:
        print(f"\n{target.device}")
        print_lines(_target(target))


def _target(target: TargetDifference) -> list[tuple[str, str]]:
    kernels = {
        "  kernels removed": target.removed,
        "  kernels added": target.added,
        "  other source": target.sources,
        "  other binary": target.binaries,
    }
    rows = [(what, ", ".join(names)) for what, names in kernels.items() if names]
    changes = (*target.parameters, *target.changes)
    return rows + [(f"  {change.name}", f"{change.first} → {change.second}") for change in changes]
