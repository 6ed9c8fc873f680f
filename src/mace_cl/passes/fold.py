"""Fold constants and infer shapes until neither finds more; the work is onnxscript's and onnx's."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import common

__all__ = ["FoldPass"]

_MOST_ROUNDS = 16


class FoldPass(ir.passes.InPlacePass):
    """After it, what depends on constants and static shapes alone is an initializer."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        from onnxscript.optimizer import fold_constants

        modified = False
        for _ in range(_MOST_ROUNDS):
            before = _state(model)
            common.ShapeInferencePass(strict_mode=False)(model)
            fold_constants(model, input_size_limit=1 << 24, output_size_limit=1 << 28)
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            common.IdentityEliminationPass()(model)
            common.RemoveUnusedNodesPass()(model)
            if _state(model) == before:
                break
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _state(model: ir.Model) -> tuple[int, int]:
    known = sum(value.shape is not None for node in model.graph for value in node.outputs)
    return sum(1 for _ in model.graph), known
