"""MatMul of two computed tensors; one constant matrix makes it `mace_cl::Linear` before."""

from __future__ import annotations

import math

import onnx_ir as ir

from mace_cl.kernels.elementwise import contiguous
from mace_cl.kernels.matmul import MatMul
from mace_cl.ops.builder import Builder
from mace_cl.ops.contraction import lower_contraction, matmul_labels
from mace_cl.ops.fused import epilogue_of

__all__ = ["lower_matmul"]


def lower_matmul(builder: Builder, node: ir.Node) -> None:
    """Any ranks from 1 on, leading dimensions broadcast, as ``numpy.matmul``."""
    a, b, y = node.inputs[0], node.inputs[1], node.outputs[0]
    assert a is not None
    assert b is not None
    left, right = builder.shape(a), builder.shape(b)
    if builder.type(a) != "float32":
        *labels, result = matmul_labels(len(left), len(right))
        lower_contraction(builder, node, [a, b], labels, result)
        return
    left = (1, *left) if len(left) == 1 else left
    right = (*right, 1) if len(right) == 1 else right
    (m, k), (depth, n) = left[-2:], right[-2:]
    rank = max(len(left), len(right)) - 2
    outer = [(1,) * (rank - len(shape) + 2) + shape[:-2] for shape in (left, right)]
    batch = tuple(max(pair) for pair in zip(*outer, strict=True))
    fits = depth == k and all(size in (1, whole) for shape in outer for size, whole in zip(shape, batch, strict=True))
    if not fits or math.prod(batch) * m * n != math.prod(builder.shape(y)):
        raise builder.unsupported(node, f"{left} and {right} can't be multiplied")
    strides = [
        tuple(0 if size == 1 else step * area for size, step in zip(shape, contiguous(shape), strict=True))
        for shape, area in zip(outer, (m * k, k * n), strict=True)
    ]
    epilogue, _ = epilogue_of(builder, node, channel_axis=-1)
    problem = MatMul(builder.block, batch, (strides[0], strides[1]), (m, k, n), epilogue)
    operands = [builder.plain(a), builder.plain(b)]
    builder.emit(problem, operands, builder.allocate(y, "nchw"), node)
