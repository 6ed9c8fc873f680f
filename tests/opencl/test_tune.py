"""Tuning on a real device: the same answers before and after, records used and named, interrupts survived."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mace_cl import Runtime, inspect
from mace_cl import compile as compile_model
from mace_cl.cli import main
from mace_cl.compiler import traits_of
from mace_cl.device import Device
from mace_cl.engine import tune_model
from mace_cl.frontends.read import load
from mace_cl.lower import lower
from mace_cl.passes.pipeline import optimise
from mace_cl.plan import Layout, Traits
from mace_cl.tune.measure import Bench, Candidate
from mace_cl.tune.records import Records, place_of
from mace_cl.tune.search import Choices, tune
from mace_cl.tune.space import legal, read_problem

RNG = np.random.default_rng(7)
X = {"x": RNG.standard_normal((1, 16, 24, 24), np.float32)}


def weights(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape, np.float32) / np.float32(np.prod(shape[1:]) ** 0.5), name)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 3×3, a depthwise and a 1×1 convolution."""
    nodes = [
        helper.make_node("Conv", ["x", "w0"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w1"], ["c"], pads=[1, 1, 1, 1], group=32),
        helper.make_node("Conv", ["c", "w2"], ["y"]),
    ]
    constants = [weights("w0", 32, 16, 3, 3), weights("w1", 32, 1, 3, 3), weights("w2", 48, 32, 1, 1)]
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", X["x"].shape), ("y", (1, 48, 24, 24)))
    ]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], constants)
    path = tmp_path_factory.mktemp("tune") / "net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path / "store"))
    return tmp_path / "store"


def answer(path: Path, device: Device, **options: Any) -> tuple[np.ndarray[Any, Any], str]:
    with Runtime(path, device=device, **options) as runtime:
        return runtime.run(X)["y"], runtime.decision.code


def test_tuning_changes_speed_and_nothing_else(model: Path, device: Device, store: Path) -> None:
    before, code = answer(model, device)
    assert code == "no-file"
    first = tune_model(model, 8.0, device=device)
    assert first.measured > 10
    records = Records(store / "tuning.jsonl")
    assert {one.family for one in records} == {"convolution", "conv2d", "depthwise"}
    for one in records.best():
        problem = read_problem(one.family, json.loads(one.problem))
        assert legal(problem, dict(one.parameters), traits_of(device)) is not None
    after, code = answer(model, device)
    assert code == "hit"
    assert np.abs(after - before).max() <= 2e-5 * np.abs(before).max()
    # a program made from the records says so
    compile_model(model, store.parent / "net.bin", device=device, bake=True)
    (target,) = inspect(store.parent / "net.bin").targets
    said = dict(target.provenance)
    assert "conv2d" in said["tuned, device"]
    assert said["algorithms, device"] == "1"
    # what is known is not measured again
    second = tune_model(model, 2.0, device=device)
    assert second.known > 0
    tried = [(one.key, one.parameters) for one in Records(store / "tuning.jsonl")]
    assert len(tried) == len(set(tried))


def test_what_gpus_have_is_tuned(model: Path, device: Device) -> None:
    plan = lower(optimise(load(model)), Layout(4, max(128, device.base_align)))
    traits = Traits(2, 16, 1 << 20, False, 1 << 15, device.image_texels, 256)
    records = Records(None)
    with Bench(device, 1, 1 << 16) as bench:
        tune(plan, Choices(records, traits, place_of(device), exact=True), bench, 12.0)
    tried = [dict(one.parameters) for one in records if one.family == "conv2d"]
    assert {one["group"] for one in tried} >= {64, 128}
    assert any(one.get("local") for one in tried)
    assert any(one["image"] for one in tried) == bool(device.image_texels)
    assert {one.verdict for one in records} <= {"best", "slower", "noise"}


