"""Damaged compiled-program files, many of them.

Whatever happens to a file, reading it gives what was written or a `ProgramError`; never another
exception, never another program.  ``--damaged-files N`` sets how many each test makes.
"""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cl.errors import DamagedError, ProgramError
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.format import read
from mace_cl.program.program import Program

DATA = (Path(__file__).parents[1] / "golden" / "program" / "format-3.bin").read_bytes()
WRITTEN = read(DATA)
TEXT, MANIFEST = struct.unpack_from("<II", DATA, 24)
MANIFEST_BEGIN, MANIFEST_END = 64 + TEXT, 64 + TEXT + MANIFEST
MEMORY = 32 << 20


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def outcome(data: bytes) -> Program | None:
    """The program that was read, or None where reading refused; either way in bounded memory."""
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    try:
        return read(data)
    except ProgramError:
        return None
    finally:
        assert tracemalloc.get_traced_memory()[1] - before < MEMORY


def must_refuse(data: bytes) -> None:
    assert data == DATA or outcome(data) is None


def flipped(bit: int) -> bytes:
    data = bytearray(DATA)
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def test_every_byte_is_covered(damaged_files: int) -> None:
    bits = range(len(DATA) * 8)
    chosen = random.Random(1).sample(bits, min(damaged_files, len(bits)))
    for bit in [*range(64 * 8), *chosen]:
        with pytest.raises(ProgramError):
            read(flipped(bit))


def test_every_length(damaged_files: int) -> None:
    lengths = range(len(DATA))
    for length in [*range(80), *random.Random(2).sample(lengths, min(damaged_files, len(lengths)))]:
        with pytest.raises(DamagedError):
            read(DATA[:length])
        must_refuse(DATA + DATA[: length + 1])


positions = st.integers(0, len(DATA))
edits = st.one_of(
    st.tuples(st.just("cut"), positions, positions, st.just(b"")),
    st.tuples(st.just("put"), positions, positions, st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("zero"), positions, positions, st.just(b"")),
    st.tuples(st.just("copy"), positions, positions, st.just(b"")),
    st.tuples(st.just("swap"), positions, positions, st.just(b"")),
)


def edited(data: bytes, edit: tuple[str, int, int, bytes]) -> bytes:
    kind, one, other, content = edit
    begin, end = sorted((min(one, len(data)), min(other, len(data))))
    match kind:
        case "cut":
            return data[:begin] + data[end:]
        case "put":
            return data[:begin] + content + data[begin + len(content) :]
        case "zero":
            return data[:begin] + bytes(end - begin) + data[end:]
        case "copy":
            return data[:begin] + data[begin:end] * 2 + data[end:]
        case _:
            middle = (begin + end) // 2
            return data[:begin] + data[middle:end] + data[begin:middle] + data[end:]


def test_cuts_splices_swaps_and_zeros(damaged_files: int) -> None:
    @settings(max_examples=damaged_files, deadline=None)
    @given(st.lists(edits, min_size=1, max_size=4))
    def check(changes: list[tuple[str, int, int, bytes]]) -> None:
        data = DATA
        for change in changes:
            data = edited(data, change)
        must_refuse(data)

    check()


def test_anything_at_all(damaged_files: int) -> None:
    @settings(max_examples=damaged_files, deadline=None)
    @given(st.binary(max_size=512), st.sampled_from([b"", DATA[:8], DATA[:64], DATA[:MANIFEST_END]]))
    def check(tail: bytes, head: bytes) -> None:
        must_refuse(head + tail)

    check()


def sealed(head: bytes, text: int, body: bytes, offsets: int = 0) -> bytes:
    """A file around ``head`` (text and manifest) and ``body`` whose checksums are all right."""
    header = struct.pack(
        "<8sIIQIIQI16s",
        DATA[:8],
        3,
        zlib.crc32(head),
        64 + len(head) + len(body) + offsets,
        text,
        len(head) - text,
        0,
        0,
        bytes(16),
    )
    return header + struct.pack("<I", zlib.crc32(header)) + head + body


def test_damaged_manifests_with_right_checksums(damaged_files: int) -> None:
    """An enemy can compute checksums; the manifest must then still not reach beyond the file."""

    @settings(max_examples=damaged_files, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, MANIFEST - 1), st.integers(0, 255)), min_size=1, max_size=8))
    def check(changes: list[tuple[int, int]]) -> None:
        manifest = bytearray(DATA[MANIFEST_BEGIN:MANIFEST_END])
        for place, value in changes:
            manifest[place] = value
        program = outcome(sealed(DATA[64:MANIFEST_BEGIN] + manifest, TEXT, DATA[MANIFEST_END:]))
        if program is not None:
            program.check()

    check()


def _numbers(message: pb.Manifest) -> list[tuple[object, str, int]]:
    """Every whole number anywhere in ``message``: where it is, its field, its place in a list or -1."""
    found: list[tuple[object, str, int]] = []
    todo: list[object] = [message]
    while todo:
        part = todo.pop()
        for field, value in part.ListFields():  # type: ignore[attr-defined]
            if field.message_type is not None:
                todo.extend([value] if hasattr(value, "ListFields") else value)
            elif isinstance(value, int):
                found.append((part, field.name, -1))
            elif not isinstance(value, (str, bytes)) and isinstance(value[0], int):
                found.extend((part, field.name, index) for index in range(len(value)))
    return found


EXTREMES = [0, 1, 2, 63, 64, 4095, 4096, 1 << 12, 1 << 20, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 40]
EXTREMES += [1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 1]


def test_forged_numbers_with_right_checksums(damaged_files: int) -> None:
    count = len(_numbers(pb.Manifest.FromString(DATA[MANIFEST_BEGIN:MANIFEST_END])))

    @settings(max_examples=damaged_files, deadline=None)
    @given(st.lists(st.tuples(st.integers(0, count - 1), st.sampled_from(EXTREMES)), min_size=1, max_size=3))
    def check(changes: list[tuple[int, int]]) -> None:
        manifest = pb.Manifest.FromString(DATA[MANIFEST_BEGIN:MANIFEST_END])
        numbers = _numbers(manifest)
        for place, value in changes:
            part, name, index = numbers[place]
            try:
                if index < 0:
                    setattr(part, name, value)
                else:
                    getattr(part, name)[index] = value
            except (ValueError, OverflowError):
                continue
        head = DATA[64:MANIFEST_BEGIN] + manifest.SerializeToString()
        program = outcome(sealed(head, TEXT, DATA[64 + len(head) :]))
        if program is not None:
            program.check()
            constants = [target.constants for target in program.targets]
            assert all(part is None or part.nbytes <= len(DATA) for part in constants)

    check()


def test_manifests_that_grow_when_parsed() -> None:
    """The dearest manifest for its size, many empty messages, is refused before objects are made of it."""
    limit = 1 << 22
    for tag in (b"\x3a\x00", b"\x32\x00", b"\x22\x00"):
        must_refuse(sealed(tag * (limit // 2), 0, b""))
    launches = b"\x42\x00" * ((limit - 64) // 2)
    schedule = b"\x12" + _varint(len(launches)) + launches
    must_refuse(sealed(b"\x3a" + _varint(len(schedule)) + schedule, 0, b""))


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def test_the_forgeries_can_succeed() -> None:
    """The tests above reach the checks behind the checksums: an unchanged manifest is accepted by `sealed`."""
    head = DATA[64:MANIFEST_END]
    assert outcome(sealed(head, TEXT, DATA[MANIFEST_END:])) == WRITTEN
    with pytest.raises(DecodeError):
        pb.Manifest.FromString(b"\xff")
