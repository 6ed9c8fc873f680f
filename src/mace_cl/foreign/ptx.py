"""PTX, NVIDIA's virtual assembly: what its OpenCL driver gives as a program binary.

Source: the PTX ISA document, "Directives".
"""

from __future__ import annotations

import re

from mace_cl.foreign.notes import Format, Notes, printable

__all__ = ["FORMAT"]

_HEAD = 1 << 12
_VERSION = re.compile(rb"^[ \t]*\.version[ \t]+(\d{1,3}\.\d{1,3})", re.M)
_TARGET = re.compile(rb"^[ \t]*\.target[ \t]+([\w, \t]{1,128})", re.M)
_ADDRESS = re.compile(rb"^[ \t]*\.address_size[ \t]+(\d{1,3})", re.M)
_ENTRY = re.compile(
    rb"^[ \t]*(?:\.(?:visible|weak|extern)[ \t]+)?\.(entry|func)\b[ \t]*(?:\([^)\n]{0,256}\))?\s{0,8}([\w$%]{1,1024})",
    re.M,
)
_COMPILER = re.compile(rb"^// (?:Compiler Build ID: |Cuda compilation tools, |Based on )([^\r\n]{1,128})", re.M)


def _sniff(view: memoryview) -> bool:
    head = bytes(view[:_HEAD])
    return b".version" in head and bool(_VERSION.search(head)) and bool(_TARGET.search(head))


def _read(view: memoryview, notes: Notes) -> None:
    head = bytes(view[:_HEAD])
    for label, pattern in (("PTX version", _VERSION), ("target", _TARGET), ("address bits", _ADDRESS)):
        if found := pattern.search(head):
            notes.fact(label, printable(found[1].strip()))
    notes.fact("compiler", [printable(found[1]) for found in _COMPILER.finditer(head)])
    names: dict[bytes, list[str]] = {b"entry": [], b"func": []}
    for found in _ENTRY.finditer(view):
        notes.spend()
        names[found[1]].append(printable(found[2]))
    notes.fact("kernels", names[b"entry"])
    notes.fact("functions", names[b"func"])


FORMAT = Format("ptx", "PTX (NVIDIA's virtual assembly)", _sniff, _read)
