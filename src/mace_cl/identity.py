"""What a compiled program is keyed by: the model's bytes, and the code that compiles."""

from __future__ import annotations

import hashlib
import mmap
from functools import cache
from pathlib import Path

from mace_cl.errors import ModelError

__all__ = ["engine_fingerprint", "model_sha256"]

_COMPILING = (
    "expr.py", "graph.py", "plan.py", "bind.py", "compiler.py", "device/quirks.py", "frontends", "kernels", "lower",
    "ops", "passes",
)  # fmt: skip


@cache
def engine_fingerprint() -> str:
    """A digest of the code that turns a model into kernels: another one may make other kernels."""
    digest = hashlib.sha256()
    root = Path(__file__).parent
    for name in _COMPILING:
        place = root / name
        for path in sorted(place.glob("*.py")) if place.is_dir() else [place]:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def model_sha256(source: Path | bytes) -> str:
    """SHA-256 of the model's bytes, and of the files that hold its external weights.

    Raises:
        ModelError: the model, or a file of its weights, can't be read.
    """
    try:
        if isinstance(source, bytes):
            return hashlib.sha256(source).hexdigest()
        with source.open("rb") as file:
            size = file.seek(0, 2)
            if size == 0:
                raise ModelError(f"{source}: the file is empty; check that it was copied whole")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                digest = hashlib.sha256(view)
                # every tensor with external data has an entry of this key
                external = view.find(b"location") >= 0
        if external:
            from mace_cl.frontends.onnx import external_files

            for path in external_files(source):
                with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                    digest.update(path.name.encode() + b"\0")
                    digest.update(view)
        return digest.hexdigest()
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{source!s}: can't be read ({reason}); check the path and its permissions") from error
