"""What kind of model a file or folder is, told by its content, and which files it is made of.

A start from a compiled program asks this too, so that nothing here may import a package that reads models.

A new format is a row of `FORMATS` and a module ``frontends/NAME.py`` or a folder ``NAME/`` with one function::

    def load(source: Path | bytes, shapes: Mapping[str, Sequence[int]]) -> onnx_ir.Model

which gives a model of plain ONNX ops (`graphs.GraphBuilder` makes one) whose inputs are static
(`graphs.make_static`). Inputs, outputs and layers keep the source's names, inputs and outputs its layout.  Ops that
have no mapping are named all at once in one `UnsupportedError` (`GraphBuilder.unmapped`); bytes that are not what
the format asks for give a `ModelError`.

Sources: ``onnx.proto``; TensorFlow's ``graph.proto``, ``node_def.proto``, ``saved_model.proto`` and ``schema.fbs``;
``caffe.proto``; MACE's ``mace.proto``.
"""

from __future__ import annotations

import mmap
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mace_cl.errors import DamagedError, MaceClError, ModelError
from mace_cl.frontends.archive import ViewFile
from mace_cl.wire import Field, fields, head

__all__ = [
    "FORMATS", "Format", "caffe_partner", "companions", "mace_partner", "model_file", "opened", "recognise",
    "sniff_caffe", "sniff_mace", "sniff_onnx", "sniff_saved_model", "sniff_tensorflow",
]  # fmt: skip

_HEAD_FIELDS = 64
_ONNX_NUMBERS, _ONNX_DATA = {1, 5}, {2, 3, 4, 6, 7, 8, 14, 20, 25, 26}
_NODE_DATA = {1, 2, 3, 4, 5, 6, 7}


def _none(path: Path, view: memoryview) -> list[Path]:
    return []


@dataclass(frozen=True)
class Format:
    """A source format.

    ``name`` is the module of `mace_cl.frontends` that reads it, empty where none does yet; ``title`` is for people.
    ``sniff`` tells from the file's content whether it is of this format, and never raises.  ``extra`` is what to
    install for it, ``packages`` are the modules that then must be there.  ``takes`` are further arguments of its
    ``load``: ``trust`` where such files may hold code, ``outputs`` where it cuts the model itself.
    ``companions`` gives the other files that the model is made of, in a fixed order, from its path and content; they
    must be part of its identity.  ``symbolic`` formats have a function ``declared`` besides, as `onnx.declared`.
    """

    name: str
    title: str
    sniff: Callable[[memoryview], bool]
    extra: str = ""
    packages: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    companions: Callable[[Path, memoryview], list[Path]] = _none
    symbolic: bool = False


def sniff_onnx(view: memoryview) -> bool:
    """Whether it begins like an ONNX ``ModelProto``; it may be truncated."""
    found = head(view, 32)
    return (
        bool(found)
        and all(field.number in (_ONNX_DATA if field.is_data else _ONNX_NUMBERS) for field in found)
        and found[0].number == 1
        and 0 < found[0].uint < 256
        and (any(field.number == 7 for field in found) or len(found) > 1)
    )


def sniff_tensorflow(view: memoryview) -> bool:
    """Whether it begins like a TensorFlow ``GraphDef``."""
    found = head(view, 1)
    if not found or found[0].number != 1 or not found[0].is_data:
        return False
    inner = {field.number: field for field in head(found[0].data, 32)}
    op = bytes(inner[2].data[:64]) if 2 in inner else b""
    return 1 in inner and set(inner) <= _NODE_DATA and all(f.is_data for f in inner.values()) and op.isalnum()


def sniff_saved_model(view: memoryview) -> bool:
    """Whether it begins like a TensorFlow ``SavedModel``."""
    found = head(view, 2)
    if [(field.number, field.is_data) for field in found] != [(1, False), (2, True)]:
        return False
    return [(field.number, field.is_data) for field in head(found[1].data, 2)] == [(1, True), (2, True)]


