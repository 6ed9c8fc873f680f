"""One file for many devices: each adds its part, the others' stay; what a part is keyed by, and what `why` tells."""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mace_cl
from mace_cl import Runtime, keeping
from mace_cl.cli import main
from mace_cl.device import Device
from mace_cl.device.signature import Signature
from mace_cl.engine import opened_if_program, request_for
from mace_cl.errors import MaceClError
from mace_cl.identity import engine_fingerprint
from mace_cl.program.format import read, scan, write
from mace_cl.program.program import Program, Target
from mace_cl.program.proofs import Proofs, proof
from mace_cl.settings import Settings
from mace_cl.start import start
from support import Array, case, difference, model_of

NET = case(
    "net", "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) m = MaxPool<kernel_shape=[2,2]>(r) y = Conv(m, v)",
    x=(1, 16, 8, 8), w=(16, 16, 3, 3), b=(16,), v=(32, 16, 1, 1),
)  # fmt: skip
MODEL = model_of(NET).SerializeToString()
OTHER = model_of(case("other", "y = Neg(x)", x=(2, 3))).SerializeToString()


def check(runtime: Runtime) -> None:
    assert difference(runtime.run(NET.inputs)["y"], NET.expected["y"]) <= 1e-5


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("RUSTICL_ENABLE", "llvmpipe")  # Mesa's driver has no device unless it is asked for
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(MODEL)
    np.save(tmp_path / "x.npy", NET.inputs["x"])
    return tmp_path / "net.onnx"


