"""TensorFlow's graphs and SavedModels, and Keras's models.

TensorFlow itself reads them, in a process of its own that ends when the model is an ONNX model: its memory, threads and
notes stay there, and a file that brings it down costs no more than an error.  What of a file could run is looked at
before: see `mace_cl.frontends.keras`, and `mace_cl.frontends.tensorflow_graph` for graphs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir

from mace_cl import errors
from mace_cl.child import Child, ChildError
from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends import onnx
from mace_cl.frontends.archive import Archive
from mace_cl.frontends.formats import opened, sniff_saved_model
from mace_cl.frontends.graphs import cut
from mace_cl.frontends.keras import config_of, refuse_code

__all__ = ["load", "unmapped"]


def load(
    source: Path | bytes, shapes: Mapping[str, Sequence[int]], outputs: Sequence[str] = (), trust: bool = False
) -> ir.Model:
    """Read a frozen graph, a SavedModel's signature or a Keras model.

    A shape for an inner tensor makes that an input.  ``outputs`` may name tensors of the graph, layers of a Keras
    model, or one signature of a SavedModel, which is else ``serving_default`` or the only one.

    Raises:
        ModelError: damaged, incomplete, or holds code and is not trusted.
        UnsupportedError: ops that have no mapping, all of them.
        InputError: an input needs a shape, or ``shapes`` does not fit.
    """
    name = str(source) if isinstance(source, Path) else f"model of {len(source)} bytes"
    with opened(source) as view:
        kind, size = _kind(view, source, name), len(view)
        if kind == "keras":
            refuse_code(config_of(Archive(view, name)), name, trust)
    with tempfile.TemporaryDirectory(prefix="mace-cl-") as folder:
        place, target = Path(folder, f"model.{kind}"), Path(folder, "model.onnx")
        if isinstance(source, bytes):
            place.write_bytes(source)
        elif kind == "saved_model":
            place = (source if source.is_dir() else source.parent).resolve()
        else:
            place.symlink_to(source.resolve())  # Keras tells formats by names
        cut_there = _converted(
            {
                "kind": kind, "place": str(place), "name": name, "size": size, "target": str(target),
                "shapes": {key: list(shape) for key, shape in shapes.items()}, "outputs": list(outputs), "trust": trust,
            }
        )  # fmt: skip
        model = onnx.load(target.read_bytes(), shapes, name=name)
    if outputs and not cut_there:
        cut(model, outputs, name)
    return model


def _kind(view: memoryview, source: Path | bytes, name: str) -> str:
    if sniff_saved_model(view):
        if isinstance(source, bytes) or (source.is_file() and source.name != "saved_model.pb"):
            raise ModelError(f"{name}: is a part of a SavedModel; give its folder, with saved_model.pb and variables/")
        return "saved_model"
    return {b"PK": "keras", b"\x89H": "h5"}.get(bytes(view[:2]), "pb")


def _converted(request: dict[str, Any]) -> bool:
    """Have the model written as ONNX by a process of its own; tells whether its outputs are those asked for.

    Raises:
        ModelError, UnsupportedError, InputError: as `load`; or that process died.
    """
    child = Child("mace_cl.frontends.tensorflow_child", "convert")
    try:
        said = child.ask(request)
    except ChildError as error:
        raise ModelError(
            f"{request['name']}: TensorFlow died while it read the model ({error}); get the file anew, or export the "
            "model as ONNX or TensorFlow Lite"
        ) from error
    finally:
        child.kill()
    if said["error"]:
        raise getattr(errors, said["error"])(said["message"])
    return bool(said["cut"])


def unmapped(name: str, problems: Sequence[tuple[str, str, str]]) -> UnsupportedError:
    """The error for ops without a mapping: type, node and reason of each."""
    most = 32
    listed = "; ".join(f"{op} at {node!r}: {reason}" for op, node, reason in problems[:most])
    more = f" and {len(problems) - most} more" if len(problems) > most else ""
    return UnsupportedError(
        f"{name}: {listed}{more}. Replace these in the model, cut it before them (--outputs), or ask for them at the "
        "project's issue tracker"
    )
