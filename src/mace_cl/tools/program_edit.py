"""Compiled programs made of compiled programs: merge, extract, strip; and what tells two apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import InputError, SettingsError
from mace_cl.tools.common import check_writable

if TYPE_CHECKING:
    from mace_cl.program.edit import Difference
    from mace_cl.program.format import Opened
    from mace_cl.program.program import Program

__all__ = ["EditResult", "ExtractArgs", "MergeArgs", "StripArgs", "diff", "encrypt", "extract", "merge", "strip"]


@dataclass(frozen=True)
class MergeArgs:
    """The files to join, and the file to write, which may be one of them."""

    files: tuple[Path, ...]
    output: Path


@dataclass(frozen=True)
class ExtractArgs:
    """The file, which of its targets are wanted (numbers from 1, or parts of names), and the file to write."""

    file: Path
    targets: tuple[str, ...]
    output: Path


@dataclass(frozen=True)
class StripArgs:
    """The file, what to leave out of it, and the file to write."""

    file: Path
    output: Path
    weights: bool = False
    binaries: bool = False


@dataclass(frozen=True)
class EditResult:
    """The file that was written, its size, and the devices it is for.

    It is ``encrypted`` if that was asked for, or one of the files it was made of is.  Signatures do
    not carry over: ``unsigned`` tells that there were some.
    """

    output: Path
    file_bytes: int
    devices: tuple[str, ...]
    encrypted: bool
    unsigned: bool


def merge(args: MergeArgs) -> EditResult:
    """Joins the targets of several files; raises as `mace_cl.program.edit.merge`, and where a file can't be used."""
    from mace_cl.program import edit

    opened = [_open(file) for file in args.files]
    return _write(edit.merge([file.program for file in opened]), opened, args.output)


def extract(args: ExtractArgs) -> EditResult:
    """Writes some targets into a file of their own; raises as `merge`, and where a name fits no target."""
    from mace_cl.program import edit

    opened = _open(args.file)
    return _write(edit.extract(opened.program, args.targets), [opened], args.output)


def strip(args: StripArgs) -> EditResult:
    """Leaves out weights or binaries.

    Raises:
        InputError: neither is to be left out.
        ProgramError, StorageError: a file can't be used or written.
    """
    from mace_cl.program import edit

    if not (args.weights or args.binaries):
        raise InputError("nothing is to be left out; say --weights, --binaries or both")
    opened = _open(args.file)
    return _write(edit.strip(opened.program, constants=args.weights, binaries=args.binaries), [opened], args.output)


def encrypt(file: Path, output: Path) -> EditResult:
    """Writes the program with its weights and sources encrypted with the key of the settings.

    Raises:
        SettingsError: there is no key.
        SealError: the package cryptography is missing.
        ProgramError, StorageError: a file can't be used or written.
    """
    from mace_cl.settings import Settings

    if Settings.load().key is None:
        raise SettingsError(
            "there is no key to encrypt with; set MACE_CL_KEY to 64 hexadecimal digits (`openssl rand -hex 32` makes "
            "some), and keep them"
        )
    opened = _open(file)
    return _write(opened.program, [opened], output, encrypted=True)


def diff(first: Path, second: Path) -> Difference:
    """How the programs in two files differ; raises where a file can't be used."""
    from mace_cl.program import edit

    return edit.diff(_open(first).program, _open(second).program)


def _open(path: Path) -> Opened:
    """The file, every byte and hash of it checked, decrypted with the key of the settings."""
    from mace_cl.program.format import open_program
    from mace_cl.settings import Settings

    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    opened = open_program(path, Settings.load().key)
    opened.verify()
    opened.verify_hashes()
    return opened


def _write(program: Program, of: Sequence[Opened], output: Path, encrypted: bool = False) -> EditResult:
    from mace_cl.program.format import write
    from mace_cl.settings import Settings

    check_writable(output)
    encrypted = encrypted or any(file.manifest.key for file in of)
    write(program, output, key=Settings.load().key if encrypted else None)
    devices = tuple(target.signature.device for target in program.targets)
    return EditResult(output, output.stat().st_size, devices, encrypted, any(file.seal_length for file in of))
