"""ONNX files to onnx-ir models with static input shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnx_ir as ir

from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends.graphs import make_static

if TYPE_CHECKING:
    import onnx

__all__ = ["OLDEST_OPSET", "declared", "external_files", "load"]

OLDEST_OPSET = 7
"""The first opset with today's broadcasting; older models are converted."""

CONVERTED_OPSET = 13


def load(source: Path | bytes, shapes: Mapping[str, Sequence[int]] | None = None, name: str = "") -> ir.Model:
    """Read, check and make static an ONNX model.

    ``shapes`` gives the shapes of inputs that have symbolic dimensions; without it, a symbolic first
    dimension (the batch) is 1.  ``name`` is what errors call it, by default the path.

    Raises:
        ModelError: not an ONNX model, truncated, invalid, or its external weights are missing.
        UnsupportedError: an opset older than 7 or newer than the installed onnx package knows.
        InputError: ``shapes`` names no input, or does not fit, or a dimension stays unknown.
    """
    import onnx

    name = name or (str(source) if isinstance(source, Path) else f"model of {len(source)} bytes")
    try:
        proto = (
            onnx.load_model_from_string(source)
            if isinstance(source, bytes)
            else onnx.load(source, load_external_data=False)
        )
    except FileNotFoundError as error:
        raise ModelError(f"{name}: no such file; check the path") from error
    except Exception as error:  # protobuf raises its own DecodeError, which differs between its backends
        raise ModelError(
            f"{name}: not an ONNX model, or truncated ({error}); check that the file was copied whole"
        ) from error
    if not proto.ir_version or not proto.HasField("graph") or not (proto.graph.node or proto.graph.output):
        raise ModelError(f"{name}: not an ONNX model (it has no graph); give an .onnx file")
    _check_opset(proto, name)
    _check_external(proto, source, name)
    _check_sizes(proto, source, name)
    try:
        onnx.checker.check_model(str(source) if isinstance(source, Path) else proto)
        model = ir.serde.deserialize_model(_converted(proto, name))
    except UnsupportedError:
        raise
    except (onnx.checker.ValidationError, RuntimeError, ValueError, TypeError) as error:
        raise ModelError(f"{name}: not a valid ONNX model: {error}; export it again") from error
    if isinstance(source, Path):
        _set_base(model, source)
    for node in model.graph:
        for value in node.outputs:
            value.shape = None  # what the file says need not be so: shape inference finds it again
    make_static(model, shapes or {}, name)
    return model


def declared(source: Path | bytes) -> ir.Model | None:
    """The model unchecked, its inputs as they are declared; None where it can't be read, which `load` explains."""
    import onnx

    try:
        proto = onnx.load_model_from_string(source) if isinstance(source, bytes) else onnx.load_model(
            source, load_external_data=False
        )  # fmt: skip
        return ir.serde.deserialize_model(proto)
    except Exception:  # whatever a file that is no model leads to
        return None


def _check_opset(proto: onnx.ModelProto, name: str) -> None:
    import onnx

    newest = onnx.defs.onnx_opset_version()
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx") and not 1 <= entry.version <= newest:
            raise UnsupportedError(
                f"{name}: opset {entry.version}, but mace-cl reads 1 to {newest} (onnx {onnx.__version__}); "
                "update onnx, or export the model with an older opset"
            )


def _converted(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model in an opset with today's broadcasting, by onnx's version converter."""
    import onnx
    from onnx import version_converter

    opset = next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), OLDEST_OPSET)
    if opset >= OLDEST_OPSET:
        return proto
    try:
        return version_converter.convert_version(proto, CONVERTED_OPSET)
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(
            f"{name}: opset {opset} could not be converted to {CONVERTED_OPSET} by onnx {onnx.__version__}: {error}; "
            "export the model with a newer opset"
        ) from error


def _external_locations(proto: onnx.ModelProto) -> dict[str, str]:
    """Tensor name to file name, of tensors whose data lie outside the model file."""
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    return {
        tensor.name: {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        for tensor in _get_all_tensors(proto)
        if uses_external_data(tensor)
    }


def external_files(source: Path) -> list[Path]:
    """The files beside a model that hold its weights, sorted; empty where ``source`` is no ONNX model.

    Raises:
        ModelError: one of them is missing.
    """
    import onnx

    try:
        proto = onnx.load(source, load_external_data=False)
    except Exception:  # not a model: `load` says so
        return []
    _check_external(proto, source, str(source))
    return sorted({source.parent / location for location in _external_locations(proto).values()})


def _check_external(proto: onnx.ModelProto, source: Path | bytes, name: str) -> None:
    for tensor, location in _external_locations(proto).items():
        if isinstance(source, bytes):
            raise ModelError(f"{name}: weights of {tensor!r} are in the file {location!r}; give the model as a path")
        folder = source.parent.resolve()
        path = (folder / location).resolve()
        if folder not in path.parents:
            raise ModelError(
                f"{name}: the weights of {tensor!r} are in {location!r}, outside the model's folder; refused"
            )
        if not path.is_file():
            raise ModelError(
                f"{name}: the weights of {tensor!r} should be in {location!r} beside the model, but that file is "
                "missing; copy it there"
            )


def _check_sizes(proto: onnx.ModelProto, source: Path | bytes, name: str) -> None:
    """Refuse constants whose bytes are fewer or more than their shape and type need."""
    import onnx
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    for tensor in _get_all_tensors(proto):
        try:
            bits = round(8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
        except KeyError as error:
            raise ModelError(
                f"{name}: {tensor.name!r} has the unknown type {tensor.data_type}; export it again"
            ) from error
        # types of less than a byte have no NumPy type of their own size: the checker sees to them
        needed = math.prod(tensor.dims) * bits // 8
        outside = uses_external_data(tensor)
        if outside and isinstance(source, Path):
            entries = {entry.key: entry.value for entry in tensor.external_data}
            try:
                offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
            except ValueError as error:
                raise ModelError(f"{name}: the place of the weights {tensor.name!r} is no number ({error})") from error
            size = (source.parent / entries["location"]).stat().st_size
            if offset < 0 or length != needed or offset + length > size:
                raise ModelError(
                    f"{name}: the weights {tensor.name!r} need {needed} bytes, but are given as {length} from {offset} "
                    f"on in {entries['location']!r} of {size}; copy that file anew, or export the model again"
                )
        elif tensor.HasField("raw_data") and len(tensor.raw_data) != needed:
            raise ModelError(
                f"{name}: the constant {tensor.name!r} of shape {list(tensor.dims)} has {len(tensor.raw_data)} bytes, "
                f"not {needed}; export the model again"
            )


def _set_base(model: ir.Model, source: Path) -> None:
    ir.external_data.set_base_dir(model.graph, source.parent)
