"""Files that are no compiled programs of mace-cl: what they are, what is in them, MACE's own written anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import InputError, ProgramError
from mace_cl.tools.common import check_writable

if TYPE_CHECKING:
    from mace_cl.foreign import Description, Part
    from mace_cl.foreign.mace_store import Layout

__all__ = ["EntryArgs", "EntryResult", "RepackArgs", "RepackResult", "describe", "extract_entry", "find", "repack"]


@dataclass(frozen=True)
class EntryArgs:
    """A file of any kind, the entry that is wanted as `find` takes it, and the file to write."""

    file: Path
    entry: str
    output: Path


@dataclass(frozen=True)
class EntryResult:
    """The file that was written, its size, the name of the entry and where it lies in the file that it is from."""

    output: Path
    file_bytes: int
    name: str
    offset: int


@dataclass(frozen=True)
class RepackArgs:
    """A file of MACE, the file to write, and the layout of that: "protobuf", or "counted" for MACE up to v1.0."""

    file: Path
    output: Path
    layout: Layout = "protobuf"


@dataclass(frozen=True)
class RepackResult:
    """The file that was written, how many pairs are in it, both layouts, whether it is byte for byte as before."""

    output: Path
    file_bytes: int
    pairs: int
    layout_before: Layout
    layout: Layout
    identical: bool


def describe(file: Path) -> Description:
    """What the file is, by its content.

    For a graph of MACE with a ``.data`` file beside it, the size of that is compared.

    Raises:
        InputError, StorageError: there is no such file, or it can't be read.
    """
    from dataclasses import replace

    from mace_cl.foreign import recognise

    seen = recognise(_bytes(file))
    needed, data = seen.fact("bytes of .data needed"), file.with_suffix(".data")
    if seen.kind == "mace-graph" and isinstance(needed, int) and data.is_file():
        there = data.stat().st_size
        found = f"{data.name} has {there} bytes" + ("" if there >= needed else f", {needed - there} too few")
        seen = replace(seen, facts=(*seen.facts, (".data", found)))
    return seen


def find(seen: Description, entry: str) -> tuple[Part, int]:
    """The part that ``entry`` names, and where it begins in the file.

    ``entry`` is a number as `mace-cl inspect` shows it (from 1; ``2.1`` is the first part of the second), or text that
    only one name of the outermost parts has.

    Raises:
        InputError: no part fits, or several do.
    """
    if entry.replace(".", "").isdecimal():
        offset, parts, found = 0, seen.parts, None
        for number in entry.split("."):
            if not number or not 0 < int(number) <= len(parts):
                raise InputError(f"there is no entry {entry}; `mace-cl inspect` lists those that there are")
            found = parts[int(number) - 1]
            offset += found.offset
            parts = found.content.parts if found.content else ()
        assert found is not None
        return found, offset
    fitting = [part for part in seen.parts if part.name == entry] or [part for part in seen.parts if entry in part.name]
    if len(fitting) != 1:
        several = f"{len(fitting)} entries have" if fitting else "no entry has"
        raise InputError(f"{several} {entry!r} in the name; give a number that `mace-cl inspect` shows")
    return fitting[0], fitting[0].offset


def extract_entry(args: EntryArgs) -> EntryResult:
    """Write the bytes of one entry to a file of its own: a driver's binary of MACE's file, a library of PoCL's …

    The entries of a compiled program of mace-cl are its sections, named by kind and SHA-256.

    Raises:
        InputError: there is no such file or entry.
        ProgramError: it is a compiled program that can't be used, or is damaged.
        StorageError: a file can't be read or written.
    """
    from mace_cl.foreign import recognise
    from mace_cl.program.format import is_program, replace_file

    check_writable(args.output)
    view = _bytes(args.file)
    seen = _sections(args.file) if is_program(view) else recognise(view)
    try:
        part, offset = find(seen, args.entry)
    except InputError as error:
        raise InputError(f"{args.file}: {error}") from None
    replace_file(args.output, [view[offset : offset + part.length]])
    return EntryResult(args.output, part.length, part.name, offset)


def repack(args: RepackArgs) -> RepackResult:
    """Write a compiled-program or tuned-parameter file of MACE anew, in its layout or the other.

    What MACE wrote comes out byte for byte as it was, if the layout stays.

    Raises:
        InputError, StorageError: there is no such file, or a file can't be read or written.
        ProgramError: it is no such file, or would be too large for MACE.
        DamagedError: it is damaged.
    """
    from mace_cl.foreign import mace_store
    from mace_cl.program.format import replace_file

    check_writable(args.output)
    view = _bytes(args.file)
    store = mace_store.read(view, str(args.file))
    try:
        data = mace_store.write(store, args.layout)
    except ValueError as error:
        raise ProgramError(f"{args.file}: can't be written in this layout: {error}") from None
    identical = view == data
    replace_file(args.output, [data])
    pairs = len({pair.key for pair in store.pairs})
    return RepackResult(args.output, len(data), pairs, store.layout, args.layout, identical)


def _sections(file: Path) -> Description:
    """The sections of a compiled program, every byte of it checked, as parts."""
    from mace_cl.foreign import Description, Part
    from mace_cl.tools.inspect import of_program

    seen = of_program(file).inspection
    parts = tuple(Part(f"{one.kind} {one.sha256}", one.offset, one.length) for one in seen.sections)
    return Description("mace-cl", "compiled program of mace-cl", seen.file_bytes, parts=parts)


def _bytes(file: Path) -> memoryview:
    from mace_cl.program.format import map_file

    if not file.exists():
        raise InputError(f"{file}: no such file; check the path")
    return map_file(file)
