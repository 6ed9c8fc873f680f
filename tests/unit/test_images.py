"""Images as inputs: pixels, layouts, colours and numbers, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mace_cl.errors import ImageError, InputError
from mace_cl.schedule import Port, Slot
from mace_cl.tools.common import Preprocessing
from mace_cl.tools.images import load_image

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def port(*shape: int, dtype: str = "float32") -> Port:
    return Port("image", dtype, shape, Slot("arena", 0, 1))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(path)
    return path


def test_nchw_and_nhwc_follow_from_the_shape(photo: Path) -> None:
    wanted = PIXELS.astype(np.float32) / 255
    nhwc, _ = load_image(photo, port(1, 4, 6, 3), Preprocessing())
    nchw, said = load_image(photo, port(1, 3, 4, 6), Preprocessing())
    np.testing.assert_allclose(nhwc[0], wanted, rtol=1e-6)
    np.testing.assert_allclose(nchw[0], wanted.transpose(2, 0, 1), rtol=1e-6)
    assert nchw.dtype == np.float32
    assert nchw.flags.c_contiguous
    assert said.endswith("6 x 4 pixels resized to 6 x 4 (bilinear), rgb, nchw, (pixel * 0.00392157 - 0) / 1")


def test_mean_std_and_scale_by_channel(photo: Path) -> None:
    how = Preprocessing(scale=1.0, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    array, said = load_image(photo, port(1, 3, 4, 6), how)
    np.testing.assert_allclose(array[0, 2], (PIXELS[..., 2] - np.float32(3)) / 8, rtol=1e-6)
    assert said.endswith("(pixel * 1 - [1, 2, 3]) / [2, 4, 8]")


def test_bgr_and_gray(photo: Path) -> None:
    bgr, said = load_image(photo, port(1, 4, 6, 3, dtype="uint8"), Preprocessing(color="bgr"))
    np.testing.assert_array_equal(bgr[0], PIXELS[..., ::-1])
    assert said.endswith("bgr, nhwc")
    gray, said = load_image(photo, port(1, 1, 4, 6), Preprocessing(scale=1.0))
    # ITU-R 601 luma, as Pillow's documentation of convert() gives it, rounded to whole numbers
    np.testing.assert_allclose(gray[0, 0], PIXELS @ [0.299, 0.587, 0.114], atol=0.51)
    assert "gray, nchw" in said


def test_layout_decides_where_both_fit(photo: Path) -> None:
    first, _ = load_image(photo, port(1, 3, 5, 3), Preprocessing())
    last, said = load_image(photo, port(1, 3, 5, 3), Preprocessing(layout="nhwc"))
    assert first.shape == last.shape
    assert "resized to 5 x 3" in said
    assert not np.array_equal(first, last)


def test_is_resized_and_turned_upright(tmp_path: Path) -> None:
    image = Image.new("RGBA", (20, 10), (255, 0, 0, 128))
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    path = tmp_path / "turned.png"
    image.save(path, exif=exif)
    array, said = load_image(path, port(1, 3, 4, 2), Preprocessing())
    assert "10 x 20 pixels resized to 2 x 4" in said
    np.testing.assert_allclose(array[0, :, 1, 1], (1, 0, 0), atol=1e-6)


def test_float16(photo: Path) -> None:
    array, _ = load_image(photo, port(1, 3, 4, 6, dtype="float16"), Preprocessing())
    assert array.dtype == np.float16


@pytest.mark.parametrize("content", [b"", b"no image at all", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0 cut off"])
def test_no_image(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(content)
    with pytest.raises(ImageError, match="not an image that can be read"):
        load_image(path, port(1, 3, 4, 6), Preprocessing())


def test_truncated_image(photo: Path) -> None:
    photo.write_bytes(photo.read_bytes()[:-40])
    with pytest.raises(ImageError, match="not an image that can be read"):
        load_image(photo, port(1, 3, 4, 6), Preprocessing())


def test_too_many_pixels(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    with pytest.raises(ImageError, match="100000000 pixels"):
        load_image(path, port(1, 3, 4, 6), Preprocessing())


@pytest.mark.parametrize(
    ("shape", "dtype", "how", "said"),
    [
        ((1, 10), "float32", Preprocessing(), r"fits inputs of shape"),
        ((2, 3, 4, 6), "float32", Preprocessing(), r"fits inputs of shape"),
        ((1, 4, 4, 4), "float32", Preprocessing(), r"fits inputs of shape"),
        ((1, 3, 4, 6), "float32", Preprocessing(layout="nhwc"), r"with --layout nhwc"),
        ((1, 1, 4, 6), "float32", Preprocessing(color="rgb"), r"can be gray"),
        ((1, 3, 4, 6), "float32", Preprocessing(color="gray"), r"can be rgb or bgr"),
        ((1, 3, 4, 6), "float32", Preprocessing(mean=(1.0, 2.0)), r"--mean has 2 values"),
        ((1, 1, 4, 6), "float32", Preprocessing(std=(1.0, 1.0, 1.0)), r"--std has 3 values"),
        ((1, 3, 4, 6), "float32", Preprocessing(std=(1.0, 0.0, 1.0)), r"not zero"),
        ((1, 3, 4, 6), "float32", Preprocessing(scale=float("nan")), r"finite"),
        ((1, 3, 4, 6), "int64", Preprocessing(), r"int64, which an image can't fill"),
        ((1, 3, 4, 6), "uint8", Preprocessing(mean=(1.0,)), r"takes pixels as they are"),
    ],
)
def test_what_does_not_fit(photo: Path, shape: tuple[int, ...], dtype: str, how: Preprocessing, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_image(photo, port(*shape, dtype=dtype), how)
