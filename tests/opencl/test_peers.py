"""Defects seen in others' compiled-program files (docs/peers.md), each a test that shows it absent here."""

from __future__ import annotations

import logging
import pickle
import re
from dataclasses import replace
from pathlib import Path

import pytest

import mace_cl
from mace_cl import Runtime
from mace_cl.cli import main
from mace_cl.device import Device
from mace_cl.errors import BuildError
from mace_cl.program.format import read, write
from mace_cl.runtime.compile import compile_units
from mace_cl.runtime.sequence import shares_for
from mace_cl.schedule import Kernel
from support import case, difference, model_of

NET = case(
    "net", "c = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(c) y = Conv(r, v)",
    x=(1, 16, 8, 8), w=(16, 16, 3, 3), b=(16,), v=(32, 16, 1, 1),
)  # fmt: skip
MODEL = model_of(NET).SerializeToString()
SMALL = model_of(case("small", "y = Neg(x)", x=(1, 16, 8, 8))).SerializeToString()


def check(runtime: Runtime) -> None:
    assert difference(runtime.run(NET.inputs)["y"], NET.expected["y"]) <= 1e-5


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "net.onnx").write_bytes(MODEL)
    return tmp_path / "net.onnx"


@pytest.fixture
def program(tmp_path: Path, device: Device) -> Path:
    mace_cl.compile(MODEL, tmp_path / "net.bin", device=device, bake=True)
    return tmp_path / "net.bin"


@pytest.mark.parametrize("values", [{"device": ""}, {"vendor": ""}, {"device": "Some GPU of a maker unknown"}])
def test_a_device_without_a_known_name_still_hits(program: Path, device: Device, values: dict[str, str]) -> None:
    """MACE clears its cache at every start where it does not know the GPU's maker."""
    found = read(program)
    (target,) = found.targets
    nameless = replace(device, **{{"device": "name"}.get(name, name): value for name, value in values.items()})  # type: ignore[arg-type]
    write(replace(found, targets=(replace(target, signature=nameless.signature),)), program)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MACE_CL_GUARD", "0")  # a child would ask the driver, which knows the name
        for _ in range(2):
            with Runtime(program, device=nameless) as runtime:
                assert runtime.decision.code == "hit"
                check(runtime)


@pytest.mark.parametrize("text", ["", " ", "OpenCL", "OpenCL 2.0", "OpenCL 2.0 a b c d", "1.2.3", "\n", "é" * 999])
def test_version_strings_of_any_form(program: Path, device: Device, text: str) -> None:
    """MACE takes the third word of a driver's version without counting the words."""
    found = read(program)
    (target,) = found.targets
    signature = replace(target.signature, driver=text, platform_version=text, device_version=text, c_version=text)
    write(replace(found, targets=(replace(target, signature=signature),)), program)
    with Runtime(program, device=device) as runtime:
        assert runtime.decision.code == "driver-changed"
        check(runtime)


def test_a_build_that_fails_is_reported(program: Path, device: Device) -> None:
    """MNN hides the result of a failed build behind a variable of the same name."""
    schedule = read(program).targets[0].schedule
    bad = replace(schedule.kernels[0], source=f"__kernel void {schedule.kernels[0].name}() {{ undeclared_thing; }}")
    kernels: tuple[Kernel, ...] = (bad, *schedule.kernels[1:])
    with pytest.raises(BuildError, match=re.escape(bad.name)):
        compile_units(device, replace(schedule, kernels=kernels), 1)


def test_a_smaller_program_replaces_a_larger(program: Path, device: Device) -> None:
    """MNN writes its cache again only where it has grown: another model then compiles at every start."""
    before = program.stat().st_size
    for code in ("other-model", "hit"):
        with Runtime(SMALL, program=program, device=device) as runtime:
            assert runtime.decision.code == code
    assert program.stat().st_size < before


def test_a_warm_start_does_not_let_the_file_grow(model: Path, device: Device, store: Path) -> None:
    """MNN's cache grew at every run, and the second start was as slow as the first."""
    Runtime(model, device=device).close()
    (path,) = store.glob("*.bin")
    before = path.read_bytes()
    for _ in range(3):
        with Runtime(model, device=device) as runtime:
            assert runtime.decision.code == "hit"
            assert not {"read", "plan", "compile", "proof", "self-check"} & set(runtime.timings)
    assert path.read_bytes() == before
    assert list(store.glob("*.bin")) == [path]


