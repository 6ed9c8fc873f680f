"""MACE's deployment files: YAML that names models, their files, inputs and outputs; and lists of devices.

`load` reads a deployment file as it is, of any of MACE's tools, and `devices` a device file; both tell everything
that is wrong at once, with the nearest known key for one that is not.  YAML is read without tags, and aliases may not
make more of a file than `MAX_NODES` values.  Source: the documentation and the config parsers of MACE up to v1.1.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mace_cl.errors import InputError

__all__ = ["Deployment", "DeviceEntry", "Graph", "Port", "devices", "json_schema", "load", "verified"]

MAX_BYTES = 1 << 20
MAX_NODES = 100_000
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

OLD_KEYS = {
    "dsp_mode": "nnlib_graph_mode",
    "fast_conv": "winograd",
    "input_nodes": "input_tensors",
    "output_nodes": "output_tensors",
}
"""Keys that older versions of MACE had for what is called otherwise since."""


# Values as people write them.


def _texts(value: Any) -> Any:
    """One text, or several in a list."""
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value is not None else None


def _numbers(kind: type) -> Any:
    def one(value: Any) -> list[Any]:
        parts = value if isinstance(value, list) else str(value).strip("()[] ").split(",")
        return [kind(part) for part in parts if str(part).strip()]

    def convert(value: Any) -> Any:
        if isinstance(value, list) and not all(isinstance(item, (int, float)) for item in value):
            return [one(item) for item in value]
        return [one(value)]

    return convert


def _upper(value: Any) -> Any:
    return [str(one).upper() for one in value] if isinstance(value, list) else [str(value).upper()]


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _lowers(value: Any) -> Any:
    return [_lower(one) for one in value] if isinstance(value, list) else [_lower(value)]


def _thresholds(value: Any) -> Any:
    return {str(key).upper(): number for key, number in value.items()} if isinstance(value, dict) else value


Texts = Annotated[list[str], BeforeValidator(_texts)]
Shapes = Annotated[list[list[int]], BeforeValidator(_numbers(int))]
Ranges = Annotated[list[list[float]], BeforeValidator(_numbers(float))]
Formats = Annotated[
    list[Literal["NONE", "NHWC", "NCHW", "OIHW", "HWIO", "HWOI", "OHWI", "AUTO"]], BeforeValidator(_upper)
]
Types = Annotated[
    list[Literal["float32", "float16", "bfloat16", "int32", "int16", "int8", "uint8"]], BeforeValidator(_lowers)
]
Flag = Annotated[int, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-fA-F]{64}$"), BeforeValidator(str)]
Platform = Annotated[
    Literal["tensorflow", "caffe", "onnx", "megengine", "keras", "pytorch", "tflite"], BeforeValidator(_lower)
]
Runtime = Annotated[
    Literal["cpu", "gpu", "dsp", "hexagon", "hta", "apu", "htp", "cpu+gpu", "npu"], BeforeValidator(_lower)
]


class _Keys(BaseModel):
    """What a model may say, and each of its subgraphs for itself."""

    model_config = ConfigDict(extra="forbid")

    platform: Platform | None = None
    model_file_path: str | None = None
    model_sha256_checksum: Sha256 | None = None
    weight_file_path: str | None = None
    weight_sha256_checksum: Sha256 | None = None
    input_tensors: Texts | None = None
    input_shapes: Shapes | None = None
    input_data_types: Types | None = None
    input_data_formats: Formats | None = None
    input_ranges: Ranges | None = None
    input_aliases: Texts | None = None
    output_tensors: Texts | None = None
    output_shapes: Shapes | None = None
    output_data_types: Types | None = None
    output_data_formats: Formats | None = None
    output_aliases: Texts | None = None
    check_tensors: Texts | None = None
    check_shapes: Shapes | None = None
    validation_inputs_data: Texts | None = None
    validation_outputs_data: Texts | None = None
    validation_threshold: Annotated[
        dict[
            Literal["CPU", "GPU", "CPU+GPU", "DSP", "HEXAGON", "HTA", "HTP", "APU", "NPU", "QUANTIZE"],
            Annotated[float, Field(le=1)],
        ]
        | None,
        BeforeValidator(_thresholds),
    ] = None
    accuracy_validation_script: str | None = None
    backend: (
        Annotated[Literal["tensorflow", "caffe", "caffe2", "pytorch", "onnxruntime"], BeforeValidator(_lower)] | None
    ) = None
    runtime: Runtime | None = None
    data_type: Literal["fp16_fp32", "fp32_fp32", "bf16_fp32", "fp16_fp16", "uint8"] | None = None
    cl_mem_type: Annotated[Literal["image", "buffer"], BeforeValidator(_lower)] | None = None
    winograd: Literal[0, 2, 4] | None = None
    quantize: Flag | None = None
    quantize_large_weights: Flag | None = None
    quantize_schema: str | None = None
    quantize_range_file: str | None = None
    change_concat_ranges: Flag | None = None
    graph_optimize_options: list[str] | None = None
    limit_opencl_kernel_time: Flag | None = None
    opencl_queue_window_size: Annotated[int, Field(ge=0)] | None = None
    nnlib_graph_mode: int | None = None
    obfuscate: Flag | None = None
    order: int | None = None
    docker_image_tag: str | None = None
    dockerfile_path: str | None = None
    dockerfile_sha256_checksum: Sha256 | None = None
    accelerator_api: str | None = None

    @model_validator(mode="after")
    def _one_quantisation(self) -> _Keys:
        if self.quantize and self.quantize_large_weights:
            raise ValueError("quantize and quantize_large_weights exclude each other")
        return self


class _Subgraph(_Keys):
    pass


class _Model(_Keys):
    subgraphs: Annotated[list[_Subgraph] | dict[str, _Subgraph], Field(min_length=1)]


class _File(BaseModel):
    """MACE's deployment file."""

    model_config = ConfigDict(extra="forbid", title="MACE deployment file, as mace-cl reads it")

    library_name: str | None = None
    target_abis: Texts | None = None
    target_socs: Texts | None = None
    model_graph_format: Literal["file", "code"] | None = None
    model_data_format: Literal["file", "code"] | None = None
    apu_version_with_no_device: int | None = None
    models: Annotated[dict[str, _Model], Field(min_length=1)]


