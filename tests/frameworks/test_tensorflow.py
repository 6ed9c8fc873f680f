"""TensorFlow's and Keras's models against TensorFlow's own answers; nothing of a file runs unless it is trusted."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mace_cl import Runtime
from mace_cl.device import Device
from mace_cl.errors import InputError, ModelError, UnsupportedError
from mace_cl.frontends.read import load
from support import difference

if any(find_spec(package) is None for package in ("tensorflow", "tf2onnx", "keras", "h5py")):
    pytest.skip("needs pip install 'mace-cl[tensorflow]'", allow_module_level=True)

TOLERANCE = 1e-4
"""The greatest difference, relative to the greatest element."""

Shapes = dict[str, tuple[int, ...]]
Names = tuple[str, ...]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    script = Path(__file__).parents[1] / "tensorflow_models.py"
    made = subprocess.run([sys.executable, script, folder], capture_output=True, text=True, timeout=600)
    assert made.returncode == 0, made.stderr
    return folder


PICTURE = {"picture": (2, 9, 11, 3)}


@pytest.mark.parametrize(
    ("model", "reference", "shapes", "outputs", "trust"),
    [
        ("conv.keras", "conv.keras", {}, (), False),
        ("conv.h5", "conv.h5", {}, (), False),
        ("two.keras", "two.keras", {}, (), False),
        ("lstm.keras", "lstm.keras", {}, (), False),
        ("exported", "exported", {}, (), False),
        ("old", "old", {}, (), False),
        ("frozen.pb", "frozen.pb", PICTURE, (), False),
        ("module", "module", PICTURE, (), False),
        # another signature; a layer of Keras; a node, and a tensor in the middle as the input
        ("module", "add", {}, ("add",), False),
        ("conv.keras", "first", {}, ("first",), False),
        ("frozen.pb", "inner", PICTURE, ("inner",), False),
        ("frozen.pb", "after", {"inner": (2, 7, 9, 4)}, (), False),
        ("lambda.keras", "lambda", {}, (), True),
    ],
)
def test_agrees_with_tensorflow(
    models: Path, device: Device, model: str, reference: str, shapes: Shapes, outputs: Names, trust: bool
) -> None:
    with np.load(models / f"{reference}.npz") as arrays:
        inputs = {key[3:]: arrays[key] for key in arrays if key.startswith("in:")}
        expected = {key[4:]: arrays[key] for key in arrays if key.startswith("out:")}
    with Runtime(
        models / model, device=device, store=False, shapes=shapes or None, outputs=outputs, trust=trust
    ) as runtime:
        assert {port.name: port.shape for port in runtime.inputs} == {key: one.shape for key, one in inputs.items()}
        got = runtime.run(inputs)
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert got[name].shape == array.shape
        assert difference(np.asarray(got[name]), array) <= TOLERANCE


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("several", InputError, "has the signatures add, one; choose one"),
        ("unsigned", InputError, "has no signature"),
        ("writes", ModelError, "reach files, processes or Python: WriteFile 'WriteFile'. Nothing of it was run"),
        ("reads.pb", ModelError, "ReadFile 'ReadFile'"),
        ("lambda.h5", ModelError, "Lambda 'threefold', bytecode of Python. Nothing of it was run"),
        ("only.weights.h5", ModelError, "holds weights alone"),
        ("huge.h5", ModelError, r"claim 4398046511104 bytes of weights"),
        ("elsewhere.h5", ModelError, "'v' are in another file; 'w' is in another file, '/etc/hostname'"),
        ("enormous.pb", ModelError, "its constants would grow by"),
        ("unknown.pb", UnsupportedError, "MyOp at 'first': no op of TensorFlow; MyOp at 'second'"),
    ],
)
def test_refused(models: Path, model: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load(models / model)
    assert not (models / "written").exists()


def test_all_ops_without_a_mapping_are_named(models: Path) -> None:
    with pytest.raises(UnsupportedError) as caught:
        load(models / "strange.pb")
    for op, node in (("Betainc", "one"), ("Polygamma", "two"), ("Betainc", "three")):
        assert f"{op} at '{node}'" in str(caught.value)


def test_names_that_are_not_there(models: Path) -> None:
    with pytest.raises(InputError, match="no layer or value is called 'frist'; the nearest are first"):
        load(models / "conv.keras", None, ["frist"])
    with pytest.raises(InputError, match="given for 'nothing', but the inputs are picture"):
        load(models / "frozen.pb", {"nothing": (1,)})
    with pytest.raises(InputError, match=r"\(1, 9, 11, 4\) does not fit input 'picture'"):
        load(models / "frozen.pb", {"picture": (1, 9, 11, 4)})


def test_a_class_of_ones_own_must_be_there(models: Path) -> None:
    with pytest.raises(ModelError, match="code of its own: Twice 'double'"):
        load(models / "custom.keras")
    with pytest.raises(UnsupportedError, match="must be importable"):
        load(models / "custom.keras", trust=True)


@pytest.mark.parametrize("model", ["conv.h5", "conv.keras", "frozen.pb", "exported/saved_model.pb"])
def test_truncated(models: Path, tmp_path: Path, model: str) -> None:
    source = models / model
    path = tmp_path / source.name
    path.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    with pytest.raises(ModelError, match=r"damaged or truncated|not a model of a format"):
        load(path)


def test_variables_that_are_missing_or_damaged(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(models / "exported", folder)
    data = folder / "variables" / "variables.data-00000-of-00001"
    data.write_bytes(data.read_bytes()[:100])
    with pytest.raises(ModelError, match="its variables are missing or damaged"):
        load(folder)
    shutil.rmtree(folder / "variables")
    with pytest.raises(ModelError, match="its variables are missing or damaged"):
        load(folder)


def command(*arguments: Any, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MACE_CL_STORE_DIR": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "mace_cl", *map(str, arguments)], capture_output=True, text=True, env=environment
    )


def test_tensorflow_is_not_heard_and_not_there_at_a_warm_start(
    models: Path, device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = command("run", models / "conv.keras", "--random", "--quiet", "--device", device.index, home=tmp_path)
    assert (found.returncode, found.stderr) == (0, "")
    assert "tensorflow" not in sys.modules

    def child(*_: object) -> None:
        raise AssertionError("a warm start reads the model")

    monkeypatch.setenv("MACE_CL_STORE_DIR", str(tmp_path))
    monkeypatch.setattr("mace_cl.frontends.tensorflow.Child", child)
    with Runtime(models / "conv.keras", device=device) as runtime:
        assert runtime.decision.action == "use"


def test_a_deployment_file_of_mace(models: Path, device: Device, tmp_path: Path) -> None:
    pytest.importorskip("pydantic", reason="needs pip install 'mace-cl[deploy]'")
    (tmp_path / "model.yml").write_text(
        f"""
models:
  small:
    platform: tensorflow
    model_file_path: {models / "frozen.pb"}
    subgraphs:
      - input_tensors: ["picture:0"]
        input_shapes: ["2,9,11,3"]
        output_tensors: ["prob:0"]
        output_shapes: ["2,4"]
"""
    )
    found = command("convert", "--config", tmp_path / "model.yml", "-o", tmp_path / "build", home=tmp_path / "store")
    assert found.returncode == 0, found.stderr
    with np.load(models / "frozen.pb.npz") as arrays:
        given, expected = arrays["in:picture"], arrays["out:prob"]
    with Runtime(tmp_path / "build/small/model/small.onnx", device=device, store=False) as runtime:
        got = runtime.run({"picture:0": given})
    assert difference(np.asarray(got["prob:0"]), expected) <= TOLERANCE
