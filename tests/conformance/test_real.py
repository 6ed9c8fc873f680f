"""Published networks: the outputs of other engines, and the right answers.

The folder ``../shared/real`` beside the checkout holds them; each has a ``SOURCE.txt`` that says where it
comes from and how the answer is known.  Their inputs are the ``in:`` arrays of the ``ref`` files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from mace_cl.runtime.executor import Executor
from support import Array, Outputs, Start, difference

FOLDER = Path(__file__).parents[3] / "shared" / "real"
TOLERANCE = 1e-4

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the real networks are not beside the checkout (../shared/real)"
)

Run = Callable[[str, str], tuple[Outputs, Outputs]]


@pytest.fixture(scope="module")
def run(start: Start) -> Iterator[Run]:
    """Run a network on the inputs of a reference file: its outputs, and what the file says they are."""
    executors: dict[str, Executor] = {}

    def call(network: str, name: str) -> tuple[Outputs, Outputs]:
        if network not in executors:
            executors[network] = start(FOLDER / network)
        with np.load((FOLDER / network).parent / "ref" / f"{name}.npz") as arrays:
            inputs = {key[3:]: arrays[key] for key in arrays if key.startswith("in:")}
            expected = {key[4:]: arrays[key] for key in arrays if key.startswith("out:")}
        return executors[network].run(inputs), expected

    yield call
    for executor in executors.values():
        executor.close()


def agrees(got: Outputs, expected: Outputs) -> None:
    assert got.keys() == expected.keys()
    for name, array in expected.items():
        assert difference(got[name], array) <= TOLERANCE, name


def separate(boxes: Array, scores: Array, overlap: float) -> list[int]:
    """Non-maximum suppression of boxes (x1, y1, x2, y2): indices of those kept, the best first."""
    kept: list[int] = []
    for index in np.argsort(-scores).tolist():
        left_top = np.maximum(boxes[index, :2], boxes[kept, :2])
        right_bottom = np.minimum(boxes[index, 2:], boxes[kept, 2:])
        shared = np.prod(np.maximum(right_bottom - left_top, 0), axis=-1)
        area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=-1)
        if np.all(shared <= overlap * (area[index] + area[kept] - shared)):
            kept.append(index)
    return kept


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
def test_faces(run: Run, photo: str, faces: int, name: str, reference: str) -> None:
    got, expected = run(f"linzaer_rfb320/{name}", f"{photo}_{reference}")
    agrees(got, expected)
    scores, boxes = got["scores"][0, :, 1], got["boxes"][0].astype(np.float64)
    if reference != "onnx":
        prior = priors()
        centre = prior[:, :2] + boxes[:, :2] * 0.1 * prior[:, 2:]
        size = prior[:, 2:] * np.exp(boxes[:, 2:] * 0.2)
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    sure = scores > 0.7
    assert len(separate(boxes[sure], scores[sure], 0.3)) == faces


def test_persons(run: Run) -> None:
    got, expected = run("fastestdet/FastestDet.onnx", "3_onnx")
    agrees(got, expected)
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


def test_no_persons(run: Run) -> None:
    agrees(*run("fastestdet/FastestDet.onnx", "4_onnx"))


@pytest.mark.parametrize(("number", "digit"), [(0, 2), (1, 0), (2, 9)])
def test_digits(run: Run, number: int, digit: int) -> None:
    got, expected = run("mnist8/model.onnx", f"set{number}")
    agrees(got, expected)
    (logits,) = got.values()
    assert logits.argmax() == digit
    assert difference(logits, published("mnist8", f"set{number}_output_0.pb")) <= TOLERANCE


def test_super_resolution(run: Run) -> None:
    got, expected = run("superres10/model.onnx", "set0")
    agrees(got, expected)
    assert difference(got["output"], published("superres10", "set0_output_0.pb")) <= TOLERANCE


def published(network: str, name: str) -> Array:
    array: Array = onnx.numpy_helper.to_array(onnx.load_tensor(FOLDER / network / name))
    return array


def test_person_is_cut_out() -> None:
    """MACE's own quantised network, through ONNX Runtime: the mask is the person of the photograph."""
    import onnx_ir as ir
    from PIL import Image

    from mace_cl.frontends.read import load
    from support import reference

    model = load(FOLDER / "mace_people_segmentation" / "deeplab_v3_plus_mobilenet_v2_quant.pb")
    with Image.open(FOLDER / "linzaer_rfb320" / "5.jpg") as photo:
        pixels = np.asarray(photo.convert("RGB").resize((513, 513)), np.float32)
    scores = reference(ir.serde.serialize_model(model), {"Input": pixels[None] / 127.5 - 1})["ResizeBilinear_1"]
    assert scores.shape == (1, 513, 513, 2)
    person = scores[0, ..., 1] > scores[0, ..., 0]
    # one woman right of the middle, from the hair down to the lower edge (looked at)
    assert 0.25 < person.mean() < 0.3
    assert person[60:500, 250:330].mean() > 0.9
    assert person[:, :80].mean() == 0
    assert person[:30].mean() == 0


@pytest.mark.parametrize("half", [False, True])
def test_faces_by_maces_files(start: Start, tmp_path: Path, half: bool) -> None:
    """The face detector from Caffe's files to MACE's and back; half weights find the same faces."""
    from mace_cl.tools.convert import ConvertArgs
    from mace_cl.tools.convert import run as convert

    convert(ConvertArgs(FOLDER / "linzaer_rfb320" / "RFB-320.prototxt", tmp_path, "mace", half=half))
    with np.load(FOLDER / "linzaer_rfb320" / "ref" / "2_caffe.npz") as arrays:
        inputs = {key[3:]: arrays[key] for key in arrays if key.startswith("in:")}
        expected = {key[4:]: arrays[key] for key in arrays if key.startswith("out:")}
    with start(tmp_path / "RFB-320.pb") as executor:
        got = executor.run(inputs)
    for name, array in expected.items():
        assert difference(got[name], array) <= (1e-2 if half else TOLERANCE), name
    assert np.array_equal(got["scores"][0, :, 1] > 0.7, expected["scores"][0, :, 1] > 0.7)
