"""Reading and writing `mace-cl-compiled-program.bin`, binary format version 3.

The byte layout is in docs/program-file.md.  Every byte of a file is covered: the header by its own
CRC32, text and manifest by one in the header, each section by one in the manifest; what lies between
sections is zero.  Nothing is allocated, indexed or handed on by a length that was not first compared
with the file.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import stat
import struct
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import NamedTuple

from google.protobuf.message import DecodeError

from mace_cl.errors import DamagedError, ForeignError, FutureError, SealError, StorageError
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.cipher import NONCE_BYTES, TAG_BYTES, Cipher, Key
from mace_cl.program.manifest import FEATURES, KINDS, from_manifest, to_manifest
from mace_cl.program.program import Program
from mace_cl.program.recognise import looks_like
from mace_cl.record import record

__all__ = [
    "MAGIC",
    "VERSION",
    "Opened",
    "Scanned",
    "Signer",
    "is_program",
    "map_file",
    "open_private",
    "open_program",
    "open_without_key",
    "read",
    "scan",
    "write",
    "write_sealed",
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


Signer = Callable[[bytes], bytes]
"""Makes a seal of what `Scanned.message` gives; `mace_cl.program.seal` has them."""


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


@record
class Scanned:
    """A program file whose head was checked: header, text, manifest, kernel sources, zeros between sections.

    No program was made of it yet; that takes the key where sections are encrypted.
    """

    name: str
    version: int
    manifest: pb.Manifest = field(repr=False)
    view: memoryview = field(repr=False)
    sections: tuple[memoryview, ...] = field(repr=False)
    text_length: int
    manifest_length: int
    seal_length: int

    @property
    def seal(self) -> memoryview:
        """The bytes of the seal; empty where nobody signed."""
        return self.view[len(self.view) - self.seal_length :]

    @property
    def sealed(self) -> bool:
        """Whether the file is signed or encrypted: to write it anew would undo what its maker did."""
        return bool(self.seal_length or self.manifest.key)

    def message(self) -> bytes:
        """What a signature covers: version, lengths, text and manifest, in which the sections' hashes are."""
        begin, end = _HEADER.size, _HEADER.size + self.text_length + self.manifest_length
        return _message(self.text_length, bytes(self.view[begin:end]))

    def verify(self) -> None:
        """Compare the CRC32 of every section that opening has not yet read, and the SHA-256 of every binary.

        May run in a thread of its own: checksums are computed outside Python's lock.

        Raises:
            DamagedError: naming the first section that is not what was written, and its offset.
        """
        self.verify_code()
        self.verify_constants()

    def verify_code(self, target: int | None = None) -> None:
        """As `verify`, but for the constants, which are most of a file and which nothing reads before a run.

        With ``target`` only what belongs to that target.
        """
        for number, section in self._sections_of(target):
            if section.kind not in (pb.KIND_SOURCE, pb.KIND_CONSTANTS) and not section.nonce:
                _check_section(self.name, self.view, number, section)
            if section.kind == pb.KIND_BINARY:
                self._check_hash(number)

    def verify_constants(self, target: int | None = None) -> None:
        """As `verify`, but the constants alone; with ``target`` only those of that target."""
        for number, section in self._sections_of(target):
            if section.kind == pb.KIND_CONSTANTS and not section.nonce:
                _check_section(self.name, self.view, number, section)

    def _sections_of(self, target: int | None) -> list[tuple[int, pb.Section]]:
        sections = list(enumerate(self.manifest.sections))
        if target is None:
            return sections
        one = self.manifest.targets[target]
        used = {unit.binary for unit in one.units if unit.HasField("binary")}
        used |= {golden.values for golden in one.golden} | {step.model for step in one.schedule.hosts}
        if one.HasField("constants"):
            used.add(one.constants)
        return [(number, section) for number, section in sections if number in used]

    def verify_hashes(self) -> None:
        """Compare the SHA-256 of every section: no accident, and no one who altered a section, gets past it.

        Raises:
            DamagedError: naming the first section that is not what was written, and its offset.
        """
        for number in range(len(self.sections)):
            self._check_hash(number)

    def _check_hash(self, number: int) -> None:
        section = self.manifest.sections[number]
        if (found := hashlib.sha256(self.sections[number]).hexdigest()) != section.sha256:
            what = f"{_describe(number, section)} has the SHA-256 {found[:16]}…, not {section.sha256[:16]}…"
            raise _damaged(self.name, section.offset, what)


@record
class Opened(Scanned):
    """A scanned file and the program in it.

    ``program``'s binaries and constants are views of the file (no copy, unless they are encrypted).  Binaries
    must not reach a driver, nor constants a kernel, before `verify` has returned and
    `mace_cl.program.seal.admit` has agreed.  The views keep the file mapped.
    """

    program: Program
    key: Key | None = field(repr=False, default=None)


