"""A driver that compiles wrongly: the golden vectors tell, and the kernels that are wrong get their safe variant."""

from __future__ import annotations

import importlib.util
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mace_cl
from mace_cl import Runtime, compiler
from mace_cl.child import Child
from mace_cl.cli import main
from mace_cl.device import Device
from mace_cl.program.format import read, write
from mace_cl.program.program import Program, Target
from mace_cl.runtime.build import build_source
from mace_cl.runtime.compile import Built
from mace_cl.runtime.golden import MOST_VALUES, compare, expected, golden_inputs, quantises, sample
from mace_cl.runtime.worker import complete_binary
from mace_cl.schedule import Schedule
from support import case, difference, model_of, reference

NET = case(
    "net",
    "a = Conv<pads=[1,1,1,1]>(x, w, b) r = Relu(a) c = Conv<pads=[1,1,1,1]>(r, w2, b2) d = Relu(c) "
    "m = MaxPool<kernel_shape=[3,3]>(d) y = Conv(m, v) y1 = Conv<pads=[1,1,1,1]>(d, u, b)",
    x=(1, 16, 8, 8), w=(16, 16, 3, 3), b=(16,), w2=(16, 16, 3, 3), b2=(16,), v=(32, 16, 1, 1), u=(16, 16, 3, 3),
)  # fmt: skip
MODEL = model_of(NET).SerializeToString()


def check(runtime: Runtime) -> None:
    for name, wanted in NET.expected.items():
        assert difference(runtime.run(NET.inputs)[name], wanted) <= 1e-5


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def compiled(device: Device, tmp_path_factory: pytest.TempPathFactory) -> Program:
    path = tmp_path_factory.mktemp("compiled") / "net.bin"
    mace_cl.compile(MODEL, path, device=device, bake=True, store=False)
    return read(path)


def relu_kernel(schedule: Schedule) -> int:
    """The convolution with ReLU that is launched twice."""
    launched = [launch.kernel for launch in schedule.launches]
    (kernel,) = {kernel for kernel in launched if launched.count(kernel) > 1}
    assert "net.0" in next(launch.node for launch in schedule.launches if launch.kernel == kernel)
    return kernel


def kernel_of(schedule: Schedule, node: str) -> int:
    return next(launch.kernel for launch in schedule.launches if node in launch.node.split())


def altered(schedule: Schedule, wrong: Sequence[int]) -> Schedule:
    """Some kernels store other values than they should."""
    kernels = list(schedule.kernels)
    for index in wrong:
        source = kernels[index].source.replace("= (v))", "= (v) * 1.25f)")
        assert source != kernels[index].source
        kernels[index] = replace(kernels[index], source=source)
    return replace(schedule, kernels=tuple(kernels))


def miscompiled(target: Target, wrong: Sequence[int], device: Device, context: Any) -> Target:
    """The binaries that a driver would give that compiles some kernels wrongly."""
    schedule = altered(target.schedule, wrong)
    units = []
    for unit in target.units:
        program = build_source(context, schedule, unit.kernels)
        units.append(replace(unit, binary=complete_binary(device, context, schedule, unit.kernels, program)))
    return replace(target, units=tuple(units))


Begin = Callable[[Path], Runtime]


@pytest.fixture(params=["program beside a model", "program alone"])
def begin(request: pytest.FixtureRequest, device: Device) -> Begin:
    if request.param == "program alone":
        return lambda path: Runtime(path, device=device)
    return lambda path: Runtime(MODEL, program=path, device=device)


def repaired(
    compiled: Program, wrong: Sequence[int], device: Device, context: Any, path: Path, begin: Begin,
    caplog: pytest.LogCaptureFixture,
) -> Target:  # fmt: skip
    """Start from a file of a miscompiling driver; returns what the file then holds."""
    target = compiled.targets[0]
    write(replace(compiled, targets=(miscompiled(target, wrong, device, context),)), path)
    with caplog.at_level(logging.WARNING, logger="mace_cl"), begin(path) as runtime:
        assert runtime.decision.code == "wrong-answer"
        check(runtime)
    assert len(caplog.records) == 1
    names = [kernel.name for kernel in target.schedule.kernels]
    launch = next(launch for launch in target.schedule.launches if launch.kernel in wrong)
    assert f"answers wrong in kernel {names[launch.kernel]} ({launch.node}) first" in runtime.decision.sentence
    assert runtime.decision.sentence in caplog.text
    with begin(path) as runtime:
        assert runtime.decision.code == "hit"
        check(runtime)
    (after,) = read(path).targets
    assert {kernel for unit in after.units if unit.safe for kernel in unit.kernels} == set(wrong)
    said = dict(after.provenance)["safe kernels"]
    assert set(said.split(", ")) == {names[index] for index in wrong}
    assert after.golden == target.golden
    return after


