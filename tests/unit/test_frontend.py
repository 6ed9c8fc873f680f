"""Reading ONNX files: what is refused, and with which words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_cl.compiler import prepare
from mace_cl.device import Device
from mace_cl.errors import InputError, ModelError, UnsupportedError
from mace_cl.frontends.onnx import external_files, load
from mace_cl.graph import static_shape
from mace_cl.identity import model_sha256
from mace_cl.lower import lower
from mace_cl.passes.pipeline import optimise
from mace_cl.plan import Layout
from support import case, filled, model_of, reference

CONV = model_of(case("conv", "c = Conv(x, w) y = Relu(c)", x=(1, 3, 5, 5), w=(4, 3, 3, 3)))


DEVICE = Device(0, "none", "", "none", usable=True, reason="")


def plan(model: onnx.ModelProto) -> None:
    prepare(model.SerializeToString(), DEVICE, None, runtime="gpu")


def changed(change: Callable[[onnx.ModelProto], object]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(CONV)
    change(copy)
    return copy


def test_a_right_model_is_read() -> None:
    model = load(CONV.SerializeToString())
    assert [static_shape(value) for value in model.graph.inputs] == [(1, 3, 5, 5)]


@pytest.mark.parametrize(
    "content", [b"", b"\0", b"hello, world\n", b"PK\x03\x04" + bytes(64), bytes(4096), b"\xff" * 99]
)
def test_not_a_model(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ModelError, match="not an ONNX model") as caught:
            load(source)
        assert ("net.onnx" in str(caught.value)) == (source is path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file; check the path"):
        load(tmp_path / "none.onnx")


def test_truncated_anywhere() -> None:
    """A prefix of a model is never taken for one, nor does it raise anything but a `ModelError`."""
    data = CONV.SerializeToString()
    for length in range(0, len(data), 7):
        with pytest.raises(ModelError):
            prepare(data[:length], DEVICE, None)


def test_damaged_anywhere() -> None:
    """A flipped bit gives a model or an `InputError`, never another exception."""
    data = bytearray(CONV.SerializeToString())
    random = np.random.default_rng(1)
    for place in random.integers(0, len(data) * 8, 1000):
        data[place // 8] ^= 1 << place % 8
        try:
            prepare(bytes(data), DEVICE, None)
        except InputError:
            pass
        finally:
            data[place // 8] ^= 1 << place % 8


def test_opset_of_the_future() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = 99

    with pytest.raises(UnsupportedError, match=r"opset 99, but mace-cl reads 1 to \d+ .*update onnx"):
        load(changed(change).SerializeToString())


def test_old_opset_is_converted() -> None:
    """Before opset 7, operands were broadcast where the node said so."""
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in
             (("x", [2, 5]), ("x1", [5]), ("y", [2, 5]))]  # fmt: skip
    node = helper.make_node("Add", ["x", "x1"], ["y"], broadcast=1)
    graph = helper.make_graph([node], "old", ports[:2], ports[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 6)], ir_version=3)
    read = load(model.SerializeToString())
    assert read.opset_imports[""] >= 7
    x, x1 = filled("x", (2, 5)), filled("x1", (5,))
    converted = ir.to_proto(read)
    got = reference(converted, {"x": x, "x1": x1})["y"]
    np.testing.assert_array_equal(got, x + x1)


def test_invalid_model() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.node[1].input[0] = "nowhere"

    with pytest.raises(ModelError, match=r"not a valid ONNX model.*nowhere"):
        load(changed(change).SerializeToString())


def test_shapes_that_contradict_each_other() -> None:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].CopyFrom(numpy_helper.from_array(filled("w", (4, 7, 3, 3)), "w"))

    with pytest.raises(ModelError):
        plan(changed(change))


class TestShapes:
    def model(self, *shape: int | str | None) -> bytes:
        ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString()

    def test_batch_is_1(self) -> None:
        for batch in ("N", None):
            model = optimise(load(self.model(batch, 3)))
            assert static_shape(model.graph.outputs[0]) == (1, 3)

    def test_given(self) -> None:
        model = optimise(load(self.model("N", "height"), {"x": (2, 5)}))
        assert static_shape(model.graph.inputs[0]) == static_shape(model.graph.outputs[0]) == (2, 5)

    def test_symbolic(self) -> None:
        with pytest.raises(
            InputError, match=r"'x' has the symbolic dimensions height, width; give its shape \(shapes="
        ):
            load(self.model("N", "height", "width"))

    @pytest.mark.parametrize("shape", [(1, 4), (1,), (1, 3, 1), (-1, 3)])
    def test_does_not_fit(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(InputError, match=r"shape .* does not fit input 'x' of shape"):
            load(self.model("N", 3), {"x": shape})

    def test_unknown_input(self) -> None:
        with pytest.raises(InputError, match=r"shapes given for \['z'\], but the inputs are \['x'\]"):
            load(self.model("N", 3), {"z": (1, 3)})


class TestExternalWeights:
    """Weights in a file beside the model."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        folder = tmp_path / "folder"
        folder.mkdir()
        path = folder / "net.onnx"
        onnx.save(
            changed(lambda model: None), path, save_as_external_data=True, location="weights.bin", size_threshold=0
        )
        return path

    def place(self, path: Path, location: str, **entries: str) -> None:
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            values = {entry.key: entry.value for entry in tensor.external_data} | {"location": location, **entries}
            del tensor.external_data[:]
            for key, value in values.items():
                tensor.external_data.add(key=key, value=value)
        path.write_bytes(model.SerializeToString())

    def test_read(self, path: Path) -> None:
        prepare(path, DEVICE, None)
        assert external_files(path) == [path.with_name("weights.bin")]

    def test_part_of_the_identity(self, path: Path) -> None:
        before = model_sha256(path)
        weights = path.with_name("weights.bin")
        data = bytearray(weights.read_bytes())
        data[5] ^= 1
        weights.write_bytes(data)
        assert model_sha256(path) != before

    def test_missing(self, path: Path) -> None:
        path.with_name("weights.bin").unlink()
        for read in (load, model_sha256, external_files):
            with pytest.raises(
                ModelError, match=r"weights of 'w' should be in 'weights\.bin' beside the model.*missing"
            ):
                read(path)

    def test_from_bytes(self, path: Path) -> None:
        with pytest.raises(
            ModelError, match=r"weights of 'w' are in the file 'weights\.bin'; give the model as a path"
        ):
            load(path.read_bytes())

    @pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "..", ""])
    def test_outside(self, path: Path, location: str) -> None:
        (path.parent.parent / "weights.bin").write_bytes(path.with_name("weights.bin").read_bytes())
        self.place(path, location)
        with pytest.raises(ModelError, match="outside the model's folder; refused"):
            load(path)

    def test_link_that_leads_outside(self, path: Path) -> None:
        weights = path.with_name("weights.bin")
        weights.rename(path.parent.parent / "weights.bin")
        weights.symlink_to(path.parent.parent / "weights.bin")
        with pytest.raises(ModelError, match="outside the model's folder; refused"):
            load(path)

    @pytest.mark.parametrize("entries", [{"offset": "99999"}, {"offset": "-1"}, {"length": "4"}, {"length": "9999999"}])
    def test_wrong_place_in_the_file(self, path: Path, entries: dict[str, str]) -> None:
        self.place(path, "weights.bin", **entries)
        with pytest.raises(ModelError, match="weights"):
            prepare(path, DEVICE, None)

    def test_shortened_file(self, path: Path) -> None:
        weights = path.with_name("weights.bin")
        weights.write_bytes(weights.read_bytes()[:-4])
        with pytest.raises(ModelError, match="weights"):
            prepare(path, DEVICE, None)