@pytest.fixture(scope="module")
def compiled(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Program:
    path = tmp_path_factory.mktemp("compiled") / "net.bin"
    mace_cl.compile(MODEL, path, device=device, bake=True, store=False)
    return read(path)


@pytest.fixture(scope="module")
def runtimes() -> list[str]:
    """Different OpenCL implementations on this machine; Oclgrind, a simulator, is left out."""
    code = "from mace_cl import devices; print(*[d.runtime for d in devices() if d.can_compile])"
    environment = {**os.environ, "RUSTICL_ENABLE": "llvmpipe"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    found = [name for name in dict.fromkeys(done.stdout.split()) if name != "oclgrind"]
    if len(found) < 2:
        pytest.skip(f"needs two OpenCL implementations; here is {found}. mace-cl[test] brings two to x86-64 Linux")
    return found


def answers(*argv: object) -> Any:
    """What a command prints as JSON, in a process of its own, as a driver's may be all that it loads."""
    command = [sys.executable, "-m", "mace_cl", *map(str, argv), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(source: Path, folder: Path, runtime: str, *more: object) -> str:
    """Run on the only input; returns the decision's code after a look at the answer."""
    out = folder / "y.npy"
    found = answers("run", source, "-i", folder / "x.npy", "-o", out, "--device", runtime, *more)
    assert difference(np.load(out), NET.expected["y"]) <= 1e-5
    return str(found["decision"]["code"])


class TestManyDevices:
    def test_compiled_for_all(self, runtimes: list[str], model: Path, tmp_path: Path) -> None:
        path = tmp_path / "net.bin"
        devices = [word for name in runtimes for word in ("--device", name)]
        made = answers("compile", model, "-o", path, "--bake", *devices)
        assert [target["device"]["runtime"] for target in made["targets"]] == runtimes
        for target in made["targets"]:
            assert target["oracle"].startswith("onnxruntime")
            kernels = [name for unit in target["units"] for name in unit["kernels"]]
            assert len(kernels) == len(set(kernels)) > 0
            for unit in target["units"]:
                assert unit["seconds"] > 0
                assert set(unit["each"]) in (set(), set(unit["kernels"]))
        before = path.read_bytes()
        for name in runtimes:
            assert run(path, tmp_path, name) == "hit"
            assert run(model, tmp_path, name, "--program", path) == "hit"
        assert path.read_bytes() == before
        shared(path)

    def test_each_adds_its_part(self, runtimes: list[str], model: Path, tmp_path: Path) -> None:
        path = tmp_path / "net.bin"
        targets: tuple[Target, ...] = ()
        for name in runtimes:
            wanted = "device-missing" if targets else "no-file"
            assert run(model, tmp_path, name, "--program", path) == wanted
            found = read(path).targets
            assert found[:-1] == targets, "the others' parts are byte for byte what they were"
            assert dict(found[-1].provenance)["because"] == wanted
            targets = found
        before = path.read_bytes()
        for name in runtimes:
            assert run(model, tmp_path, name, "--program", path) == "hit"
            assert run(path, tmp_path, name) == "hit"
        assert path.read_bytes() == before
        shared(path)

    def test_in_the_store(self, runtimes: list[str], model: Path, tmp_path: Path, store: Path) -> None:
        codes = [run(model, tmp_path, name) for _ in range(2) for name in runtimes]
        assert codes == ["no-file", *["device-missing"] * (len(runtimes) - 1), *["hit"] * len(runtimes)]
        (path,) = store.glob("*.bin")
        assert len(read(path).targets) == len(runtimes)

    def test_a_device_that_the_file_has_never_met(self, runtimes: list[str], model: Path, tmp_path: Path) -> None:
        """Without the model: the sources inside are compiled, once."""
        for maker, user in zip(runtimes, [*runtimes[1:], runtimes[0]], strict=True):
            path = tmp_path / f"{maker}.bin"
            answers("compile", model, "-o", path, "--bake", "--device", maker)
            assert [run(path, tmp_path, user) for _ in range(2)] == ["device-missing", "hit"]
            assert len(read(path).targets) == 2


def shared(path: Path) -> None:
    """Equal content of one kind is in the file once."""
    sections = scan(path).manifest.sections
    assert set(Counter((section.kind, section.sha256) for section in sections).values()) == {1}
    targets = read(path).targets
    sources = {kernel.source for target in targets for kernel in target.schedule.kernels}
    weights = {bytes(target.constants or b"") for target in targets}
    kinds = [int(section.kind) for section in sections]
    assert kinds.count(1) == len(sources)
    assert kinds.count(3) == len(weights)


def test_a_part_that_another_process_added_after_the_file_was_read(
    compiled: Program, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, elsewhere = tmp_path / "net.bin", signed(compiled, device="Elsewhere")
    write(elsewhere, path)
    settings = Settings.load()
    given = opened_if_program(path, settings)
    write(replace(compiled, targets=(*elsewhere.targets, *compiled.targets)), path)
    no_compiler(monkeypatch)
    executor, decision = start(request_for(path, given, device, settings), given)
    executor.close()
    assert decision.code == "hit"


def test_a_device_that_fails_leaves_no_file(model: Path, tmp_path: Path, device: Device) -> None:
    mute = replace(device, can_compile=False, reason="has no compiler")
    with pytest.raises(MaceClError, match="has no compiler"):
        mace_cl.compile(model, tmp_path / "net.bin", device=[device, mute])
    assert not (tmp_path / "net.bin").exists()


def signed(program: Program, **values: str) -> Program:
    def change(target: Target) -> Target:
        signature: Signature = replace(target.signature, **values)  # type: ignore[arg-type]
        return replace(target, signature=signature)

    return replace(program, targets=tuple(map(change, program.targets)))


def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_cl import compiler
    from mace_cl.runtime import compile as build

    def refuse(*_: object) -> None:
        raise AssertionError("something was compiled")

    monkeypatch.setattr(compiler, "compile_units", refuse)
    monkeypatch.setattr(build, "compile_units", refuse)


Begin = Callable[[Path], Runtime]


@pytest.fixture(params=["program beside a model", "program alone"])
def begin(request: pytest.FixtureRequest, device: Device) -> Begin:
    if request.param == "program alone":
        return lambda path: Runtime(path, device=device)
    return lambda path: Runtime(MODEL, program=path, device=device)


class TestDriverUpdate:
    """The driver's version changes; here it is the file that says another one."""

    def test_strict_compiles_and_keeps_the_old_part(
        self, compiled: Program, tmp_path: Path, begin: Begin, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "net.bin"
        old = signed(compiled, driver="0.9")
        write(old, path)
        with begin(path) as runtime:
            assert runtime.decision.code == "driver-changed"
            assert "driver: " in runtime.decision.sentence
            assert "'0.9' there" in runtime.decision.sentence
            check(runtime)
        first, second = read(path).targets
        assert first == old.targets[0]
        assert second.signature == device.signature
        no_compiler(monkeypatch)
        with begin(path) as runtime:
            assert runtime.decision.code == "hit"
        # the update is taken back
        Proofs(tmp_path / "store").record(proof(first, first.signature))
        with Runtime(path, device=replace(device, driver="0.9")) as runtime:
            assert (runtime.decision.code, runtime.decision.target) == ("hit", 0)
            check(runtime)

    def test_same_gpu_keeps_what_answers_right(
        self, compiled: Program, tmp_path: Path, begin: Begin, device: Device, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "net.bin"
        write(signed(compiled, driver="0.9", platform_version="older"), path)
        sections = len(scan(path).sections)
        monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
        no_compiler(monkeypatch)
        with begin(path) as runtime:
            assert runtime.decision.code == "same-gpu"
            assert "still answers right" in runtime.decision.sentence
            assert "proof" in runtime.timings, "it was not merely believed"
            check(runtime)
        first, second = read(path).targets
        assert (first.signature.driver, second.signature) == ("0.9", device.signature)
        assert [unit.binary for unit in first.units] == [unit.binary for unit in second.units]
        assert dict(second.provenance)["because"] == "same-gpu"
        assert len(scan(path).sections) == sections, "they share all that is large"
        with begin(path) as runtime:
            assert (runtime.decision.code, "proof" in runtime.timings) == ("hit", False)

    def test_same_gpu_without_the_guard_asks_the_golden_vectors_too(
        self, compiled: Program, tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "net.bin"
        write(signed(compiled, driver="0.9"), path)
        monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
        monkeypatch.setenv("MACE_CL_GUARD", "0")
        with begin(path) as runtime:
            assert (runtime.decision.code, "self-check" in runtime.timings) == ("same-gpu", True)
            check(runtime)

    @pytest.mark.parametrize("guard", ["1", "0"])
    def test_same_gpu_rebuilds_what_no_longer_answers_right(
        self, compiled: Program, tmp_path: Path, begin: Begin, guard: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, old = tmp_path / "net.bin", signed(compiled, driver="0.9")
        golden = tuple((name, memoryview(bytes(values.nbytes))) for name, values in old.targets[0].golden)
        write(replace(old, targets=(replace(old.targets[0], golden=golden),)), path)
        monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
        monkeypatch.setenv("MACE_CL_GUARD", guard)
        with begin(path) as runtime:
            assert runtime.decision.code == "driver-changed"
            assert "no longer answers right" in runtime.decision.sentence
            check(runtime)
        assert len(read(path).targets) == 2

    def test_same_gpu_survives_a_driver_that_dies_of_older_binaries(
        self, compiled: Program, tmp_path: Path, begin: Begin, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, old = tmp_path / "net.bin", signed(compiled, driver="0.9")
        units = tuple(
            replace(unit, binary=bytes(unit.binary or b"")[:200] + random.Random(1).randbytes(3000))
            for unit in old.targets[0].units
        )
        write(replace(old, targets=(replace(old.targets[0], units=units),)), path)
        monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
        with begin(path) as runtime:
            assert runtime.decision.code in ("driver-died", "driver-refused")
            check(runtime)
        with begin(path) as runtime:
            assert runtime.decision.code == "hit"

    def test_same_gpu_with_the_weights_outside(
        self, tmp_path: Path, device: Device, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "net.bin"
        mace_cl.compile(MODEL, path, device=device)
        compiled = read(path)
        old = signed(compiled, driver="0.9")
        write(old, path)
        (weights,) = store.glob("*.weights.bin")
        full = read(weights)
        weights.unlink()
        settings = Settings.load()
        keeping.save_weights(settings, signed(full, driver="0.9"))
        monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
        no_compiler(monkeypatch)
        for code in ("same-gpu", "hit"):
            with Runtime(path, device=device) as runtime:
                assert runtime.decision.code == code
                check(runtime)
        assert all(target.constants is None for target in read(path).targets)

    @pytest.mark.parametrize("values", [{"device": "Another GPU"}, {"vendor": "Someone"}, {"platform": "AnyCL"}])
    def test_same_gpu_is_not_any_gpu(
        self, compiled: Program, tmp_path: Path, begin: Begin, values: Mapping[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        path = tmp_path / "net.bin"
        write(signed(compiled, **values), path)
        monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
        with begin(path) as runtime:
            assert runtime.decision.code == "device-missing"
            check(runtime)


def snapshot(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file with its times and bytes."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


STATES: dict[str, Callable[[Program, Path], object]] = {
    "no-file": lambda program, path: None,
    "hit": write,
    "damaged": lambda program, path: path.write_bytes(bytes_of(program, path)[:-100]),
    "not-a-program": lambda program, path: path.write_bytes(b"PK\x03\x04 and so on"),
    "future-version": lambda program, path: path.write_bytes(from_the_future(bytes_of(program, path))),
    "unreadable": lambda program, path: path.mkdir(),
    "other-model": lambda program, path: write(replace(program, model=replace(program.model, sha256="0" * 64)), path),
    "other-options": lambda program, path: write(replace(program, options=(("shape.x", "1"),)), path),
    "engine-changed": lambda program, path: write(replace(program, engine="0" * 32), path),
    "device-missing": lambda program, path: write(signed(program, device="Another"), path),
    "driver-changed": lambda program, path: write(signed(program, driver="0.9"), path),
    "no-weights": lambda program, path: write(
        replace(program, targets=tuple(replace(target, constants=None) for target in program.targets)), path
    ),
    "no-binaries": lambda program, path: write(
        replace(
            program,
            targets=tuple(
                replace(target, units=tuple(replace(unit, binary=None) for unit in target.units))
                for target in program.targets
            ),
        ),
        path,
    ),
}


def bytes_of(program: Program, path: Path) -> bytes:
    write(program, path)
    return path.read_bytes()


def from_the_future(program: bytes) -> bytes:
    data = bytearray(program)
    struct.pack_into("<I", data, 8, 4)
    struct.pack_into("<I", data, 60, zlib.crc32(data[:60]))
    return bytes(data)


class TestWhy:
    """It foretells what a start then does, and touches nothing."""

    def why(self, capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
        assert main(["why", *map(str, argv), "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    @pytest.mark.parametrize("code", STATES)
    def test_program_beside_a_model(
        self, compiled: Program, model: Path, tmp_path: Path, device: Device, code: str,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        path = tmp_path / "net.bin"
        STATES[code](compiled, path)
        before = snapshot(tmp_path)
        said = self.why(capsys, model, "--program", path, "--device", device.runtime)
        assert snapshot(tmp_path) == before
        with Runtime(model, program=path, device=device) as runtime:
            check(runtime)
            done = runtime.decision
        assert (said["code"], said["action"], said["sentence"]) == (done.code, done.action, done.sentence)
        assert done.code == code
        if code not in ("unreadable", "no-weights", "hit"):
            assert dict(read(path).targets[-1].provenance)["because"] == code, "the file's history has the same code"

    @pytest.mark.parametrize("code", ["hit", "device-missing", "driver-changed", "no-binaries"])
    def test_program_alone(
        self, compiled: Program, tmp_path: Path, device: Device, code: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "net.bin"
        STATES[code](compiled, path)
        before = snapshot(tmp_path)
        said = self.why(capsys, path, "--device", device.runtime)
        assert said["proven"] is False
        assert snapshot(tmp_path) == before
        with Runtime(path, device=device) as runtime:
            assert (said["code"], said["sentence"]) == (runtime.decision.code, runtime.decision.sentence)
        said = self.why(capsys, path, "--device", device.runtime)
        assert (said["code"], said["proven"]) == ("hit", True)

    def test_the_store(self, model: Path, device: Device, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
        argv = (model, "--device", device.runtime)
        assert self.why(capsys, *argv)["code"] == "no-file"
        assert not store.exists()
        Runtime(model, device=device).close()
        said = self.why(capsys, *argv)
        assert (said["code"], said["proven"], Path(said["program"]).parent) == ("hit", True, store)
        assert self.why(capsys, *argv, "--no-store")["code"] == "no-file"

    def test_same_gpu(
        self, compiled: Program, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        path = tmp_path / "net.bin"
        write(signed(compiled, driver="0.9"), path)
        monkeypatch.setenv("MACE_CL_REUSE", "same-gpu")
        said = self.why(capsys, path, "--device", device.runtime)
        assert (said["action"], said["code"], said["proven"]) == ("use", "same-gpu", False)
        with Runtime(path, device=device) as runtime:
            assert runtime.decision.code == "same-gpu"

    def test_differences_of_each_part(
        self, compiled: Program, tmp_path: Path, device: Device, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path, (mine,) = tmp_path / "net.bin", compiled.targets
        other = replace(mine, signature=replace(mine.signature, driver="0.9"))
        write(replace(compiled, targets=(other, mine)), path)
        first, second = self.why(capsys, path, "--device", device.runtime)["targets"]
        assert first["differences"] == [f"driver: {device.driver!r} here, '0.9' there"]
        assert second["differences"] == []
        assert main(["why", str(path), "--device", device.runtime]) == 0
        said = capsys.readouterr().out
        assert "use                 hit" in said
        assert "not yet: a child process tries the binaries first" in said
        assert "part 2: " in said
        assert "the same device and driver" in said

    def test_damaged_program_alone(
        self, compiled: Program, tmp_path: Path, device: Device, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "net.bin"
        write(compiled, path)
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        assert self.why(capsys, path, "--device", device.runtime)["code"] == "damaged"

    def test_wrong_arguments(
        self, compiled: Program, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write(compiled, tmp_path / "net.bin")
        assert main(["why", str(tmp_path / "absent")]) == 2
        assert "no such file" in capsys.readouterr().err
        assert main(["why", str(tmp_path / "net.bin"), "--program", str(model)]) == 2
        assert "go with a model" in capsys.readouterr().err


class TestFingerprint:
    def test_device_and_program(
        self, compiled: Program, model: Path, tmp_path: Path, device: Device, capsys: pytest.CaptureFixture[str]
    ) -> None:
        path = tmp_path / "net.bin"
        write(replace(compiled, targets=(*signed(compiled, driver="0.9").targets, *compiled.targets)), path)
        assert main(["fingerprint", str(path), "--device", device.runtime, "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert said["engine"] == engine_fingerprint() == said["program"]["engine"]
        assert said["device"]["sha256"] == device.signature.digest()
        assert said["device"]["signature"]["driver"] == device.driver
        assert [target["sha256"] == device.signature.digest() for target in said["program"]["targets"]] == [False, True]
        assert said["program"]["model_sha256"] == compiled.model.sha256
        assert main(["fingerprint", str(path), "--device", device.runtime]) == 0
        text = capsys.readouterr().out
        assert "part 2 (this device)" in text
        assert text.count(device.signature.digest()) == 2
        assert "vector_width" in text

    def test_the_head_covers_every_byte(self, compiled: Program, tmp_path: Path) -> None:
        one, other = tmp_path / "one.bin", tmp_path / "other.bin"
        write(compiled, one)
        shutil.copy(one, tmp_path / "copy.bin")
        values = tuple((name, memoryview(bytes(values.nbytes))) for name, values in compiled.targets[0].golden)
        write(replace(compiled, targets=(replace(compiled.targets[0], golden=values),)), other)
        from mace_cl.tools import fingerprint

        heads = []
        for path in (one, tmp_path / "copy.bin", other):
            program = fingerprint.run(fingerprint.FingerprintArgs(path)).program
            assert program is not None
            heads.append(program.head)
        assert heads[0] == heads[1] != heads[2]

    def test_model(self, compiled: Program, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["fingerprint", str(model)]) == 0
        assert compiled.model.sha256 in capsys.readouterr().out
        assert main(["fingerprint", str(model), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["model_sha256"] == compiled.model.sha256

    def test_no_such_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["fingerprint", str(tmp_path / "absent")]) == 2
        assert "no such file" in capsys.readouterr().err


def test_an_input_may_be_anything(model: Path, device: Device) -> None:
    """The engine's fingerprint is of code, the model's of bytes: another model never hits."""
    x: Array = np.ones((2, 3), np.float32)
    with Runtime(OTHER, device=device) as runtime:
        np.testing.assert_array_equal(runtime.run({"x": x})["y"], -x)
    with Runtime(model, device=device) as runtime:
        assert runtime.decision.code == "no-file"
        check(runtime)
