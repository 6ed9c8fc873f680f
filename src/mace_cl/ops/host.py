"""What runs on the host: a sub-model and the values that pass into and out of it."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.errors import UnsupportedError
from mace_cl.graph import DOMAIN, attribute, is_constant, nodes_of, static_shape, type_name
from mace_cl.ops.builder import Builder
from mace_cl.plan import HostCall, PlanPort

__all__ = ["is_host", "lower_host", "port", "touched"]


def is_host(node: ir.Node | None) -> bool:
    """Whether the node stands for a part of the model that runs on the host."""
    return node is not None and (node.domain, node.op_type) == (DOMAIN, "Host")


def touched(value: ir.Value) -> bool:
    """Whether a kernel writes or reads the value, so that it must lie in the device's memory."""
    producer = value.producer()
    if is_constant(value) or (producer is not None and not is_host(producer)):
        return True
    return any(not is_host(use.node) for use in value.uses())


def port(builder: Builder, value: ir.Value, *, given: bool) -> PlanPort:
    """The value as the host sees it: ``given`` by the host, or read by it.

    Raises:
        UnsupportedError: kernels have no such type or shape; it names the nodes that are kernels' then.
    """
    region = None
    if touched(value):
        try:
            region = builder.input(value) if given else builder.output(value)
        except UnsupportedError as error:
            builder.stand_in(value)
            producer = value.producer()
            near = [producer] if producer is not None and not is_host(producer) else [use.node for use in value.uses()]
            why = next(iter(error.nodes.values()), str(error))
            raise UnsupportedError(str(error), {nodes_of(one): why for one in near if not is_host(one)}) from error
    return PlanPort(value.name or "", type_name(value), static_shape(value), region)


def lower_host(builder: Builder, node: ir.Node) -> None:
    """``mace_cl::Host`` as a call between kernel calls."""
    names = attribute(node, "constants", ())
    values = [value for value in node.inputs if value is not None]
    split = len(values) - len(names)
    inputs = [port(builder, value, given=False) for value in values[:split]]
    constants = [(name, builder.constant(value)) for name, value in zip(names, values[split:], strict=True)]
    at = len(builder.calls)
    outputs = [port(builder, value, given=True) for value in node.outputs]  # conversions of its results come after
    model, provider = attribute(node, "model").numpy().tobytes(), attribute(node, "provider")
    call = HostCall(model, provider, tuple(inputs), tuple(outputs), tuple(constants), nodes_of(node))
    builder.calls.insert(at, call)
