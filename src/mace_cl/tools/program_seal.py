"""Signatures of compiled programs: make a key, sign, verify."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import InputError

if TYPE_CHECKING:
    from mace_cl.program.seal import KeyPair, Verdict

__all__ = ["SignResult", "keygen", "sign", "verify"]


@dataclass(frozen=True)
class SignResult:
    """The files that were signed, and the id of the key."""

    files: tuple[Path, ...]
    key: str


def keygen(path: Path) -> KeyPair:
    """Makes ``path``, to sign with, and ``path.pub``, to trust; raises as `mace_cl.program.seal.keygen`."""
    from mace_cl.program import seal

    return seal.keygen(path)


def sign(files: tuple[Path, ...], key: Path) -> SignResult:
    """Signs files; raises as `mace_cl.program.seal.sign`, at the first that can't be signed."""
    from mace_cl.program import seal

    for file in files:
        _check_exists(file)
    return SignResult(files, [seal.sign(file, key) for file in files][-1])


def verify(file: Path, trusted_keys: tuple[str, ...] | None = None) -> Verdict:
    """Checks every byte, hash and signature; trusted keys are those given, or else those of the settings.

    Raises:
        InputError: there is no such file.
        ProgramError, StorageError, SettingsError: as `mace_cl.program.seal.verify`.
    """
    from mace_cl.program import seal
    from mace_cl.settings import Settings

    _check_exists(file)
    return seal.verify(file, Settings.load(trusted_keys=trusted_keys).trusted_keys)


def _check_exists(file: Path) -> None:
    if not file.exists():
        raise InputError(f"{file}: no such file; check the path")
