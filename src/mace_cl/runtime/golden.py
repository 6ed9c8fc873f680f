"""Golden vectors: inputs that need no storing, and what the network must answer to them.

The inputs follow from a formula over the element's index, the same on every machine and NumPy; the
outputs are kept in the program file, at most `MOST_VALUES` of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.program.program import Pairs
from mace_cl.schedule import ITEM_BYTES, Port, Schedule

__all__ = [
    "HALVES_TOLERANCE", "MOST_VALUES", "STEPS", "TOLERANCE", "Difference", "checkable", "compare", "expected",
    "golden_inputs", "quantises", "sample", "tolerance",
]  # fmt: skip

MOST_VALUES = 16384
"""Values that are kept of one output; of larger ones, evenly spaced elements."""

TOLERANCE = 1e-3
"""The greatest difference, as a share of the output's largest magnitude, that is taken for rounding."""

HALVES_TOLERANCE = 2.0**-5
"""The same where values are rounded to 16 bits on their way."""

STEPS, COSINE = 0.99, 0.98
"""What is rounding in a network that rounds tensors to a grid, where a sum near the middle of two steps may go either
way and the layers after it carry that on: this share of an integer output within one step, and of a float output this
cosine similarity, MACE's for quantised models.
"""


def golden_inputs(ports: Iterable[Port]) -> dict[str, Any]:
    """Floats in [-1.7, 1.7), of unit variance, integers and text from 0 to 15, from the bits of each index.

    Sequences, and what else is no array, are empty.

    The mixing steps are those of MurmurHash3's finaliser (Appleby, 2011).
    """
    inputs: dict[str, Any] = {}
    for number, port in enumerate(ports):
        if port.dtype not in ITEM_BYTES and port.dtype != "string":
            inputs[port.name] = []
            continue
        count = prod(port.shape or ())
        bits = np.arange(count, dtype=np.uint32) + np.uint32(0x9E3779B9 * (number + 1) % 2**32)
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            bits ^= bits >> np.uint32(shift)
            bits *= np.uint32(factor)
        bits ^= bits >> np.uint32(16)
        if port.dtype.startswith("float"):
            values = (bits.astype(np.float64) / 2**31 - 1) * np.sqrt(3)
        else:
            values = bits % np.uint32(2 if port.dtype == "bool" else 16)
        made = values.astype(str).astype(object) if port.dtype == "string" else values.astype(port.dtype)
        inputs[port.name] = made.reshape(port.shape or ())
    return inputs


def checkable(schedule: Schedule) -> tuple[str, ...]:
    """The outputs that the golden inputs determine: none where the model draws random numbers.

    Those whose shape hangs on the data, where rounding may decide, are not among them.
    """
    if any(node.op in _RANDOM for node in schedule.nodes):
        return ()
    return tuple(port.name for port in schedule.outputs if port.dtype in ITEM_BYTES and port.shape is not None)


def sample(output: NDArray[Any]) -> NDArray[np.float32]:
    """At most `MOST_VALUES` values of an output, evenly spaced in row-major order."""
    flat = output.reshape(-1)
    step = -(-flat.size // MOST_VALUES)
    return np.ascontiguousarray(flat[::step], dtype=np.float32)


def expected(golden: Sequence[tuple[str, memoryview]]) -> dict[str, NDArray[np.float32]]:
    """A part's golden values by output, as `compare` takes them."""
    return {name: np.frombuffer(values, np.float32) for name, values in golden}


_RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)


@dataclass(frozen=True)
class Difference:
    """The output that departs most: its name, and by how much of its largest magnitude."""

    output: str
    relative: float


def quantises(schedule: Schedule) -> bool:
    """Whether the network rounds tensors to a grid on its way."""
    return any(node.op.startswith(_ROUNDING) for node in schedule.nodes)


def tolerance(provenance: Pairs) -> float:
    """What `compare` may take for rounding in a part of this provenance."""
    return HALVES_TOLERANCE if any(name == "halves" for name, _ in provenance) else TOLERANCE


_ROUNDING = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinear")


def compare(
    golden: Mapping[str, NDArray[np.float32]],
    outputs: Mapping[str, NDArray[Any]],
    quantised: bool = False,
    allowed: float = TOLERANCE,
) -> Difference | None:
    """The worst output if it departs from its golden values by more than rounding, else None.

    That is ``allowed`` (see `tolerance`); in a ``quantised`` network (see `quantises`) also `STEPS` and `COSINE`.  NaN
    and infinities must stand where they stood.
    """
    worst = Difference("", 0.0)
    for name, wanted in golden.items():
        given = sample(outputs[name])
        if given.shape != wanted.shape or not np.array_equal(np.isfinite(given), np.isfinite(wanted)):
            return Difference(name, float("inf"))
        finite = np.isfinite(wanted)
        if not finite.any():
            continue
        if quantised and _on_a_grid(given[finite], wanted[finite], outputs[name].dtype):
            continue
        scale = max(float(np.abs(wanted[finite]).max()), 1e-30)
        relative = float(np.abs(given[finite] - wanted[finite]).max()) / scale
        if relative > worst.relative:
            worst = Difference(name, relative)
    return worst if worst.relative > allowed else None


def _on_a_grid(given: NDArray[np.float32], wanted: NDArray[np.float32], dtype: np.dtype[Any]) -> bool:
    if dtype in (np.int8, np.uint8, np.int16, np.uint16):
        return bool(np.mean(np.abs(given - wanted) <= 1) >= STEPS)
    if dtype.kind != "f":
        return False
    one, other = given.astype(np.float64), wanted.astype(np.float64)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other))
    return lengths > 0 and float(one @ other) / lengths >= COSINE
