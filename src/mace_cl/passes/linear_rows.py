"""A reshape after ``mace_cl::Linear`` that only splits its rows moves before it, where it may undo another."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mace_cl.graph import DOMAIN, nodes_of, static_shape
from mace_cl.passes.rewrite import add_constant, replace, sole_use

__all__ = ["LinearRowsPass"]


class LinearRowsPass(ir.passes.InPlacePass):
    """Exporters write a product with a matrix as Reshape to rows, Gemm, Reshape back: what follows could not fuse."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        changed = [_merge(node) for node in list(model.graph) if node.op_type == "Reshape" and node.domain == ""]
        return ir.passes.PassResult(model, modified=any(changed))


def _merge(node: ir.Node) -> bool:
    value = node.inputs[0]
    linear = value.producer() if value is not None else None
    if linear is None or (linear.domain, linear.op_type) != (DOMAIN, "Linear") or not sole_use(value):
        return False
    rows, shape = linear.inputs[0], static_shape(node.outputs[0])
    given, result = static_shape(rows) if rows is not None else None, static_shape(linear.outputs[0])
    if rows is None or not shape or not given or not result or shape[-1] != result[-1]:
        return False
    graph, wanted = node.graph, (*shape[:-1], given[-1])
    assert isinstance(graph, ir.Graph)
    before = rows.producer()
    if before is not None and before.domain == "" and before.op_type == "Reshape":
        rows = before.inputs[0] or rows
    if static_shape(rows) != wanted:
        target = add_constant(graph, f"{node.name}.rows", np.array(wanted, np.int64))
        reshape = ir.node("Reshape", [rows, target], name=f"{node.name}.rows")
        (rows,) = reshape.outputs
        rows.shape, rows.type = ir.Shape(wanted), node.outputs[0].type
        reshape.metadata_props["mace_cl.nodes"] = nodes_of(node)
        graph.insert_before(node, reshape)
    replace(node, "Linear", [rows, *linear.inputs[1:]], {}, DOMAIN, [nodes_of(linear), nodes_of(node)])
    graph.remove(linear, safe=True)
    return True
