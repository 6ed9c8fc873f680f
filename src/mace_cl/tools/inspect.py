"""Look inside a compiled program, or any other file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import ForeignError, InputError, SettingsError

if TYPE_CHECKING:
    from mace_cl.foreign import Description
    from mace_cl.program.inspect import Inspection

__all__ = ["InspectArgs", "InspectResult", "of_program", "run"]


@dataclass(frozen=True)
class InspectArgs:
    """The file, and whether its manifest is wanted as protobuf text.

    ``trusted_keys`` are public keys, ``key`` a file with the 64 hexadecimal digits of the key that decrypts;
    None takes the settings'.
    """

    file: Path
    text: bool = False
    trusted_keys: tuple[str, ...] | None = None
    key: Path | None = None


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
        SealError: ``key`` is another than the file's.
        SettingsError: a key can't be read.
        StorageError: it can't be read.
    """
    try:
        return of_program(args.file, text=args.text, trusted_keys=args.trusted_keys, key=args.key)
    except ForeignError:
        if args.text:
            raise
    from mace_cl.tools import foreign

    return foreign.describe(args.file)


def of_program(
    file: Path, *, text: bool = False, trusted_keys: tuple[str, ...] | None = None, key: Path | None = None
) -> InspectResult:
    """As `run`, for compiled programs only.

    Raises:
        ForeignError: it is something else.
    """
    from mace_cl.program import inspect
    from mace_cl.settings import Settings

    if not file.exists():
        raise InputError(f"{file}: no such file; check the path")
    try:
        digits = None if key is None else key.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{key}: can't be read ({reason}); give a file of 64 hexadecimal digits") from None
    settings = Settings.load(key=digits, trusted_keys=trusted_keys)
    store_dir = settings.store_dir if settings.store else None
    opened, seen = inspect.look(file, settings.key, settings.trusted_keys, store_dir)
    return InspectResult(seen, inspect.text(opened) if text else None)
