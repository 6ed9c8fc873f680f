"""What the families of TensorFlow Lite's operators share; slots of options are those of ``schema.fbs``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from mace_cl.errors import ModelError
from mace_cl.frontends.tflite.converter import Converter
from mace_cl.frontends.tflite.file import Operator

__all__ = ["FAR", "INTO_NCHW", "Family", "Mapper", "axes_of", "padding_of", "window_of"]

Mapper = Callable[[Converter, Operator], None]
INTO_NCHW = {0: 0, 1: 2, 2: 3, 3: 1}
"""Where NCHW has each axis of NHWC."""
FAR = 1 << 31
"""A limit of a slice beyond every tensor."""


class Family(dict[str, Mapper]):
    """Operators by name, each with the function that adds its nodes."""

    def maps(self, *names: str) -> Callable[[Mapper], Mapper]:
        """The decorated function maps the operators ``names``."""

        def add(mapping: Mapper) -> Mapper:
            self.update(dict.fromkeys(names, mapping))
            return mapping

        return add


def axes_of(c: Converter, index: int, rank: int) -> list[int]:
    """Constant axes, not negative, each once."""
    axes = np.atleast_1d(c.stored(index)).tolist()
    if any(not -rank <= axis < rank for axis in axes):
        raise ModelError(f"{c.tensor(index).name!r} holds the axes {axes} of a tensor of rank {rank}")
    return sorted({axis % rank for axis in axes})


def window_of(op: Operator, slots: Sequence[int], default: int = 0) -> list[int]:
    """Rows and columns of strides, sizes or dilations from the options."""
    found = [op.option(slot, "i", default) for slot in slots]
    if any(size < 1 for size in found):
        raise ModelError(f"{op.name} at {op.layer!r} has strides, sizes or dilations {found}; the model is damaged")
    return found


def padding_of(op: Operator, slot: int = 0) -> str:
    """ONNX's ``auto_pad`` for the option."""
    return "VALID" if op.option(slot, "b") else "SAME_UPPER"