def test_a_wrong_kernel_with_several_launches(
    compiled: Program, device: Device, context: Any, tmp_path: Path, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = relu_kernel(compiled.targets[0].schedule)
    repaired(compiled, [wrong], device, context, tmp_path / "net.bin", begin, caplog)


def test_several_wrong_kernels(
    compiled: Program, device: Device, context: Any, tmp_path: Path, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    schedule = compiled.targets[0].schedule
    wrong = sorted({kernel_of(schedule, "net.5"), kernel_of(schedule, "net.6"), relu_kernel(schedule)})
    assert len(wrong) == 3
    repaired(compiled, wrong, device, context, tmp_path / "net.bin", begin, caplog)


def test_every_kernel_that_can_be_wrong_is_found(
    compiled: Program, device: Device, context: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The blame falls on it alone, wherever it stands."""
    schedule = compiled.targets[0].schedule
    for index, kernel in enumerate(schedule.kernels):
        if kernel.source.count("STORE(") > 1:
            caplog.clear()
            path = tmp_path / f"{index}.bin"
            repaired(compiled, [index], device, context, path, lambda path: Runtime(path, device=device), caplog)


def test_without_the_guard(
    compiled: Program, device: Device, context: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("MACE_CL_GUARD", "off")
    wrong = relu_kernel(compiled.targets[0].schedule)
    repaired(compiled, [wrong], device, context, tmp_path / "n.bin", lambda path: Runtime(path, device=device), caplog)


def test_a_driver_that_miscompiles_from_the_start(
    device: Device, context: Any, monkeypatch: pytest.MonkeyPatch, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The reference answers while kernels compile, so that the first file is right already."""
    wrong: list[int] = []

    def compile_units(device: Device, schedule: Schedule, *_: object) -> list[Built]:
        wrong[:] = [relu_kernel(schedule)]
        bad = altered(schedule, wrong)
        kernels = tuple(range(len(schedule.kernels)))
        program = build_source(context, bad, kernels)
        return [Built(kernels, complete_binary(device, context, bad, kernels, program), 0.0)]

    monkeypatch.setattr(compiler, "compile_units", compile_units)
    with caplog.at_level(logging.WARNING, logger="mace_cl"), Runtime(MODEL, device=device) as runtime:
        assert runtime.decision.code == "no-file"
        check(runtime)
    assert len(caplog.records) == 1
    (path,) = store.glob("*.bin")
    (target,) = read(path).targets
    name = target.schedule.kernels[wrong[0]].name
    assert f"answers wrong in kernel {name} (net.0 net.1) first" in caplog.text
    assert dict(target.provenance)["safe kernels"] == name
    with Runtime(MODEL, device=device) as runtime:
        assert runtime.decision.code == "hit"
        check(runtime)


def test_a_reference_that_is_wrong_itself(
    compiled: Program, device: Device, tmp_path: Path, begin: Begin, caplog: pytest.LogCaptureFixture
) -> None:
    """No kernel is: there is a warning, the device's answer counts from now on, and everything runs."""
    path, (target,) = tmp_path / "net.bin", compiled.targets
    golden = tuple((name, memoryview((values * 3).tobytes())) for name, values in expected(target.golden).items())
    write(replace(compiled, targets=(replace(target, golden=golden),)), path)
    with caplog.at_level(logging.WARNING, logger="mace_cl"), begin(path) as runtime:
        assert runtime.decision.code == "wrong-answer"
        check(runtime)
    assert len(caplog.records) == 1
    assert "departs from the reference" in caplog.text
    (after,) = read(path).targets
    assert [unit.safe for unit in after.units] == [False] * len(target.units)
    assert dict(after.provenance)["oracle"] == f"device ({device.runtime})"
    for name, values in expected(after.golden).items():
        np.testing.assert_allclose(values, expected(target.golden)[name], rtol=1e-3, atol=1e-5)
    with begin(path) as runtime:
        assert runtime.decision.code == "hit"
        check(runtime)


def test_golden_values_are_the_references(compiled: Program) -> None:
    """Not the device's own: they are ONNX's answer to the golden inputs."""
    (target,) = compiled.targets
    outputs = reference(model_of(NET), golden_inputs(target.schedule.inputs), "reference")
    golden = expected(target.golden)
    assert set(golden) == set(outputs)
    assert compare(golden, outputs) is None
    for name, output in outputs.items():
        assert golden[name].size == min(output.size, MOST_VALUES)
        assert difference(golden[name], sample(output)) <= 1e-5
    assert dict(target.provenance)["oracle"].startswith("onnxruntime ")


def test_without_onnx_runtime_the_device_is_its_own_reference(
    device: Device, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with Runtime(MODEL, device=device) as runtime:
        check(runtime)
    (path,) = store.glob("*.bin")
    (target,) = read(path).targets
    assert dict(target.provenance)["oracle"] == f"device ({device.runtime})"
    assert {name for name, _ in target.golden} == {"y", "y1"}


def test_onnx_runtime_that_fails_is_no_reference(device: Device, monkeypatch: pytest.MonkeyPatch, store: Path) -> None:
    class Failing(Child):
        def __init__(self, module: str, function: str) -> None:
            super().__init__("mace_cl.runtime.worker", "absent")

    monkeypatch.setattr(compiler, "Child", Failing)
    with Runtime(MODEL, device=device) as runtime:
        check(runtime)
    (path,) = store.glob("*.bin")
    assert dict(read(path).targets[0].provenance)["oracle"].startswith("device")


def test_inspect_shows_the_self_check(
    compiled: Program, device: Device, context: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, (target,) = tmp_path / "net.bin", compiled.targets
    wrong = relu_kernel(target.schedule)
    write(replace(compiled, targets=(miscompiled(target, [wrong], device, context),)), path)
    Runtime(path, device=device).close()
    assert main(["inspect", str(path)]) == 0
    lines = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines() if len(line.split(None, 1)) > 1)
    assert lines["oracle"].startswith("onnxruntime ")
    assert lines["because"] == "compile"
    assert lines["safe"].split() == ["kernels", target.schedule.kernels[wrong].name]
    assert "golden" in lines
    assert main(["inspect", str(path), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    provenance = dict(seen["targets"][0]["provenance"])
    assert provenance["safe kernels"] == target.schedule.kernels[wrong].name
    assert seen["section_bytes"]["golden"] == sum(values.nbytes for _, values in target.golden)


class TestCompare:
    """What counts as a departure."""

    ONE: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {"y": np.array([1, -4, 0.5], np.float32)}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("given", "wrong"),
        [
            ([1, -4, 0.5], False),
            ([1.003, -4, 0.5], False),
            ([1.005, -4, 0.5], True),
            ([np.nan, -4, 0.5], True),
            ([np.inf, -4, 0.5], True),
            ([1, -4], True),
        ],
    )
    def test_table(self, given: list[float], wrong: bool) -> None:
        assert (compare(self.ONE, {"y": np.array(given, np.float32)}) is not None) == wrong

    def test_nan_where_it_stood(self) -> None:
        values = np.array([np.nan, 1], np.float32)
        assert compare({"y": values}, {"y": values.copy()}) is None
        assert compare({"y": values}, {"y": values[::-1].copy()}) is not None

    @pytest.mark.parametrize(
        ("dtype", "off", "step", "wrong"),
        [
            (np.uint8, 2, 1, False),  # 2 of 200 by one step
            (np.uint8, 2, 3, False),  # 1 % may be more
            (np.uint8, 3, 2, True),
            (np.int64, 1, 1, True),  # an index, and no grid
            (np.float32, 4, 1, False),
            (np.float32, 150, -9, True),
        ],
    )
    def test_networks_that_round_tensors_to_a_grid(self, dtype: Any, off: int, step: int, wrong: bool) -> None:
        wanted = np.arange(200) % 9
        given = (wanted + step * (np.arange(200) < off)).astype(np.int64).astype(dtype)
        golden = {"y": wanted.astype(np.float32)}
        assert (compare(golden, {"y": given}, quantised=True) is not None) == wrong
        assert compare(golden, {"y": given}) is not None


def test_which_networks_round_tensors_to_a_grid(device: Device) -> None:
    one = case(
        "q", "a = QuantizeLinear(x, s, z) y = DequantizeLinear(a, s, z)", x=(2, 3), s=np.float32(0.1), z=np.int8(0)
    )
    assert quantises(compiler.prepare(model_of(one).SerializeToString(), device, None).schedule)
    assert not quantises(compiler.prepare(model_of(NET).SerializeToString(), device, None).schedule)
