"""Many processes at once, and those that are killed while others wait for them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import mace_cl
from mace_cl.device import Device
from mace_cl.program.format import read, write
from starts import Started, begin, end, models

PROCESSES = 16


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return models(tmp_path)


def at_once(source: Path, devices: list[str], program: Path | None = None, **settings: str) -> list[Started]:
    """Start as many processes as there are devices, and let all go at the same moment."""
    folder = source.parent
    gate, x = folder / "go", folder / "x.npy"
    processes = [begin(source, device, program, gate=gate, x=x, settings=settings) for device in devices]
    try:
        time.sleep(2.0)
        gate.touch()
        return [end(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_one_compiles_and_all_answer(model: Path, device: Device, store: Path) -> None:
    found = at_once(model, [device.runtime] * PROCESSES)
    assert sum(one.compiled for one in found) == 1
    assert Counter(one.code for one in found) == {"no-file": 1, "hit": PROCESSES - 1}
    assert [one.warnings for one in found] == [[]] * PROCESSES
    (path,) = store.glob("*.bin")
    assert len(read(path).targets) == 1
    assert not list(store.glob("*.tmp"))


def test_one_compiles_for_a_named_file(model: Path, device: Device, tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    found = at_once(model, [device.runtime] * PROCESSES, path)
    assert sum(one.compiled for one in found) == 1
    assert len(read(path).targets) == 1


def test_one_compiles_the_sources_of_a_program_alone(model: Path, device: Device, tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    mace_cl.compile(model, path, device=device, bake=True)
    program = read(path)
    (target,) = program.targets
    other = replace(target, signature=replace(target.signature, device="Elsewhere"))
    write(replace(program, targets=(other,)), path)
    found = at_once(path, [device.runtime] * PROCESSES)
    assert sum(one.compiled for one in found) == 1
    assert Counter(one.code for one in found) == {"device-missing": 1, "hit": PROCESSES - 1}
    assert read(path).targets[0] == other
    assert len(read(path).targets) == 2


def test_without_a_store_all_compile_and_none_harms_another(model: Path, device: Device, tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    found = at_once(model, [device.runtime] * 4, path, MACE_CL_STORE="0")
    assert all(one.code in ("no-file", "hit") for one in found)
    assert len(read(path).targets) == 1


def test_devices_add_their_parts_at_the_same_time(model: Path, tmp_path: Path) -> None:
    """Nobody's part is lost, whoever comes last."""
    names = list(dict.fromkeys(one.runtime for one in mace_cl.devices() if one.can_compile))
    runtimes = [name for name in names if name != "oclgrind"]
    if len(runtimes) < 2:
        pytest.skip(f"needs two OpenCL implementations; here is {runtimes}")
    path = tmp_path / "net.bin"
    found = at_once(model, runtimes * 4, path)
    assert sum(one.compiled for one in found) == len(runtimes)
    assert len(read(path).targets) == len(runtimes)
    assert {one.code for one in at_once(model, runtimes, path)} == {"hit"}


def test_a_killed_process_leaves_no_lock(model: Path, device: Device, store: Path) -> None:
    """It is killed while it compiles, and others are waiting; one of them takes over at once."""
    dying = begin(model, device, stop_at="compiling kernels")
    assert os.WIFSTOPPED(os.waitpid(dying.pid, os.WUNTRACED)[1])
    waiting = [begin(model, device) for _ in range(3)]
    time.sleep(3.0)
    assert [process.poll() for process in waiting] == [None] * 3, "they wait for the one that compiles"
    dying.kill()
    dying.communicate()
    before = time.monotonic()
    found = [end(process) for process in waiting]
    assert time.monotonic() - before < 60
    assert sum(one.compiled for one in found) == 1
    assert end(begin(model, device)).code == "hit"
    assert len(list(store.glob("*.bin"))) == 1


def test_a_lock_that_is_never_freed(
    model: Path, device: Device, store: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a while the process stops waiting: it runs without saving, with one warning."""
    from mace_cl import Runtime, keeping

    with Runtime(model, device=device):
        pass
    (path,) = store.glob("*.bin")
    code = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire(); "
        "print('held', flush=True); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, f"{path}.lock"], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        path.unlink()
        monkeypatch.setattr(keeping, "_LOCK_SECONDS", 0.5)
        with Runtime(model, device=device) as runtime:
            assert runtime.decision.code == "no-file"
        assert not path.exists()
        assert [record.levelname for record in caplog.records if record.name == "mace_cl"].count("WARNING") == 1
        assert "is not kept" in caplog.text
    finally:
        holder.kill()
        holder.communicate()
    assert os.path.exists(store)
