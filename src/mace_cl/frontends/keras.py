"""What Keras saves, looked at before Keras reads it: whose code it would run, how much room it would take.

Sources: the configurations that ``keras.saving.serialize_keras_object`` writes and those of Keras 2; the HDF5 library.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mace_cl.errors import ModelError
from mace_cl.frontends.archive import Archive

__all__ = ["code_in", "config_of", "first_line", "hdf5", "look_into", "refuse_code"]

_CODE = {"FlaxLayer", "JaxLayer", "Lambda", "TFSMLayer", "TorchModuleWrapper", "__lambda__"}
"""Keras's classes that run what a file holds, or a file beside it."""

_KERAS = re.compile(
    r"keras(\.src)?(\.(activations|constraints|dtype_policies|initializers|layers|models|ops|quantizers|random"
    r"|regularizers)(\.\w+)*)?"
)
"""The modules of Keras whose classes a model is made of."""

_MOST_NESTED = 200
_MOST_CLAIMED = 64 << 20
_MOST_GROWTH = 20


def look_into(kind: str, place: Path, name: str, trust: bool) -> None:
    """See that a file of the kind ``keras`` or ``h5`` is whole, keeps to itself, and runs no code unless it is trusted.

    Raises:
        ModelError: it is not, or it is no model.
    """
    data = place.read_bytes()
    if kind == "h5":
        config = hdf5(place, len(data), name)
        if config is None:
            raise ModelError(f"{name}: holds weights alone, or is no model of Keras; save the whole model (model.save)")
        refuse_code(config, name, trust)
        return
    archive = Archive(memoryview(data), name)
    refuse_code(config_of(archive), name, trust)
    for member in archive.names():
        if member.endswith(".h5"):
            hdf5(io.BytesIO(archive.read(member)), archive.size(member), f"{name}: {member}")


def config_of(archive: Archive) -> Any:
    """What the archive says of the model's layers; not of its training, which is not read."""
    try:
        found = json.loads(archive.read("config.json"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{archive.name}: config.json in it is not valid JSON ({error}); get the file anew") from error
    if isinstance(found, dict):
        found.pop("compile_config", None)
    return found


def refuse_code(config: Any, name: str, trust: bool) -> None:
    """Refuse a Keras model that is more than Keras's own layers, unless it is trusted.

    Raises:
        ModelError: naming all that would have to run.
    """
    found = list(dict.fromkeys(code_in(config)))
    if found and not trust:
        raise ModelError(
            f"{name}: holds or needs code of its own: {', '.join(found)}. Nothing of it was run. If you trust the "
            "file, allow it (--trust, or trust=True); or replace these layers and save the model again"
        )


def code_in(config: Any) -> Iterator[str]:
    """The parts of a Keras model's configuration that are not Keras's own classes, or run what the file holds.

    Source: the configurations that ``keras.saving.serialize_keras_object`` writes, and those of Keras 2.
    """
    waiting = [(config, 0)]
    while waiting:
        one, depth = waiting.pop()
        if depth > _MOST_NESTED:
            yield f"what is nested more than {_MOST_NESTED} deep"
        elif isinstance(one, list):
            waiting += [(each, depth + 1) for each in one]
        elif isinstance(one, dict):
            waiting += [(each, depth + 1) for each in one.values()]
            kind, module, registered = one.get("class_name"), one.get("module"), one.get("registered_name")
            inner = one.get("config")
            foreign = isinstance(module, str) and not _KERAS.fullmatch(module)
            own = isinstance(registered, str) and ">" in registered and not registered.startswith("keras>")
            if isinstance(kind, str) and (kind in _CODE or foreign or own):
                called = inner.get("name") if isinstance(inner, dict) else inner if isinstance(inner, str) else None
                where = f" of {module}" if foreign else ""
                kind = "bytecode of Python" if kind == "__lambda__" else kind
                yield f"{kind}{where}{f' {called!r}' if called else ''}"


def hdf5(file: Path | io.BytesIO, size: int, name: str) -> Any:
    """The configuration in an HDF5 file, None where it has weights alone; looked at before Keras has the file.

    Raises:
        ModelError: it is damaged, refers to other files, or claims to be enormous.
    """
    import h5py

    problems: list[str] = []
    sizes: list[int] = []

    def look(key: str, found: Any) -> None:
        if isinstance(found, h5py.Dataset):
            sizes.append(math.prod(found.shape or ()) * found.dtype.itemsize)
            if found.external or found.is_virtual:
                problems.append(f"the values of {key!r} are in another file")

    def follow(key: str, link: Any) -> None:
        if isinstance(link, h5py.ExternalLink):
            problems.append(f"{key!r} is in another file, {link.filename!r}")

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(look)
            opened.visititems_links(follow)
            config = opened.attrs.get("model_config")
            found = None if config is None else json.loads(config)
    except (OSError, RuntimeError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{name}: a damaged or truncated HDF5 file ({first_line(error)}); copy it again") from error
    if problems:
        raise ModelError(f"{name}: {'; '.join(problems)}; refused. Save the model as one file")
    if sum(sizes) > max(_MOST_CLAIMED, _MOST_GROWTH * size):
        raise ModelError(f"{name}: {size} bytes that claim {sum(sizes)} bytes of weights; refused, get it anew")
    return found


def first_line(error: Exception) -> str:
    """The first line of what was said."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
