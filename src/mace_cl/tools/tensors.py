"""Arrays from files and to files."""

from __future__ import annotations

import math
import re
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mace_cl.errors import InputError, StorageError
from mace_cl.program.bucket import is_array
from mace_cl.schedule import ITEM_BYTES, Port
from mace_cl.tools.common import Preprocessing, check_writable
from mace_cl.tools.images import load_image

if TYPE_CHECKING:
    from mace_cl.program.bucket import Input
    from mace_cl.program.inspect import PortView

__all__ = ["arrays_of", "check_files", "check_outputs", "describe", "random_inputs", "read_inputs", "write_outputs"]

Arrays = dict[str, NDArray[Any]]

_RAW = (".bin", ".raw")


def describe(ports: Sequence[Input | Port | PortView]) -> str:
    """The ports in words: name, dtype and shape of each."""
    return "; ".join(map(str, ports))


def check_files(specs: Sequence[str]) -> None:
    """Tell, before a model is loaded, that an input file is missing.

    Raises:
        InputError: a specification, ``FILE`` or ``NAME=FILE``, names none.
    """
    for spec in specs:
        if not any(Path(spec[start:]).is_file() for start in _starts(spec)):
            raise InputError(f"--input {spec}: no such file; give NAME=FILE, or FILE for a model with one input")


def _starts(spec: str) -> list[int]:
    """Where a file's name may begin; names of inputs and of files may hold equals signs."""
    return [0, *(match.end() for match in re.finditer("=", spec))]


def read_inputs(
    specs: Sequence[str], ports: Sequence[Port], how: Preprocessing, free: Collection[str] = ()
) -> tuple[Arrays, dict[str, str]]:
    """Arrays by input name from files, and a sentence on where each comes from.

    ``.npy`` and ``.npz`` are NumPy's, ``.bin`` and ``.raw`` hold the elements alone, row-major and
    little-endian; other files are images.  An ``.npz`` without a name gives every input that it has
    a key for.  Nothing larger than an input takes is read into memory; those of the names
    ``free`` take any shape, and the port's is only that of images and raw files.

    Raises:
        InputError: a name, file, dtype or shape does not fit.
        ImageError: a file is no image.
    """
    arrays: Arrays = {}
    sources: dict[str, str] = {}
    for spec in specs:
        for port, path, key in _targets(spec, ports):
            if port.name in arrays:
                raise InputError(f"--input {spec}: {port.name!r} was given before; give each input once")
            arrays[port.name], sources[port.name] = _read(path, port, key, how, port.name in free)
    return arrays, sources


def random_inputs(ports: Sequence[Port], seed: int) -> Arrays:
    """Seeded arrays: standard normal, 8-bit integers over their range, other integers and bool 0 or 1, text the same.

    Raises:
        InputError: an input is no array.
    """
    rng = np.random.default_rng(seed)
    arrays: Arrays = {}
    for port in ports:
        if port.shape is None:
            known = f"give its shape with --shape {port.name}=1,3,224,224" if is_array(port.dtype) else ""
            raise InputError(f"--random: the input is {port}; {known or 'it is no array: run the model from Python'}")
        if "float" in port.dtype:
            drawn: NDArray[Any] = rng.standard_normal(port.shape)
        elif port.dtype in ("int8", "uint8"):  # pixels, and never an index
            drawn = rng.integers(0, 256, port.shape, np.uint8).view(port.dtype)
        else:
            drawn = rng.integers(0, 2, port.shape)
        arrays[port.name] = drawn.astype(str) if port.dtype == "string" else drawn.astype(port.dtype)
    return arrays


def _targets(spec: str, ports: Sequence[Port]) -> list[tuple[Port, Path, str | None]]:
    """What ``spec`` gives: inputs, the file for each, and the key if the file holds several arrays."""
    for port in ports:
        if spec.startswith(f"{port.name}="):
            return [(port, Path(spec[len(port.name) + 1 :]), None)]
    path = Path(spec)
    if not path.is_file():
        raise InputError(
            f"--input {spec}: the model has no input {spec.partition('=')[0]!r}; it takes {describe(ports)}"
        )
    if path.suffix == ".npz":
        keys = _keys(path)
        if named := [(port, path, port.name) for port in ports if port.name in keys]:
            return named  # type: ignore[return-value]
    if len(ports) != 1:
        raise InputError(f"--input {spec}: say for which input, as NAME=FILE; the model takes {describe(ports)}")
    return [(ports[0], path, None)]


