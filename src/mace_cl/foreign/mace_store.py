"""The files in which MACE keeps compiled programs and tuned parameters: pairs of a key and a value, in two layouts.

*protobuf* (since March 2021): ``PairContainer { repeated KVPair pairs = 1; }``, ``KVPair { string key = 1;
bytes bytes_value = 2; repeated uint32 uint32s_value = 3; }``, then the CRC32 of all that as four little-endian bytes.

*counted* (releases up to v1.0.x): the number of pairs as int64, then for each pair the length of its key as int32,
the key, the length of its value as int32, the value; all little-endian, no checksum.

Neither has a magic or a version.  Source: MACE's ``kv_storage.cc``, ``tuner.h`` and ``mace.proto``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from mace_cl.errors import DamagedError
from mace_cl.foreign.notes import Cursor
from mace_cl.wire import damaged, fields, len_field, read_varint, varint

__all__ = ["LAYOUTS", "Layout", "Pair", "Store", "glimpse", "layout_of", "read", "write"]

Layout = Literal["protobuf", "counted"]

LAYOUTS: dict[Layout, str] = {
    "protobuf": "pairs as protobuf, CRC32 at the end (MACE since March 2021)",
    "counted": "a count and then pairs, no checksum (MACE up to v1.0)",
}
MAX_PAIRS = 1 << 14
MAX_KEY = 1 << 14
MAX_NUMBERS = 64
_MAX_FILE = (1 << 31) - 1
_PROGRAM_KEYS = (b"mace_opencl_", b"program_hash_")


@dataclass(frozen=True)
class Pair:
    """A key, and a value: bytes, or in tuned-parameter files ``numbers`` (uint32).

    The counted layout has bytes only; there ``numbers`` is None always.  The value lies at ``offset`` in the file and
    takes ``length`` bytes; for numbers in protobuf that is the pair as a whole.
    """

    key: str
    value: bytes | memoryview
    numbers: tuple[int, ...] | None
    offset: int
    length: int

    @property
    def is_program(self) -> bool:
        """Whether only a compiled-program file has such a key."""
        return " -D" in self.key or self.key.startswith(("mace_opencl_", "program_hash_"))

    def as_numbers(self) -> tuple[int, ...]:
        """The value as tuned parameters: uint32 numbers."""
        if self.numbers is not None:
            return self.numbers
        return tuple(int.from_bytes(self.value[i : i + 4], "little") for i in range(0, len(self.value) - 3, 4))


@dataclass(frozen=True)
class Store:
    """All pairs of a file, in its order."""

    layout: Layout
    pairs: tuple[Pair, ...]

    @property
    def is_tuning(self) -> bool:
        """Whether these are tuned parameters rather than programs."""
        if self.layout == "protobuf":
            return any(pair.numbers is not None for pair in self.pairs)
        return bool(self.pairs) and not any(
            pair.is_program or len(pair.value) % 4 or len(pair.value) > 64 for pair in self.pairs
        )


def layout_of(view: memoryview) -> Layout | None:
    """The layout that ``view`` seems to have, whole or damaged; None if it is neither."""
    if 4 <= len(view) <= _MAX_FILE:
        if (view[0] == 0x0A or len(view) == 4) and zlib.crc32(view[:-4]) == int.from_bytes(view[-4:], "little"):
            return "protobuf"
        if _begins_like_pairs(bytes(view[: MAX_KEY + 32])):
            return "protobuf"
        if len(view) > 16 and 0 < int.from_bytes(view[:8], "little") <= MAX_PAIRS:
            length = int.from_bytes(view[8:12], "little")
            if 2 < length <= min(MAX_KEY, len(view) - 12) and _is_text(bytes(view[12 : 12 + length])):
                return "counted"
    return None


def _begins_like_pairs(head: bytes) -> bool:
    """Whether ``head`` begins with a pair that only MACE writes, whatever the checksum says."""
    view = memoryview(head)
    try:
        if head[:1] != b"\x0a":
            return False
        offset = read_varint(view, 1, "")[1]
        if head[offset : offset + 1] != b"\x0a":
            return False
        length, offset = read_varint(view, offset + 1, "")
    except DamagedError:
        return False
    key, following = head[offset : offset + length], head[offset + length : offset + length + 1]
    return _is_text(key) and (key.startswith(_PROGRAM_KEYS) or b" -D" in key or following == b"\x18")


def _is_text(key: bytes) -> bool:
    return key.isascii() and key.decode().isprintable()


def read(source: bytes | memoryview, name: str = "<bytes>") -> Store:
    """All pairs of a file in either layout, values not copied.

    Raises:
        DamagedError: it is in neither layout, its CRC32 does not fit, or lengths contradict each other.
    """
    view = memoryview(source).toreadonly().cast("B")
    layout = layout_of(view)
    if layout is None:
        raise DamagedError(
            f"{name}: is no file of MACE's compiled programs or tuned parameters, or its begin is damaged"
        )
    if layout == "protobuf":
        _check_crc(view, name)
    return Store(layout, tuple(_pairs(view, layout, name)))


def glimpse(view: memoryview) -> tuple[Store | None, tuple[str, ...]]:
    """What can be read of a file even where it is damaged, and what is wrong with it; no store if it is none of MACE.

    Pairs before a damaged one are read; a CRC32 that does not fit is told.
    """
    layout = layout_of(view)
    if layout is None:
        return None, ()
    pairs: list[Pair] = []
    problems: list[str] = []
    try:
        if layout == "protobuf":
            _check_crc(view, "the file")
    except DamagedError as error:
        problems.append(str(error))
    try:
        pairs.extend(_pairs(view, layout, "the file"))
    except DamagedError as error:
        problems.append(str(error))
    return Store(layout, tuple(pairs)), tuple(problems)


def _check_crc(view: memoryview, name: str) -> None:
    found, written = zlib.crc32(view[:-4]), int.from_bytes(view[-4:], "little")
    if found != written:
        raise DamagedError(
            f"{name}: the bytes have the CRC32 {found:08x}, not {written:08x} as written at their end. "
            "The file is truncated or altered; copy it anew, or delete it and MACE makes another."
        )


def _pairs(view: memoryview, layout: Layout, name: str) -> Iterator[Pair]:
    pairs = _protobuf_pairs(view[:-4], name) if layout == "protobuf" else _counted_pairs(view, name)
    for number, pair in enumerate(pairs):
        if number == MAX_PAIRS:
            raise damaged(name, pair.offset, f"more than {MAX_PAIRS} pairs")
        yield pair


def _protobuf_pairs(view: memoryview, name: str) -> Iterator[Pair]:
    end = 0
    for outer in fields(view, name):
        if outer.number != 1 or not outer.is_data:
            raise damaged(name, outer.offset, f"field {outer.number} is not a pair")
        base = outer.begin
        key, offset = b"", base
        value: memoryview | None = None
        numbers: list[int] = []
        for inner in islice(fields(outer.data, name), MAX_NUMBERS + 3):
            if inner.number == 1 and inner.is_data:
                if len(inner.data) > MAX_KEY:
                    raise damaged(name, base + inner.offset, f"a key of {len(inner.data)} bytes")
                key = bytes(inner.data)
            elif inner.number == 2 and inner.is_data:
                value, offset = inner.data, base + inner.begin
            elif inner.number == 3 and not inner.is_data and inner.uint < 1 << 32 and len(numbers) < MAX_NUMBERS:
                numbers.append(inner.uint)
            else:
                raise damaged(name, base + inner.offset, f"field {inner.number} of a pair is not known")
        if numbers and value is not None:
            raise damaged(name, base, "a pair has bytes and numbers")
        if value is None:
            yield Pair(_key(key, name, base), b"", tuple(numbers), base, len(outer.data))
        else:
            yield Pair(_key(key, name, base), value, None, offset, len(value))
        end = base + len(outer.data)
    if end != len(view):
        raise damaged(name, end, f"{len(view) - end} bytes belong to no pair")


def _counted_pairs(view: memoryview, name: str) -> Iterator[Pair]:
    cursor = Cursor(view, name)
    (count,) = cursor.numbers("q")
    for _ in range(count):
        (length,) = cursor.numbers("i")
        if length > MAX_KEY:
            raise damaged(name, cursor.offset, f"a key of {length} bytes")
        key = bytes(cursor.take(length, "a key"))
        (length,) = cursor.numbers("i")
        value = cursor.take(length, "a value")
        yield Pair(_key(key, name, cursor.offset), value, None, cursor.offset - length, length)
    if cursor.left:
        raise damaged(name, cursor.offset, f"{cursor.left} bytes follow the last of {count} pairs")


def _key(key: bytes, name: str, offset: int) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError:
        raise damaged(name, offset, f"the key {key[:32]!r} is not UTF-8") from None


def write(store: Store, layout: Layout | None = None) -> bytes:
    """The bytes of a file with these pairs, in their own layout or another, as MACE writes it.

    Programs are written in the order of their keys' bytes, the first of equal keys only, as MACE does and reads.
    Tuned parameters keep their order, for MACE's is one of chance.  So a file that MACE wrote comes out as it was.

    Raises:
        ValueError: the result is larger than MACE can read.
    """
    layout = layout or store.layout
    pairs: list[Pair] = list({pair.key: pair for pair in reversed(store.pairs)}.values())[::-1]
    if not store.is_tuning:
        pairs.sort(key=lambda pair: pair.key.encode())
    body = b"".join(_encoded(pair, layout, store.is_tuning) for pair in pairs)
    if layout == "counted":
        body = len(pairs).to_bytes(8, "little") + body
    else:
        body += zlib.crc32(body).to_bytes(4, "little")
    if len(body) > _MAX_FILE:
        raise ValueError(f"a file of {len(body)} bytes, more than the {_MAX_FILE} that MACE can read")
    return body


def _encoded(pair: Pair, layout: Layout, tuning: bool) -> bytes:
    key = pair.key.encode()
    if layout == "counted":
        value = bytes(pair.value)
        if pair.numbers is not None:
            value = b"".join(number.to_bytes(4, "little") for number in pair.numbers)
        return len(key).to_bytes(4, "little") + key + len(value).to_bytes(4, "little") + value
    inner = len_field(1, key)
    if tuning or pair.numbers is not None:
        inner += b"".join(varint(3 << 3) + varint(number) for number in pair.as_numbers())
    else:
        inner += len_field(2, pair.value)
    return len_field(1, inner)
