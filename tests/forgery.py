"""Compiled-program files that an enemy wrote: altered, but with every checksum right."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.format import PAGE, open_program, scan


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


def forge(data: bytes, edit: Callable[[pb.Manifest], object], lay: bool = True) -> bytes:
    """``data`` with an edited manifest, sections laid out anew unless not ``lay``, and all checksums right."""
    opened = open_program(data)
    manifest = opened.manifest
    contents = [data[s.offset : s.offset + s.length] for s in manifest.sections]
    edit(manifest)
    text_length = struct.unpack_from("<I", data, 24)[0]
    position = 64 + text_length + manifest.ByteSize()
    body = b""
    for section, content in zip(manifest.sections, contents, strict=False):
        step = PAGE if section.kind == pb.KIND_CONSTANTS else 64
        gap = -position % step
        if lay:
            section.offset = position + gap
        body += bytes(gap) + content
        position += gap + len(content)
    head = data[64 : 64 + text_length] + manifest.SerializeToString()
    lengths = (64 + len(head) + len(body), text_length, len(head) - text_length)
    header = struct.pack("<8sIIQIIQI16s", data[:8], 3, zlib.crc32(head), *lengths, 0, 0, bytes(16))
    return header + struct.pack("<I", zlib.crc32(header)) + head + body
