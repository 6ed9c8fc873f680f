"""The passes that a model goes through, in order."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir
from onnx_ir.passes import common

from mace_cl.passes.attention import AttentionPass
from mace_cl.passes.canonical import CanonicalPass
from mace_cl.passes.channel_moves import ChannelMovesPass
from mace_cl.passes.expand import ExpandPass
from mace_cl.passes.fold import FoldPass
from mace_cl.passes.fold_affine import FoldAffinePass
from mace_cl.passes.fuse import FuseElementwisePass, FuseEpiloguePass
from mace_cl.passes.identity import IdentityPass
from mace_cl.passes.lift_elementwise import LiftElementwisePass
from mace_cl.passes.linear_rows import LinearRowsPass
from mace_cl.passes.place import Host, NamePass, PlacePass
from mace_cl.passes.qoperator import QOperatorPass
from mace_cl.passes.round_trip import RoundTripPass

__all__ = ["PASSES", "SIMPLIFYING", "optimise", "simplify", "specialise"]

SIMPLIFYING: tuple[ir.passes.PassBase, ...] = (
    common.InlinePass(),  # model-local functions become plain nodes
    QOperatorPass(),  # ONNX Runtime's quantised ops between DequantizeLinear and QuantizeLinear
    common.RemoveInitializersFromInputsPass(),  # IR version 3 lists weights as inputs
    NamePass(),  # reports and placement go by names
    FoldPass(),  # constants and shapes that can be known now
    NamePass(),  # what folding left unnamed
)

PASSES: tuple[ir.passes.PassBase, ...] = (
    ExpandPass(),  # ops that ONNX defines by others, where kernels know only those
    CanonicalPass(),  # one form per meaning: explicit pads, Reshape, Slice, per-channel Mul and Add
    IdentityPass(),  # Dropout left some
    LinearRowsPass(),  # reshapes around a matrix product, which would keep what follows from fusing
    AttentionPass(),  # products around a softmax, with the transposes of their operands
    common.RemoveUnusedNodesPass(),
    ChannelMovesPass(),  # shuffles, slices and concatenations of whole channels become one node
    common.RemoveUnusedNodesPass(),
    FoldAffinePass(),  # per-channel Mul and Add after Conv go into its weights
    RoundTripPass(),  # quantise and back becomes rounding
    LiftElementwisePass(),  # elementwise ops become expressions
    FuseElementwisePass(),  # chains of expressions become one
    FuseEpiloguePass(),  # an expression after Conv, Gemm or a pool becomes its epilogue
    common.CommonSubexpressionEliminationPass(),
    common.RemoveUnusedNodesPass(),
)


def simplify(model: ir.Model) -> ir.Model:
    """The model with constants folded, shapes inferred, and a name for each node."""
    return ir.passes.Sequential(*SIMPLIFYING)(model).model


def specialise(model: ir.Model, hosts: Mapping[str, Host]) -> ir.Model:
    """A simplified model after all other passes, changed in place: every op canonical or of domain ``mace_cl``.

    ``hosts`` are, by name, the nodes that do not run on the device.
    """
    return ir.passes.Sequential(PlacePass(hosts), *PASSES)(model).model


def optimise(model: ir.Model) -> ir.Model:
    """The model after all passes, with nothing on the host."""
    return specialise(simplify(model), {})
