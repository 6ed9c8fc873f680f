"""Lowering of each op; ``LOWERINGS`` is the table of what runs on OpenCL."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from mace_cl.graph import DOMAIN
from mace_cl.ops import (
    along_axis,
    attention,
    channels,
    columns,
    contraction,
    convolution,
    elementwise,
    host,
    indexing,
    matmul,
    movement,
    normalization,
    pointwise,
    pooling,
    quantization,
    random,
    recurrent,
    reduction,
    resizing,
    spatial,
    statistics,
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
    ("", "ArgMax"): along_axis.lower_arg,
    ("", "ArgMin"): along_axis.lower_arg,
    ("", "AveragePool"): pooling.lower_pool,
    ("", "BatchNormalization"): statistics.lower_batch_norm,
    ("", "Bernoulli"): random.lower_bernoulli,
    ("", "Cast"): pointwise.lower_cast,
    ("", "Col2Im"): columns.lower_col2im,
    ("", "Concat"): movement.lower_concat,
    ("", "Conv"): convolution.lower_conv,
    ("", "ConvInteger"): quantization.lower_integer_conv,
    ("", "ConvTranspose"): convolution.lower_conv_transpose,
    ("", "CumProd"): along_axis.lower_cumulative,
    ("", "CumSum"): along_axis.lower_cumulative,
    ("", "DeformConv"): columns.lower_deform_conv,
    ("", "DepthToSpace"): spatial.lower_depth_to_space,
    ("", "DequantizeLinear"): quantization.lower_dequantize,
    ("", "Einsum"): contraction.lower_einsum,
    ("", "Expand"): movement.lower_expand,
    ("", "EyeLike"): indexing.lower_eye_like,
    ("", "GRU"): recurrent.lower_recurrent,
    ("", "Gather"): movement.lower_gather,
    ("", "GatherElements"): indexing.lower_gather_elements,
    ("", "GatherND"): indexing.lower_gather_nd,
    ("", "GlobalAveragePool"): pooling.lower_global_pool,
    ("", "GlobalLpPool"): pooling.lower_global_pool,
    ("", "GlobalMaxPool"): pooling.lower_global_pool,
    ("", "GridSample"): spatial.lower_grid_sample,
    ("", "GroupNormalization"): statistics.lower_group_norm,
    ("", "Hardmax"): along_axis.lower_hardmax,
    ("", "Identity"): movement.lower_reshape,
    ("", "InstanceNormalization"): normalization.lower_instance_norm,
    ("", "LRN"): statistics.lower_lrn,
    ("", "LSTM"): recurrent.lower_recurrent,
    ("", "LayerNormalization"): normalization.lower_layer_norm,
    ("", "LogSoftmax"): normalization.lower_softmax,
    ("", "LpNormalization"): statistics.lower_lp_norm,
    ("", "MatMul"): matmul.lower_matmul,
    ("", "MatMulInteger"): quantization.lower_integer_matmul,
    ("", "LpPool"): pooling.lower_pool,
    ("", "MaxPool"): pooling.lower_pool,
    ("", "MaxRoiPool"): spatial.lower_max_roi_pool,
    ("", "MaxUnpool"): pooling.lower_max_unpool,
    ("", "MeanVarianceNormalization"): statistics.lower_mean_variance,
    ("", "OneHot"): indexing.lower_one_hot,
    ("", "Pad"): resizing.lower_pad,
    ("", "QLinearConv"): quantization.lower_integer_conv,
    ("", "QLinearMatMul"): quantization.lower_integer_matmul,
    ("", "QuantizeLinear"): quantization.lower_quantize,
    ("", "RMSNormalization"): statistics.lower_layer_norm_any,
    ("", "RNN"): recurrent.lower_recurrent,
    ("", "RandomNormal"): random.lower_random,
    ("", "RandomNormalLike"): random.lower_random,
    ("", "RandomUniform"): random.lower_random,
    ("", "RandomUniformLike"): random.lower_random,
    ("", "Reshape"): movement.lower_reshape,
    ("", "Resize"): resizing.lower_resize,
    ("", "ReverseSequence"): spatial.lower_reverse_sequence,
    ("", "RoiAlign"): spatial.lower_roi_align,
    ("", "Scatter"): indexing.lower_scatter_elements,
    ("", "ScatterElements"): indexing.lower_scatter_elements,
    ("", "ScatterND"): indexing.lower_scatter_nd,
    ("", "Slice"): movement.lower_slice,
    ("", "Softmax"): normalization.lower_softmax,
    ("", "SpaceToDepth"): spatial.lower_space_to_depth,
    ("", "Split"): movement.lower_split,
    ("", "Tile"): indexing.lower_tile,
    ("", "TopK"): along_axis.lower_topk,
    ("", "Transpose"): movement.lower_transpose,
    ("", "Trilu"): indexing.lower_trilu,
    ("", "Upsample"): resizing.lower_resize,
    **{("", f"Reduce{kind}"): reduction.lower_reduce for kind in reduction.GENERAL},
    **{("", name): pointwise.lower_pointwise for name in pointwise.POINTWISE},
}

TYPED: frozenset[tuple[str, str]] = frozenset({(DOMAIN, "Host")}) | frozenset(
    ("", name)
    for name in (
        "ArgMax", "ArgMin", "BatchNormalization", "Bernoulli", "Cast", "Col2Im", "Concat", "ConvInteger", "CumProd",
        "CumSum", "DepthToSpace", "DequantizeLinear", "Einsum", "Expand", "EyeLike", "GRU", "Gather", "GatherElements",
        "GatherND", "GroupNormalization", "Hardmax", "Identity", "InstanceNormalization", "LSTM", "LayerNormalization",
        "LpNormalization", "MatMul", "MatMulInteger", "MaxPool", "MaxUnpool", "OneHot", "Pad", "QLinearConv",
        "QLinearMatMul", "QuantizeLinear", "RMSNormalization", "RNN", "RandomNormal", "RandomNormalLike",
        "RandomUniform", "RandomUniformLike", "Reshape", "Resize", "ReverseSequence", "RoiAlign", "Scatter",
        "ScatterElements", "ScatterND", "Slice", "SpaceToDepth", "Split", "Tile", "TopK", "Transpose", "Trilu",
        "Upsample",
        *(f"Reduce{kind}" for kind in reduction.GENERAL),
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
