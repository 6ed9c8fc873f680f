"""``mace-cl validate``: agreement, thresholds, and the layer that departs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mace_cl.cli import main
from mace_cl.device import Device
from mace_cl.tools import validate as tool
from support import case, model_of

CASE = case(
    "net",
    "a = Conv<pads=[1,1,1,1]>(x, w) b = Tanh(a) c = Conv<pads=[1,1,1,1]>(b, v) y = Sigmoid(c)",
    x=(1, 3, 6, 5), w=(4, 3, 3, 3), v=(4, 4, 3, 3),
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CL_DEVICE", device.runtime)
    onnx.save(model_of(CASE), "net.onnx")
    return tmp_path


def test_agrees(here: Path, capsys: pytest.CaptureFixture[str], device: Device) -> None:
    Path("data").mkdir()
    for number in range(2):
        np.save(f"data/{number}.npy", CASE.inputs["x"] * np.float32(number + 1))
    assert main(["validate", "net.onnx", "--data", "data", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["samples"], found["departure"]) == (True, 2, None)
    assert found["threshold"] == tool.THRESHOLDS["cpu" if device.kind == "cpu" else "gpu"]
    assert found["outputs"][0]["maximum"] < 1e-5
    assert not Path("validate-inputs.npz").exists()


def test_the_first_layer_that_departs(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = tool._ours

    def wrong_from_c(*args: Any) -> Any:
        return {name: -value if name in "cy" else value for name, value in right(*args).items()}

    monkeypatch.setattr(tool, "_ours", wrong_from_c)
    assert main(["validate", "net.onnx", "--json"]) == 9
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert (found["departure"]["op"], found["departure"]["after"]["name"]) == ("Conv", "c")
    assert found["departure"]["after"]["cosine"] == pytest.approx(-1, abs=1e-4)
    assert [one["name"] for one in found["departure"]["before"]] == ["b"]
    assert found["departure"]["before"][0]["cosine"] > 0.999
    with np.load("validate-inputs.npz") as saved:
        assert saved["x"].shape == (1, 3, 6, 5)
    assert main(["validate", "net.onnx"]) == 9
    assert "FAILED" in capsys.readouterr().out


def test_what_does_not_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for argv, said in (
        (["absent.onnx"], "no such file"),
        (["net.onnx", "--data", "empty"], "no .npy or .npz files"),
        (["net.onnx", "--threshold", "2"], "between -1 and 1"),
    ):
        assert main(["validate", *argv]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_agreement() -> None:
    one = np.array([3.0, 4.0, np.nan], np.float32)
    assert tool.agreement("n", one, one) == tool.Agreement("n", 1.0, math.inf, 0.0, 0.0)
    found = tool.agreement("n", np.array([3.0, 4.5]), np.array([3.0, 4.0]))
    assert found.sqnr == pytest.approx(20.0)
    assert (found.maximum, found.mean) == (0.5, 0.25)
    assert tool.agreement("n", np.array([np.nan]), np.array([1.0])).cosine == 0
    assert tool.agreement("n", np.zeros(2), np.ones(2)).sqnr == 0.0
