"""Published networks in ``../shared/real`` beside the checkout: run on the inputs of reference files, and compared.

Each folder has a ``SOURCE.txt`` that says where it comes from and how the right answer is known.  The inputs and
outputs of other engines are the ``in:`` and ``out:`` arrays of the ``ref`` files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pytest

from mace_cl.frontends.formats import opened, recognise
from mace_cl.runtime.executor import Executor
from support import Array, Outputs, Start, difference

__all__ = ["FLOAT", "FOLDER", "STEPS", "Networks", "Row", "beside", "reference_file", "separate"]

FOLDER = Path(__file__).parents[2] / "shared" / "real"
FLOAT, STEPS = 1e-4, 0.99
"""The greatest difference, relative to the greatest element; the least share within one step of the output's grid."""

beside = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the real networks are not beside the checkout (../shared/real)"
)


@dataclass
class Row:
    """What was seen of one network: the worst of its samples, and its right answers."""

    format: str
    samples: int = 0
    worst: float | None = None
    steps: float | None = None
    answers: list[str] = field(default_factory=list)

    def and_(self, other: Row) -> Row:
        """What both have seen of one network."""
        worst = [one for one in (self.worst, other.worst) if one is not None]
        steps = [one for one in (self.steps, other.steps) if one is not None]
        return Row(
            self.format, self.samples + other.samples, max(worst, default=None), min(steps, default=None),
            other.answers + self.answers,
        )  # fmt: skip


class Networks:
    """Networks by their file below `FOLDER`, each started once."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._executors: dict[str, Executor] = {}
        self.rows: dict[str, Row] = {}

    def outputs(self, network: str, inputs: Mapping[str, Array]) -> Outputs:
        """The outputs on the device."""
        if network not in self._executors:
            shapes = {name: array.shape for name, array in inputs.items()}
            self._executors[network] = self._start(FOLDER / network, shapes=shapes)
        return self._executors[network].run(dict(inputs))

    def run(self, network: str, name: str) -> Outputs:
        """The outputs on the inputs of a reference file, once they agree with that file's."""
        inputs, expected = reference_file(network, name)
        got = self.outputs(network, inputs)
        assert got.keys() == expected.keys()
        for output, array in expected.items():
            self.agrees(network, f"{name}, {output}", got[output], array)
        self.row(network).samples += 1
        return got

    def agrees(self, network: str, what: str, got: Array, expected: Array, step: float = 1) -> None:
        """Floats within `FLOAT`; integers, and floats on a grid of that ``step``, within a step on `STEPS` of them."""
        row = self.row(network)
        assert got.dtype == expected.dtype
        assert got.shape == expected.shape
        if expected.dtype.kind == "f" and step == 1:
            found = difference(got, expected)
            row.worst = max(found, row.worst or 0.0)
            assert found <= FLOAT, f"{network}, {what}: {found:.1e} of the largest"
            return
        share = float(np.mean(np.abs(got.astype(np.float64) - expected) <= step * 1.001))
        row.steps = min(share, 1.0 if row.steps is None else row.steps)
        assert share >= STEPS, f"{network}, {what}: {share:.2%} within a step"

    def answered(self, network: str, answer: object) -> None:
        """Note a right answer, once it was seen to be right."""
        self.row(network).answers.append(str(answer))

    def row(self, network: str) -> Row:
        if network not in self.rows:
            path = FOLDER / network
            with opened(path if path.exists() else path.with_suffix(".prototxt")) as view:
                form = recognise(view)
            self.rows[network] = Row(form.title if form and path.exists() else "written as MACE's")
        return self.rows[network]

    def write(self, path: Path) -> None:
        """Add the rows to a file of JSON."""
        rows = json.loads(path.read_text()) if path.exists() else {}
        for network, row in self.rows.items():
            rows[network] = asdict(row.and_(Row(**rows[network])) if network in rows else row)
        path.write_text(json.dumps(rows))

    def close(self) -> None:
        for executor in self._executors.values():
            executor.close()
        self._executors.clear()


def reference_file(network: str, name: str) -> tuple[Outputs, Outputs]:
    """Inputs and outputs of a file in ``ref`` beside a network."""
    with np.load((FOLDER / network).parent / "ref" / f"{name}.npz") as arrays:
        inputs = {key[3:]: arrays[key] for key in arrays if key.startswith("in:")}
        expected = {re.sub(r"^out:(\d+:(?=.))?", "", key): arrays[key] for key in arrays if key.startswith("out:")}
    return inputs, expected


def separate(boxes: Array, scores: Array, overlap: float) -> list[int]:
    """Non-maximum suppression of boxes (x1, y1, x2, y2): indices of those kept, the best first."""
    kept: list[int] = []
    for index in np.argsort(-scores).tolist():
        left_top = np.maximum(boxes[index, :2], boxes[kept, :2])
        right_bottom = np.minimum(boxes[index, 2:], boxes[kept, 2:])
        shared = np.prod(np.maximum(right_bottom - left_top, 0), axis=-1)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
        if np.all(shared <= overlap * (area[index] + area[kept] - shared)):
            kept.append(index)
    return kept