def is_program(head: bytes | memoryview) -> bool:
    """Whether a file that begins with ``head`` (8 bytes suffice) calls itself a compiled program."""
    return bytes(head[: len(MAGIC)]) == MAGIC


def read(source: Path | str | bytes | memoryview, key: Key | None = None) -> Program:
    """The program in a file or in its bytes, every byte checked: `open_program`, then `Opened.verify`.

    Raises:
        DamagedError, ProgramError, StorageError: as `open_program`.
    """
    opened = open_program(source, key)
    opened.verify()
    return opened.program


def open_program(source: Path | str | bytes | memoryview, key: Key | None = None) -> Opened:
    """Maps a program file, or takes its bytes, and checks all but the large sections.

    In a mapped file constants begin on a page; bytes lie where the caller has put them.  ``key`` is
    for a file that is encrypted.

    Raises:
        DamagedError: it was a compiled program, but its bytes are not what was written.
        FutureError: a newer mace-cl wrote it.
        ForeignError: it is something else; the message says what it looks like.
        SealError: it is encrypted, and ``key`` is missing or another.
        StorageError: the file can't be read.
    """
    return _opened(scan(source), key)


def open_private(opened: Opened) -> Opened:
    """The same file, opened again from a copy in memory that nobody else can write to.

    Raises:
        as `open_program`, if the file was changed meanwhile.
    """
    copy = mmap.mmap(-1, len(opened.view))
    copy.write(opened.view)
    return _opened(_scan(opened.name, memoryview(copy).toreadonly()), opened.key)


def open_without_key(file: Scanned) -> Opened:
    """An encrypted file as far as it can be read without its key: weights and sources are zeros of the same length.

    To look at, not to run.

    Raises:
        DamagedError: as `open_program`.
    """
    pairs = zip(file.manifest.sections, file.sections, strict=True)
    return _made(file, [_zeros(len(view) - TAG_BYTES) if section.nonce else view for section, view in pairs], None)


def _zeros(length: int) -> memoryview:
    """They take no memory until they are read."""
    return memoryview(mmap.mmap(-1, length) if length else b"").toreadonly()


def scan(source: Path | str | bytes | memoryview) -> Scanned:
    """As `open_program`, but without making a program of it; needs no key.

    Raises:
        DamagedError, FutureError, ForeignError, StorageError: as `open_program`.
    """
    if isinstance(source, (bytes, memoryview)):
        return _scan("<bytes>", memoryview(source).toreadonly().cast("B"))
    return _scan(str(source), map_file(source))


def _scan(name: str, view: memoryview) -> Scanned:
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
    if unknown := [word for word in manifest.requires if word not in FEATURES]:
        words = ", ".join(map(repr, unknown))
        raise FutureError(f"{name}: to read it takes a mace-cl that knows {words}; update mace-cl.")
    sections = _check_sections(name, view, manifest.sections, manifest_end, seal_begin)
    lengths = (header.text_length, header.manifest_length, header.seal_length)
    return Scanned(name, header.version, manifest, view, tuple(sections), *lengths)


def _opened(file: Scanned, key: Key | None) -> Opened:
    return _made(file, _decrypted(file, key), key)


def _made(file: Scanned, sections: Sequence[memoryview], key: Key | None) -> Opened:
    try:
        program = from_manifest(file.manifest, sections)
    except ValueError as error:
        begin = _HEADER.size + file.text_length
        raise _damaged(file.name, begin, f"the manifest contradicts itself: {error}") from None
    return Opened(**vars(file), program=program, key=key)


def _decrypted(file: Scanned, key: Key | None) -> Sequence[memoryview]:
    """The sections, those that are encrypted replaced by what they hold."""
    manifest = file.manifest
    if not any(section.nonce for section in manifest.sections):
        return file.sections
    if key is None:
        raise SealError(
            f"{file.name}: is encrypted with the key {manifest.key}, and no key was given. "
            "Set MACE_CL_KEY to its 64 hexadecimal digits, or pass it as the argument key."
        )
    cipher = Cipher(key)
    if cipher.id != manifest.key:
        raise SealError(
            f"{file.name}: is encrypted with the key {manifest.key}; the key given is {cipher.id}. Give the right one."
        )
    return [
        memoryview(
            cipher.decrypt(
                section.kind, manifest.model.sha256, section.nonce, view, f"{file.name}: {_describe(number, section)}"
            )
        )
        if section.nonce
        else view
        for number, (section, view) in enumerate(zip(manifest.sections, file.sections, strict=True))
    ]


