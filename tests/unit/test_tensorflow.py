"""What is looked at of TensorFlow's and Keras's files without either: packages, archives, code."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mace_cl.child import Child
from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends import tensorflow
from mace_cl.frontends.formats import FORMATS
from mace_cl.frontends.keras import code_in
from mace_cl.frontends.read import load
from mace_cl.wire import len_field, varint

HDF5 = b"\x89HDF\r\n\x1a\n" + bytes(64)
GRAPH = len_field(1, len_field(1, b"x") + len_field(2, b"Placeholder"))
SAVED_MODEL = varint(1 << 3) + varint(1) + len_field(2, len_field(1, b"") + len_field(2, b""))


def layer(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": {"name": name}, "registered_name": None, **more}


def archive(path: Path, config: str, more: bytes = b"", compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("metadata.json", "{}")
        file.writestr("config.json", config)
        file.writestr("model.weights.h5", more)
    return path


@pytest.fixture
def _no_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process may be started that would read the file."""

    def child(*_: object) -> None:
        raise AssertionError("TensorFlow was asked")

    monkeypatch.setattr(tensorflow, "Child", child)


@pytest.mark.parametrize("content", [HDF5, GRAPH, SAVED_MODEL])
def test_the_extra_is_named(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tf2onnx" else found("json"))
    with pytest.raises(UnsupportedError, match=r"needs the package tf2onnx; pip install 'mace-cl\[tensorflow\]'"):
        load(content)


def test_four_kinds() -> None:
    assert len([form for form in FORMATS if form.name == "tensorflow"]) == 4


@pytest.mark.usefixtures("_no_tensorflow")
class TestRefusedBefore:
    """What TensorFlow never sees."""

    def test_code(self, tmp_path: Path) -> None:
        config = {"module": "keras", "class_name": "Sequential", "config": {"layers": [layer("Lambda", "threefold")]}}
        with pytest.raises(ModelError, match=r"code of its own: Lambda 'threefold'\. Nothing of it was run"):
            tensorflow.load(archive(tmp_path / "net", json.dumps(config)), {})

    def test_an_archive_that_grows(self, tmp_path: Path) -> None:
        path = archive(tmp_path / "net", "{}", bytes(257 << 20), zipfile.ZIP_DEFLATED)
        assert path.stat().st_size < 1 << 20
        with pytest.raises(ModelError, match="no exporter writes such, refused"):
            tensorflow.load(path, {})

    @pytest.mark.parametrize("config", ["{", "[" * 100_000, "\xff"])
    def test_a_configuration_that_is_none(self, tmp_path: Path, config: str) -> None:
        with pytest.raises(ModelError, match=r"config\.json in it is not valid JSON"):
            tensorflow.load(archive(tmp_path / "net", config), {})

    def test_a_part_of_a_saved_model(self, tmp_path: Path) -> None:
        (tmp_path / "net.pb").write_bytes(SAVED_MODEL)
        for source in (SAVED_MODEL, tmp_path / "net.pb"):
            with pytest.raises(ModelError, match="is a part of a SavedModel; give its folder"):
                tensorflow.load(source, {})


def test_a_reader_that_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorflow, "Child", lambda *_: Child("os", "abort"))
    with pytest.raises(ModelError, match="TensorFlow died while it read the model"):
        tensorflow.load(GRAPH, {})


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (layer("Dense", "d"), []),
        (layer("Relu", "r", module="keras.src.ops.nn"), []),
        ({"class_name": "Conv2D", "config": {"name": "of Keras 2", "activation": "relu"}}, []),
        (layer("TFSMLayer", "t"), ["TFSMLayer 't'"]),
        (layer("Mine", "m", module="my.layers"), ["Mine of my.layers 'm'"]),
        (layer("Mine", "m", module=None, registered_name="mine>Mine"), ["Mine 'm'"]),
        ({"module": "builtins", "class_name": "function", "config": "f"}, ["function of builtins 'f'"]),
        ({"module": "keras.utils", "class_name": "get_file", "config": {}}, ["get_file of keras.utils"]),
        ({"class_name": "__lambda__", "config": {"value": "4wEA"}}, ["bytecode of Python"]),
        ([{"a": layer("Lambda", "one")}, layer("Lambda", "two")], ["Lambda 'two'", "Lambda 'one'"]),
    ],
)
def test_code_is_found(config: Any, code: list[str]) -> None:
    assert list(code_in(config)) == code


def test_nesting_is_bounded() -> None:
    config: Any = []
    for _ in range(300):
        config = [config]
    assert list(code_in(config)) == ["what is nested more than 200 deep"]
