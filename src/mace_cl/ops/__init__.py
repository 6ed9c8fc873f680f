"""Lowering of each op; ``LOWERINGS`` is the table of what runs on OpenCL."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from mace_cl.graph import DOMAIN
from mace_cl.ops import (
    attention,
    channels,
    columns,
    convolution,
    elementwise,
    host,
    matmul,
    movement,
    normalization,
    pointwise,
    pooling,
    reduction,
    resizing,
    spatial,
)
from mace_cl.ops.builder import Builder

__all__ = ["EPILOGUE_OPS", "LOWERINGS", "Builder"]

LOWERINGS: dict[tuple[str, str], Callable[[Builder, ir.Node], None]] = {
    (DOMAIN, "Attention"): attention.lower_attention,
    (DOMAIN, "ChannelGather"): channels.lower_channel_gather,
    (DOMAIN, "Elementwise"): elementwise.lower,
    (DOMAIN, "Host"): host.lower_host,
    (DOMAIN, "Linear"): convolution.lower_linear,
    ("", "AffineGrid"): spatial.lower_affine_grid,
    ("", "AveragePool"): pooling.lower_pool,
    ("", "Cast"): pointwise.lower_cast,
    ("", "Col2Im"): columns.lower_col2im,
    ("", "Concat"): movement.lower_concat,
    ("", "Conv"): convolution.lower_conv,
    ("", "ConvTranspose"): convolution.lower_conv_transpose,
    ("", "DeformConv"): columns.lower_deform_conv,
    ("", "DepthToSpace"): spatial.lower_depth_to_space,
    ("", "Expand"): movement.lower_expand,
    ("", "Gather"): movement.lower_gather,
    ("", "GlobalAveragePool"): pooling.lower_global_pool,
    ("", "GlobalLpPool"): pooling.lower_global_pool,
    ("", "GlobalMaxPool"): pooling.lower_global_pool,
    ("", "GridSample"): spatial.lower_grid_sample,
    ("", "Identity"): movement.lower_reshape,
    ("", "InstanceNormalization"): normalization.lower_instance_norm,
    ("", "LayerNormalization"): normalization.lower_layer_norm,
    ("", "LogSoftmax"): normalization.lower_softmax,
    ("", "MatMul"): matmul.lower_matmul,
    ("", "LpPool"): pooling.lower_pool,
    ("", "MaxPool"): pooling.lower_pool,
    ("", "MaxRoiPool"): spatial.lower_max_roi_pool,
    ("", "MaxUnpool"): pooling.lower_max_unpool,
    ("", "Pad"): resizing.lower_pad,
    ("", "ReduceMax"): reduction.lower_reduce,
    ("", "ReduceMean"): reduction.lower_reduce,
    ("", "ReduceMin"): reduction.lower_reduce,
    ("", "ReduceProd"): reduction.lower_reduce,
    ("", "ReduceSum"): reduction.lower_reduce,
    ("", "Reshape"): movement.lower_reshape,
    ("", "Resize"): resizing.lower_resize,
    ("", "ReverseSequence"): spatial.lower_reverse_sequence,
    ("", "RoiAlign"): spatial.lower_roi_align,
    ("", "Slice"): movement.lower_slice,
    ("", "Softmax"): normalization.lower_softmax,
    ("", "SpaceToDepth"): spatial.lower_space_to_depth,
    ("", "Split"): movement.lower_split,
    ("", "Transpose"): movement.lower_transpose,
    ("", "Upsample"): resizing.lower_resize,
    **{("", name): pointwise.lower_pointwise for name in pointwise.POINTWISE},
}

TYPED: frozenset[tuple[str, str]] = frozenset({(DOMAIN, "Host")}) | frozenset(
    ("", name)
    for name in (
        "Cast", "Col2Im", "Concat", "DepthToSpace", "Expand", "Gather", "Identity", "MaxPool", "MaxUnpool", "Pad",
        "Reshape", "Resize", "ReverseSequence", "RoiAlign", "Slice", "SpaceToDepth", "Split", "Transpose", "Upsample",
        *pointwise.POINTWISE,
    )
)  # fmt: skip
"""Ops that look at the types of their operands themselves; all others run on fp32 alone."""

EPILOGUE_OPS: dict[tuple[str, str], int] = {
    (DOMAIN, "Linear"): -1,
    ("", "AveragePool"): 1,
    ("", "Conv"): 1,
    ("", "ConvTranspose"): 0,
    ("", "GlobalAveragePool"): 1,
    ("", "InstanceNormalization"): 1,
    ("", "MatMul"): 0,
}
"""Ops whose kernels take an epilogue, with the axis of their channels; 0 where it can have no operands."""
