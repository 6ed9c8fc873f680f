"""Inputs of a model that are parameters of its ops: axes, sizes, bounds, repeats.

Kernels are written for fixed shapes and axes.  A model that takes such numbers as inputs is compiled for their
values, as it is for the shapes of the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import InputError

__all__ = ["fix", "parameter_inputs"]

MOST_VALUES = 64
"""Elements that an input may have to be taken for a parameter."""

POSITIONS: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Which operands of an op of the ONNX domain its kernel has to know."""


def parameter_inputs(model: ir.Model) -> tuple[str, ...]:
    """The inputs, of rank 1 at most and few elements, from which parameters of ops are computed."""
    graph, found = model.graph, set[str]()
    inputs = {value for value in graph.inputs if value.name not in graph.initializers}
    waiting = [
        value
        for node in graph
        if node.domain == ""
        for position, value in enumerate(node.inputs)
        if value is not None and position in POSITIONS.get(node.op_type, ())
    ]
    seen: set[ir.Value] = set()
    while waiting:
        value = waiting.pop()
        if value in seen:
            continue
        seen.add(value)
        if value in inputs:
            if _is_small(value):
                found.add(str(value.name))
        elif (node := value.producer()) is not None and node.op_type not in ("Shape", "Size"):
            waiting += [one for one in node.inputs if one is not None]
    return tuple(str(value.name) for value in graph.inputs if value.name in found)


def _is_small(value: ir.Value) -> bool:
    if not isinstance(value.type, ir.TensorType) or value.shape is None or len(value.shape) > 1:
        return False
    return all(isinstance(size, int) and size <= MOST_VALUES for size in value.shape)


def fix(model: ir.Model, values: Mapping[str, NDArray[np.generic]], name: str) -> None:
    """Make inputs of the model constants.

    Raises:
        InputError: there is no such input, or the value has another type or shape.
    """
    graph = model.graph
    inputs = {str(value.name): value for value in graph.inputs}
    for key, array in values.items():
        value = inputs.get(key)
        if value is None:
            raise InputError(f"{name}: a value is given for {key!r}, but the inputs are {sorted(inputs)}")
        tensor = ir.tensor(np.array(array, order="C"), name=key)
        shape = tuple(value.shape) if value.shape is not None else None
        if tensor.dtype != value.dtype or (shape is not None and shape != array.shape):
            raise InputError(
                f"{name}: input {key!r} is {value.dtype} of shape {shape}, the value given {tensor.dtype} of "
                f"shape {array.shape}; convert it"
            )
        graph.inputs.remove(value)
        value.const_value = tensor
        graph.register_initializer(value)
