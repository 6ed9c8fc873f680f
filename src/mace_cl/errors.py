"""Every error that mace-cl raises on purpose.

    MaceClError                     base; carries the exit code of the command line
    ├── InputError (2)              what the caller handed in: name, dtype, shape, file, path
    │   ├── ModelError (3)          a model file that can't be read or is not valid
    │   │   └── UnsupportedError (4)    valid, but an op, opset or type that mace-cl lacks
    │   └── ImageError (2)          an image file that is not one
    ├── ProgramError (5)            a compiled-program file that can't be used as asked
    │   ├── DamagedError (5)        … because its bytes are not what was written
    │   ├── FutureError (5)         … because a newer mace-cl wrote it
    │   ├── ForeignError (5)        … because it is something else
    │   └── SealError (5)           … because of its signature or its encryption
    ├── DeviceError (6)             no OpenCL platform or device fits
    │   ├── BuildError (7)          the driver refused a kernel
    │   └── HostError (6)           the part of the model that runs on the host can't, or failed
    ├── StorageError (8)            a file could not be written or read
    └── SettingsError (2)           a setting that makes no sense

Each message says what happened, where, why, and what to do next.  The number in brackets is the
exit code of ``mace-cl``; 0 is success, 1 an internal error, 130 an interrupt.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "BuildError",
    "DamagedError",
    "DeviceError",
    "ForeignError",
    "FutureError",
    "HostError",
    "ImageError",
    "InputError",
    "MaceClError",
    "ModelError",
    "ProgramError",
    "SealError",
    "SettingsError",
    "StorageError",
    "UnsupportedError",
]


class MaceClError(Exception):
    """Base of all errors of this package; ``exit_code`` is what the command line returns."""

    exit_code = 1


class InputError(MaceClError, ValueError):
    """An argument, tensor or path from the caller does not fit what the model or the call takes."""

    exit_code = 2


class ModelError(InputError):
    """A model could not be read: not a model, truncated, invalid, or its weights are missing."""

    exit_code = 3


class UnsupportedError(ModelError):
    """The model is valid, but needs an op, opset, element type or attribute that mace-cl lacks.

    ``nodes`` tells, where it is known, which nodes of the model need it, each with the reason: their names
    as `mace_cl.graph.nodes_of` gives them.
    """

    exit_code = 4

    def __init__(self, message: str, nodes: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.nodes = dict(nodes or {})


class ImageError(InputError):
    """A file given as an image could not be decoded as one."""


class ProgramError(MaceClError):
    """A compiled-program file can't be used for what was asked."""

    exit_code = 5


class DamagedError(ProgramError):
    """A compiled-program file is truncated, altered, or not one at all."""


class FutureError(ProgramError):
    """A compiled-program file is whole, but written in a way that only a newer mace-cl knows."""


class ForeignError(ProgramError):
    """A file is whole, as far as one can see, but no compiled program of mace-cl."""


class SealError(ProgramError):
    """A compiled-program file lacks a trusted signature, or is encrypted with a key that is not at hand."""


class DeviceError(MaceClError):
    """No OpenCL platform, or no device of the kind that was asked for, or the device failed."""

    exit_code = 6


class BuildError(DeviceError):
    """The OpenCL compiler refused a kernel; the message holds its log."""

    exit_code = 7


class HostError(DeviceError):
    """What runs on the host could not: onnxruntime or its provider is missing, or it failed."""


class StorageError(MaceClError, OSError):
    """A file or directory could not be read or written."""

    exit_code = 8


class SettingsError(MaceClError, ValueError):
    """A setting, from an argument, the environment or the configuration file, is not valid."""

    exit_code = 2
