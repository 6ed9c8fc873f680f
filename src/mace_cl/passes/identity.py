"""Drop Identity nodes.

onnx-ir's own pass merges two outputs of a graph where one is the other's copy, in graphs inside control flow too.
"""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["IdentityPass"]


class IdentityPass(ir.passes.InPlacePass):
    """After it, an Identity of the main graph copies an input or a constant to an output, or one output to another."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        dropped = [_drop(model.graph, node) for node in list(model.graph) if node.op_type == "Identity"]
        return ir.passes.PassResult(model, modified=any(dropped))


def _drop(graph: ir.Graph, node: ir.Node) -> bool:
    x, y = node.inputs[0], node.outputs[0]
    if node.domain != "" or x is None:
        return False
    if y.is_graph_output():
        if x.is_graph_input() or x.is_initializer() or x.is_graph_output():
            return False
        x.name = y.name
    if x.shape is None or not x.shape.is_static():
        x.shape = y.shape or x.shape
    if x.type is None:
        x.type = y.type
    y.replace_all_uses_with(x, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    return True
