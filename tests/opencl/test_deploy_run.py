"""``mace-cl run --config``: a deployment file of MACE from file to answers, and the directory that it leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from mace_cl.cli import main
from mace_cl.cli.mace_run import mace_run
from mace_cl.device import Device
from support import Array, case, model_of, reference

FIRST = case("first", "c = Conv<pads=[1,1,1,1]>(x, w) y = Relu(c)", x=(1, 3, 6, 5), w=(4, 3, 3, 3))
SECOND = case("second", "z = Conv(x, w)", x=(1, 4, 6, 5), w=(2, 4, 1, 1))

ONE = """
models:
  small:
    platform: onnx
    model_file_path: first.onnx
    subgraphs:
      - input_tensors: x
        input_shapes: 1,6,5,3
        input_ranges: "2,3"
        output_tensors: y
        output_shapes: 1,6,5,4
        validation_threshold: {CPU: 0.99, GPU: 0.99}
    runtime: cpu+gpu
    fast_conv: 0
    quantize: 1
    data_type: fp16_fp32
"""

CHAIN = """
models:
  both:
    platform: onnx
    runtime: gpu
    subgraphs:
      tail:
        model_file_path: second.onnx
        input_tensors: y
        input_shapes: 1,4,6,5
        output_tensors: z
        output_shapes: 1,2,6,5
        order: 1
      head:
        model_file_path: first.onnx
        input_tensors: x
        input_shapes: 1,3,6,5
        input_data_formats: NCHW
        output_tensors: y
        output_shapes: 1,4,6,5
        order: 0
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CL_DEVICE", device.runtime)
    onnx.save(model_of(FIRST), "first.onnx")
    second = model_of(SECOND)
    second.graph.input[0].name = second.graph.node[0].input[0] = "y"
    onnx.save(second, "second.onnx")
    Path("model.yml").write_text(ONE)
    Path("chain.yml").write_text(CHAIN)
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["run", "--config", *argv, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def arrays(path: str) -> dict[str, Array]:
    with np.load(path) as found:
        return dict(found)


def test_from_file_to_answers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "model.yml", "--validate", "--repeat", "2")
    small = found["results"]["small"]
    x = arrays("build/small/run/small/inputs.npz")["x"]
    assert x.shape == (1, 3, 6, 5)
    assert 2 <= x.min() < x.max() <= 3
    y = arrays("build/small/run/small/outputs.npz")["y"]
    np.testing.assert_allclose(y, reference(model_of(FIRST), {"x": x})["y"], atol=1e-4)
    assert (small["validation"]["passed"], small["validation"]["threshold"]) == (True, 0.99)
    assert small["run"]["latency"]["runs"] == 2
    notes = "\n".join(found["notes"])
    assert "fast_conv is called winograd today" in notes
    assert "quantize has no effect" in notes
    # started again, it is the program that was made, whose options are the file's
    again = run(capsys, "model.yml")
    assert again["results"]["small"]["run"]["decision"]["code"] == "hit"
    assert main(["inspect", "build/small/model/mace-cl-compiled-program.bin", "--json"]) == 0
    assert ["exact", "true"] in json.loads(capsys.readouterr().out)["options"]

    # what is left behind runs elsewhere, without flags, and without what is known here
    shutil.copytree("build/small/model", "device")
    x.transpose(0, 2, 3, 1).tofile("device/in_x")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("device")
        patch.setenv("MACE_CL_STORE_DIR", str(here / "another"))
        assert mace_run(["--input_file=in", "--output_file=out"]) == 0
        said = capsys.readouterr()
        assert "flags of mace_run.config are used" in said.err
        assert "The compiled program fits" in said.out
        assert said.out.splitlines()[-1].startswith("time ")
        given = np.fromfile("out_y", "<f4").reshape(1, 6, 5, 4)
    np.testing.assert_allclose(given.transpose(0, 3, 1, 2), y, atol=1e-5)


