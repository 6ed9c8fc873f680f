"""Results on standard output: as JSON, as lines, or as a table."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

__all__ = ["bytes_", "plain", "print_json", "print_lines", "print_table", "seconds_"]


def plain(value: object) -> object:
    """Dataclasses and what they hold as JSON has it; fields that are hidden from ``repr`` are left out.

    Numbers that JSON can't write, NaN and the infinities, become null.
    """
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value) if field.repr}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_json(value: object) -> None:
    """The only thing that a verb with ``--json`` prints."""
    print(json.dumps(plain(value), indent=2))


def print_lines(rows: Iterable[tuple[str, str]]) -> None:
    """Names and values, the values below each other."""
    rows = list(rows)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        print(f"{name:<{width}}  {value}".rstrip())


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], numbers: Iterable[int] = ()) -> None:
    """A table; the columns with an index in ``numbers`` are set to the right.  Nothing in it is cut off."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    right = set(numbers)
    table = Table(box=box.SIMPLE)
    for index, column in enumerate(columns):
        table.add_column(Text(column), justify="right" if index in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    # where nobody looks at it as it is written, nothing needs to fit a screen
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)
    console.print(table)


def bytes_(size: int) -> str:
    """A size with its unit."""
    return f"{size / (1 << 20):.1f} MiB" if size >= 1 << 20 else f"{size / (1 << 10):.1f} KiB"


def seconds_(seconds: float) -> str:
    """A duration with its unit."""
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1e3:.2f} ms"
