"""Networks as ONNX Runtime's quantiser writes them, and each of its own ops: wholly on OpenCL, within one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from mace_cl.runtime.executor import Executor
from support import Array, Outputs, Start, filled, reference

MICROSOFT = "com.microsoft"


def model(
    nodes: list[onnx.NodeProto], inputs: Outputs, constants: Outputs, kind: np.dtype[Any], rank: int
) -> onnx.ModelProto:
    """Its output is ``y``, of that type and rank."""
    port, number = helper.make_tensor_value_info, helper.np_dtype_to_tensor_dtype
    starts = [port(name, number(x.dtype), x.shape) for name, x in inputs.items()]
    ends = [port("y", number(kind), [None] * rank)]
    held = [numpy_helper.from_array(x, name) for name, x in constants.items()]
    graph = helper.make_graph(nodes, "quantised", starts, ends, held)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def whole(kind: str, *shape: int) -> Array:
    limits = np.iinfo(kind)
    return (
        np.random.default_rng([len(kind), *shape]).integers(limits.min, limits.max, shape, endpoint=True).astype(kind)
    )


def near(got: Array, expected: Array) -> None:
    """Of equal type and shape, nowhere more than one step away, and at most 1 % at all: sums close to a tie."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    steps = np.abs(got.astype(np.int64) - expected.astype(np.int64))
    assert steps.max() <= 1
    assert (steps > 0).mean() <= 0.01
    assert np.unique(expected).size > 2, "the case says nothing"


SHAPE = (2, 3, 6, 7)


def check(start: Start, op: str, inputs: str, x: Outputs, constants: dict[str, Any], **attributes: Any) -> Executor:
    """One node of ``inputs`` in that order; its result has the type of the constant ``yz``."""
    node = helper.make_node(op, inputs.split(), ["y"], "node", domain=MICROSOFT, **attributes)
    held = {
        name: np.asarray(value, np.float32 if isinstance(value, float) else None) for name, value in constants.items()
    }
    made = model([node], x, held, held["yz"].dtype, x["x"].ndim)
    with start(made) as executor:
        near(executor.run(x)["y"], reference(made, x)["y"])
        return executor


@pytest.mark.parametrize("kind", ["uint8", "int8"])
@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("QLinearSigmoid", {}),
        ("QLinearSoftmax", {"axis": -1, "opset": 17}),
        ("QLinearLeakyRelu", {"alpha": 0.2}),
        ("QLinearAveragePool", {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
        ("QLinearAveragePool", {"kernel_shape": [2, 2], "count_include_pad": 1, "pads": [1, 1, 1, 1]}),
        ("QLinearGlobalAveragePool", {}),
    ],
)
def test_of_one_tensor(op: str, attributes: dict[str, Any], kind: str, start_whole: Start) -> None:
    whole_range = op in ("QLinearSigmoid", "QLinearSoftmax")  # results from 0 to 1
    constants = {
        "xs": 0.03, "xz": np.array(7, kind), "ys": 1 / 256 if whole_range else 0.0317,
        "yz": np.array(np.iinfo(kind).min if whole_range else 9, kind),
    }  # fmt: skip
    check(start_whole, op, "x xs xz ys yz", {"x": whole(kind, *SHAPE)}, constants, **attributes)


PAIR = {"xs": 0.02, "xz": np.uint8(100), "bs": 0.03, "bz": np.uint8(90), "ys": 0.05, "yz": np.uint8(120)}


@pytest.mark.parametrize("other", [SHAPE, (3, 1, 1)], ids=["same", "broadcast"])
@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_of_two_tensors(op: str, other: tuple[int, ...], start_whole: Start) -> None:
    check(start_whole, op, "x xs xz b bs bz ys yz", {"x": whole("uint8", *SHAPE)}, PAIR | {"b": whole("uint8", *other)})


def test_concat(start_whole: Start) -> None:
    inputs = {"x": whole("uint8", 2, 3, 5), "b": whole("uint8", 2, 4, 5)}
    check(start_whole, "QLinearConcat", "ys yz x xs xz b bs bz", inputs, PAIR, axis=1)


def test_where(start_whole: Start) -> None:
    inputs = {"c": whole("uint8", 4, 5) > 99, "x": whole("uint8", 2, 4, 5), "b": whole("uint8", 4, 5)}
    check(start_whole, "QLinearWhere", "c x xs xz b bs bz ys yz", inputs, PAIR)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("columns", [(), (9,)], ids=["tensor", "column"])
