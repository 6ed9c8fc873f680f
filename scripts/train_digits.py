#!/usr/bin/env python3
"""Train the image classifier that `mace-cl demo` runs, and write it where the package looks for it.

    python scripts/train_digits.py [--epochs 40] [--out src/mace_cl/demo]

A small convolutional network in plain NumPy, trained on the first 1437 of the 1797 handwritten digits
of scikit-learn (8 x 8 pixels, from 0 to 16; the UCI "Optical Recognition of Handwritten Digits" set).
The last 360 are held out: no choice was made by them.  Writes DIR/digits.onnx, the network, and
DIR/digits.npz, the held-out images and labels.  Every random number comes from one seed; equal
versions of NumPy and its BLAS give equal files.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits

Array = NDArray[np.float32]

SEED = 8
HELD_OUT = 360
BATCH = 32
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 1e-4


def patches(images: Array) -> Array:
    """[N, H, W, C] to [N, H, W, 9 C]: each pixel's 3 x 3 neighbourhood, zeros outside."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    return np.concatenate([padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3)], axis=3)


def unpatch(gradient: Array) -> Array:
    """The transpose of `patches`."""
    batch, height, width, depth = gradient.shape
    padded = np.zeros((batch, height + 2, width + 2, depth // 9), np.float32)
    for number, part in enumerate(np.split(gradient, 9, axis=3)):
        y, x = divmod(number, 3)
        padded[:, y : y + height, x : x + width] += part
    return padded[:, 1:-1, 1:-1]


@dataclass
class Linear:
    """A matrix product with bias over the last axis: a convolution once `patches` was applied."""

    weight: Array
    bias: Array
    spatial: bool

    @classmethod
    def make(cls, rng: np.random.Generator, inputs: int, outputs: int, spatial: bool) -> Linear:
        weight = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        return cls(weight.astype(np.float32), np.zeros(outputs, np.float32), spatial)

    def forward(self, x: Array) -> Array:
        self.shape = x.shape
        self.x = patches(x) if self.spatial else x.reshape(len(x), -1)
        return self.x @ self.weight + self.bias

    def backward(self, gradient: Array) -> Array:
        rows = gradient.reshape(-1, gradient.shape[-1])
        self.gradients = [self.x.reshape(len(rows), -1).T @ rows, rows.sum(0)]
        back = gradient @ self.weight.T
        return unpatch(back) if self.spatial else back.reshape(self.shape)


class Relu:
    def forward(self, x: Array) -> Array:
        self.mask = x > 0
        result: Array = x * self.mask
        return result

    def backward(self, gradient: Array) -> Array:
        result: Array = gradient * self.mask
        return result


class MaxPool:
    """The largest of each 2 x 2 pixels."""

    def forward(self, x: Array) -> Array:
        batch, height, width, depth = x.shape
        windows = x.reshape(batch, height // 2, 2, width // 2, 2, depth)
        result: Array = windows.max((2, 4))
        self.mask = windows == result[:, :, None, :, None]
        self.mask = self.mask / self.mask.sum((2, 4), keepdims=True, dtype=np.float32)
        return result

    def backward(self, gradient: Array) -> Array:
        batch, height, width, depth = gradient.shape
        spread: Array = gradient[:, :, None, :, None] * self.mask
        return spread.reshape(batch, 2 * height, 2 * width, depth)


def network(rng: np.random.Generator) -> list[Any]:
    return [
        Linear.make(rng, 9, 16, True), Relu(),
        Linear.make(rng, 9 * 16, 32, True), Relu(), MaxPool(),
        Linear.make(rng, 9 * 32, 64, True), Relu(), MaxPool(),
        Linear.make(rng, 4 * 64, 10, False),
    ]  # fmt: skip


def forward(layers: list[Any], x: Array) -> Array:
    for layer in layers:
        x = layer.forward(x)
    return x


def moved(rng: np.random.Generator, images: Array) -> Array:
    """Each image shifted by up to one pixel in each direction."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = images.shape[1:3]
    result = np.empty_like(images)
    for number, (y, x) in enumerate(rng.integers(0, 3, (len(images), 2))):
        result[number] = padded[number, y : y + height, x : x + width]
    return result


def train(layers: list[Any], images: Array, labels: NDArray[np.int64], epochs: int, rng: np.random.Generator) -> None:
    """Softmax cross-entropy, Adam with weight decay, the learning rate falling as a cosine to zero."""
    linear = [layer for layer in layers if isinstance(layer, Linear)]
    moments = [[np.zeros_like(p) for p in (layer.weight, layer.bias) for _ in range(2)] for layer in linear]
    steps, step = epochs * -(-len(images) // BATCH), 0
    for epoch in range(epochs):
        order, loss = rng.permutation(len(images)), 0.0
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            logits = forward(layers, moved(rng, images[chosen]))
            odds = np.exp(logits - logits.max(1, keepdims=True))
            odds /= odds.sum(1, keepdims=True)
            rows = np.arange(len(chosen))
            loss -= float(np.log(odds[rows, labels[chosen]] + 1e-9).sum())
            odds[rows, labels[chosen]] -= 1
            gradient = odds / np.float32(len(chosen))
            for layer in reversed(layers):
                gradient = layer.backward(gradient)
            rate, step = LEARNING_RATE * 0.5 * (1 + np.cos(np.pi * step / steps)), step + 1
            for layer, state in zip(linear, moments, strict=True):
                for number, values in enumerate((layer.weight, layer.bias)):
                    mean, square, slope = state[2 * number], state[2 * number + 1], layer.gradients[number]
                    mean += 0.1 * (slope - mean)
                    square += 0.001 * (slope * slope - square)
                    update = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
                    values -= np.float32(rate) * (update + (WEIGHT_DECAY if number == 0 else 0) * values)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {loss / len(order):.4f}")


def to_onnx(layers: list[Any]) -> onnx.ModelProto:
    """The network with the input "image", float32 [1, 1, 8, 8] from 0 to 1, and the output "scores" [1, 10]."""
    nodes, tensors, last = [], [], "image"
    names = iter(["conv1", "relu1", "conv2", "relu2", "pool2", "conv3", "relu3", "pool3", "scores"])
    for layer, name in zip(layers, names, strict=True):
        if isinstance(layer, Linear):
            depth = len(layer.weight) // (9 if layer.spatial else 4)
            weight: Array
            if layer.spatial:
                weight = layer.weight.reshape(3, 3, depth, -1).transpose(3, 2, 0, 1)
            else:  # after a flatten of [C, H, W], not of [H, W, C]
                weight = layer.weight.reshape(4, depth, -1).transpose(2, 1, 0).reshape(-1, 4 * depth)
                nodes.append(helper.make_node("Flatten", [last], ["flat"], "flat"))
                last = "flat"
            for array, role in ((weight, "weight"), (layer.bias, "bias")):
                tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{name}.{role}"))
            operands = [last, f"{name}.weight", f"{name}.bias"]
            if layer.spatial:
                nodes.append(helper.make_node("Conv", operands, [name], name, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
            else:
                nodes.append(helper.make_node("Gemm", operands, [name], name, transB=1))
        elif isinstance(layer, Relu):
            nodes.append(helper.make_node("Relu", [last], [name], name))
        else:
            nodes.append(helper.make_node("MaxPool", [last], [name], name, kernel_shape=[2, 2], strides=[2, 2]))
        last = name
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 1, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        tensors,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8, producer_name="mace-cl train_digits.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40, help="default: 40")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "src" / "mace_cl" / "demo")
    options = parser.parse_args()
    digits = load_digits()
    images = digits.images.astype(np.uint8)
    scaled = (images[..., None] / np.float32(16)).astype(np.float32)
    rng = np.random.default_rng(SEED)
    layers = network(rng)
    train(layers, scaled[:-HELD_OUT], digits.target[:-HELD_OUT], options.epochs, rng)
    for name, part in (("training", slice(None, -HELD_OUT)), ("held-out", slice(-HELD_OUT, None))):
        right = (forward(layers, scaled[part]).argmax(1) == digits.target[part]).sum()
        print(f"{name}: {right} of {len(scaled[part])} right ({right / len(scaled[part]):.2%})")
    model = to_onnx(layers)
    onnx.checker.check_model(model, full_check=True)
    (options.out / "digits.onnx").write_bytes(model.SerializeToString(deterministic=True))
    np.savez_compressed(
        options.out / "digits.npz", images=images[-HELD_OUT:], labels=digits.target[-HELD_OUT:].astype(np.uint8)
    )


if __name__ == "__main__":
    main()
