"""ONNX's backend tests: what ONNX Runtime passes passes here, and most node tests run wholly on OpenCL."""

from __future__ import annotations

from pathlib import Path

import pytest

from backend import ONNXRUNTIME, OPENCL_TYPES, attempt, cases, summary
from mace_cl.device import Device

IGNORED = Path(__file__).parent / "backend_ignored"
"""A file per runtime, named like it; each line is a test and why it may fail."""

WHOLLY = 0.75
"""The share of the node tests of `OPENCL_TYPES` that run wholly on OpenCL, at least."""


def ignored(runtime: str) -> dict[str, str]:
    path = IGNORED / f"{runtime}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))


@pytest.mark.slow
def test_backend(device: Device) -> None:
    outcomes, worse, allowed = [], {}, ignored(device.runtime)
    for one in cases():
        here = attempt(*one, device.runtime)
        outcomes.append(here)
        if here.status != "passed" and one[0] not in allowed and attempt(*one, ONNXRUNTIME).status == "passed":
            worse[one[0]] = f"{here.status}: {here.why}"
    print(summary(outcomes))
    assert worse == {}
    nodes = [one for one in outcomes if one.kind == "node" and set(one.types) <= OPENCL_TYPES]
    assert sum(one.status == "passed" and one.route == "opencl" for one in nodes) >= WHOLLY * len(nodes)