class _Device(BaseModel):
    model_config = ConfigDict(extra="forbid")

    target_abis: Texts | None = None
    target_socs: Texts | None = None
    models: str | None = None
    address: str
    username: str | None = None
    password: str | None = None
    system: str | None = None
    device_name: str | None = None


class _Devices(BaseModel):
    model_config = ConfigDict(extra="forbid")

    devices: dict[str, _Device]


# What comes of it.


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
    the least cosine similarities by runtime.  ``options`` are the other keys that were given.
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
    winograd: int
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


_LABEL = re.compile(r"(list|dict)\[.*_Subgraph\]|_Subgraph")
"""How pydantic calls the two forms of subgraphs in the place of an error."""
_THRESHOLDS = {"CPU": 0.999, "GPU": 0.995, "QUANTIZE": 0.980}


def load(path: Path, environment: Mapping[str, str]) -> Deployment:
    """Read a deployment file.

    Args:
        path: the YAML.
        environment: what ``${NAME}`` in it stands for.

    Raises:
        InputError: no such file, no YAML, or keys or values that MACE does not have: all of them.
    """
    content = _content(path, environment)
    notes: list[str] = []
    _modernise(content, notes)
    file = _checked(_File, content, path)
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
        tuple(graphs), tuple(notes),
    )  # fmt: skip


def devices(path: Path, environment: Mapping[str, str]) -> tuple[DeviceEntry, ...]:
    """Read a device file.

    Raises:
        InputError: as `load`.
    """
    file = _checked(_Devices, _content(path, environment), path)
    return tuple(
        DeviceEntry(
            name, one.address, one.username or "", tuple(one.target_abis or ()), tuple(one.target_socs or ()),
            one.device_name or (one.models or "").replace(" ", ""),
        )
        for name, one in file.devices.items()
    )  # fmt: skip


