"""mace-cl: neural networks on OpenCL devices, compiled once and started at once after.

>>> from mace_cl import Runtime
>>> runtime = Runtime("model.onnx")                             # doctest: +SKIP
>>> output = runtime.run(input_data={"input": input_array})     # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mace_cl.device.device import Device
    from mace_cl.engine import Runtime
    from mace_cl.engine import compile_model as compile
    from mace_cl.program.cipher import Key
    from mace_cl.program.inspect import Inspection

__all__ = ["Runtime", "__version__", "compile", "devices", "errors", "inspect"]
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


def __getattr__(name: str) -> Any:
    # the engine needs NumPy and a driver's binding: import it when it is asked for
    if name in ("Runtime", "compile"):
        from mace_cl import engine

        return engine.Runtime if name == "Runtime" else engine.compile_model
    if name == "errors":
        import importlib

        return importlib.import_module("mace_cl.errors")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
