"""The passes that a model goes through, in order."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

from mace_cl.passes.canonical import CanonicalPass
from mace_cl.passes.channel_moves import ChannelMovesPass
from mace_cl.passes.fold import FoldPass
from mace_cl.passes.fold_affine import FoldAffinePass
from mace_cl.passes.fuse import FuseElementwisePass, FuseEpiloguePass
from mace_cl.passes.lift_elementwise import LiftElementwisePass

__all__ = ["PASSES", "optimise"]

PASSES: tuple[ir.passes.PassBase, ...] = (
    common.InlinePass(),  # model-local functions become plain nodes
    common.RemoveInitializersFromInputsPass(),  # IR version 3 lists weights as inputs
    FoldPass(),  # constants and shapes that can be known now
    CanonicalPass(),  # one form per meaning: explicit pads, Reshape, Slice, per-channel Mul and Add
    common.IdentityEliminationPass(),  # Dropout left some
    ChannelMovesPass(),  # shuffles, slices and concatenations of whole channels become one node
    common.RemoveUnusedNodesPass(),
    FoldAffinePass(),  # per-channel Mul and Add after Conv go into its weights
    LiftElementwisePass(),  # elementwise ops become expressions
    FuseElementwisePass(),  # chains of expressions become one
    FuseEpiloguePass(),  # an expression after Conv, Gemm or a pool becomes its epilogue
    common.CommonSubexpressionEliminationPass(),
    common.RemoveUnusedNodesPass(),
)


def optimise(model: ir.Model) -> ir.Model:
    """The model after all passes: every shape static, every op canonical or of domain ``mace_cl``."""
    return ir.passes.Sequential(*PASSES)(model).model
