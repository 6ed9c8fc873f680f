"""What runs where: on OpenCL what it can, on the host the rest, found out by trying.

Whether a kernel can run a node is known for certain when it has been lowered.  So the model is lowered with
only those nodes on the host that no kernel could ever run; the nodes that are refused join them, and all is
done anew from the model, until nothing is refused.
"""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.errors import UnsupportedError
from mace_cl.lower import lower
from mace_cl.passes.pipeline import simplify, specialise
from mace_cl.passes.place import Host, obvious
from mace_cl.plan import Layout, Plan
from mace_cl.schedule import Node

__all__ = ["plan"]


def plan(model: ir.Model, layout: Layout, runtime: str) -> Plan:
    """The plan of a model as the frontend gives it; its nodes say why they are on the host, if they are.

    With ``runtime`` of ``"cpu"`` all of them are.

    Raises:
        UnsupportedError: what can't run on OpenCL is no node of the model.
    """
    model = simplify(model)
    ops = {str(node.name): f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph}
    hosts = {name: Host("asked by --runtime cpu") for name in ops} if runtime == "cpu" else obvious(model.graph)
    found = None
    while found is None:
        nodes = [Node(name, op, hosts[name].reason if name in hosts else "") for name, op in ops.items()]
        try:
            found = lower(specialise(model.clone(), hosts), layout, nodes=nodes)
        except UnsupportedError as error:
            more = {name: Host(why) for names, why in error.nodes.items() for name in names.split()}
            if not more.keys() & (ops.keys() - hosts.keys()):
                raise
            hosts |= {name: host for name, host in more.items() if name in ops and name not in hosts}
    return found
