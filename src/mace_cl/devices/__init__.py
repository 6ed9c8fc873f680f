"""Finding OpenCL devices: drivers that pip or the system installed, identity, quirks, choice."""

from mace_cl.devices.device import Device
from mace_cl.devices.discovery import choose, discover, find
from mace_cl.devices.quirks import Quirk, block_for, quirk_for
from mace_cl.devices.signature import Signature

__all__ = ["Device", "Quirk", "Signature", "block_for", "choose", "discover", "find", "quirk_for"]
