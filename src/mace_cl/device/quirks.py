"""What is known of each OpenCL implementation beyond what it says of itself: one row each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mace_cl.record import record

if TYPE_CHECKING:
    from mace_cl.device.device import Device

__all__ = ["QUIRKS", "Quirk", "block_for", "quirk_for", "quirk_of"]


@record
class Quirk:
    """How to treat the devices of one ``runtime`` (its short name, or that up to a dash).

    ``preference`` orders devices, lowest first.  ``block`` is the channel block of the NCHWc layout
    where it is not the device's vector width.  ``binary_after_first_run``: machine code is made at
    the first enqueue, so a binary taken before is incomplete.  ``damaged_binary_kills``: a damaged
    binary ends the process instead of giving an error.  ``needs_linker``: compiling starts ``ld``,
    and aborts the process where there is none.  ``slow_halves``: reading and writing 16-bit floats takes a
    function call per element.  ``sequences``: work-groups that have begun go on, so that launches may run in sequence
    within one (`mace_cl.runtime.sequence`).  ``no_buffer_images``: it has images, but makes none of buffers.
    ``by_name_only``: never a default.
    """

    runtime: str
    preference: int
    block: int | None = None
    binary_after_first_run: bool = False
    damaged_binary_kills: bool = False
    needs_linker: bool = False
    slow_halves: bool = False
    sequences: bool = False
    no_buffer_images: bool = False
    by_name_only: bool = False


QUIRKS = (
    Quirk("intel", 10, sequences=True),
    # LLVM 14 inside PoCL 3.0 crashes on some 16-wide code.
    Quirk(
        "pocl-3.0",
        30,
        block=8,
        binary_after_first_run=True,
        damaged_binary_kills=True,
        needs_linker=True,
        slow_halves=True,
        sequences=True,
        no_buffer_images=True,
    ),
    Quirk(
        "pocl",
        20,
        binary_after_first_run=True,
        damaged_binary_kills=True,
        needs_linker=True,
        sequences=True,
        no_buffer_images=True,
    ),
    Quirk("mali", 0, block=4, binary_after_first_run=True),
    # A simulator that checks every access, at about 16 MFLOP/s.
    Quirk("oclgrind", 90, block=4, by_name_only=True),
)
"""The first row that fits counts."""

_GPU = Quirk("", 0, block=4)
_OTHER = Quirk("", 40)


def quirk_of(runtime: str, kind: str) -> Quirk:
    """The first row that fits the name of a runtime, else that of the device's kind."""
    for row in QUIRKS:
        if runtime == row.runtime or runtime.startswith(row.runtime + "-"):
            return row
    return _GPU if kind == "gpu" else _OTHER


def quirk_for(device: Device) -> Quirk:
    """The row for ``device``."""
    return quirk_of(device.runtime, device.kind)


def block_for(device: Device) -> int:
    """The channel block of the NCHWc layout for ``device``: 4, 8 or 16."""
    block = quirk_for(device).block or device.vector_width
    return 16 if block >= 16 else 8 if block >= 8 else 4
