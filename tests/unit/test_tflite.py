"""Reading TensorFlow Lite files: names and layouts, what is refused and how, damage, published networks."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mace_cl.errors import DamagedError, InputError, ModelError, UnsupportedError
from mace_cl.frontends.graphs import OPSET, QUANTISED_OPSET
from mace_cl.frontends.read import as_onnx, load
from mace_cl.frontends.tflite.flatbuffer import flexbuffer_map
from mace_cl.frontends.tflite.operators import OPS
from mace_cl.graph import static_shape
from support import Oracle, Outputs, difference, reference
from tflite_models import Net

REAL = Path(__file__).parents[3] / "shared" / "real"
ORACLES: tuple[Oracle, Oracle] = ("onnxruntime", "onnxruntime as users run it")
STRIDES = {1: ("i", 1), 2: ("i", 1), 3: ("b", 1)}


def network() -> Net:
    """A convolution and a dense layer, quantised, for images of any batch."""
    net = Net()
    grid = {"scales": 0.05, "zeros": -3}
    x = net.input("image", (1, 4, 4, 3), np.int8, signature=(-1, 4, 4, 3), **grid)
    kernel = net.constant(np.arange(54, dtype=np.int8).reshape(2, 3, 3, 3), scales=[0.1, 0.2], axis=0)
    bias = net.constant(np.arange(2, dtype=np.int32), scales=[0.005, 0.01])
    a = net.op("CONV_2D", [x, kernel, bias], net.tensor("features", (1, 4, 4, 2), np.int8, scales=0.9), STRIDES)
    flat = net.op("RESHAPE", [a, net.constant([-1, 32])], net.tensor("flat", (1, 32), np.int8, scales=0.9))
    matrix = net.constant(np.ones((3, 32), np.int8), scales=0.5)
    y = net.tensor("scores", (1, 3), np.int8, scales=4.0)
    net.outputs.append(net.op("FULLY_CONNECTED", [flat, matrix, -1], y))
    return net


FILE = network().build()


def graph_of(change: Callable[[Net], object]) -> bytes:
    net = network()
    change(net)
    return net.build()


def test_names_and_layouts() -> None:
    """Ports have the file's names, layouts and types; each layer has its name."""
    graph = load(FILE).graph
    assert [(value.name, value.dtype, static_shape(value)) for value in graph.inputs] == [
        ("image", ir.DataType.INT8, (1, 4, 4, 3))
    ]
    assert [(value.name, value.dtype, static_shape(value)) for value in graph.outputs] == [
        ("scores", ir.DataType.INT8, (1, 3))
    ]
    assert {"features", "flat", "scores"} <= {node.name for node in graph}


def test_cut_gives_the_tensor_as_the_file_has_it() -> None:
    (value,) = load(FILE, None, ["features"]).graph.outputs
    assert (value.name, value.dtype, static_shape(value)) == ("features", ir.DataType.INT8, (1, 4, 4, 2))


def test_onnx_runtime_takes_it_with_its_optimiser() -> None:
    """Which moves transposes past quantisation, and turns int8 into uint8 there."""
    model = onnx.load_from_string(ir.to_proto(load(FILE)).SerializeToString())
    onnx.checker.check_model(model, full_check=True)
    image = {"image": np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 3), np.int8)}
    plain, optimised = (reference(model, image, oracle)["scores"] for oracle in ORACLES)
    assert np.abs(plain.astype(int) - optimised).max() <= 1


def test_sixteen_bits_have_the_opset_that_quantises_them() -> None:
    net = Net()
    x = net.input("x", (1, 4), np.int16, scales=0.1)
    net.outputs.append(net.op("ADD", [x, x], net.tensor("y", (1, 4), np.int16, scales=0.2)))
    assert load(net.build()).opset_imports[""] == OPSET
    assert load(FILE).opset_imports[""] == QUANTISED_OPSET


def test_batches() -> None:
    (value,) = load(FILE, {"image": (5, 4, 4, 3)}).graph.outputs
    assert static_shape(value) == (5, 3)
    with pytest.raises(InputError, match="does not fit input 'image'"):
        load(FILE, {"image": (5, 3, 4, 4)})


