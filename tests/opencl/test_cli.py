"""The command line on a real device: models, programs, inputs, outputs, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from mace_cl.cli import main
from mace_cl.device import Device

RNG = np.random.default_rng(5)
WEIGHT = RNG.standard_normal((4, 3, 3, 3), np.float32)
X = RNG.random((1, 3, 6, 6), np.float32)


def net(opset: int = 17, batch: int | str = 1) -> onnx.ModelProto:
    """Convolution and mean: "image" [1, 3, 6, 6] to "scores" [1, 4] and "map" [1, 4, 4, 4]."""
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["image", "weight"], ["map"]),
            helper.make_node("GlobalAveragePool", ["map"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["scores"]),
        ],
        "net",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 6, "side" if batch == "n" else 6])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 4]),
            helper.make_tensor_value_info("map", TensorProto.FLOAT, [batch, 4, "height", "width"]),
        ],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def expected() -> np.ndarray[Any, np.dtype[np.float32]]:
    windows = np.lib.stride_tricks.sliding_window_view(X[0], (3, 3), axis=(1, 2))
    return np.asarray(np.einsum("chwyx,ocyx->ohw", windows, WEIGHT)[None], np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, device: Device) -> Path:
    """A model, its program with the weights inside, and an input."""
    home = tmp_path_factory.mktemp("cli")
    onnx.save(net(), home / "net.onnx")
    np.save(home / "x.npy", X)
    argv = ["compile", str(home / "net.onnx"), "-o", str(home / "net.bin"), "--bake", "--device", device.runtime]
    assert main([*argv, "--quiet"]) == 0
    return home


@pytest.fixture
def here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    """An empty working directory, and the device under test as the default."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CL_DEVICE", device.runtime)
    return tmp_path


def fails(capsys: pytest.CaptureFixture[str], code: int, *argv: object) -> str:
    """Run a command that must fail with ``code``, and return its line on standard error."""
    assert main(["-q" if arg == "-q" else str(arg) for arg in argv]) == code
    said = capsys.readouterr()
    assert said.out == ""
    last = said.err.splitlines()[-1]
    assert last.startswith("mace-cl: error: ")
    return last


