"""What every format of this package shares: the description that it makes, and safe reading of bytes.

A format is a `Format`: ``sniff`` tells from the first bytes whether a file may be of this kind, ``read`` writes
down what it finds.  Bytes that contradict the format end the reading with a `DamagedError`; what was written down
until then stays.  Nothing here trusts a length: `Cursor` compares each with what is left, and `Notes.spend` bounds
the steps of all loops over one file together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from mace_cl.errors import DamagedError
from mace_cl.wire import damaged

__all__ = ["Cursor", "Description", "Format", "Notes", "Part", "Value", "printable"]

Value = str | int | tuple[str, ...]
Facts = tuple[tuple[str, Value], ...]

MAX_PARTS = 1 << 14
MAX_STEPS = 1 << 19
"""Steps of loops over one file, all formats inside it together: about a second."""


@dataclass(frozen=True)
class Part:
    """A named range of bytes inside a file; ``offset`` and ``length`` in bytes, from the file's or outer part's begin.

    ``content`` says what the bytes are, where that was looked at.
    """

    name: str
    offset: int
    length: int
    facts: Facts = ()
    content: Description | None = None


@dataclass(frozen=True)
class Description:
    """What a file, or a part of one, was found to be; ``dataclasses.asdict`` of it can be written as JSON.

    ``kind`` is a word for programs ("elf", "mace-programs", "unknown" …), ``title`` one for people.  ``problems`` says
    what contradicts the format, so that the rest was not read.  Texts hold printable characters only.
    """

    kind: str
    title: str
    length: int
    facts: Facts = ()
    parts: tuple[Part, ...] = ()
    problems: tuple[str, ...] = ()

    def fact(self, label: str) -> Value | None:
        """The value that the description gives for ``label``, None if there is none."""
        return dict(self.facts).get(label)


class Budget:
    """How many steps may still be taken; shared by all that is looked at in one file."""

    def __init__(self, steps: int = MAX_STEPS) -> None:
        self.steps = steps


@dataclass
class Notes:
    """What a format writes down while it reads."""

    kind: str
    title: str
    budget: Budget = field(default_factory=Budget)
    facts: list[tuple[str, Value]] = field(default_factory=list)
    parts: list[tuple[Part, bool]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def fact(self, label: str, value: Value | Iterable[str] | None) -> None:
        """Note a value; None and nothing at all are left out."""
        if value is None or value in ("", ()):
            return
        if not isinstance(value, (str, int)):
            value = tuple(value)
        if value != ():
            self.facts.append((label, value))

    def part(self, name: str, offset: int, length: int, facts: Facts = (), *, look: bool = False) -> None:
        """Note a range of bytes; with ``look`` its content is recognised in turn.

        Raises:
            DamagedError: there are more parts than any honest file has.
        """
        self.spend(8)
        if len(self.parts) >= MAX_PARTS:
            raise DamagedError(f"more than {MAX_PARTS} parts; the others were not read")
        self.parts.append((Part(name, offset, length, facts), look))

    def spend(self, steps: int = 1) -> None:
        """Count steps of a loop.

        Raises:
            DamagedError: all are spent.
        """
        self.budget.steps -= steps
        if self.budget.steps < 0:
            raise DamagedError("too much to look at; what follows was not read")


@dataclass(frozen=True)
class Format:
    """A kind of file: ``sniff`` never raises; ``read`` raises DamagedError where the bytes contradict the format."""

    kind: str
    title: str
    sniff: Callable[[memoryview], bool]
    read: Callable[[memoryview, Notes], None]


class Cursor:
    """Reads numbers and ranges one after another from ``view``; ``what`` names it in errors.

    Every method raises DamagedError where the bytes end too early.
    """

    def __init__(self, view: memoryview, what: str, offset: int = 0, order: str = "<") -> None:
        self.view, self.what, self.offset, self.order = view, what, offset, order

    @property
    def left(self) -> int:
        """Bytes from here to the end; negative beyond it."""
        return len(self.view) - self.offset

    def take(self, length: int, part: str = "data") -> memoryview:
        """The next ``length`` bytes, not copied."""
        if length < 0 or self.offset < 0 or length > self.left:
            raise damaged(
                self.what, self.offset, f"{part} of {length} bytes ends beyond byte {len(self.view)}, the last"
            )
        begin = self.offset
        self.offset += length
        return self.view[begin : self.offset]

    def numbers(self, codes: str) -> tuple[int, ...]:
        """Numbers as `struct` names them ("IIQ"), in this cursor's byte order, without padding."""
        codes = self.order + codes
        return struct.unpack(codes, self.take(struct.calcsize(codes), "header"))

    def u32(self) -> int:
        """An unsigned number of four bytes."""
        return self.numbers("I")[0]


def printable(data: bytes | memoryview | str, limit: int = 256) -> str:
    """Text from a file, fit for a terminal: UTF-8 where it is that, other bytes and control characters escaped."""
    if not isinstance(data, str):
        data = bytes(data[: limit + 1]).decode("utf-8", "backslashreplace")
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in data[:limit])
    return shown + "…" if len(data) > limit else shown
