"""Zip archives that nobody vouches for: how much is read of them is bounded before anything is."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import PurePosixPath

from mace_cl.errors import ModelError

__all__ = ["Archive", "ViewFile", "packed"]

_MOST_MEMBERS = 1 << 18
_MOST_INFLATED = 256 << 20
_ERRORS = (zipfile.BadZipFile, zlib.error, ValueError, RuntimeError, NotImplementedError, OSError, EOFError)


class ViewFile(io.RawIOBase):
    """A memoryview as a file; nothing is copied but what is read."""

    def __init__(self, view: memoryview) -> None:
        self._view, self._at = view, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        at = offset + (0, self._at, len(self._view))[whence]
        if at < 0:
            raise ValueError("before the beginning")
        self._at = at
        return at

    def tell(self) -> int:
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        begin = self._at
        end = len(self._view) if size is None or size < 0 else begin + size
        data = bytes(self._view[begin:end])
        self._at += len(data)
        return data


class Archive:
    """The members of an archive by their names, without the folder that they all lie in.

    Stored members take no more room than the file, compressed ones 256 MiB together.

    Raises:
        ModelError: it is damaged or truncated, has a name twice, or would grow beyond that.
    """

    def __init__(self, view: memoryview, name: str) -> None:
        self.name = name
        try:
            self._zip = zipfile.ZipFile(ViewFile(view))
        except _ERRORS as error:
            raise ModelError(
                f"{name}: a damaged or truncated archive ({error}); check that it was copied whole"
            ) from error
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        plain = sum(info.file_size for info in infos if info.compress_type == zipfile.ZIP_STORED)
        inflated = sum(info.file_size for info in infos) - plain
        stored = sum(info.compress_size for info in infos)
        if max(stored, plain) > len(view) or inflated > _MOST_INFLATED or len(infos) > _MOST_MEMBERS:
            raise ModelError(
                f"{name}: an archive of {len(view)} bytes that claims {len(infos)} members of {plain + inflated} "
                "bytes; no exporter writes such, refused"
            )
        root = inner_root([info.filename for info in infos])
        self._infos = {info.filename[len(root) :]: info for info in infos}
        if len(self._infos) < len(infos):
            raise ModelError(f"{name}: an archive with two members of one name; refused")

    def names(self) -> list[str]:
        return list(self._infos)

    def size(self, member: str) -> int:
        """How many bytes a member has, 0 where there is none."""
        return self._infos[member].file_size if member in self._infos else 0

    def read(self, member: str) -> bytes:
        """A member's content, its checksum compared.

        Raises:
            ModelError: it is missing, damaged, encrypted or not as long as it says.
        """
        if member not in self._infos:
            raise ModelError(f"{self.name}: the archive lacks {member!r}; export the model again")
        info = self._infos[member]
        try:
            with self._zip.open(info) as file:
                data = file.read(info.file_size + 1)
        except _ERRORS as error:
            raise ModelError(
                f"{self.name}: {member!r} in the archive is damaged ({error}); check that it was copied whole"
            ) from error
        if len(data) != info.file_size:
            raise ModelError(f"{self.name}: {member!r} in the archive is not as long as it says; copy the file again")
        return data


def inner_root(names: Sequence[str]) -> str:
    """The folder that all members lie in, with its slash; empty where there is none."""
    first = PurePosixPath(names[0]).parts[0] + "/" if names else ""
    return first if all(name.startswith(first) for name in names) else ""


def packed(members: dict[str, bytes]) -> bytes:
    """An archive of these members, uncompressed."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()
