"""Protobuf's wire format, as far as it takes to look into a message without its schema.

Source: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mace_cl.errors import DamagedError

__all__ = ["Field", "damaged", "fields", "head", "len_field", "read_varint", "varint"]

_FIXED = {1: 8, 5: 4}


class Field(NamedTuple):
    """One field: ``value`` is a number (unsigned; fixed ones as their bits), or the bytes of a length-delimited field.

    ``offset`` is where its tag begins, ``begin`` where its value does.
    """

    number: int
    value: int | memoryview
    offset: int
    begin: int

    @property
    def data(self) -> memoryview:
        """The bytes; empty where the field is a number."""
        return memoryview(b"") if isinstance(self.value, int) else self.value

    @property
    def uint(self) -> int:
        """The number; 0 where the field has bytes."""
        return self.value if isinstance(self.value, int) else 0

    @property
    def is_data(self) -> bool:
        """Whether the field is length-delimited."""
        return not isinstance(self.value, int)


def damaged(what: str, offset: int, found: str) -> DamagedError:
    """The error for bytes that contradict a format."""
    return DamagedError(f"{what}, byte {offset}: {found}")


def fields(view: memoryview, what: str, spend: Callable[[], None] = lambda: None) -> Iterator[Field]:
    """The fields of the message that fills ``view``; nothing is copied.

    ``spend`` is called once for each field.

    Raises:
        DamagedError: it is no protobuf message.
    """
    offset, end = 0, len(view)
    while offset < end:
        spend()
        begin = offset
        tag, offset = read_varint(view, offset, what)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise damaged(what, begin, f"{number} is no field number")
        if wire == 0:
            start = offset
            value, offset = read_varint(view, offset, what)
            yield Field(number, value, begin, start)
            continue
        if wire == 2:
            length, offset = read_varint(view, offset, what)
        elif wire in _FIXED:
            length = _FIXED[wire]
        else:
            raise damaged(what, begin, f"field {number} has the wire type {wire}")
        if length > end - offset:
            raise damaged(what, begin, f"field {number} of {length} bytes does not fit the {end - offset} left")
        data = view[offset : offset + length]
        yield Field(number, data if wire == 2 else int.from_bytes(data, "little"), begin, offset)
        offset += length


def head(view: memoryview, most: int) -> list[Field]:
    """The first fields of a message, at most ``most``, as far as it is one."""
    found = []
    try:
        for field in fields(view, ""):
            found.append(field)
            if len(found) == most:
                break
    except DamagedError:
        pass
    return found


def read_varint(view: memoryview, offset: int, what: str) -> tuple[int, int]:
    """The variable-length number at ``offset``, and where the next byte lies.

    Raises:
        DamagedError: the bytes end inside it, or it is longer than 64 bits.
    """
    value = 0
    for place, byte in enumerate(view[offset : offset + 10]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            if value >> 64:
                break
            return value, offset + place + 1
    raise damaged(what, offset, "a number ends too early or has more than 64 bits")


def varint(number: int) -> bytes:
    """``number`` (not negative) as a variable-length number of the least length."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def len_field(number: int, data: bytes | memoryview) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(data)) + bytes(data)