def _keys(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return [name[:-4] for name in archive.namelist() if name.endswith(".npy")]
    except (OSError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not an .npz file ({error}); write it with numpy.savez") from error


def _read(path: Path, port: Port, key: str | None, how: Preprocessing, free: bool) -> tuple[NDArray[Any], str]:
    own = replace(port, shape=None) if free else port
    suffix = path.suffix.lower()
    try:
        if suffix == ".npy":
            with path.open("rb") as file:
                return _read_npy(file, path, own), f"{path}"
        if suffix == ".npz":
            keys = _keys(path)
            key = key or (port.name if port.name in keys else keys[0] if len(keys) == 1 else None)
            if key is None:
                raise InputError(f"{path}: holds {keys}, none of which is the input {port.name!r}; rename one")
            with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
                return _read_npy(file, path, own), f"{path}: {key}"
        if suffix in _RAW and port.dtype in ITEM_BYTES and port.shape is not None:
            dtype = np.dtype(port.dtype)
            wanted, size = math.prod(port.shape) * dtype.itemsize, path.stat().st_size
            if size != wanted:
                raise InputError(f"{path}: has {size} bytes, but {describe([port])} takes {wanted}")
            data = np.fromfile(path, dtype.newbyteorder("<")).astype(dtype)
            return data.reshape(port.shape), f"{path}: raw"
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror or error}); check path and permissions") from error
    if free and port.shape is None:
        raise InputError(f"{path}: fits {port} only when that is known; give --shape {port.name}=1,3,224,224")
    return load_image(path, port, how)


def _read_npy(file: IO[bytes], path: Path, port: Port) -> NDArray[Any]:
    """The array, once its header was seen to be of the port's dtype and shape."""
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise InputError(f"{path}: has version {version} of the .npy format, which plain arrays do not need")
        shape, _, dtype = readers[version](file)
        fits = dtype.kind == "U" if port.dtype == "string" else dtype.newbyteorder("=") == port.dtype
        if not fits or port.shape not in (None, shape):
            raise InputError(
                f"{path}: holds {dtype} {list(shape)}, but the model takes {describe([port])}; "
                "convert it with numpy's astype or reshape"
            )
        file.seek(0)
        return np.ascontiguousarray(np.lib.format.read_array(file, allow_pickle=False), dtype.newbyteorder("="))
    except InputError:
        raise
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise InputError(f"{path}: not a whole NumPy array ({error}); write it with numpy.save") from error


def check_outputs(specs: Sequence[str]) -> None:
    """Tell, before a model is loaded, that an output can't be written.

    Raises:
        InputError: a specification is none of ``FILE.npz``, ``FILE.npy``, ``NAME=FILE.npy`` and a directory.
        StorageError: its directory is missing or not writable.
    """
    for spec in specs:
        if Path(spec).is_dir():
            check_writable(Path(spec) / "any")
        elif Path(spec).suffix not in (".npy", ".npz"):
            raise InputError(
                f"--output {spec}: give FILE.npz for all outputs, NAME=FILE.npy for one, or a directory that exists"
            )
        else:
            paths = [Path(spec[start:]) for start in _starts(spec)]
            check_writable(next((path for path in paths if path.parent.is_dir()), paths[-1]))


def arrays_of(outputs: Mapping[str, Any]) -> Arrays:
    """Outputs as arrays of numbers or text: a sequence as one for each part, ``name[0]`` and so on."""
    arrays: Arrays = {}
    for name, value in outputs.items():
        if isinstance(value, list):
            arrays |= arrays_of({f"{name}[{number}]": part for number, part in enumerate(value)})
        elif value is not None:  # an optional value that is not there
            array = np.asarray(value)
            arrays[name] = array.astype(str) if array.dtype == object else array
    return arrays


def write_outputs(specs: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> tuple[Path, ...]:
    """Write outputs as `check_outputs` says, and return the files.

    Raises:
        InputError: a specification names no output, or one file was given for several.
        StorageError: a file can't be written.
    """
    return tuple(path for spec in specs for path in _write(spec, arrays))


def _write(spec: str, arrays: Mapping[str, NDArray[Any]]) -> list[Path]:
    name = next((name for name in arrays if spec.startswith(f"{name}=")), None)
    path = Path(spec if name is None else spec[len(name) + 1 :])
    try:
        if name is None and path.is_dir():
            files = {
                path / f"{part}.npy": array for part, array in zip(_file_names(arrays), arrays.values(), strict=True)
            }
            for file, array in files.items():
                np.save(file, array, allow_pickle=False)
            return list(files)
        if path.suffix == ".npz":
            # not numpy.savez: its own parameters' names can't be keys
            with zipfile.ZipFile(path, "w") as archive:
                for key, array in arrays.items():
                    if name in (None, key):
                        with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                            np.lib.format.write_array(member, array, allow_pickle=False)
            return [path]
        if name is None and (len(arrays) != 1 or not path.parent.is_dir()):
            raise InputError(
                f"--output {spec}: say which output, as NAME=FILE.npy, or give FILE.npz for all; the model gives "
                + ", ".join(map(repr, arrays))
            )
        np.save(path, arrays[name] if name is not None else next(iter(arrays.values())), allow_pickle=False)
        return [path]
    except InputError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); choose a place with room and permission"
        ) from error


def _file_names(names: Mapping[str, Any]) -> list[str]:
    """A file name for each output: what comes from a model names no other directory, and no file twice."""
    clean = [re.sub(r"[^\w.-]+", "_", name).lstrip(".") or "output" for name in names]
    return [part if clean.count(part) == 1 else f"{number}-{part}" for number, part in enumerate(clean)]