def sniff_caffe(view: memoryview) -> bool:
    """Whether it begins like a Caffe ``NetParameter`` with layers, in protobuf's binary form."""
    found = head(view, 32)
    if not found or not found[0].is_data or found[0].number not in (1, 2, 3, 100):
        return False
    layers = [(field.number, field.data) for field in found if field.is_data and field.number in (2, 100)]
    parts = [(number, {part.number: part.is_data for part in head(data, 32)}) for number, data in layers]
    # a layer of before 2015 has its name in field 4 and its type as a number in field 5
    return bool(parts) and all(
        part.get(1) is part.get(2) is True if number == 100 else part.get(4) is True and part.get(5) is False
        for number, part in parts
    )


def sniff_mace(view: memoryview) -> bool:
    """Whether it begins like MACE's ``NetDef`` or ``MultiNetDef``."""
    nets = _nets(view)
    return bool(nets) and all(_begins_like_net(net.data) for net in nets)


def _nets(view: memoryview) -> list[Field]:
    """The first NetDefs of a file of either generation; in the older one, the whole file as one."""
    nets: list[Field] = []
    if bytes(view[:1]) not in (b"\x08", b"\x0a", b"\x12", b"\x1a"):
        return nets
    try:
        for number, found in enumerate(islice(fields(view, ""), _HEAD_FIELDS)):
            if number == 0 and found.number == 1 and found.is_data:
                return [Field(3, view, 0, 0)]
            if found.is_data != {1: False, 2: True, 3: True, 100: True, 101: True}.get(found.number):
                break
            if found.number == 3:
                nets.append(found)
    except DamagedError:
        pass
    return nets


def _begins_like_net(view: memoryview) -> bool:
    """Whether the first operator has a name and a type where MACE has them, and nothing where others have something."""
    try:
        op = next(fields(view, ""))
        if op.number != 1 or not op.is_data:
            return False
        seen: dict[int, memoryview] = {}
        for inner in islice(fields(op.data, ""), 16 * _HEAD_FIELDS):
            if inner.is_data != (inner.number not in (5, 8, 10, 100, 101, 102, 104)) or inner.number == 0:
                return False
            seen[inner.number] = inner.data
    except (DamagedError, StopIteration):
        return False
    kind = bytes(seen.get(4, memoryview(b""))[:64])
    return 2 in seen and 3 in seen and kind.isalnum() and kind[:1].isalpha()


def _sniff_tflite(view: memoryview) -> bool:
    return bytes(view[4:8]) == b"TFL3"


def _sniff_hdf5(view: memoryview) -> bool:
    return bytes(view[:8]) == b"\x89HDF\r\n\x1a\n"


def _sniff_prototxt(view: memoryview) -> bool:
    text = bytes(view[: 1 << 16])
    return b"\0" not in text and re.search(rb"^\s*(layers?\s*\{|input(_param)?\s*[:{])", text, re.M) is not None


def _entries(view: memoryview) -> list[str]:
    """The names in a zip archive."""
    if bytes(view[:4]) != b"PK\x03\x04":
        return []
    try:
        with zipfile.ZipFile(ViewFile(view)) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OSError):
        return []


def _sniff_keras(view: memoryview) -> bool:
    return {"config.json", "metadata.json"} <= set(_entries(view))


def _sniff_torch(view: memoryview) -> bool:
    ends = ("archive_format", "serialized_exported_program.json", "constants.pkl", "data.pkl")
    # before 1.6 a pickle of a number was the magic
    legacy = bytes(view[:15]) == b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
    return legacy or any(name.endswith(ends) or "/code/" in name for name in _entries(view))


def _onnx_companions(path: Path, view: memoryview) -> list[Path]:
    # every tensor with external data has an entry of this key; bytes.find, as a memoryview has none
    if not isinstance(view.obj, mmap.mmap) or view.obj.find(b"location") < 0:
        return []
    from mace_cl.frontends.onnx import external_files

    return external_files(path)


