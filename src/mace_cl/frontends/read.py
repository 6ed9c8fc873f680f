"""Any model that mace-cl knows the format of, to one graph."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from mace_cl.errors import ModelError, UnsupportedError
from mace_cl.frontends.formats import FORMATS, opened, recognise, sniff_onnx
from mace_cl.frontends.graphs import cut, refuse_unmapped
from mace_cl.frontends.parameters import fix, parameter_inputs

__all__ = ["as_onnx", "declared", "load"]


def load(
    source: Path | bytes,
    shapes: Mapping[str, Sequence[int]] | None = None,
    outputs: Sequence[str] = (),
    values: Mapping[str, NDArray[Any]] | None = None,
    trust: bool = False,
) -> ir.Model:
    """Read a model of any format of `FORMATS` as a graph of ONNX ops whose inputs are static.

    Its format is told by its content.  Names and layouts of inputs and outputs are the source's.

    Args:
        source: the model's path or bytes; the folder of a SavedModel.
        shapes: shapes of inputs that have symbolic dimensions; without it, a symbolic first dimension is 1.
        outputs: names of values or nodes to be the outputs in place of the model's own; what they don't
            need is dropped.
        values: inputs to be constants; see `mace_cl.frontends.parameters`.
        trust: whether code that the model's file holds may run.

    Raises:
        ModelError: no model, of no known format, truncated or invalid, or a file of it is missing.
        UnsupportedError: ops without a mapping, all of them; or the package for the format is not installed.
        InputError: ``shapes``, ``outputs`` or ``values`` do not fit the model.
    """
    name = str(source) if isinstance(source, Path) else f"model of {len(source)} bytes"
    with opened(source) as view:
        form = recognise(view)
    if form is None:
        known = ", ".join(form.title for form in FORMATS if form.name)
        raise ModelError(f"{name}: not a model of a format that mace-cl reads ({known}); see `mace-cl inspect`")
    if not form.name:
        raise UnsupportedError(f"{name}: is a {form.title}, which mace-cl does not read yet; export it as ONNX")
    missing = [package for package in form.packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UnsupportedError(
            f"{name}: is a {form.title}, and reading it needs the package {', '.join(missing)}; "
            f"pip install 'mace-cl[{form.extra}]'"
        )
    given = {"outputs": outputs, "trust": trust}
    module = importlib.import_module(f"mace_cl.frontends.{form.name}")
    model: ir.Model = module.load(source, shapes or {}, **{name: given[name] for name in form.takes})
    if values:
        fix(model, values, name)
    if outputs and "outputs" not in form.takes:
        cut(model, outputs, name)
    if form.name != "onnx":
        refuse_unmapped(model, name)
    return model


def declared(
    source: Path | bytes, outputs: Sequence[str] = (), trust: bool = False
) -> tuple[ir.Model, tuple[str, ...]] | None:
    """A model with its inputs as it declares them, and the names of those that are parameters of ops.

    None for formats whose inputs are static, and for what is no model: `load` says why.

    Raises:
        InputError: ``outputs`` do not fit the model.
        ModelError, UnsupportedError: as `load`.
    """
    with opened(source) as view:
        form = recognise(view)
    if form is None or not form.symbolic:
        return None
    module = importlib.import_module(f"mace_cl.frontends.{form.name}")
    model: ir.Model | None = module.declared(source, **({"trust": trust} if "trust" in form.takes else {}))
    if model is None:
        return None
    if outputs:
        cut(model, outputs, str(source) if isinstance(source, Path) else "the model")
    return model, parameter_inputs(model)


def as_onnx(model: ir.Model, source: Path | bytes, outputs: Sequence[str] = ()) -> Path | bytes | None:
    """What `load` gave of ``source``, for another engine: the source itself where it is ONNX and not cut.

    None where it is too large for one protobuf message.
    """
    with opened(source) as view:
        if sniff_onnx(view) and not outputs:
            return source
    try:
        data: bytes = ir.to_proto(model).SerializeToString()
    except ValueError:  # protobuf's limit of 2 GB
        return None
    return data
