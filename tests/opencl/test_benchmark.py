"""``mace-cl benchmark`` on a device."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_cl import Runtime
from mace_cl.cli import main
from mace_cl.demo import models
from mace_cl.device import Device
from mace_cl.errors import InputError
from mace_cl.runtime.ceilings import measure

ARGV = ("benchmark", str(models.DIGITS), "--runs", "12", "--warm-up", "2")


@pytest.fixture
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("MACE_CL_DEVICE", device.runtime)
    return tmp_path / "store"


def measured(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    assert main([*ARGV, *argv, "--json", "--quiet"]) == 0
    return json.loads(capsys.readouterr().out)


def test_benchmark(own_store: Path, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    first = measured(capsys, "--peers", "ort,ncnn", "--rounds", "2")
    assert first["device"]["name"] == device.name
    assert "compile" in first["cold"]["steps"]
    assert first["start"]["code"] == "hit"
    assert first["latency"]["runs"] == 12
    assert 0 < first["latency"]["minimum"] <= first["latency"]["p50"] <= first["latency"]["p99"]
    assert {one["route"] for one in first["operations"]} <= {"opencl", "host"}
    assert [one["index"] for one in first["operations"]] == list(range(len(first["operations"])))
    assert sum(one["seconds"] for one in first["operations"]) > 0
    assert first["memory"]["arena"] >= max(stay["offset"] + stay["size"] for stay in first["stays"])
    (pair,) = first["pairs"]
    assert (pair["peer"], pair["blocks"]) == ("ort", 2)
    assert pair["difference"] < 1e-4
    assert "ncnn" in first["absent"]
    again = measured(capsys)
    assert (again["cold"], again["start"]["code"], again["pairs"]) == (None, "hit", [])
    assert all(again["ceilings"][name] >= first["ceilings"][name] for name in first["ceilings"]), "the most is kept"


def test_benchmark_for_people(own_store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html = tmp_path / "page.html"
    assert main([*ARGV, "--quiet", "--html", str(html)]) == 0
    assert html.read_text(encoding="utf-8").count("<svg") == 5
    said = capsys.readouterr().out
    for text in ("order of the run", "by time", "by type", "GFLOP/s", "init, compiling", "p99", "arena"):
        assert text in said


def test_streams_in_the_benchmark(own_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = measured(capsys, "--streams", "2", "--peers", "ort", "--rounds", "1")["throughput"]
    assert {(one["engine"], one["streams"]) for one in found} == {(n, k) for n in ("mace-cl", "ort") for k in (1, 2)}
    assert all(one["rate"] > 0 for one in found)


def test_twins_run_at_the_same_time_and_share_weights(own_store: Path, device: Device) -> None:
    rng = np.random.default_rng(2)
    with Runtime(models.DIGITS, device=device) as runtime:
        inputs = [{port.name: rng.random(port.shape, np.float32) for port in runtime.inputs} for _ in range(40)]
        expected = [runtime.run(one) for one in inputs]
        twin = runtime.twin()
        with ThreadPoolExecutor(2) as pool:
            found = list(pool.map(lambda pair: (runtime, twin)[pair[0] % 2].run(pair[1]), enumerate(inputs)))
        for one, other in zip(expected, found, strict=True):
            for name in one:
                np.testing.assert_array_equal(one[name], other[name])
    last = twin.run(inputs[0])  # the other is closed
    for name in last:
        np.testing.assert_array_equal(last[name], expected[0][name])
    twin.close()
    with pytest.raises(InputError, match="closed"):
        twin.twin()


def test_nothing_is_kept_without_a_store(own_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measured(capsys, "--no-store")["start"]["code"] == "no-file"
    assert not own_store.exists()


def test_ceilings_are_above_what_any_loop_in_python_reaches(device: Device) -> None:
    found = measure(device)
    assert found.flops > 1e9
    assert found.far_bytes > 1e8
    assert found.near_bytes > 1e8
