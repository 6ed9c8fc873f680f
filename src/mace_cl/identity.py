"""What a compiled program is keyed by: the model's bytes, and the code that compiles."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

__all__ = ["engine_fingerprint", "model_sha256"]

_COMPILING = (
    "expr.py", "graph.py", "plan.py", "bind.py", "compiler.py", "placement.py", "device/quirks.py", "frontends",
    "kernels", "lower", "ops", "passes",
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
    """SHA-256 of the model's bytes, and of the other files that it is made of, such as external weights.

    Raises:
        ModelError: the model, or a file of its weights, can't be read.
    """
    if isinstance(source, bytes):
        return hashlib.sha256(source).hexdigest()
    from mace_cl.frontends.formats import companions, model_file, opened

    with opened(source) as view:
        digest = hashlib.sha256(view)
        others = companions(model_file(source), view)
    for path in others:
        with opened(path) as view:
            digest.update(path.name.encode() + b"\0")
            digest.update(view)
    return digest.hexdigest()
