"""What an op's lowering writes to: it allocates results, asks for operands in a layout, emits calls."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.graph import array_of, attribute, describe, nodes_of, static_shape
from mace_cl.kernels.elementwise import Access, Elementwise, contiguous
from mace_cl.kernels.reorder import Reorder
from mace_cl.kernels.views import blocked_floats
from mace_cl.kernels.windows import Window
from mace_cl.plan import Buffer, Constant, KernelCall, Layout, Problem, Region

__all__ = ["Builder"]

_FLOAT = 4
_POSITIONS = {ir.DataType.INT32: 4, ir.DataType.INT64: 8}
"""Integer inputs of the model, for ops that take positions, and the bytes of an element."""


class Builder:
    """The plan under construction.

    Each value of the graph has a region per layout in which it is at hand: ``nchw`` (row-major, any
    rank) or ``blocked`` (NCHWc, rank 4).  Asking for another layout emits the conversion, once.
    """

    def __init__(self, layout: Layout, opset: int) -> None:
        self.layout = layout
        self.opset = opset
        self.block = layout.block
        self.buffers: list[Buffer] = []
        self.calls: list[KernelCall] = []
        self._regions: dict[ir.Value, dict[str, Region]] = {}
        self._constants: dict[ir.Value, Constant] = {}

    def shape(self, value: ir.Value | None) -> tuple[int, ...]:
        """The static shape.

        Raises:
            UnsupportedError: if shape inference could not find it.
        """
        assert value is not None
        shape = static_shape(value)
        if shape is None:
            producer = value.producer()
            where = describe(producer) if producer is not None else f"input {value.name!r}"
            raise UnsupportedError(
                f"{where}: the shape of {value.name!r} can't be found ({value.shape}). If it hangs on an input's, "
                "give that (the argument `shapes`, or --shape NAME=1,3,224,224); if it hangs on data, mace-cl can't "
                "run the model yet; if the model contradicts itself, onnx.checker.check_model(model, full_check=True) "
                "says where"
            )
        return shape

    def has(self, value: ir.Value, layout: str) -> bool:
        """Whether the value is at hand in that layout without conversion."""
        return layout in self._regions.get(value, {})

    def allocate(self, value: ir.Value, layout: str) -> Region:
        """A new buffer for a result."""
        shape = self.shape(value)
        floats = blocked_floats(self.block, *self._nchw(shape)) if layout == "blocked" else int(np.prod(shape))
        region = self.scratch(value.name or "", floats * self._item(value) // _FLOAT)
        self.place(value, layout, region)
        return region

    def scratch(self, name: str, floats: int) -> Region:
        """A new buffer that is no value of the graph."""
        if floats == 0:
            raise UnsupportedError(f"tensor {name!r} has no elements; mace-cl does not run empty tensors yet")
        self.buffers.append(Buffer(name, floats * _FLOAT))
        return Region(len(self.buffers) - 1, 0, floats * _FLOAT)

    def place(self, value: ir.Value, layout: str, region: Region) -> None:
        """Say that the value lies in ``region``; used for views that need no kernel."""
        positions = value.dtype in _POSITIONS and value.is_graph_input()
        if value.dtype not in (None, ir.DataType.FLOAT) and not positions:
            producer = value.producer()
            where = describe(producer) if producer is not None else f"input {value.name!r}"
            raise UnsupportedError(
                f"{where}: {value.name!r} is {value.dtype}; mace-cl runs float32 tensors so far. "
                "Convert the model to float32, or remove this part from it"
            )
        shape = self.shape(value)
        floats = blocked_floats(self.block, *self._nchw(shape)) if layout == "blocked" else math.prod(shape)
        if region.size != floats * self._item(value):
            raise ModelError(
                f"{value.name!r} of shape {shape} can't be a view of {region.size // _FLOAT} elements: the model "
                "contradicts itself; export it again"
            )
        self._regions.setdefault(value, {})[layout] = region

    @staticmethod
    def _item(value: ir.Value) -> int:
        """Bytes of one element."""
        return _POSITIONS.get(value.dtype, _FLOAT) if value.dtype is not None else _FLOAT

    def expect(self, node: ir.Node, value: ir.Value | None, shape: Sequence[int]) -> None:
        """Refuse an operand of another shape, which kernels would read out of bounds.

        Raises:
            ModelError: naming node and operand.
        """
        if value is not None and self.shape(value) != tuple(shape):
            raise ModelError(
                f"{describe(node)}: {value.name!r} has shape {self.shape(value)}, but {tuple(shape)} is needed: the "
                "model contradicts itself; export it again"
            )

    def constant(self, value: ir.Value) -> Constant:
        """A constant of the graph as an operand, as the model gives it."""
        array = array_of(value)
        assert array is not None
        if value not in self._constants:
            self._constants[value] = Constant(value.name or "", array)
        return self._constants[value]

    def plain(self, value: ir.Value) -> Region | Constant:
        """The value row-major."""
        if array_of(value) is not None:
            return self.constant(value)
        return self.region(value)

    def region(self, value: ir.Value) -> Region:
        """The value row-major in memory; a constant is copied there."""
        known = self._regions.setdefault(value, {})
        if "nchw" in known:
            return known["nchw"]
        array = array_of(value)
        if array is not None:
            target = self.allocate(value, "nchw")
            dims = array.shape or (1,)
            same = Access(contiguous(dims))
            self._emit(
                Elementwise(self.block, dims, (same, same)), [self.constant(value)], target, f"copy {value.name}"
            )
            return target
        return self._convert(value, known["blocked"], "nchw")

    def blocked(self, value: ir.Value) -> Region:
        """The value in the blocked layout; its rank is 4."""
        known = self._regions.setdefault(value, {})
        return known["blocked"] if "blocked" in known else self._convert(value, self.region(value), "blocked")

    def _convert(self, value: ir.Value, source: Region, layout: str) -> Region:
        n, channels, height, width = self._nchw(self.shape(value))
        if n * height * width == 1 and (channels % self.block == 0 or layout == "nchw"):
            view = Region(source.buffer, source.offset, channels * _FLOAT)
            self.place(value, layout, view)
            return view
        target = self.allocate(value, layout)
        problem = Reorder(self.block, n, channels, height * width, layout == "blocked")
        self._emit(problem, [source], target, f"reorder {value.name}")
        return target

    @staticmethod
    def _nchw(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        n, channels, height, width = shape
        return n, channels, height, width

    def window(self, node: ir.Node, kernel: Sequence[int]) -> Window:
        """The window that a 2-D Conv or pool slides over its input; `mace_cl.passes` made its pads explicit."""
        rows, columns = self.shape(node.inputs[0])[2:]
        out_rows, out_columns = self.shape(node.outputs[0])[2:]
        strides, dilations = attribute(node, "strides", (1, 1)), attribute(node, "dilations", (1, 1))
        pads = attribute(node, "pads", (0, 0, 0, 0))
        return Window(
            (rows, columns),
            (out_rows, out_columns),
            (kernel[0], kernel[1]),
            (strides[0], strides[1]),
            (pads[0], pads[1]),
            (dilations[0], dilations[1]),
        )

    def emit(self, problem: Problem, operands: Sequence[Region | Constant], result: Region, node: ir.Node) -> None:
        """Add a kernel call for ``node``."""
        self._emit(problem, operands, result, nodes_of(node))

    def _emit(self, problem: Problem, operands: Sequence[Region | Constant], result: Region, node: str) -> None:
        self.calls.append(KernelCall(problem, tuple(operands), result, node))

    def unsupported(self, node: ir.Node, why: str) -> UnsupportedError:
        """The error for a node that mace-cl does not run, with what the user can do."""
        return UnsupportedError(
            f"{describe(node)}: {why}. Replace this node in the model, cut the model before it, "
            "or ask for the op at the project's issue tracker"
        )
