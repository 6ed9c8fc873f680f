"""Walk the graph in order and let each op write its kernel calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import onnx_ir as ir

from mace_cl.errors import UnsupportedError
from mace_cl.graph import describe, is_constant, is_used, nodes_of
from mace_cl.lower.elide import elide_copies
from mace_cl.lower.gathers import absorb_gathers
from mace_cl.ops import LOWERINGS, TYPED, Builder
from mace_cl.ops.host import is_host, port
from mace_cl.plan import Layout, Plan
from mace_cl.schedule import Node

__all__ = ["lower"]

_MOST_ELEMENTS = (1 << 31) - 1

T = TypeVar("T")


def lower(model: ir.Model, layout: Layout, nodes: Sequence[Node] = ()) -> Plan:
    """The plan of an optimised model for a layout family; ``nodes`` are the source's, for reports.

    Convolutions are direct; `mace_cl.lower.winograd` is for later.

    Raises:
        UnsupportedError: with all nodes that can't run on OpenCL, each with the reason.
    """
    graph = model.graph
    builder = Builder(layout, model.opset_imports.get("", 0))
    failures: list[UnsupportedError] = []

    def attempt(work: Callable[[], T]) -> T | None:
        try:
            return work()
        except UnsupportedError as error:
            failures.append(error)
            return None

    inputs = [attempt(partial(port, builder, value, given=True)) for value in graph.inputs]
    for node in graph:
        if attempt(partial(_lower, builder, node)) is None:
            for value in node.outputs:
                builder.stand_in(value)
    outputs = [attempt(partial(port, builder, value, given=False)) for value in graph.outputs]
    if failures:
        raise _together(failures)
    ports = [one for one in inputs if one is not None], [one for one in outputs if one is not None]
    plan = Plan(layout, tuple(builder.buffers), tuple(ports[0]), tuple(ports[1]), tuple(builder.calls), tuple(nodes))
    plan = absorb_gathers(elide_copies(plan))
    plan.check()
    return plan


def _lower(builder: Builder, node: ir.Node) -> bool:
    key = (node.domain, node.op_type)
    if key not in LOWERINGS:
        raise builder.unsupported(node, "mace-cl has no OpenCL kernel for this op")
    try:
        if key not in TYPED:
            _refuse_types(builder, node)
        if not is_host(node):
            _refuse_sizes(builder, node)
        if is_host(node) or not builder.empty(node):
            LOWERINGS[key](builder, node)
    except UnsupportedError as error:
        if error.nodes:
            raise
        why = str(error).removeprefix(f"{describe(node)}: ")
        raise UnsupportedError(str(error), {nodes_of(node): why}) from error
    return True


def _refuse_sizes(builder: Builder, node: ir.Node) -> None:
    """Kernels index with ``int``."""
    for value in (*filter(None, node.inputs), *filter(is_used, node.outputs)):
        count = builder.elements(value)
        if count > _MOST_ELEMENTS:
            raise builder.unsupported(node, f"{value.name!r} takes {count} elements; kernels count to {_MOST_ELEMENTS}")


def _refuse_types(builder: Builder, node: ir.Node) -> None:
    """An op whose kernels know fp32 only has fp32 operands, constants that are parameters apart."""
    values = [value for value in node.inputs if value is not None and not is_constant(value)]
    for value in (*values, *filter(is_used, node.outputs)):
        if (kind := builder.type(value)) != "float32":
            raise builder.unsupported(node, f"{value.name!r} is {kind}, and the op runs on float32 so far")


def _together(failures: Sequence[UnsupportedError]) -> UnsupportedError:
    if len(failures) == 1:
        return failures[0]
    nodes: dict[str, str] = {}
    for failure in failures:
        nodes = failure.nodes | nodes  # what follows from an earlier failure does not hide it
    listed = "; ".join(f"{name}: {why}" for name, why in nodes.items())
    return UnsupportedError(f"{len(nodes)} nodes can't run on OpenCL: {listed}", nodes)