def test_gemm(columns: tuple[int, ...], transposed: int, start_whole: Start) -> None:
    scales = np.linspace(0.01, 0.03, 9, dtype=np.float32) if columns else 0.03
    constants = PAIR | {
        "b": whole("int8", *((9, 33) if transposed else (33, 9))), "bs": scales, "bz": np.zeros(columns, np.int8),
        "c": whole("int16", 9).astype(np.int32), "ys": 0.4,
    }  # fmt: skip
    inputs = {"x": whole("uint8", 5, 33)}
    check(start_whole, "QGemm", "x xs xz b bs bz c ys yz", inputs, constants, transB=transposed, alpha=0.5)


@pytest.mark.parametrize(
    ("inputs", "attributes"),
    [("x xs xz ys yz", {"channels_last": 1}), ("x xs xz ys", {"kernel_shape": [2, 2]})],
    ids=["channels-last", "no-zero-point"],
)
def test_what_onnx_runtime_keeps(inputs: str, attributes: dict[str, Any], start: Start) -> None:
    op = "QLinearAveragePool" if "kernel_shape" in attributes else "QLinearGlobalAveragePool"
    constants = PAIR | {"yz": np.uint8(0)}
    executor = check(start, op, inputs, {"x": whole("uint8", 2, 5, 6, 3)}, constants, **attributes)
    assert executor.schedule.hosts


def network() -> onnx.ModelProto:
    """Convolutions, pools and elementwise ops that the quantiser takes, down to a softmax."""
    weights = {"w0": (8, 3, 3, 3), "w1": (8, 8, 3, 3), "w2": (6, 16, 1, 1), "w3": (10, 6)}
    constants = {name: filled(name, shape) / np.float32(np.prod(shape[1:]) ** 0.5) for name, shape in weights.items()}
    constants |= {"b0": filled("b0", (8,)), "b3": filled("b3", (10,))}
    text = helper.make_node
    nodes = [
        text("Conv", ["x", "w0", "b0"], ["c0"], "conv0", pads=[1, 1, 1, 1]),
        text("Relu", ["c0"], ["r0"], "relu"),
        text("MaxPool", ["r0"], ["p0"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        text("Conv", ["p0", "w1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        text("Add", ["c1", "p0"], ["a"], "add"),
        text("LeakyRelu", ["c1"], ["l"], "leaky", alpha=0.1),
        text("Sigmoid", ["a"], ["s"], "sigmoid"),
        text("Mul", ["s", "l"], ["m"], "mul"),
        text("Concat", ["m", "a"], ["k"], "concat", axis=1),
        text("AveragePool", ["k"], ["p1"], "average", kernel_shape=[2, 2], strides=[2, 2]),
        text("Conv", ["p1", "w2"], ["c2"], "conv2"),
        text("GlobalAveragePool", ["c2"], ["g"], "global"),
        text("Flatten", ["g"], ["f"], "flatten"),
        text("Gemm", ["f", "w3", "b3"], ["d"], "gemm", transB=1),
        text("Softmax", ["d"], ["y"], "softmax"),
    ]
    return model(nodes, {"x": np.zeros((4, 3, 16, 16), np.float32)}, constants, np.dtype("float32"), 2)


@pytest.mark.parametrize("kind", ["QUInt8", "QInt8"])
@pytest.mark.parametrize("channels", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("form", ["QOperator", "QDQ"])
def test_network(form: str, channels: bool, kind: str, tmp_path: Path, start_whole: Start) -> None:
    quantization = pytest.importorskip("onnxruntime.quantization")
    samples = [{"x": filled(f"sample{number}", (4, 3, 16, 16))} for number in range(3)]

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.left = list(samples)

        def get_next(self) -> Outputs | None:
            return self.left.pop() if self.left else None

    source, path = tmp_path / "float.onnx", tmp_path / "quantised.onnx"
    onnx.save(network(), source)
    quantization.quantize_static(
        source, path, Reader(), quant_format=quantization.QuantFormat[form], per_channel=channels,
        activation_type=quantization.QuantType[kind], weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    quantised = onnx.load(path)
    domains = {node.domain for node in quantised.graph.node}
    assert (MICROSOFT in domains) == (form == "QOperator")
    expected = reference(quantised, samples[0])["y"]
    with start_whole(path) as executor:
        got = executor.run(samples[0])["y"]
    assert np.abs(got - expected).max() <= 2 / 256, "two steps of the softmax"
    assert np.array_equal(got.argmax(1), expected.argmax(1))
    assert np.ptp(expected) > 0.05
