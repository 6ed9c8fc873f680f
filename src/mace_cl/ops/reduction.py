"""ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd over constant axes."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.graph import array_of, attribute
from mace_cl.kernels.elementwise import contiguous
from mace_cl.kernels.reduce import Reduce
from mace_cl.ops.builder import Builder

__all__ = ["lower_reduce"]


def lower_reduce(builder: Builder, node: ir.Node) -> None:
    """Axes come as an attribute or, since opset 13 or 18, as an input; none means all."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape = builder.shape(x)
    axes = attribute(node, "axes")
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        given = array_of(node.inputs[1])
        if given is None:
            raise builder.unsupported(node, "the axes are not constant")
        axes = given.reshape(-1).tolist()
    if not axes and attribute(node, "noop_with_empty_axes", 0):
        builder.place(y, "nchw", builder.region(x))
        return
    reduced = sorted({axis % len(shape) for axis in axes} if axes else range(len(shape)))
    kept = [axis for axis in range(len(shape)) if axis not in reduced]
    strides = contiguous(shape)
    problem = Reduce(
        builder.block,
        tuple(shape[axis] for axis in kept) or (1,),
        tuple(strides[axis] for axis in kept) or (1,),
        tuple(shape[axis] for axis in reduced) or (1,),
        tuple(strides[axis] for axis in reduced) or (1,),
        node.op_type.removeprefix("Reduce").lower(),
    )
    source = builder.region(x)
    builder.emit(problem, [source], builder.allocate(y, "nchw"), node)
