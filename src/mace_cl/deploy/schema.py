"""The keys of MACE's deployment and device files, as they are spelled today and as they were.

Source: the documentation and the config parsers of MACE up to v1.1.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from mace_cl.errors import InputError

__all__ = ["DeploymentFile", "DevicesFile", "Model", "Subgraph", "checked", "json_schema", "modernise"]

OLD_KEYS = {
    "dsp_mode": "nnlib_graph_mode",
    "fast_conv": "winograd",
    "input_nodes": "input_tensors",
    "output_nodes": "output_tensors",
}
"""Keys that older versions of MACE had for what is called otherwise since."""


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


class Subgraph(_Keys):
    """One network of a model."""


class Model(_Keys):
    """A model: its networks, and what holds for all of them."""

    subgraphs: Annotated[list[Subgraph] | dict[str, Subgraph], Field(min_length=1)]


class DeploymentFile(BaseModel):
    """MACE's deployment file."""

    model_config = ConfigDict(extra="forbid", title="MACE deployment file, as mace-cl reads it")

    library_name: str | None = None
    target_abis: Texts | None = None
    target_socs: Texts | None = None
    model_graph_format: Literal["file", "code"] | None = None
    model_data_format: Literal["file", "code"] | None = None
    apu_version_with_no_device: int | None = None
    models: Annotated[dict[str, Model], Field(min_length=1)]


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


class DevicesFile(BaseModel):
    """MACE's list of devices."""

    model_config = ConfigDict(extra="forbid")

    devices: dict[str, _Device]


_LABEL = re.compile(r"(list|dict)\[.*Subgraph\]|Subgraph")
"""How pydantic calls the two forms of subgraphs in the place of an error."""


def json_schema() -> dict[str, Any]:
    """The JSON schema of deployment files, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **DeploymentFile.model_json_schema()}


def modernise(content: dict[str, Any], notes: list[str]) -> None:
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


def checked(kind: type[Any], content: dict[str, Any], path: Path) -> Any:
    """The values of a file as ``kind``, a model of pydantic.

    Raises:
        InputError: what is wrong with them, all of it.
    """
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: " + "; ".join(dict.fromkeys(_problems(kind, error)))) from error


def _problems(kind: type[BaseModel], error: ValidationError) -> Iterable[str]:
    known: tuple[type[BaseModel], ...] = (kind, _Device) if kind is DevicesFile else (kind, Model, Subgraph)
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