def test_all_operators_without_a_mapping_are_named() -> None:
    def change(net: Net) -> None:
        a = net.op("SVDF", [net.inputs[0]], net.tensor("a", (1, 3), np.int8, scales=0.1))
        b = net.op("RELU", [a], net.tensor("b", (1, 3), np.int8, scales=0.1))
        c = net.op("MyCustomOp", [net.inputs[0]], net.tensor("c", (1, 3), np.int8, scales=0.1))
        net.outputs += [b, c]

    data = graph_of(change)
    with pytest.raises(UnsupportedError, match=r"SVDF at 'a': has no mapping; MyCustomOp at 'c': has no mapping\. Rep"):
        load(data)
    with pytest.raises(UnsupportedError, match=r"MyCustomOp at 'c': has no mapping\. Rep") as caught:
        load(data, None, ["scores", "c"])
    assert "SVDF" not in str(caught.value)
    assert [value.name for value in load(data, None, ["scores"]).graph.outputs] == ["scores"], "cut before them"


def test_a_use_without_a_mapping_is_named() -> None:
    def change(net: Net) -> None:
        pads = net.input("pads", (4, 2), np.int32)
        y = net.tensor("y", (1, 9, 9, 3), np.int8, scales=0.05, zeros=-3)
        net.outputs.append(net.op("PAD", [net.inputs[0], pads], y))

    with pytest.raises(UnsupportedError, match="PAD at 'y': needs 'pads' to be a constant"):
        load(graph_of(change))


BAD: dict[str, tuple[Callable[[Net], object], str]] = {
    "cycle": (
        lambda net: net.operators.insert(0, ("RELU", [net.operators[0][2][0]], [net.tensor("r", (1,))], {}, b"")),
        r"the operator 'r' reads the tensor 'features' before it is made: the graph has a cycle, or no order",
    ),
    "made twice": (lambda net: net.operators.append(net.operators[0]), r"the tensor 'features' is made twice"),
    "never made": (lambda net: net.outputs.append(net.tensor("z", (1,))), r"the output 'z' is never made"),
    "tensor index": (lambda net: net.outputs.append(99), r"byte \d+: there is no tensor 99 among"),
    "negative index": (lambda net: net.inputs.append(-1), r"there is no tensor -1 among"),
    "huge shape": (lambda net: net.tensor("h", (1 << 30, 1 << 30)), r"the tensor 'h' has the shape \(1073741824, 107"),
    "negative shape": (lambda net: net.tensor("h", (2, -5)), r"the tensor 'h' has the shape \(2, -5\)"),
    "cut weights": (
        lambda net: setattr(net.tensors[1], "data", net.tensors[1].data[:1]),  # type: ignore[index]
        r"the constant 'constant1' of shape \(2, 3, 3, 3\) has 27 bytes, not 54",
    ),
    "scales": (lambda net: setattr(net.tensors[1], "scales", [0.1] * 3), r"quantisation of 'constant1' does not fit"),
    "zero point": (lambda net: setattr(net.tensors[0], "zeros", [300]), r"'image' of type int8 has a zero point outs"),
    "two names": (lambda net: net.input("image", (1,)), r"two tensors are called 'image'"),
    "strides": (
        lambda net: net.operators.append(
            ("MAX_POOL_2D", [0], [net.tensor("p", (1, 4, 4, 3), np.int8, scales=0.05, zeros=-3)], {}, b"")
        ),
        r"MAX_POOL_2D at 'p' has strides, sizes or dilations \[0, 0\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_contradictions(what: str) -> None:
    change, message = BAD[what]
    with pytest.raises(ModelError, match=message):
        load(graph_of(change))


def test_constants_that_multiply() -> None:
    """Many layers may share a buffer, but not so many that laying their weights out fills the memory."""

    def change(net: Net) -> None:
        x = net.input("x", (1, 1 << 16))
        first = net.constant(np.ones((64, 1 << 16), np.float32))
        for place in range(200):
            again = net.tensor(f"w{place}", (64, 1 << 16), np.float32, share=first)
            net.outputs.append(net.op("FULLY_CONNECTED", [x, again, -1], net.tensor(f"y{place}", (1, 64))))

    with pytest.raises(ModelError, match="constants take many times its own size"):
        load(graph_of(change))


@pytest.mark.parametrize("length", [0, 4, 8, 12, 60, 200, len(FILE) // 2, len(FILE) - 1])
def test_truncated(length: int) -> None:
    with pytest.raises(ModelError):
        load(FILE[:length])


def test_truncated_says_where() -> None:
    with pytest.raises(ModelError, match=r"not a whole TensorFlow Lite model: the model, byte \d+: .*copied whole"):
        load(FILE[:100])


def test_version() -> None:
    places = [match.start() for match in re.finditer(b"\x03\0\0\0", FILE)]
    found = []
    for place in places:
        data = bytearray(FILE)
        data[place] = 9
        with suppress(ModelError):
            load(bytes(data))
            continue
        with pytest.raises(ModelError) as caught:
            load(bytes(data))
        found.append(str(caught.value))
    assert any("version 9 of TensorFlow Lite's format; mace-cl reads 3" in message for message in found)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(FILE) * 8 - 1)), min_size=1, max_size=6))