def test_another_model_under_the_same_path_is_noticed(model: Path, device: Device) -> None:
    """Elsewhere the same error came at every start, as the old cache was neither used nor replaced."""
    Runtime(model, device=device, program=model.with_name("net.bin")).close()
    model.write_bytes(SMALL)
    for code in ("other-model", "hit"):
        with Runtime(model, device=device, program=model.with_name("net.bin")) as runtime:
            assert runtime.decision.code == code
            assert runtime.outputs[0].shape == (1, 16, 8, 8)


def test_no_binary_is_loaded_for_another_device(program: Path, device: Device) -> None:
    """TVM loads pre-compiled programs without a look at device or driver, and an error aborts."""
    found = read(program)
    (target,) = found.targets
    units = tuple(replace(unit, binary=b"\x7fELF of another device") for unit in target.units)
    elsewhere = replace(target, signature=replace(target.signature, device="Another"), units=units)
    write(replace(found, targets=(elsewhere,)), program)
    with Runtime(program, device=device) as runtime:
        assert runtime.decision.code == "device-missing"
        check(runtime)


def test_a_kernel_that_was_edited_is_compiled(program: Path, device: Device) -> None:
    """Users of MACE edit a kernel and the old one runs on; others forget included files or the engine's version."""
    found = read(program)
    write(replace(found, engine="0" * 32), program)
    with Runtime(MODEL, program=program, device=device) as runtime:
        assert runtime.decision.code == "engine-changed"
        check(runtime)


def test_off_touches_nothing(
    model: Path, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    """pyopencl made its cache directory although the cache was off.

    What a driver keeps for itself is its own affair, and so is pyopencl's cache of Python code (pytools).
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("POCL_CACHE_DIR", str(tmp_path / "drivers"))
    before = sorted(tmp_path.rglob("*"))
    assert main(["run", str(model), "--random", "--no-store", "--device", device.runtime, "-q"]) == 0
    others = {tmp_path / "drivers", tmp_path / "pytools"}
    after = [path for path in sorted(tmp_path.rglob("*")) if not others & {path, *path.parents}]
    assert after == before


def test_a_first_run_does_not_look_like_a_failure(
    model: Path, device: Device, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """MACE's users report "Failed to read kv store file" and "no precompiled OpenCL binary" as bugs."""
    argv = ["run", str(model), "--random", "--device", device.runtime]
    for more in (["--program", str(tmp_path / "net.bin")], [], ["--no-store"]):
        assert main([*argv, *more]) == 0
        said = capfd.readouterr().err
        assert "There is no compiled program yet; it is made now. [no-file]" in said
        assert not re.search("fail|error|warn|can't|cannot|not found|missing|invalid|refus", said, re.IGNORECASE)
        assert ("Later starts on" in said) == (more != ["--no-store"]), "what is not kept is not promised"
        assert ("Nothing is kept" in said) == (more == ["--no-store"])
    assert main(argv) == 0
    assert capfd.readouterr().err == "", "a warm start has nothing to say"


def test_progress_counts_kernels(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    """The first run elsewhere is half a minute of silence."""
    seen: list[tuple[str, int, int]] = []
    caplog.set_level(logging.INFO, logger="mace_cl")
    with Runtime(MODEL, device=device, store=False, progress=lambda *step: seen.append(step)) as runtime:
        check(runtime)
    counts = [(done, total) for what, done, total in seen if what == "compiling kernels"]
    total = counts[0][1]
    assert counts[0] == (0, total)
    assert counts[-1] == (total, total)
    assert counts == sorted(counts)
    if device.runtime.startswith("pocl") and not shares_for(device):  # a sequence is compiled at once
        assert [done for done, _ in counts if done] == list(range(1, total + 1)), "each kernel is seen to be done"
    assert re.search(rf"{total} kernels compiled in [0-9.]+ s; the slowest: \w+", caplog.text)


def test_loading_a_program_runs_no_code(program: Path, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """tinygrad's compiled models are pickles, which run what they hold."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert read(program).targets[0].signature == device.signature
