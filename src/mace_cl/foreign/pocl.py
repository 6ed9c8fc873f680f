"""PoCL's program binary, versions 6 to 11: LLVM bitcode of the program, and for each kernel its shared libraries.

Little-endian: ``poclbin\\0``, u64 hash of the device, u32 version, u32 kernels, u64 flags; from version 9 u32 files in
the root; 41 characters that name the program in PoCL's cache; in version 10 and later u64 bytes of program-scope
variables where flag 2 is set; from version 9 u64 bytes of the root's files; then files.  A file is u32 length of its
path, path, u32 length, content.  Each kernel: u64 bytes in all, u64 bytes of its files, u32 bytes of argument
information, u32 length of its name, name, u32 arguments, u32 local arguments, … and at its end its files.
Source: PoCL's ``pocl_binary.c``; versions 8 and 9 were compared with what PoCL 3.0 and 3.1 write.
"""

from __future__ import annotations

from mace_cl.foreign.notes import Cursor, Format, Notes, printable
from mace_cl.wire import damaged

__all__ = ["FORMAT"]

_MAGIC = b"poclbin\0"
_KNOWN = range(6, 12)
_HASH = 41
_FLUSH_DENORMS, _SCOPE_VARIABLES = 1, 2


def _read(view: memoryview, notes: Notes) -> None:
    cursor = Cursor(view, "the PoCL binary", len(_MAGIC))
    device, version, kernels, flags = cursor.numbers("QIIQ")
    notes.fact("version", version)
    notes.fact("device hash", f"{device:016x}")
    notes.fact("kernel count", kernels)
    notes.fact("flags", f"{flags:#x}" + (" (denormals flushed)" if flags & _FLUSH_DENORMS else ""))
    if version not in _KNOWN:
        notes.fact("not read", f"version {version}; known are {_KNOWN.start} to {_KNOWN.stop - 1}")
        return
    entries = cursor.u32() if version >= 9 else 1
    notes.fact("program hash", printable(bytes(cursor.take(_HASH, "the program's hash")).rstrip(b"\0")))
    if version >= 10 and flags & _SCOPE_VARIABLES:
        notes.fact("bytes of program-scope variables", cursor.numbers("Q")[0])
    if version >= 9:
        end = cursor.numbers("Q")[0] + cursor.offset
        _files(view, cursor, end, "", notes)
        notes.fact("files beside kernels", entries)
    else:
        _file(cursor, "", notes)
    names = []
    try:
        for _ in range(kernels):
            names.append(_kernel(view, cursor, notes))
    finally:
        notes.fact("kernels", names)
    if cursor.left:
        raise damaged(cursor.what, cursor.offset, f"{cursor.left} bytes belong to nothing")


def _kernel(view: memoryview, cursor: Cursor, notes: Notes) -> str:
    notes.spend()
    begin = cursor.offset
    size, files_size, arguments_size = cursor.numbers("QQI")
    name = printable(cursor.take(cursor.u32(), "a kernel's name"))
    arguments, local = cursor.numbers("II")
    end = begin + size
    if end > len(view) or files_size > end - cursor.offset:
        raise damaged(cursor.what, begin, f"kernel {name} of {size} bytes with files of {files_size} does not fit")
    facts = (("arguments", arguments), ("local variables", local), ("bytes of argument information", arguments_size))
    notes.part(f"kernel {name}", begin, size, facts)
    cursor.offset = end - files_size
    _files(view, cursor, end, f"{name}: ", notes)
    return name


def _files(view: memoryview, cursor: Cursor, end: int, prefix: str, notes: Notes) -> None:
    if end > len(view):
        raise damaged(cursor.what, cursor.offset, f"files up to byte {end} do not fit the {len(view)} there are")
    while cursor.offset < end:
        _file(cursor, prefix, notes)
    if cursor.offset != end:
        raise damaged(cursor.what, cursor.offset, f"a file ends beyond its kernel's end at {end}")


def _file(cursor: Cursor, prefix: str, notes: Notes) -> None:
    notes.spend()
    path = printable(cursor.take(cursor.u32(), "a file's path"))
    length = cursor.u32()
    begin = cursor.offset
    cursor.take(length, f"the file {path}")
    notes.part(prefix + path, begin, length, look=True)


FORMAT = Format("pocl", "PoCL program binary", lambda view: bytes(view[:8]) == _MAGIC, _read)
