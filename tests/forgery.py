"""Compiled-program files that an enemy wrote: altered, but with every checksum right."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.format import scan


def forged(data: bytes, edit: Callable[[pb.Manifest], object], content: Callable[[bytearray], object]) -> bytes:
    """``data`` with another content of its sections and another manifest of the same length; CRC32s are made right."""
    opened = scan(data)
    out = bytearray(data)
    content(out)
    for section in opened.manifest.sections:
        section.crc32 = zlib.crc32(out[section.offset : section.offset + section.length])
    edit(opened.manifest)
    begin = 64 + opened.text_length
    manifest = opened.manifest.SerializeToString(deterministic=True)
    assert len(manifest) == opened.manifest_length
    out[begin : begin + len(manifest)] = manifest
    struct.pack_into("<I", out, 12, zlib.crc32(out[64 : begin + len(manifest)]))
    struct.pack_into("<I", out, 60, zlib.crc32(out[:60]))
    return bytes(out)