def test_exact_forbids_winograd(model: Path, device: Device, store: Path) -> None:
    summary = tune_model(model, 6.0, device=device, exact=True)
    assert summary.measured > 0
    assert "convolution" not in {one.family for one in Records(store / "tuning.jsonl")}
    compile_model(model, store.parent / "net.bin", device=device, bake=True, exact=True)
    found = inspect(store.parent / "net.bin")
    assert dict(found.options)["exact"] == "true"
    assert not any(kernel.family.startswith("winograd") for kernel in found.targets[0].kernels)
    exact, code = answer(model, device, exact=True)
    assert code == "hit"
    usual, code = answer(model, device)
    assert code != "hit"  # another program
    assert np.abs(exact - usual).max() <= 2e-5 * np.abs(exact).max()


def test_the_command_line(
    model: Path, device: Device, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--device", device.runtime]
    assert main(["run", str(model), "--random", "--tune", "10s", *at]) == 0
    assert "tuned, device" in capsys.readouterr().err
    assert main(["tune", str(model), "--budget", "1s", "--json", "-q", *at]) == 0
    assert json.loads(capsys.readouterr().out)["summary"]["known"] > 0
    assert main(["compile", str(model), "-o", str(tmp_path / "net.bin"), *at, "-q"]) == 0
    assert "tuned, device" in capsys.readouterr().out
    assert main(["tune", "show", "--json", *at]) == 0
    assert {one["rung"] for one in json.loads(capsys.readouterr().out)["records"]} == {"device"}
    assert main(["tune", "show", *at]) == 0
    assert "conv2d 1x1 32→48" in capsys.readouterr().out
    assert main(["tune", "export", str(tmp_path / "out.jsonl")]) == 0
    assert main(["tune", "import", str(tmp_path / "out.jsonl")]) == 0
    assert "0 records" in capsys.readouterr().out
    (tmp_path / "out.jsonl").write_text("evil\n")
    assert main(["tune", "import", str(tmp_path / "out.jsonl")]) == 2
    assert main(["tune", "export"]) == 2
    assert main(["tune", str(model), "file"]) == 2
    assert main(["tune", str(tmp_path / "net.bin"), *at]) == 2
    assert main(["tune", str(tmp_path / "absent"), *at]) == 2
    assert "no such file" in capsys.readouterr().err


def test_an_interrupt_keeps_what_was_measured(model: Path, device: Device, store: Path) -> None:
    file = store / "tuning.jsonl"
    argv = [sys.executable, "-m", "mace_cl", "tune", str(model), "--budget", "100s", "--device", device.runtime]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, start_new_session=True) as child:
        try:
            deadline = time.monotonic() + 100
            while time.monotonic() < deadline and (not file.exists() or file.read_bytes().count(b"\n") < 8):
                time.sleep(0.1)
            os.killpg(child.pid, signal.SIGINT)  # as a terminal does
            _, words = child.communicate(timeout=30)
        finally:
            child.kill()
    assert child.returncode == 130
    assert "interrupted" in words
    assert f"are kept in {file}" in words
    kept = Records(file)
    assert len(kept) >= 8
    assert {one.verdict for one in kept} <= {"best", "slower", "noise"}
    summary = tune_model(model, 3.0, device=device)
    assert summary.known > 0
    assert list(Records(file))[: len(kept)] == list(kept)


