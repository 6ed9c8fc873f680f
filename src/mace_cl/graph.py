"""Reading onnx-ir graphs: constants, shapes and attributes as plain Python values."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

__all__ = [
    "DOMAIN", "array_of", "attribute", "describe", "is_constant", "is_fp32", "is_used", "nodes_of", "static_shape",
    "type_name",
]  # fmt: skip

DOMAIN = "mace_cl"
"""Domain of the ops that only mace-cl's passes make."""


def array_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The value as an array if it is a constant of the graph."""
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def is_constant(value: ir.Value) -> bool:
    """Whether the value is a constant of the graph; unlike `array_of` it reads none of it."""
    return value.const_value is not None and not value.is_graph_input()


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape if it is known and static."""
    if value is not None and value.const_value is not None and not value.is_graph_input():
        return tuple(int(size) for size in value.const_value.shape)  # type: ignore[arg-type]
    if value is None or value.shape is None or not all(isinstance(size, int) for size in value.shape):
        return None
    return tuple(int(size) for size in value.shape)  # type: ignore[arg-type]


def is_fp32(value: ir.Value | None) -> bool:
    """Whether kernels compute the value in fp32, as they do all floats but doubles."""
    return value is not None and value.dtype in (None, ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def type_name(value: ir.Value) -> str:
    """The type as NumPy names it, or, of what is no array of numbers, as ONNX does: ``seq(tensor(float))``."""
    if isinstance(value.type, ir.TensorType) or value.type is None:
        return _element_name(value.dtype)
    return _onnx_name(value.type)


def _element_name(dtype: ir.DataType | None) -> str:
    if dtype is None:
        return "float32"
    return "string" if dtype == ir.DataType.STRING else str(dtype.numpy())


def _onnx_name(kind: ir.TypeProtocol) -> str:
    if isinstance(kind, (ir.SequenceType, ir.OptionalType)):
        return f"{'seq' if isinstance(kind, ir.SequenceType) else 'optional'}({_onnx_name(kind.elem_type)})"
    return f"tensor({kind.dtype.name.lower()})"


def is_used(value: ir.Value) -> bool:
    """Whether a node reads the value, or it is an output of the graph."""
    return bool(value.uses()) or value.is_graph_output()


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """A node's attribute as a plain Python value."""
    found = node.attributes.get(name)
    if found is None or found.value is None:
        return default
    return found.as_string() if found.type == ir.AttributeType.STRING else found.value


def nodes_of(node: ir.Node) -> str:
    """The names of the source model's nodes that ``node`` stands for, separated by spaces."""
    return node.metadata_props.get("mace_cl.nodes") or node.name or f"{node.op_type}({node.outputs[0].name})"


def describe(node: ir.Node) -> str:
    """How messages name a node: its name, op, domain and opset."""
    version = f"-{node.version}" if node.version else ""
    domain = f"{node.domain}::" if node.domain else ""
    return f"node {nodes_of(node)!r} (op {domain}{node.op_type}{version})"
