"""Published networks by deployment files of MACE, written as its users write them: converted, and one of them run."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest

from mace_cl.cli import main
from mace_cl.device import Device
from mace_cl.tools.deploy import DeployArgs, deploy
from support import difference, reference

FOLDER = Path(__file__).parents[3] / "shared" / "real"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the real networks are not beside the checkout (../shared/real)"
)

NETWORKS = """
library_name: real
target_abis: [armeabi-v7a, arm64-v8a]
build_type: proto
models:
  face_caffe:
    platform: caffe
    model_file_path: ${REAL}/linzaer_rfb320/RFB-320.prototxt
    weight_file_path: ${REAL}/linzaer_rfb320/RFB-320.caffemodel
    model_sha256_checksum: SUM_OF_MODEL
    weight_sha256_checksum: SUM_OF_WEIGHTS
    subgraphs:
      - input_tensors: [input]
        input_shapes: [1,240,320,3]
        output_tensors: [scores, boxes]
        output_shapes: ["1,4420,2", "1,4420,4"]
        output_data_formats: NONE
    runtime: cpu+gpu
    limit_opencl_kernel_time: 0
    nnlib_graph_mode: 0
    obfuscate: 0
    winograd: 4
  digits: &digits
    platform: onnx
    model_file_path: ${REAL}/mnist8/model.onnx
    subgraphs:
      - input_nodes: Input3
        input_shapes: 1,1,28,28
        input_data_formats: NCHW
        output_nodes: Plus214_Output_0
        output_shapes: 1,10
        validation_inputs_data: [digit.npy]
        validation_outputs_data: [scores.npy]
    runtime: gpu
    fast_conv: 0
    dsp_mode: 0
  face_tflite:
    <<: *digits
    platform: tensorflow
    model_file_path: ${REAL}/linzaer_rfb320/version-RFB-320_without_postprocessing.tflite
    subgraphs:
      - input_tensors: input_1
        input_shapes: 1,240,320,3
        output_tensors: [Identity, Identity_1]
        output_shapes: ["1,4420,4", "1,4420,2"]
  person_of_mace:
    platform: tensorflow
    model_file_path: ${REAL}/mace_people_segmentation/deeplab_v3_plus_mobilenet_v2_quant.pb
    weight_file_path: ${REAL}/mace_people_segmentation/deeplab_v3_plus_mobilenet_v2_quant.data
    runtime: dsp
    quantize: 1
    subgraphs:
      default_graph:
        input_tensors: [Input]
        input_shapes: ["1,513,513,3"]
        output_tensors: [ResizeBilinear_1]
        output_shapes: ["1,513,513,2"]
"""


def summed(name: str) -> str:
    return hashlib.sha256((FOLDER / name).read_bytes()).hexdigest()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REAL", str(FOLDER))
    monkeypatch.chdir(tmp_path)
    text = NETWORKS.replace("SUM_OF_MODEL", summed("linzaer_rfb320/RFB-320.prototxt"))
    Path("real.yml").write_text(text.replace("SUM_OF_WEIGHTS", summed("linzaer_rfb320/RFB-320.caffemodel")))
    return Path("real.yml")


def test_converted(config: Path) -> None:
    """All of them; what was written gives, in ONNX Runtime, the outputs that are on record."""
    result = deploy(DeployArgs(config, Path("build")))
    records = {
        "face_caffe": "linzaer_rfb320/ref/5_caffe.npz",
        "digits": "mnist8/ref/set0.npz",
        "face_tflite": "linzaer_rfb320/ref/5_tflite.npz",
    }
    assert list(result.results) == ["face_caffe", "digits", "face_tflite", "person_of_mace"]
    for name, record in records.items():
        with np.load(FOLDER / record) as arrays:
            inputs = {key[3:]: arrays[key] for key in arrays if key.startswith("in:")}
            expected = {key.rpartition(":")[2]: arrays[key] for key in arrays if key.startswith("out:")}
        got = reference(onnx.load(result.results[name].path), inputs)
        assert got.keys() == expected.keys()
        for output, array in expected.items():
            assert difference(got[output], array) <= 1e-4, (name, output)
    person = result.results["person_of_mace"]
    assert (person.inputs[0]["shape"], person.outputs[0]["shape"]) == ([1, 513, 513, 3], [1, 513, 513, 2])
    flags = (person.converted.output / "mace_run.config").read_text()
    assert "--input_shape=1,513,513,3\n--output_node=ResizeBilinear_1\n" in flags
    for said in ("fast_conv is called winograd", "dsp is not driven", "quantize has no effect", "build_type is called"):
        assert any(said in note for note in result.notes), said


def test_run_and_validated(
    config: Path, device: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network for digits, on the data that were published with it."""
    monkeypatch.setenv("MACE_CL_DEVICE", device.runtime)
    with np.load(FOLDER / "mnist8" / "ref" / "set0.npz") as arrays:
        np.save("digit.npy", arrays["in:Input3"])
        np.save("scores.npy", arrays["out:Plus214_Output_0"])
    argv = ["run", "--config", str(config), "--model_name", "digits"]
    assert main([*argv, "--validate", "--top", "1"]) == 0
    said = capsys.readouterr().out
    assert "passed" in said
    with np.load("build/digits/run/digits/outputs.npz") as outputs:
        assert int(outputs["Plus214_Output_0"].argmax()) == int(np.load("scores.npy").argmax())
    np.save("scores.npy", np.load("scores.npy")[:, ::-1])
    assert main([*argv, "--validate"]) == 9
