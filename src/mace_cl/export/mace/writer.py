"""A graph of ONNX ops as MACE's ``.pb`` and ``.data``, as MACE's converter writes a model that came from ONNX.

Images are NCHW in the source and NHWC in the arguments of operators whose ``data_format`` is AUTO; batch
normalisation goes into weights and activations into the operator before.  Source: MACE's ``mace.proto``, its
converter's ``onnx_converter.py`` and ``transformer.py``, and its ops.
"""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.errors import UnsupportedError
from mace_cl.export.mace import convolution, elementwise, movement, normalisation, reduction
from mace_cl.export.mace.graph import Graph, LacksError, Written
from mace_cl.export.mace.node import Mapper, Node
from mace_cl.graph import describe

__all__ = ["NODES", "write"]

_SHOWN = 8
NODES: dict[str, Mapper] = {
    **convolution.NODES,
    **elementwise.NODES,
    **normalisation.NODES,
    **movement.NODES,
    **reduction.NODES,
}


def write(model: ir.Model, name: str, half: bool = False) -> Written:
    """The files of a simplified model (constants folded, shapes known) whose inputs are static.

    Args:
        model: what to write; its initializers are read, nothing is changed.
        name: what messages call it.
        half: store weights in two bytes each; MACE then computes with half on a GPU.

    Raises:
        UnsupportedError: nodes for which MACE has no operator, all of them.
    """
    graph, lacking = Graph(model, name, half), []
    for value in model.graph.inputs:
        graph.input(value)
    for node in model.graph:
        if node in graph.done:
            continue
        convert = NODES.get(node.op_type) if node.domain == "" else None
        try:
            if convert is None:
                raise LacksError("")
            convert(Node(graph, node))
        except LacksError as error:
            lacking.append(describe(node) + (f": {error}" if str(error) else ""))
    if lacking:
        more = f"; and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        raise UnsupportedError(
            f"{name}: {'; '.join(lacking[:_SHOWN])}{more}: MACE has no operator for these. Replace them in "
            "the model, cut it before them (--outputs), or write ONNX"
        )
    for value in model.graph.outputs:
        graph.output(value)
    return graph.written()