def caffe_partner(path: Path) -> Path | None:
    """The .caffemodel that goes with a .prototxt, or the other way round: of the same name, or the only one there."""
    suffix = ".prototxt" if path.suffix == ".caffemodel" else ".caffemodel"
    same = path.with_suffix(suffix)
    found = [same] if same.is_file() else list(path.parent.glob(f"*{suffix}"))
    return found[0] if len(found) == 1 else None


def _caffe_companions(path: Path, view: memoryview) -> list[Path]:
    partner = caffe_partner(path)
    return [partner] if partner else []


def mace_partner(path: Path) -> Path | None:
    """The .data that goes with MACE's .pb: of the same name, or the only one there."""
    same = path.with_suffix(".data")
    found = [same] if same.is_file() else list(path.parent.glob("*.data"))
    return found[0] if len(found) == 1 else None


def _mace_companions(path: Path, view: memoryview) -> list[Path]:
    partner = mace_partner(path)
    return [partner] if partner else []


def _saved_model_companions(path: Path, view: memoryview) -> list[Path]:
    return sorted((path.parent / "variables").glob("variables.*"))


def _tensorflow(
    title: str,
    sniff: Callable[[memoryview], bool],
    companions: Callable[[Path, memoryview], list[Path]] = _none,
) -> Format:
    packages = ("tensorflow", "tf2onnx", "keras", "h5py")
    return Format("tensorflow", title, sniff, "tensorflow", packages, ("outputs", "trust"), companions)


FORMATS: tuple[Format, ...] = (
    Format("tflite", "TensorFlow Lite model", _sniff_tflite, symbolic=True),
    _tensorflow("HDF5 file of Keras", _sniff_hdf5),
    _tensorflow("Keras archive", _sniff_keras),
    Format("torch", "PyTorch archive (torch.export or TorchScript)", _sniff_torch, takes=("trust",), symbolic=True),
    Format("mace", "model graph of MACE", sniff_mace, companions=_mace_companions),
    _tensorflow("TensorFlow SavedModel", sniff_saved_model, _saved_model_companions),
    Format("onnx", "ONNX model", sniff_onnx, companions=_onnx_companions, symbolic=True),
    Format("caffe", "Caffe model (caffemodel)", sniff_caffe, companions=_caffe_companions),
    _tensorflow("TensorFlow graph (GraphDef)", sniff_tensorflow),
    Format("caffe", "Caffe network (prototxt)", _sniff_prototxt, companions=_caffe_companions),
)
"""In the order in which they are tried: first those that have a magic."""


def recognise(view: memoryview) -> Format | None:
    """The format of a file's content, None where it is none of them."""
    return next((form for form in FORMATS if form.sniff(view)), None)


def companions(path: Path, view: memoryview) -> list[Path]:
    """The other files that the model at ``path`` with the content ``view`` is made of.

    Raises:
        ModelError: one of them is missing.
    """
    form = recognise(view)
    return [] if form is None else form.companions(path, view)


def model_file(source: Path) -> Path:
    """The file that stands for a model: in the folder of a SavedModel, ``saved_model.pb``."""
    return source / "saved_model.pb" if source.is_dir() else source


@contextmanager
def opened(source: Path | bytes) -> Iterator[memoryview]:
    """The content of a model's file, mapped and not copied.

    Raises:
        ModelError: there is no such file, it is empty, or can't be read.
    """
    if isinstance(source, bytes):
        yield memoryview(source)
        return
    path = model_file(source)
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                raise ModelError(f"{path}: the file is empty; check that it was copied whole")
            # not closed here but when its last view goes: an exception may still hold one
            view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        yield view
    except FileNotFoundError as error:
        if source.is_dir():
            raise ModelError(f"{source}: a folder without saved_model.pb is no model; give the model's file") from error
        raise ModelError(f"{path}: no such file; check the path") from error
    except MaceClError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ModelError(f"{path}: can't be read ({reason}); check the path and its permissions") from error
