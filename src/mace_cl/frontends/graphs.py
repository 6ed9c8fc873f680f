"""What frontends share: building a graph of ONNX ops, making its inputs static, cutting it."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes import common

from mace_cl.errors import InputError, ModelError, UnsupportedError

__all__ = ["OPSET", "QUANTISED_OPSET", "UNMAPPED", "GraphBuilder", "cut", "free", "make_static", "refuse_unmapped"]

OPSET, QUANTISED_OPSET = 21, 20
"""The opset of the graphs that frontends build: the first that quantises 16 bits, and old enough for every reader.

Quantised graphs without 16 bits are one older: from 21 on, ONNX Runtime's optimiser gives QuantizeLinear an
``output_dtype``, leaves it when it goes from int8 to uint8, and refuses the result (microsoft/onnxruntime#25526).
"""

_WIDE = (ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT4, ir.DataType.UINT4)

UNMAPPED = "mace_cl.unmapped"
"""Domain of the nodes that stand for what has no mapping."""

_IR_VERSION = 10
_SHARED = 64
_MOST_NAMED = 32

logger = logging.getLogger("mace_cl")


class GraphBuilder:
    """A graph of ONNX ops under construction, in the order of its nodes.

    Values and nodes keep the names that they are given; a name that is taken gets a number.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[ir.Value] = []
        self._nodes: dict[str, ir.Node] = {}
        self._values: dict[str, ir.Value] = {}
        self._constants: list[ir.Value] = []
        self._shared: dict[tuple[str, tuple[int, ...], bytes], ir.Value] = {}

    def input(self, name: str, dtype: ir.DataType, shape: Sequence[int | str | None]) -> ir.Value:
        """A new input of the graph, under exactly this name.

        Raises:
            ModelError: the name is taken.
        """
        if name in self._values:
            raise ModelError(f"{self.name}: two tensors are called {name!r}; export the model again")
        self.inputs.append(self._value(name, ir.Shape(shape), ir.TensorType(dtype)))
        return self.inputs[-1]

    def constant(self, array: NDArray[Any] | np.generic | Sequence[int] | float, name: str = "") -> ir.Value:
        """A constant: lists of whole numbers are int64, Python floats float32; small ones of no name are shared."""
        if not isinstance(array, (np.ndarray, np.generic)):
            array = np.asarray(array, np.float32 if isinstance(array, float) else np.int64)
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.str, array.shape, array.tobytes()) if not name and array.size <= _SHARED else None
        if key in self._shared:
            return self._shared[key]
        tensor = ir.tensor(array)
        value = self._value(name or "constant", ir.Shape(array.shape), ir.TensorType(tensor.dtype))
        tensor.name, value.const_value = value.name, tensor
        self._constants.append(value)
        if key is not None:
            self._shared[key] = value
        return value

    def op(
        self, op_type: str, inputs: Sequence[ir.Value | None], *, layer: str = "", output: str = "", domain: str = "",
        **attributes: Any,
    ) -> ir.Value:  # fmt: skip
        """A node with one output; see `ops`."""
        return self.ops(op_type, inputs, [output], layer=layer, domain=domain, **attributes)[0]

    def ops(
        self, op_type: str, inputs: Sequence[ir.Value | None], outputs: Sequence[str], *, layer: str = "",
        domain: str = "", **attributes: Any,
    ) -> list[ir.Value]:  # fmt: skip
        """A node with as many outputs as ``outputs`` has names; those with an empty one are named by the node.

        ``layer`` is the name of the source's layer, by default the first output's: the first node of a layer has
        it, the others begin with it, and reports show it.  Attributes that are None are left out.
        """
        layer = layer or next((name for name in outputs if name), "")
        name = free(self._nodes, layer if layer and layer not in self._nodes else f"{layer}/{op_type}".lstrip("/"))
        suffixes = [""] if len(outputs) == 1 else [f":{place}" for place in range(len(outputs))]
        values = [self._value(one or name + suffix) for one, suffix in zip(outputs, suffixes, strict=True)]
        given = {key: value for key, value in attributes.items() if value is not None}
        node = ir.node(op_type, list(inputs), attributes=given, domain=domain, outputs=values, name=name)
        node.metadata_props["mace_cl.layer"] = layer or name
        self._nodes[name] = node
        return values

    def unmapped(self, op_type: str, count: int, layer: str, reason: str) -> list[ir.Value]:
        """Stand-ins for the outputs of a source's op that ONNX ops can't express; ``reason`` says why.

        `refuse_unmapped` names all that are left once the graph is cut.
        """
        return self.ops(op_type, [], [""] * count, layer=layer, domain=UNMAPPED, reason=reason)

    def rename(self, value: ir.Value, name: str) -> None:
        """Give ``value`` exactly this name; another value that has it gets another.

        Raises:
            ModelError: an input of the graph has the name.
        """
        other = self._values.pop(name, value)
        if other is not value:
            if other in self.inputs:
                raise ModelError(f"{self.name}: two tensors are called {name!r}; export the model again")
            other.name = free(self._values, f"{name}/inner")
            self._values[other.name] = other
        self._values.pop(str(value.name), None)
        value.name = name
        self._values[name] = value

    def _value(self, name: str, shape: ir.Shape | None = None, kind: ir.TypeProtocol | None = None) -> ir.Value:
        name = free(self._values, name)
        self._values[name] = ir.Value(name=name, shape=shape, type=kind)
        return self._values[name]

    def model(
        self,
        outputs: Mapping[str, ir.Value],
        producer: str,
        shapes: Mapping[str, Sequence[int]] | None = None,
        static: bool = True,
    ) -> ir.Model:
        """The model with these outputs under exactly these names; ``producer`` says what it was read from.

        Its inputs are made ``static`` (see `make_static`); types and shapes are known as far as they can be
        inferred.
        """
        ends: dict[str, ir.Value] = {}
        for name, value in outputs.items():
            if value.producer() is None or any(value is end for end in ends.values()):
                value = self.op("Identity", [value], layer=name)
            self.rename(value, name)
            ends[name] = value
        wide = any(value.dtype in _WIDE for value in self._constants)
        quantised = any(node.op_type == "QuantizeLinear" for node in self._nodes.values())
        opset = QUANTISED_OPSET if quantised and not wide else OPSET
        graph = ir.Graph(
            self.inputs, list(ends.values()), nodes=list(self._nodes.values()), initializers=self._constants,
            opset_imports={"": opset} | {node.domain: 1 for node in self._nodes.values() if node.domain},
            name=self.name,
        )  # fmt: skip
        model = ir.Model(graph, ir_version=_IR_VERSION, producer_name=producer)
        if static:
            make_static(model, shapes or {}, self.name)
        common.ShapeInferencePass(strict_mode=False)(model)
        return model


