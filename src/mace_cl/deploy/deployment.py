"""MACE's deployment files: YAML that names models, their files, inputs and outputs; and lists of devices.

`load` reads a deployment file as it is, of any of MACE's tools, and `devices` a device file; both tell everything
that is wrong at once, with the nearest known key for one that is not.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mace_cl.deploy.schema import DeploymentFile, DevicesFile, Model, Subgraph, checked, modernise
from mace_cl.deploy.yaml_text import content
from mace_cl.errors import InputError

__all__ = ["DEFAULT_GRAPH", "Deployment", "DeviceEntry", "Graph", "Port", "devices", "load", "verified"]

DEFAULT_GRAPH = "default_graph"

_CPP = frozenset(
    re.findall(
        r"\w+",
        """
    alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t class compl
    const constexpr const_cast continue decltype default delete do double dynamic_cast else enum explicit export
    extern false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
    operator or or_eq private protected public register reinterpret_cast return short signed sizeof static
    static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename
    union unsigned using virtual void volatile wchar_t while xor xor_eq
    """,
    )
)


@dataclass(frozen=True)
class Port:
    """An input or output: ``shape`` in ``data_format``, ``range`` of an input's random values."""

    name: str
    shape: tuple[int, ...]
    data_type: str
    data_format: str
    alias: str
    range: tuple[float, float] = (-1.0, 1.0)


@dataclass(frozen=True)
class Graph:
    """One network of a deployment file, everything of its model and its subgraph together.

    ``files`` are the model's and, for Caffe, the weights' path or URL, each with its SHA-256 or "".  ``thresholds`` are
    the least cosine similarities by runtime.  ``runtime`` and ``data_type`` are "" and ``winograd`` is None where the
    file does not say.  ``options`` are the other keys that were given.
    """

    model: str
    name: str
    platform: str
    files: tuple[tuple[str, str], ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    validation_inputs: tuple[str, ...]
    validation_outputs: tuple[str, ...]
    thresholds: Mapping[str, float]
    runtime: str
    data_type: str
    winograd: int | None
    order: int
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Deployment:
    """A deployment file: its graphs in their order, and what was said of keys that are spelled otherwise today."""

    path: Path
    library_name: str
    target_abis: tuple[str, ...]
    target_socs: tuple[str, ...]
    model_graph_format: str
    model_data_format: str
    apu_version: int | None
    graphs: tuple[Graph, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class DeviceEntry:
    """A device that is reached over the network, as MACE's device file lists it."""

    name: str
    address: str
    username: str
    target_abis: tuple[str, ...]
    target_socs: tuple[str, ...]
    model: str


_THRESHOLDS = {"CPU": 0.999, "GPU": 0.995, "QUANTIZE": 0.980}


def load(path: Path, environment: Mapping[str, str]) -> Deployment:
    """Read a deployment file.

    Args:
        path: the YAML.
        environment: what ``${NAME}`` in it stands for.

    Raises:
        InputError: no such file, no YAML, or keys or values that MACE does not have: all of them.
    """
    values = content(path, environment)
    notes: list[str] = []
    modernise(values, notes)
    file = checked(DeploymentFile, values, path)
    graphs = []
    for name, model in file.models.items():
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) or name in _CPP:
            raise InputError(f"{path}: models.{name}: the name of a model must be an identifier of C++; rename it")
        several = model.subgraphs
        if isinstance(several, list):
            if len(several) > 1:
                notes.append(f"models.{name}: of a list of subgraphs MACE uses the first; name them to use all")
            several = {DEFAULT_GRAPH: several[0]}
        graphs += [_graph(path, name, key, model, graph) for key, graph in several.items()]
    return Deployment(
        path, file.library_name or "", tuple(file.target_abis or ()), tuple(file.target_socs or ()),
        file.model_graph_format or "file", file.model_data_format or "file",
        file.apu_version_with_no_device, tuple(graphs), tuple(notes),
    )  # fmt: skip


def devices(path: Path, environment: Mapping[str, str]) -> tuple[DeviceEntry, ...]:
    """Read a device file.

    Raises:
        InputError: as `load`.
    """
    file = checked(DevicesFile, content(path, environment), path)
    return tuple(
        DeviceEntry(
            name, one.address, one.username or "", tuple(one.target_abis or ()), tuple(one.target_socs or ()),
            one.device_name or (one.models or "").replace(" ", ""),
        )
        for name, one in file.devices.items()
    )  # fmt: skip


def verified(path: Path, checksum: str) -> Path:
    """``path``, whose SHA-256 must be ``checksum`` unless that is empty.

    Raises:
        InputError: there is no such file, or it has another checksum.
    """
    try:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); the deployment file names it") from error
    if checksum and digest.hexdigest() != checksum.lower():
        raise InputError(
            f"{path}: has the SHA-256 {digest.hexdigest()}, but the deployment file asks for {checksum.lower()}; "
            "get the right file, or correct the checksum"
        )
    return path


