"""Two image classifiers: one with trained weights that come with the package, one with seeded weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = ["DIGITS", "digits_held_out", "mobilenet_v2"]

DIGITS = Path(__file__).with_name("digits.onnx")
"""A classifier of handwritten digits: "image", float32 [1, 1, 8, 8] from 0 to 1, gives "scores" [1, 10].

``scripts/train_digits.py`` trained and wrote it.
"""

_SEED = 2
_ZERO, _SIX = np.array(0, np.float32), np.array(6, np.float32)
_STAGES = (
    # expansion, channels, blocks, stride: table 2 of "MobileNetV2: Inverted Residuals and Linear
    # Bottlenecks", Sandler et al., 2018, https://arxiv.org/abs/1801.04381
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def digits_held_out() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Digits that the training never saw: images [360, 1, 1, 8, 8] from 0 to 1, and labels [360] from 0 to 9."""
    with np.load(DIGITS.with_suffix(".npz"), allow_pickle=False) as file:
        images, labels = file["images"], file["labels"]
    return (images[:, None] / np.float32(16)).astype(np.float32), labels.astype(np.int64)


class _Writer:
    """Nodes and seeded tensors of a graph under construction."""

    def __init__(self, seed: int) -> None:
        from onnx import helper, numpy_helper

        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self._node, self._from_array = helper.make_node, numpy_helper.from_array
        self._rng = np.random.default_rng(seed)

    def node(self, op: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        name = name or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(self._node(op, inputs, [name], name, **attributes))
        return name

    def tensor(self, array: NDArray[Any]) -> str:
        name = f"tensor_{len(self.tensors)}"
        self.tensors.append(self._from_array(array, name))
        return name

    def random(self, *shape: int, fan_in: int, gain: float) -> str:
        """Weights of variance gain / fan_in."""
        values = self._rng.standard_normal(shape, np.float32) * np.float32(np.sqrt(gain / fan_in))
        return self.tensor(values)

    def conv(self, x: str, inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1,
             gain: float = 2.0, relu6: bool = True) -> str:  # fmt: skip
        """Convolution, batch normalisation and, if asked, ReLU6."""
        fan_in = inputs // groups * size * size
        weight = self.random(outputs, inputs // groups, size, size, fan_in=fan_in, gain=gain)
        pads = [size // 2] * 4
        x = self.node("Conv", x, weight, kernel_shape=[size, size], strides=[stride, stride], pads=pads, group=groups)
        rows = self._rng.uniform((0.9, -0.1, -0.1, 0.9), (1.1, 0.1, 0.1, 1.1), (outputs, 4)).astype(np.float32).T
        x = self.node("BatchNormalization", x, *map(self.tensor, rows))
        return self.node("Clip", x, self.tensor(_ZERO), self.tensor(_SIX)) if relu6 else x


def mobilenet_v2() -> bytes:
    """MobileNet-v2 1.0 as an ONNX model: "input", float32 [1, 3, 224, 224], gives "scores" [1, 1000].

    The weights come from a seed, scaled by He's rule so that signals keep their size through the
    network; it is good for timing and for comparing answers, and knows nothing about images.
    """
    from onnx import TensorProto, helper

    writer = _Writer(_SEED)
    x, channels = writer.conv("input", 3, 32, 3, stride=2), 32
    for expansion, outputs, blocks, first_stride in _STAGES:
        for block in range(blocks):
            entry, inner, stride = x, channels * expansion, first_stride if block == 0 else 1
            if expansion > 1:
                x = writer.conv(x, channels, inner, 1)
            x = writer.conv(x, inner, inner, 3, stride=stride, groups=inner)
            x = writer.conv(x, inner, outputs, 1, gain=1.0, relu6=False)
            if block > 0:
                x = writer.node("Add", entry, x)
            channels = outputs
    x = writer.conv(x, channels, 1280, 1)
    x = writer.node("Flatten", writer.node("GlobalAveragePool", x))
    weight, bias = writer.random(1000, 1280, fan_in=1280, gain=1.0), writer.random(1000, fan_in=1, gain=0.01)
    writer.node("Gemm", x, weight, bias, name="scores", transB=1)
    graph = helper.make_graph(
        writer.nodes,
        "mobilenet-v2",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1000])],
        writer.tensors,
    )
    opset = helper.make_opsetid("", 17)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="mace-cl demo")
    return bytes(model.SerializeToString(deterministic=True))
