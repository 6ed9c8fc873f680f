"""Telling formats by content, what a model is made of, cutting it, and building graphs."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from mace_cl.compiler import prepare
from mace_cl.device import Device
from mace_cl.errors import InputError, ModelError, UnsupportedError
from mace_cl.frontends import formats
from mace_cl.frontends import onnx as onnx_frontend
from mace_cl.frontends.formats import Format, recognise
from mace_cl.frontends.graphs import GraphBuilder
from mace_cl.frontends.read import as_onnx, load
from mace_cl.graph import static_shape
from mace_cl.identity import model_sha256
from mace_cl.settings import Settings
from mace_cl.wire import len_field, varint
from support import case, model_of, reference

MODEL = model_of(case("conv", "c = Conv(x, w) d = Relu(c) y = Sigmoid(d)", x=(1, 3, 5, 5), w=(4, 3, 3, 3)))
ONNX = MODEL.SerializeToString()


def zipped(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    return file.getvalue()


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


NODE = len_field(1, len_field(1, b"x") + len_field(2, b"Placeholder"))
LAYER = len_field(100, len_field(1, b"conv1") + len_field(2, b"Convolution"))
MACE_OP = len_field(1, len_field(1, b"x") + len_field(2, b"y") + len_field(3, b"conv") + len_field(4, b"Conv2D"))
SAVED_MODEL = number(1, 1) + len_field(2, len_field(1, len_field(4, b"serve")) + len_field(2, NODE))

SAMPLES = {
    "ONNX": ONNX,
    "TensorFlow Lite": b"\x1c\0\0\0TFL3" + bytes(40),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(40),
    "Keras archive": zipped("metadata.json", "config.json", "model.weights.h5"),
    "PyTorch archive": zipped("net/data.pkl", "net/code/__torch__.py", "net/constants.pkl"),
    "GraphDef": NODE,
    "SavedModel": SAVED_MODEL,
    "caffemodel": len_field(1, b"net") + LAYER,
    "prototxt": b'name: "net"\nlayer {\n  name: "conv1"\n}\n',
    "MACE": MACE_OP,
}


def read_as(patch: pytest.MonkeyPatch, **changes: object) -> None:
    """As if a format of these properties were the only one."""
    fields = {"name": "onnx", "title": "test model", "sniff": lambda view: True}
    patch.setattr("mace_cl.frontends.formats.FORMATS", (Format(**{**fields, **changes}),))  # type: ignore[arg-type]


@pytest.mark.parametrize("title", SAMPLES)
def test_recognised_by_content(title: str) -> None:
    found = recognise(memoryview(SAMPLES[title]))
    assert found is not None
    assert title in found.title


@pytest.mark.parametrize("content", [b"", b"\0", b"PK\x03\x04" + bytes(64), b"\xff" * 99, zipped("a.txt"), b"hello\n"])
def test_of_no_known_format(content: bytes) -> None:
    assert recognise(memoryview(content)) is None
    with pytest.raises(ModelError, match="not a model of a format that mace-cl reads"):
        load(content)


def test_sniffing_never_raises() -> None:
    random = np.random.default_rng(1)
    for sample in SAMPLES.values():
        for place in random.integers(0, min(len(sample), 200) * 8, 100):
            damaged = bytearray(sample)
            damaged[place // 8] ^= 1 << place % 8
            recognise(memoryview(damaged))
            recognise(memoryview(sample)[: place // 8])


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(ONNX)
    assert [value.name for value in load(path).graph.outputs] == ["y"]


def test_a_format_that_is_not_read_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    read_as(monkeypatch, name="")
    with pytest.raises(UnsupportedError, match="is a test model, which mace-cl does not read yet; export it as ONNX"):
        load(ONNX)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    read_as(monkeypatch, extra="test", packages=("onnx", "no_such_package"))
    with pytest.raises(UnsupportedError, match=r"needs the package no_such_package; pip install 'mace-cl\[test\]'"):
        load(ONNX)


def test_trust_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frontend that may run a file's code is told whether it may: only where the caller says so."""
    said = []

    def reader(source: bytes, shapes: object, trust: bool) -> ir.Model:
        said.append(trust)
        return onnx_frontend.load(source)

    monkeypatch.setattr("mace_cl.frontends.caffe.load", reader)
    read_as(monkeypatch, name="caffe", takes=("trust",))
    monkeypatch.setenv("MACE_CL_TRUST", "1")
    load(ONNX)
    load(ONNX, trust=True)
    prepare(ONNX, Device(0, "none", "", "none", usable=True, reason=""), None, trust=True)
    assert said == [False, True, True]
    assert (Settings.load().trust, Settings.load(trust=True).trust) == (False, True)


