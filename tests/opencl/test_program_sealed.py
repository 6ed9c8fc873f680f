"""Signed and encrypted programs on a device: what a start uses, refuses, and leaves alone."""

from __future__ import annotations

import logging
import subprocess
from dataclasses import replace
from pathlib import Path

import pyopencl
import pytest

import mace_cl
from mace_cl import Runtime
from mace_cl.device import Device
from mace_cl.errors import SealError
from mace_cl.program.format import read, scan, write
from mace_cl.program.seal import LOCAL_KEY, KeyPair, keygen, sign
from support import case, difference, model_of

NET = case("net", "c = Conv<pads=[1,1,1,1]>(x, w, b) y = Relu(c)", x=(1, 3, 8, 8), w=(8, 3, 3, 3), b=(8,))
MODEL = model_of(NET).SerializeToString()
KEY = bytes(range(32))


def check(runtime: Runtime) -> None:
    assert difference(runtime.run(NET.inputs)["y"], NET.expected["y"]) <= 1e-5


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def compiled(device: Device, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("program")
    (folder / "net.onnx").write_bytes(MODEL)
    mace_cl.compile(folder / "net.onnx", folder / "net.bin", device=device, bake=True, store=False)
    return (folder / "net.bin").read_bytes()


@pytest.fixture
def path(compiled: bytes, store: Path, tmp_path: Path) -> Path:
    (tmp_path / "net.bin").write_bytes(compiled)
    return tmp_path / "net.bin"


@pytest.fixture
def pair(tmp_path: Path) -> KeyPair:
    return keygen(tmp_path / "key")


@pytest.fixture
def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may reach the driver."""

    def refuse(*_: object) -> None:
        raise AssertionError("a byte reached the driver")

    monkeypatch.setattr(pyopencl, "Context", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_a_signed_program_runs(path: Path, pair: KeyPair, device: Device) -> None:
    sign(path, pair.private)
    for _ in range(2):
        with Runtime(path, device=device, trusted_keys=[pair.hex]) as runtime:
            assert runtime.decision.code == "hit"
            check(runtime)


@pytest.mark.usefixtures("no_driver")
def test_an_unsigned_program_reaches_no_driver(path: Path, pair: KeyPair, device: Device) -> None:
    with pytest.raises(SealError, match="is not signed"):
        Runtime(path, device=device, trusted_keys=[pair.hex])
    with pytest.raises(SealError, match="is not signed"):
        Runtime(path.read_bytes(), device=device, trusted_keys=[pair.public])
    with pytest.raises(SealError, match="is not signed"):
        Runtime(MODEL, program=path, device=device, trusted_keys=[pair.hex])


def test_what_is_compiled_here_is_trusted_here(
    store: Path, pair: KeyPair, device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    codes = []
    for keys in ((), [pair.hex], [pair.hex], [pair.hex]):
        with Runtime(MODEL, device=device, trusted_keys=keys) as runtime:
            codes.append(runtime.decision.code)
            check(runtime)
    assert codes == ["no-file", "refused", "hit", "hit"], "what was compiled before the keys were set is made anew"
    assert (store / LOCAL_KEY).stat().st_mode & 0o777 == 0o600
    (store / LOCAL_KEY).unlink()
    with Runtime(MODEL, device=device, trusted_keys=[pair.hex]) as runtime:
        assert runtime.decision.code == "refused"
        check(runtime)


def test_an_encrypted_program_runs(path: Path, device: Device) -> None:
    write(read(path), path, key=KEY)
    before = path.read_bytes()
    for key in (KEY, lambda: KEY):
        with Runtime(path, device=device, key=key) as runtime:
            assert runtime.decision.code == "hit"
            check(runtime)
    with pytest.raises(SealError, match="no key was given"):
        Runtime(path, device=device)
    with pytest.raises(SealError, match="the key given is"):
        Runtime(path, device=device, key=bytes(32))
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", ["signed", "encrypted"])
def test_a_makers_file_is_not_rewritten(
    path: Path, pair: KeyPair, device: Device, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It holds no part for this device; its sources are compiled, and neither weights nor signature are lost."""
    program = read(path)
    elsewhere = replace(program.targets[0], signature=replace(program.targets[0].signature, device="Elsewhere"))
    write(replace(program, targets=(elsewhere,)), path, key=KEY if how == "encrypted" else None)
    if how == "signed":
        sign(path, pair.private)
    before = path.read_bytes()
    with caplog.at_level(logging.WARNING), Runtime(path, device=device, key=KEY) as runtime:
        assert runtime.decision.code == "device-missing"
        check(runtime)
    assert path.read_bytes() == before
    assert scan(path).sealed
    assert "is signed or encrypted by its maker, and stays as it is" in caplog.text
