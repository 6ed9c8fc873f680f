"""Which binaries this installation has seen working, on which device and driver.

A proof is an empty file in the store, named by the hashes of a part's binaries and of the device's
signature.  A start that finds it loads the binaries at once; one that does not tries them in a child
process first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mace_cl.device.signature import Signature
from mace_cl.program.format import Opened

__all__ = ["Proofs", "binaries_of", "digest"]

_FOLDER = "proven"


def digest(binaries: Sequence[str], device: Signature) -> str:
    """The name of the proof that binaries with these SHA-256 work on ``device``."""
    return hashlib.sha256("\n".join([*binaries, device.digest()]).encode()).hexdigest()


def binaries_of(opened: Opened, target: int) -> list[str]:
    """The SHA-256 of each binary of a part, as the manifest states them."""
    units = opened.manifest.targets[target].units
    return [opened.manifest.sections[unit.binary].sha256 for unit in units if unit.HasField("binary")]


@dataclass(frozen=True)
class Proofs:
    """The proofs in the store at ``directory``; None remembers nothing."""

    directory: Path | None

    def known(self, name: str) -> bool:
        """Whether the proof was recorded."""
        return self.directory is not None and (self.directory / _FOLDER / name).exists()

    def record(self, name: str) -> None:
        """Remember it; where nothing can be written, the next start proves again."""
        if self.directory is not None:
            with suppress(OSError):
                folder = self.directory / _FOLDER
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                (folder / name).touch()
