"""The verbs that sign, edit and keep programs: what they print, what they write, their exit codes."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mace_cl.device
from mace_cl.cli import main
from mace_cl.program.format import read, scan, write
from mace_cl.program.store import Store

GOLDEN = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"
SAMPLE = read(GOLDEN)
KEY = bytes(range(32))
EDITS = ("merge", "extract", "strip", "encrypt", "diff", "keygen", "sign", "verify", "store")
ACTIONS = ("ls", "verify", "why", "gc", "clear", "path", "pin", "unpin")
STORED = "abababababababab-0123456789abcdef.bin"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    shutil.copy(GOLDEN, "both.bin")
    return tmp_path


@pytest.fixture
def stored(here: Path) -> Path:
    (here / "store").mkdir()
    return Path(shutil.copy(GOLDEN, here / "store" / STORED))


class Run:
    """Runs command lines."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def text(self, *argv: str) -> str:
        assert main(argv) == 0, self._capsys.readouterr().err
        return self._capsys.readouterr().out

    def json(self, *argv: str) -> Any:
        return json.loads(self.text(*argv, "--json"))

    def fails(self, code: int, *argv: str) -> str:
        assert main(argv) == code
        said = self._capsys.readouterr()
        assert said.err.startswith("mace-cl: error: ")
        return said.err


@pytest.fixture
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


@pytest.mark.parametrize("verb", [*EDITS, *(f"store {action}" for action in ACTIONS)])
def test_help(run: Run, verb: str) -> None:
    text = run.text(*verb.split(), "--help")
    assert f"  mace-cl {verb} " in text.partition("examples:")[2] + " " or f"mace-cl {verb}\n" in text
    assert "--json" in text


def test_extract_and_merge_give_the_same_file_again(run: Run) -> None:
    assert "for      OtherCL GPU" in run.text("extract", "both.bin", "--target", "gpu", "-o", "gpu.bin")
    assert run.json("extract", "both.bin", "--target", "1", "-o", "cpu.bin")["devices"] == ["AnyCL CPU"]
    result = run.json("merge", "cpu.bin", "gpu.bin", "-o", "merged.bin")
    assert result == {
        "output": "merged.bin", "file_bytes": GOLDEN.stat().st_size, "devices": ["AnyCL CPU", "OtherCL GPU"],
        "encrypted": False, "unsigned": False,
    }  # fmt: skip
    assert Path("merged.bin").read_bytes() == GOLDEN.read_bytes()
    run.text("merge", "cpu.bin", "gpu.bin", "-o", "cpu.bin")
    assert Path("cpu.bin").read_bytes() == GOLDEN.read_bytes(), "a file may be replaced by what is made of it"


def test_extract_of_what_is_not_there(run: Run) -> None:
    assert "no target is called 'npu'" in run.fails(5, "extract", "both.bin", "--target", "npu", "-o", "x.bin")
    assert "no such file" in run.fails(2, "extract", "gone.bin", "--target", "1", "-o", "x.bin")
    assert "no directory" in run.fails(8, "extract", "both.bin", "--target", "1", "-o", "gone/x.bin")
    assert not Path("x.bin").exists()


def test_strip(run: Run) -> None:
    run.text("strip", "both.bin", "--weights", "--binaries", "-o", "small.bin")
    assert {section.kind for section in scan("small.bin").manifest.sections} == {1}
    assert "say --weights, --binaries" in run.fails(2, "strip", "both.bin", "-o", "x.bin")


def test_diff(run: Run) -> None:
    assert run.text("diff", "both.bin", "both.bin") == "no difference\n"
    target = SAMPLE.targets[0]
    kernel = replace(target.schedule.kernels[0], source="//", parameters=())
    schedule = replace(target.schedule, kernels=(kernel, target.schedule.kernels[1]))
    write(replace(SAMPLE, producer="mace-cl 9", targets=(replace(target, schedule=schedule),)), "other.bin")
    text = run.text("diff", "both.bin", "other.bin")
    for line in ("producer", "mace-cl 0.1.0 → mace-cl 9", "only in the first", "OtherCL GPU", "other source"):
        assert line in text
    assert "tile=28, rows=-1 → none" in text
    assert run.json("diff", "both.bin", "other.bin")["targets"][0]["sources"] == ["conv_0"]


