"""Look inside a compiled program, or any other file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import ForeignError, InputError

if TYPE_CHECKING:
    from mace_cl.foreign import Description
    from mace_cl.program.inspect import Inspection

__all__ = ["InspectArgs", "InspectResult", "of_program", "run"]


@dataclass(frozen=True)
class InspectArgs:
    """The file, and whether its manifest is wanted as protobuf text."""

    file: Path
    text: bool = False


@dataclass(frozen=True)
class InspectResult:
    """What a compiled program holds; ``text`` is its manifest as protobuf text, if that was asked for."""

    inspection: Inspection
    text: str | None = field(default=None, repr=False)


def run(args: InspectArgs) -> InspectResult | Description:
    """Check every byte of a compiled program and tell what it holds; of any other file, tell what it is.

    Raises:
        InputError: there is no such file.
        ProgramError: it is from a newer version; or something else, which has no manifest as text.
        DamagedError: it is a damaged compiled program.
        StorageError: it can't be read.
    """
    try:
        return of_program(args.file, text=args.text)
    except ForeignError:
        if args.text:
            raise
    from mace_cl.tools import foreign

    return foreign.describe(args.file)


def of_program(file: Path, *, text: bool = False) -> InspectResult:
    """As `run`, for compiled programs only.

    Raises:
        ForeignError: it is something else.
    """
    from mace_cl.program import inspect
    from mace_cl.program.format import open_program

    if not file.exists():
        raise InputError(f"{file}: no such file; check the path")
    opened = open_program(file)
    opened.verify()
    return InspectResult(inspect.summary(opened), inspect.text(opened) if text else None)
