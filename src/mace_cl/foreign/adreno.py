"""What Qualcomm's Adreno 6xx drivers give as a program binary, as far as it is known.

The container has no magic and is not documented.  The offsets here are those that tinygrad's ``ops_qcom.py`` reads:
0x34 the registers' table, 0xC0 and 0x100 where the machine code lies and its length, 0x110 the kernel's description,
with the private and shared memory at 0xC8 and 0xD8 and the name at 0x158 of it.  They hold for binaries of one kernel
by the drivers that tinygrad was written for; a binary is recognised only where all of them fit.
"""

from __future__ import annotations

from mace_cl.foreign.notes import Format, Notes, printable

__all__ = ["FORMAT"]

_HEAD = 0x114


def _u32(view: memoryview, offset: int) -> int:
    return int.from_bytes(view[offset : offset + 4], "little")


def _name(view: memoryview) -> bytes:
    begin = _u32(view, 0x110) + 0x158
    return bytes(view[begin : begin + 256]).partition(b"\0")[0]


def _sniff(view: memoryview) -> bool:
    if len(view) < _HEAD + 0x158:
        return False
    code, length, description, registers = (_u32(view, offset) for offset in (0xC0, 0x100, 0x110, 0x34))
    name = _name(view)
    return (
        _HEAD <= description <= len(view) - 0x158
        and _HEAD <= code <= len(view) - length
        and _HEAD <= registers <= len(view) - 0x1C
        and length > 0
        and length % 8 == 0
        and len(name) > 1
        and name.isascii()
        and name.decode().isidentifier()
    )


def _read(view: memoryview, notes: Notes) -> None:
    description, registers = _u32(view, 0x110), _u32(view, 0x34)
    notes.fact("kernel", printable(_name(view)))
    notes.fact("private memory", _u32(view, description + 0xC8))
    notes.fact("shared memory", _u32(view, description + 0xD8))
    notes.fact("full registers", _u32(view, registers + 0x14))
    notes.fact("half registers", _u32(view, registers + 0x18))
    notes.fact("not known", "the container is not documented; this is what tinygrad reads of it")
    notes.part("machine code", _u32(view, 0xC0), _u32(view, 0x100))


FORMAT = Format("adreno", "program binary of an Adreno driver, by its offsets", _sniff, _read)
