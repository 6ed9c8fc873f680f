"""Telling what any file is, by its content alone, and what is in it."""

from __future__ import annotations

from dataclasses import replace

from mace_cl.errors import DamagedError
from mace_cl.foreign import (
    adreno,
    bitcode,
    elf,
    mace_graph,
    mace_programs,
    mace_tuning,
    mali,
    models,
    pocl,
    ptx,
    rusticl,
    spirv,
    unknown,
)
from mace_cl.foreign.notes import Budget, Description, Format, Notes, Part

__all__ = ["FORMATS", "recognise"]

FORMATS: tuple[Format, ...] = (
    pocl.FORMAT,
    rusticl.FORMAT,
    elf.FORMAT,
    spirv.FORMAT,
    bitcode.FORMAT,
    mali.FORMAT,
    mace_tuning.FORMAT,
    mace_programs.FORMAT,
    mace_graph.FORMAT,
    ptx.FORMAT,
    *models.FORMATS,
    adreno.FORMAT,
)
"""In the order in which they are tried: first those that have a magic."""

_UNKNOWN = Format("unknown", "not known", lambda view: True, unknown.read)
_DEPTH = 4


def recognise(source: bytes | memoryview) -> Description:
    """What ``source``, a whole file, is, and what is in it; parts are looked into, to a bounded depth.

    Never raises for what the bytes are: a file that contradicts its format is described as far as it was read, with
    ``problems``; one that is of no known format has the kind "unknown" and what was seen in it.
    """
    return _look(memoryview(source).toreadonly().cast("B"), Budget(), _DEPTH)


def _look(view: memoryview, budget: Budget, depth: int) -> Description:
    form = next((form for form in FORMATS if form.sniff(view)), _UNKNOWN)
    notes = Notes(form.kind, form.title, budget)
    try:
        notes.spend(1 + len(view) // 4096)
        form.read(view, notes)
    except DamagedError as error:
        notes.problems.append(str(error))
    parts = tuple(
        _with_content(part, view, budget, depth - 1) if look and depth and budget.steps > 0 else part
        for part, look in notes.parts
    )
    if depth and any(look and part.content is None for part, (_, look) in zip(parts, notes.parts, strict=True)):
        notes.problems.append("too much to look at; not all parts were looked into")
    return Description(notes.kind, notes.title, len(view), tuple(notes.facts), parts, tuple(notes.problems))


def _with_content(part: Part, view: memoryview, budget: Budget, depth: int) -> Part:
    return replace(part, content=_look(view[part.offset : part.offset + part.length], budget, depth))