def test_flipped_bits(places: list[tuple[int]]) -> None:
    """A damaged file gives a model or an `InputError`, never another exception."""
    data = bytearray(FILE)
    for (place,) in places:
        data[place // 8] ^= 1 << place % 8
    with suppress(InputError):
        load(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(FILE) // 4 - 1), st.one_of(st.integers(0, 2**32 - 1), st.sampled_from([2**31, 2**32 - 1])))
def test_wrong_offsets(place: int, word: int) -> None:
    data = bytearray(FILE)
    data[4 * place : 4 * place + 4] = word.to_bytes(4, "little")
    with suppress(InputError):
        load(bytes(data))


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=64))
def test_options_of_any_bytes(data: bytes) -> None:
    with suppress(DamagedError):
        flexbuffer_map(data)


def test_documentation_lists_the_operators() -> None:
    text = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    listed = re.search(r"Operators: (.*?)\n\n", text, re.S)
    assert listed is not None
    assert set(re.findall(r"\b[A-Z][A-Z0-9_]+\b", listed[1])) == {name for name in OPS if name.isupper()}
    assert all(name in listed[1] for name in OPS)


# published networks

FLOAT, STEPS = 1e-4, 0.99

NETWORKS = {
    "coral_mobilenets/mobilenet_v1_0.25_128_quant": "mobilenet_v1_0.25_128_quant_*",
    "coral_mobilenets/mobilenet_v2_1.0_224_quant": "mobilenet_v2_1.0_224_quant_*",
    "coral_mobilenets/tf2_mobilenet_v2_1.0_224_ptq": "tf2_*",
    "linzaer_rfb320/version-RFB-320_without_postprocessing": "*_tflite",
    "mediapipe_face/face_detection_back": "face_detection_back_*",
    "mediapipe_face/face_detection_front": "face_detection_front_*",
    "mediapipe_face/face_detection_full_range": "face_detection_full_range_*",
    "mediapipe_face/face_landmark": "portrait_crop",
    "mlperf_tiny_resnet8/pretrainedResnet": "float_*",
    "mlperf_tiny_resnet8/pretrainedResnet_quant": "int8_*",
    "mobilenet_v1_025_float/mobilenet_v1_0.25_224_1_default_1": "float_*",
    "mobilenet_v1_025_float/mobilenet_v1_0.25_224_quant": "quant_*",
    "tflm_hello_world/hello_world_float": "x*",
}
"""Networks, and the files of their reference outputs."""


@cache
def session(network: str) -> onnx.ModelProto:
    path = REAL / f"{network}.tflite"
    data = as_onnx(load(path), path)
    assert isinstance(data, bytes)
    return onnx.load_from_string(data)


def published(network: str, name: str) -> tuple[Outputs, Outputs]:
    """Inputs and outputs of a reference file."""
    with np.load((REAL / network).parent / "ref" / f"{name}.npz") as arrays:
        inputs = {key[3:]: arrays[key] for key in arrays if key.startswith("in:")}
        return inputs, {re.sub(r"out:\d+:", "", key): arrays[key] for key in arrays if key.startswith("out:")}


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="the real networks are not beside the checkout (../shared/real)")
@pytest.mark.parametrize("network", NETWORKS)
def test_published_network(network: str) -> None:
    """The graph, in ONNX Runtime without its optimiser, against TensorFlow Lite's own outputs."""
    files = sorted((REAL / network).parent.glob(f"ref/{NETWORKS[network]}.npz"))
    assert files
    for file in files:
        inputs, expected = published(network, file.stem)
        got = reference(session(network), inputs)
        for name, array in expected.items():
            assert got[name].dtype == array.dtype
            if array.dtype == np.float32:
                found = difference(got[name], array)
                print(f"{network} {file.stem} {name}: {found:.1e} of the largest")
                assert found <= FLOAT
            else:
                near = np.abs(got[name].astype(np.int64) - array) <= 1
                print(f"{network} {file.stem} {name}: {near.mean():.2%} within a step")
                assert near.mean() >= STEPS
                assert got[name].argmax() == array.argmax()
