"""mace-cl: neural networks on OpenCL devices, compiled once and started at once after.

>>> from mace_cl import Runtime
>>> runtime = Runtime("model.onnx")                             # doctest: +SKIP
>>> output = runtime.run(input_data={"input": input_array})     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_cl.device.device import Device
    from mace_cl.engine import Runtime
    from mace_cl.engine import compile_model as compile
    from mace_cl.program.cipher import Key
    from mace_cl.program.inspect import Inspection

__all__ = ["Runtime", "__version__", "compile", "devices", "errors", "from_torch", "inspect"]
__version__ = "0.1.0"


def devices() -> tuple[Device, ...]:
    """Every OpenCL device of this machine, the best first, with the reason why each is usable or not."""
    from mace_cl.device import discover

    return discover()


def inspect(
    program: str | Path | bytes, *, trusted_keys: Sequence[str | Path] | None = None, key: Key | None = None
) -> Inspection:
    """What a compiled-program file holds, who signed it, and with which key it is encrypted.

    Args:
        program: its path or its bytes.
        trusted_keys, key: as for `Runtime`; without the key, an encrypted file shows all but its sources.

    Raises:
        DamagedError, ProgramError, StorageError: it can't be read as one.
        SealError: ``key`` is another than the file's.
    """
    from mace_cl.program.inspect import look
    from mace_cl.settings import Settings

    settings = Settings.load(trusted_keys=trusted_keys, key=key)
    return look(program, settings.key, settings.trusted_keys, settings.store_dir if settings.store else None)[1]


def from_torch(module: Any, example: Any, *, dynamic_shapes: Mapping[str, Any] | Sequence[Any] | None = None) -> bytes:
    """A PyTorch module as a model, for `Runtime` and `compile`: the bytes of an ONNX model.

    Args:
        module: a ``torch.nn.Module``, which is taken as it answers in ``eval()`` and left as it is; an
            ``ExportedProgram``, whose shapes are its own; or a TorchScript module.
        example: what ``forward`` is called with: a tensor, a tuple, or a dict of keywords.  Values other than tensors
            become constants.
        dynamic_shapes: which sizes stay open, as for ``torch.export.export``, such as ``{"x": {0: "batch"}}``.

    Inputs are named as in ``forward``.  A tensor that is returned is ``output``; those of a tuple are ``output_0``,
    ``output_1``, …; those of a dict have its keys.

    Raises:
        InputError: ``module`` or ``example`` is none of these.
        UnsupportedError: PyTorch can't export it, or not as ONNX: all such ops are named; or PyTorch is missing.
    """
    from mace_cl.frontends.torch_export import convert

    return convert(module, example, dynamic_shapes)


def __getattr__(name: str) -> Any:
    # the engine needs NumPy and a driver's binding: import it when it is asked for
    if name in ("Runtime", "compile"):
        from mace_cl import engine

        return engine.Runtime if name == "Runtime" else engine.compile_model
    if name == "errors":
        import importlib

        return importlib.import_module("mace_cl.errors")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
