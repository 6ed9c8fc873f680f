"""MACE's operators that are chosen by number: what each number means."""

from __future__ import annotations

__all__ = ["ELTWISE", "REDUCE"]

ELTWISE = (
    "SUM", "SUB", "PROD", "DIV", "MIN", "MAX", "NEG", "ABS", "SQR_DIFF", "POW", "EQUAL", "FLOOR_DIV", "CLIP", "SIGN",
    "NONE", "NOT_EQUAL",
)  # fmt: skip
REDUCE = ("ReduceMean", "ReduceMin", "ReduceMax", "ReduceProd", "ReduceSum")
