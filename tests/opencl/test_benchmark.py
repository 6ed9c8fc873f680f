"""``mace-cl benchmark`` on a device."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mace_cl.cli import main
from mace_cl.demo import models
from mace_cl.device import Device
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
    assert html.read_text(encoding="utf-8").count("<svg") == 4
    said = capsys.readouterr().out
    for text in ("order of the run", "by time", "by type", "GFLOP/s", "init, compiling", "p99", "arena"):
        assert text in said


def test_nothing_is_kept_without_a_store(own_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert measured(capsys, "--no-store")["start"]["code"] == "no-file"
    assert not own_store.exists()


def test_ceilings_are_above_what_any_loop_in_python_reaches(device: Device) -> None:
    found = measure(device)
    assert found.flops > 1e9
    assert found.far_bytes > 1e8
    assert found.near_bytes > 1e8
