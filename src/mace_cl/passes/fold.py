"""Fold constants and infer shapes until neither finds more; the work is onnxscript's and onnx's."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from mace_cl.graph import array_of, static_shape
from mace_cl.passes.identity import IdentityPass

__all__ = ["FoldPass"]

_MOST_ROUNDS = 16


class FoldPass(ir.passes.InPlacePass):
    """After it, what depends on constants and static shapes alone is an initializer."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        fold = _folding() if any(map(_may_fold, model.graph)) else None
        modified = False
        for _ in range(_MOST_ROUNDS):
            before = _state(model)
            common.ShapeInferencePass(strict_mode=False)(model)
            _infer(model)
            if fold is not None:
                fold(model)
            common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
            IdentityPass()(model)
            common.RemoveUnusedNodesPass()(model)
            if _state(model) == before:
                break
            modified = True
        return ir.passes.PassResult(model, modified=modified)


def _may_fold(node: ir.Node) -> bool:
    computed = any(value is not None and value.const_value is None for value in node.inputs)
    return node.domain != "" or node.op_type not in _COMPUTING or not computed


def _folding() -> ir.passes.PassBase:
    from onnxscript.optimizer import _constant_folding

    class Folding(_constant_folding.FoldConstantsPass):
        """onnxscript's, without those of its rewrites of sequences that make ops of a later opset, or fail."""

        def process_node(self, node: ir.Node, is_function: bool) -> Any:
            if node.domain == "" and node.op_type in ("SplitToSequence", "ConcatFromSequence"):
                if (node.version or self._opset_imports.get("", 0)) < 18:
                    return None
                if node.op_type == "SplitToSequence" and len(node.inputs) > 1 and array_of(node.inputs[1]) is None:
                    return None
            return super().process_node(node, is_function)

    return Folding(
        shape_inference=False, input_size_limit=1 << 24, output_size_limit=_MOST_FOLDED, should_fold=_should_fold
    )


_COMPUTING = frozenset((
    "Add", "AveragePool", "BatchNormalization", "Clip", "Conv", "Flatten", "Gemm", "GlobalAveragePool", "HardSigmoid",
    "HardSwish", "LeakyRelu", "MaxPool", "Mul", "Relu", "Resize", "Sigmoid", "Softmax", "Tanh",
))  # fmt: skip
"""Ops that folding leaves as they are if one input is computed.

A model of these alone is read without onnxscript, whose import takes 0.1 s.
"""

_MOST_FOLDED = 1 << 28
_MOST_FILLED = 1 << 20

_SHAPED_LIKE_INPUT = frozenset(("GroupNormalization", "MeanVarianceNormalization"))
"""Ops that onnx infers no shape for."""


def _infer(model: ir.Model) -> None:
    for node in model.graph:
        if node.domain == "" and node.op_type in _SHAPED_LIKE_INPUT and node.inputs[0] is not None:
            node.outputs[0].shape, node.outputs[0].type = node.inputs[0].shape, node.inputs[0].type


def _should_fold(node: ir.Node) -> bool | None:
    """As by default, but quantised weights too, and ``ConstantOfShape`` where it is not large: shapes hang on it.

    What is known to be too large is not computed, or an Expand of one number could take all memory.
    """
    if any(shape is not None and prod(shape) > _MOST_FOLDED for shape in map(static_shape, node.outputs)):
        return False
    if node.op_type in ("DequantizeLinear", "QuantizeLinear") and not node.domain:
        return True
    if node.op_type != "ConstantOfShape" or node.domain or (shape := array_of(node.inputs[0])) is None:
        return None
    return True if np.prod(shape, dtype=np.float64) <= _MOST_FILLED else None


def _state(model: ir.Model) -> tuple[int, int]:
    known = sum(value.shape is not None for node in model.graph for value in node.outputs)
    return sum(1 for _ in model.graph), known
