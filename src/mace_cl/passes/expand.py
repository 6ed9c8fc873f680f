"""Ops that ONNX defines by others become those, where kernels know the others and not the op."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common

from mace_cl.graph import DOMAIN, nodes_of
from mace_cl.ops import LOWERINGS
from mace_cl.ops.elementwise import EXPRESSIONS
from mace_cl.passes.canonical import RULES
from mace_cl.passes.fold import FoldPass

__all__ = ["ExpandPass"]

_FOLDED = frozenset(("Constant", "ConstantOfShape", "Range", "Shape", "Size"))
"""Ops that folding leaves none of where shapes are static."""

_MOST_ROUNDS = 8


class ExpandPass(ir.passes.InPlacePass):
    """Function bodies of the operator schemas in the onnx package, inlined; bodies of bodies too."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for _ in range(_MOST_ROUNDS):
            if not _expand(model):
                break
            common.InlinePass()(model)
            FoldPass()(model)
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _expand(model: ir.Model) -> bool:
    """Give each node that is to be expanded a function of its own; the function's nodes stand for it in reports."""
    version, found = model.opset_imports.get("", 0), 0
    for node in list(model.graph):
        if node.domain != "" or _runs(node.op_type):
            continue
        function = _function(node, version)
        if function is None or not all(_known(inner, version) for inner in function):
            continue
        found += 1
        _fill_attributes(node, version)
        domain = f"{DOMAIN}.expanded"
        for inner in function:
            inner.metadata_props["mace_cl.nodes"] = nodes_of(node)
        function.domain, function.name, function.overload = domain, node.op_type, str(found)
        function.opset_imports[""] = version
        model.functions[function.identifier()] = function
        node.domain, node.overload = domain, str(found)
        model.opset_imports[domain] = 1
    return found > 0


def _fill_attributes(node: ir.Node, version: int) -> None:
    """The defaults that the schema gives, which a function body takes for granted."""
    import onnx

    for name, attribute in onnx.defs.get_schema(node.op_type, version).attributes.items():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)


def _runs(op_type: str) -> bool:
    return ("", op_type) in LOWERINGS or op_type in EXPRESSIONS or op_type in RULES or op_type in _FOLDED


def _known(node: ir.Node, version: int) -> bool:
    if any(attr.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for attr in node.attributes.values()):
        return False
    return node.domain == "" and (_runs(node.op_type) or _is_function(node.op_type, version))


@cache
def _is_function(op_type: str, version: int) -> bool:
    import onnx

    try:
        schema: Any = onnx.defs.get_schema(op_type, version)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _function(node: ir.Node, version: int) -> ir.Function | None:
    """The body that the schema gives the node, or None."""
    import onnx

    if not _is_function(node.op_type, version):
        return None
    schema: Any = onnx.defs.get_schema(node.op_type, version)
    proto = onnx.FunctionProto()
    if schema.has_function:
        text = schema.get_function_with_opset_version(version)
    else:
        types = [_type(value) for value in node.inputs]
        if any(one is None for one in types):
            return None
        call = ir.serde.serialize_node(node).SerializeToString()
        text = schema.get_context_dependent_function_with_opset_version(version, call, types)
    if not text:
        return None
    proto.ParseFromString(text)
    made = {name for inner in proto.node for name in inner.output}
    del proto.output[len(node.outputs) :]
    for name in proto.output:  # outputs that the node does not use may have no node that makes them
        if name not in made:
            proto.node.add(op_type="Identity", input=[proto.input[0]], output=[name])
    return ir.serde.deserialize_function(proto)


def _type(value: ir.Value | None) -> bytes | None:
    """The value's type and shape as ONNX serialises it; of an input that is left out, nothing."""
    import onnx

    if value is None:
        return b""
    if value.type is None:
        return None
    proto = onnx.TypeProto()
    ir.serde.serialize_type_into(proto, value.type)
    if value.shape is not None:
        ir.serde.serialize_shape_into(proto, value.shape)
    return proto.SerializeToString()
