"""MACE's deployment files: what is read, what is refused, and with which words."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings, strategies

from mace_cl.cli import main
from mace_cl.deploy.deployment import Deployment, devices, load, verified
from mace_cl.deploy.effects import exact, file_notes, notes, responsive, runtime
from mace_cl.deploy.schema import Subgraph, json_schema
from mace_cl.errors import InputError
from mace_cl.frontends.read import load as load_model
from mace_cl.tools.deploy import DeployArgs, deploy, file_of
from support import case, model_of

SCHEMA = Path(__file__).parents[2] / "docs" / "deployment.schema.json"

SUM = "0123456789abcdef" * 4

CLASSIFIER = """
library_name: mobilenet
target_abis: [armeabi-v7a, arm64-v8a]
model_graph_format: file
model_data_format: file
models:
  mobilenet_v1:
    platform: tensorflow
    model_file_path: https://example.com/mobilenet-v1-1.0.pb
    model_sha256_checksum: SUM
    subgraphs:
      - input_tensors:
          - input
        input_shapes:
          - 1,224,224,3
        output_tensors:
          - MobilenetV1/Predictions/Reshape_1
        output_shapes:
          - 1,1001
        validation_inputs_data:
          - https://example.com/dog.npy
    runtime: cpu+gpu
    limit_opencl_kernel_time: 0
    nnlib_graph_mode: 0
    obfuscate: 0
    winograd: 0
""".replace("SUM", SUM)

CAFFE = """
library_name: squeezenet
target_abis: [host]
target_socs: all
model_graph_format: code
model_data_format: code
models:
  squeezenet-v11:
    platform: Caffe
    model_file_path: deploy.prototxt
    weight_file_path: net.caffemodel
    model_sha256_checksum: SUM
    weight_sha256_checksum: SUM
    subgraphs:
      - input_tensors: data
        input_shapes: 1,227,227,3
        output_tensors: prob
        output_shapes: 1,1,1,1000
        check_tensors: prob
        check_shapes: 1,1000,1,1
    runtime: gpu
    data_type: fp32_fp32
    cl_mem_type: buffer
    opencl_queue_window_size: 10
""".replace("SUM", SUM).replace("squeezenet-v11", "squeezenet_v11")

MANY = """
library_name: several
models:
  detector:
    platform: onnx
    model_file_path: detector.onnx
    quantize: 1
    quantize_range_file: ranges.txt
    change_concat_ranges: 1
    subgraphs:
      - input_tensors: [image, scale]
        input_shapes: [[1, 3, 300, 300], [1, 2]]
        input_data_types: [float32, int32]
        input_data_formats: [NCHW, NONE]
        input_ranges: ["0,255", "0,1"]
        input_aliases: [image, size]
        output_tensors: boxes
        output_shapes: 1,100,4
        output_data_formats: NONE
        validation_threshold: {cpu: 0.9, QUANTIZE: 0.95}
    runtime: hexagon
  split:
    platform: Keras
    model_file_path: whole.h5
    runtime: cpu
    winograd: 4
    subgraphs:
      encoder:
        input_tensors: x
        input_shapes: 1,64
        output_tensors: middle
        output_shapes: 1,8
        runtime: gpu
        order: 0
      decoder:
        input_tensors: middle
        input_shapes: 1,8
        output_tensors: y
        output_shapes: 1,64
        order: 1
