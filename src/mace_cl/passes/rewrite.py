"""Small tools for rewrites on onnx-ir graphs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.graph import nodes_of

__all__ = ["add_constant", "replace", "sole_use"]


def add_constant(graph: ir.Graph, name: str, array: NDArray[Any]) -> ir.Value:
    """A new initializer; its name gets a number where it is taken."""
    free, number = name, 0
    while free in graph.initializers:
        number += 1
        free = f"{name}.{number}"
    tensor = ir.tensor(np.array(array, order="C"), name=free)
    value = ir.Value(name=free, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def replace(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, Any],
    domain: str = "",
    names: Sequence[str] = (),
) -> ir.Node:
    """Put a new node in place of ``node``, with its outputs' names, shapes and types.

    ``names`` are those of the source nodes it stands for, in reports; by default ``node``'s.
    """
    outputs = [ir.Value(name=old.name, shape=old.shape, type=old.type) for old in node.outputs]
    new = ir.node(op_type, list(inputs), attributes=attributes, domain=domain, outputs=outputs, name=node.name)
    new.metadata_props["mace_cl.nodes"] = " ".join(dict.fromkeys(" ".join(names).split())) or nodes_of(node)
    assert node.graph is not None
    ir.convenience.replace_nodes_and_values(node.graph, node, [node], [new], list(node.outputs), outputs)
    return new


def sole_use(value: ir.Value | None) -> bool:
    """Whether exactly one node uses ``value`` (any number of times) and it is no output of the graph."""
    if value is None or value.is_graph_output():
        return False
    return len({id(use.node) for use in value.uses()}) == 1
