"""The epilogue that the fusion pass put on a node: its expression and operands."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mace_cl.expr import Expr
from mace_cl.graph import array_of, attribute
from mace_cl.kernels.epilogue import IDENTITY, Epilogue
from mace_cl.ops.builder import Builder
from mace_cl.plan import Constant, Region

__all__ = ["epilogue_of"]


def epilogue_of(builder: Builder, node: ir.Node, channel_axis: int) -> tuple[Epilogue, list[Region | Constant]]:
    """The epilogue and its operands, in the layout of the node's result.

    ``channel_axis`` is 1 where the result is blocked, -1 where it is row-major with channels innermost.
    """
    text = attribute(node, "epilogue")
    if text is None:
        return IDENTITY, []
    shape = builder.shape(node.outputs[0])
    kinds: list[str] = []
    operands: list[Region | Constant] = []
    for value in node.inputs[attribute(node, "operands") :]:
        assert value is not None
        array = array_of(value)
        if array is not None:
            kinds.append("channel")
            row = np.broadcast_to(array.reshape(-1), (shape[channel_axis],))
            operands.append(Constant(value.name or "", np.ascontiguousarray(row)))
        else:
            kinds.append("full" if builder.shape(value) == shape else "gate")
            operands.append(builder.blocked(value) if channel_axis == 1 else builder.region(value))
    return Epilogue(Expr.parse(text), tuple(kinds)), operands
