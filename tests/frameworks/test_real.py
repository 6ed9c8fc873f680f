"""Published networks of TensorFlow and Keras on the device: TensorFlow's outputs, and the right answers; see `real`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mace_cl.device import Device
from real import FOLDER, Networks, beside, reference_file
from support import Array, Start

pytestmark = [
    beside,
    pytest.mark.skipif(
        find_spec("tf2onnx") is None,  # not imported: with PyTorch beside it, TensorFlow must come after the driver
        reason="reads models of TensorFlow and Keras (pip install 'mace-cl[tensorflow]')",
    ),
]


def luma(name: str, factor: int) -> Array:
    """A photograph's luma, cropped to a multiple of ``factor``."""
    with Image.open(FOLDER / name) as photo:
        pixels = np.asarray(photo.convert("YCbCr"))[..., 0]
    height, width = (size - size % factor for size in pixels.shape)
    cropped: Array = pixels[:height, :width]
    return cropped


def psnr(one: Array, other: Array) -> float:
    """Peak signal to noise in dB, of values of 0 to 255."""
    return float(20 * np.log10(255 / np.sqrt(np.mean((one.astype(np.float64) - other) ** 2))))


@pytest.mark.parametrize(
    ("network", "photo", "factor"),
    [
        ("fsrcnn/FSRCNN_x2", "fsrcnn/butterfly.png", 2),
        ("fsrcnn/FSRCNN_x3", "fsrcnn/butterfly.png", 3),
        ("fsrcnn/FSRCNN_x4", "fsrcnn/butterfly.png", 4),
        ("fsrcnn/FSRCNN-small_x2", "fsrcnn/butterfly.png", 2),
        ("fsrcnn/FSRCNN-small_x3", "fsrcnn/butterfly.png", 3),
        ("espcn/ESPCN_x2", "espcn/t2.png", 2),
    ],
)
def test_larger_pictures(networks: Networks, network: str, photo: str, factor: int) -> None:
    """Nearer to the original than Pillow's bicubic filter comes."""
    name = Path(network).name
    (got,) = networks.run(f"{network}.pb", name).values()
    (small,) = reference_file(f"{network}.pb", name)[0].values()
    original = luma(photo, factor)
    few = Image.fromarray(np.rint(small[0, ..., 0] * 255).astype(np.uint8))
    bicubic = np.asarray(few.resize(original.shape[::-1], Image.Resampling.BICUBIC))
    ours, plain = psnr(np.clip(got[0, 0], 0, 1) * 255, original), psnr(bicubic, original)
    assert ours > plain
    networks.answered(f"{network}.pb", f"{ours:.2f} dB, bicubic {plain:.2f}")


@pytest.mark.parametrize(("photo", "number"), [("cat", 3), ("owl", 2), ("parrot", 2)])
def test_small_pictures(networks: Networks, photo: str, number: int) -> None:
    """The Keras file of the network that `conformance/test_real_tflite` runs, on the same inputs."""
    network = "mlperf_tiny_resnet8/pretrainedResnet.h5"
    inputs, expected = reference_file(network, f"float_{photo}")
    (got,), (wanted,) = networks.outputs(network, inputs).values(), expected.values()
    networks.agrees(network, photo, got, wanted)
    networks.row(network).samples += 1
    assert got.argmax() == number
    networks.answered(network, {2: "bird", 3: "cat"}[number])


@pytest.mark.parametrize("name", ["DS_CNN_S", "CNN_S", "DNN_S", "CNN_M"])
def test_words(networks: Networks, start: Start, device: Device, tmp_path: Path, name: str) -> None:
    """Spoken words, from the coefficients on: the ops before read sound, and mace-cl has none of them."""
    import tensorflow as tf

    network = f"mlkws/{name}.pb"
    definition = tf.compat.v1.GraphDef.FromString((FOLDER / network).read_bytes())
    samples = [sample for sample in ("yes", "no", "silence", "noise") if there(network, f"{name}_{sample}")]
    if not samples:
        pytest.skip(f"there are no reference files for {name}")
    shape = reference_file(network, f"{name}_{samples[0]}")[0]["mfcc"].shape
    for node in definition.node:
        if node.op == "Mfcc":
            front, old = tf.compat.v1.NodeDef(name="mfcc", op="Placeholder"), node.name
            front.attr["dtype"].type = tf.float32.as_datatype_enum
            front.attr["shape"].shape.CopyFrom(tf.TensorShape(shape).as_proto())
    for node in definition.node:
        node.input[:] = ["mfcc" if one.partition(":")[0] == old else one for one in node.input]
    definition.node.append(front)
    cut = tf.compat.v1.graph_util.extract_sub_graph(definition, ["labels_softmax"])
    file = tmp_path / "words.pb"
    file.write_bytes(cut.SerializeToString())
    labels = (FOLDER / "mlkws" / "labels.txt").read_text().split()
    with start(file) as executor:
        for sample in samples:
            inputs, expected = reference_file(network, f"{name}_{sample}")
            (got,), (wanted,) = executor.run(inputs).values(), expected.values()
            networks.agrees(network, sample, got, wanted)
            networks.row(network).samples += 1
            if name == "DS_CNN_S" and sample != "noise":  # the others are wrong on some by themselves
                assert labels[got.argmax()].strip("_") == sample
                networks.answered(network, sample)


def there(network: str, name: str) -> bool:
    return ((FOLDER / network).parent / "ref" / f"{name}.npz").is_file()
