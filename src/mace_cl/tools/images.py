"""Image files as network inputs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.errors import ImageError, InputError
from mace_cl.schedule import Port
from mace_cl.tools.common import Preprocessing

__all__ = ["load_image"]

_PLAIN = (1.0, (0.0,), (1.0,))


def load_image(path: Path, port: Port, how: Preprocessing) -> tuple[NDArray[Any], str]:
    """The image as an array of the port's dtype and shape, and a sentence on what was done to it.

    The shape must be [1, C, H, W] or [1, H, W, C] with 1 or 3 channels.  The image is turned as its
    EXIF data say, loses its transparency, and is resized to W × H without regard to its proportions
    (Pillow's bilinear filter, which averages when it shrinks).

    Raises:
        ImageError: the file can't be decoded as an image.
        InputError: the port takes no image, or the preprocessing does not fit it.
    """
    layout, height, width, channels = _geometry(path, port, how.layout)
    color = _color(path, port, how.color, channels)
    scale = how.scale if how.scale is not None else 1.0 if port.dtype == "uint8" else 1 / 255
    _check_numbers(path, port, scale, how, channels)
    pixels, size = _decode(path, (width, height), color)
    if color == "bgr":
        pixels = pixels[..., ::-1]
    done = f"{path}: {size[0]} x {size[1]} pixels resized to {width} x {height} (bilinear), {color}, {layout}"
    if port.dtype != "uint8":
        mean, std = np.array(how.mean, np.float32), np.array(how.std, np.float32)
        pixels = ((pixels.astype(np.float32) * np.float32(scale) - mean) / std).astype(port.dtype)
        done += f", (pixel * {scale:.6g} - {_said(how.mean)}) / {_said(how.std)}"
    array = pixels[None] if layout == "nhwc" else pixels.transpose(2, 0, 1)[None]
    return np.ascontiguousarray(array), done


def _said(values: tuple[float, ...]) -> str:
    return f"{values[0]:.6g}" if len(values) == 1 else "[" + ", ".join(f"{value:.6g}" for value in values) + "]"


def _geometry(path: Path, port: Port, layout: str | None) -> tuple[str, int, int, int]:
    """Layout, height, width and channels of an input."""
    shape = port.shape or ()
    fitting = [
        (name, *sizes)
        for name, axis, sizes in (
            ("nchw", 1, (*shape[2:], *shape[1:2])),
            ("nhwc", 3, (*shape[1:3], *shape[3:])),
        )
        if len(shape) == 4 and shape[0] == 1 and shape[axis] in (1, 3) and layout in (None, name)
    ]
    if not fitting:
        asked = f" with --layout {layout}" if layout else ""
        raise InputError(
            f"{path}: an image fits inputs of shape [1, C, H, W] or [1, H, W, C] with 1 or 3 channels, but "
            f"{port.name!r} has the shape {list(shape)}{asked}; prepare it yourself and give a .npy file"
        )
    return fitting[0]  # type: ignore[return-value]


def _color(path: Path, port: Port, color: str | None, channels: int) -> str:
    fitting = ("gray",) if channels == 1 else ("rgb", "bgr")
    if color not in (None, *fitting):
        raise InputError(
            f"{path}: --color {color} does not fit the {channels} channels of {port}; it can be {' or '.join(fitting)}"
        )
    return color or fitting[0]


def _check_numbers(path: Path, port: Port, scale: float, how: Preprocessing, channels: int) -> None:
    if port.dtype not in ("uint8", "float32", "float16", "float64"):
        raise InputError(f"{path}: input {port.name!r} is {port.dtype}, which an image can't fill; give a .npy file")
    if port.dtype == "uint8" and (scale, how.mean, how.std) != _PLAIN:
        raise InputError(
            f"{path}: input {port.name!r} is uint8 and takes pixels as they are; leave out --scale, --mean and --std"
        )
    for name, values in (("--mean", how.mean), ("--std", how.std)):
        if len(values) not in (1, channels):
            raise InputError(
                f"{path}: {name} has {len(values)} values, but {port.name!r} has {channels} channels; "
                f"give 1 or {channels}"
            )
    if not all(np.isfinite((scale, *how.mean, *how.std))) or not all(how.std):
        raise InputError(f"{path}: --scale, --mean and --std must be finite numbers, and --std not zero")


def _decode(path: Path, size: tuple[int, int], color: str) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Pixels [H, W, C] at the wanted (width, height), and the size that the file has."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImageError(f"{path}: to read images takes Pillow; `pip install pillow`, or give a .npy file") from error
    try:
        with warnings.catch_warnings():
            # more pixels than Pillow deems safe: a warning that must not pass unseen
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                image = ImageOps.exif_transpose(opened)
                found = image.size
                image = image.convert("L" if color == "gray" else "RGB").resize(size, Image.Resampling.BILINEAR)
    except Exception as error:  # Pillow's decoders raise many types for a broken file
        raise ImageError(
            f"{path}: not an image that can be read ({error}); give an image, .npy, .npz, or .bin for raw data"
        ) from error
    pixels = np.asarray(image, np.uint8)
    return pixels.reshape(*pixels.shape[:2], -1), found
