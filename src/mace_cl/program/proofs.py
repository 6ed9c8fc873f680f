"""Which binaries this installation has seen working, on which device and driver.

A proof is an empty file in the store, named by the hashes of a part's binaries and of the device's
signature.  A start that finds it loads the binaries at once; one that does not tries them in a child
process first.  Such files also tell when a bucket was used last.  The oldest of more than `MOST` make room.
Deleting proofs is always safe.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from mace_cl.device.signature import Signature
from mace_cl.program.bucket import Bucket
from mace_cl.program.format import Opened
from mace_cl.program.program import Target
from mace_cl.record import record

__all__ = ["MOST", "Proofs", "proof", "proof_of", "use"]

MOST = 1024
"""Proofs that are kept: each is a name of 64 digits, so that all together take little."""

_FOLDER = "proven"


def proof(target: Target, device: Signature) -> str:
    """The name of the proof that a part's binaries work on ``device``."""
    return _name((hashlib.sha256(unit.binary).hexdigest() for unit in target.units if unit.binary), device)


def proof_of(opened: Opened, target: int, device: Signature) -> str:
    """The same by the hashes in the manifest: no binary is read, so `Opened.verify` has to come before its use."""
    units = opened.manifest.targets[target].units
    return _name((opened.manifest.sections[unit.binary].sha256 for unit in units if unit.HasField("binary")), device)


def use(proven: str, bucket: Bucket) -> str:
    """The name of the file whose time is that of the last use of a bucket, whose binaries' proof is ``proven``.

    Buckets may have the same binaries, as batches of two sizes do.
    """
    return hashlib.sha256(f"{proven}\n{bucket.digest()}".encode()).hexdigest()


def _name(binaries: Iterable[str], device: Signature) -> str:
    return hashlib.sha256("\n".join([*binaries, device.digest()]).encode()).hexdigest()


@record
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
                now = time.time_ns()  # finer than the clock of `touch`
                os.utime(folder / name, ns=(now, now))
                _make_room(folder)

    def last_use(self, name: str) -> int:
        """When it was recorded last, in ns since 1970; 0 if never."""
        try:
            return (self.directory / _FOLDER / name).stat().st_mtime_ns if self.directory is not None else 0
        except OSError:
            return 0


def _make_room(folder: Path) -> None:
    with os.scandir(folder) as listing:
        names = [item.name for item in listing if re.fullmatch("[0-9a-f]{64}", item.name)]
    if len(names) > MOST:
        with suppress(FileNotFoundError):  # another process was faster
            oldest = sorted((folder / name for name in names), key=lambda path: path.stat().st_mtime_ns)
            for path in oldest[:-MOST]:
                path.unlink(missing_ok=True)
