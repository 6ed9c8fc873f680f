"""``mace-cl validate``: agreement, thresholds, and the layer that departs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from mace_cl.cli import main
from mace_cl.device import Device
from mace_cl.expr import OPERATIONS, Operation
from mace_cl.frontends.caffe import caffe_pb2 as pb
from mace_cl.tools import validate as tool
from support import case, model_of
from tflite_models import Net

CASE = case(
    "net",
    "a = Conv<pads=[1,1,1,1]>(x, w) b = Tanh(a) c = Conv<pads=[1,1,1,1]>(b, v) y = Sigmoid(c)",
    x=(1, 3, 6, 5), w=(4, 3, 3, 3), v=(4, 4, 3, 3),
)  # fmt: skip


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: Device) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MACE_CL_DEVICE", device.runtime)
    onnx.save(model_of(CASE), "net.onnx")
    return tmp_path


def test_agrees(here: Path, capsys: pytest.CaptureFixture[str], device: Device) -> None:
    Path("data").mkdir()
    for number in range(2):
        np.save(f"data/{number}.npy", CASE.inputs["x"] * np.float32(number + 1))
    assert main(["validate", "net.onnx", "--data", "data", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["passed"], found["samples"], found["departure"]) == (True, 2, None)
    assert found["threshold"] == tool.THRESHOLDS["cpu" if device.kind == "cpu" else "gpu"]
    assert found["outputs"][0]["maximum"] < 1e-5
    assert not Path("validate-inputs.npz").exists()


def test_the_first_layer_that_departs(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a kernel that is wrong: the hyperbolic tangent of the negative."""
    monkeypatch.setitem(OPERATIONS, "tanh", Operation(1, "tanh(-{0})", np.tanh))
    assert main(["validate", "net.onnx", "--no-store", "--json"]) == 9
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert (found["departure"]["op"], found["departure"]["after"]["name"]) == ("Tanh", "b")
    assert found["departure"]["after"]["cosine"] == pytest.approx(-1, abs=1e-4)
    assert [one["name"] for one in found["departure"]["before"]] == ["a"]
    assert found["departure"]["before"][0]["cosine"] > 0.999
    with np.load("validate-inputs.npz") as saved:
        assert saved["x"].shape == (1, 3, 6, 5)
    assert main(["validate", "net.onnx", "--no-store", "--data", "."]) == 9
    assert "FAILED" in capsys.readouterr().out


