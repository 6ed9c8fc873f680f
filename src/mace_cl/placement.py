"""What runs where: on OpenCL what it can, on the host the rest, found out by trying.

Whether a kernel can run a node is known for certain when it has been lowered.  So the model is lowered with
only those nodes on the host that no kernel could ever run; the nodes that are refused join them, and all is
done anew from the model, until nothing is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import UnsupportedError
from mace_cl.lower import lower
from mace_cl.passes.pipeline import simplify, specialise
from mace_cl.passes.place import Host, Inferred, add_types, islands, obvious, whole
from mace_cl.plan import Layout, Plan
from mace_cl.schedule import CPU, Node

__all__ = ["Taken", "plan"]

Taken = Callable[[bytes, Mapping[str, NDArray[Any]]], AbstractSet[str]]
"""The nodes that a provider takes of a model, of which large constants are given by name."""


def plan(
    model: ir.Model,
    layout: Layout,
    *,
    provider: str,
    inferred: Inferred,
    everything: bool = False,
    taken: Taken | None = None,
    absorb: bool = True,
) -> Plan:
    """The plan of a model as the frontend gives it; its nodes say why they are on the host, if they are.

    ``everything`` puts all of them there, for ``provider`` to run.  With ``taken`` the provider gets what
    that tells, and the CPU's what is left for the host.  ``inferred`` finds the shapes that onnx can't.
    ``absorb`` puts what is little there too, where it lies between what is there already.

    Raises:
        UnsupportedError: what can't run on OpenCL is no node of the model.
    """
    model = simplify(model)
    if add_types(model, inferred):
        model = simplify(model)
    ops = {str(node.name): f"{node.domain}::{node.op_type}" if node.domain else node.op_type for node in model.graph}
    rest = provider if taken is None else CPU
    if everything:
        hosts = {name: Host("asked for", provider) for name in ops}
    else:
        hosts = {name: Host(why, rest) for name, why in obvious(model.graph).items()}
    if taken is not None:
        hosts |= {name: Host(f"taken by {provider}", provider) for name in taken(*whole(model)) if name in ops}
    while True:
        nodes = [Node(name, op, hosts[name].reason if name in hosts else "") for name, op in ops.items()]
        try:
            found = lower(specialise(model.clone(), hosts), layout, nodes)
            little = islands(model.graph, hosts) if hosts and absorb else ()
            more = {name: Host("little, between nodes on the host", rest) for name in little}
            if not more:
                return found
        except UnsupportedError as error:
            more = {name: Host(why, rest) for names, why in error.nodes.items() for name in names.split()}
            more = {name: host for name, host in more.items() if name in ops and name not in hosts}
            if not more:
                raise
        hosts |= more
