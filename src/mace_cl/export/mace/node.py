"""A node of ONNX ops while it is written as MACE's operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.export.mace.graph import ONNX, Graph, LacksError, Shape
from mace_cl.graph import array_of, attribute

__all__ = ["Mapper", "Node", "Tail", "activation_of", "limits_of", "normalisation_of"]


@dataclass(frozen=True)
class Tail:
    """What follows an operator and becomes part of it."""

    last: ir.Value
    factor: NDArray[np.float64] | None
    shift: NDArray[np.float64] | None
    arguments: dict[str, Any]


class Node:
    """A node while it is written."""

    def __init__(self, writer: Graph, node: ir.Node) -> None:
        self.writer, self.node, self.name = writer, node, str(node.name)

    def lacks(self, why: str) -> NoReturn:
        raise LacksError(why)

    def need(self, holds: bool, otherwise: str) -> None:
        if not holds:
            raise LacksError(otherwise)

    def has(self, place: int) -> bool:
        return len(self.node.inputs) > place and self.node.inputs[place] is not None

    def value(self, place: int = 0) -> ir.Value:
        value = self.node.inputs[place] if len(self.node.inputs) > place else None
        if value is None:
            raise LacksError(f"input {place} is missing")
        return value

    def shape(self, place: int = 0) -> Shape:
        return self.writer.shape(self.value(place))

    @property
    def out(self) -> ir.Value:
        return self.node.outputs[0]

    def constant(self, place: int) -> NDArray[Any] | None:
        """A constant input's values."""
        return array_of(self.node.inputs[place]) if self.has(place) else None

    def known(self, place: int, what: str) -> NDArray[Any]:
        found = self.constant(place)
        if found is None:
            raise LacksError(f"{what} is not constant")
        return found

    def get(self, name: str, default: Any = None) -> Any:
        return attribute(self.node, name, default)

    def tensor(self, place: int = 0) -> str:
        """An input as a tensor of MACE: stored where it is constant."""
        array = self.constant(place)
        if array is None:
            return self.writer.tensor(self.value(place))
        return self.writer.store(array, str(self.value(place).name))

    def store(self, array: NDArray[Any], suffix: str) -> str:
        return self.writer.store(array, f"{self.name}_{suffix}")

    def alias(self, value: ir.Value) -> None:
        """The output is ``value`` under another name."""
        self.writer.names[self.out] = self.writer.tensor(value)

    def end(
        self, kind: str, inputs: Sequence[str], *, image: bool | None = None, framework: int = ONNX, **arguments: Any
    ) -> None:
        """The operator that writes the node's output."""
        shape = self.writer.shape(self.out)
        output = str(self.out.name)
        self.writer.operator(kind, inputs, output, self.name, shape, image=image, framework=framework, **arguments)

    def ended_by(self, tail: Tail, kind: str, inputs: Sequence[str], framework: int = ONNX, **arguments: Any) -> None:
        """As `end`, with what follows the node in it."""
        shape = self.writer.shape(tail.last)
        given = arguments | tail.arguments
        self.writer.operator(kind, inputs, str(tail.last.name), self.name, shape, framework=framework, **given)

    def tail(self, channels: int, affine: bool = True) -> Tail:
        """Batch normalisation and an activation after the node, where nothing else reads what is between."""
        value, factor, shift = self.out, None, None
        while True:
            uses = list(value.uses())
            if len(uses) != 1 or value in self.writer.outputs:
                return Tail(value, factor, shift, {})
            node = uses[0][0]
            if affine and node.op_type == "BatchNormalization" and node.inputs[0] is value:
                gain, offset = normalisation_of(node)
                factor = gain if factor is None else factor * gain
                shift = offset if shift is None else shift * gain + offset
                self.writer.done.add(node)
                value = node.outputs[0]
                continue
            try:
                found = activation_of(node, value) if node.domain == "" else None
            except LacksError:
                found = None
            if found is None or found["activation"] == b"PRELU":
                return Tail(value, factor, shift, {})
            self.writer.done.add(node)
            return Tail(node.outputs[0], factor, shift, found)


def normalisation_of(node: ir.Node) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Batch normalisation as factor and offset for each channel."""
    arrays = [array_of(value) for value in node.inputs[1:5]]
    if any(array is None for array in arrays) or attribute(node, "training_mode", 0):
        raise LacksError("its parameters are not constant")
    scale, bias, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    gain = scale / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
    return gain, bias - mean * gain


def activation_of(node: ir.Node, value: ir.Value) -> dict[str, Any] | None:
    """The arguments of an activation that reads ``value``, None where the node is none."""
    simple = {"Relu": b"RELU", "Tanh": b"TANH", "Sigmoid": b"SIGMOID"}
    if node.op_type in simple:
        return {"activation": simple[node.op_type]}
    if node.op_type == "LeakyRelu":
        return {"activation": b"LEAKYRELU", "activation_coefficient": float(attribute(node, "alpha", 0.01))}
    if node.op_type == "Elu":
        return {"activation": b"ELU", "activation_coefficient": float(attribute(node, "alpha", 1.0))}
    if node.op_type == "Clip" and node.inputs[0] is value:
        low, high = limits_of(node)
        if low == 0:
            return {"activation": b"RELU"} if np.isinf(high) else {"activation": b"RELUX", "max_limit": high}
    return None


def limits_of(node: ir.Node) -> tuple[float, float]:
    """What a Clip keeps its input between."""
    found = [-np.inf, np.inf]
    for place in (1, 2):
        if len(node.inputs) > place and node.inputs[place] is not None:
            array = array_of(node.inputs[place])
            if array is None:
                raise LacksError("its limits are not constant")
            found[place - 1] = float(array.reshape(-1)[0])
    found[0] = float(attribute(node, "min", found[0]))
    found[1] = float(attribute(node, "max", found[1]))
    return found[0], found[1]


Mapper = Callable[[Node], None]
