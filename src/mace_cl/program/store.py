"""The directory in which this machine keeps its compiled programs.  Deleting any of it is always safe.

A file's modification time is when it was last used; an empty file of the same name with ``.pin`` added
keeps it from being evicted.  Nothing is touched whose name does not look as if it was made here.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from mace_cl.errors import MaceClError, StorageError
from mace_cl.program.format import scan
from mace_cl.program.program import Pairs
from mace_cl.record import record

__all__ = ["Entry", "Store", "Swept"]

_PROGRAM = r"[0-9a-f]{16}-[0-9a-f]{16}(\.weights)?\.bin"
_SET_ASIDE = _PROGRAM + r"\.damaged-[0-9]+"
_LOCK = rf"({_PROGRAM}|[0-9a-f]{{32}}\.outside)\.lock"
_PIN = _PROGRAM + r"\.pin"
_TEMPORARY = r"\.mace-cl-[0-9]+-[0-9a-f]+\.tmp"
_STALE_SECONDS = 3600.0


@record
class Entry:
    """One file of the store.

    ``model`` and ``devices`` are names; ``engine`` is the fingerprint of the code that made it.  They
    are empty where the file can't be read, which ``problem`` then tells.  ``last_use`` is in seconds
    since 1970.
    """

    path: Path
    bytes: int
    last_use: float
    pinned: bool
    model: str = ""
    model_sha256: str = ""
    devices: tuple[str, ...] = ()
    engine: str = ""
    problem: str = ""


@record
class Swept:
    """What was removed, the bytes that gave, and the bytes that programs still take."""

    removed: tuple[Path, ...]
    freed: int
    left: int


@record
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

    def lock_path(self, path: Path) -> Path:
        """What stands for a file outside the store in `lock`: its name here."""
        return self.directory / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]}.outside"

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

    def used(self, path: Path) -> None:
        """Notes that the program at ``path`` was used now.  Where that can't be written, nothing happens."""
        with suppress(OSError):
            os.utime(path)

    def entries(self) -> list[Entry]:
        """All programs, the most recently used first; the heads of the files are read.

        Raises:
            StorageError: the directory can't be read.  One that is not there is empty.
        """
        return [_look(entry) for entry in self._programs()]

    def verify(self) -> list[Entry]:
        """As `entries`, but every byte is read and compared with its checksums, SHA-256 included.

        Raises:
            StorageError: the directory can't be read.
        """
        return [_look(entry, thoroughly=True) for entry in self._programs()]

    def find(self, name: str) -> list[Path]:
        """The programs whose file name begins with ``name``, or that were made from the model of that SHA-256."""
        beginning = name[:16] + "-" if re.fullmatch("[0-9a-f]{64}", name) else name
        return [path for path, _, _ in self._programs() if path.name.startswith(beginning)]

    def pin(self, path: Path, pinned: bool = True) -> None:
        """Keeps a program from being evicted, or no longer.

        Raises:
            StorageError: it is no program in this store, or the directory can't be written to.
        """
        marker = path.with_name(path.name + ".pin")
        if path.parent != self.directory or not re.fullmatch(_PROGRAM, path.name) or not path.exists():
            raise StorageError(f"{path}: is no program in the store; `mace-cl store ls` lists them.")
        try:
            marker.touch() if pinned else marker.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{marker}: can't be written ({error.strerror or error}).") from error

    def gc(self, budget: int, *, engine: str | None = None, keep: Collection[Path] = ()) -> Swept:
        """Removes leftovers and, until programs take at most ``budget`` bytes, programs.

        Leftovers are temporary files and locks that nobody has touched for an hour, and pins without a
        program.  Programs go in this order: those set aside as damaged, those that can't be read, those
        of another ``engine`` than this, and then the least recently used; never a pinned one, nor one
        of ``keep``.  What other processes remove meanwhile is no error, nor is a file that can't be
        removed; it counts as left.

        Raises:
            StorageError: the directory can't be read.
        """
        removed = self._leftovers()
        found, aside = self._programs(), self._matching(_SET_ASIDE)
        total = sum(size for _, size, _ in (*found, *aside))
        freed = 0
        if total > budget:
            entries = [_look(one) for one in found]
            free = [entry for entry in entries if not entry.pinned and entry.path not in keep]
            free.sort(key=lambda entry: (not entry.problem, engine is None or entry.engine == engine, entry.last_use))
            for path, size in [*((path, size) for path, size, _ in aside), *((one.path, one.bytes) for one in free)]:
                if total - freed <= budget:
                    break
                if _remove(path):
                    removed.append(path)
                    freed += size
            removed += self._orphans()
        return Swept(tuple(removed), freed, total - freed)

    def clear(self) -> Swept:
        """Removes every program, pinned ones too, and what belongs to them; not the key that signs."""
        found = [*self._programs(), *self._matching(_SET_ASIDE)]
        gone = [(path, size) for path, size, _ in found if _remove(path)]
        rest = [path for pattern in (_LOCK, _PIN, _TEMPORARY) for path, _, _ in self._matching(pattern)]
        removed = [path for path in rest if _remove(path)]
        freed = sum(size for _, size in gone)
        return Swept((*(path for path, _ in gone), *removed), freed, sum(size for _, size, _ in found) - freed)

    def _leftovers(self) -> list[Path]:
        before = time.time() - _STALE_SECONDS
        old = [path for pattern in (_TEMPORARY, _LOCK) for path, _, used in self._matching(pattern) if used < before]
        return [path for path in old if self._abandoned(path) and _remove(path)] + self._orphans()

    def _orphans(self) -> list[Path]:
        pins = [path for path, _, _ in self._matching(_PIN)]
        return [path for path in pins if not path.with_suffix("").exists() and _remove(path)]

    def _abandoned(self, path: Path) -> bool:
        """Whether nobody holds the lock ``path``, if it is one."""
        if not re.fullmatch(_LOCK, path.name):
            return True
        with self.lock(path.with_suffix(""), 0) as held:
            return held

    def _programs(self) -> list[tuple[Path, int, float]]:
        return sorted(self._matching(_PROGRAM), key=lambda found: (-found[2], found[0]))

    def _matching(self, pattern: str) -> list[tuple[Path, int, float]]:
        """(path, bytes, time of last use) of the regular files whose names fit."""
        found = []
        try:
            with os.scandir(self.directory) as listing:
                for item in listing:
                    if re.fullmatch(pattern, item.name):
                        with suppress(FileNotFoundError):
                            status = item.stat(follow_symlinks=False)
                            if item.is_file(follow_symlinks=False):
                                found.append((Path(item.path), status.st_size, status.st_mtime))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(
                f"{self.directory}: the store can't be read ({error.strerror or error}). "
                "Check its permissions, or name another directory (MACE_CL_STORE_DIR)."
            ) from error
        return found


def _look(found: tuple[Path, int, float], thoroughly: bool = False) -> Entry:
    path, size, used = found
    entry = Entry(path, size, used, path.with_name(path.name + ".pin").exists())
    try:
        file = scan(path)
        if thoroughly:
            file.verify()
            file.verify_hashes()
    except MaceClError as error:
        return replace(entry, problem=str(error))
    manifest = file.manifest
    devices = tuple(dict.fromkeys(target.signature.device for target in manifest.targets))
    model = manifest.model
    return replace(entry, model=model.name, model_sha256=model.sha256, devices=devices, engine=manifest.engine)


def _remove(path: Path) -> bool:
    """Whether it was there and is removed."""
    try:
        path.unlink()
    except OSError:
        return False
    return True
