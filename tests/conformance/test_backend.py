"""ONNX's backend tests: all pass but those listed, none of those passes in ONNX Runtime, most run wholly on OpenCL."""

from __future__ import annotations

import os
import re
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path

import pytest

from backend import ONNXRUNTIME, OPENCL_TYPES, attempt, cases, run, summary
from mace_cl.device import Device

IGNORED = Path(__file__).parent / "backend_ignored"
"""Lists of tests that fail, or patterns of such, each with the reason: for all runtimes, and for one by its name."""

MAY_PASS = "may pass"
"""How the reason begins where it hangs on the machine."""

BEFORE = re.compile(r"before (\d+)\.(\d+): ")
"""How the reason begins where a later ONNX Runtime passes it."""

WHOLLY = 0.75
"""The share of the node tests of `OPENCL_TYPES` that run wholly on OpenCL, at least."""


def ignored(runtime: str) -> dict[str, str]:
    texts = [
        path.read_text(encoding="utf-8") for name in ("all", runtime) if (path := IGNORED / f"{name}.txt").exists()
    ]
    lines = "\n".join(texts).splitlines()
    listed = dict(line.split(maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {name: why for name, why in listed.items() if not _over(why)}


def _over(why: str) -> bool:
    installed = tuple(map(int, version("onnxruntime").split(".")[:2]))
    return (found := BEFORE.match(why)) is not None and installed >= tuple(map(int, found.groups()))


@pytest.mark.slow
def test_backend(device: Device) -> None:
    outcomes = run(device.runtime, jobs=os.cpu_count() or 1)
    print(summary(outcomes))
    allowed = ignored(device.runtime)
    failed = {one.name: f"{one.status}: {one.why}" for one in outcomes if one.status != "passed"}
    assert {name: why for name, why in failed.items() if not any(fnmatchcase(name, line) for line in allowed)} == {}
    passed = [one.name for one in outcomes if one.status == "passed"]
    found = {line: [name for name in (*passed, *failed) if fnmatchcase(name, line)] for line in allowed}
    assert [line for line, names in found.items() if not names] == [], "no such test"
    strict = {line for line, why in allowed.items() if not why.startswith(MAY_PASS)}
    assert [name for name in passed if any(fnmatchcase(name, line) for line in strict)] == [], "listed, but passes"
    oracle = {one[0]: attempt(*one, ONNXRUNTIME).status for one in cases() if one[0] in failed}
    assert [name for name, status in oracle.items() if status == "passed"] == [], "ONNX Runtime passes it"
    nodes = [one for one in outcomes if one.kind == "node" and set(one.types) <= OPENCL_TYPES]
    assert sum(one.status == "passed" and one.route == "opencl" for one in nodes) >= WHOLLY * len(nodes)