def answers(capsys: pytest.CaptureFixture[str], *argv: object) -> Any:
    """Run a command with --json and return what it prints."""
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_devices_marks_the_chosen_one(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    found = answers(capsys, "devices", "--device", device.runtime)
    assert [entry["index"] for entry in found["devices"]] == list(range(len(found["devices"])))
    chosen = found["devices"][found["chosen"]]
    assert (chosen["name"], chosen["driver"]) == (device.name, device.driver)
    assert main(["devices", "--device", device.runtime]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "→" in line)
    assert device.name in line


def test_no_device_of_that_kind(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = fails(capsys, 6, "run", folder / "net.bin", "--random", "--device", "accelerator")
    assert "No OpenCL device that fits 'accelerator'. Found:" in said
    assert "No OpenCL device that fits" in fails(capsys, 6, "compile", folder / "net.onnx", "--device", "absent")


def test_model_then_program(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ("run", folder / "net.onnx", "-i", folder / "x.npy", "--program", "made.bin", "-o", "first.npz")
    first = answers(capsys, *argv)
    assert first["decision"]["code"] == "no-file"
    again = answers(capsys, *argv[:-1], "again.npz")
    assert again["decision"]["code"] == "hit"
    with np.load("first.npz") as one, np.load("again.npz") as other:
        assert set(one) == {"scores", "map"}
        np.testing.assert_allclose(one["map"], expected(), atol=1e-5)
        np.testing.assert_array_equal(one["map"], other["map"])


def test_result_as_json(here: Path, folder: Path, capsys: pytest.CaptureFixture[str], device: Device) -> None:
    Path("labels.txt").write_text("a\nb\nc\nd\n")
    argv = ("run", folder / "net.bin", "-i", f"image={folder / 'x.npy'}", "--top", 2, "--labels", "labels.txt")
    found = answers(capsys, *argv, "--repeat", 3)
    scores = expected().mean((2, 3))[0]
    best = int(scores.argmax())
    output = next(output for output in found["outputs"] if output["name"] == "scores")
    assert (output["dtype"], output["shape"], output["nans"]) == ("float32", [1, 4], 0)
    assert output["maximum"] == pytest.approx(scores.max(), abs=1e-5)
    assert [score["index"] for score in output["top"]] == [int(i) for i in np.argsort(-scores)[:2]]
    assert output["top"][0]["label"] == "abcd"[best]
    assert (found["device"]["name"], found["latency"]["runs"]) == (device.name, 3)
    assert 0 < found["latency"]["minimum"] <= found["latency"]["median"]
    steps = [
        "command line",
        "imports",
        "pyopencl",
        "driver scan",
        "device",
        "settings",
        "program file",
        "load",
        "set-up",
    ]
    assert [step for step in found["timings"] if step in steps] == steps, "in the order of the start"
    assert {"interpreter", "first run"} <= set(found["timings"])


def test_result_for_people(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["run", str(folder / "net.bin"), "--random", "--seed", "3", "--top", "1", "--repeat", "2", "--timings"]
    assert main(argv) == 0
    said = capsys.readouterr()
    for text in ("random, seed 3", "float32 [1, 4]", "median", "   1. ", "first run", "together"):
        assert text in said.out
    assert said.err == ""


def test_image_file(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(np.full((3, 9, 3), 255, np.uint8)).save("white.png")
    found = answers(capsys, "run", folder / "net.bin", "-i", "white.png", "--mean", "0.5", "--std", "1/2")
    assert "9 x 3 pixels resized to 6 x 6" in found["inputs"]["image"]
    output = next(output for output in found["outputs"] if output["name"] == "scores")
    assert output["maximum"] == pytest.approx(WEIGHT.sum((1, 2, 3)).max(), rel=1e-4)


def test_nan_goes_through(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    x = X.copy()
    x[0, 1, 2, 2] = np.nan
    np.save("nan.npy", x)
    found = answers(capsys, "run", folder / "net.bin", "-i", "nan.npy", "--top", 1)
    by_name = {output["name"]: output for output in found["outputs"]}
    assert by_name["scores"]["nans"] == 4
    assert by_name["scores"]["maximum"] is None
    assert by_name["map"]["nans"] == 4 * 9


def test_compile_reports_what_it_wrote(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = answers(capsys, "compile", folder / "net.onnx", "--no-store")
    assert found["output"] == "mace-cl-compiled-program.bin"
    assert found["file_bytes"] == Path(found["output"]).stat().st_size < (folder / "net.bin").stat().st_size
    said = fails(capsys, 5, "run", found["output"], "--random", "--no-store")
    assert "holds no weights" in said
    argv = ("run", folder / "net.onnx", "--program", found["output"], "--random")
    assert answers(capsys, *argv, "--no-store")["decision"]["code"] == "no-weights"


def test_symbolic_shape(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(net(batch="n"), "dynamic.onnx")
    assert "--shape image=1,3,224,224" in fails(capsys, 2, "run", "dynamic.onnx", "--random")
    assert "does not fit input 'image'" in fails(
        capsys, 2, "run", "dynamic.onnx", "--random", "--shape", "image=1,4,6,6"
    )
    found = answers(capsys, "run", "dynamic.onnx", "--random", "--shape", "image=1,3,6,5", "-q")
    assert {output["name"]: output["shape"] for output in found["outputs"]} == {"scores": [1, 4], "map": [1, 4, 4, 3]}


def external(path: Path) -> None:
    onnx.save(net(), path, save_as_external_data=True, location="weights.data", size_threshold=0)
    path.with_name("weights.data").unlink()


def test_bad_models(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.onnx").write_text("no model")
    Path("empty.onnx").touch()
    Path("cut.onnx").write_bytes((folder / "net.onnx").read_bytes()[:-50])
    onnx.save(net(opset=99), "new.onnx")
    external(here / "external.onnx")
    unknown = net()
    unknown.graph.node[2].op_type, unknown.graph.node[2].domain = "Mystery", "com.example"
    unknown.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    unknown.graph.node[2].input[0] = "map"
    onnx.save(unknown, "unknown.onnx")
    for name, code, said in (
        ("text", 3, "not a model of a format"),
        ("empty", 3, "the file is empty"),
        ("cut", 3, "not a model of a format"),
        ("new", 4, "opset 99"),
        ("external", 3, "'weights.data' beside the model"),
        ("unknown", 4, "Mystery"),
    ):
        assert said in fails(capsys, code, "run", f"{name}.onnx", "--random")
        assert said in fails(capsys, code, "compile", f"{name}.onnx")
    assert not Path("mace-cl-compiled-program.bin").exists()


def test_bad_inputs(here: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save("double.npy", X.astype(np.float64))
    np.save("rank.npy", X[0])
    np.save("shape.npy", X[..., :5])
    Path("photo.png").write_text("no image")
    Path("labels.txt").write_text("only one\n")
    program = folder / "net.bin"
    for argv, said in (
        (["-i", f"picture={folder / 'x.npy'}"], "no input 'picture'; it takes 'image'"),
        (["-i", "double.npy"], "holds float64 [1, 3, 6, 6], but the model takes 'image' float32"),
        (["-i", "rank.npy"], "holds float32 [3, 6, 6]"),
        (["-i", "shape.npy"], "holds float32 [1, 3, 6, 5]"),
        (["-i", "photo.png"], "not an image that can be read"),
        (["--random", "--top", "1", "--labels", "labels.txt"], "has 1 lines, but the output 'scores' has 4"),
        (["--random", "-o", "x.npy"], "say which output"),
    ):
        assert said in fails(capsys, 2, "run", program, *argv)


def test_program_in_place_of_a_model_and_the_reverse(
    here: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "is a compiled program, not a model" in fails(capsys, 2, "compile", folder / "net.bin")
    said = fails(capsys, 2, "run", folder / "net.bin", "--random", "--program", "other.bin")
    assert "is a compiled program" in said
    model = Path("model.onnx")
    onnx.save(net(), model)
    data = model.read_bytes()
    both = ("model.onnx", "--program", model)
    for argv in (("run", *both, "--random"), ("why", *both), ("compile", "model.onnx", "-o", model)):
        assert "looks like a model (ONNX model)" in fails(capsys, 2, *argv)
        assert model.read_bytes() == data


def in_child(device: Device, *argv: object) -> tuple[int, str, str]:
    """A command in a process of its own, which then prints the modules that it imported."""
    code = (
        "import sys; from mace_cl.cli import main; code = main(sys.argv[1:]);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules})); sys.exit(code)"
    )
    command = [sys.executable, "-c", code, *map(str, argv), "--device", device.runtime]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


def test_a_program_starts_without_heavy_imports(here: Path, folder: Path, device: Device) -> None:
    code, out, err = in_child(device, "run", folder / "net.bin", "-i", folder / "x.npy", "--top", "1")
    assert (code, err) == (0, "")
    modules = set(out.splitlines()[-1].split())
    assert "numpy" in modules
    assert not modules & {"onnx", "onnx_ir", "onnxscript", "onnxruntime", "PIL", "rich", "typer", "click"}


def test_progress_goes_to_standard_error(here: Path, folder: Path, device: Device) -> None:
    code, out, err = in_child(device, "compile", folder / "net.onnx", "--no-store")
    assert code == 0
    assert "compiling kernels" in err
    assert "compiling" not in out