def _graph(path: Path, model: str, name: str, outer: Model, inner: Subgraph) -> Graph:
    given = outer.model_dump(exclude_none=True, exclude={"subgraphs"}) | inner.model_dump(exclude_none=True)
    where = f"{path}: models.{model}" + (f".{name}" if name != DEFAULT_GRAPH else "")
    needed = ["platform", "model_file_path", "input_tensors", "input_shapes", "output_tensors", "output_shapes"]
    if given.get("platform") == "caffe":
        needed.append("weight_file_path")
    missing = [key for key in needed if key not in given]
    if missing:
        raise InputError(f"{where}: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing; add them")
    files = [(given["model_file_path"], given.get("model_sha256_checksum", ""))]
    if "weight_file_path" in given:
        files.append((given["weight_file_path"], given.get("weight_sha256_checksum", "")))
    used = {key for key in given if key.startswith(("input_", "output_", "model_", "weight_", "validation_"))}
    used |= {"platform", "runtime", "data_type", "winograd", "order", "validation_threshold"}
    return Graph(
        model, name, given["platform"], tuple(files),
        _ports(where, given, "input"), _ports(where, given, "output"),
        tuple(given.get("validation_inputs_data", ())), tuple(given.get("validation_outputs_data", ())),
        _THRESHOLDS | given.get("validation_threshold", {}),
        {"hexagon": "dsp", "cpu+gpu": "gpu"}.get(given.get("runtime", ""), given.get("runtime", "")),
        given.get("data_type", ""), given.get("winograd"), given.get("order", 0),
        {key: value for key, value in given.items() if key not in used},
    )  # fmt: skip


def _ports(where: str, given: Mapping[str, Any], side: str) -> tuple[Port, ...]:
    names, shapes = given[f"{side}_tensors"], given[f"{side}_shapes"]
    ranges = [tuple(one) for one in given.get(f"{side}_ranges", [])] or [(-1.0, 1.0)]

    def each(values: Sequence[Any], what: str) -> Sequence[Any]:
        """One value for all, or one for each."""
        if len(values) not in (1, len(names)):
            raise InputError(
                f"{where}: {len(names)} {side}_tensors, but {len(values)} {what}; give one, or one for each"
            )
        return list(values) * len(names) if len(values) == 1 else list(values)

    if len(shapes) != len(names):
        raise InputError(f"{where}: {len(names)} {side}_tensors, but {len(shapes)} {side}_shapes; give one for each")
    if any(len(one) != 2 for one in ranges):
        raise InputError(f"{where}: {side}_ranges must be pairs such as -1.0,1.0")
    for name, shape in zip(names, shapes, strict=True):
        if not shape or min(shape) < 1:
            raise InputError(
                f"{where}: the shape {shape} of {name!r} must be of sizes of at least 1, such as 1,224,224,3"
            )
    columns = (
        shapes,
        each(given.get(f"{side}_data_types", ["float32"]), f"{side}_data_types"),
        each(given.get(f"{side}_data_formats", ["NHWC"]), f"{side}_data_formats"),
        each(given.get(f"{side}_aliases", names), f"{side}_aliases"),
        each(ranges, f"{side}_ranges"),
    )
    return tuple(
        Port(name, tuple(shape), kind, layout, alias, (span[0], span[1]))
        for name, shape, kind, layout, alias, span in zip(names, *columns, strict=True)
    )
