"""Graph to plan: ops choose kernels and layouts; copies that views can replace are dropped."""

from __future__ import annotations

from mace_cl.kernels.groups import grouped, usual
from mace_cl.lower.halves import halve, pack, render
from mace_cl.lower.lower import lower
from mace_cl.lower.memory import Arena, assign
from mace_cl.lower.winograd import Algorithm, direct, estimated, with_algorithms

__all__ = [
    "Algorithm",
    "Arena",
    "assign",
    "direct",
    "estimated",
    "grouped",
    "halve",
    "lower",
    "pack",
    "render",
    "usual",
    "with_algorithms",
]
