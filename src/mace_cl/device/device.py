"""One OpenCL device, described once, so that nobody else has to ask the driver."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from mace_cl.device.signature import Signature
from mace_cl.record import record

if TYPE_CHECKING:
    import pyopencl

__all__ = ["Device"]


@record
class Device:
    """An OpenCL device, or a driver that could not be used and the ``reason`` why.

    ``runtime`` is the short name of the OpenCL implementation, such as ``intel``, ``pocl-3.1``,
    ``nvidia``; ``index`` the position in the listing that the device comes from.  ``kind`` is
    ``cpu``, ``gpu``, ``accelerator`` or ``other``.  ``vector_width`` is the native width for float,
    in elements; sizes end in ``_bytes`` or are ``base_align``, in bytes too; ``max_work_group`` is
    in work-items.

    ``local_dedicated`` says that local memory is not just global memory; ``image_texels`` is how many places an image
    that is made of a buffer may have, 0 where there are none.

    ``usable`` says that programs can run here, ``can_compile`` that they can also be built from
    source; ``reason`` is one sentence on both.
    """

    index: int
    runtime: str
    platform: str
    name: str
    usable: bool
    reason: str
    can_compile: bool = False
    kind: str = "other"
    vendor: str = ""
    driver: str = ""
    platform_version: str = ""
    version: str = ""
    c_version: str = ""
    compute_units: int = 0
    vector_width: int = 0
    base_align: int = 0
    cache_bytes: int = 0
    local_bytes: int = 0
    global_bytes: int = 0
    max_alloc_bytes: int = 0
    max_work_group: int = 0
    address_bits: int = 0
    local_dedicated: bool = False
    image_texels: int = 0
    extensions: tuple[str, ...] = ()
    handle: pyopencl.Device | None = field(default=None, compare=False, repr=False)

    @property
    def signature(self) -> Signature:
        """What a compiled program must have been made for to be loaded here."""
        names = ("address_bits", "base_align", "local_bytes", "max_work_group", "vector_width")
        return Signature(
            vendor=self.vendor,
            device=self.name,
            driver=self.driver,
            platform=self.platform,
            platform_version=self.platform_version,
            device_version=self.version,
            c_version=self.c_version,
            properties=tuple((name, str(getattr(self, name))) for name in names),
        )
