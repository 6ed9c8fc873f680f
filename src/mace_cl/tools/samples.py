"""Samples from a folder: arrays and images, and the classes that a labelled folder gives them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mace_cl.errors import InputError
from mace_cl.tools import tensors
from mace_cl.tools.common import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mace_cl.schedule import Port

__all__ = ["LABELS", "Sample", "read_labels", "read_samples", "sample_files"]

LABELS = "labels.txt"
"""In a folder of samples: a line for each, its file, space, its class."""

_ARRAYS = (".npy", ".npz", ".bin", ".raw")
_IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Sample:
    """Inputs by name; ``label`` is the index of its class, None where the folder is not labelled."""

    name: str
    inputs: dict[str, NDArray[Any]]
    label: int | None = None


def sample_files(folder: Path, classes: Path | None) -> list[tuple[Path, int | None]]:
    """The files of a folder and their classes, in order of their names; or a file by itself.

    Classes are those of `LABELS` if there is such a file, else subfolders.  They are indices, or names in the file
    ``classes``, which has one in each line; without that, subfolders whose names are no numbers are counted in order.

    Raises:
        InputError: no samples, a class that is not known, or a file that is missing.
    """
    if folder.is_file():
        return [(folder, None)]
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give one with a .npy, .npz or image file for each sample")
    names = read_labels(classes) if classes else None
    listed = folder / LABELS
    if listed.is_file():
        found = [_listed(line, number, listed, names) for number, line in enumerate(read_labels(listed), 1) if line]
    elif direct := _files(folder):
        found = [(path, None) for path in direct]
    else:
        below = sorted(path for path in folder.iterdir() if path.is_dir())
        counted = None if names or all(path.name.isdecimal() for path in below) else [path.name for path in below]
        found = [(file, _index(path.name, names or counted, path)) for path in below for file in _files(path)]
    if not found:
        raise InputError(
            f"{folder}: no .npy or .npz files and no images; give a folder with one for each sample, or with a "
            "subfolder of them for each class"
        )
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (*_ARRAYS, *_IMAGES) and path.is_file())


def _listed(line: str, number: int, path: Path, names: Sequence[str] | None) -> tuple[Path, int | None]:
    file, _, name = line.strip().partition(" ")
    found = path.parent / file
    if not name.strip() or not found.is_file():
        raise InputError(f"{path}:{number}: {line!r} is not a file of this folder, a space, and its class")
    return found, _index(name.strip(), names, f"{path}:{number}")


def _index(name: str, names: Sequence[str] | None, where: object) -> int:
    if names is not None and name in names:
        return names.index(name)
    if name.isdecimal():
        return int(name)
    raise InputError(f"{where}: the class {name!r} is no number; give --labels with a file that has it in a line")


def read_labels(path: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        InputError: it can't be read.
    """
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: can't be read ({error}); give a text file with one label per line") from error


def read_samples(
    files: Sequence[tuple[Path, int | None]], ports: Sequence[Port], how: Preprocessing
) -> Iterator[Sample]:
    """One after the other, as `tensors.read_inputs` reads them.

    Raises:
        InputError: a file does not fit the model's inputs, or gives not all of them.
        ImageError: a file is no image.
    """
    for path, label in files:
        arrays, _ = tensors.read_inputs([str(path)], ports, how)
        missing = [port for port in ports if port.name not in arrays]
        if missing:
            raise InputError(f"{path}: has no array for {tensors.describe(missing)}; add it to the .npz")
        yield Sample(path.name, arrays, label)
