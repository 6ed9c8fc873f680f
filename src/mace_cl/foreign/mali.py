"""What Arm's Mali drivers give as a program binary: ``CLCC``, and somewhere in it LLVM bitcode.

The layout is not documented; known are the first four bytes, and the bitcode, which names compiler, target and kernels.
"""

from __future__ import annotations

import re

from mace_cl.foreign.bitcode import MAGIC
from mace_cl.foreign.notes import Format, Notes

__all__ = ["FORMAT"]

_BITCODE = re.compile(re.escape(MAGIC))


def _read(view: memoryview, notes: Notes) -> None:
    notes.fact("bytes 4 to 32", bytes(view[4:32]).hex(" ", 4))
    notes.fact("not known", "the container's layout and the machine code in it")
    found = _BITCODE.search(view)
    if found:
        notes.part("LLVM bitcode", found.start(), len(view) - found.start(), look=True)
    else:
        notes.fact("LLVM bitcode", "none found")


FORMAT = Format("mali", "program binary of a Mali driver", lambda view: bytes(view[:4]) == b"CLCC", _read)
