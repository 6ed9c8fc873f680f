"""The benchmark's figures: percentiles, operations, what lies in the arena, differences, peers that are not there."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_cl.benchmark import engines, pairs
from mace_cl.benchmark.operations import Stay, by_type, operations, stays
from mace_cl.benchmark.pairs import Engine, Latencies, difference, in_turns, percentile
from mace_cl.benchmark.svg import Plot, lines
from mace_cl.cli import main
from mace_cl.demo import models
from mace_cl.errors import InputError, MaceClError
from mace_cl.schedule import HostStep, Kernel, Launch, Node, Port, Schedule, Slot
from pages import HOSTILE, read_page


def test_percentiles_are_numpys() -> None:
    values = list(np.random.default_rng(1).random(37))
    for share in (0.0, 0.25, 0.5, 0.9, 0.99, 1.0):
        assert percentile(values, share) == pytest.approx(np.quantile(values, share))
    assert percentile([3.0], 0.9) == 3.0
    assert math.isnan(percentile([], 0.5))
    found = Latencies.of([4.0, 1.0, 2.0, 3.0])
    assert (found.runs, found.minimum, found.average, found.p50, found.maximum) == (4, 1.0, 2.5, 2.5, 4.0)


def slot(offset: int, size: int, space: str = "arena") -> Slot:
    return Slot(space, offset, size)


@pytest.fixture
def schedule() -> Schedule:
    """x → a (with weights) → b (over x) → y (over a): three launches of two kernels."""
    x, a, b, y = slot(0, 1024), slot(1024, 2048), slot(0, 512), slot(1024, 256)
    weights = slot(0, 4096, "constants")
    group = (1, 1, 1)
    return Schedule(
        (Port("x", "float32", (256,), x),),
        (Port("y", "float32", (64,), y),),
        (Kernel("conv2d_0", "conv2d", "", ()), Kernel("pool_1", "pool", "", ())),
        (
            Launch(0, group, group, (x, weights, a), "first", 2000),
            Launch(1, group, group, (a, b), "second", 100),
            Launch(1, group, group, (b, y), "third", 100),
        ),
        4096,
        4096,
        "",
    )


def test_operations(schedule: Schedule) -> None:
    runs: list[Any] = [
        ([(1000, 5000), (6000, 7000), (7000, 9000)], []),
        ([(0, 2000), (5000, 6000), (6000, 6000)], []),
    ]
    first, second, third = operations(schedule, runs)
    assert (first.type, first.node, first.kernel, first.route) == ("conv2d", "first", "conv2d_0", "opencl")
    assert (first.first, first.seconds, first.start) == pytest.approx((4e-6, 3e-6, 0))
    assert (first.bytes, first.output_bytes, first.flops) == (1024 + 4096 + 2048, 2048, 2000)
    assert first.flop_rate == pytest.approx(2000 / 3e-6)
    assert second.start == pytest.approx(5e-6)
    assert [(group.type, group.count, group.flops) for group in by_type((first, second, third))] == [
        ("conv2d", 1, 2000),
        ("pool", 2, 200),
    ]


def test_how_long_a_process_has_run() -> None:
    code = (
        "import time; before = time.monotonic(); from mace_cl.tools.common import process_seconds;"
        "print(process_seconds(), time.monotonic())"
    )
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said, now = map(float, done.stdout.split())
    assert 0 < said <= now - begin + 0.011, "a tick of 10 ms, as the process begins within one"


def test_an_operation_that_took_no_time_has_no_rate(schedule: Schedule) -> None:
    found = operations(schedule, [([(5, 5)] * 3, [])])
    assert [(one.flop_rate, one.byte_rate) for one in found] == [(0.0, 0.0)] * 3


def test_host_steps_stand_in_between(schedule: Schedule) -> None:
    x, b = Port("x", "float32", (256,), slot(0, 1024)), Port("b", "int64", (2, 3), None)
    step = HostStep(1, "CPUExecutionProvider", b"", (x,), (b,), (), "odd strange")
    mixed = replace(schedule, hosts=(step,), nodes=(Node("odd", "Det", "no kernel"), Node("strange", "Det", "no")))
    launches = [(1000, 3000), (13000, 14000), (14500, 15000)]
    first, host, second, third = operations(mixed, [(launches, [(70000, 77000)])])
    assert (host.index, host.type, host.node, host.route) == (1, "Det", "odd strange", "host")
    assert (host.bytes, host.output_bytes, host.flops) == (1024 + 48, 48, 0)
    assert [one.start for one in (first, host, second, third)] == pytest.approx([0, 2e-6, 9e-6, 10.5e-6])
    assert host.seconds == pytest.approx(7e-6)
    assert next(stay for stay in stays(mixed) if stay.name == "x").end == 1


def test_what_lies_in_the_arena(schedule: Schedule) -> None:
    assert stays(schedule) == (
        Stay("x", 0, 1024, -1, 0),
        Stay("first", 1024, 2048, 0, 1),
        Stay("second", 0, 512, 1, 2),
        Stay("third", 1024, 256, 2, 3),
    )


def test_difference() -> None:
    one = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    other = np.ones((1, 5), np.float32)
    assert difference([one, other], [one, other]) == 0.0
    assert difference([one, other], [other, one.transpose(0, 2, 3, 1)]) == 0.0, "another order, channels last"
    assert difference([one], [one + np.float32(2.3)]) == pytest.approx(2.3 / 25.3)
    assert difference([one], [one[..., :3]]) is None
    assert difference([one], [one, other]) is None
    assert difference([one * np.float32(np.nan)], [one]) == math.inf


def test_inputs_are_the_same_in_every_process() -> None:
    ports: engines.Ports = {"ids": ("int64", (1, 8)), "x": ("float32", (2, 3))}
    one, other = engines.inputs_for(ports), engines.inputs_for(ports)
    for name, (dtype, shape) in ports.items():
        assert (one[name].dtype.name, one[name].shape) == (dtype, shape)
        np.testing.assert_array_equal(one[name], other[name])
    for port in (("string", (1,)), ("float32", None)):
        with pytest.raises(InputError, match="input 'odd' takes"):
            engines.inputs_for({"odd": port})


def test_a_peer_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert engines.missing("openvino", tmp_path / "m.onnx") == "openvino is not installed: `pip install openvino`"
    monkeypatch.setattr(engines, "find_spec", lambda name: name)
    assert engines.missing("ort", tmp_path / "m.onnx") == ""
    assert "there is no" in engines.missing("litert", tmp_path / "m.onnx")
    (tmp_path / "m.tflite").touch()
    assert engines.missing("litert", tmp_path / "m.onnx") == ""


REQUEST = {"model": str(models.DIGITS), "threads": 1, "shapes": {}, "outputs": True, "trust": None}


def test_an_engine_in_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime beside itself: the protocol, the turns, equal answers."""
    monkeypatch.setattr(pairs, "_REST_SECONDS", 0.0)
    with Engine("ort") as one, Engine("ort") as other:
        for engine in (one, other):
            said = engine.load(REQUEST)
            assert 0 < said["first_run"] < 60
            assert said["memory"]["peak"] > 1 << 20
        (pair,) = list(in_turns(one, [other], 2))[-1].values()
    assert (pair.peer, pair.blocks, pair.difference) == ("ort", 2, 0.0)
    assert pair.ours.runs == pair.theirs.runs >= 6
    assert pair.low <= pair.ratio <= pair.high


