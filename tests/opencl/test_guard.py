"""Binaries that a driver does not survive: forged with right checksums, they cost a child process and nothing else."""

from __future__ import annotations

import logging
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

import mace_cl
from mace_cl import Runtime, child, loading
from mace_cl.device import Device, quirk_for
from mace_cl.errors import BuildError, DeviceError
from mace_cl.program.format import read, write
from mace_cl.program.program import Program, Target, Unit
from mace_cl.program.proofs import Proofs
from support import case, difference, model_of

NET = case(
    "net", "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) m = MaxPool<kernel_shape=[2,2]>(r) y = Conv(m, v)",
    x=(1, 5, 8, 8), w=(8, 5, 3, 3), b=(8,), v=(16, 8, 1, 1),
)  # fmt: skip
MODEL = model_of(NET).SerializeToString()
KEY = bytes(range(32))

Change = Callable[[bytes], bytes]


def check(runtime: Runtime) -> None:
    assert difference(runtime.run(NET.inputs)["y"], NET.expected["y"]) <= 1e-5


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def compiled(device: Device, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A right program with its weights inside, made where no proof of it is kept."""
    path = tmp_path_factory.mktemp("compiled") / "net.bin"
    mace_cl.compile(MODEL, path, device=device, bake=True, store=False)
    return path.read_bytes()


@pytest.fixture(params=["program beside a model", "program alone"])
def begin(request: pytest.FixtureRequest, device: Device) -> Callable[[Path], Runtime]:
    """Starts from a program file, with the model or without."""
    if request.param == "program alone":
        return lambda path: Runtime(path, device=device)
    return lambda path: Runtime(MODEL, program=path, device=device)


def changed_units(program: Program, change: Callable[[Unit], Unit]) -> Program:
    def target(one: Target) -> Target:
        return replace(one, units=tuple(map(change, one.units)))

    return replace(program, targets=tuple(map(target, program.targets)))


def forge(source: bytes, path: Path, change: Change, key: bytes | None = None) -> bytes:
    """Write ``source`` with other binaries, all checksums and bonds right; returns the file's bytes."""

    def unit(one: Unit) -> Unit:
        assert one.binary is not None
        return replace(one, binary=change(bytes(one.binary)))

    write(changed_units(read(source), unit), path, key=key)
    return path.read_bytes()


def half(binary: bytes) -> bytes:
    return binary[: len(binary) // 2]


def noise(binary: bytes) -> bytes:
    return random.Random(7).randbytes(len(binary))


def noise_inside(binary: bytes) -> bytes:
    """What a driver looks at first is right; then comes noise."""
    return binary[:200] + random.Random(8).randbytes(len(binary) - 200)


def not_code(binary: bytes) -> bytes:
    return b"not code"


FORGERIES = (half, noise, noise_inside, not_code)
DEADLY = (half, noise_inside)


@pytest.mark.parametrize("change", FORGERIES, ids=lambda change: str(change.__name__))
def test_a_forged_binary_costs_no_more_than_a_child(
    compiled: bytes, tmp_path: Path, change: Change, begin: Callable[[Path], Runtime], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "net.bin"
    forged = forge(compiled, path, change)
    with caplog.at_level(logging.WARNING, logger="mace_cl"), begin(path) as runtime:
        check(runtime)
        assert runtime.decision.code in ("driver-died", "driver-refused")
        assert "its binaries do not work on" in runtime.decision.sentence
    assert f"[{runtime.decision.code}]" in caplog.text
    assert "The file is kept as" in caplog.text
    assert (tmp_path / "net.bin.damaged-1").read_bytes() == forged, "the file is there to be looked at"
    part = read(path).targets[-1]
    assert dict(part.provenance)["because"] == runtime.decision.code
    with begin(path) as runtime:
        assert runtime.decision.code == "hit"
        check(runtime)


@pytest.mark.parametrize("change", DEADLY, ids=lambda change: str(change.__name__))
def test_these_forgeries_are_deadly(compiled: bytes, tmp_path: Path, change: Change, device: Device) -> None:
    """What the guard is for: without it, where drivers die of a damaged binary, this process would."""
    forge(compiled, tmp_path / "net.bin", change)
    code = (
        "import sys; from mace_cl.program.proofs import Proofs; Proofs.known = lambda *_: True; "
        f"from mace_cl import Runtime; r = Runtime({str(tmp_path / 'net.bin')!r}, device={device.runtime!r}); "
        "sys.exit(0 if r.decision.code == 'driver-refused' else 9)"
    )
    status = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=300).returncode
    assert (status < 0) == quirk_for(device).damaged_binary_kills
    assert status <= 0


def test_a_right_file_from_elsewhere_is_proven_once(
    compiled: bytes, tmp_path: Path, begin: Callable[[Path], Runtime], monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(compiled)
    with begin(path) as runtime:
        assert (runtime.decision.code, "proof" in runtime.timings) == ("hit", True)
        check(runtime)
    assert path.read_bytes() == compiled
    assert len(list((store / "proven").iterdir())) == 1
    no_child(monkeypatch)
    with begin(path) as runtime:
        assert (runtime.decision.code, "proof" in runtime.timings) == ("hit", False)
        check(runtime)


def no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr(child, "Child", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)


def test_what_was_compiled_here_is_proven(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later start from it begins no process, and the proof costs it one `exists`."""
    path = tmp_path / "net.bin"
    Runtime(MODEL, device=device).close()
    mace_cl.compile(MODEL, path, device=device, bake=True)
    no_child(monkeypatch)
    asked: list[str] = []
    known = Proofs.known

    def told(proofs: Proofs, name: str) -> bool:
        asked.append(name)
        return known(proofs, name)

    monkeypatch.setattr(Proofs, "known", told)
    for source in (MODEL, path, path.read_bytes()):
        with Runtime(source, device=device) as runtime:
            assert runtime.decision.code == "hit"
            check(runtime)
    assert len(asked) <= 6


def test_without_a_store_every_start_proves(compiled: bytes, device: Device, store: Path) -> None:
    for _ in range(2):
        with Runtime(compiled, device=device, store=False) as runtime:
            assert "proof" in runtime.timings
            check(runtime)
    assert not store.exists()


def test_bytes(compiled: bytes, tmp_path: Path, device: Device, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    """Bytes can't be replaced: the part that works is kept in the store."""
    forged = forge(compiled, tmp_path / "net.bin", half)
    with Runtime(forged, device=device) as runtime:
        assert runtime.decision.code in ("driver-died", "driver-refused")
        check(runtime)
    no_child(monkeypatch)
    with Runtime(forged, device=device) as runtime:
        assert runtime.decision.code == "hit"
        check(runtime)
    assert (tmp_path / "net.bin").read_bytes() == forged
    assert len(list(store.glob("*.bin"))) == 1


def test_other_bytes_of_the_same_model_are_not_taken_for_these(compiled: bytes, tmp_path: Path, device: Device) -> None:
    """What is kept beside a stranger's program is never used for another, nor for the model that it names."""
    program = read(compiled)
    constants = program.targets[0].constants
    assert constants is not None
    zeros = replace(program.targets[0], constants=memoryview(bytes(len(constants))), golden=())
    elsewhere = replace(zeros, signature=replace(zeros.signature, device="Elsewhere"))
    write(replace(program, targets=(elsewhere,)), tmp_path / "wrong.bin")
    with Runtime((tmp_path / "wrong.bin").read_bytes(), device=device) as runtime:
        assert not runtime.run(NET.inputs)["y"].any()
    for source in (MODEL, compiled):
        with Runtime(source, device=device) as runtime:
            check(runtime)


def test_encrypted(compiled: bytes, tmp_path: Path, device: Device, store: Path) -> None:
    """The child gets the key; what is kept in the store is encrypted too, and the file stays as it is."""
    path = tmp_path / "net.bin"
    forged = forge(compiled, path, half, KEY)
    for code in (("driver-died", "driver-refused"), ("hit",), ("hit",)):
        with Runtime(path, device=device, key=lambda: KEY) as runtime:
            assert runtime.decision.code in code
            check(runtime)
    assert path.read_bytes() == forged
    source = read(compiled).targets[0].schedule.kernels[0].source.encode()
    (kept,) = store.glob("*.bin")
    assert source in compiled
    assert source not in kept.read_bytes()


@pytest.mark.parametrize("weights", ["in the store", "gone"])
def test_unbaked(tmp_path: Path, device: Device, weights: str, store: Path) -> None:
    """The child gets the weights, from the store or as the model packs them anew."""
    path = tmp_path / "net.bin"
    mace_cl.compile(MODEL, path, device=device)
    forge(path.read_bytes(), path, half)
    if weights == "gone":
        for one in store.glob("*.weights.bin"):
            one.unlink()
    with Runtime(MODEL, program=path, device=device) as runtime:
        assert runtime.decision.code in ("driver-died", "driver-refused")
        check(runtime)
    with Runtime(MODEL, program=path, device=device) as runtime:
        assert runtime.decision.code == "hit"
        check(runtime)


def test_unbaked_alone(tmp_path: Path, device: Device) -> None:
    path = tmp_path / "net.bin"
    mace_cl.compile(MODEL, path, device=device)
    forge(path.read_bytes(), path, noise_inside)
    for code in (("driver-died", "driver-refused"), ("hit",)):
        with Runtime(path, device=device) as runtime:
            assert runtime.decision.code in code
            check(runtime)
    assert all(target.constants is None for target in read(path).targets)


def test_other_parts_stay(compiled: bytes, tmp_path: Path, device: Device) -> None:
    """Only the part that does not work is replaced."""
    path = tmp_path / "net.bin"
    program = read(compiled)
    (mine,) = program.targets
    signature = replace(mine.signature, device="Elsewhere")
    bad = tuple(replace(unit, binary=half(bytes(unit.binary or b""))) for unit in mine.units)
    write(replace(program, targets=(replace(mine, units=bad), replace(mine, signature=signature))), path)
    with Runtime(path, device=device) as runtime:
        check(runtime)
    first, second = read(path).targets
    assert first == replace(mine, signature=signature)
    assert (second.signature, second.constants) == (mine.signature, mine.constants)


def test_a_child_that_gives_no_answer(
    compiled: bytes, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that hangs is one that died."""
    path = tmp_path / "net.bin"
    path.write_bytes(compiled)
    monkeypatch.setattr(loading, "_PROOF_SECONDS", 0.01)
    with Runtime(path, device=device) as runtime:
        assert runtime.decision.code == "driver-died"
        assert "it gave no answer in 0 s" in runtime.decision.sentence
        check(runtime)


def test_the_guard_can_be_turned_off(
    compiled: bytes, device: Device, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """First use is then checked in this process, and proven all the same."""
    monkeypatch.setenv("MACE_CL_GUARD", "0")
    no_child(monkeypatch)
    with Runtime(compiled, device=device) as runtime:
        assert (runtime.decision.code, "self-check" in runtime.timings) == ("hit", True)
        check(runtime)
    with Runtime(compiled, device=device) as runtime:
        assert (runtime.decision.code, "self-check" in runtime.timings) == ("hit", False)


def test_a_binary_of_other_kernels_is_refused_even_unguarded(
    compiled: bytes, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = model_of(case("other", "y = Neg(x)", x=(1, 5, 8, 8))).SerializeToString()
    mace_cl.compile(other, tmp_path / "other.bin", device=device, bake=True)
    binary = bytes(read(tmp_path / "other.bin").targets[0].units[0].binary or b"")
    forge(compiled, tmp_path / "net.bin", lambda _: binary)
    monkeypatch.setenv("MACE_CL_GUARD", "no")
    with Runtime(tmp_path / "net.bin", device=device) as runtime:
        assert runtime.decision.code == "driver-refused"
        assert "holds no kernel" in runtime.decision.sentence
        check(runtime)


def test_a_stripped_file_is_compiled_and_kept(compiled: bytes, device: Device, tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    write(changed_units(read(compiled), lambda unit: replace(unit, binary=None)), path)
    for code in ("no-binaries", "hit"):
        with Runtime(path, device=device) as runtime:
            assert runtime.decision.code == code
            check(runtime)


class TestChild:
    """The protocol itself."""

    @pytest.fixture
    def helper(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], child.Child]]:
        monkeypatch.syspath_prepend(str(tmp_path))
        started: list[child.Child] = []

        def begin(body: str) -> child.Child:
            text = f"import os, sys\ndef function(request, blobs, report):\n    {body}\n"
            (tmp_path / "helper_of_a_test.py").write_text(text)
            started.append(child.Child("helper_of_a_test", "function"))
            return started[-1]

        yield begin
        for one in started:
            one.kill()

    def test_answer_and_reports(self, helper: Callable[[str], child.Child]) -> None:
        heard: list[int] = []
        body = "report({'n': 1}); report({'n': 2}); print('a driver talks'); return {'got': [len(b) for b in blobs]}"
        said = helper(body).ask({}, [b"xyz", memoryview(bytes(1 << 20))], report=lambda one: heard.append(one["n"]))
        assert said["got"] == [3, 1 << 20]
        assert heard == [1, 2]

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ("os.kill(os.getpid(), 11)", "signal 11"),
            ("os._exit(3)", "exit code 3"),
            ("raise RuntimeError('last words')", "exit code 1: .*last words"),
        ],
    )
    def test_deaths(self, helper: Callable[[str], child.Child], body: str, words: str) -> None:
        with pytest.raises(child.ChildError, match=words):
            helper(body).ask({})

    def test_death_before_the_question(self, helper: Callable[[str], child.Child]) -> None:
        one = helper("return {}")
        one._process.kill()
        with pytest.raises(child.ChildError, match="signal 9"):
            one.ask({}, [bytes(1 << 22)])

    def test_a_hang(self, helper: Callable[[str], child.Child]) -> None:
        with pytest.raises(child.ChildError, match="no answer in 1 s"):
            helper("import time; time.sleep(60)").ask({}, timeout=1)

    def test_an_interrupt_leaves_no_timer(
        self, helper: Callable[[str], child.Child], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Ctrl-C while the timer begins; one that lived on would keep the interpreter until its time is up."""
        begun: list[threading.Timer] = []

        class Interrupted(threading.Timer):
            def start(self) -> None:
                super().start()
                begun.append(self)
                raise KeyboardInterrupt

        monkeypatch.setattr(threading, "Timer", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            helper("return {}").ask({}, timeout=60)
        begun[0].join(5.0)
        assert not begun[0].is_alive()

    def test_it_ends_with_its_parent(self, helper: Callable[[str], child.Child], tmp_path: Path) -> None:
        """A start that is killed leaves no compiler behind, however busy that is."""
        helper("report({'pid': os.getpid()}); import time; time.sleep(600)")
        code = (
            f"import os, sys; sys.path.insert(0, {str(tmp_path)!r}); from mace_cl.child import Child; "
            "said = lambda one: (print(one['pid'], flush=True), os.kill(os.getpid(), 9)); "
            "Child('helper_of_a_test', 'function').ask({}, report=said)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert done.returncode == -9
        pid = int(done.stdout)
        for _ in range(200):
            with suppress(ProcessLookupError):
                os.kill(pid, 0)
                time.sleep(0.05)
                continue
            return
        raise AssertionError(f"{pid} still runs")

    def test_modules_beside_the_user_are_not_imported(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A start in a directory with a ``json.py`` of the user's own."""
        (tmp_path / "json.py").write_text("raise SystemExit('not this one')")
        monkeypatch.chdir(tmp_path)
        one = child.Child("mace_cl.runtime.worker", "refer")
        try:
            assert "error" in one.ask({"model": "absent", "inputs": []})
        finally:
            one.kill()


def test_a_device_that_can_not_compile_says_so(compiled: bytes, device: Device, tmp_path: Path) -> None:
    forge(compiled, tmp_path / "net.bin", half)
    mute = replace(device, can_compile=False, reason="has no compiler")
    with pytest.raises(DeviceError, match="has no compiler") as caught:
        Runtime(tmp_path / "net.bin", device=mute)
    assert not isinstance(caught.value, BuildError)
