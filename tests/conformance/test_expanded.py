"""Ops that ONNX defines by others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support import Case, Results, Start, agree, case

QKV: dict[str, Any] = {"x": (2, 4, 5, 8), "x1": (2, 4, 7, 8), "x2": (2, 4, 7, 8)}
GROUPED: dict[str, Any] = {"x": (2, 6, 5, 8), "x1": (2, 3, 7, 8), "x2": (2, 3, 7, 8)}
FLAT: dict[str, Any] = {"x": (2, 5, 24), "x1": (2, 7, 24), "x2": (2, 7, 24)}
PAST: dict[str, Any] = {"x3": (2, 4, 6, 8), "x4": (2, 4, 6, 8)}
MASK = np.random.default_rng(0).random((5, 7)) > 0.3

ATTENTION = [
    case("plain", "y = Attention(x, x1, x2)", **QKV, opset=23),
    case("scale", "y = Attention<scale=0.3>(x, x1, x2)", **QKV, opset=23),
    case("causal", "y = Attention<is_causal=1>(x, x1, x2)", **QKV, opset=23),
    case("softcap", "y = Attention<softcap=2.0>(x, x1, x2)", **QKV, opset=23),
    case("mask", "y = Attention(x, x1, x2, m)", **QKV, m=(5, 7), opset=23),
    case("mask_bool", "y = Attention(x, x1, x2, x5)", **QKV, x5=MASK, opset=23),
    case("grouped", "y = Attention(x, x1, x2)", **GROUPED, opset=23),
    case("flat", "y = Attention<q_num_heads=3, kv_num_heads=3>(x, x1, x2)", **FLAT, opset=23),
    case("past", "y, y1, y2 = Attention(x, x1, x2, , x3, x4)", **QKV, **PAST, opset=23),
    case("scores", "y, , , y1 = Attention<qk_matmul_output_mode=0>(x, x1, x2)", **QKV, opset=23),
    case("scores_softmax", "y, , , y1 = Attention<qk_matmul_output_mode=3>(x, x1, x2)", **QKV, opset=23),
    case("opset_24", "y = Attention<is_causal=1>(x, x1, x2)", **GROUPED, opset=24),
]

ROTARY = [
    case("rotary", "y = RotaryEmbedding(x, c, s, p)", x=(2, 3, 4, 8), c=(50, 4), s=(50, 4),
         p=np.array([[0, 1, 2, 3], [5, 6, 7, 8]]), opset=23),
    case("rotary_input", "y = RotaryEmbedding(x, c, s, x1)", x=(2, 3, 4, 8), c=(50, 4), s=(50, 4),
         x1=np.array([[0, 1, 2, 3], [5, 6, 7, 8]]), opset=23),
    case("rotary_interleaved", "y = RotaryEmbedding<interleaved=1>(x, c, s)", x=(2, 3, 4, 8), c=(2, 4, 4),
         s=(2, 4, 4), opset=23),
    case("rotary_partial", "y = RotaryEmbedding<rotary_embedding_dim=4>(x, c, s)", x=(2, 3, 4, 8), c=(2, 4, 2),
         s=(2, 4, 2), opset=23),
    case("rotary_flat", "y = RotaryEmbedding<num_heads=3>(x, c, s)", x=(2, 4, 24), c=(2, 4, 4), s=(2, 4, 4), opset=23),
]  # fmt: skip

FAMILIES = {"attention": ATTENTION, "rotary": ROTARY}


@pytest.fixture(scope="module")
def results(start_whole: Start) -> Results:
    return Results(start_whole, FAMILIES)


@pytest.mark.parametrize(
    ("family", "one"), [pytest.param(family, one, id=f"{family}-{one}") for family, cases in FAMILIES.items()
                        for one in cases]
)  # fmt: skip
def test_expanded(family: str, one: Case, results: Results) -> None:
    agree(results.of(family, one), one.expected, 1e-5)
