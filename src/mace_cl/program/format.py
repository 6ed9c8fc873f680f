"""Reading and writing `mace-cl-compiled-program.bin`, binary format version 3.

The byte layout is in docs/program-file.md.  Every byte of a file is covered: the header by its own
CRC32, text and manifest by one in the header, each section by one in the manifest; what lies between
sections is zero.  Nothing is allocated, indexed or handed on by a length that was not first compared
with the file.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError

from mace_cl.errors import DamagedError, ProgramError, StorageError
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.manifest import KINDS, from_manifest, to_manifest
from mace_cl.program.program import Program
from mace_cl.program.recognise import looks_like

__all__ = [
    "MAGIC",
    "VERSION",
    "ForeignError",
    "FutureError",
    "Opened",
    "is_program",
    "open_program",
    "read",
    "write",
]

MAGIC = b"\x89MCL\r\n\x1a\n"
VERSION = 3
PAGE = 4096
"""Bytes to which constants are aligned, so that a device may use them where they are mapped."""

_LINE = 64
_WORD = b"CL_PROGRAM_BINARY"
_MAX_TEXT = 1 << 16
_MAX_MANIFEST = 1 << 22
_CHUNK = 1 << 22
_ADVICE = "mace-cl compiles the model again where it has it; a file that was handed to you, copy anew."


class ForeignError(ProgramError):
    """The file is whole, as far as one can see, but it is no compiled program of mace-cl."""


class FutureError(ProgramError):
    """The file is whole, but a newer mace-cl wrote it in a way that this one does not know."""


class _Header(NamedTuple):
    """The first 64 bytes, little-endian."""

    magic: bytes
    version: int
    head_crc: int
    file_length: int
    text_length: int
    manifest_length: int
    seal_length: int
    seal_crc: int
    reserved: bytes
    header_crc: int


_HEADER = struct.Struct("<8sIIQIIQI16sI")


@dataclass(frozen=True)
class Opened:
    """A program file whose head was checked: header, text, manifest, kernel sources, zeros between sections.

    ``program``'s binaries and constants are views of the file (no copy) that must not reach a driver
    before `verify` has returned.  The views keep the file mapped.
    """

    name: str
    version: int
    program: Program
    manifest: pb.Manifest = field(repr=False)
    view: memoryview = field(repr=False)

    def verify(self) -> None:
        """Compare the CRC32 of every section that `open_program` has not yet read.

        May run in a thread of its own: the checksum is computed outside Python's lock.

        Raises:
            DamagedError: naming the first section that is not what was written, and its offset.
        """
        for number, section in enumerate(self.manifest.sections):
            if section.kind != pb.KIND_SOURCE:
                _check_section(self.name, self.view, number, section)


def is_program(head: bytes | memoryview) -> bool:
    """Whether a file that begins with ``head`` (8 bytes suffice) calls itself a compiled program."""
    return bytes(head[: len(MAGIC)]) == MAGIC


def read(source: Path | str | bytes | memoryview) -> Program:
    """The program in a file or in its bytes, every byte checked: `open_program`, then `Opened.verify`.

    Raises:
        DamagedError, ProgramError, StorageError: as `open_program`.
    """
    opened = open_program(source)
    opened.verify()
    return opened.program


def open_program(source: Path | str | bytes | memoryview) -> Opened:
    """Maps a program file, or takes its bytes, and checks all but the large sections.

    In a mapped file constants begin on a page; bytes lie where the caller has put them.

    Raises:
        DamagedError: it was a compiled program, but its bytes are not what was written.
        FutureError: a newer mace-cl wrote it.
        ForeignError: it is something else; the message says what it looks like.
        StorageError: the file can't be read.
    """
    if isinstance(source, (bytes, memoryview)):
        name, view = "<bytes>", memoryview(source).toreadonly().cast("B")
    else:
        name, view = str(source), _map(source)
    header = _check_header(name, view)
    text_end = _HEADER.size + header.text_length
    manifest_end = text_end + header.manifest_length
    head = view[_HEADER.size : manifest_end]
    if (found := zlib.crc32(head)) != header.head_crc:
        raise _damaged(name, _HEADER.size, f"text and manifest have the CRC32 {found:08x}, not {header.head_crc:08x}")
    seal_begin = header.file_length - header.seal_length
    if (found := zlib.crc32(view[seal_begin:])) != header.seal_crc:
        raise _damaged(name, seal_begin, f"the seal has the CRC32 {found:08x}, not {header.seal_crc:08x}")
    try:
        manifest = pb.Manifest.FromString(bytes(view[text_end:manifest_end]))
    except DecodeError as error:
        raise _damaged(name, text_end, f"the manifest is no protobuf message ({error})") from None
    if manifest.requires:
        words = ", ".join(map(repr, manifest.requires))
        raise FutureError(f"{name}: to read it takes a mace-cl that knows {words}; update mace-cl.")
    sections = _check_sections(name, view, manifest.sections, manifest_end, seal_begin)
    try:
        program = from_manifest(manifest, sections)
    except ValueError as error:
        raise _damaged(name, text_end, f"the manifest contradicts itself: {error}") from None
    return Opened(name, header.version, program, manifest, view)


def _map(path: Path | str) -> memoryview:
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise StorageError(f"{path}: is not a regular file; give the path of a compiled program.")
            return memoryview(mmap.mmap(handle, 0, access=mmap.ACCESS_READ) if status.st_size else b"")
        finally:
            os.close(handle)
    except StorageError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StorageError(f"{path}: can't be read ({reason}); check the path and its permissions.") from error


def _damaged(name: str, offset: int, found: str) -> DamagedError:
    return DamagedError(f"{name}: damaged at byte {offset}: {found}. {_ADVICE}")


def _check_header(name: str, view: memoryview) -> _Header:
    if not is_program(view):
        if bytes(view[_LINE : _LINE + len(_WORD)]) == _WORD:
            raise _damaged(name, 0, f"the first bytes are {bytes(view[:8]).hex(' ')}, not {MAGIC.hex(' ')}")
        if MAGIC.startswith(bytes(view)):
            raise _damaged(name, len(view), "the file is empty" if not len(view) else "the file ends here")
        raise ForeignError(
            f"{name}: not a compiled program of mace-cl; it looks like {looks_like(view)}. "
            "Give a file that `mace-cl compile` wrote, or hand a model in as the model."
        )
    if len(view) < _HEADER.size:
        raise _damaged(name, len(view), f"the file ends inside its header of {_HEADER.size} bytes")
    header = _Header(*_HEADER.unpack_from(view))
    if (found := zlib.crc32(view[: _HEADER.size - 4])) != header.header_crc:
        raise _damaged(name, 0, f"the header has the CRC32 {found:08x}, not {header.header_crc:08x}")
    if header.version != VERSION:
        raise FutureError(
            f"{name}: has format version {header.version}; this mace-cl reads version {VERSION}. "
            "Update mace-cl, or let it compile the model again."
        )
    if header.file_length != len(view):
        raise _damaged(
            name,
            min(len(view), header.file_length),
            f"the file has {len(view)} bytes where {header.file_length} were written",
        )
    if any(header.reserved):
        raise _damaged(name, 44, f"reserved bytes are {header.reserved.hex(' ')}, not zero")
    if header.text_length > _MAX_TEXT or header.manifest_length > _MAX_MANIFEST:
        raise _damaged(
            name, 24, f"text of {header.text_length} and manifest of {header.manifest_length} bytes are too long"
        )
    if _HEADER.size + header.text_length + header.manifest_length + header.seal_length > len(view):
        raise _damaged(
            name,
            24,
            f"text, manifest and seal of {header.text_length}, {header.manifest_length} and "
            f"{header.seal_length} bytes do not fit the file of {len(view)}",
        )
    return header


def _check_sections(
    name: str, view: memoryview, sections: Sequence[pb.Section], begin: int, end: int
) -> list[memoryview]:
    """Views of the sections, which lie between ``begin`` and ``end`` without gap or overlap but for zeros."""
    views = []
    position = begin
    for number, section in enumerate(sections):
        offset, length = section.offset, section.length
        if offset != _aligned(position, section.kind) or offset + length > end:
            raise _damaged(
                name,
                position,
                f"section {number} claims {length} bytes from byte {offset}; "
                f"it must begin at {_aligned(position, section.kind)} and end by {end}",
            )
        if any(view[position:offset]):
            raise _damaged(name, position, f"the {offset - position} bytes before section {number} are not all zero")
        if section.kind == pb.KIND_SOURCE:
            _check_section(name, view, number, section)
        views.append(view[offset : offset + length])
        position = offset + length
    if position != end:
        raise _damaged(name, position, f"{end - position} bytes belong to no section")
    return views


def _check_section(name: str, view: memoryview, number: int, section: pb.Section) -> None:
    found = zlib.crc32(view[section.offset : section.offset + section.length])
    if found != section.crc32:
        kind = KINDS.get(section.kind, f"kind {section.kind}")
        raise _damaged(
            name,
            section.offset,
            f"section {number} ({kind}, {section.length} bytes) has the CRC32 {found:08x}, not {section.crc32:08x}",
        )


def _aligned(offset: int, kind: int) -> int:
    step = PAGE if kind == pb.KIND_CONSTANTS else _LINE
    return -(-offset // step) * step


def write(program: Program, path: Path | str) -> None:
    """Writes ``program`` to ``path`` so that every reader sees the old file or the new one, each whole.

    Equal programs give equal bytes.  Sections are streamed from where they are.  A link is followed.

    Raises:
        StorageError: no space, no permission, no such directory, or something there that is no file;
            what was there before is untouched.
        ValueError: the program contradicts itself.
    """
    program.check()
    manifest, payloads = to_manifest(program)
    text = _text(program)
    manifest_end = position = _HEADER.size + len(text) + manifest.ByteSize()
    if manifest.ByteSize() > _MAX_MANIFEST:
        raise ValueError(f"a manifest of {manifest.ByteSize()} bytes, more than {_MAX_MANIFEST}")
    gaps = []
    for section in manifest.sections:
        section.offset = _aligned(position, section.kind)
        gaps.append(section.offset - position)
        position = section.offset + section.length
    head = text + manifest.SerializeToString(deterministic=True)
    if _HEADER.size + len(head) != manifest_end:
        raise AssertionError("the manifest changed its size when the offsets were filled in")
    header = _HEADER.pack(
        MAGIC, VERSION, zlib.crc32(head), position, len(text), len(head) - len(text), 0, 0, bytes(16), 0
    )[:-4]
    parts: list[bytes | memoryview] = [header, struct.pack("<I", zlib.crc32(header)), head]
    for gap, payload in zip(gaps, payloads, strict=True):
        parts.append(bytes(gap))
        parts.extend(payload[start : start + _CHUNK] for start in range(0, payload.nbytes, _CHUNK))
    _replace(Path(os.path.realpath(path)), parts)


def _text(program: Program) -> bytes:
    lines = [
        f"{_WORD.decode()}  format version {VERSION}",
        f"Producer: {program.producer}",
        f"Model: {program.model.name}",
    ]
    for target in program.targets:
        signature = target.signature
        kernels = len(target.schedule.kernels)
        lines.append(f"Target device: {signature.device} ({signature.platform})")
        lines.append(f"Driver version: {signature.driver}; {kernels} kernels")
    lines.append("Look inside: mace-cl inspect FILE")
    clean = ("".join(c if " " <= c <= "~" else "?" for c in line[:160]) + "\n" for line in lines)
    return "".join(clean).encode()[:_MAX_TEXT]


def _replace(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    temporary = path.with_name(f".mace-cl-{os.getpid()}-{os.urandom(4).hex()}.tmp")
    try:
        if path.exists() and not path.is_file():
            raise StorageError(f"{path}: is a directory or a device, not a file; name another path.")
        with temporary.open("xb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path}: the compiled program could not be written ({error.strerror or error}). "
            "Choose a directory that exists, has room and can be written to."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    with suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
