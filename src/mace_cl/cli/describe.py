"""Showing what a file of another kind is: facts, and the parts inside as a numbered tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mace_cl.cli.output import bytes_, print_lines
from mace_cl.foreign import Description, Part
from mace_cl.foreign.notes import Value

__all__ = ["show"]

_HINTS = {
    "onnx": "`mace-cl compile FILE` makes a compiled program of it, `mace-cl run FILE` runs it",
    "mace-programs": "`mace-cl extract FILE ENTRY -o OUT` writes an entry to a file",
}
_WIDTH = 100


def show(file: Path, seen: Description) -> None:
    """Print a description."""
    rows = [("file", str(file)), ("kind", seen.title), ("size", f"{bytes_(seen.length)} ({seen.length} bytes)")]
    rows += [row for label, value in seen.facts for row in _rows(label, value)]
    rows += [("problem", problem) for problem in seen.problems]
    if hint := _HINTS.get(seen.kind):
        rows.append(("next", hint.replace("FILE", str(file))))
    print_lines(rows)
    for line in _tree(seen, ""):
        print(line)


def _rows(label: str, value: Value) -> Iterator[tuple[str, str]]:
    """A fact on one line, or, where it is a long list, one line for each value."""
    text = ", ".join(value) if isinstance(value, tuple) else str(value)
    if not isinstance(value, tuple) or len(text) <= _WIDTH:
        yield label, text
        return
    for number, one in enumerate(value):
        yield (label if number == 0 else ""), one


def _tree(seen: Description, prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for number, part in enumerate(seen.parts, 1):
        if not prefix:
            yield ""
        yield f"{indent}{prefix}{number}  {part.name or '(no name)'}: {_what(part)}"
        inner = indent + "     "
        facts = (*part.facts, *(part.content.facts if part.content else ()))
        for label, value in facts:
            for name, text in _rows(label, value):
                yield f"{inner}{name + ': ' if name else '    '}{text}"
        if part.content:
            yield from (f"{inner}problem: {problem}" for problem in part.content.problems)
            yield from _tree(part.content, f"{prefix}{number}.")


def _what(part: Part) -> str:
    title = f", {part.content.title}" if part.content else ""
    return f"{part.length} bytes at {part.offset}{title}"
