"""``mace_run``: MACE's flags, files and table, on a model of MACE and one of ONNX."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

from mace_cl.cli.mace_run import mace_run
from mace_cl.device import Device
from mace_cl.export.mace import write
from mace_cl.frontends.read import load
from mace_cl.passes.pipeline import simplify
from support import Array, case, model_of, reference

CASE = case("net", "c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c)", x=(1, 3, 6, 5), w=(4, 3, 3, 3))
MODEL = model_of(CASE)
X = CASE.inputs["x"]
Y = reference(MODEL, CASE.inputs)["y"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    """ONNX's and MACE's models, the two files of the latter in different folders, and inputs as MACE has them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CL_DEVICE", device.runtime)
    onnx.save(MODEL, "net.onnx")
    written = write(simplify(load(Path("net.onnx"))), "net")
    Path("graphs").mkdir()
    Path("graphs/net.pb").write_bytes(written.pb)
    Path("weights.data").write_bytes(written.data)
    X.transpose(0, 2, 3, 1).tofile("in_x")
    X.tofile("nchw_x")
    return tmp_path


def times(said: str) -> list[float]:
    """The figures of the one line that programs read."""
    lines = [line for line in said.splitlines() if line.startswith("time ")]
    assert len(lines) == 1
    assert re.fullmatch(r"time( +-?\d+\.\d{3}){4}", lines[0])
    assert said.splitlines()[-3].split() == ["capability(CPU)", "init", "warmup", "run_avg"]
    return [float(text) for text in lines[0].split()[1:]]


def read(path: str, *shape: int) -> Array:
    return np.fromfile(path, "<f4").reshape(shape)


def test_model_of_mace_in_two_places(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--model_name=net", "-model_file=graphs/net.pb", "--model_data_file=weights.data", "--device=GPU",
        "--input_node=x", "--input_shape=1,6,5,3", "--output_node=y", "--output_shape=1,6,5,4", "--input_file=in",
        "--output_file=out", "--opencl_cache_full_path=cache.bin", "--round=3", "--gpu_perf_hint=3", "--nobenchmark",
        "--omp_num_threads=2", "--cpu_affinity_policy=1", "--input_data_format=NHWC",
    ]  # fmt: skip
    assert mace_run(flags) == 0
    first = capsys.readouterr()
    assert all(time > 0 for time in times(first.out))
    assert "--gpu_perf_hint has no effect" in first.err
    assert "--model_name" not in first.err
    np.testing.assert_allclose(read("out_y", 1, 6, 5, 4).transpose(0, 3, 1, 2), Y, atol=1e-5)
    before = Path("cache.bin").read_bytes()
    Path("out_y").unlink()
    assert mace_run([*flags, "--opencl_binary_file=cache.bin", "--opencl_cache_full_path=other.bin"]) == 0
    assert Path("cache.bin").read_bytes() == before
    assert not Path("other.bin").exists()
    assert Path("out_y").stat().st_size == Y.nbytes


