"""The torture of `damage.py`: no death, no hang, no wrong program, and an error that names each damage."""

from __future__ import annotations

from pathlib import Path

import pytest

from torture import damage


@pytest.fixture(scope="module")
def report(damaged_files: int) -> damage.Report:
    return damage.torture(damaged_files * 5)


def test_every_damage_is_named(report: damage.Report) -> None:
    print("\n".join(report.lines()))
    assert report.bad == []
    assert report.total("named") > 0.9 * report.files
    assert 0 < report.mebibytes < 300


def test_every_kind_was_seen_in_every_file(report: damage.Report) -> None:
    seen = {(file, kind) for (file, kind, result) in report.counts if result != "unchanged"}
    wanted = {(file, kind) for file in damage.FILES for kind in damage.KINDS}
    assert wanted - seen <= {(file, "forged_seal") for file in damage.FILES}


def test_where_a_key_is_trusted_no_forgery_passes(report: damage.Report) -> None:
    assert report.total("same", "trusted") == report.total("consistent", "trusted") == 0


def test_the_figures_can_be_bad(tmp_path: Path) -> None:
    """A process that dies and one that hangs are counted as such."""
    report = damage.Report()
    for result in damage.BAD:
        report.add(1, "flipped", "plain", result, "x")
    assert len(report.bad) == len(damage.BAD)
    child = damage._Child(tmp_path)
    try:
        assert child.ask((1, "flipped", "plain"))[0] == "died", "the folder holds no files"
    finally:
        child.end()


def test_a_child_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(damage, "SECONDS", 0.0)
    child = damage._Child(tmp_path)
    try:
        assert child.ask((1, "flipped", "plain"))[0] == "hung"
    finally:
        child.end()
