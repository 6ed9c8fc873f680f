"""Walk the graph in order and let each op write its kernel calls."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.errors import UnsupportedError
from mace_cl.graph import array_of, describe, is_used
from mace_cl.lower.elide import elide_copies
from mace_cl.ops import LOWERINGS, TYPED, Builder
from mace_cl.plan import Layout, Plan, PlanPort, Region

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
    inputs = [_port(builder, value, builder.input(value)) for value in graph.inputs]
    for node in graph:
        if (node.domain, node.op_type) not in TYPED:
            _refuse_types(builder, node)
        LOWERINGS[node.domain, node.op_type](builder, node)
    outputs = [_port(builder, value, builder.output(value)) for value in graph.outputs]
    plan = elide_copies(Plan(layout, tuple(builder.buffers), tuple(inputs), tuple(outputs), tuple(builder.calls)))
    plan.check()
    return plan


def _port(builder: Builder, value: ir.Value, region: Region) -> PlanPort:
    return PlanPort(value.name or "", builder.stored_type(value), builder.shape(value), region)


def _refuse_types(builder: Builder, node: ir.Node) -> None:
    """An op whose kernels know fp32 only has fp32 operands, constants that are parameters apart."""
    values = [value for value in node.inputs if value is not None and array_of(value) is None]
    for value in (*values, *filter(is_used, node.outputs)):
        if (kind := builder.type(value)) != "float32":
            raise builder.unsupported(node, f"{value.name!r} is {kind}, and the op runs on float32 so far")
