"""Reports without a device: the page, what is lacking, names that would do harm, the browser, what is refused."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mace_cl.benchmark.operations import Operation
from mace_cl.benchmark.pairs import Latencies
from mace_cl.cli import main
from mace_cl.demo import models
from mace_cl.device import Device
from mace_cl.errors import HostError, InputError, StorageError, UnsupportedError
from mace_cl.program.inspect import look
from mace_cl.schedule import Place
from mace_cl.tools import browser, fresh
from mace_cl.tools.advice import NOTES, Facts, Note, notes
from mace_cl.tools.benchmark import BenchmarkResult, Machine, Memory
from mace_cl.tools.benchmark import Start as Loaded
from mace_cl.tools.common import DeviceName
from mace_cl.tools.report import Pass, ReportResult, Start, Step
from mace_cl.tools.report_page import page
from mace_cl.tools.validate import Agreement, Departure, ValidateResult
from pages import HOSTILE, read_page

PROGRAM = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"
SECTIONS = {
    "overview", "program", "workflow", "placement", "start", "latency", "operations", "roofline", "memory", "accuracy",
    "notes",
}  # fmt: skip


def result_of(name: str) -> ReportResult:
    """A report whose every text is ``name``."""
    seen = look(PROGRAM)[1]
    target = seen.targets[0]
    port = replace(target.inputs[0], name=name)
    target = replace(
        target,
        inputs=(port,),
        kernels=tuple(replace(one, family=name) for one in target.kernels),
        provenance=(("oracle", name), (name, name)),
        bucket=name,
    )
    seen = replace(
        seen, file=name, model=replace(seen.model, name=name), options=((name, name),), targets=(target,),
        encrypted_with=name,
    )  # fmt: skip
    operation = Operation(0, name, name, name, "opencl", 0.0, 0.1, 0.1, 1000, 1000, 10)
    start = Start("hit", name, 0.3, {"imports": 0.1, name: 0.2})
    loaded = Loaded("hit", name, 0.1, 0.1, {name: 0.1})
    measured = BenchmarkResult(
        Path("p.bin"), Machine.here(), DeviceName("pocl", name, name), None, loaded, 0.1, Latencies.of([0.1, 0.2]),
        (operation, replace(operation, index=1, route="host")), {"flops": 2e9, "far_bytes": 1e9, "near_bytes": 4e9},
        Memory(4096, 4096, None, None, None), (), (), {}, False, (), (0.1, 0.2),
    )  # fmt: skip
    agreement = Agreement(name, 0.5, -math.inf, 1.0, 0.5)
    departure = Departure(name, name, name, (agreement,), agreement)
    compared = ValidateResult(
        DeviceName("pocl", name, name), name, 0.9, 1, (agreement,), False, departure=departure, saved=Path("a.npz")
    )
    return ReportResult(
        name, "2026-01-01 00:00", Path("r.html"), None, Path("model.onnx"), 1 << 20,
        Device(0, "pocl-3.0", name, name, True, name, vendor=name, driver=name), seen, 0,
        (Step(name, name, 0.5, name),), start, start, (start, start), (Pass(name, 5, 3, 0.1),),
        (Place(name, name, "OpenCL", name, ""), Place(name, name, "host", name, name)), measured, compared,
        (Note(name, name, name),), {},
    )  # fmt: skip


@pytest.mark.parametrize("name", ["plain", HOSTILE])
def test_the_page_is_whole_and_asks_for_nothing(name: str) -> None:
    reader = read_page(page(result_of(name)))
    assert reader.seen.count("svg") == 9
    assert reader.names >= SECTIONS
    assert name in reader.said, "the name is there, as text"


def test_what_is_lacking_is_said() -> None:
    whole = result_of("plain")
    absent = {"cold": "it is encrypted", "passes": "no source model was given", "accuracy": "there is no model"}
    bare = replace(
        whole, model=None, model_bytes=None, cold=None, first=None, passes=(), accuracy=None, notes=(), absent=absent,
        benchmark=replace(whole.benchmark, ceilings=None, times=()),
    )  # fmt: skip
    said = " ".join(read_page(page(bare)).said)
    for text in (
        "Not measured: it is encrypted.", "Not counted: no source model was given.",
        "Not compared with another engine: there is no model.", "came from: plain.",
        "not given: only its compiled program",
        "not compared", "Nothing is known that would need care", "ceilings of this device could not be measured",
    ):  # fmt: skip
        assert text in said


def device(**changed: Any) -> Device:
    return replace(Device(0, "intel", "p", "d", True, "", can_compile=True, kind="cpu"), **changed)


def test_notes_are_those_that_apply() -> None:
    pocl = {one.see for one in notes(Facts(device(runtime="pocl-3.0", extensions=("cl_khr_fp64",))))}
    intel = {one.see for one in notes(Facts(device(extensions=("cl_khr_fp64",))))}
    assert any("PoCL 3.0" in one for one in pocl)
    assert not any("Intel's" in one for one in pocl)
    assert len(intel) == 2
    assert all("Intel's runtime" in one for one in intel)
    mali = Facts(device(runtime="mali", kind="gpu", extensions=("cl_khr_fp64",)))
    assert notes(mali) == ()
    bound = replace(Facts(device(runtime="pocl-3.1", extensions=("cl_khr_fp64",))), part_of_cores=True)
    assert len(notes(bound)) == len(notes(replace(bound, part_of_cores=False))) + 1
    for changed in ({"hosted": 1}, {"differs": True}, {"unproven": True}, {"safe": True}):
        assert len(notes(replace(mali, **changed))) == 1, changed


def test_notes_are_rows_of_the_documentation() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "troubleshooting.md").read_text(encoding="utf-8").splitlines()
    for _, note in NOTES:
        assert f"| {note.see} | {note.means} | {note.do} |" in lines


def test_no_browser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="apt install chromium"):
        browser.find()
    assert main(["report", str(models.DIGITS), "-o", str(tmp_path / "r.html"), "--pdf", str(tmp_path / "r.pdf")]) == 6
    assert "Chromium" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists(), "it is told before any work"


def test_a_browser_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "chromium"
    fake.write_text("#!/bin/sh\necho no display >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(StorageError, match=r"wrote no PDF \(no display\)"):
        browser.print_pdf(tmp_path / "page.html", tmp_path / "page.pdf")


def test_errors_of_a_start_are_raised_here(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.onnx: no such file"):
        fresh.run(["run", "absent.onnx", "--random"], tmp_path)
    assert fresh._error(4) is UnsupportedError


@pytest.mark.parametrize(
    ("code", "said", "argv"),
    [
        (2, "no such file", ["absent.onnx"]),
        (8, "there is no directory", [str(models.DIGITS), "-o", "absent/x.html"]),
        (2, "is a compiled program; program, shapes and outputs go with a model", [str(PROGRAM), "--outputs", "y"]),
        (6, "No OpenCL device that fits 'absent'", [str(models.DIGITS), "--device", "absent"]),
        (3, "not a model of a format", [__file__]),
    ],
)
def test_what_is_refused(
    code: int, said: str, argv: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["report", *argv, "--quiet", "--json"]) == code
    heard = capsys.readouterr()
    assert heard.out == ""
    assert said in re.sub(r"\s+", " ", heard.err)
    assert not Path("report.html").exists()