def test_an_engine_that_refuses_or_dies() -> None:
    with Engine("mace-cl") as engine:
        own = {**REQUEST, "program": None, "device": "absent", "store": False, "jobs": None}
        with pytest.raises(MaceClError, match="No OpenCL device that fits 'absent'") as refused:
            engine.load(own)
        assert refused.value.exit_code == 6
    with Engine("ort") as engine, pytest.raises(MaceClError, match=r"ended while it was to load: exit code 1"):
        engine.load({**REQUEST, "model": "absent.onnx"})


@pytest.mark.parametrize(
    ("code", "said", "argv"),
    [
        (2, "no such file", ["absent.onnx"]),
        (2, "--peers: caffe: no such engine; known are ort", [str(models.DIGITS), "--peers", "ort,caffe"]),
        (2, "--warm-up: give a number", [str(models.DIGITS), "--warm-up", "-1"]),
        (2, "--shape x: should be like", [str(models.DIGITS), "--shape", "x"]),
        (8, "there is no directory", [str(models.DIGITS), "--html", "absent/x.html"]),
        (6, "No OpenCL device that fits 'absent'", [str(models.DIGITS), "--device", "absent"]),
        (3, "not a model of a format", [__file__]),
    ],
)
def test_what_is_refused(code: int, said: str, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", *argv, "--quiet", "--json"]) == code
    heard = capsys.readouterr()
    assert heard.out == ""
    assert said in heard.err


def test_a_kept_ceiling_that_is_no_number_is_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mace_cl.settings import Settings
    from mace_cl.tools import benchmark

    class Fake(Engine):
        def __init__(self, name: str) -> None:
            self.loaded = {"signature": "0" * 64, "device": {"runtime": "fake"}}

        def __exit__(self, *error: object) -> None: ...

        def ask(self, request: dict[str, Any], progress: object = None) -> dict[str, Any]:
            return {"flops": 2e9, "far_bytes": 1e9, "near_bytes": 4e9}

    monkeypatch.setattr(pairs, "Engine", Fake)
    settings = Settings.load(store_dir=tmp_path)
    place = tmp_path / f"ceilings-{'0' * 32}.json"
    for text in ("", "[]", '{"flops": "NaN", "far_bytes": 1, "near_bytes": 1}', '{"flops": -1, "far_bytes": 1e30}'):
        place.write_text(text)
        assert benchmark._ceilings(settings, Fake("")) == {"flops": 2e9, "far_bytes": 1e9, "near_bytes": 4e9}
    place.write_text('{"flops": 5e9, "far_bytes": 1, "near_bytes": 1}')
    assert benchmark._ceilings(settings, Fake("")) == {"flops": 5e9, "far_bytes": 1e9, "near_bytes": 4e9}
    assert json.loads(place.read_text())["flops"] == 5e9


def test_input_error_is_what_it_is() -> None:
    from mace_cl.tools.benchmark import BenchmarkArgs, run

    with pytest.raises(InputError):
        run(BenchmarkArgs(Path("absent.onnx")))


def result_of(schedule: Schedule, name: str) -> Any:
    from mace_cl.tools.benchmark import BenchmarkResult, Machine, Memory, Start
    from mace_cl.tools.common import DeviceName

    hostile = replace(
        schedule,
        kernels=tuple(replace(kernel, family=kernel.family + name) for kernel in schedule.kernels),
        launches=tuple(replace(launch, node=name) for launch in schedule.launches),
        inputs=tuple(replace(port, name=name) for port in schedule.inputs),
    )
    found = operations(hostile, [([(0, 2000), (5000, 6000), (6000, 6000)], [])])
    times = Latencies.of([0.001, 0.002])
    pair = pairs.Pair("ort", name, 0.9, 0.8, 1.0, 3, times, times, None, 0.1, 0.2, None)
    start = Start("hit", name, 0.1, 0.01, {"imports": 0.05, name: 0.05})
    device = DeviceName("pocl", name, name)
    ceilings = {"flops": 2e9, "far_bytes": 1e9, "near_bytes": 4e9}
    return BenchmarkResult(
        Path(f"{name.replace('/', '')}.onnx"), Machine.here(), device, start, start, 0.1, times, found, ceilings,
        Memory(4096, 4096, None, None, None), stays(hostile), (pair,), {"ncnn": name}, True,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["plain", HOSTILE])
def test_the_page_is_whole_and_asks_for_nothing(schedule: Schedule, name: str) -> None:
    from mace_cl.tools.benchmark_page import page

    reader = read_page(page(result_of(schedule, name)))
    assert reader.seen.count("svg") == 4
    assert name in reader.said, "the name is there, as text"


def test_a_plot_puts_values_in_their_places() -> None:
    plot = Plot("t", (1, 100), (0, 10), x_log=True, width=900, height=360)
    plot.point(10, 5, "red", "tip")
    found = re.search('cx="([0-9.]+)" cy="([0-9.]+)"', plot.text)
    assert found is not None
    assert [float(value) for value in found.groups()] == pytest.approx([(72 + 884) / 2, (28 + 316) / 2], abs=0.01)
    turned = Plot("t", (0, 1), (4, 0), width=900, height=360, y_ticks=False)
    turned.box((0, 1), (1, 2), "red", "tip")
    assert 'y="100.00" width="812.00" height="72.00"' in turned.text, "the first row is on top"
    assert "1e+" not in lines("s", {"a": [(128, 1.0), (1024, 64.0)]}, "x", "y")


def test_interrupting_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mace_cl.tools import benchmark

    said: dict[str, Any] = {
        "version": "1", "init": 0.1, "first_run": 0.1, "memory": {}, "timings": {}, "ports": {}, "arena": 1024,
        "decision": {"code": "hit", "sentence": "It fits.", "target": 0}, "constants": 0, "signature": "0" * 64,
        "device": {"runtime": "fake", "name": "fake", "driver": "1"}, "operations": [], "stays": [],
        "flops": 1e9, "far_bytes": 1e9, "near_bytes": 1e9,
    }  # fmt: skip

    class Fake(Engine):
        def __init__(self, name: str) -> None:
            self.name, self.loaded = name, {}

        def __exit__(self, *error: object) -> None: ...

        def ask(self, request: dict[str, Any], progress: object = None) -> dict[str, Any]:
            if request.get("engine") == "ort":
                raise KeyboardInterrupt
            return {**said, "seconds": [0.001] * request.get("runs", 1)}

    monkeypatch.setattr(pairs, "Engine", Fake)
    html = tmp_path / "page.html"
    result = benchmark.run(benchmark.BenchmarkArgs(models.DIGITS, peers=("ort",), html=html, store=False))
    assert (result.interrupted, result.pairs, result.latency.runs) == (True, (), 100)
    assert html.read_text(encoding="utf-8").endswith("</html>\n")
    assert main(["benchmark", str(models.DIGITS), "--peers", "ort", "--no-store", "-q", "--json"]) == 130
