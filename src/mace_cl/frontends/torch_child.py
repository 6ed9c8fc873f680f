"""A process of its own in which PyTorch reads a model and writes it as ONNX."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from mace_cl.child import Report
from mace_cl.errors import MaceClError, UnsupportedError
from mace_cl.frontends.torch_export import (
    examples,
    export,
    first_line,
    forward_inputs,
    from_program,
    from_script,
    script_inputs,
)

__all__ = ["convert"]

_MEMORY = 8 << 30
_MEMORY_FOR_EACH_BYTE = 16


def convert(request: dict[str, Any], blobs: list[bytes], report: Report) -> dict[str, Any]:
    """Write the model that is asked for as ONNX; gives the kind and the message of an error, "" for none."""
    name = request["name"]
    warnings.simplefilter("ignore")
    try:
        _bound(request["size"])
        Path(request["target"]).write_bytes(_onnx(request, name))
    except MaceClError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # whatever PyTorch raises of a file that is damaged
        return {
            "error": "ModelError",
            "message": f"{name}: PyTorch can't read it ({first_line(error)}); check that it was copied whole, or "
            "export the model again",
        }
    return {"error": "", "message": ""}


def _bound(size: int) -> None:
    """Limit this process's memory, for a file of ``size`` bytes."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    most = _MEMORY + _MEMORY_FOR_EACH_BYTE * size
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _onnx(request: dict[str, Any], name: str) -> bytes:
    import torch

    place, shapes = request["place"], request["shapes"]
    if request["kind"] == "program":
        return from_program(torch.export.load(place), name, request["outputs"])
    if request["kind"] == "script":
        script = torch.jit.load(place, map_location="cpu")
        return from_script(script, examples(script_inputs(script, name), shapes, name), name)
    module = torch.load(place, map_location="cpu", weights_only=False)
    if isinstance(module, torch.jit.ScriptModule) or not isinstance(module, torch.nn.Module):
        raise UnsupportedError(f"{name}: a pickled {type(module).__name__}, not a module; save the module itself")
    return from_program(export(module, examples(forward_inputs(module), shapes, name), {}, None, name), name)
