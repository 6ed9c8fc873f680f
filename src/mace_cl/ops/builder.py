"""What an op's lowering writes to: it allocates results, asks for operands in a layout, emits calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress

import onnx_ir as ir

from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.graph import array_of, attribute, describe, is_constant, is_used, nodes_of, static_shape
from mace_cl.kernels.elementwise import COPY, Access, Elementwise
from mace_cl.kernels.map import Map, Operand
from mace_cl.kernels.reorder import Reorder
from mace_cl.kernels.types import OPENCL_TYPES, STORED_TYPES, computed, item_bytes
from mace_cl.kernels.views import blocked_floats
from mace_cl.kernels.windows import Window
from mace_cl.plan import Buffer, Constant, HostCall, KernelCall, Layout, Problem, Region

__all__ = ["Builder"]

_FLOAT = 4


class Builder:
    """The plan under construction.

    Each value of the graph has a region per layout in which it is at hand: ``nchw`` (row-major, any
    rank) or ``blocked`` (NCHWc, fp32; all but the last spatial dimension count as rows, of which rank 3
    has one).  Asking for another layout emits the conversion, once.
    Elements are of the type that `kernels.types.computed` gives: for lowering, tensors of halves lie
    as fp32; `mace_cl.lower.halves` changes that in the plan.
    """

    def __init__(self, layout: Layout, opset: int) -> None:
        self.layout = layout
        self.opset = opset
        self.block = layout.block
        self.buffers: list[Buffer] = []
        self.calls: list[KernelCall | HostCall] = []
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

    def stored_type(self, value: ir.Value) -> str:
        """The type that the model gives the value, as NumPy names it."""
        return "float32" if value.dtype is None else str(value.dtype.numpy())

    def type(self, value: ir.Value | None) -> str:
        """The type in which the value is computed, as `kernels.types` names it.

        Raises:
            UnsupportedError: kernels have no such type.
        """
        assert value is not None
        name = "float32" if value.dtype is None else value.dtype.name.lower()
        name = {"float": "float32", "double": "float64"}.get(name, name)
        kind = computed(name)
        if kind not in OPENCL_TYPES or (kind == "float64" and not self.layout.doubles):
            producer = value.producer()
            where = describe(producer) if producer is not None else f"input {value.name!r}"
            raise UnsupportedError(
                f"{where}: {value.name!r} is {name}, in which kernels can't compute on this device. "
                "Convert that part of the model to float32 or an integer type, or remove it"
            )
        return kind

    def input(self, value: ir.Value) -> Region:
        """Where the host is to put the value, row-major, in the type that the model gives it."""
        stored = self.stored_type(value)
        if self.type(value) == stored:
            return self.allocate(value, "nchw")
        given = self.scratch(value.name or "", max(1, math.prod(self.shape(value))) * item_bytes(stored))
        self._restore(value, given, self.allocate(value, "nchw"), stored, self.type(value))
        return given

    def output(self, value: ir.Value) -> Region:
        """Where the host reads the value, row-major, in the type that the model gives it."""
        stored, region = self.stored_type(value), self.region(value)
        if self.type(value) == stored:
            return region
        wanted = self.scratch(value.name or "", max(1, math.prod(self.shape(value))) * item_bytes(stored))
        self._restore(value, region, wanted, self.type(value), stored)
        return wanted

    def _restore(self, value: ir.Value, source: Region, target: Region, old: str, new: str) -> None:
        dims, whole = (max(1, math.prod(self.shape(value))),), Access((1,))
        problem = Map("cast", dims, (Operand(old, whole),), Operand(new, whole), "r = a0;")
        self._emit(problem, [source], target, f"store {value.name} as {new}")

    def has(self, value: ir.Value, layout: str) -> bool:
        """Whether the value is at hand in that layout without conversion."""
        return layout in self._regions.get(value, {})

    def stand_in(self, value: ir.Value) -> None:
        """Pretend that the value is at hand, so that lowering can go on to find what else it can't do."""
        if value not in self._regions:
            with suppress(UnsupportedError):
                self.allocate(value, "nchw")

    def allocate(self, value: ir.Value, layout: str) -> Region:
        """A new buffer for a result."""
        kind = "" if value.dtype is None else value.dtype.name.lower()
        region = self.scratch(value.name or "", self._size(value, layout), kind if kind in STORED_TYPES else "")
        self.place(value, layout, region)
        return region

    def scratch(self, name: str, size: int, kind: str = "") -> Region:
        """A new buffer of ``size`` bytes that is no value of the graph; or of one whose type is ``kind``."""
        self.buffers.append(Buffer(name, size, kind))
        return Region(len(self.buffers) - 1, 0, size)

    def _size(self, value: ir.Value, layout: str) -> int:
        """Bytes of the value in that layout; an empty tensor takes one element that nobody looks at."""
        shape = self.shape(value)
        elements = blocked_floats(self.block, *self._nchw(shape)) if layout == "blocked" else math.prod(shape)
        return max(1, elements) * item_bytes(self.type(value))

    def elements(self, value: ir.Value) -> int:
        """How many elements the value takes at most, whatever layout it is in; 1 where its shape is not known."""
        shape = static_shape(value) or ()
        blocked = len(shape) > 2 and not is_constant(value)
        return blocked_floats(self.block, *self._nchw(shape)) if blocked else math.prod(shape)

    def place(self, value: ir.Value, layout: str, region: Region) -> None:
        """Say that the value lies in ``region``; used for views that need no kernel."""
        size = self._size(value, layout)
        if 0 in self.shape(value):
            region = Region(region.buffer, region.offset, size)
        if region.size != size:
            raise ModelError(
                f"{value.name!r} of shape {self.shape(value)} takes {size} bytes and can't be a view of "
                f"{region.size}: the model contradicts itself; export it again"
            )
        self._regions.setdefault(value, {})[layout] = region

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
        if is_constant(value):
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
            whole = Access((1,))
            if array.size:
                problem, source = self.copy(self.type(value), whole, whole, (array.size,)), [self.constant(value)]
            else:
                problem, source = self._nothing(value), []
            self._emit(problem, source, target, f"copy {value.name}")
            return target
        if "blocked" not in known:
            raise UnsupportedError(f"{value.name!r} is not in the device's memory")
        return self._convert(value, known["blocked"], "nchw")

    def copy(self, kind: str, source: Access, result: Access, dims: Sequence[int]) -> Problem:
        """The kernel that copies elements of type ``kind`` from one access to another."""
        if kind == "float32":
            return Elementwise(self.block, tuple(dims), (source, result), COPY)
        return Map("copy", tuple(dims), (Operand(kind, source),), Operand(kind, result), "r = a0;")

    def empty(self, node: ir.Node) -> bool:
        """Whether all that is used of the node's results is empty; they are at hand then."""
        results = [value for value in node.outputs if is_used(value)]
        if not all(0 in (static_shape(value) or ()) for value in results):
            return False
        for value in results:
            self._emit(self._nothing(value), [], self.allocate(value, "nchw"), nodes_of(node))
        return bool(results)

    def _nothing(self, value: ir.Value) -> Problem:
        """What stands for the kernel of an empty value: it writes the one element that nobody looks at."""
        return Map("empty", (1,), (), Operand(self.type(value), Access((0,))), "r = 0;")

    def blocked(self, value: ir.Value) -> Region:
        """The value in the blocked layout; its rank is 3 or more and it is computed in fp32."""
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
        n, channels, *rows, width = shape
        return n, channels, math.prod(rows), width

    def window(self, node: ir.Node, kernel: Sequence[int]) -> Window:
        """The window that a 1-D or 2-D Conv or pool slides over its input; the passes made its pads explicit."""
        _, _, rows, columns = self._nchw(self.shape(node.inputs[0]))
        _, _, out_rows, out_columns = self._nchw(self.shape(node.outputs[0]))
        return Window(
            (rows, columns),
            (out_rows, out_columns),
            _pair(kernel, 1),
            _pair(attribute(node, "strides", (1, 1)[: len(kernel)]), 1),
            _pair(attribute(node, "pads", (0,) * 4)[: len(kernel)], 0),
            _pair(attribute(node, "dilations", (1, 1)[: len(kernel)]), 1),
        )

    def emit(self, problem: Problem, operands: Sequence[Region | Constant], result: Region, node: ir.Node) -> None:
        """Add a kernel call for ``node``.

        Raises:
            UnsupportedError: an operand is empty, and the kernel is not one that could do with that.
        """
        operands_of = [value for value in node.inputs if value is not None and not is_constant(value)]
        if not isinstance(problem, Map) and any(0 in self.shape(value) for value in operands_of):
            raise self.unsupported(node, "an operand has no elements")
        self._emit(problem, operands, result, nodes_of(node))

    def _emit(self, problem: Problem, operands: Sequence[Region | Constant], result: Region, node: str) -> None:
        self.calls.append(KernelCall(problem, tuple(operands), result, node))

    def unsupported(self, node: ir.Node, why: str) -> UnsupportedError:
        """The error for a node that mace-cl does not run, with what the user can do."""
        return UnsupportedError(
            f"{describe(node)}: {why}. Replace this node in the model, cut the model before it, "
            "or ask for the op at the project's issue tracker",
            {nodes_of(node): why},
        )


def _pair(values: Sequence[int], row: int) -> tuple[int, int]:
    """Of (rows, columns) or of columns alone; then ``row`` for the rows."""
    rows, columns = (row, *values)[-2:]
    return rows, columns
