"""Write a model of any known format as the portable form, or as MACE's own files."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from mace_cl import __version__
from mace_cl.errors import InputError, ModelError, StorageError
from mace_cl.program.format import replace_file

__all__ = ["MANIFEST", "ConvertArgs", "ConvertResult", "read", "run", "write"]

MANIFEST = "mace-cl.json"
FORMAT = 1
"""Of the manifest; a reader refuses greater ones."""


@dataclass(frozen=True)
class ConvertArgs:
    """What to read, and what to write into the directory ``output``, which is made where it is missing.

    ``name`` is that of the files, by default the model's.  ``half`` stores weights for MACE in two bytes.
    ``safetensors`` puts large weights of the portable form beside the model; None does so from 100 MB on.
    ``weights`` is the second file of a Caffe or MACE model where it does not lie beside the first.
    """

    model: Path
    output: Path
    to: Literal["onnx", "mace"] = "onnx"
    name: str = ""
    half: bool = False
    safetensors: bool | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    weights: Path | None = None
    trust: bool = False


@dataclass(frozen=True)
class ConvertResult:
    """What was written: the files by name with their sizes in bytes, and the operators by type with their numbers."""

    source: Path
    source_format: str
    output: Path
    files: dict[str, int]
    operators: dict[str, int]
    seconds: float


def run(args: ConvertArgs) -> ConvertResult:
    """Convert a model; the directory then holds its files and the manifest ``mace-cl.json``.

    Raises:
        ModelError, UnsupportedError, InputError: as `mace_cl.frontends.read.load`; or MACE lacks operators.
        StorageError: a file can't be written.
    """
    begin = time.perf_counter()
    if args.half and args.to != "mace":
        raise InputError("--fp16 is for --to mace; the portable form keeps the model's own types")
    made = write(args, read(args))
    return replace(made, seconds=time.perf_counter() - begin)


def read(args: ConvertArgs) -> Any:
    """The model's graph; raises as `mace_cl.frontends.read.load`."""
    from mace_cl.frontends.read import load

    if args.weights:
        return _loaded(args)
    return load(args.model, args.shapes or None, args.outputs, trust=args.trust)


def write(args: ConvertArgs, model: Any) -> ConvertResult:
    """Write what `read` gave, which is changed; raises as `run`."""
    begin = time.perf_counter()
    from mace_cl.export.onnx import operators
    from mace_cl.identity import model_sha256

    form = _format(args)
    source = {"name": args.model.name, "format": form.title if form else "", "sha256": model_sha256(args.model)}
    stem = args.name or re.sub(r"[^\w.-]", "_", args.model.stem) or "model"
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        names = (_mace if args.to == "mace" else _onnx)(args, model, stem, source)
        _manifest(args, model, names, source)
    except OSError as error:
        raise StorageError(f"{args.output}: can't be written ({error.strerror}); name another place") from error
    sizes = {name: (args.output / name).stat().st_size for name in (*names, MANIFEST)}
    seconds = time.perf_counter() - begin
    return ConvertResult(args.model, source["format"], args.output, sizes, operators(model), seconds)


def _format(args: ConvertArgs) -> Any:
    from mace_cl.frontends.formats import opened, recognise

    with opened(args.model) as view:
        return recognise(view)


def _loaded(args: ConvertArgs) -> Any:
    """A model of two files that do not lie beside each other."""
    from mace_cl.frontends import caffe, mace
    from mace_cl.frontends.graphs import cut

    form = _format(args)
    reader = {"caffe": caffe.load, "mace": mace.load}.get(form.name if form else "")
    if reader is None:
        raise InputError(
            f"{args.model}: weights in a file of their own go with Caffe's and MACE's models; leave them out"
        )
    model = reader(args.model, args.shapes, args.weights)
    if args.outputs:
        cut(model, args.outputs, str(args.model))
    return model


def _onnx(args: ConvertArgs, model: Any, stem: str, source: Mapping[str, str]) -> list[str]:
    import onnx

    from mace_cl.export.onnx import LARGE, onnx_bytes, portable, weights_beside

    properties = {f"mace_cl.source_{key}": value for key, value in source.items()}
    properties["mace_cl.version"] = __version__
    portable(model, properties)
    held = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value is not None)
    names = [f"{stem}.onnx"]
    if args.safetensors if args.safetensors is not None else held > LARGE:
        names.append(f"{stem}.safetensors")
        replace_file(args.output / names[1], weights_beside(model, names[1]))
    path = args.output / names[0]
    replace_file(path, [onnx_bytes(model)])
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(
            f"{path}: what was made of the model is not valid ONNX ({error}); please report this"
        ) from error
    return names


def _mace(args: ConvertArgs, model: Any, stem: str, source: Mapping[str, str]) -> list[str]:
    from mace_cl.export.mace import write
    from mace_cl.passes.pipeline import simplify

    written = write(simplify(model), str(args.model), args.half)
    names = [f"{stem}.pb", f"{stem}.data"]
    for name, data in zip(names, (written.pb, written.data), strict=True):
        replace_file(args.output / name, [data])
    return names


def _manifest(args: ConvertArgs, model: Any, names: list[str], source: Mapping[str, str]) -> None:
    from mace_cl.export.onnx import ports

    files = {}
    for name in names:
        path, digest = args.output / name, hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        files[name] = {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}
    manifest = {
        "format": FORMAT,
        "producer": f"mace-cl {__version__}",
        "model": names[0],
        "source": dict(source),
        "files": files,
        **ports(model),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    replace_file(args.output / MANIFEST, [text.encode()])