def test_data_of_the_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inputs and outputs in the file's layout; and outputs that are not the model's."""
    x = FIRST.inputs["x"]
    y = reference(model_of(FIRST), FIRST.inputs)["y"]
    np.save("x.npy", x.transpose(0, 2, 3, 1).astype(np.float64))
    np.save("y.npy", y.transpose(0, 2, 3, 1))
    text = ONE.replace(
        "validation_threshold", "validation_inputs_data: x.npy\n        validation_outputs_data: [y.npy]\n        v"
        "alidation_threshold",
    )  # fmt: skip
    Path("model.yml").write_text(text)
    found = run(capsys, "model.yml", "--validate")
    np.testing.assert_array_equal(arrays("build/small/run/small/inputs.npz")["x"], x)
    assert found["results"]["small"]["validation"]["outputs"][0]["maximum"] < 1e-5
    np.save("y.npy", -y.transpose(0, 2, 3, 1))
    found = run(capsys, "model.yml", "--validate", code=9)
    assert found["results"]["small"]["validation"]["outputs"][0]["cosine"] == pytest.approx(-1, abs=1e-4)
    assert Path("build/small/run/small/failed.npz").exists()

    for wrong, said in (
        (np.zeros((1, 6, 5, 2)), "x.npy: holds [1, 6, 5, 2], but 'x' is [1, 3, 6, 5] in the model and [1, 6, 5, 3] in"),
        (np.array(["a"]), "x.npy: holds no single array of numbers"),
    ):
        np.save("x.npy", wrong)
        assert main(["run", "--config", "model.yml"]) == 2
        assert said in capsys.readouterr().err
    Path("x.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 40,), }")
    assert main(["run", "--config", "model.yml"]) == 2
    assert "x.npy: no .npy file of numbers" in capsys.readouterr().err
    Path("model.yml").write_text(text.replace("[y.npy]", "[y.npy, y.npy]"))
    np.save("x.npy", x)
    assert main(["run", "--config", "model.yml", "--validate"]) == 2
    assert "validation_outputs_data has 2 files for 1 values" in capsys.readouterr().err


def test_subgraphs_hand_on_what_they_give(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "chain.yml")
    assert list(found["results"]) == ["both_head", "both_tail"]
    y = arrays("build/both/run/both_head/outputs.npz")["y"]
    np.testing.assert_array_equal(arrays("build/both/run/both_tail/inputs.npz")["y"], y)
    for name in ("head", "tail"):
        assert {path.name for path in Path(f"build/both/model/{name}").iterdir()} == {
            f"both_{name}.onnx", "mace-cl.json", "mace_run.config", "mace-cl-compiled-program.bin"
        }  # fmt: skip


def test_measured_tuned_and_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(capsys, "model.yml", "--benchmark", "--tune", "1s", "--report", "page.html")
    small = found["results"]["small"]
    assert small["benchmark"]["latency"]["runs"] == 100
    assert small["benchmark"]["start"]["code"] == "hit"
    assert (
        "--opencl_parameter_file=mace-cl-tuned-parameters.jsonl"
        in Path("build/small/model/mace_run.config").read_text()
    )
    page = Path("page.html").read_text()
    assert "mace-cl run --config model.yml --model_name small" in page
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("build/small/model")
        patch.setenv("MACE_CL_STORE_DIR", str(here / "another"))
        assert mace_run([]) == 0
        assert "has no effect" not in capsys.readouterr().err
        assert (here / "another").exists()


def test_host_alone(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("model.yml").write_text(ONE.replace("cpu+gpu", "cpu"))
    found = run(capsys, "model.yml")
    assert any("runtime: cpu is the host alone" in note for note in found["notes"])
    assert "--device=CPU" in Path("build/small/model/mace_run.config").read_text()
    assert main(["inspect", "build/small/model/mace-cl-compiled-program.bin", "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert ["runtime", "cpu"] in seen["options"]
    y = arrays("build/small/run/small/outputs.npz")["y"]
    x = arrays("build/small/run/small/inputs.npz")["x"]
    np.testing.assert_allclose(y, reference(model_of(FIRST), {"x": x})["y"], atol=1e-5)


def test_what_goes_together(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for argv, said in (
        (["run"], "give a model or a compiled program, or a deployment file"),
        (["run", "first.onnx", "--config", "model.yml"], "give a model or a compiled program, or a deployment file"),
        (["run", "first.onnx", "--random", "--validate"], "--report go with --config"),
        (["run", "--config", "model.yml", "--shape", "x=1"], "--shape: can't go with --config"),
        (["run", "--config", "chain.yml", "--input", "x.npy"], "--input: goes with one network"),
        (["run", "--config", "model.yml", "--model_name", "large"], "has no model 'large'; its models are small"),
        (["convert", "first.onnx", "-o", "out", "--device", "pocl"], "--device and --device_conf go with --config"),
        (
            ["convert", "--config", "model.yml", "-o", "out", "--to", "mace", "--device", "pocl"],
            "leave it out with --to",
        ),
    ):
        assert main(argv) == 2
        assert said in capsys.readouterr().err


def test_converted_and_compiled(here: Path, device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    """The directory complete, and the commands that bring it to devices."""
    Path("model.yml").write_text("target_abis: [arm64]\ntarget_socs: rk3399\n" + ONE)
    Path("devices.yml").write_text(
        "devices:\n  near:\n    target_abis: [arm64, armhf]\n    target_socs: RK3399\n    address: 10.0.0.5\n"
        "    username: user\n  other:\n    target_abis: [arm64]\n    target_socs: MSM8998\n    address: 10.0.0.6\n"
    )
    argv = ["convert", "--config", "model.yml", "-o", "my build", "--device", device.runtime, "--json"]
    assert main([*argv, "--device_yml", "devices.yml"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["results"]["small"]["program"]["baked"]
    assert found["steps"] == [
        "scp -r -- 'my build/small/model' user@10.0.0.5:small", "ssh -- user@10.0.0.5 'cd small && mace_run'"
    ]  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("my build/small/model")
        assert mace_run([]) == 0
    assert "The compiled program fits" in capsys.readouterr().out
