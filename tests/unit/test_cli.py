"""The command line without a device: help, exit codes, what goes to which stream."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyopencl
import pytest
from google.protobuf import text_format

import mace_cl
from mace_cl import errors
from mace_cl.cli import main
from mace_cl.demo import models
from mace_cl.device import drivers
from mace_cl.errors import MaceClError
from mace_cl.program import manifest_pb2 as pb
from mace_cl.tools import demo as demo_tool
from mace_cl.tools import inspect as inspect_tool

GOLDEN = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"
VERBS = ("devices", "run", "compile", "inspect", "demo")


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any OpenCL platform."""

    def none() -> Any:
        raise pyopencl.LogicError("clGetPlatformIDs failed: PLATFORM_NOT_FOUND_KHR")

    monkeypatch.setattr(drivers, "installed", lambda: ())
    monkeypatch.setattr(pyopencl, "get_platforms", none)


def fails(capsys: pytest.CaptureFixture[str], code: int, *argv: str) -> str:
    """Run a command that must fail with ``code``, one line on standard error and nothing on standard output."""
    assert main(argv) == code
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert [line.startswith("mace-cl: error: ") for line in lines] == [True], said.err
    return lines[0]


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mace-cl {mace_cl.__version__}\n"


def test_help_lists_verbs_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"    {verb} " in text for verb in VERBS)
    codes = {
        value.exit_code for value in vars(errors).values() if isinstance(value, type) and issubclass(value, MaceClError)
    }
    for code in codes | {0, 130, 141}:
        assert f"\n{code:5}  " in text


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_with_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"  mace-cl {verb} " in text.partition("examples:")[2]
    assert "--json" in text


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["fly"],
        ["run", "--config"],
        ["run", "x", "--to", "3"],
        ["run", "x", "--top", "0"],
        ["run", "x", "--repeat", "many"],
        ["run", "x", "--mean", "1,one"],
        ["run", "x", "--mean", "1/0"],
        ["run", "x", "--layout", "chw"],
        ["compile", "x", "--jobs", "-1"],
        ["inspect", "x", "--json", "--text"],
    ],
)
def test_wrong_usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: mace-cl")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--shape", "1,3"], "--shape 1,3: should be like"),
        (["--shape", "x=1,0"], "--shape x=1,0: should be like"),
        (["--scale", "1,2"], "--scale: give one number"),
        (["--random", "--seed", "-1"], "--seed: give a number"),
    ],
)
def test_wrong_values(argv: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert said in fails(capsys, 2, "run", str(models.DIGITS), *argv)


def test_no_platform(no_driver: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert 'pip install "mace-cl[cpu]"' in fails(capsys, 6, "devices")
    assert "No OpenCL driver" in fails(capsys, 6, "run", str(models.DIGITS), "--random")
    assert "No OpenCL driver" in fails(capsys, 6, "demo")


def test_no_platform_as_json(no_driver: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--json"]) == 6
    found = json.loads(capsys.readouterr().out)
    assert (found["devices"], found["chosen"]) == ([], None)
    assert "No OpenCL driver" in found["problem"]


def test_no_platform_while_compiling(no_driver: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails(capsys, 6, "compile", str(models.DIGITS), "-o", str(tmp_path / "x.bin"))
    assert not list(tmp_path.iterdir())


def test_run_without_input_lists_the_inputs(no_driver: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'image' float32 [1, 1, 8, 8]" in fails(capsys, 2, "run", str(models.DIGITS))
    assert "It takes 'image' float32" in fails(capsys, 2, "run", str(GOLDEN))


@pytest.mark.parametrize("verb", ["run", "inspect"])
def test_missing_file(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such file" in fails(capsys, 2, verb, "absent.onnx")


def test_missing_labels(capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("run", str(models.DIGITS), "--random", "--labels", "absent.txt")
    assert "one label per line" in fails(capsys, 2, *argv)


def test_unwritable_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("compile", str(models.DIGITS), "-o")
    assert "there is no directory" in fails(capsys, 8, *argv, str(tmp_path / "absent" / "x.bin"))
    assert "is a directory" in fails(capsys, 8, *argv, str(tmp_path))
    output = str(tmp_path / "absent" / "x.npz")
    assert "there is no directory" in fails(capsys, 8, "run", str(models.DIGITS), "--random", "-o", output)


def test_inspect_shows_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(GOLDEN)]) == 0
    said = capsys.readouterr()
    seen = mace_cl.inspect(GOLDEN)
    for text in ("format version", seen.crc32, "binary sections", "constants sections", "driver version"):
        assert text in said.out
    for target in seen.targets:
        assert target.signature.device in said.out
        assert all(kernel.name in said.out for kernel in target.kernels)
    assert said.err == ""


def test_inspect_as_json_and_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(GOLDEN), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["format_version"], found["crc32"]) == (3, mace_cl.inspect(GOLDEN).crc32)
    assert main(["inspect", str(GOLDEN), "--text"]) == 0
    message = text_format.Parse(capsys.readouterr().out, pb.Manifest())
    assert message.model.sha256


def test_inspect_says_what_another_file_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(models.DIGITS)]) == 0
    said = capsys.readouterr().out
    assert "ONNX model" in said
    assert f"`mace-cl run {models.DIGITS}`" in said
    assert "a text file" in fails(capsys, 5, "inspect", __file__, "--text")
    damaged = tmp_path / "damaged.bin"
    damaged.write_bytes(GOLDEN.read_bytes()[:-1])
    assert "damaged at byte" in fails(capsys, 5, "inspect", str(damaged))


def test_internal_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def break_(args: object) -> None:
        raise TypeError("not as thought")

    monkeypatch.setattr(inspect_tool, "run", break_)
    assert main(["inspect", str(GOLDEN)]) == 1
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "TypeError: not as thought" in said
    assert "please report it" in said
    assert main(["--traceback", "inspect", str(GOLDEN)]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_interrupt(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect_tool, "run", interrupt)
    assert main(["inspect", str(GOLDEN)]) == 130
    assert capsys.readouterr().err == "mace-cl: interrupted\n"


def test_broken_pipe_is_quiet() -> None:
    command = [sys.executable, "-m", "mace_cl", "inspect", str(GOLDEN), "--text"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(60) == 141


def test_a_terminal_without_unicode() -> None:
    command = [sys.executable, "-m", "mace_cl", "devices", "--help"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "? marks the one that is chosen" in done.stdout


def test_demo_tells_what_failed_in_a_process() -> None:
    def silent(what: str, done: int, total: int) -> None: ...

    request = {"do": "warm", "inputs": "absent.npy"}
    with pytest.raises(errors.MaceClError, match=r"demonstration \(warm\) ended with 1: .*absent.npy"):
        demo_tool._child(request, silent)


def test_demo_refuses_a_start_that_was_not_warm() -> None:
    answer = {"code": "driver-changed", "sentence": "Another driver."}
    with pytest.raises(errors.ProgramError, match=r"should have been 'hit', but was 'driver-changed': Another"):
        demo_tool._expect(answer, "hit", "digits")


def test_demo_refuses_wrong_answers() -> None:
    wanted = np.array([[1, -4], [2, 1]], np.float32)
    off = np.array([[4e-5, 0], [0, 0]], np.float32)
    assert demo_tool._difference("digits", wanted + off, wanted) == pytest.approx(1e-5, rel=0.1)
    for wrong in (1e-3, np.nan):
        with pytest.raises(errors.MaceClError, match="differ from ONNX Runtime"):
            demo_tool._difference("digits", wanted + np.float32(wrong), wanted)