def test_damaged_files_are_not_edited(run: Run) -> None:
    data = bytearray(GOLDEN.read_bytes())
    data[-1] ^= 1
    Path("both.bin").write_bytes(data)
    for argv in (("merge", "both.bin"), ("strip", "both.bin", "--weights"), ("extract", "both.bin", "--target", "1")):
        assert "section 4" in run.fails(5, *argv, "-o", "x.bin")
    assert "section 4" in run.fails(5, "diff", "both.bin", "both.bin")
    assert not Path("x.bin").exists()


def test_what_is_encrypted_stays_encrypted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    write(SAMPLE, "secret.bin", key=KEY)
    assert "no key was given" in run.fails(5, "strip", "secret.bin", "--binaries", "-o", "x.bin")
    monkeypatch.setenv("MACE_CL_KEY", KEY.hex())
    assert "encrypted" in run.text("merge", "both.bin", "secret.bin", "-o", "x.bin")
    assert b"__kernel" not in Path("x.bin").read_bytes()
    assert read("x.bin", KEY) == SAMPLE


def test_encrypt(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no key to encrypt with; set MACE_CL_KEY" in run.fails(2, "encrypt", "both.bin", "-o", "x.bin")
    monkeypatch.setenv("MACE_CL_KEY", KEY.hex())
    assert run.json("encrypt", "both.bin", "-o", "x.bin")["encrypted"] is True
    assert read("x.bin", KEY) == SAMPLE
    assert b"__kernel" not in Path("x.bin").read_bytes()


def test_keygen_sign_verify(run: Run) -> None:
    pair = run.json("keygen", "my.key")
    assert pair["public"] == "my.key.pub"
    assert f"signed with the key {pair['id']}" in run.text("sign", "both.bin", "--key", "my.key")
    text = run.text("verify", "both.bin", "--trust", "my.key.pub")
    assert f"trusted    {pair['id']}" in text
    assert run.json("verify", "both.bin")["signed_by"] == [pair["id"]]
    assert "signed by  nobody" in run.text("verify", str(GOLDEN))
    assert "is not signed" in run.fails(5, "verify", str(GOLDEN), "--trust", pair["hex"])
    assert "no longer; sign it" in run.text("strip", "both.bin", "--weights", "-o", "x.bin")
    assert "exists" in run.fails(8, "keygen", "my.key")
    assert "no such file" in run.fails(2, "sign", "gone.bin", "--key", "my.key")
    assert "no such file" in run.fails(2, "verify", "gone.bin")
    text = run.text("keygen", "other.key")
    assert "MACE_CL_TRUSTED_KEYS=other.key.pub" in text


def test_verify_takes_trusted_keys_from_the_settings(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = run.json("keygen", "my.key")
    monkeypatch.setenv("MACE_CL_TRUSTED_KEYS", os.pathsep.join(("my.key.pub", pair["hex"])))
    assert "is not signed" in run.fails(5, "verify", "both.bin")
    assert run.json("sign", "both.bin", "--key", "my.key")["files"] == ["both.bin"]
    assert run.json("verify", "both.bin")["trusted"] == [pair["id"]]


# ---- the store ----


def test_an_empty_store(run: Run, here: Path) -> None:
    assert run.text("store", "ls").startswith("0 programs, 0.0 KiB of 2048.0 MiB")
    assert run.text("store", "path") == f"{here / 'store'}\n"
    assert run.json("store", "path") == {"directory": str(here / "store")}
    assert "0 files removed" in run.text("store", "gc")
    assert "0 files removed" in run.text("store", "clear")
    assert not (here / "store").exists()


def test_ls_and_pins(run: Run, stored: Path) -> None:
    text = run.text("store", "ls")
    for words in (STORED, "tiny", "AnyCL CPU, OtherCL GPU", "8.9 KiB", "1 programs"):
        assert words in text
    assert run.text("store", "pin", "abab") == f"pinned {STORED}\n"
    assert "pinned" in run.text("store", "ls")
    assert run.json("store", "ls")["entries"][0]["pinned"] is True
    assert run.json("store", "gc", "--budget", "0")["removed"] == []
    assert run.json("store", "unpin", str(stored)) == {"programs": [str(stored)], "pinned": False}
    assert "1 files removed" in run.text("store", "gc", "--budget", "1kB")
    assert "fits no program" in run.fails(2, "store", "pin", "abab")
    assert "must be a size" in run.fails(2, "store", "gc", "--budget", "much")


def test_pin_by_model(run: Run, here: Path) -> None:
    Path("model.onnx").write_bytes(b"any bytes")
    from mace_cl.identity import model_sha256

    place = Store(here / "store").path(model_sha256(Path("model.onnx")), (), "")
    place.parent.mkdir()
    shutil.copy(GOLDEN, place)
    assert run.json("store", "pin", "model.onnx")["programs"] == [str(place)]


def test_verify_and_clear(run: Run, stored: Path) -> None:
    assert "1 programs" in run.text("store", "verify")
    data = bytearray(stored.read_bytes())
    data[-1] ^= 1
    stored.write_bytes(data)
    assert "1 programs" in run.text("store", "ls"), "listing reads heads only"
    assert "1 of 1 programs" in run.fails(5, "store", "verify")
    assert run.json("store", "clear")["removed"] == [str(stored)]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device as the first target of the sample has it; no OpenCL is asked."""
    found = SimpleNamespace(signature=SAMPLE.targets[0].signature, name="AnyCL CPU")
    monkeypatch.setattr(mace_cl.device, "find", lambda *_, **__: found)


@pytest.mark.usefixtures("device")
def test_why(run: Run, stored: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = run.text("store", "why", "both.bin")
    assert "use      hit" in text
    (reason,) = run.json("store", "why", STORED[:20])["reasons"]
    assert (reason["path"], reason["action"], reason["code"]) == (str(stored), "use", "hit")
    Path("model.onnx").write_bytes(b"any bytes")
    (reason,) = run.json("store", "why", "model.onnx")["reasons"]
    assert (reason["action"], reason["code"]) == ("compile", "no-file")
    Path("both.bin").write_bytes(GOLDEN.read_bytes()[:-1])
    assert run.json("store", "why", "both.bin")["reasons"][0]["code"] == "damaged"
    data = bytearray(GOLDEN.read_bytes())
    data[-1] ^= 1
    Path("both.bin").write_bytes(data)
    assert run.json("store", "why", "both.bin")["reasons"][0]["code"] == "damaged"
    monkeypatch.setenv("MACE_CL_TRUSTED_KEYS", "ab" * 32)
    assert run.json("store", "why", str(stored))["reasons"][0]["code"] == "refused"
    assert "no such file" in run.fails(2, "store", "why", "nothing")
    assert stored.read_bytes() == GOLDEN.read_bytes()


@pytest.mark.usefixtures("device")
def test_why_of_a_model_names_what_the_store_has(run: Run, here: Path) -> None:
    from mace_cl.identity import engine_fingerprint, model_sha256

    Path("model.onnx").write_bytes(b"any bytes")
    sha256 = model_sha256(Path("model.onnx"))
    store = Store(here / "store")
    store.prepare()
    mine = replace(SAMPLE, model=replace(SAMPLE.model, sha256=sha256))
    write(mine, store.path(sha256, (), ""))
    assert [reason["code"] for reason in run.json("store", "why", "model.onnx")["reasons"]] == ["engine-changed"]
    write(replace(mine, engine=engine_fingerprint()), store.path(sha256, (), ""))
    assert [reason["code"] for reason in run.json("store", "why", "model.onnx")["reasons"]] == ["hit"]


@pytest.mark.usefixtures("device")
def test_why_of_a_file_without_weights(run: Run, here: Path) -> None:
    bare = replace(SAMPLE, targets=tuple(replace(target, constants=None) for target in SAMPLE.targets))
    write(bare, "bare.bin")
    assert run.json("store", "why", "bare.bin")["reasons"][0]["code"] == "no-weights"
    store = Store(here / "store")
    store.prepare()
    write(SAMPLE, store.weights_path(SAMPLE.model.sha256, (), ""))
    assert run.json("store", "why", "bare.bin")["reasons"][0]["code"] == "hit"
