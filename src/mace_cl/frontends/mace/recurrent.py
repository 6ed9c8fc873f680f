"""MACE's recurrent operators.  Source: MACE's ``lstmcell.cl``."""

from __future__ import annotations

import numpy as np

from mace_cl.frontends.mace.step import Mapper, Step

__all__ = ["OPS"]


def _lstm_cell(at: Step) -> None:
    """One step: inputs x, state, weights [x and state, 4 × units], bias, cell; gates are input, new, forget, output."""
    (rows, width), (_, units) = at.shape(0), at.shape(1)
    at.need(
        at.shape(1) == at.shape(4) == (rows, units) and at.shape(2) == (width + units, 4 * units),
        f"reads {[list(at.shape(place)) for place in range(5)]}",
    )
    x = at.op("Concat", at.value(0), at.value(1), axis=1)
    gates = at.op("Gemm", x, at.weights(2), at.weights(3, lambda bias: bias.reshape(4 * units)))
    enters, new, forgets, leaves = (
        at.op("Slice", gates, [place * units], [(place + 1) * units], [1]) for place in range(4)
    )
    forgets = at.op("Sigmoid", at.op("Add", forgets, np.float32(at.number("scalar_input", 0))))
    added = at.op("Mul", at.op("Sigmoid", enters), at.op("Tanh", new))
    cell = at.op("Add", added, at.op("Mul", forgets, at.value(4)))
    output = at.op("Mul", at.op("Sigmoid", leaves), at.op("Tanh", cell))
    at.end(cell, (rows, units))
    at.end(output, (rows, units))


OPS: dict[str, Mapper] = {"LSTMCell": _lstm_cell}
