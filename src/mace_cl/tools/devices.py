"""List the OpenCL devices of this machine, and say which one is chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mace_cl.device import Device

__all__ = ["DevicesArgs", "DevicesResult", "run"]


@dataclass(frozen=True)
class DevicesArgs:
    """``device`` is a specification as for `mace_cl.Runtime`; by default that of the settings."""

    device: str | None = None


@dataclass(frozen=True)
class DevicesResult:
    """All devices, the best first; the index of the chosen one, or None and ``problem``, the reason why."""

    devices: tuple[Device, ...]
    chosen: int | None
    problem: str | None


def run(args: DevicesArgs) -> DevicesResult:
    """List and choose.

    Raises:
        SettingsError: a setting makes no sense.
    """
    from mace_cl.device import choose, discover
    from mace_cl.errors import DeviceError
    from mace_cl.settings import Settings

    spec = Settings.load(device=args.device).device
    found = discover()
    try:
        return DevicesResult(found, choose(spec, found).index, None)
    except DeviceError as error:
        return DevicesResult(found, None, str(error))
