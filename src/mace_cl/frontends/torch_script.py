"""What PyTorch's archives hold, told without running any of it: TorchScript, or pickles.

TorchScript is loaded by PyTorch in C++, by an unpickler that imports nothing; so it can't run Python.  It has a
language of its own, though, of which loading runs ``__setstate__``, and exporting runs ``forward``; its ops
``aten::save`` and ``aten::from_file`` write and map files by name.  Archives with such are refused.
"""

from __future__ import annotations

import io
import pickletools
import re

from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends.archive import Archive

__all__ = ["LEGACY", "check_script", "described", "is_script"]

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file begins that ``torch.save`` wrote before archives: a pickle of this number."""

_REFUSED = re.compile(r"__setstate__|\b(?:save|from_file|load_tensor)\b|torch\.classes\b")
_NAMESPACES = re.compile(r"\bops\s*\.\s*(?!aten\b|prim\b|torchvision\b|quantized\b)(\w+)")
_MOST_CODE = 64 << 20
_MOST_PICKLE = 64 << 20
_MOST_NAMED = 4
_TENSORS = re.compile(r"torch(\._utils)? (_rebuild_\w+|\w+Storage|Size|dtype|device|\w+\d+)|collections OrderedDict")


def is_script(archive: Archive) -> bool:
    """Whether an archive of PyTorch holds TorchScript, not a pickle."""
    return "constants.pkl" in archive.names()


def check_script(archive: Archive) -> None:
    """See that a TorchScript archive is whole, and its code touches no files when it is loaded or run.

    Raises:
        ModelError: a member is damaged.
        UnsupportedError: it has such code.
    """
    found: dict[str, None] = {}
    for member in archive.names():
        data = archive.read(member)  # compares its checksum
        if member.startswith("code/") and member.endswith(".py"):
            if len(data) > _MOST_CODE:
                raise ModelError(f"{archive.name}: {member!r} has {len(data)} bytes of code; refused")
            text = data.decode("utf-8", "replace")
            found |= dict.fromkeys(_REFUSED.findall(text))
            found |= dict.fromkeys(f"ops.{space}" for space in _NAMESPACES.findall(text))
    if found:
        raise UnsupportedError(
            f"{archive.name}: its TorchScript code uses {', '.join(sorted(found))}, which may touch files or run when "
            "it is loaded. Nothing of it was run. Have the module saved with torch.export.save; or, if you trust the "
            "file, allow it (--trust, or trust=True)"
        )


def described(view: memoryview, name: str) -> str:
    """What a pickle of PyTorch makes besides tensors, from its opcodes alone; "" for nothing else.

    Raises:
        ModelError: it is no pickle.
    """
    names: dict[str, None] = {}
    strings: list[str] = []
    file = io.BytesIO(view[:_MOST_PICKLE])
    # before archives: the number, the protocol, the machine, and only then the object
    count = 4 if bytes(view[: len(LEGACY)]) == LEGACY else 1
    try:
        for _ in range(count):
            for opcode, argument, _place in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    names[str(argument)] = None
                elif opcode.name == "STACK_GLOBAL":
                    names[" ".join(strings[-2:])] = None
                elif isinstance(argument, str):
                    strings = [*strings[-1:], argument]
    except Exception as error:  # whatever a damaged pickle leads to
        raise ModelError(f"{name}: a damaged pickle ({error}); check that it was copied whole") from error
    others = [one.replace(" ", ".") for one in names if not _TENSORS.fullmatch(one)]
    return ", ".join(others[:_MOST_NAMED]) + (" and others" if len(others) > _MOST_NAMED else "")