def map_file(path: Path | str) -> memoryview:
    """The bytes of a file, mapped, for as long as they are used.

    Raises:
        StorageError: it is no regular file, or can't be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise StorageError(f"{path}: is not a regular file; give the path of one.")
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
        if section.nonce and (len(section.nonce) != NONCE_BYTES or length < TAG_BYTES):
            what = f"{_describe(number, section)} with a nonce of {len(section.nonce)} bytes can't be encrypted"
            raise _damaged(name, offset, what)
        if section.kind == pb.KIND_SOURCE or section.nonce:
            _check_section(name, view, number, section)
        views.append(view[offset : offset + length])
        position = offset + length
    if position != end:
        raise _damaged(name, position, f"{end - position} bytes belong to no section")
    return views


def _check_section(name: str, view: memoryview, number: int, section: pb.Section) -> None:
    found = zlib.crc32(view[section.offset : section.offset + section.length])
    if found != section.crc32:
        what = f"{_describe(number, section)} has the CRC32 {found:08x}, not {section.crc32:08x}"
        raise _damaged(name, section.offset, what)


def _describe(number: int, section: pb.Section) -> str:
    return f"section {number} ({KINDS.get(section.kind, f'kind {section.kind}')}, {section.length} bytes)"


def _aligned(offset: int, kind: int) -> int:
    step = PAGE if kind == pb.KIND_CONSTANTS else _LINE
    return -(-offset // step) * step


def write(program: Program, path: Path | str, *, key: Key | None = None, signer: Signer | None = None) -> None:
    """Writes ``program`` to ``path`` so that every reader sees the old file or the new one, each whole.

    Equal programs give equal bytes, unless a ``key`` encrypts sources and constants: every encryption
    differs.  Sections are streamed from where they are.  A link is followed.

    Raises:
        StorageError: no space, no permission, no such directory, something there that is no file, or
            a program of more parts than a reader takes; what was there before is untouched.
        SealError: ``key`` is not one.
        ValueError: the program contradicts itself.
    """
    program.check()
    try:
        manifest, payloads = to_manifest(program, Cipher(key) if key is not None else None)
        size = manifest.ByteSize()
        if size > _MAX_MANIFEST:
            raise ValueError(f"a manifest of {size} bytes, more than {_MAX_MANIFEST}")
    except ValueError as error:
        raise StorageError(f"{path}: the compiled program does not fit its file format: {error}.") from None
    text = _text(program)
    manifest_end = position = _HEADER.size + len(text) + size
    gaps = []
    for section in manifest.sections:
        section.offset = _aligned(position, section.kind)
        gaps.append(section.offset - position)
        position = section.offset + section.length
    head = text + manifest.SerializeToString(deterministic=True)
    if _HEADER.size + len(head) != manifest_end:
        raise AssertionError("the manifest changed its size when the offsets were filled in")
    parts: list[bytes | memoryview] = [head]
    for gap, payload in zip(gaps, payloads, strict=True):
        parts.extend((bytes(gap), payload))
    seal = signer(_message(len(text), head)) if signer else b""
    replace_file(Path(os.path.realpath(path)), _file(head, len(text), position, parts, seal))


def write_sealed(file: Scanned, path: Path | str, seal: bytes) -> None:
    """Writes ``file`` as it is, but for its seal, as `write` does.

    Raises:
        StorageError: as `write`.
    """
    body = file.view[_HEADER.size : len(file.view) - file.seal_length]
    head = body[: file.text_length + file.manifest_length]
    parts = _file(head, file.text_length, _HEADER.size + len(body), [body], seal)
    replace_file(Path(os.path.realpath(path)), parts)


def _message(text_length: int, head: bytes) -> bytes:
    return b"mace-cl program\0" + struct.pack("<III", VERSION, text_length, len(head) - text_length) + head


def _file(
    head: bytes | memoryview, text_length: int, seal_begin: int, parts: Sequence[bytes | memoryview], seal: bytes
) -> list[bytes | memoryview]:
    """A file in pieces that are not large: a header in front of ``parts``, a seal behind them."""
    lengths = (seal_begin + len(seal), text_length, len(head) - text_length, len(seal))
    header = _HEADER.pack(MAGIC, VERSION, zlib.crc32(head), *lengths, zlib.crc32(seal), bytes(16), 0)[:-4]
    pieces: list[bytes | memoryview] = [header, struct.pack("<I", zlib.crc32(header))]
    for part in (*parts, seal):
        pieces.extend(part[start : start + _CHUNK] for start in range(0, len(part), _CHUNK))
    return pieces


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


def replace_file(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    """Writes ``parts``, one after another, so that every reader sees the old file or the new one, each whole.

    Raises:
        StorageError: no space, no permission, no such directory, or something there that is no file.
    """
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
            f"{path}: could not be written ({error.strerror or error}). "
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