def test_onnx_takes_both_layouts(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model_file=net.onnx", "--input_node=x", "--output_node=y", "--output_file=out", "--round=0"]
    assert mace_run([*argv, "--input_shape=1,6,5,3", "--input_file=in", "--output_shape=1,6,5,4"]) == 0
    assert times(capsys.readouterr().out)[3] == -1
    np.testing.assert_allclose(read("out_y", 1, 6, 5, 4).transpose(0, 3, 1, 2), Y, atol=1e-5)
    assert mace_run([*argv, "--input_shape=1,3,6,5", "--input_file=nchw"]) == 0
    np.testing.assert_allclose(read("out_y", *Y.shape), Y, atol=1e-5)


def test_another_output_and_no_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--model_file", "net.onnx", "--output_node", "c", "--output_file", "cut", "--input_file", "nchw"]
    assert mace_run([*argv, "--restart_round=2", "--benchmark"]) == 0
    said = capsys.readouterr().out
    assert len(re.findall("^time ", said, re.M)) == 2
    assert "conv" in said.lower()
    np.testing.assert_allclose(np.maximum(read("cut_c", *Y.shape), 0), Y, atol=1e-5)
    assert mace_run(["--model_file=net.onnx", "--device=CPU"]) == 0
    said = capsys.readouterr().out
    assert "random, seed 0" in said
    assert len(times(said)) == 4


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--input_node=z"], "--input_node is z, but the model takes 'x'"),
        (["--input_shape=1,6,5,3"], "--input_node has 0 names"),
        (["--input_node=x", "--input_shape=1,-6"], "should be like 1,224,224,3"),
        (["--input_node=x", "--input_shape=1,7,5,3"], "--input_shape: [1, 7, 5, 3] does not fit the input 'x'"),
        (["--input_node=x,x"], "each name once"),
        (["--input_file=absent"], "absent_x: no such file"),
        (["--input_file=short"], "short_x: has 4 bytes"),
        (["--output_node=q"], "no value or node is called 'q'"),
        (["--output_node=y", "--output_shape=1,2", "--output_file=o"], "--output_shape: [1, 4, 6, 5] does not fit"),
        (["--model_data_file=absent"], "absent: no such file"),
        (["--round=-1"], "--round must be"),
    ],
)
def test_what_does_not_fit(here: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("short_x").write_bytes(b"four")
    assert mace_run(["--model_file=net.onnx", *flags]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


def test_where_outputs_can_t_go(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mace_run(["--model_file=net.onnx", "--output_file=absent/out"]) == 8
    assert "there is no directory absent" in capsys.readouterr().err


def test_every_flag_of_mace(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that its tool has are taken; those that change nothing here are noted."""
    flags = {
        "model_name": "net", "input_node": "x", "input_shape": "1,6,5,3", "output_node": "y",
        "output_shape": "1,6,5,4", "input_data_type": "float32", "output_data_type": "float32",
        "input_data_format": "NHWC", "output_data_format": "NHWC", "input_file": "in", "output_file": "out",
        "opencl_cache_full_path": "cache.bin", "opencl_binary_file": "absent.bin",
        "opencl_parameter_file": "absent.param", "model_data_file": "weights.data", "model_file": "graphs/net.pb",
        "accelerator_binary_file": "a", "accelerator_storage_file": "b", "round": "1", "restart_round": "1",
        "malloc_check_cycle": "-1", "gpu_perf_hint": "3", "gpu_priority_hint": "3", "num_threads": "-1",
        "cpu_affinity_policy": "1", "apu_boost_hint": "100", "apu_preference_hint": "1",
        "opencl_cache_reuse_policy": "1", "accelerator_cache_policy": "0", "benchmark": "false",
        "fake_warmup": "false", "output_dir": "output",
    }  # fmt: skip
    assert mace_run([f"--{name}={value}" for name, value in flags.items()]) == 0
    said = capsys.readouterr()
    assert len(times(said.out)) == 4
    for name in ("fake_warmup", "apu_boost_hint", "malloc_check_cycle", "num_threads", "accelerator_cache_policy"):
        assert f"--{name} has no effect: " in said.err
    assert "--opencl_parameter_file=absent.param: no such file" in said.err
    Path("of_mace.param").write_bytes(b"\x0a\x03abc\x00\x00\x00\x00")
    assert mace_run(["--model_file=net.onnx", "--opencl_parameter_file=of_mace.param"]) == 0
    assert "--opencl_parameter_file has no effect: of_mace.param" in capsys.readouterr().err


def test_directories_of_samples(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("samples").mkdir()
    for number in (1, 2):
        (X * np.float32(number)).tofile(f"samples/x_{number}")
    Path("samples/other").write_bytes(b"")
    argv = ["--model_file=net.onnx", "--input_node=x", "--input_shape=1,3,6,5", "--output_node=y"]
    assert mace_run([*argv, "--input_dir=samples"]) == 0
    for number in (1, 2):
        np.testing.assert_allclose(read(f"output/y_{number}", *Y.shape), Y * number, atol=1e-4)
    assert sorted(path.name for path in Path("output").iterdir()) == ["y_1", "y_2"]
    capsys.readouterr()
    for folder, said in (("absent", "--input_dir=absent: can't be read"), ("graphs", "no file's name begins")):
        assert mace_run([*argv, f"--input_dir={folder}"]) == 2
        assert said in capsys.readouterr().err


def test_flags_from_files(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("flags").write_text("# of the network\n\n--model_file=net.onnx\n-input_file=nchw\n--round=0\n")
    assert mace_run(["--flagfile=flags"]) == 0
    assert times(capsys.readouterr().out)[3] == -1
    assert mace_run(["--flagfile", "flags", "--round=1"]) == 0
    assert times(capsys.readouterr().out)[3] > 0
    Path("flags").rename("mace_run.config")
    assert mace_run([]) == 0
    assert "flags of mace_run.config are used" in capsys.readouterr().err
    assert mace_run(["--model_file=net.onnx"]) == 0
    assert "mace_run.config" not in capsys.readouterr().err
    assert mace_run(["--flagfile=absent"]) == 2
    for text, said in (
        ("model_file=net.onnx", "should have a flag such as --round=10 in each line, not 'model_file=net.onnx'"),
        ("--flagfile=mace_run.config", "not '--flagfile=mace_run.config'"),
        ("#" * 70000, "at most 65536 bytes"),
    ):
        Path("mace_run.config").write_text(text)
        capsys.readouterr()
        assert mace_run([]) == 2
        assert said in capsys.readouterr().err
