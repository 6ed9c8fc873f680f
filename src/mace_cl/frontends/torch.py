"""PyTorch's files: programs of ``torch.export``, TorchScript, and pickled modules of makers who are trusted.

PyTorch itself reads them and writes ONNX, in a process of its own that ends with it: its memory, threads and notes stay
there, and a file that brings it down costs no more than an error.  What of a file could run is looked at before: see
`mace_cl.frontends.torch_program` and `mace_cl.frontends.torch_script`.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import onnx_ir as ir

from mace_cl import errors
from mace_cl.child import Child, ChildError
from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends import onnx
from mace_cl.frontends.archive import Archive
from mace_cl.frontends.formats import opened
from mace_cl.frontends.torch_program import cleaned, is_program
from mace_cl.frontends.torch_script import check_script, described, is_script

__all__ = ["declared", "guarded", "load"]

Shapes = Mapping[str, Sequence[int]]


def load(source: Path | bytes, shapes: Shapes, trust: bool = False) -> ir.Model:
    """Read a program of ``torch.export``, TorchScript or, with ``trust``, a pickled module.

    The latter two know no shapes: ``shapes`` gives all of them.

    Raises:
        ModelError: damaged, truncated, or it claims sizes that it does not have.
        UnsupportedError: it could run code and is not trusted, holds weights only, or has ops without a mapping.
        InputError: a shape is missing, or does not fit.
    """
    return onnx.load(_converted(source, shapes, trust), shapes, _name(source))


def declared(source: Path | bytes, trust: bool = False) -> ir.Model | None:
    """A program of ``torch.export`` with its inputs as it declares them; None for the others, which have no shapes.

    Raises:
        ModelError, UnsupportedError: as `load`.
    """
    with opened(source) as view:
        if not _is_archive(view) or not is_program(Archive(view, _name(source))):
            return None
    return onnx.declared(_converted(source, {}, trust))


def guarded(view: memoryview, name: str, trust: bool) -> tuple[str, bytes | None, list[str] | None]:
    """What the file is ("program", "script" or "pickle"), what PyTorch may read of it, and the names of its outputs.

    None stands for the file itself, and for names that PyTorch then tells.

    Raises:
        ModelError: it is damaged.
        UnsupportedError: it could run code and is not trusted, or holds weights only.
    """
    if not _is_archive(view):
        _check_pickle(view, name, trust)
        return "pickle", None, None
    archive = Archive(view, name)
    if is_program(archive):
        return ("program", None, None) if trust else ("program", *cleaned(archive))
    if is_script(archive):
        if not trust:
            check_script(archive)
        return "script", None, None
    _check_pickle(memoryview(archive.read("data.pkl")), name, trust)
    return "pickle", None, None


def _is_archive(view: memoryview) -> bool:
    return bytes(view[:4]) == b"PK\x03\x04"


def _check_pickle(view: memoryview, name: str, trust: bool) -> None:
    makes = described(view, name)
    if not makes:
        raise UnsupportedError(
            f"{name}: holds weights without a network (a state_dict); make the module in Python, load them into it, "
            "and save it with torch.export.save, or give it to mace_cl.from_torch"
        )
    if not trust:
        raise UnsupportedError(
            f"{name}: is a pickle that makes {makes}; reading it can run any code. Nothing of it was run. Have the "
            "module saved with torch.export.save (.pt2); or, if you trust the file, allow it (--trust, or trust=True)"
        )


def _name(source: Path | bytes) -> str:
    return str(source) if isinstance(source, Path) else f"model of {len(source)} bytes"


def _converted(source: Path | bytes, shapes: Shapes, trust: bool) -> bytes:
    stamp = source.stat().st_mtime_ns if isinstance(source, Path) else 0
    return _kept(source, stamp, tuple((key, tuple(shape)) for key, shape in sorted(shapes.items())), trust)


@lru_cache(maxsize=1)
def _kept(source: Path | bytes, stamp: int, shapes: tuple[tuple[str, tuple[int, ...]], ...], trust: bool) -> bytes:
    """The model as ONNX.  One start asks more than once: for the inputs, and for the graph at each set of shapes."""
    name = _name(source)
    with opened(source) as view, tempfile.TemporaryDirectory(prefix="mace-cl-") as folder:
        kind, data, outputs = guarded(view, name, trust)
        if importlib.util.find_spec("torch") is None:  # a pickle is refused without it
            raise UnsupportedError(f"{name}: reading it needs the package torch; pip install 'mace-cl[torch]'")
        place, target = Path(folder, "model.pt2"), Path(folder, "model.onnx")
        if isinstance(source, Path) and data is None:
            place.symlink_to(source.resolve())
        else:
            place.write_bytes(view if data is None else data)
        child = Child("mace_cl.frontends.torch_child", "convert")
        try:
            said = child.ask(
                {
                    "kind": kind, "place": str(place), "target": str(target), "name": name, "size": len(view),
                    "outputs": outputs, "shapes": dict(shapes) if kind != "program" else {},
                }
            )  # fmt: skip
        except ChildError as error:
            raise ModelError(
                f"{name}: PyTorch died while it read the model ({error}); get the file anew, or export it as ONNX"
            ) from error
        finally:
            child.kill()
        if said["error"]:
            raise getattr(errors, said["error"])(said["message"])
        return target.read_bytes()
