"""Small networks of the families that mace-cl is for, with seeded weights, against ONNX Runtime.

With ``--models DIR``, every ONNX model of that folder too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_cl.schedule import Port
from support import Array, Start, difference, filled, reference

TOLERANCE = 1e-4


class Net:
    """An ONNX graph in the making; values are named, ``channels`` are known, the input is ``input``."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape
        self.channels = {"input": shape[1]}
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: str, channels: int | None = None, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        self.channels[name] = self.channels.get(inputs[0], 0) if channels is None else channels
        return name

    def constant(self, array: Array) -> str:
        name = f"constant_{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int, scale: float = 1.0, low: float | None = None) -> str:
        return self.constant(filled(str(len(self.weights)), shape, low) * np.float32(scale))

    def conv(self, x: str, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, dilation: int = 1) -> str:
        depth = self.channels[x] // groups
        w = self.weight(outputs, depth, size, size, scale=(2 / (depth * size * size)) ** 0.5)
        pad = (size - 1) * dilation // 2
        return self.op(
            "Conv", x, w, self.weight(outputs, scale=0.1),
            channels=outputs, group=groups, strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2,
        )  # fmt: skip

    def norm(self, x: str) -> str:
        count = self.channels[x]
        return self.op(
            "BatchNormalization", x, self.weight(count, low=0.2), self.weight(count), self.weight(count),
            self.weight(count, low=0.5),
        )  # fmt: skip

    def cbr(self, x: str, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, act: str = "Relu") -> str:
        return self.activate(self.norm(self.conv(x, outputs, size, stride, groups)), act)

    def activate(self, x: str, act: str) -> str:
        if act == "Swish":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if act == "Relu6":
            return self.op("Clip", x, self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32)))
        return self.op(act, x) if act else x

    def concat(self, *values: str) -> str:
        return self.op("Concat", *values, channels=sum(self.channels[value] for value in values), axis=1)

    def pool(self, x: str, kind: str = "MaxPool", size: int = 2, stride: int = 2, pad: int = 0) -> str:
        return self.op(kind, x, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def upsample(self, x: str, factor: int = 2, **attributes: Any) -> str:
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        return self.op("Resize", x, "", scales, **attributes)

    def excite(self, x: str, act: str = "Sigmoid") -> str:
        gate = self.conv(self.op("GlobalAveragePool", x), max(4, self.channels[x] // 4))
        return self.op("Mul", x, self.op(act, self.conv(self.op("Relu", gate), self.channels[x])))

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.constant(np.array(shape, np.int64)))

    def classify(self, x: str, classes: int = 10) -> str:
        flat = self.op("Flatten", self.op("GlobalAveragePool", x))
        logits = self.op("Gemm", flat, self.weight(classes, self.channels[x]), self.weight(classes), transB=1)
        return self.op("Softmax", logits)

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "generated",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            self.weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model)


def mobilenet() -> onnx.ModelProto:
    net = Net(1, 3, 33, 33)
    x = net.cbr("input", 16, 3, 2, act="Relu6")
    for outputs, stride in ((16, 1), (24, 2), (24, 1)):
        wide = net.channels[x] * 3
        y = net.cbr(net.cbr(x, wide, act="Relu6"), wide, 3, stride, wide, act="Relu6")
        y = net.norm(net.conv(y, outputs))
        x = net.op("Add", x, y) if stride == 1 and net.channels[x] == outputs else y
    return net.model(net.classify(x))


def mobilenet_v3() -> onnx.ModelProto:
    net = Net(2, 3, 24, 24)
    x = net.cbr("input", 16, 3, 2, act="HardSwish")
    y = net.cbr(net.cbr(x, 40, act="HardSwish"), 40, 5, 1, 40, act="HardSwish")
    x = net.op("Add", net.norm(net.conv(net.excite(y, "HardSigmoid"), 16)), x)
    return net.model(net.classify(net.cbr(x, 48, act="HardSwish")))


def efficientnet() -> onnx.ModelProto:
    net = Net(1, 3, 24, 24)
    x = net.cbr("input", 24, 3, 2, act="Swish")
    for _ in range(2):
        y = net.cbr(net.cbr(x, 56, act="Swish"), 56, 5, 1, 56, act="Swish")
        x = net.op("Add", net.norm(net.conv(net.excite(y), 24)), x)
    return net.model(net.classify(x))


def resnet() -> onnx.ModelProto:
    net = Net(1, 3, 35, 35)
    x = net.pool(net.cbr("input", 16, 7, 2), size=3, pad=1)
    for outputs, stride in ((16, 1), (32, 2)):
        y = net.norm(net.conv(net.cbr(net.cbr(x, outputs // 2), outputs // 2, 3, stride), outputs * 2))
        shortcut = net.norm(net.conv(x, outputs * 2, 1, stride))
        x = net.op("Relu", net.op("Add", y, shortcut))
    return net.model(net.classify(x))


def resnet_v2() -> onnx.ModelProto:
    net = Net(1, 3, 24, 24)
    x = net.conv("input", 16, 3)
    for _ in range(2):
        y = net.op("Relu", net.norm(x))
        x = net.op("Add", x, net.conv(net.op("Relu", net.norm(net.conv(y, 8))), 16, 3))
    return net.model(net.classify(net.op("Relu", net.norm(x))))


def inception() -> onnx.ModelProto:
    net = Net(1, 3, 21, 21)
    x = net.cbr("input", 16, 3, 2)
    for count in (8, 20):
        pooled = net.cbr(net.pool(x, "AveragePool", 3, 1, 1), count)
        tower = net.cbr(net.cbr(net.cbr(x, count), 16, 3), 24, 3)
        x = net.concat(net.cbr(x, 16), tower, pooled)
    x = net.concat(net.cbr(x, 16, 3, 2), net.pool(x, size=3, pad=1))
    return net.model(net.classify(x))


def squeezenet() -> onnx.ModelProto:
    net = Net(1, 3, 31, 31)
    x = net.pool(net.op("Relu", net.conv("input", 16, 3, 2)), size=3)
    for _ in range(2):
        squeezed = net.op("Relu", net.conv(x, 8))
        x = net.concat(net.op("Relu", net.conv(squeezed, 24)), net.op("Relu", net.conv(squeezed, 24, 3)))
    x = net.op("Dropout", x)
    y = net.op("GlobalAveragePool", net.op("Relu", net.conv(x, 10)))
    return net.model(net.op("Softmax", net.reshape(y, 1, 10)))


def shufflenet() -> onnx.ModelProto:
    net = Net(1, 3, 24, 24)
    x = net.cbr("input", 24, 3, 2)
    for _ in range(2):
        nodes = helper.make_node("Split", [x], [f"{x}.left", f"{x}.right"], axis=1)
        net.nodes.append(nodes)
        net.channels |= {f"{x}.left": 12, f"{x}.right": 12}
        right = net.cbr(net.norm(net.conv(net.cbr(f"{x}.right", 12), 12, 3, groups=12)), 12)
        both = net.reshape(net.concat(f"{x}.left", right), 1, 2, 12, 12, 12)
        x = net.reshape(net.op("Transpose", both, perm=[0, 2, 1, 3, 4]), 1, 24, 12, 12)
        net.channels[x] = 24
    return net.model(net.classify(x))


def vgg() -> onnx.ModelProto:
    net = Net(1, 3, 16, 16)
    x = net.pool(net.op("Relu", net.conv(net.op("Relu", net.conv("input", 16, 3)), 16, 3)))
    x = net.op("Flatten", net.pool(net.op("Relu", net.conv(x, 24, 3))))
    x = net.op("Relu", net.op("Gemm", x, net.weight(33, 24 * 16, scale=0.1), net.weight(33), transB=1))
    return net.model(net.op("Gemm", x, net.weight(33, 10), net.weight(10)))


def densenet() -> onnx.ModelProto:
    net = Net(1, 3, 17, 17)
    x = net.conv("input", 16, 3)
    for growth in (8, 16, 12):
        x = net.concat(x, net.conv(net.op("Relu", net.norm(net.conv(net.op("Relu", net.norm(x)), 16))), growth, 3))
    return net.model(net.classify(net.op("Relu", net.norm(x))))


def deeplab() -> onnx.ModelProto:
    net = Net(1, 3, 32, 32)
    x = net.cbr(net.cbr("input", 16, 3, 2), 24, 3, 2)
    towers = [net.op("Relu", net.conv(x, 16))]
    towers += [net.op("Relu", net.norm(net.conv(x, 16, 3, dilation=rate))) for rate in (2, 3)]
    image = net.op("Relu", net.conv(net.op("GlobalAveragePool", x), 16))
    towers.append(net.upsample(image, 8, mode="linear"))
    y = net.conv(net.op("Relu", net.conv(net.concat(*towers), 16)), 5)
    return net.model(net.upsample(y, 4, mode="linear", coordinate_transformation_mode="align_corners"))


def ssd() -> onnx.ModelProto:
    net = Net(1, 3, 33, 33)
    maps = [net.cbr("input", 16, 3, 2)]
    for _ in range(2):
        maps.append(net.cbr(net.cbr(maps[-1], net.channels[maps[-1]], 3, 2, 16 if len(maps) == 1 else 24), 24))
    heads = {"boxes": [], "scores": []}  # type: dict[str, list[str]]
    for x in maps[1:]:
        for name, values in (("boxes", 4), ("scores", 5)):
            grid = net.op("Transpose", net.conv(x, 3 * values, 3), perm=[0, 2, 3, 1])
            heads[name].append(net.reshape(grid, 1, -1, values))
    boxes = net.op("Concat", *heads["boxes"], axis=1)
    scores = net.op("Softmax", net.op("Concat", *heads["scores"], axis=1), axis=-1)
    prior = net.weight(1, 1, 4)
    return net.model(net.op("Add", net.op("Mul", boxes, net.constant(np.array(0.1, np.float32))), prior), scores)


def yolo() -> onnx.ModelProto:
    net = Net(1, 3, 32, 32)
    x = net.norm(net.conv("input", 16, 3))
    fine = net.pool(net.op("LeakyRelu", x, alpha=0.1))
    coarse = net.pool(net.op("LeakyRelu", net.norm(net.conv(fine, 32, 3)), alpha=0.1))
    up = net.upsample(net.cbr(coarse, 16), mode="nearest", coordinate_transformation_mode="asymmetric")
    return net.model(net.conv(net.concat(up, fine), 21), net.conv(coarse, 21))


def style() -> onnx.ModelProto:
    net = Net(1, 3, 20, 20)

    def conv(x: str, outputs: int, size: int, stride: int = 1) -> str:
        pad = size // 2
        padded = net.op("Pad", x, net.constant(np.array([0, 0, pad, pad, 0, 0, pad, pad])), mode="reflect")
        w = net.weight(outputs, net.channels[x], size, size, scale=0.2)
        return net.op("Conv", padded, w, net.weight(outputs), channels=outputs, strides=[stride] * 2)

    def norm(x: str) -> str:
        return net.op("InstanceNormalization", x, net.weight(net.channels[x]), net.weight(net.channels[x]))

    x = net.op("Relu", norm(conv("input", 8, 9)))
    x = net.op("Relu", norm(conv(x, 16, 3, 2)))
    x = net.op("Add", x, norm(conv(net.op("Relu", norm(conv(x, 16, 3))), 16, 3)))
    x = conv(net.upsample(x, mode="nearest"), 8, 3)
    return net.model(conv(net.op("Relu", norm(x)), 3, 9))


def pixel_shuffle() -> onnx.ModelProto:
    net = Net(1, 1, 14, 14)
    x = net.conv(net.op("Relu", net.conv("input", 17, 5)), 9, 3)
    grid = net.op("Transpose", net.reshape(x, 1, 1, 3, 3, 14, 14), perm=[0, 1, 4, 2, 5, 3])
    return net.model(net.reshape(grid, 1, 1, 42, 42))


FAMILIES: tuple[Callable[[], onnx.ModelProto], ...] = (
    deeplab, densenet, efficientnet, inception, mobilenet, mobilenet_v3, pixel_shuffle, resnet, resnet_v2, shufflenet,
    squeezenet, ssd, style, vgg, yolo,
)  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_family(start: Start, family: Callable[[], onnx.ModelProto]) -> None:
    model = family()
    (port,) = model.graph.input
    x = filled("input", [size.dim_value for size in port.type.tensor_type.shape.dim])
    expected = reference(model, {"input": x})
    with start(model) as executor:
        got = executor.run({"input": x})
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert difference(got[name], array) <= TOLERANCE, name


def _input(port: Port) -> Array:
    """Numbers of unit variance, or positions from 0 to 99."""
    numbers = filled(port.name, port.shape or ())
    return numbers if port.dtype == "float32" else (np.abs(numbers) * 20).astype(port.dtype) % 100


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "path" in metafunc.fixturenames:
        folder = metafunc.config.getoption("--models")
        metafunc.parametrize("path", sorted(folder.glob("*.onnx")) if folder else [], ids=lambda path: path.stem)


@pytest.mark.slow
def test_model_of_folder(start: Start, path: Path) -> None:
    with start(path) as executor:
        inputs = {port.name: _input(port) for port in executor.schedule.inputs}
        got = executor.run(inputs)
    expected = reference(onnx.load(path), inputs, "onnxruntime as users run it")
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert difference(got[name], array) <= TOLERANCE, name
