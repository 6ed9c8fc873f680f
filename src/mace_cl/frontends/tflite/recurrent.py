"""TensorFlow Lite's recurrent operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.frontends.tflite.converter import Converter, Unmapped
from mace_cl.frontends.tflite.family import Family
from mace_cl.frontends.tflite.file import Operator

__all__ = ["OPS"]

OPS = Family()


@OPS.maps("UNIDIRECTIONAL_SEQUENCE_LSTM")
def _lstm(c: Converter, op: Operator) -> None:
    """Inputs: x; four matrices each for x and for the state (input, forget, cell, output); three peepholes (input,
    forget, output); four biases; projection and its bias; two states; four layer norms.  ONNX's order of gates is
    input, output, forget, cell.
    """
    given = [index if index >= 0 else None for index in (*op.inputs, *[-1] * 24)][:24]
    own, state, peepholes, biases = given[1:5], given[5:9], given[9:12], given[12:16]
    if any(index is not None for index in (*given[16:18], *given[20:24])):
        raise Unmapped("has a projection or layer normalisation")
    if op.option(0, "b") not in (0, 4) or op.option(1, "f") or c.tensor(op.inputs[0]).quantised:
        raise Unmapped("has another activation than tanh, a clipped cell, or is quantised")
    if any(index is None for index in (*own, *state, *biases)):
        raise Unmapped("couples its input gate to its forget gate")
    if any(index is not None and c.is_constant(index) is False for index in given[18:20] if not _is_state(c, index)):
        raise Unmapped("is given its first state by another op")
    order = (0, 3, 1, 2)
    w, r = (np.concatenate([_matrix(c, indices[gate]) for gate in order])[None] for indices in (own, state))
    bias = np.concatenate([_matrix(c, biases[gate]) for gate in order])
    operands = [c.constant(w, given[1]), c.constant(r, given[5])]
    operands.append(c.constant(np.concatenate([bias, np.zeros_like(bias)])[None], given[12]))
    optional: list[ir.Value | None] = [None, None, None]
    if any(index is not None for index in peepholes):
        optional.append(c.constant(np.concatenate([_matrix(c, peepholes[gate]) for gate in (0, 2, 1)])[None]))
    time_major = op.option(3, "?")
    x = c.value(op.inputs[0])
    x = x if time_major else c.op("Transpose", [x], perm=(1, 0, 2))
    y = c.ops("LSTM", [x, *operands, *optional], 3, hidden_size=r.shape[2])[0]
    y = c.op("Squeeze", [y, c.constant([1])])
    c.put(op, y if time_major else c.op("Transpose", [y], perm=(1, 0, 2)))


def _is_state(c: Converter, index: int | None) -> bool:
    return index is None or c.tensor(index).variable


def _matrix(c: Converter, index: int | None) -> NDArray[np.float32]:
    if index is None:
        raise Unmapped("lacks one of its weights")
    return c.array(index).astype(np.float32)
