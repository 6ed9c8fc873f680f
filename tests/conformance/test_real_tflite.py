"""Published TensorFlow Lite networks on the device: its own runtime's outputs, and the right answers; see `real`."""

from __future__ import annotations

import numpy as np
import pytest

from real import FOLDER, Networks, beside, reference_file, separate
from support import Array, Outputs
from tflite_models import litert

pytestmark = beside

MOBILE = "mobilenet_v1_025_float/mobilenet_v1_0.25_224"
CORAL = "coral_mobilenets"


def best(outputs: Outputs) -> int:
    (scores,) = outputs.values()
    return int(scores.argmax())


def labels(folder: str, name: str) -> list[str]:
    return (FOLDER / folder / name).read_text().splitlines()


@pytest.mark.parametrize(
    "network", ["mobilenet_v1_0.25_128_quant", "mobilenet_v2_1.0_224_quant", "tf2_mobilenet_v2_1.0_224_ptq"]
)
@pytest.mark.parametrize(("photo", "classes"), [("parrot", {89}), ("sunflower", {986}), ("cat", {282, 283, 286})])
def test_objects(networks: Networks, network: str, photo: str, classes: set[int]) -> None:
    """The third one was made int8 after it was trained."""
    file = f"{CORAL}/{network}.tflite"
    found = best(networks.run(file, f"{network}_{photo}"))
    assert found in classes
    networks.answered(file, labels(CORAL, "imagenet_labels.txt")[found].partition(",")[0])


def test_hot_dog(networks: Networks) -> None:
    for network in ("mobilenet_v1_0.25_128_quant", "tf2_mobilenet_v2_1.0_224_ptq"):
        networks.run(f"{CORAL}/{network}.tflite", f"{network}_hot_dog")
    file = f"{CORAL}/mobilenet_v2_1.0_224_quant.tflite"
    assert best(networks.run(file, "mobilenet_v2_1.0_224_quant_hot_dog")) == 935
    networks.answered(file, "hotdog")


@pytest.mark.parametrize(("network", "kind"), [(f"{MOBILE}_1_default_1", "float"), (f"{MOBILE}_quant", "quant")])
def test_burger(networks: Networks, network: str, kind: str) -> None:
    file = f"{network}.tflite"
    found = labels("mobilenet_v1_025_float", "labels.txt")[best(networks.run(file, f"{kind}_burger"))]
    assert found == "cheeseburger"
    networks.answered(file, found)
    for photo in ("sparrow", "cats_and_dogs", "multi_objects"):
        networks.run(file, f"{kind}_{photo}")


@pytest.mark.parametrize(("network", "kind"), [("pretrainedResnet", "float"), ("pretrainedResnet_quant", "int8")])
@pytest.mark.parametrize(("photo", "number"), [("cat", 3), ("owl", 2), ("parrot", 2)])
def test_small_pictures(networks: Networks, network: str, kind: str, photo: str, number: int) -> None:
    """CIFAR-10's classes: 2 is a bird, 3 a cat."""
    file = f"mlperf_tiny_resnet8/{network}.tflite"
    assert best(networks.run(file, f"{kind}_{photo}")) == number
    networks.answered(file, {2: "bird", 3: "cat"}[number])


SINE = "tflm_hello_world/hello_world_"


def angles() -> list[tuple[str, float]]:
    """The reference files' names, and the angle that each is for."""
    files = sorted((FOLDER / "tflm_hello_world" / "ref").glob("x*.npz"))
    assert len(files) == 20
    found = []
    for file in files:
        (x,) = reference_file(f"{SINE}float.tflite", file.stem)[0].values()
        found.append((file.stem, x.item()))
    return found


def test_sine(networks: Networks) -> None:
    worst = 0.0
    for name, x in angles():
        (y,) = networks.run(f"{SINE}float.tflite", name).values()
        worst = max(worst, abs(y.item() - np.sin(x)))
    assert worst < 0.05  # the network's own error is up to 0.043
    networks.answered(f"{SINE}float.tflite", f"sin x, off by at most {worst:.3f}")


def test_sine_of_eight_bits(networks: Networks) -> None:
    """There are no reference files: TensorFlow Lite's runtime is asked, on the angles of the float network's."""
    pytest.importorskip("ai_edge_litert", reason="compares with TensorFlow Lite's runtime (pip install ai-edge-litert)")
    file = f"{SINE}int8.tflite"
    content = (FOLDER / file).read_bytes()
    (x_scale, x_zero), (y_scale, y_zero) = (0.024480115622282028, -128), (0.008290956728160381, 5)
    worst, ours, theirs = 0.0, [], []
    for _, x in angles():
        stored = np.clip(np.rint(x / x_scale) + x_zero, -128, 127).astype(np.int8).reshape(1, 1)
        inputs = {"serving_default_dense_input:0": stored}
        ours.append(networks.outputs(file, inputs)["StatefulPartitionedCall:0"])
        theirs.append(litert(content, inputs)["StatefulPartitionedCall:0"])
        worst = max(worst, abs((int(ours[-1].item()) - y_zero) * y_scale - np.sin(x)))
    networks.agrees(file, "the angles", np.array(ours), np.array(theirs))
    networks.row(file).samples += len(ours)
    assert worst < 0.1  # TensorFlow Lite's own is 0.086, at x = 4.71
    networks.answered(file, f"sin x, off by at most {worst:.3f}")


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
def test_faces(networks: Networks, network: str, photo: str) -> None:
    size, layers, group = FACES[network]
    name = f"face_detection_{network}"
    file = f"mediapipe_face/{name}.tflite"
    boxes, scores = (array[0] for array in networks.run(file, f"{name}_{photo}").values())
    sure = scores[:, 0] > 0  # a sigmoid of more than a half
    centres = anchors(size, layers)[sure] + boxes[sure, :2] / size
    half = boxes[sure, 2:4] / size / 2
    kept = separate(np.concatenate([centres - half, centres + half], axis=1), scores[sure, 0], 0.3)
    assert len(kept) == (group if photo == "group" else 1)
    networks.answered(file, f"{len(kept)} faces")


def test_a_face_is_there(networks: Networks) -> None:
    file = "mediapipe_face/face_landmark.tflite"
    presence = networks.run(file, "portrait_crop")["conv2d_30"].item()
    assert abs(presence - 39.6) < 0.1
    networks.answered(file, f"presence {presence:.1f}")


def test_detector_of_faces(networks: Networks) -> None:
    """The faces are counted in `test_real.test_three_formats_of_one_network`."""
    networks.run("linzaer_rfb320/version-RFB-320_without_postprocessing.tflite", "5_tflite")
