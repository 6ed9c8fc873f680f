"""TensorFlow Lite models as graphs of ONNX ops.

*Layout*: tensors are NHWC in the file.  `Converter` keeps for each tensor the layouts in which it is at hand and
transposes where another is asked for, so that a network of images is computed in NCHW between its ends.

*Quantisation*: a quantised tensor is computed as real numbers that lie on its grid, QuantizeLinear and
DequantizeLinear after each op that may leave it.  Inputs and outputs have the file's own types.

Each tensor of the file has a value of its name, in the file's layout and type, whether it is used or not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import DamagedError, MaceClError, ModelError, UnsupportedError
from mace_cl.frontends.formats import opened
from mace_cl.frontends.graphs import GraphBuilder
from mace_cl.frontends.tflite.file import Grid, Operator, Subgraph, Tensor, read

__all__ = ["TO_NCHW", "TO_NHWC", "Converter", "Unmapped", "declared", "load"]

Made = TypeVar("Made", ir.Model, ir.Model | None)

TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_CLIPS: dict[int, tuple[float, float | None]] = {1: (0.0, None), 2: (-1.0, 1.0), 3: (0.0, 6.0)}
"""Fused activations by code: Relu, between -1 and 1, Relu6."""
_MOST_CONSTANTS = 64


class Unmapped(Exception):  # noqa: N818
    """An operator, or a use of one, that has no mapping; the message says why."""


def load(source: Path | bytes, shapes: Mapping[str, Sequence[int]]) -> ir.Model:
    """Read a TensorFlow Lite model; see `mace_cl.frontends.read.load`.

    Raises:
        ModelError: not a TensorFlow Lite model, truncated, or it contradicts itself.
        UnsupportedError: operators without a mapping, all of them.
    """
    return _read(source, lambda subgraphs, budget: _convert(subgraphs, shapes, budget))


def declared(source: Path | bytes) -> ir.Model | None:
    """The model with its inputs as it declares them; None where all their sizes are fixed.

    Raises:
        ModelError, UnsupportedError: as `load`.
    """

    def converted(subgraphs: list[Subgraph], budget: int) -> ir.Model | None:
        tensors = [subgraphs[0].tensors[index] for index in subgraphs[0].inputs]
        return _convert(subgraphs, None, budget) if any(None in tensor.signature for tensor in tensors) else None

    return _read(source, converted)


def _read(source: Path | bytes, convert: Callable[[list[Subgraph], int], Made]) -> Made:
    name = str(source) if isinstance(source, Path) else f"model of {len(source)} bytes"
    with opened(source) as view:
        try:
            return convert(read(view, name), _MOST_CONSTANTS * len(view) + (1 << 24))
        except DamagedError as error:
            raise ModelError(
                f"{name}: not a whole TensorFlow Lite model: {error}; check that the file was copied whole"
            ) from error
        except MaceClError:
            raise
        except Exception as error:  # a file can contradict itself in more ways than there are checks
            raise ModelError(
                f"{name}: contradicts itself ({type(error).__name__}: {error}); check that it runs in TensorFlow Lite"
            ) from error


def _convert(subgraphs: list[Subgraph], shapes: Mapping[str, Sequence[int]] | None, budget: int) -> ir.Model:
    graph = subgraphs[0]
    builder = GraphBuilder(graph.name or "main")
    converter = Converter(builder, graph, subgraphs, budget)
    for index in graph.inputs:
        converter.input(index)
    converter.run()
    for index in {index for operator in graph.operators for index in operator.outputs}:
        if index in converter.made:
            converter.whole(index)
    outputs = {graph.tensors[index].name: converter.whole(index) for index in graph.outputs}
    return builder.model(outputs, "mace-cl, from TensorFlow Lite", shapes, static=shapes is not None)


class Converter:
    """One subgraph on its way into a graph: ``made`` holds, by tensor and layout, values of real numbers or whole
    numbers that are not quantised.
    """

    def __init__(self, builder: GraphBuilder, graph: Subgraph, subgraphs: Sequence[Subgraph], budget: int) -> None:
        self.builder, self.graph, self.subgraphs = builder, graph, subgraphs
        self.made: dict[int, dict[str, ir.Value]] = {}
        self._constants: dict[int, dict[str, ir.Value]] = {}
        self._stored: dict[int, ir.Value] = {}
        self._named: dict[ir.Value, int] = {}
        self._decoded: dict[int, NDArray[Any]] = {}
        self.makers = {index: operator for operator in graph.operators for index in operator.outputs}
        self._budget = budget
        self._layer = ""

    def run(self) -> None:
        """Convert all operators; see `GraphBuilder.unmapped` for those that have no mapping."""
        from mace_cl.frontends.tflite.operators import OPS

        for operator in self.graph.operators:
            self._layer = operator.layer
            mapping: Callable[[Converter, Operator], None] | None = OPS.get(operator.name)
            try:
                if mapping is None:
                    raise Unmapped("has no mapping")
                mapping(self, operator)
            except Unmapped as reason:
                count = len(operator.outputs)
                values = self.builder.unmapped(operator.name, count, operator.layer, str(reason))
                for index, value in zip(operator.outputs, values, strict=True):
                    self.made[index] = {"file": value}

    # what there is

    def tensor(self, index: int) -> Tensor:
        return self.graph.tensors[index]

    def rank(self, index: int) -> int:
        return len(self.tensor(index).shape)

    def is_constant(self, index: int) -> bool:
        tensor = self.tensor(index)
        return index in self._decoded or (index not in self.made and (tensor.data is not None or not tensor.size))

    def input(self, index: int) -> None:
        """Make the tensor an input of the graph."""
        tensor = self.tensor(index)
        if tensor.dtype is None:
            raise UnsupportedError(f"the input {tensor.name!r} is of strings or resources; mace-cl has no such tensors")
        shape = [f"{tensor.name}.{axis}" if size is None else size for axis, size in enumerate(tensor.signature)]
        value = self.builder.input(tensor.name, ir.DataType.from_numpy(np.dtype(tensor.dtype)), shape)
        self.given(index, value)

    def given(self, index: int, value: ir.Value) -> None:
        """Say that ``value``, in the file's layout and type, is the tensor."""
        self._stored[index] = value
        tensor = self.tensor(index)
        self.made[index] = {"file": self._dequantise(value, tensor) if tensor.quantised else value}

    # operands

    def value(self, index: int) -> ir.Value:
        """The tensor in the file's layout, as real numbers if it is quantised."""
        found = self._constant(index) if index not in self.made else self.made[index]
        if "file" not in found:
            found["file"] = self.op("Transpose", [found["nchw"]], perm=TO_NHWC)
        return found["file"]

    def image(self, index: int) -> ir.Value:
        """A tensor of rank 4 as NCHW."""
        found = self._constant(index) if index not in self.made else self.made[index]
        if "nchw" not in found:
            if self.rank(index) != 4:
                raise Unmapped(f"needs a 4-D tensor, but {self.tensor(index).name!r} is {self.tensor(index).shape}")
            if self.is_constant(index):
                found["nchw"] = self.constant(self.array(index).transpose(TO_NCHW), index)
            else:
                found["nchw"] = self.op("Transpose", [found["file"]], perm=TO_NCHW)
        return found["nchw"]

    def _constant(self, index: int) -> dict[str, ir.Value]:
        if index not in self._constants:
            tensor = self.tensor(index)
            state = tensor.variable and tensor.data is None  # starts as zeros
            array = np.zeros(tensor.shape, tensor.dtype) if state else self.array(index)
            self._constants[index] = {"file": self.constant(array, index)}
        return self._constants[index]

    def together(self, indices: Sequence[int]) -> tuple[str, list[ir.Value]]:
        """Operands of an op that goes element by element, all in one layout: ``nchw`` where one is at hand so."""
        if not any(map(self.prefers_image, indices)) or not all(self._fits_image(index) for index in indices):
            return "file", [self.value(index) for index in indices]
        return "nchw", [self._as_image(index) for index in indices]

    def _fits_image(self, index: int) -> bool:
        return self.rank(index) == 4 or (self.rank(index) < 4 and self.is_constant(index))

    def _as_image(self, index: int) -> ir.Value:
        if self.rank(index) == 4:
            return self.image(index)
        if self.tensor(index).size == 1:
            return self.value(index)
        array = self.array(index)
        return self.constant(array.reshape((1,) * (4 - array.ndim) + array.shape).transpose(TO_NCHW))

    def prefers_image(self, index: int) -> bool:
        """Whether a tensor is at hand as NCHW."""
        return "nchw" in self.made.get(index, {})

    # constants

    def stored(self, index: int) -> NDArray[Any]:
        """A constant as the file has it.

        Raises:
            Unmapped: it is none.
            ModelError: its bytes do not fit its shape.
        """
        tensor = self.tensor(index)
        if index in self._decoded:
            return self._decoded[index]
        if not self.is_constant(index):
            raise Unmapped(f"needs {tensor.name!r} to be a constant")
        if tensor.dtype is None:
            raise Unmapped(f"needs {tensor.name!r}, which is of strings or resources")
        if tensor.sparsity is not None:
            raise Unmapped(f"needs {tensor.name!r}, which is stored sparsely")
        kind = np.dtype(tensor.dtype)
        data = tensor.data if tensor.data is not None else np.zeros(0, np.uint8)
        four_bits = kind == np.dtype("int4")
        needed = -(-tensor.size // 2) if four_bits else tensor.size * kind.itemsize
        if data.size != needed:
            raise ModelError(
                f"the constant {tensor.name!r} of shape {tensor.shape} has {data.size} bytes, not {needed}; the model "
                "is damaged, or was made wrongly"
            )
        if four_bits:
            pairs = np.stack([data << 4, data], axis=-1).view(np.int8) >> 4
            array = pairs.reshape(-1)[: tensor.size].reshape(tensor.shape)
        else:
            array = data.view(kind).reshape(tensor.shape)
        self._decoded[index] = array
        return array

    def fold(self, operator: Operator, array: NDArray[Any]) -> None:
        """Say that the operator's output is a constant, and which."""
        self._decoded[operator.outputs[0]] = array

    def array(self, index: int) -> NDArray[Any]:
        """A constant as real numbers if it is quantised, else as the file has it."""
        array, tensor = self.stored(index), self.tensor(index)
        if not tensor.quantised or tensor.grid is None:
            return array
        scales, zeros = (_along(values, tensor.grid, array.ndim) for values in (tensor.grid.scales, tensor.grid.zeros))
        exact: NDArray[Any] = ((array.astype(np.float64) - zeros) * scales).astype(np.float32)
        return exact

    def constant(self, array: NDArray[Any] | Sequence[int] | float, index: int | None = None) -> ir.Value:
        """A constant of the graph, by the tensor's name if it is one's."""
        if isinstance(array, np.ndarray):
            self._budget -= array.nbytes
            if self._budget < 0:
                raise ModelError("the model's constants take many times its own size when they are laid out; refused")
        return self.builder.constant(array, "" if index is None or np.size(array) < 2 else self.tensor(index).name)

    def weights(self, index: int, order: Sequence[int], shape: Sequence[int] | None = None) -> ir.Value:
        """Weights with their axes in another order, and in another shape; quantised ones as they are stored.

        The axis of the scales must be the first then, or its size the same after reshaping.
        """
        tensor = self.tensor(index)
        if not self.is_constant(index):
            if tensor.quantised or shape is not None:
                raise Unmapped(f"needs {tensor.name!r} to be a constant")
            return self.op("Transpose", [self.value(index)], perm=tuple(order))
        array = self.stored(index)
        moved = array.transpose(order)
        moved = moved if shape is None else moved.reshape(shape)
        if not tensor.quantised:
            return self.constant(moved.astype(np.float32) if moved.dtype == np.float16 else moved, index)
        assert tensor.grid is not None
        axis = list(order).index(tensor.grid.axis) if tensor.grid.per_axis else 0
        return self._dequantise(self.constant(np.ascontiguousarray(moved), index), tensor, axis)

    # results

    def op(self, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
        """A node of the operator that is being converted."""
        return self.builder.op(op_type, inputs, layer=self._layer, **attributes)

    def ops(self, op_type: str, inputs: Sequence[ir.Value | None], count: int, **attributes: Any) -> list[ir.Value]:
        """A node with ``count`` outputs."""
        return self.builder.ops(op_type, inputs, [""] * count, layer=self._layer, **attributes)

    def put(
        self, operator: Operator, value: ir.Value, layout: str = "file", place: int = 0, *, moved: int | None = None
    ) -> None:
        """Say that ``value`` is the operator's output number ``place``, once it is rounded to that tensor's grid.

        ``moved`` is the input whose elements the op only moves: nothing is rounded if it has the same grid.
        """
        if place >= len(operator.outputs):
            return
        index = operator.outputs[place]
        tensor = self.tensor(index)
        same = moved is not None and self.tensor(moved).grid == tensor.grid
        if tensor.quantised and not same:
            stored = self._quantise(value, tensor)
            value = self._dequantise(stored, tensor)
            if layout == "file":
                self._stored[index] = stored
        self.made[index] = {layout: value}

    def activated(self, operator: Operator, value: ir.Value, slot: int) -> ir.Value:
        """``value`` after the activation that the option ``slot`` fuses into the operator.

        It is left out where rounding to the result's grid does the same.
        """
        kind = operator.option(slot, "b")
        if kind == 0:
            return value
        if kind == 4:
            return self.op("Tanh", [value])
        if kind not in _CLIPS:
            raise Unmapped(f"fuses an activation of the unknown kind {kind}")
        low, high = _CLIPS[kind]
        tensor = self.tensor(operator.outputs[0])
        if tensor.quantised and tensor.grid is not None:
            ends = np.iinfo(tensor.dtype)
            least, most = ((end - tensor.grid.zeros[0]) * tensor.grid.scales[0] for end in (ends.min, ends.max))
            if least >= low and (high is None or most <= high + tensor.grid.scales[0] / 2):
                return value
        return self.clip(value, low, high)

    def clip(self, value: ir.Value, low: float, high: float | None) -> ir.Value:
        """``value`` kept between two bounds."""
        if (low, high) == (0.0, None):
            return self.op("Relu", [value])
        return self.op("Clip", [value, self.constant(low), None if high is None else self.constant(high)])

    def _quantise(self, value: ir.Value, tensor: Tensor) -> ir.Value:
        return self.op("QuantizeLinear", [value, *self._grid(tensor)])

    def _dequantise(self, value: ir.Value, tensor: Tensor, axis: int = 0) -> ir.Value:
        assert tensor.grid is not None
        operands = self._grid(tensor)
        if tensor.dtype == np.int32 and not any(tensor.grid.zeros):
            operands = operands[:1]
        return self.op("DequantizeLinear", [value, *operands], axis=axis if tensor.grid.per_axis else None)

    def _grid(self, tensor: Tensor) -> list[ir.Value]:
        """Scale and zero point."""
        assert tensor.grid is not None
        bits = 4 if tensor.dtype == ml_dtypes.int4 else 8 * np.dtype(tensor.dtype).itemsize
        low = 0 if tensor.dtype == np.uint8 else -(1 << bits - 1)
        if any(not low <= zero < low + (1 << bits) for zero in tensor.grid.zeros):
            raise ModelError(f"{tensor.name!r} of type {np.dtype(tensor.dtype)} has a zero point outside that type")
        single = not tensor.grid.per_axis
        scales, zeros = np.array(tensor.grid.scales, np.float32), np.array(tensor.grid.zeros).astype(tensor.dtype)
        return [self.constant(scales[0] if single else scales), self.constant(zeros[0] if single else zeros)]

    def whole(self, index: int) -> ir.Value:
        """The tensor as the file has it, layout and type, under its own name."""
        tensor = self.tensor(index)
        self._layer = tensor.name
        if index not in self._stored:
            value = self.value(index)
            self._stored[index] = self._quantise(value, tensor) if tensor.quantised else value
        value = self._stored[index]
        if value in self.builder.inputs:
            return value
        if value.producer() is None or self._named.get(value, index) != index:
            value = self._stored[index] = self.op("Identity", [value])
        self._named[value] = index
        self.builder.rename(value, tensor.name)
        return value


def _along(values: tuple[Any, ...], grid: Grid, rank: int) -> NDArray[Any]:
    """Numbers of a grid as an array that broadcasts against a tensor of that rank."""
    if not grid.per_axis:
        return np.asarray(values[0])
    return np.array(values).reshape([-1 if axis == grid.axis else 1 for axis in range(rank)])