def test_what_does_not_fit(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    Path("labelled/cat").mkdir(parents=True)
    np.save("labelled/cat/0.npy", CASE.inputs["x"])
    Path("listed").mkdir()
    Path("listed/labels.txt").write_text("0.npy 1\n")
    for argv, said in (
        (["absent.onnx"], "no such file"),
        (["net.onnx", "--data", "absent"], "no such folder"),
        (["net.onnx", "--data", "empty"], "no .npy or .npz files"),
        (["net.onnx", "--data", "labelled"], "no output is a single row of scores"),
        (["net.onnx", "--data", "labelled", "--labels", "listed/labels.txt"], "the class 'cat' is no number"),
        (["net.onnx", "--data", "listed"], "is not a file of this folder"),
        (["net.onnx", "--threshold", "2"], "between -1 and 1"),
        (["net.onnx", "--reference", "tflite"], "does not run a ONNX model, which net.onnx is; onnxruntime can"),
    ):
        assert main(["validate", *argv]) == 2
        assert said in capsys.readouterr().err.splitlines()[-1]


def test_agreement() -> None:
    one = np.array([3.0, 4.0, np.nan], np.float32)
    assert tool.agreement("n", one, one) == tool.Agreement("n", 1.0, math.inf, 0.0, 0.0)
    found = tool.agreement("n", np.array([3.0, 4.5]), np.array([3.0, 4.0]))
    assert found.sqnr == pytest.approx(20.0)
    assert (found.maximum, found.mean) == (0.5, 0.25)
    assert tool.agreement("n", np.array([np.nan]), np.array([1.0])).cosine == 0
    assert tool.agreement("n", np.zeros(2), np.ones(2)).sqnr == 0.0


LABELLED = case("scores", "y = Gemm<transB=1>(x, w)", x=(1, 6), w=np.eye(6, dtype=np.float32))


def test_labelled_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best score is where the input is greatest; of three samples one is of another class, and one of the last."""
    onnx.save(model_of(LABELLED), "scores.onnx")
    rows = {"a/0.npy": [9, 8, 7, 6, 5, 4], "b/0.npy": [9, 8, 7, 6, 5, 4], "f/0.npy": [9, 8, 7, 6, 5, 4]}
    for name, row in rows.items():
        file = Path("data", name)
        file.parent.mkdir(parents=True)
        np.save(file, np.array([row], np.float32))
    Path("classes.txt").write_text("a\nb\nc\nd\ne\nf\n")
    assert main(["validate", "scores.onnx", "--data", "data", "--labels", "classes.txt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["accuracy"]
    assert found == {
        "samples": 3, "top1": pytest.approx(1 / 3), "top5": pytest.approx(2 / 3),
        "reference_top1": pytest.approx(1 / 3), "reference_top5": pytest.approx(2 / 3),
    }  # fmt: skip
    Path("data/labels.txt").write_text("a/0.npy 0\nb/0.npy a\n")
    assert main(["validate", "scores.onnx", "--data", "data", "--labels", "classes.txt"]) == 0
    assert "top-1" in (shown := capsys.readouterr().out)
    assert "100.00%, the reference 100.00%, of 2 samples" in shown


SCRIPT = """
import numpy as np

def metric(ours, reference, inputs, names):
    worst = max(float(np.abs(one["y"] - other["y"]).max()) for one, other in zip(ours, reference))
    return {"worst": worst, "sum": np.float32(inputs[0]["x"].sum()), "samples": len(names)}
"""


def test_script(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.py").write_text(SCRIPT)
    assert main(["validate", "net.onnx", "--script", "own.py", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"]
    assert found["worst"] < 1e-5
    assert found["samples"] == 1
    assert main(["validate", "net.onnx", "--script", "own.py"]) == 0
    assert "worst" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def metric(:\n", "own.py:1: is no Python"),
        ("x = 1\ny = x / 0\n", "own.py:2: ZeroDivisionError: division by zero, in `y = x / 0`"),
        ("def other(): pass\n", "defines no function metric(ours, reference, inputs, names)"),
        ("def metric(ours, *rest):\n    return ours[1]\n", "own.py:2: IndexError"),
        ("def metric(*given):\n    return 'good'\n", "returned 'good' as metric; it should return numbers"),
        ("def metric(ours):\n    return 1\n", "takes 1 positional argument"),
    ],
)
def test_scripts_that_fail(here: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    Path("own.py").write_text(text)
    assert main(["validate", "net.onnx", "--script", "own.py"]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert main(["validate", "net.onnx", "--script", "absent.py"]) == 2


def lite() -> bytes:
    """A convolution, a sigmoid and a convolution of 8 bits."""
    net = Net()
    grid = {"scales": 0.02, "zeros": 0}
    x = net.input("image", (1, 6, 5, 3), np.int8, **grid)
    weights = np.random.default_rng(0).integers(-20, 20, (3, 3, 3, 3)).astype(np.int8)
    options = {1: ("i", 1), 2: ("i", 1)}
    kernel = net.constant(weights, scales=0.05)
    biases = [net.constant(np.arange(3, dtype=np.int32), scales=0.05 * scale) for scale in (0.02, 1 / 256)]
    a = net.op("CONV_2D", [x, kernel, biases[0]], net.tensor("a", (1, 6, 5, 3), np.int8, scales=0.1), options)
    b = net.tensor("b", (1, 6, 5, 3), np.int8, scales=1 / 256, zeros=-128)
    y = net.tensor("y", (1, 6, 5, 3), np.int8, scales=0.1)
    net.outputs.append(net.op("CONV_2D", [net.op("LOGISTIC", [a], b), kernel, biases[1]], y, options))
    return net.build()


PROTOTXT = """
name: "net" input: "x" input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 5
layer { name: "a" type: "Power" bottom: "x" top: "a" power_param { scale: 2 shift: 0.5 } }
layer { name: "b" type: "Sigmoid" bottom: "a" top: "b" }
layer { name: "y" type: "TanH" bottom: "b" top: "y" }
"""


@pytest.mark.parametrize(
    ("name", "content", "package", "title", "by", "first"),
    [
        ("net.tflite", lite(), "ai_edge_litert", "TensorFlow Lite", "TensorFlow Lite", "LOGISTIC"),
        ("net.prototxt", PROTOTXT.encode(), "cv2", "OpenCV", "ONNX Runtime", "Sigmoid"),
    ],
)
def test_references(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, content: bytes,
    package: str, title: str, by: str, first: str,
) -> None:  # fmt: skip
    """The engine that the model was made for; a wrong sigmoid is found with it, or where it tells of no layers with
    ONNX Runtime.
    """
    pytest.importorskip(package)
    Path(name).write_bytes(content)
    weights = pb.Net(name="net", layer=[pb.Layer(name="y", type="TanH")])
    Path("net.caffemodel").write_bytes(weights.SerializeToString())
    for argv, reference in (([], title), (["--reference", "onnxruntime"], "ONNX Runtime")):
        assert main(["validate", name, *argv, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["reference"].startswith(reference)
        assert found["outputs"][0]["cosine"] > 0.9999
    wrong = Operation(1, "(({V})(0.5f) + ({V})(0.5f) * cos({0} * 99))", lambda a: 0.5 + 0.5 * np.cos(a * 99))
    monkeypatch.setitem(OPERATIONS, "sigmoid", wrong)
    assert main(["validate", name, "--no-store", "--json"]) == 9
    found = json.loads(capsys.readouterr().out)
    assert (found["departure"]["op"], found["departure"]["after"]["name"]) == (first, "b")
    assert found["departure"]["reference"].startswith(by)
    assert found["departure"]["before"][0]["cosine"] > 0.999


def test_a_reference_that_is_not_installed(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "ai_edge_litert" else name)
    Path("net.tflite").write_bytes(lite())
    assert main(["validate", "net.tflite"]) == 6
    said = capsys.readouterr().err.splitlines()[-1]
    assert "pip install 'mace-cl[tflite]'" in said
    assert "--reference onnxruntime" in said
