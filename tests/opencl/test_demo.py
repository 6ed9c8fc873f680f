"""The demonstration's models, and all of its steps on the small one."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mace_cl.cli import main
from mace_cl.cli.demo import _show
from mace_cl.demo import models
from mace_cl.device import Device
from mace_cl.program.format import read
from mace_cl.tools import demo
from mace_cl.tools.common import PROGRAM_NAME, DeviceName


def test_digits_are_classified() -> None:
    images, labels = models.digits_held_out()
    assert images.shape == (360, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert models.DIGITS.stat().st_size < 300_000
    session = onnxruntime.InferenceSession(models.DIGITS)
    right = [
        session.run(None, {"image": image[None]})[0].argmax() == label
        for image, label in zip(images, labels, strict=True)
    ]
    assert np.mean(right) >= 0.97


def test_mobilenet_is_well_conditioned_and_the_same_each_time() -> None:
    data = models.mobilenet_v2()
    assert data == models.mobilenet_v2()
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    # 3 504 872 trained parameters in torchvision's MobileNet-v2 1.0, and mean and variance of 17 056 channels
    assert sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.dims) == 3_504_872 + 2 * 17_056
    session = onnxruntime.InferenceSession(data)
    one, other = (
        session.run(None, {"input": np.random.default_rng(seed).standard_normal((1, 3, 224, 224), np.float32)})[0][0]
        for seed in (0, 1)
    )
    assert np.isfinite(one).all()
    assert 0.1 < one.std() < 10
    assert np.abs(one - other).max() > 1e-3 * np.abs(one).max()


@pytest.fixture(scope="module")
def row(device: Device, tmp_path_factory: pytest.TempPathFactory) -> demo.Row:
    folder = tmp_path_factory.mktemp("demo")
    steps: list[str] = []
    args = demo.DemoArgs(device.runtime, folder, lambda what, done, total: steps.append(what))
    row, version = demo._measure("digits", folder, device, args)
    assert version == onnxruntime.__version__
    assert "digits: compiling kernels" in steps
    assert row.program == folder / "digits" / PROGRAM_NAME
    return row


def test_row(row: demo.Row) -> None:
    assert row.images == 360
    assert row.right is not None
    assert row.right >= 0.97 * 360
    assert row.difference is not None
    assert row.difference <= demo.AGREEMENT
    assert 0 < row.latency < row.warm < row.cold
    assert row.tax == row.cold - row.warm
    assert "compile" in row.cold_timings
    assert "compile" not in row.warm_timings


def test_the_program_is_whole(row: demo.Row) -> None:
    program = read(row.program)
    assert program.targets[0].constants is not None
    assert row.program_bytes == row.program.stat().st_size


def test_table(row: demo.Row, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    _show(demo.DemoResult(DeviceName.of(device), "1.0", row.program, (row,)))
    out = capsys.readouterr().out
    for text in (device.name, "cold start", "tax removed", f"({row.right}/360)", str(row.program)):
        assert text in out


def test_without_onnx_runtime(row: demo.Row, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    without = demo.Row(**{**asdict(row), "difference": None})
    _show(demo.DemoResult(DeviceName.of(device), None, None, (without,)))
    assert "not installed" in capsys.readouterr().out


def test_unwritable_directory(device: Device, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["demo", "--keep", str(tmp_path / "file" / "in"), "--device", device.runtime]) == 8
    assert "name another directory with --keep" in capsys.readouterr().err


@pytest.mark.slow
def test_whole_demo(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json", "--quiet", "--device", device.runtime]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    found = json.loads(said.out)
    assert [row["model"] for row in found["rows"]] == ["digits", "mobilenet-v2"]
    assert all(row["difference"] <= 1e-4 and row["tax"] > 0 for row in found["rows"])
