"""The honest answer for files that no format of this package knows: what was seen in them."""

from __future__ import annotations

import re
from collections import Counter
from itertools import islice
from math import log2

from mace_cl.foreign.notes import Notes, printable
from mace_cl.program.recognise import looks_like

__all__ = ["read"]

_SAMPLE = 1 << 18
_SCAN = 1 << 24
_STRINGS = re.compile(rb"[ -~]{6,}")
_MANY = 12
_INSIDE = {
    "ELF": b"\x7fELF",
    "LLVM bitcode": b"BC\xc0\xde",
    "SPIR-V": b"\x03\x02\x23\x07",
    "PoCL binary": b"poclbin\0",
    "Mali binary": b"CLCC",
    "zip": b"PK\x03\x04",
    "gzip": b"\x1f\x8b\x08",
    "PNG": b"\x89PNG\r\n\x1a\n",
}
_NAMES = {
    b"\x89MCL\r\n\x1a\n": "a compiled program of mace-cl",
    b"\x50\xed\x55\xba": "a CUDA fat binary",
    b"CTNI": "a program binary of an Intel GPU, in patch tokens",
    b"__CLANG_OFFLOAD_BUNDLE__": "a bundle of clang's offloading (AMD)",
    b"!<arch>\n": "an ar archive",
    b"!<thin>\n": "an ar archive",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file",
    b"(\xb5/\xfd": "a zstandard file",
    b"\xfd7zXZ\0": "an xz file",
}
_TEXT_FIELD = re.compile(rb"\A(?:\s|#[^\n]{0,512}\n){0,64}[a-z_][a-z_0-9]{0,63} ?(?:\{|: ?[\w\"'-])")


def read(view: memoryview, notes: Notes) -> None:
    """Name the file by its first bytes where that can be done; else note first bytes, strings, entropy, known parts."""
    if not len(view):
        notes.kind, notes.title = "empty", "an empty file"
        return
    head = bytes(view[:32])
    title = next((name for magic, name in _NAMES.items() if head.startswith(magic)), looks_like(view))
    if title == "a text file" and _TEXT_FIELD.match(bytes(view[: 1 << 14])):
        title = "protobuf text"
    if not title.startswith("of a kind not known"):
        notes.kind, notes.title = "other", title
        return
    sample = bytes(view[:_SAMPLE])
    notes.spend(len(sample) // 64)
    notes.fact("first bytes", head[:16].hex(" "))
    entropy = _entropy(sample)
    dense = len(sample) >= 4096 and entropy > 7.5
    notes.fact(
        "entropy",
        f"{entropy:.2f} of 8 bits per byte"
        + (": compressed, encrypted, or numbers" if dense else "" if any(sample) else ": zeros only"),
    )
    notes.fact("strings", [printable(found[0], 120) for found in islice(_STRINGS.finditer(sample), _MANY)])
    inside = [
        (found.start(), name)
        for name, magic in _INSIDE.items()
        for found in islice(re.finditer(re.escape(magic), view[:_SCAN]), _MANY)
    ]
    for begin, name in sorted(inside)[:_MANY]:
        notes.part(f"{name} at byte {begin}", begin, len(view) - begin, look=True)


def _entropy(sample: bytes) -> float:
    counts = Counter(sample).values()
    return -sum(count / len(sample) * log2(count / len(sample)) for count in counts) + 0.0
