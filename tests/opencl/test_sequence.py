"""Launches in sequence give what launches one by one give, bit for bit."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_cl import Runtime
from mace_cl.compiler import Prepared, prepare
from mace_cl.device import Device
from mace_cl.errors import BuildError, SettingsError
from mace_cl.runtime.alike import alike
from mace_cl.runtime.build import build_source, split
from mace_cl.runtime.executor import Executor
from mace_cl.runtime.golden import golden_inputs
from mace_cl.schedule import Schedule
from support import filled


def net(blocks: int) -> bytes:
    """Blocks of convolutions with a sum across each, of two shapes, with a pooling and a softmax behind them."""
    values: dict[str, tuple[int, ...]] = {"stem": (24, 3, 3, 3), "last": (24, 10)}
    nodes, at = [helper.make_node("Conv", ["x", "stem"], ["a0"], "stem", pads=[1] * 4)], "a0"
    for number in range(blocks):
        wide, deep, thin = f"wide{number}", f"deep{number}", f"thin{number}"
        values |= {wide: (72, 24, 1, 1), deep: (72, 1, 3, 3), thin: (24, 72, 1, 1)}
        nodes += [
            helper.make_node("Conv", [at, wide], [f"b{number}"], wide),
            helper.make_node("Relu", [f"b{number}"], [f"c{number}"], f"{wide}.relu"),
            helper.make_node("Conv", [f"c{number}", deep], [f"d{number}"], deep, group=72, pads=[1] * 4),
            helper.make_node("HardSwish", [f"d{number}"], [f"e{number}"], f"{deep}.swish"),
            helper.make_node("Conv", [f"e{number}", thin], [f"f{number}"], thin),
            helper.make_node("Add", [f"f{number}", at], [f"a{number + 1}"], f"sum{number}"),
        ]
        at = f"a{number + 1}"
    nodes += [
        helper.make_node("GlobalAveragePool", [at], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["q"], "flat"),
        helper.make_node("MatMul", ["q", "last"], ["r"], "dense"),
        helper.make_node("Softmax", ["r"], ["y"], "softmax"),
    ]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 15, 13])]
    shapes = {at: (2, 24, 15, 13), "y": (2, 10)}
    results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    weights = [numpy_helper.from_array(filled(name, shape) / 8, name) for name, shape in values.items()]
    model = helper.make_model(helper.make_graph(nodes, "net", ports, results, weights))
    model.opset_import[0].version, model.ir_version = 17, 9
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


@pytest.fixture(scope="module")
def prepared(device: Device) -> Prepared:
    return prepare(net(3), device, None)


def started(device: Device, context: Any, schedule: Schedule, prepared: Prepared, jobs: int = 1) -> Executor:
    programs = [(kernels, build_source(context, schedule, kernels)) for kernels in split(schedule, jobs)]
    return Executor(device, context, schedule, programs, prepared.constants)


@pytest.fixture(scope="module")
def wanted(device: Device, context: Any, prepared: Prepared) -> dict[str, Any]:
    schedule = replace(prepared.schedule, shares=0)
    with started(device, context, schedule, prepared) as executor:
        return executor.run(golden_inputs(schedule.inputs))


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def sequenced(prepared: Prepared) -> Schedule:
    if any(launch.local_size != (1, 1, 1) for launch in prepared.schedule.launches):
        pytest.skip("kernels for this device run in groups of several work-items")
    return replace(prepared.schedule, shares=2)


@pytest.mark.parametrize("shares", [1, 2, 3, 8])
@pytest.mark.parametrize("jobs", [1, 3])
def test_a_sequence_answers_as_launches_do(
    device: Device,
    context: Any,
    prepared: Prepared,
    sequenced: Schedule,
    wanted: dict[str, Any],
    shares: int,
    jobs: int,
) -> None:
    schedule = replace(sequenced, shares=shares)
    with started(device, context, schedule, prepared, jobs) as executor:
        inputs = golden_inputs(schedule.inputs)
        for _ in range(20):  # counters are zero again after each run
            assert equal(executor.run(inputs), wanted)


def growing() -> bytes:
    """Convolutions and depthwise ones that differ in channels alone."""
    nodes, weights, at, channels = [], [], "x", 32
    for number, wide in enumerate((32, 64, 96, 128)):
        shapes = {"w": (wide, channels, 1, 1), "d": (wide, 1, 3, 3)}
        weights += [numpy_helper.from_array(filled(key, s) / 8, f"{key}{number}") for key, s in shapes.items()]
        nodes += [
            helper.make_node("Conv", [at, f"w{number}"], [f"a{number}"]),
            helper.make_node("Conv", [f"a{number}", f"d{number}"], [f"b{number}"], group=wide, pads=[1] * 4),
        ]
        at, channels = f"b{number}", wide
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 32, 12, 12])]
    results = [helper.make_tensor_value_info(at, TensorProto.FLOAT, [1, 128, 12, 12])]
    model = helper.make_model(helper.make_graph(nodes, "growing", ports, results, weights))
    model.opset_import[0].version, model.ir_version = 17, 9
    return model.SerializeToString()


def test_kernels_alike_answer_as_each_does(device: Device, context: Any) -> None:
    prepared = prepare(growing(), device, None)
    if any(launch.local_size != (1, 1, 1) for launch in prepared.schedule.launches):
        pytest.skip("kernels for this device run in groups of several work-items")
    groups = [one.kernels for one in alike(dict(enumerate(prepared.schedule.kernels)))]
    assert len(groups) < len(prepared.schedule.kernels)
    inputs = golden_inputs(prepared.schedule.inputs)
    with started(device, context, replace(prepared.schedule, shares=0), prepared) as executor:
        wanted = executor.run(inputs)
    for jobs in (1, 2):
        with started(device, context, replace(prepared.schedule, shares=2), prepared, jobs) as executor:
            assert equal(executor.run(inputs), wanted)


def test_each_launch_of_a_sequence_runs_alone(
    device: Device, context: Any, prepared: Prepared, sequenced: Schedule, wanted: dict[str, Any]
) -> None:
    schedule = sequenced
    with started(device, context, schedule, prepared) as executor:
        inputs = golden_inputs(schedule.inputs)
        launches, _ = executor.profile(inputs)
        assert len(launches) == len(schedule.launches)
        assert all(begin <= end for begin, end in launches)
        for port in schedule.outputs:
            assert port.slot is not None
            got = executor.read(port.slot)[: wanted[port.name].size]
            assert np.array_equal(got, wanted[port.name].reshape(-1))


def test_twins_run_in_sequence_at_the_same_time(
    device: Device, context: Any, prepared: Prepared, sequenced: Schedule, wanted: dict[str, Any]
) -> None:
    schedule = sequenced
    right: list[bool] = []
    with started(device, context, schedule, prepared) as executor, executor.twin() as twin:

        def work(one: Executor) -> None:
            inputs = golden_inputs(schedule.inputs)
            right.extend(equal(one.run(inputs), wanted) for _ in range(50))

        threads = [threading.Thread(target=work, args=(one,)) for one in (executor, twin)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 100


def test_a_launch_with_an_argument_too_few_is_refused(
    device: Device, context: Any, prepared: Prepared, sequenced: Schedule
) -> None:
    schedule = sequenced
    programs = [(kernels, build_source(context, schedule, kernels)) for kernels in split(schedule, 1)]
    first, *others = schedule.launches
    odd = replace(schedule, launches=(replace(first, args=first.args[1:]), *others))
    with pytest.raises(BuildError, match=f"launch 0: kernel .* takes {len(first.args)} arguments, not"):
        Executor(device, context, odd, programs, prepared.constants)


def test_a_program_without_a_sequence_is_refused(
    device: Device, context: Any, prepared: Prepared, sequenced: Schedule
) -> None:
    plain, schedule = replace(sequenced, shares=0), sequenced
    programs = [(kernels, build_source(context, plain, kernels)) for kernels in split(plain, 1)]
    with pytest.raises(BuildError, match="no kernel sequence_"):
        Executor(device, context, schedule, programs, prepared.constants)


@pytest.mark.parametrize(("window", "limit"), [(1, 0.0), (3, 0.0), (0, 1e-4), (2, 0.01)])
def test_a_bounded_queue_and_cut_launches_answer_the_same(
    device: Device, context: Any, prepared: Prepared, wanted: dict[str, Any], window: int, limit: float
) -> None:
    schedule = replace(prepared.schedule, shares=0)
    programs = [(kernels, build_source(context, schedule, kernels)) for kernels in split(schedule, 1)]
    inputs = golden_inputs(schedule.inputs)
    with Executor(device, context, schedule, programs, prepared.constants, window=window, limit=limit) as executor:
        pieces = sum(len(enqueues) for _, enqueues in executor._stretches)
        assert pieces > 3 * len(schedule.launches) if limit == 1e-4 else pieces >= len(schedule.launches)
        assert equal(executor.run(inputs), wanted)
        with executor.twin() as twin:
            assert equal(twin.run(inputs), wanted)


def test_the_settings_bound_the_queue(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MACE_CL_QUEUE_WINDOW", "2")
    monkeypatch.setenv("MACE_CL_KERNEL_LIMIT", "5")
    with Runtime(net(1), device=device, store=False) as runtime:
        executor, _ = runtime._last
        assert (executor._window, executor._limit) == (2, 5)
    monkeypatch.setenv("MACE_CL_QUEUE_WINDOW", "many")
    with pytest.raises(SettingsError, match="MACE_CL_QUEUE_WINDOW is 'many', but must be a whole number"):
        Runtime(net(1), device=device, store=False)
