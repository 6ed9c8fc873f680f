"""Walk the graph in order and let each op write its kernel calls."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.errors import UnsupportedError
from mace_cl.graph import describe
from mace_cl.lower.elide import elide_copies
from mace_cl.ops import LOWERINGS, Builder
from mace_cl.plan import Layout, Plan, PlanPort

__all__ = ["lower"]


def lower(model: ir.Model, layout: Layout) -> Plan:
    """The plan of an optimised model for a layout family.

    Convolutions are direct; `mace_cl.lower.winograd` is for later.

    Raises:
        UnsupportedError: naming all nodes whose op has no lowering, or the first whose attributes,
            shapes or types have none.
    """
    graph, opset = model.graph, model.opset_imports.get("", 0)
    missing = [node for node in graph if (node.domain, node.op_type) not in LOWERINGS]
    if missing:
        names = "; ".join(sorted({describe(node) for node in missing})[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise UnsupportedError(
            f"{names}{more}: mace-cl has no OpenCL kernel for this op (model opset {opset}) yet. "
            "Replace it in the model, cut the model before it, or ask for the op at the project's issue tracker"
        )
    builder = Builder(layout, opset)
    inputs = []
    for value in graph.inputs:
        region = builder.allocate(value, "nchw")
        inputs.append(PlanPort(value.name or "", _dtype(value), builder.shape(value), region))
    for node in graph:
        LOWERINGS[node.domain, node.op_type](builder, node)
    outputs = [
        PlanPort(value.name or "", _dtype(value), builder.shape(value), builder.region(value))
        for value in graph.outputs
    ]
    plan = elide_copies(Plan(layout, tuple(builder.buffers), tuple(inputs), tuple(outputs), tuple(builder.calls)))
    plan.check()
    return plan


def _dtype(value: ir.Value) -> str:
    return "float32" if value.dtype is None else str(value.dtype.numpy())
