"""Coverage-guided fuzzing of the program file's reader, by atheris (`pip install atheris`).

    python tests/torture/fuzz_program.py -max_total_time=300 CORPUS

The first byte of an input chooses what becomes of the rest: a file as it is; text, manifest and sections
whose header is made right; a manifest whose sections' checksums are made right too, by the protobuf's own
bytes.  A found input is kept as a file ``crash-…``; the same command with that file runs it again.
The corpus begins with the program that `damage.py` damages.
"""

from __future__ import annotations

import hashlib
import struct
import sys
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mace_cl"]):
    from mace_cl.errors import ProgramError
    from mace_cl.program import manifest_pb2 as pb
    from mace_cl.program.format import MAGIC, open_program, scan, write

from google.protobuf.message import DecodeError

sys.path.insert(0, str(Path(__file__).parents[1]))

from torture.damage import everything


def with_header(text: int, head: bytes, body: bytes) -> bytes:
    """A file around text, manifest and sections whose header is right."""
    lengths = (zlib.crc32(head), 64 + len(head) + len(body), text, len(head) - text, 0, 0)
    header = struct.pack("<8sIIQIIQI16s", MAGIC, 3, *lengths, bytes(16))
    return header + struct.pack("<I", zlib.crc32(header)) + head + body


def with_sections(manifest: pb.Manifest, body: bytes) -> bytes:
    """A file of as many sections as ``body`` fills, laid out and summed as they must be."""
    begin, contents = 0, []
    for section in manifest.sections:
        contents.append(body[begin : begin + section.length % 8192])
        begin += len(contents[-1])
    for section, content in zip(manifest.sections, contents, strict=True):
        section.length, section.crc32, section.offset = len(content), zlib.crc32(content), 1
        section.sha256 = hashlib.sha256(content).hexdigest()
    position, out = 64 + manifest.ByteSize(), b""
    for section, content in zip(manifest.sections, contents, strict=True):
        gap = -position % (4096 if section.kind == pb.KIND_CONSTANTS else 64)
        section.offset = position + gap
        out += bytes(gap) + content
        position += gap + len(content)
    return with_header(0, manifest.SerializeToString(), out)


def file_of(data: bytes) -> bytes:
    """The file that an input stands for."""
    mode, rest = data[:1], data[1:]
    if mode == b"\x01" and len(rest) >= 4:
        text, manifest = struct.unpack_from("<HH", rest)
        return with_header(min(text, len(rest) - 4), rest[4 : 4 + text + manifest], rest[4 + text + manifest :])
    if mode == b"\x02" and len(rest) >= 2:
        (length,) = struct.unpack_from("<H", rest)
        try:
            return with_sections(pb.Manifest.FromString(rest[2 : 2 + length]), rest[2 + length :])
        except (DecodeError, ValueError):
            return rest
    return rest


def one_input(data: bytes) -> None:
    """Whatever it is, reading it gives a program that proves itself, or a `ProgramError`."""
    try:
        opened = open_program(file_of(data), bytes(32))
        opened.verify()
        opened.verify_hashes()
    except ProgramError:
        return
    opened.program.check()
    for target in opened.program.targets:
        assert target.constants is None or target.constants.nbytes <= len(opened.view)


def seeds(corpus: Path) -> None:
    """A program with everything that a file may hold, in each of the three forms."""
    corpus.mkdir(parents=True, exist_ok=True)
    whole = corpus / "whole"
    write(everything(), whole)
    file, data = scan(whole), whole.read_bytes()
    text, manifest = file.text_length, file.manifest_length
    head, body = data[64 : 64 + text + manifest], data[64 + text + manifest :]
    contents = b"".join(bytes(section) for section in file.sections)
    forms = {
        "plain": b"\0" + data,
        "headed": b"\1" + struct.pack("<HH", text, manifest) + head + body,
        "laid": b"\2" + struct.pack("<H", manifest) + head[text:] + contents,
    }
    for name, form in forms.items():
        assert open_program(file_of(form)).program.producer, "the inputs to begin with are good files"
        (corpus / name).write_bytes(form)


def main() -> None:
    """Hands the command line to libFuzzer, which does not return."""
    for argument in sys.argv[1:]:
        if not argument.startswith("-") and (Path(argument).is_dir() or not Path(argument).exists()):
            seeds(Path(argument))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