"""


def read(folder: Path, text: str, **environment: str) -> Deployment:
    path = folder / "model.yml"
    path.write_text(text)
    return load(path, environment)


def test_classifier(tmp_path: Path) -> None:
    found = read(tmp_path, CLASSIFIER)
    (graph,) = found.graphs
    assert (found.library_name, found.target_abis) == ("mobilenet", ("armeabi-v7a", "arm64-v8a"))
    assert graph.files == (("https://example.com/mobilenet-v1-1.0.pb", SUM),)
    assert (graph.model, graph.name, graph.platform, graph.runtime) == (
        "mobilenet_v1", "default_graph", "tensorflow", "gpu"
    )  # fmt: skip
    assert [(port.name, port.shape, port.data_format) for port in graph.inputs] == [("input", (1, 224, 224, 3), "NHWC")]
    assert graph.inputs[0].range == (-1.0, 1.0)
    assert graph.thresholds == {"CPU": 0.999, "GPU": 0.995, "QUANTIZE": 0.98}
    assert graph.validation_inputs == ("https://example.com/dog.npy",)
    assert graph.options["limit_opencl_kernel_time"] == 0
    assert found.notes == ()


def test_caffe(tmp_path: Path) -> None:
    (graph,) = read(tmp_path, CAFFE).graphs
    assert graph.files == (("deploy.prototxt", SUM), ("net.caffemodel", SUM))
    assert (graph.platform, graph.data_type, graph.options["cl_mem_type"]) == ("caffe", "fp32_fp32", "buffer")


def test_several_models_and_subgraphs(tmp_path: Path) -> None:
    detector, encoder, decoder = read(tmp_path, MANY).graphs
    assert [port.range for port in detector.inputs] == [(0.0, 255.0), (0.0, 1.0)]
    assert [port.alias for port in detector.inputs] == ["image", "size"]
    assert detector.inputs[1].data_type == "int32"
    assert (detector.runtime, detector.thresholds["CPU"], detector.thresholds["QUANTIZE"]) == ("dsp", 0.9, 0.95)
    assert [(one.name, one.order, one.runtime, one.winograd) for one in (encoder, decoder)] == [
        ("encoder", 0, "gpu", 4), ("decoder", 1, "cpu", 4)
    ]  # fmt: skip


def test_old_spellings_are_noted(tmp_path: Path) -> None:
    text = CLASSIFIER.replace("model_graph_format: file", "build_type: proto").replace("winograd", "fast_conv")
    text = text.replace("model_data_format: file", "embed_model_data: 0").replace("input_tensors", "input_nodes")
    found = read(tmp_path, text.replace("nnlib_graph_mode", "dsp_mode") + "linkshared: 0\n")
    assert (found.model_graph_format, found.model_data_format) == ("file", "file")
    assert found.graphs[0].inputs[0].name == "input"
    for old in ("build_type", "embed_model_data", "linkshared", "fast_conv", "input_nodes", "dsp_mode"):
        assert any(old in note for note in found.notes)


def test_variables(tmp_path: Path) -> None:
    text = CAFFE.replace("deploy.prototxt", "${MODELS}/deploy.prototxt")
    assert read(tmp_path, text, MODELS="/models").graphs[0].files[0][0] == "/models/deploy.prototxt"
    with pytest.raises(InputError, match="MODELS must be set in the environment"):
        read(tmp_path, text)


def test_words_stay_words(tmp_path: Path) -> None:
    """YAML 1.1 takes ON for true and 2020-01-01 for a date."""
    found = read(tmp_path, CLASSIFIER.replace("mobilenet\n", "ON\n", 1))
    assert found.library_name == "ON"
    assert read(tmp_path, CLASSIFIER.replace("mobilenet\n", "2020-01-01\n", 1)).library_name == "2020-01-01"


def test_an_anchor_may_be_used(tmp_path: Path) -> None:
    text = CLASSIFIER.replace("- 1,224,224,3", "- &shape 1,224,224,3").replace("- 1,1001", "- *shape")
    assert read(tmp_path, text).graphs[0].outputs[0].shape == (1, 224, 224, 3)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("winograd", "winnograd", r"models\.mobilenet_v1\.winnograd: no such key; the nearest known is winograd"),
        ("input_tensors", "input_tensor", r"\.input_tensor: no such key; the nearest known is input_tensors"),
        ("library_name", "lib", r"lib: no such key"),
        ("library_name", "lib[", r"lib\[: no such key"),
        ("winograd: 0", "winograd: 3", r"winograd: Input should be 0, 2 or 4, not '3'"),
        ("cpu+gpu", "quantum", r"runtime: Input should be 'cpu'.*not 'quantum'"),
        ("platform: tensorflow", "platform: mxnet", r"platform: Input should be 'tensorflow'"),
        ("    platform: tensorflow\n", "", r"models\.mobilenet_v1: platform is missing; add"),
        (SUM, "1234", r"model_sha256_checksum: String should match"),
        ("1,224,224,3", "1,224,abc", r"input_shapes: .*invalid literal"),
        ("1,224,224,3", "1,-2,224,3", r"the shape \[1, -2, 224, 3\] of 'input' must be of sizes of at least 1"),
        ("          - 1,1001", "          - 1,1001\n          - 1,2", r"1 output_tensors, but 2 output_shapes"),
        ("  mobilenet_v1:", "  class:", r"models\.class: the name of a model must be an identifier"),
        ("  mobilenet_v1:", "  mobile-net:", r"models\.mobile-net: the name of a model must be an identifier"),
        ("obfuscate: 0", "quantize: 1\n    quantize_large_weights: 1", "exclude each other"),
        ("models:\n", "nets:\n", r"models is missing; nets: no such key"),
    ],
)  # fmt: skip
def test_wrong_keys_and_values(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in CLASSIFIER
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, CLASSIFIER.replace(old, new))
    assert "model.yml" in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, CLASSIFIER.replace("winograd", "winnograd").replace("cpu+gpu", "quantum"))
    assert "winnograd" in str(caught.value)
    assert "quantum" in str(caught.value)


def test_missing_weights(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weight_file_path is missing"):
        read(tmp_path, CAFFE.replace("    weight_file_path: net.caffemodel\n", ""))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no keys"),
        ("- 1\n- 2", "holds no keys"),
        ("a: [1", "no YAML that can be read"),
        ("a: b: c", "no YAML that can be read"),
        ("models: !!python/object/apply:os.system [id]", r"the tag 'tag:yaml\.org,2002:python.*tags are not read"),
        ("models: !custom {}", "the tag '!custom'; tags are not read"),
        (BOMB + "models: *i\n", "stands for more than 100000 values"),
        ("models: &m {a: *m}", "a value holds itself"),
        ("[" * 20000, "nested too deeply"),
        ("a: *nowhere", "no YAML that can be read"),
        ("? {a: 1}\n: 2", "no YAML that can be read"),
        ("#" * (1 << 20) + "\n", "more than 1048576 bytes"),
    ],
)
def test_no_deployment_file(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


WORDS = [
    "models:", "a:", "&a", "*a", "-", "[", "]", "{", "}", ":", ",", "\n", "  ", "<<:", "!!int", "!x", "'", '"', "|",
    ">", "0", "1.5", "~", "?", "${A}", "platform:", "onnx", "subgraphs:", "input_shapes:", "1,2", "winograd:",
    "validation_threshold:",
]  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=strategies.lists(strategies.sampled_from(WORDS), max_size=40), place=strategies.integers(0, 600))
def test_any_words(words: list[str], place: int, tmp_path: Path) -> None:
    """YAML's signs and MACE's words in any order, alone or somewhere in a file."""
    for text in (" ".join(words), CLASSIFIER[:place] + " ".join(words) + CLASSIFIER[place:]):
        with contextlib.suppress(InputError):
            read(tmp_path, text, A="b")


def test_no_text_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "model.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no text"):
        load(tmp_path / "model.yml", {})
    with pytest.raises(InputError, match="can't be read"):
        load(tmp_path / "none.yml", {})


def test_schema_is_current() -> None:
    """Made by ``python -c "import json, mace_cl.deploy.schema as d; print(json.dumps(d.json_schema(), indent=2))"``."""
    assert json.loads(SCHEMA.read_text()) == json_schema()


def test_devices(tmp_path: Path) -> None:
    path = tmp_path / "devices.yml"
    path.write_text(
        "devices:\n  nanopi:\n    target_abis: [arm64, armhf]\n    target_socs: RK3399\n"
        "    models: FriendlyElec Nanopi M4\n"
        "    address: 10.0.0.5\n    username: user\n"
    )
    (device,) = devices(path, {})
    assert (device.address, device.username, device.model) == ("10.0.0.5", "user", "FriendlyElecNanopiM4")
    path.write_text(path.read_text().replace("username", "user_name"))
    with pytest.raises(InputError, match="the nearest known is username"):
        devices(path, {})


USED = {
    "platform", "model_file_path", "model_sha256_checksum", "weight_file_path", "weight_sha256_checksum",
    "input_tensors", "input_shapes", "input_data_types", "input_data_formats", "input_ranges", "output_tensors",
    "output_shapes", "output_data_types", "output_data_formats", "validation_inputs_data",
    "validation_outputs_data", "validation_threshold", "runtime", "winograd", "order",
    "limit_opencl_kernel_time", "opencl_queue_window_size",
}  # fmt: skip
"""Keys that have an effect; all others must be told of."""

TOLD = {
    "accelerator_api": "x", "accuracy_validation_script": "metric.py", "backend": "tensorflow",
    "change_concat_ranges": "1", "check_shapes": "1,2", "check_tensors": "a", "cl_mem_type": "image",
    "data_type": "bf16_fp32", "docker_image_tag": "latest", "dockerfile_path": "d", "dockerfile_sha256_checksum": SUM,
    "graph_optimize_options": "[FOLD_RESHAPE]", "input_aliases": "image",
    "nnlib_graph_mode": "1", "obfuscate": "1", "output_aliases": "scores",
    "quantize": "1", "quantize_large_weights": "1", "quantize_range_file": "ranges", "quantize_schema": "int8",
}  # fmt: skip


def test_every_key_is_known() -> None:
    assert set(Subgraph.model_fields) == USED | set(TOLD)


@pytest.mark.parametrize("key", TOLD)
def test_keys_without_effect_are_told(key: str, tmp_path: Path) -> None:
    text = CLASSIFIER.replace("    limit_opencl_kernel_time: 0\n    nnlib_graph_mode: 0\n    obfuscate: 0\n", "")
    assert notes(read(tmp_path, text).graphs[0]) == ()
    (note,) = notes(read(tmp_path, f"{text}    {key}: {TOLD[key]}\n").graphs[0])
    assert key in note


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("winograd: 4", "winograd: 4 allows"),
        ("data_type: fp16_fp32", "computed is in fp32"),
        ("data_type: uint8", "uint8 has no effect"),
        ("validation_threshold: {HEXAGON: 0.9}", "HEXAGON has no effect"),
        ("runtime: hta", "hta is not driven"),
        ("runtime: cpu", "the host alone"),
    ],
)
def test_keys_with_another_effect_are_told(key: str, said: str, tmp_path: Path) -> None:
    text = CLASSIFIER.replace("    winograd: 0\n", "").replace("    runtime: cpu+gpu\n", "")
    (note,) = notes(read(tmp_path, f"{text}    {key}\n").graphs[0])
    assert said in note


def test_what_keeps_a_gpu_responsive(tmp_path: Path) -> None:
    text = CLASSIFIER.replace("    limit_opencl_kernel_time: 0\n", "")
    assert responsive(read(tmp_path, text).graphs[0]) == (None, None)
    for zeros in ("limit_opencl_kernel_time: 0", "opencl_queue_window_size: 0"):
        assert responsive(read(tmp_path, f"{text}    {zeros}\n").graphs[0]) == (None, None)
    both = f"{text}    limit_opencl_kernel_time: 1\n    opencl_queue_window_size: 10\n"
    assert responsive(read(tmp_path, both).graphs[0]) == (10, 1)


def test_what_runs_a_graph(tmp_path: Path) -> None:
    for name, without, provided in (
        ("cpu", "cpu", "cpu"), ("gpu", None, None), ("cpu+gpu", None, None), ("htp", None, "npu")
    ):  # fmt: skip
        (graph,) = read(tmp_path, CLASSIFIER.replace("cpu+gpu", name)).graphs
        assert (runtime(graph, None), runtime(graph, "QNN")) == (without, provided)
        assert exact(graph)
    (graph,) = read(tmp_path, CLASSIFIER.replace("winograd: 0", "winograd: 2")).graphs
    assert exact(graph) is None


def test_keys_of_the_file_are_told(tmp_path: Path) -> None:
    found = read(tmp_path, CAFFE + "apu_version_with_no_device: 4\n")
    said = file_notes(found, devices=False)
    assert [note.partition(":")[0].partition(" has")[0] for note in said] == [
        "model_graph_format, model_data_format", "target_abis, target_socs", "apu_version_with_no_device"
    ]  # fmt: skip
    assert len(file_notes(found, devices=True)) == 2


QUANTISED = """
library_name: mobilenet
target_abis: [arm64-v8a]
target_socs: [msm8998, sdm845]
model_graph_format: file
model_data_format: file
models:
  mobilenet_v2_quant:
    platform: tensorflow
    model_file_path: mobilenet_v2_quant.pb
    model_sha256_checksum: SUM
    subgraphs:
      - input_tensors: [input]
        input_shapes: ["1,224,224,3"]
        input_ranges: ["-1.0,1.0"]
        output_tensors: [output]
        output_shapes: ["1,1001"]
        validation_inputs_data: [https://example.com/dog.npy]
        validation_threshold: {HEXAGON: 0.930, CPU: 0.980}
    runtime: dsp
    limit_opencl_kernel_time: 0
    nnlib_graph_mode: 1
    obfuscate: 0
    winograd: 0
    quantize: 1
    quantize_range_file: https://example.com/overall_range
""".replace("SUM", SUM)

SHARED = """
library_name: several
models:
  first: &first
    platform: pytorch
    model_file_path: net.pt
    subgraphs:
      - &io
        input_tensors: [x]
        input_shapes: ["1,3,8,8"]
        input_data_formats: [NCHW]
        output_tensors: [y]
        output_shapes: ["1,10"]
        output_data_formats: NONE
    runtime: cpu+gpu
    data_type: fp16_fp16
    opencl_queue_window_size: 0
  second:
    <<: *first
    model_file_path: other.pt
    subgraphs: [*io]
  third:
    platform: MegEngine
    model_file_path: net.mge
    graph_optimize_options: [FOLD_CONV_AND_BN]
    quantize_schema: mace_apu_16bit_per_tensor
    subgraphs:
      main: {<<: *io, runtime: apu, cl_mem_type: buffer, data_type: fp32_fp32}
"""

OLDEST = """
library_name: squeezenet
target_abis: [armeabi-v7a]
target_socs: [msm8953]
embed_model_data: 1
build_type: code
linkshared: 1
models:
  squeezenet_v10:
    platform: caffe
    model_file_path: http://example.com/squeezenet.prototxt
    weight_file_path: http://example.com/squeezenet.caffemodel
    model_sha256_checksum: SUM
    weight_sha256_checksum: SUM
    input_nodes: data
    input_shapes: 1,227,227,3
    output_nodes: prob
    output_shapes: 1,1,1,1000
    runtime: cpu
    limit_opencl_kernel_time: 0
    dsp_mode: 0
    obfuscate: 0
    fast_conv: 0
    subgraphs:
      - {}
""".replace("SUM", SUM)


def test_files_of_each_kind(tmp_path: Path) -> None:
    """As MACE's users have them: quantised for a DSP; shared parts; keys of the first versions, on the model."""
    (quantised,) = read(tmp_path, QUANTISED).graphs
    assert (quantised.runtime, quantised.thresholds["HEXAGON"], quantised.winograd) == ("dsp", 0.93, 0)
    assert quantised.options["quantize_range_file"] == "https://example.com/overall_range"
    first, second, third = read(tmp_path, SHARED).graphs
    assert (first.files, second.files) == ((("net.pt", ""),), (("other.pt", ""),))
    assert first.inputs == second.inputs == third.inputs
    assert (third.name, third.platform, third.runtime, third.data_type) == ("main", "megengine", "apu", "fp32_fp32")
    found = read(tmp_path, OLDEST)
    assert (found.model_graph_format, found.model_data_format) == ("code", "code")
    (oldest,) = found.graphs
    assert (oldest.inputs[0].shape, oldest.outputs[0].name, oldest.runtime) == ((1, 227, 227, 3), "prob", "cpu")
    assert len(found.notes) == 7


def test_urls_without_a_network(tmp_path: Path) -> None:
    for url in ("http://127.0.0.1:1/net.onnx", "http://[::1/net.onnx", "http://127.0.0.1:port/net.onnx"):
        with pytest.raises(InputError, match=r"can't be fetched \(.*get it by other means and name the file"):
            file_of(tmp_path / "model.yml", url, "", tmp_path)


class TestConvert:
    """``mace-cl convert --config``."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        one = case("net", "c = Conv(x, w) y = Relu(c) y1 = Abs(y)", x=(1, 3, 5, 5), w=(4, 3, 3, 3))
        data = model_of(one).SerializeToString()
        (tmp_path / "net.onnx").write_bytes(data)
        (tmp_path / "model.yml").write_text(
            "models:\n  small:\n    platform: onnx\n    model_file_path: net.onnx\n"
            f"    model_sha256_checksum: {hashlib.sha256(data).hexdigest()}\n"
            "    subgraphs:\n      - input_tensors: x\n        input_shapes: 1,5,5,3\n        output_tensors: y\n"
            "        output_shapes: 1,3,3,4\n    data_type: fp32_fp32\n"
        )
        return tmp_path

    @pytest.mark.parametrize("to", ["onnx", "mace"])
    def test_small(self, folder: Path, to: str, capsys: pytest.CaptureFixture[str]) -> None:
        command = ["convert", "--config", str(folder / "model.yml"), "-o", str(folder / "build"), "--to", to]
        assert main(command) == 0
        made = folder / "build" / "small" / "model" / ("small.onnx" if to == "onnx" else "small.pb")
        assert str(made) in capsys.readouterr().out
        assert [value.name for value in load_model(made).graph.outputs] == ["y"]

    def test_other_checksum(self, folder: Path) -> None:
        with (folder / "net.onnx").open("ab") as file:
            file.write(b"\0")
        with pytest.raises(
            InputError, match=r"net\.onnx: has the SHA-256 [0-9a-f]{64}, but the deployment file asks for"
        ):
            deploy(DeployArgs(folder / "model.yml", folder / "build"))

    def test_no_such_model(self, folder: Path) -> None:
        with pytest.raises(InputError, match="has no model 'large'; its models are small"):
            deploy(DeployArgs(folder / "model.yml", folder / "build", models=("large",)))

    def test_model_or_config(self, folder: Path) -> None:
        assert main(["convert", "-o", str(folder)]) == 2
        assert main(["convert", "net.onnx", "--config", "model.yml", "-o", str(folder)]) == 2

    @pytest.fixture
    def server(self, folder: Path) -> Iterator[str]:
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: object, **named: object) -> None:
                super().__init__(*args, directory=str(folder), **named)  # type: ignore[arg-type]

            def log_message(self, *args: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_address[1]}"
            server.shutdown()

    def test_fetched(self, folder: Path, server: str) -> None:
        config = folder / "model.yml"
        config.write_text(config.read_text().replace("net.onnx", f"{server}/net.onnx"))
        result = deploy(DeployArgs(config, folder / "build"))
        assert result.results["small"].converted.source == folder / "build" / "small" / "org_model" / "net.onnx"
        config.write_text(config.read_text().replace("net.onnx", "none.onnx"))
        with pytest.raises(InputError, match=r"none\.onnx: can't be fetched \(.*[Nn]ot [Ff]ound"):
            deploy(DeployArgs(config, folder / "build"))

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="can't be read"):
            verified(tmp_path / "none", "")


class TestPortable:
    """What ``mace-cl convert`` writes."""

    def test_onnx(self, tmp_path: Path) -> None:
        one = case("net", "y = Conv(x, w)", x=(1, 3, 5, 5), w=(40, 3, 3, 3))
        source = tmp_path / "net.onnx"
        source.write_bytes(model_of(one).SerializeToString())
        for extra in ([], ["--safetensors"]):
            out = tmp_path / f"out{len(extra)}"
            assert main(["convert", str(source), "-o", str(out), *extra]) == 0
            model = onnx.load(out / "net.onnx")
            properties = {entry.key: entry.value for entry in model.metadata_props}
            assert properties["mace_cl.source_name"] == "net.onnx"
            assert properties["mace_cl.source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
            manifest = json.loads((out / "mace-cl.json").read_text())
            assert manifest["inputs"] == [{"name": "x", "dtype": "float32", "shape": [1, 3, 5, 5]}]
            for name, file in manifest["files"].items():
                assert file["sha256"] == hashlib.sha256((out / name).read_bytes()).hexdigest()
            weights = onnx.numpy_helper.to_array(model.graph.initializer[0])
            assert np.array_equal(weights, one.values["w"])
            load_model(out / "net.onnx")

    def test_safetensors(self, tmp_path: Path) -> None:
        """As the specification has it, a length, a header in JSON, the bytes; and as its own package reads it."""
        one = case("net", "y = Conv(x, w)", x=(1, 3, 5, 5), w=(40, 3, 3, 3))
        (tmp_path / "net.onnx").write_bytes(model_of(one).SerializeToString())
        assert main(["convert", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out"), "--safetensors"]) == 0
        data = (tmp_path / "out" / "net.safetensors").read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        begin, end = header["w"]["data_offsets"]
        assert (header["w"]["dtype"], header["w"]["shape"]) == ("F32", [40, 3, 3, 3])
        assert data[8 + length + begin : 8 + length + end] == one.values["w"].tobytes()
        assert len(data) == 8 + length + end
        found = safetensors.numpy.load(data)
        assert np.array_equal(found["w"], one.values["w"])

    def test_half_is_for_mace(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["convert", "net.onnx", "-o", str(tmp_path), "--fp16"]) == 2
        assert "--fp16 is for --to mace" in capsys.readouterr().err