class TestBench:
    """What a candidate can do to its worker."""

    def candidate(self, name: str, body: str, device: Device) -> Candidate:
        from mace_cl.schedule import Kernel, Launch, Port, Schedule, Slot

        x, y = Slot("arena", 0, 256), Slot("arena", 1024, 256)
        ports = (Port("x", "float32", (64,), x), Port("y", "float32", (64,), y))
        source = f"__kernel void k(__global const float *x, __global float *y) {{ {body} }}"
        launch = Launch(0, (64, 1, 1), (1, 1, 1), (x, y), "node")
        schedule = Schedule(ports, ports, (Kernel("k", "family", source, ()),), (launch,), 2048, 0, "")
        return Candidate(name, schedule, np.zeros(0, np.uint8))

    def test_nothing_begins_after_its_end(self, device: Device) -> None:
        """A thread that is about to start a child when Ctrl-C ends the others."""
        good = self.candidate("good", "y[get_global_id(0)] = x[get_global_id(0)];", device)
        with Bench(device, 1, 0) as bench:
            pass
        assert [one.verdict for one in bench._load(0, [good], "")] == ["died"]
        assert bench._children == [None]

    def test_all_launches_of_a_candidate_are_compared(self, device: Device) -> None:
        """As Winograd's method goes in bands: the last launch writes the last band alone."""
        from mace_cl.schedule import Port, Slot

        def bands(name: str, *reads: int) -> Candidate:
            made = self.candidate(name, "const int i = get_global_id(0); y[i] = 2.0f * x[i];", device)
            x, y = Slot("arena", 0, 2048), Slot("arena", 2048, 2048)
            ports = (Port("x", "float32", (512,), x), Port("y", "float32", (512,), y))
            launches = tuple(
                replace(
                    made.schedule.launches[0],
                    global_size=(256, 1, 1),
                    args=(Slot("arena", 1024 * read, 1024), Slot("arena", 2048 + 1024 * band, 1024)),
                )
                for band, read in enumerate(reads)
            )
            schedule = replace(made.schedule, inputs=ports, outputs=ports, launches=launches, arena_bytes=4096)
            return replace(made, schedule=schedule)

        one, right, wrong = (bands(*given) for given in (("one", 0, 1), ("right", 0, 1), ("wrong", 1, 1)))
        with Bench(device, 1, 0) as bench:
            ((loaded,),) = bench.load([[one]], [""])
            assert loaded.verdict == ""
            ((good, bad),) = bench.load([[right, wrong]], ["one"])
        assert (good.verdict, good.difference) == ("", 0.0)
        assert bad.verdict == ""
        assert bad.difference > 0.1

    def test_right_wrong_and_refused(self, device: Device) -> None:
        good = "const int i = get_global_id(0); y[i] = 2.0f * x[i];"
        with Bench(device, 1, 1 << 16) as bench:
            ((reference,),) = bench.load([[self.candidate("reference", good, device)]], [""])
            assert reference.verdict == ""
            bodies = {
                "same": good,
                "wrong": "const int i = get_global_id(0); y[i] = 2.001f * x[i];",
                "unwritten": "const int i = get_global_id(0); if (i) y[i] = 2.0f * x[i];",
                "refused": "this is no C",
            }
            candidates = [self.candidate(name, body, device) for name, body in bodies.items()]
            (found,) = bench.load([candidates], ["reference"])
            same, wrong, unwritten, refused = found
            assert (same.verdict, same.difference) == ("", 0.0)
            assert wrong.difference > 1e-4
            assert unwritten.difference == float("inf")
            assert refused.verdict == "refused"
            assert bench.holds(0, "same")
            assert not bench.holds(0, "refused")
            pairs = bench.time(0, ("reference", "same"), 5)
            assert len(pairs) == 5
            assert all(0 < seconds < 1 for pair in pairs for seconds in pair)
            bench.drop(0, "same")
            assert not bench.holds(0, "same")

    def test_a_worker_that_dies_is_replaced(self, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
        good = "const int i = get_global_id(0); y[i] = 2.0f * x[i];"
        monkeypatch.setattr("mace_cl.tune.measure.BUILD_SECONDS", 10.0)
        with Bench(device, 1, 1 << 16) as bench:
            bench.load([[self.candidate("reference", good, device)]], [""])
            assert bench._children[0] is not None
            bench._children[0]._process.kill()
            (found,) = bench.load([[self.candidate("next", good, device)] * 2], ["reference"])
            assert [one.verdict for one in found] == ["died", "lost"]
            assert not bench.holds(0, "reference")
            ((again,),) = bench.load([[self.candidate("reference", good, device)]], [""])
            assert again.verdict == ""
            endless = (
                "const int i = get_global_id(0); float s = x[i]; while (s * s >= 0.0f) s = s * 0.5f + x[i]; y[i] = s;"
            )
            ((hung,),) = bench.load([[self.candidate("hung", endless, device)]], ["reference"])
            assert hung.verdict == "late"
