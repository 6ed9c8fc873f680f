"""What makes one device's compiled code fit another device: a `Signature`.

Nothing here imports an OpenCL binding, so that program files can be read without one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields

from mace_cl.record import record

__all__ = ["Signature"]


@record
class Signature:
    """The identity of a device as its driver states it (``clGetDeviceInfo``, ``clGetPlatformInfo``).

    ``vendor``, ``device``, ``driver``, ``device_version`` and ``c_version`` are CL_DEVICE_VENDOR,
    CL_DEVICE_NAME, CL_DRIVER_VERSION, CL_DEVICE_VERSION and CL_DEVICE_OPENCL_C_VERSION; ``platform``
    and ``platform_version`` are CL_PLATFORM_NAME and CL_PLATFORM_VERSION.  The version strings count
    as a whole: Adreno's driver names the model of the GPU nowhere else.  ``properties`` are the
    limits that kernels are rendered for, as pairs of name and value, sorted by name.
    """

    vendor: str
    device: str
    driver: str
    platform: str
    platform_version: str
    device_version: str
    c_version: str
    properties: tuple[tuple[str, str], ...] = ()

    def differences(self, other: Signature) -> tuple[str, ...]:
        """Say in what ``other`` differs, one sentence fragment for each, such as
        ``"driver: '3.1' here, '3.0' there"``; empty if the two are equal.
        """
        mine, theirs = self._flat(), other._flat()
        names = [*mine, *(name for name in theirs if name not in mine)]
        return tuple(
            f"{name}: {mine.get(name, 'absent')!r} here, {theirs.get(name, 'absent')!r} there"
            for name in names
            if mine.get(name) != theirs.get(name)
        )

    def digest(self) -> str:
        """The sha256, in hexadecimal, of the signature as JSON with sorted keys and no spaces."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).hexdigest()

    def _flat(self) -> dict[str, str]:
        named = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "properties"}
        return {**named, **dict(self.properties)}
