"""Look inside a compiled program."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import ForeignError, InputError, ProgramError

if TYPE_CHECKING:
    from mace_cl.program.inspect import Inspection

__all__ = ["InspectArgs", "InspectResult", "run"]


@dataclass(frozen=True)
class InspectArgs:
    """The file, and whether its manifest is wanted as protobuf text."""

    file: Path
    text: bool = False


@dataclass(frozen=True)
class InspectResult:
    """What the file holds; ``text`` is its manifest as protobuf text, if that was asked for."""

    inspection: Inspection
    text: str | None = field(default=None, repr=False)


def run(args: InspectArgs) -> InspectResult:
    """Check every byte of the file, and tell what it holds.

    Raises:
        InputError: there is no such file.
        ProgramError: it is something else, or from a newer version; the message says which command fits.
        DamagedError: it is damaged.
        StorageError: it can't be read.
    """
    from mace_cl.program.format import open_program
    from mace_cl.program.inspect import summary, text

    if not args.file.exists():
        raise InputError(f"{args.file}: no such file; check the path")
    try:
        opened = open_program(args.file)
    except ForeignError as error:
        from mace_cl.program.recognise import looks_like

        kind = looks_like(memoryview(args.file.read_bytes()))
        if kind != "an ONNX model":
            raise
        raise ProgramError(
            f"{args.file}: {kind}, not a compiled program. `mace-cl compile {args.file}` makes one of it, "
            f"and `mace-cl run {args.file}` runs it"
        ) from error
    opened.verify()
    return InspectResult(summary(opened), text(opened) if args.text else None)
