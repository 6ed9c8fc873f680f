"""FlatBuffers, read without a schema compiler and without trust: every offset and length is checked.

Source: https://flatbuffers.dev/internals/ (tables, vectors, strings) and the layout of FlexBuffers there.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.wire import damaged

__all__ = ["Buffer", "Table", "flexbuffer_map"]

_DEPTH = 16


class Buffer:
    """The bytes of a file; ``left`` elements of vectors may yet be read, so that overlaps can't multiply the work."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.left = 4096 + len(view)

    def spend(self, count: int, at: int) -> None:
        """Count elements that are read."""
        self.left -= count
        if self.left < 0:
            raise damaged("the model", at, "there is more in it than its size allows; its parts overlap")

    def number(self, form: str, at: int) -> Any:
        """A little-endian number of `struct` format ``form``."""
        try:
            if at < 0:
                raise struct.error
            return struct.unpack_from("<" + form, self.view, at)[0]
        except struct.error as error:
            raise damaged("the model", at, "an offset leads outside the file") from error

    def root(self) -> Table:
        """The table that the file is."""
        return Table(self, self.number("I", 0))


class Table:
    """A table: its fields by slot, that is their place in the schema, counted from 0."""

    def __init__(self, buffer: Buffer, at: int) -> None:
        buffer.spend(1, at)
        self.buffer, self.at = buffer, at
        vtable = at - buffer.number("i", at)
        size = buffer.number("H", vtable)
        if size < 4 or size % 2 or buffer.number("H", vtable + 2) < 4:
            raise damaged("the model", vtable, f"a table's fields take {size} bytes")
        self._vtable, self._slots = vtable, (size - 4) // 2

    def _field(self, slot: int) -> int:
        """Where the field lies, 0 if the table lacks it."""
        offset = self.buffer.number("H", self._vtable + 4 + 2 * slot) if slot < self._slots else 0
        return self.at + offset if offset else 0

    def number(self, slot: int, form: str = "i", default: Any = 0) -> Any:
        """A number of `struct` format ``form``."""
        at = self._field(slot)
        return self.buffer.number(form, at) if at else default

    def table(self, slot: int) -> Table | None:
        """A table; also the value of a union."""
        at = self._field(slot)
        return Table(self.buffer, at + self.buffer.number("I", at)) if at else None

    def _vector(self, slot: int, item: int) -> tuple[int, int]:
        """Where a vector's elements of ``item`` bytes begin, and how many there are."""
        at = self._field(slot)
        if not at:
            return 0, 0
        at += self.buffer.number("I", at)
        count = self.buffer.number("I", at)
        if count * item > len(self.buffer.view) - at - 4:
            raise damaged("the model", at, f"a vector of {count} elements does not fit the file")
        return at + 4, count

    def tables(self, slot: int) -> list[Table]:
        """A vector of tables."""
        at, count = self._vector(slot, 4)
        self.buffer.spend(count, at)
        places = range(at, at + 4 * count, 4)
        return [Table(self.buffer, place + self.buffer.number("I", place)) for place in places]

    def array(self, slot: int, dtype: str) -> NDArray[Any]:
        """A vector of numbers; nothing is copied."""
        kind = np.dtype(dtype)
        at, count = self._vector(slot, kind.itemsize)
        return np.frombuffer(self.buffer.view, kind, count, at) if count else np.zeros(0, kind)

    def numbers(self, slot: int, dtype: str = "<i4") -> list[Any]:
        """A short vector of numbers."""
        found = self.array(slot, dtype)
        self.buffer.spend(found.size, self.at)
        numbers: list[Any] = found.tolist()
        return numbers

    def text(self, slot: int) -> str:
        """A string; what is not UTF-8 in it is escaped."""
        at, count = self._vector(slot, 1)
        self.buffer.spend(count // 16, at)
        return bytes(self.buffer.view[at : at + count]).decode("utf-8", "backslashreplace")


def flexbuffer_map(data: bytes) -> dict[str, Any]:
    """The numbers, booleans and strings of a FlexBuffer that is a map; other values are left out.

    Raises:
        DamagedError: it is no such thing.
    """
    if len(data) < 3:
        raise damaged("the options", 0, f"{len(data)} bytes are no FlexBuffer")
    width, kind = data[-1], data[-2]
    if kind >> 2 != 9 or width not in (1, 2, 4, 8):
        raise damaged("the options", len(data) - 2, "not a FlexBuffer map")
    at = len(data) - 2 - width
    values = at - _flex(data, at, width, "u")
    own = 1 << (kind & 3)
    keys = values - 3 * own - _flex(data, values - 3 * own, own, "u")
    key_width = _flex(data, values - 2 * own, own, "u")
    count = _flex(data, values - own, own, "u")
    if key_width not in (1, 2, 4, 8) or count * (own + 1) > len(data):
        raise damaged("the options", values, f"a map of {count} entries does not fit")
    found: dict[str, Any] = {}
    for index in range(count):
        place = keys + index * key_width
        begin = place - _flex(data, place, key_width, "u")
        end = data.find(b"\0", max(begin, 0))
        name = data[begin:end].decode("utf-8", "backslashreplace") if 0 <= begin <= end else ""
        packed = data[values + count * own + index] if values + count * own + index < len(data) else 0
        value = _flex_value(data, values + index * own, own, packed)
        if value is not None:
            found[name] = value
    return found


def _flex(data: bytes, at: int, width: int, kind: str) -> Any:
    forms = {"u": "BHIQ", "i": "bhiq", "f": "eefd"}[kind]
    try:
        if at < 0:
            raise struct.error
        return struct.unpack_from("<" + forms[width.bit_length() - 1], data, at)[0]
    except struct.error as error:
        raise damaged("the options", at, "an offset leads outside") from error


def _flex_value(data: bytes, at: int, width: int, packed: int) -> Any:
    """Types: 1 int, 2 uint, 3 float, 5 string, 6 to 8 the numbers elsewhere, 26 bool."""
    kind, inner = packed >> 2, 1 << (packed & 3)
    if kind in (1, 2, 3):
        return _flex(data, at, width, "iuf"[kind - 1])
    if kind == 26:
        return bool(_flex(data, at, width, "u"))
    if kind in (6, 7, 8):
        place = at - _flex(data, at, width, "u")
        return _flex(data, place, inner, "iuf"[kind - 6])
    if kind == 5:
        place = at - _flex(data, at, width, "u")
        size = _flex(data, place - inner, inner, "u")
        if not 0 <= place <= place + size <= len(data):
            raise damaged("the options", at, "a text leads outside")
        return data[place : place + size].decode("utf-8", "backslashreplace")
    return None
