"""One file for PoCL 3.0, PoCL 3.1, Intel's runtime and Mesa's rusticl (llvmpipe): each adds its part, each starts warm.

Every start is a process of its own, which loads one runtime.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mace_cl.demo import models
from support import difference, reference

RUNTIMES = ("pocl-3.0", "pocl-3.1", "intel", "rusticl")


def answer(*argv: object) -> Any:
    """What a command prints as JSON."""
    command = [sys.executable, "-m", "mace_cl", *map(str, argv), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("RUSTICL_ENABLE", "llvmpipe")  # Mesa's driver has no device unless it is asked for


@pytest.fixture
def runtimes(environment: None) -> tuple[str, ...]:
    here = {device["runtime"] for device in answer("devices")["devices"] if device["can_compile"]}
    if missing := set(RUNTIMES) - here:
        pytest.skip(f"needs {', '.join(sorted(missing))}; Debian's pocl-opencl-icd and mesa-opencl-icd, mace-cl[test]")
    return RUNTIMES


def digits(folder: Path) -> tuple[Path, dict[str, Any]]:
    shutil.copyfile(models.DIGITS, folder / "model.onnx")
    return folder / "model.onnx", {"image": models.digits_held_out()[0][:1]}


def mobilenet_v2(folder: Path) -> tuple[Path, dict[str, Any]]:
    (folder / "model.onnx").write_bytes(models.mobilenet_v2())
    return folder / "model.onnx", {"input": np.random.default_rng(0).standard_normal((1, 3, 224, 224), np.float32)}


@pytest.mark.slow
@pytest.mark.parametrize("make", [digits, mobilenet_v2])
def test_one_file_serves_four_runtimes(make: Any, runtimes: tuple[str, ...], tmp_path: Path) -> None:
    model, inputs = make(tmp_path)
    (values,) = inputs.values()
    np.save(tmp_path / "x.npy", values)
    expected = reference(onnx.load(model), inputs, "onnxruntime as users run it")
    program = tmp_path / "mace-cl-compiled-program.bin"

    def run(runtime: str, *argv: object) -> Any:
        found = answer("run", *argv, "-i", tmp_path / "x.npy", "-o", tmp_path / "y.npz", "--device", runtime)
        with np.load(tmp_path / "y.npz") as outputs:
            for output, wanted in expected.items():
                assert difference(outputs[output], wanted) <= 1e-4, runtime
        return found

    for number, runtime in enumerate(runtimes):
        code = run(runtime, model, "--program", program)["decision"]["code"]
        assert code == ("device-missing" if number else "no-file")
    whole = program.read_bytes()
    for runtime in runtimes:
        found = run(runtime, program)
        assert found["decision"]["code"] == "hit"
        assert found["device"]["runtime"] == runtime
        assert not {"compile", "proof", "read", "plan"} & set(found["timings"])
        print(f"{make.__name__} on {runtime}: warm in {sum(found['timings'].values()):.2f} s")
    assert program.read_bytes() == whole
    targets = answer("inspect", program)["targets"]
    assert len({json.dumps(target["signature"], sort_keys=True) for target in targets}) == len(runtimes) == len(targets)
    assert all(target["units_with_binary"] == target["units"] > 0 for target in targets)
    assert os.path.getsize(program) < 60e6
