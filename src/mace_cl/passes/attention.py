"""``MatMul``, scale, mask, ``Softmax``, ``MatMul`` become one ``mace_cl::Attention`` that reads its operands in place.

The scale may stand before the first product instead, on one operand or both; the mask is what is added to the scores.
Transposes, splits and reshapes that only drop dimensions of size 1 before and after are followed: the
node's attributes say with which strides each operand is read and the result written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mace_cl.graph import DOMAIN, array_of, attribute, is_constant, is_fp32, nodes_of, static_shape
from mace_cl.passes.rewrite import replace, sole_use

__all__ = ["AttentionPass"]

_MOST_KEYS = 1024
"""The scores of a block of queries must fit a core's cache."""


class AttentionPass(ir.passes.InPlacePass):
    """See the module."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        opset = model.opset_imports.get("", 0)
        fused = [_fuse(node, opset) for node in list(model.graph) if node.op_type == "Softmax" and node.domain == ""]
        return ir.passes.PassResult(model, modified=any(fused))


def _fuse(softmax: ir.Node, opset: int) -> bool:
    found = _scores(softmax.inputs[0])
    shape = static_shape(softmax.outputs[0])
    if found is None or shape is None or len(shape) != 4 or not sole_use(softmax.outputs[0]):
        return False
    if attribute(softmax, "axis", -1 if opset >= 13 else 1) not in (-1, 3) or shape[3] > _MOST_KEYS:
        return False
    scores, scale, mask = found
    if mask is not None and not _broadcasts(mask, shape):
        return False
    (use,) = softmax.outputs[0].uses()
    product = use.node
    if product.op_type != "MatMul" or product.domain != "" or use.idx != 0:
        return False
    (q, before), (k, also) = (_scaled(value) for value in scores.inputs)
    scale, v = scale * before * also, product.inputs[1]
    sizes = [static_shape(value) for value in (q, k, v)]
    if any(size is None or len(size) != 4 or size[:2] != shape[:2] for size in sizes):
        return False
    if any(value is None or not is_fp32(value) or is_constant(value) for value in (q, k, v)):
        return False
    accesses = [_access(value) for value in (q, k, v) if value is not None]
    base, offset, strides = accesses[1]
    accesses[1] = base, offset, [*strides[:2], strides[3], strides[2]]
    depth, width = sizes[0][3], sizes[2][3]  # type: ignore[index]
    if mask is not None:
        accesses.append((mask, 0, _broadcast(static_shape(mask) or (), len(shape))))
    last, steps = product, [shape[1] * shape[2] * width, shape[2] * width, width, 1]
    uses = list(product.outputs[0].uses())
    after = uses[0].node if len(uses) == 1 and sole_use(product.outputs[0]) else None
    if after is not None and after.op_type == "Transpose" and attribute(after, "perm") == (0, 2, 1, 3):
        last, steps = after, [shape[1] * shape[2] * width, width, shape[1] * width, 1]
    attributes = {
        "sizes": [*shape, depth, width],
        "scale": scale,
        "offsets": [offset for _, offset, _ in accesses],
        "strides": [step for _, _, strides in accesses for step in strides] + steps,
    }
    names = [nodes_of(node) for node in (scores, softmax, product)]
    replace(last, "Attention", [base for base, _, _ in accesses], attributes, DOMAIN, names)
    return True


def _scores(value: ir.Value | None) -> tuple[ir.Node, float, ir.Value | None] | None:
    """The ``MatMul`` that makes ``value``, the constant by which its result is multiplied, and what is added then."""
    node = value.producer() if value is not None else None
    if node is not None and node.domain == "" and node.op_type == "Add" and sole_use(value):
        for score, mask in (node.inputs, reversed(node.inputs)):
            found = _scores(score)
            if found is not None and found[2] is None and mask is not None:
                return found[0], found[1], _unexpanded(mask)
        return None
    value, scale = _scaled(value)
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "MatMul" or node.domain != "" or not sole_use(value):
        return None
    return node, scale, None


def _scaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """What is multiplied by a constant, or divided by one, to make ``value``; and by how much."""
    node = value.producer() if value is not None else None
    if node is None or node.domain != "" or node.op_type not in ("Mul", "Div") or not sole_use(value):
        return value, 1.0
    at = 0 if node.op_type == "Mul" and _is_scalar(node.inputs[0]) else 1
    factor, other = node.inputs[at], node.inputs[1 - at]
    if not _is_scalar(factor) or static_shape(other) != static_shape(value):
        return value, 1.0
    number = float(np.asarray(array_of(factor)).reshape(-1)[0])
    if number == 0 or not math.isfinite(number):
        return value, 1.0
    return other, number if node.op_type == "Mul" else 1 / number


def _is_scalar(value: ir.Value | None) -> bool:
    return value is not None and is_constant(value) and math.prod(static_shape(value) or ()) == 1


def _unexpanded(mask: ir.Value) -> ir.Value:
    """What ``mask`` was before it was broadcast."""
    while (node := mask.producer()) is not None and (node.domain, node.op_type) == ("", "Expand"):
        if (source := node.inputs[0]) is None:
            break
        mask = source
    return mask


def _broadcasts(mask: ir.Value, shape: tuple[int, ...]) -> bool:
    """Whether the mask is fp32, and of the scores' shape but for axes of size 1."""
    own = static_shape(mask)
    if own is None or len(own) > len(shape) or not is_fp32(mask):
        return False
    return all(a in (1, b) for a, b in zip(own[::-1], shape[::-1], strict=False))


def _broadcast(own: tuple[int, ...], rank: int) -> list[int]:
    """Strides along ``rank`` axes of a row-major value that is broadcast to them."""
    strides, step = [0] * rank, 1
    for index, size in enumerate(reversed(own)):
        strides[rank - 1 - index] = step if size > 1 else 0
        step *= size
    return strides


@dataclass
class _Axis:
    """An axis of a value: which axis of the view moves along it, and where the view begins."""

    moves: int | None
    begin: int = 0


def _access(value: ir.Value) -> tuple[ir.Value, int, list[int]]:
    """The value that ``value`` is a view of, and where: offset and strides in elements of its row-major form."""
    shape = static_shape(value) or ()
    rank, axes = len(shape), [_Axis(index) for index in range(len(shape))]
    while (node := value.producer()) is not None and node.domain == "" and (source := node.inputs[0]) is not None:
        before, after = static_shape(source), static_shape(value)
        if before is None or after is None:
            break
        if node.op_type == "Transpose":
            order = attribute(node, "perm", tuple(reversed(range(len(before)))))
            axes = [axes[order.index(index)] for index in range(len(before))]
        elif node.op_type == "Split":
            axis = attribute(node, "axis", 0) % len(before)
            sizes = [(static_shape(part) or before)[axis] for part in node.outputs]
            axes[axis] = _Axis(axes[axis].moves, axes[axis].begin + sum(sizes[: value.index() or 0]))
        elif node.op_type == "Reshape" and [s for s in before if s > 1] == [s for s in after if s > 1]:
            kept = iter(axis for axis, size in zip(axes, after, strict=True) if size > 1)
            axes = [next(kept) if size > 1 else _Axis(None) for size in before]
        else:
            break
        value = source
    offset, step, strides = 0, 1, [0] * rank
    for axis, size in zip(reversed(axes), reversed(static_shape(value) or ()), strict=True):
        offset += axis.begin * step
        if axis.moves is not None:
            strides[axis.moves] = step
        step *= size
    return value, offset, strides