def free(taken: Mapping[str, object], name: str) -> str:
    """The name, with a number where it is taken."""
    found, number = name, 0
    while found in taken:
        number += 1
        found = f"{name}.{number}"
    return found


def make_static(model: ir.Model, shapes: Mapping[str, Sequence[int]], name: str) -> None:
    """Give each input a static shape: that of ``shapes``, or its own with a symbolic first dimension taken as 1.

    Raises:
        InputError: ``shapes`` names no input, or does not fit, or a dimension stays unknown.
    """
    inputs = {value.name: value for value in model.graph.inputs if value.name not in model.graph.initializers}
    unknown = sorted(set(shapes) - set(inputs))
    if unknown:
        raise InputError(f"{name}: shapes given for {unknown}, but the inputs are {sorted(map(str, inputs))}")
    for key, value in inputs.items():
        if value.type is not None and not isinstance(value.type, ir.TensorType):
            continue  # a sequence or an optional value has no shape
        given = shapes.get(str(key))
        own = list(value.shape) if value.shape is not None else None
        if given is not None:
            fits = own is None or (
                len(own) == len(given)
                and all(not isinstance(a, int) or a == b for a, b in zip(own, given, strict=True))
            )
            if not fits or any(size < 0 for size in given):
                raise InputError(f"{name}: shape {tuple(given)} does not fit input {key!r} of shape {own}")
            value.shape = ir.Shape(given)
            continue
        if own is None:
            raise InputError(f"{name}: input {key!r} has no shape; give one (shapes={{{key!r}: (1, 3, 224, 224)}})")
        if own and not isinstance(own[0], int):
            logger.info("%s: dimension %s of input %s is taken as 1", name, own[0], key)
            own[0] = 1
        symbolic = [str(size) for size in own if not isinstance(size, int)]
        if symbolic:
            raise InputError(
                f"{name}: input {key!r} has the symbolic dimensions {', '.join(symbolic)}; give its shape "
                f"(shapes={{{key!r}: (…)}}, or --shape {key}=1,3,224,224)"
            )
        value.shape = ir.Shape(own)


def cut(model: ir.Model, outputs: Sequence[str], name: str) -> None:
    """Make ``outputs`` the outputs, by the names of values or of nodes, and drop what they don't need.

    Raises:
        InputError: a name is in the model neither a value's nor a node's; the message gives those like it.
    """
    graph = model.graph
    found: dict[str, ir.Value] = {}
    for node in graph:
        found.setdefault(str(node.name), node.outputs[0])
        if layer := node.metadata_props.get("mace_cl.layer"):
            found[layer] = node.outputs[0]
    found |= {str(value.name): value for node in graph for value in node.outputs}
    unknown = [one for one in outputs if one not in found]
    if unknown:
        near = difflib.get_close_matches(unknown[0], found, 5, 0.5) or list(found)[-5:]
        raise InputError(f"{name}: no value or node is called {unknown[0]!r}; the nearest are {', '.join(near)}")
    graph.outputs.clear()
    graph.outputs.extend(dict.fromkeys(found[one] for one in outputs))
    common.RemoveUnusedNodesPass()(model)
    for value in list(graph.inputs):
        if not value.uses():
            graph.inputs.remove(value)
            graph.initializers.pop(str(value.name), None)  # before IR version 4 constants are inputs too
    common.ShapeInferencePass(strict_mode=False)(model)


def refuse_unmapped(model: ir.Model, name: str) -> None:
    """Drop what no output needs, and see that nothing is left that has no mapping.

    Raises:
        UnsupportedError: naming all of it, each with its layer and the reason.
    """
    common.RemoveUnusedNodesPass()(model)
    model.opset_imports.pop(UNMAPPED, None)
    missing = [node for node in model.graph if node.domain == UNMAPPED]
    if missing:
        listed = "; ".join(
            f"{node.op_type} at {node.metadata_props['mace_cl.layer']!r}: {node.attributes['reason'].as_string()}"
            for node in missing[:_MOST_NAMED]
        )
        more = f" and {len(missing) - _MOST_NAMED} more" if len(missing) > _MOST_NAMED else ""
        raise UnsupportedError(
            f"{name}: {listed}{more}. Replace these in the model, cut it before them (--outputs), or ask for them at "
            "the project's issue tracker"
        )
