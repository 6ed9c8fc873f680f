"""The directory in which this machine keeps its compiled programs.  Deleting any of it is always safe."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mace_cl.errors import StorageError
from mace_cl.program.program import Pairs

__all__ = ["Store"]


@dataclass(frozen=True)
class Store:
    """One file for each model, set of options and engine, named by their digest.

    Reading needs no lock and no preparation; `prepare` and `lock` are for those who write.
    """

    directory: Path

    def path(self, model_sha256: str, options: Pairs, engine: str) -> Path:
        """Where the program for this model, these options (in any order) and this engine belongs.

        Raises:
            ValueError: ``model_sha256`` is not 64 hexadecimal digits.
        """
        if not re.fullmatch("[0-9a-f]{64}", model_sha256):
            raise ValueError(f"{model_sha256!r} is no SHA-256 in lower-case hexadecimal")
        key = json.dumps([model_sha256, sorted(options), engine], separators=(",", ":"))
        return self.directory / f"{model_sha256[:16]}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.bin"

    def weights_path(self, model_sha256: str, options: Pairs, engine: str) -> Path:
        """Where prepacked weights belong that are not inside the program: a baked program file beside it."""
        return self.path(model_sha256, options, engine).with_suffix(".weights.bin")

    def prepare(self) -> None:
        """Makes the directory, which only its owner can read, and those above it.

        Raises:
            StorageError: it can't be made.
        """
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{self.directory}: the store of compiled programs could not be made ({error.strerror or error}). "
                "Name another directory for it, or run without a store."
            ) from error

    @contextmanager
    def lock(self, path: Path, timeout: float) -> Iterator[bool]:
        """Keeps other processes from compiling for ``path`` meanwhile; waits at most ``timeout`` seconds.

        Gives whether the lock was obtained.  After a wait look at ``path`` again: the other process may have
        written it.  Without the lock compile, but do not save.  A process that ends frees its lock.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(path.with_name(path.name + ".lock"), timeout=timeout)
        try:
            lock.acquire()
        except (Timeout, OSError, NotImplementedError):  # the last: a file system without locks
            yield False
            return
        try:
            yield True
        finally:
            lock.release()
