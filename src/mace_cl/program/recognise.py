"""Saying what a file is that is not a compiled program, so that an error can tell what to do with it."""

from __future__ import annotations

import zlib

__all__ = ["looks_like"]

_BEGINNINGS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"\x7fELF", "an ELF file (a library, an executable, or a bare device binary)"),
    (b"\x1f\x8b", "a gzip file"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document"),
    (b"\x03\x02\x23\x07", "a SPIR-V module"),
    (b"BC\xc0\xde", "LLVM bitcode"),
    (b"CLCC", "a bare Mali program binary"),
    (b"poclbin", "a bare PoCL program binary"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras)"),
    (b"MZ", "a Windows executable"),
)
_LOOK = 1 << 16
_MACE_LIMIT = 1 << 26


def looks_like(data: memoryview) -> str:
    """Names the kind of file that ``data``, a whole file, seems to be; "not known" where nothing fits.

    Sources: the formats' own specifications; MACE's two layouts from its ``kv_storage.cc`` before and
    after March 2021 (pairs with a trailing CRC32; a count and then pairs).
    """
    head = bytes(data[:_LOOK])
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if head[:1] == b"\x08" and head[1:2] < b"\x20" and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a", b"\x42"):
        return "an ONNX model"
    if _is_mace(data):
        return "a compiled-program or tuning file of MACE, not of mace-cl"
    try:
        text = head[:4096].decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if len(head[:4096]) - error.start < 4 else "\0"
    if all(character.isprintable() or character in "\t\r\n\f" for character in text):
        return "an HTML page" if text.lstrip()[:9].lower().startswith(("<!doctype", "<html")) else "a text file"
    return f"of a kind not known (it begins with the bytes {head[:8].hex(' ')})"


def _is_mace(data: memoryview) -> bool:
    if len(data) < 8 or len(data) > _MACE_LIMIT:
        return False
    if data[0] == 0x0A and zlib.crc32(data[:-4]) == int.from_bytes(data[-4:], "little"):
        return True
    count, key = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:12], "little")
    return 0 < count < 1 << 16 and 0 < key < 1 << 12 and b" -D" in bytes(data[12 : 12 + key])