def json_schema() -> dict[str, Any]:
    """The JSON schema of deployment files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_File.model_json_schema()}


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


def _graph(path: Path, model: str, name: str, outer: _Model, inner: _Subgraph) -> Graph:
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
    used |= {"platform", "runtime", "data_type", "winograd", "order"}
    return Graph(
        model, name, given["platform"], tuple(files),
        _ports(where, given, "input"), _ports(where, given, "output"),
        tuple(given.get("validation_inputs_data", ())), tuple(given.get("validation_outputs_data", ())),
        _THRESHOLDS | given.get("validation_threshold", {}),
        {"hexagon": "dsp", "cpu+gpu": "gpu"}.get(given.get("runtime", ""), given.get("runtime", "gpu")),
        given.get("data_type", "fp16_fp32"), given.get("winograd", 0), given.get("order", 0),
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


# Reading YAML.


class _Loader(yaml.SafeLoader):
    """YAML without tags, in which ON and OFF are words."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        tag = getattr(event, "tag", None)
        if tag:
            raise yaml.YAMLError(f"line {event.start_mark.line + 1}: the tag {tag!r}; tags are not read")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    letter: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp")
    ]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _content(path: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """The file's values, with variables replaced."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"{path}: can't be read ({error.strerror}); check the path") from error
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: has more than {MAX_BYTES} bytes; is it a deployment file?")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text ({error}); is it a deployment file?") from error
    missing = sorted({name for name in re.findall(r"\$\{(\w+)\}", text) if name not in environment})
    if missing:
        raise InputError(f"{path}: {', '.join(missing)} must be set in the environment, as the file asks for it")
    text = re.sub(r"\$\{(\w+)\}", lambda found: environment[found[1]], text)
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            _count(node, {}, path)
            found = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise InputError(f"{path}: no YAML that can be read: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path}: is nested too deeply") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: holds no keys; is it a deployment file?")
    return found


def _count(node: Any, known: dict[int, int], path: Path) -> int:
    """How many values ``node`` stands for, each alias counted as what it repeats."""
    if node is None:
        return 0
    if id(node) in known:
        size = known[id(node)]
        if size < 0:
            raise InputError(f"{path}: a value holds itself")
        return size
    known[id(node)] = -1
    size = 1
    if isinstance(node, yaml.MappingNode):
        size += sum(_count(one, known, path) for pair in node.value for one in pair)
    elif isinstance(node, yaml.SequenceNode):
        size += sum(_count(one, known, path) for one in node.value)
    if size > MAX_NODES:
        raise InputError(f"{path}: stands for more than {MAX_NODES} values; are there aliases of aliases?")
    known[id(node)] = size
    return size


def _modernise(content: dict[str, Any], notes: list[str]) -> None:
    """Old spellings to those of today, in place; what was done is noted."""
    kind = content.pop("build_type", None)
    if kind is not None:
        content.setdefault("model_graph_format", {"proto": "file"}.get(str(kind), str(kind)))
        notes.append("build_type is called model_graph_format today, proto is file")
    embed = content.pop("embed_model_data", None)
    if embed is not None:
        content.setdefault("model_data_format", "code" if embed in (1, True) else "file")
        notes.append("embed_model_data is called model_data_format today")
    if content.pop("linkshared", None) is not None:
        notes.append("linkshared says nothing about a model and is left out")
    models = content.get("models")
    for name, model in models.items() if isinstance(models, dict) else ():
        if not isinstance(model, dict):
            continue
        several = model.get("subgraphs")
        inner = several.values() if isinstance(several, dict) else several if isinstance(several, list) else ()
        for keys in (model, *(one for one in inner if isinstance(one, dict))):
            for old, new in OLD_KEYS.items():
                if old in keys:
                    keys.setdefault(new, keys[old])
                    del keys[old]
                    notes.append(f"models.{name}: {old} is called {new} today")


def _checked(kind: type[Any], content: dict[str, Any], path: Path) -> Any:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(dict.fromkeys(_problems(kind, error)))) from error


def _problems(kind: type[BaseModel], error: ValidationError) -> Iterable[str]:
    known = {
        "_File": (_File, _Model, _Subgraph),
        "_Devices": (_Devices, _Device),
    }[kind.__name__]
    found = error.errors()
    # of subgraphs that may be a list or a map, only what is wrong in the form that was written
    inner = [one for one in found if one["type"] not in ("dict_type", "list_type")]
    for one in inner or found:
        places = [str(place) for place in one["loc"] if not _LABEL.fullmatch(str(place))]
        where = ".".join(places)
        if one["type"] == "extra_forbidden":
            names = {name for model in known for name in model.model_fields}
            near = difflib.get_close_matches(str(one["loc"][-1]), names, 1, 0.6)
            yield f"{where}: no such key" + (f"; the nearest known is {near[0]}" if near else "")
        elif one["type"] == "missing":
            yield f"{where} is missing"
        else:
            yield f"{where}: {one['msg']}, not {str(one['input'])[:60]!r}"
