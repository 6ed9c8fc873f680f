"""Nodes that work element by element as MACE's operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from mace_cl.export.mace.node import Mapper, Node, activation_of, limits_of
from mace_cl.frontends.mace.codes import ELTWISE

__all__ = ["NODES"]


def _activate(at: Node) -> None:
    found = activation_of(at.node, at.value())
    if found is None:  # Clip with other limits
        low, high = limits_of(at.node)
        greatest = float(np.finfo(np.float32).max)
        at.end("Eltwise", [at.tensor()], type=ELTWISE.index("CLIP"), coeff=[max(low, -greatest), min(high, greatest)])
        return
    at.end("Activation", [at.tensor()], **found)


def _hard_sigmoid(at: Node) -> None:
    """max(0, min(1, αx + β)), of operators that every MACE has."""
    alpha, beta = (1 / 6, 0.5) if at.node.op_type == "HardSwish" else (at.get("alpha", 0.2), at.get("beta", 0.5))
    shape, x = at.shape(), at.tensor()
    steps: tuple[tuple[str, dict[str, Any]], ...] = (
        ("PROD", {"scalar_input": float(alpha), "scalar_input_index": 1}),
        ("SUM", {"scalar_input": float(beta), "scalar_input_index": 1}),
        ("CLIP", {"coeff": [0.0, 1.0]}),
    )
    value = x
    swish = at.node.op_type == "HardSwish"
    for place, (kind, arguments) in enumerate(steps):
        last = place == len(steps) - 1 and not swish
        output = str(at.out.name) if last else f"{at.name}/{kind.lower()}"
        at.writer.operator(
            "Eltwise", [value], output, at.name if last else output, shape, type=ELTWISE.index(kind), **arguments
        )
        value = output
    if swish:
        at.end("Eltwise", [x, value], type=ELTWISE.index("PROD"))


def _prelu(at: Node) -> None:
    slope, shape = at.known(1, "its slopes"), at.shape()
    channels = shape[1]
    at.need(slope.size in (1, channels) and len(shape) == 4, f"slopes of the shape {list(slope.shape)}")
    stored = at.store(np.broadcast_to(slope.reshape(-1), (channels,)), "alpha")
    at.end("Activation", [at.tensor(), stored], activation=b"PRELU")


def _scalar(kind: str, number: float) -> Callable[[Node], None]:
    def convert(at: Node) -> None:
        at.end("Eltwise", [at.tensor()], type=ELTWISE.index(kind), scalar_input=number, scalar_input_index=1)

    return convert


def _single(kind: str) -> Callable[[Node], None]:
    def convert(at: Node) -> None:
        at.end("Eltwise", [at.tensor()], type=ELTWISE.index(kind))

    return convert


def _binary(kind: str) -> Callable[[Node], None]:
    """Two operands, of which one may be a number, or a constant for each channel."""

    def convert(at: Node) -> None:
        at.need(len(at.node.inputs) in (1, 2), "more than two inputs")
        if len(at.node.inputs) == 1:
            at.alias(at.value())
            return
        dtype = at.value().dtype
        at.need(dtype is None or dtype.is_floating_point(), "whole numbers")
        out, number = at.writer.shape(at.out), ELTWISE.index(kind)
        for place in (0, 1):
            array, other = at.constant(place), 1 - place
            if array is None:
                continue
            if array.size == 1 and at.shape(other) == out:
                scalar = float(array.reshape(-1)[0])
                at.end("Eltwise", [at.tensor(other)], type=number, scalar_input=scalar, scalar_input_index=place)
                return
            full = (1,) * (len(out) - array.ndim) + array.shape
            if len(out) == 4 and full == (1, out[1], 1, 1) and at.shape(other) == out:
                stored = at.store(array.reshape(-1), "operand")
                if kind == "SUM":
                    at.end("BiasAdd", [at.tensor(other), stored], axis=1)
                else:
                    pair = [at.tensor(other), stored]
                    at.end("Eltwise", pair if place else pair[::-1], type=number)
                return
            at.need(array.ndim == len(out), f"a constant of the shape {list(array.shape)}")
        at.need(len(at.shape(0)) == len(at.shape(1)), f"the shapes {list(at.shape(0))} and {list(at.shape(1))}")
        at.end("Eltwise", [at.tensor(0), at.tensor(1)], type=number)

    return convert


def _sum(at: Node) -> None:
    at.need(all(at.shape(place) == at.shape() for place in range(len(at.node.inputs))), "shapes that differ")
    at.end("AddN", [at.tensor(place) for place in range(len(at.node.inputs))])


NODES: dict[str, Mapper] = {
    "Abs": _single("ABS"),
    "Add": _binary("SUM"),
    "Clip": _activate,
    "Div": _binary("DIV"),
    "Elu": _activate,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_sigmoid,
    "LeakyRelu": _activate,
    "Max": _binary("MAX"),
    "Min": _binary("MIN"),
    "Mul": _binary("PROD"),
    "Neg": _single("NEG"),
    "PRelu": _prelu,
    "Pow": _binary("POW"),
    "Reciprocal": _scalar("POW", -1.0),
    "Relu": _activate,
    "Sigmoid": _activate,
    "Sign": _single("SIGN"),
    "Sqrt": _scalar("POW", 0.5),
    "Sub": _binary("SUB"),
    "Sum": _sum,
    "Tanh": _activate,
}
