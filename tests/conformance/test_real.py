"""Published networks of ONNX, Caffe and MACE: the outputs of other engines, and the right answers; see `real`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mace_cl.graph import array_of
from real import FLOAT, FOLDER, Networks, beside, reference_file, separate
from support import Array, Start, difference

pytestmark = beside


def priors() -> NDArray[np.float64]:
    """The boxes (cx, cy, w, h) that RFB-320's raw outputs are offsets from, relative to its 320×240 image."""
    found = []
    for stride, sizes in ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256))):
        for row in range(-(-240 // stride)):
            for column in range(-(-320 // stride)):
                centre = ((column + 0.5) * stride / 320, (row + 0.5) * stride / 240)
                found += [(*centre, size / 320, size / 240) for size in sizes]
    boxes: NDArray[np.float64] = np.clip(np.array(found), 0, 1)
    return boxes


@pytest.mark.parametrize(("photo", "faces"), [("2", 4), ("5", 1), ("13", 2), ("20", 10)])
@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("version-RFB-320.onnx", "onnx"),
        ("version-RFB-320_simplified.onnx", "onnx_simplified"),
        ("RFB-320.prototxt", "caffe"),
        ("RFB-320.caffemodel", "onnx_simplified"),
    ],
)
def test_faces(networks: Networks, photo: str, faces: int, name: str, reference: str) -> None:
    network = f"linzaer_rfb320/{name}"
    got = networks.run(network, f"{photo}_{reference}")
    assert count_faces(got["scores"], got["boxes"], decoded=reference == "onnx") == faces
    networks.answered(network, f"{faces} faces")


def count_faces(scores: Array, boxes: Array, *, decoded: bool = False) -> int:
    """RFB-320's faces, from offsets or, ``decoded``, from boxes."""
    score, box = scores[0, :, 1], boxes[0].astype(np.float64)
    if not decoded:
        prior = priors()
        centre = prior[:, :2] + box[:, :2] * 0.1 * prior[:, 2:]
        size = prior[:, 2:] * np.exp(box[:, 2:] * 0.2)
        box = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    sure = score > 0.7
    return len(separate(box[sure], score[sure], 0.3))


@pytest.mark.parametrize(("photo", "faces"), [("2", 4), ("5", 1), ("13", 2), ("20", 10)])
def test_three_formats_of_one_network(networks: Networks, photo: str, faces: int) -> None:
    """Caffe's and ONNX's files hold the same weights; TensorFlow Lite's differ, by 2.2e-4 of the scores in the engines
    that the reference files come from (5.jpg).
    """
    inputs, _ = reference_file("linzaer_rfb320/RFB-320.prototxt", f"{photo}_caffe")
    lite = "linzaer_rfb320/version-RFB-320_without_postprocessing.tflite"
    simplified, caffe = (
        networks.outputs(f"linzaer_rfb320/{name}", inputs)
        for name in ("version-RFB-320_simplified.onnx", "RFB-320.prototxt")
    )
    other = networks.outputs(lite, {"input_1": inputs["input"].transpose(0, 2, 3, 1)})
    for name, lites in (("scores", "Identity_1"), ("boxes", "Identity")):
        assert difference(caffe[name], simplified[name]) <= 1e-5
        assert difference(other[lites], simplified[name]) <= 3e-4
    assert count_faces(other["Identity_1"], other["Identity"]) == faces
    networks.answered(lite, f"{faces} faces")


def test_persons(networks: Networks) -> None:
    got = networks.run("fastestdet/FastestDet.onnx", "3_onnx")
    (grid,) = got.values()
    _, _, height, width = grid.shape
    cells = grid[0].reshape(85, -1).T
    scores, classes = cells[:, 0] * cells[:, 5:].max(axis=1), cells[:, 5:].argmax(axis=1)
    index = np.arange(height * width)
    corner = np.stack([index % width, index // width], axis=1)
    centre = (corner + np.tanh(cells[:, 1:3])) / (width, height)
    size = 1 / (1 + np.exp(-cells[:, 3:5]))
    boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    sure = np.flatnonzero(scores > 0.65)
    kept = sure[separate(boxes[sure], scores[sure], 0.45)]
    names = (FOLDER / "fastestdet" / "coco.names").read_text().split("\n")
    assert [names[number] for number in classes[kept]] == ["person"] * 4
    networks.answered("fastestdet/FastestDet.onnx", "4 persons")


def test_no_persons(networks: Networks) -> None:
    networks.run("fastestdet/FastestDet.onnx", "4_onnx")


@pytest.mark.parametrize(("number", "digit"), [(0, 2), (1, 0), (2, 9)])
def test_digits(networks: Networks, number: int, digit: int) -> None:
    (logits,) = networks.run("mnist8/model.onnx", f"set{number}").values()
    assert logits.argmax() == digit
    networks.answered("mnist8/model.onnx", f"digit {digit}")
    assert difference(logits, published("mnist8", f"set{number}_output_0.pb")) <= FLOAT


def test_super_resolution(networks: Networks) -> None:
    got = networks.run("superres10/model.onnx", "set0")
    assert difference(got["output"], published("superres10", "set0_output_0.pb")) <= FLOAT


def published(network: str, name: str) -> Array:
    array: Array = onnx.numpy_helper.to_array(onnx.load_tensor(FOLDER / network / name))
    return array


def test_person_is_cut_out(networks: Networks) -> None:
    """MACE's own quantised network: as the graph that was read says in ONNX Runtime, and the mask is the person."""
    import onnx_ir as ir
    from PIL import Image

    from mace_cl.frontends.read import load
    from support import reference

    network = "mace_people_segmentation/deeplab_v3_plus_mobilenet_v2_quant.pb"
    model = load(FOLDER / network)
    with Image.open(FOLDER / "linzaer_rfb320" / "5.jpg") as photo:
        pixels = np.asarray(photo.convert("RGB").resize((513, 513)), np.float32)
    inputs = {"Input": pixels[None] / 127.5 - 1}
    scores = networks.outputs(network, inputs)["ResizeBilinear_1"]
    expected = reference(ir.serde.serialize_model(model), inputs)["ResizeBilinear_1"]
    assert scores.shape == (1, 513, 513, 2)
    end = next(node for node in model.graph if node.outputs[0].name == "mace_output_node_ResizeBilinear_1/real")
    step = array_of(end.inputs[1])
    assert step is not None
    networks.agrees(network, "5.jpg", scores, expected, step=float(step))
    networks.row(network).samples += 1
    person = scores[0, ..., 1] > scores[0, ..., 0]
    # one woman right of the middle, from the hair down to the lower edge (looked at)
    assert 0.25 < person.mean() < 0.3
    assert person[60:500, 250:330].mean() > 0.9
    assert person[:, :80].mean() == 0
    assert person[:30].mean() == 0
    networks.answered(network, "the person's mask")


@pytest.mark.parametrize("half", [False, True])
def test_faces_by_maces_files(start: Start, networks: Networks, tmp_path: Path, half: bool) -> None:
    """The face detector from Caffe's files to MACE's and back; half weights find the same faces."""
    from mace_cl.tools.convert import ConvertArgs
    from mace_cl.tools.convert import run as convert

    convert(ConvertArgs(FOLDER / "linzaer_rfb320" / "RFB-320.prototxt", tmp_path, "mace", half=half))
    inputs, expected = reference_file("linzaer_rfb320/RFB-320.prototxt", "2_caffe")
    with start(tmp_path / "RFB-320.pb") as executor:
        got = executor.run(inputs)
    for name, array in expected.items():
        if half:
            assert difference(got[name], array) <= 1e-2
        else:
            networks.agrees("linzaer_rfb320/RFB-320.pb", name, got[name], array)
    faces = count_faces(got["scores"], got["boxes"])
    assert faces == 4
    if not half:
        networks.row("linzaer_rfb320/RFB-320.pb").samples += 1
        networks.answered("linzaer_rfb320/RFB-320.pb", f"{faces} faces")