def test_all_files_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a model is keyed by changes with each file that it is made of."""
    path, weights = tmp_path / "net", tmp_path / "net.data"
    path.write_bytes(b"model")
    weights.write_bytes(b"weights")
    assert model_sha256(path) == hashlib.sha256(b"model").hexdigest() == model_sha256(b"model")
    read_as(monkeypatch, companions=lambda path, view: [path.with_suffix(".data")])
    both = model_sha256(path)
    weights.write_bytes(b"Weights")
    assert len({both, model_sha256(path), model_sha256(b"model")}) == 3
    weights.unlink()
    with pytest.raises(ModelError, match=r"net\.data: no such file"):
        model_sha256(path)


def test_the_folder_of_a_saved_model(tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    with pytest.raises(ModelError, match=r"a folder without saved_model\.pb is no model"):
        load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(SAVED_MODEL)
    before = model_sha256(tmp_path)
    (tmp_path / "variables" / "variables.index").write_bytes(b"1")
    assert model_sha256(tmp_path) != before
    with formats.opened(tmp_path) as view:
        assert bytes(view) == SAVED_MODEL


class TestCut:
    """``--outputs``."""

    def test_by_value(self) -> None:
        model = load(ONNX, None, ["c", "d"])
        assert [value.name for value in model.graph.outputs] == ["c", "d"]
        assert [node.op_type for node in model.graph] == ["Conv", "Relu"]
        data = as_onnx(model, ONNX, ["c", "d"])
        assert isinstance(data, bytes)
        x = {"x": np.ones((1, 3, 5, 5), np.float32)}
        got = reference(onnx.load_from_string(data), x)
        assert np.array_equal(got["d"], np.maximum(got["c"], 0))

    def test_by_node(self) -> None:
        assert [value.name for value in load(ONNX, None, ["conv.1"]).graph.outputs] == ["d"]

    def test_inputs_that_are_not_needed_go(self) -> None:
        model = model_of(case("two", "a = Relu(x) y = Add(a, x1)", x=(1, 3), x1=(1, 3)))
        assert [value.name for value in load(model.SerializeToString(), None, ["a"]).graph.inputs] == ["x"]

    def test_unknown(self) -> None:
        with pytest.raises(InputError, match=r"no value or node is called 'conv\.9'; the nearest are .*conv\.1"):
            load(ONNX, None, ["d", "conv.9"])

    def test_the_schedule_has_them(self) -> None:
        device = Device(0, "none", "", "none", usable=True, reason="")
        schedule = prepare(ONNX, device, None, outputs=["d"]).schedule
        assert [(port.name, port.shape) for port in schedule.outputs] == [("d", (1, 4, 3, 3))]


class TestGraphBuilder:
    """What frontends write to."""

    def test_a_graph(self) -> None:
        graph = GraphBuilder("net")
        x = graph.input("x", ir.DataType.FLOAT, [None, 2])
        weights = graph.constant(np.eye(2, dtype=np.float32), "weights")
        y = graph.op("MatMul", [x, weights], layer="dense")
        y = graph.op("Relu", [y], layer="dense", output="activated")
        model = graph.model({"y": y, "copy": y, "x again": x}, "test")
        assert [node.name for node in model.graph] == ["dense", "dense/Relu", "copy", "x again"]
        assert static_shape(model.graph.inputs[0]) == (1, 2)
        data = as_onnx(model, b"")
        assert isinstance(data, bytes)
        onnx.checker.check_model(data, full_check=True)
        got = reference(onnx.load_from_string(data), {"x": np.array([[1, -1]], np.float32)})
        assert {name: array.tolist() for name, array in got.items()} == {
            "y": [[1, 0]], "copy": [[1, 0]], "x again": [[1, -1]],
        }  # fmt: skip

    def test_names_are_unique(self) -> None:
        graph = GraphBuilder("net")
        x = graph.input("x", ir.DataType.FLOAT, [1])
        values = [graph.op("Relu", [x], layer="x"), graph.op("Relu", [x], output="x"), graph.op("Relu", [x])]
        assert len({"x", *(value.name for value in values)}) == 4
        assert len({node.name for value in values if (node := value.producer())}) == 3
        with pytest.raises(ModelError, match="two tensors are called 'x'"):
            graph.input("x", ir.DataType.FLOAT, [1])

    def test_an_output_takes_its_name(self) -> None:
        graph = GraphBuilder("net")
        x = graph.input("x", ir.DataType.FLOAT, [1])
        inner = graph.op("Relu", [x], output="y")
        model = graph.model({"y": graph.op("Neg", [inner])}, "test")
        assert [node.op_type for node in model.graph] == ["Relu", "Neg"]
        assert [value.name for value in model.graph.outputs] == ["y"]
        assert inner.name != "y"

    def test_small_constants_are_shared(self) -> None:
        graph = GraphBuilder("net")
        assert graph.constant([1, 2]) is graph.constant(np.array([1, 2]))
        assert graph.constant(1.0) is not graph.constant(np.float64(1.0))
        assert graph.constant([1, 2], "a") is not graph.constant([1, 2])


def test_a_cut_keeps_no_constants_that_are_inputs() -> None:
    """Before IR version 4 each constant is an input as well; ONNX Runtime refuses one that is left alone."""
    model = model_of(case("net", "a = Relu(x) y = Add(a, w)", x=(1, 2), w=(1, 2)))
    weights = onnx.helper.make_tensor_value_info(model.graph.initializer[0].name, onnx.TensorProto.FLOAT, [1, 2])
    model.graph.input.append(weights)
    found = load(model.SerializeToString(), outputs=["a"]).graph
    assert (list(found.initializers), [value.name for value in found.inputs]) == ([], ["x"])