class TestUnsupported:
    def test_op(self) -> None:
        with pytest.raises(
            UnsupportedError, match=r"lacks 1 node of this model: det\.0 \(Det\): mace-cl has no OpenCL kernel.*ask for"
        ):
            plan(model_of(case("det", "y = Det(x)", x=(3, 3))))

    def test_all_nodes_are_named(self) -> None:
        body = " ".join(f"a{number} = Det(x{number}) y{number} = Det(x{number})" for number in range(3))
        with pytest.raises(UnsupportedError) as caught:
            plan(model_of(case("many", body, x0=(2, 2), x1=(3, 3), x2=(4, 4))))
        for number in (1, 3, 5):
            assert f"many.{number} (Det): " in str(caught.value)

    def test_domain(self) -> None:
        def change(model: onnx.ModelProto) -> None:
            model.graph.node[1].domain = "com.example"
            model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1)
            model.opset_import.append(helper.make_opsetid("com.example", 1))

        with pytest.raises(UnsupportedError, match=r"\(com\.example::Relu\): the shape of 'y' is not known"):
            plan(changed(change))
        with pytest.raises(UnsupportedError, match=r"ONNX Runtime .* refuses .*com\.example"):
            prepare(changed(change).SerializeToString(), DEVICE, None)

    @pytest.mark.parametrize(
        ("body", "values", "message"),
        [
            ("y = DeformConv(x, w, x1)", {"x": (1, 1, 4), "w": (1, 1, 2), "x1": (1, 2, 3)}, "only 2-D deformable conv"),
            ("y = QuantizeLinear<output_dtype=17>(x, s)", {"x": (3,), "s": np.float32(1)}, "float8"),
            ("y, z = LSTM<hidden_size=2, activations=[\"A\",\"B\",\"C\"]>(x, w, r)",
             {"x": (1, 1, 3), "w": (1, 8, 3), "r": (1, 8, 2)}, "activations .* are not known"),
        ],
    )  # fmt: skip
    def test_variant(self, body: str, values: dict[str, Any], message: str) -> None:
        with pytest.raises(UnsupportedError, match=message) as caught:
            plan(model_of(case("conv", body, **values)))
        assert ": conv." in str(caught.value)

    def test_type(self) -> None:
        model = model_of(case("integers", "y = GridSample(x, x1)", x=np.zeros((1, 2, 4, 4), np.int32), x1=(1, 2, 2, 2)))
        with pytest.raises(UnsupportedError, match=r"\(GridSample\): 'x' is int32, and the op runs on float32"):
            plan(model)
        ports = [helper.make_tensor_value_info(name, TensorProto.COMPLEX64, [2]) for name in ("x", "y")]
        graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", ports[:1], ports[1:])
        with pytest.raises(UnsupportedError, match=r"\(Identity\): 'x' is complex64"):
            plan(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))

    def test_no_doubles(self) -> None:
        model = model_of(case("double", "y = Exp(x)", x=np.zeros((2, 3))))
        with pytest.raises(UnsupportedError, match=r"'x' is float64, in which kernels can't compute on this device"):
            lower(optimise(load(model.SerializeToString())), Layout(8, 128, doubles=False))

    def test_empty_operand(self) -> None:
        x = np.zeros((3, 0), np.float32)
        model = model_of(case("empty", "y = MatMul(x, x1)", x=x, x1=x.T))
        with pytest.raises(UnsupportedError, match=r"op MatMul.*an operand has no elements"):
            lower(optimise(load(model.SerializeToString())), Layout(8, 128))
