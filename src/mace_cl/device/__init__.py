"""Finding OpenCL devices: drivers that pip or the system installed, identity, quirks, choice."""

from mace_cl.device.device import Device
from mace_cl.device.discovery import choose, discover, find, find_same
from mace_cl.device.drivers import general_variants
from mace_cl.device.quirks import Quirk, block_for, quirk_for
from mace_cl.device.signature import Signature

__all__ = [
    "Device", "Quirk", "Signature", "block_for", "choose", "discover", "find", "find_same", "general_variants",
    "quirk_for",
]  # fmt: skip
