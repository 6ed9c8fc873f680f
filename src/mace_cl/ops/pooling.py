"""MaxPool, AveragePool, GlobalAveragePool, GlobalMaxPool over rows and columns."""

from __future__ import annotations

import onnx_ir as ir

from mace_cl.graph import attribute, is_used
from mace_cl.kernels.base import ceil_div
from mace_cl.kernels.pool import Pool2D
from mace_cl.kernels.reduce import Reduce
from mace_cl.ops.builder import Builder
from mace_cl.ops.fused import epilogue_of

__all__ = ["lower_global_pool", "lower_pool"]


def lower_pool(builder: Builder, node: ir.Node) -> None:
    """2-D pools; an output of indices is not there yet."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape = builder.shape(x)
    if len(shape) != 4:
        raise builder.unsupported(node, f"only 2-D pools run so far, the input is {shape}")
    if len(node.outputs) > 1 and is_used(node.outputs[1]):
        raise builder.unsupported(node, "the output of indices is not supported yet")
    pads = attribute(node, "pads", (0, 0, 0, 0))
    window = builder.window(node, attribute(node, "kernel_shape"))
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    source = builder.blocked(x)
    target = builder.allocate(y, "blocked")
    problem = Pool2D(
        builder.block, shape[0], shape[1], window,
        "max" if node.op_type == "MaxPool" else "average",
        bool(attribute(node, "count_include_pad", 0)),
        (shape[2] + pads[0] + pads[2], shape[3] + pads[1] + pads[3]),
        epilogue,
    )  # fmt: skip
    builder.emit(problem, [source, *extras], target, node)


def lower_global_pool(builder: Builder, node: ir.Node) -> None:
    """``GlobalAveragePool`` and ``GlobalMaxPool`` of a rank-4 tensor."""
    x, y = node.inputs[0], node.outputs[0]
    assert x is not None
    shape = builder.shape(x)
    if len(shape) != 4:
        raise builder.unsupported(node, f"only 2-D pools run so far, the input is {shape}")
    n, channels, height, width = shape
    c, blocks, pixels = builder.block, ceil_div(channels, builder.block), height * width
    epilogue, extras = epilogue_of(builder, node, channel_axis=1)
    source = builder.blocked(x)
    target = builder.allocate(y, "blocked")
    kind = "mean" if node.op_type == "GlobalAveragePool" else "max"
    problem = Reduce(c, (n * blocks, c), (pixels * c, 1), (pixels,), (c,), kind, True, channels, epilogue)
    builder.emit(problem, [source, *extras], target, node)
