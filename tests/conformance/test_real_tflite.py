"""Published TensorFlow Lite networks on the device: TensorFlow Lite's own outputs, and the right answers.

As in `test_real`, the folder ``../shared/real`` holds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from mace_cl.runtime.executor import Executor
from support import Array, Outputs, Start, difference

FOLDER = Path(__file__).parents[3] / "shared" / "real"
FLOAT, STEPS = 1e-4, 0.99
"""The greatest difference, relative to the greatest element; the least share within one step of the output's grid."""

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the real networks are not beside the checkout (../shared/real)"
)

Run = Callable[[str, str], Outputs]

MOBILE = "mobilenet_v1_025_float/mobilenet_v1_0.25_224"
CORAL = "coral_mobilenets"


@pytest.fixture(scope="module")
def run(start: Start) -> Iterator[Run]:
    """Run a network on the inputs of a reference file; its outputs, once they agree with that file's."""
    executors: dict[str, Executor] = {}

    def call(network: str, name: str) -> Outputs:
        path = FOLDER / f"{network}.tflite"
        if network not in executors:
            executors[network] = start(path)
        with np.load(path.parent / "ref" / f"{name}.npz") as arrays:
            inputs = {key[3:]: arrays[key] for key in arrays if key.startswith("in:")}
            expected = {re.sub(r"out:\d+:", "", key): arrays[key] for key in arrays if key.startswith("out:")}
        got = executors[network].run(inputs)
        assert got.keys() == expected.keys()
        for output, array in expected.items():
            agrees(f"{network}, {name}, {output}", got[output], array)
        return got

    yield call
    for executor in executors.values():
        executor.close()


def agrees(what: str, got: Array, expected: Array) -> None:
    assert got.dtype == expected.dtype
    if expected.dtype == np.float32:
        found = difference(got, expected)
        print(f"{what}: {found:.1e} of the largest")
        assert found <= FLOAT
        return
    assert got.shape == expected.shape
    steps = np.abs(got.astype(np.int64) - expected)
    print(f"{what}: {np.mean(steps <= 1):.2%} within a step, {np.mean(steps == 0):.2%} equal")
    assert np.mean(steps <= 1) >= STEPS


def best(outputs: Outputs) -> int:
    (scores,) = outputs.values()
    return int(scores.argmax())


@pytest.mark.parametrize("network", ["mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_quant"])
@pytest.mark.parametrize(("photo", "classes"), [("parrot", {89}), ("sunflower", {986}), ("cat", {282, 283, 286})])
def test_objects(run: Run, network: str, photo: str, classes: set[int]) -> None:
    assert best(run(f"{CORAL}/{network}", f"{network}_{photo}")) in classes


@pytest.mark.parametrize(("photo", "classes"), [("parrot", {89}), ("sunflower", {986}), ("cat", {282, 283, 286})])
def test_objects_after_training(run: Run, photo: str, classes: set[int]) -> None:
    assert best(run(f"{CORAL}/tf2_mobilenet_v2_1.0_224_ptq", f"tf2_mobilenet_v2_1.0_224_ptq_{photo}")) in classes


def test_hot_dog(run: Run) -> None:
    for network in ("mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"):
        run(f"{CORAL}/{network}", f"{network}_hot_dog")
    assert best(run(f"{CORAL}/mobilenet_v2_1.0_224_quant", "mobilenet_v2_1.0_224_quant_hot_dog")) == 935


@pytest.mark.parametrize(("network", "kind"), [(f"{MOBILE}_1_default_1", "float"), (f"{MOBILE}_quant", "quant")])
def test_burger(run: Run, network: str, kind: str) -> None:
    labels = (FOLDER / "mobilenet_v1_025_float" / "labels.txt").read_text().splitlines()
    assert labels[best(run(network, f"{kind}_burger"))] == "cheeseburger"
    for photo in ("sparrow", "cats_and_dogs", "multi_objects"):
        run(network, f"{kind}_{photo}")


@pytest.mark.parametrize(("network", "kind"), [("pretrainedResnet", "float"), ("pretrainedResnet_quant", "int8")])
@pytest.mark.parametrize(("photo", "number"), [("cat", 3), ("owl", 2), ("parrot", 2)])
def test_small_pictures(run: Run, network: str, kind: str, photo: str, number: int) -> None:
    """CIFAR-10's classes: 2 is a bird, 3 a cat."""
    assert best(run(f"mlperf_tiny_resnet8/{network}", f"{kind}_{photo}")) == number


def test_sine(run: Run) -> None:
    files = sorted((FOLDER / "tflm_hello_world" / "ref").glob("x*.npz"))
    assert len(files) == 20
    for file in files:
        with np.load(file) as arrays:
            (x,) = (arrays[key].item() for key in arrays if key.startswith("in:"))
        (y,) = run("tflm_hello_world/hello_world_float", file.stem).values()
        assert abs(y.item() - np.sin(x)) < 0.05  # the network's own error is up to 0.043


def anchors(size: int, layers: tuple[tuple[int, int], ...]) -> Array:
    """Centres of MediaPipe's anchors, relative to the image: for each layer its stride, and how many at a place."""
    found = []
    for stride, count in layers:
        places = (np.arange(size // stride) + 0.5) * stride / size
        rows, columns = np.meshgrid(places, places, indexing="ij")
        found.append(np.repeat(np.stack([columns, rows], axis=-1).reshape(-1, 2), count, axis=0))
    return np.concatenate(found)


FACES = {
    "back": (256, ((16, 2), (32, 6)), 8),
    "front": (128, ((8, 2), (16, 6)), 0),
    "full_range": (192, ((4, 1),), 7),
}
"""Size of the image, layers of anchors, and how many of eight faces the network finds in the picture of a group."""


@pytest.mark.parametrize("network", FACES)
@pytest.mark.parametrize("photo", ["group", "portrait"])
def test_faces(run: Run, network: str, photo: str) -> None:
    size, layers, group = FACES[network]
    name = f"face_detection_{network}"
    boxes, scores = (array[0] for array in run(f"mediapipe_face/{name}", f"{name}_{photo}").values())
    sure = scores[:, 0] > 0  # a sigmoid of more than a half
    centres = anchors(size, layers)[sure] + boxes[sure, :2] / size
    half = boxes[sure, 2:4] / size / 2
    kept: list[int] = []
    for index in np.argsort(-scores[sure, 0]).tolist():
        low = np.maximum((centres - half)[index], (centres - half)[kept])
        high = np.minimum((centres + half)[index], (centres + half)[kept])
        shared = np.prod(np.maximum(high - low, 0), axis=-1)
        areas = np.prod(2 * half, axis=-1)
        if np.all(shared <= 0.3 * (areas[index] + areas[kept] - shared)):
            kept.append(index)
    assert len(kept) == (group if photo == "group" else 1)


def test_a_face_is_there(run: Run) -> None:
    outputs = run("mediapipe_face/face_landmark", "portrait_crop")
    assert abs(outputs["conv2d_30"].item() - 39.6) < 0.1


def test_detector_of_faces(run: Run) -> None:
    outputs = run("linzaer_rfb320/version-RFB-320_without_postprocessing", "5_tflite")
    assert (outputs["Identity_1"][0, :, 1] > 0.7).any()
