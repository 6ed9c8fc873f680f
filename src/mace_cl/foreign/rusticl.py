"""The program binary of rusticl (Mesa's OpenCL): a short header, then SPIR-V.

Since Mesa 24.2: ``rusticl\\0``, u32 version, u32 length of the device's name, u32 length of the SPIR-V, u32
``cl_program_binary_type``, name, SPIR-V.  Before: u32 version, u32 length of the SPIR-V, u32 type, SPIR-V.
Little-endian.  Source: Mesa's ``src/gallium/frontends/rusticl/core/program.rs``.
"""

from __future__ import annotations

from mace_cl.foreign.notes import Cursor, Format, Notes, printable

__all__ = ["FORMAT"]

_MAGIC = b"rusticl\0"
_SPIRV = b"\x03\x02\x23\x07"
_TYPES = {0: "none", 1: "compiled object", 2: "library", 4: "executable"}


def _sniff(view: memoryview) -> bool:
    head = bytes(view[:16])
    old = head[:4] == b"\1\0\0\0" and head[12:] == _SPIRV and int.from_bytes(head[4:8], "little") == len(view) - 12
    return head[:8] == _MAGIC or old


def _read(view: memoryview, notes: Notes) -> None:
    cursor = Cursor(view, "the rusticl binary")
    name_length = 0
    if view[:8] == _MAGIC:
        cursor.offset = len(_MAGIC)
        version, name_length, length, kind = cursor.numbers("IIII")
    else:
        version, length, kind = cursor.numbers("III")
    notes.fact("version", version)
    notes.fact("program type", _TYPES.get(kind, str(kind)))
    notes.fact("device", printable(cursor.take(name_length, "the device's name")))
    begin = cursor.offset
    cursor.take(length, "SPIR-V")
    notes.part("program", begin, length, look=True)


FORMAT = Format("rusticl", "rusticl program binary", _sniff, _read)
