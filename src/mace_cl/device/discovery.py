"""Listing OpenCL devices and choosing one."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mace_cl.device import drivers
from mace_cl.device.device import Device
from mace_cl.device.quirks import quirk_for, quirk_of
from mace_cl.errors import DeviceError

if TYPE_CHECKING:
    import pyopencl

__all__ = ["choose", "discover", "find", "find_same"]

_HELP = (
    'On x86-64 Linux, `pip install "mace-cl[cpu]"` brings one that runs on the CPU; elsewhere install the driver '
    "of your GPU, or PoCL from your system's packages or conda-forge"
)
_CL_LOCAL = 1  # of CL_DEVICE_LOCAL_MEM_TYPE
_KINDS = ("cpu", "gpu", "accelerator", "other")
_RUNTIMES = (
    # the start of CL_PLATFORM_NAME, and the short name
    ("Portable Computing Language", "pocl"),
    ("Intel(R) FPGA", "fpga"),
    ("Intel(R) OpenCL", "intel"),
    ("Intel(R) CPU Runtime", "intel"),
    ("Oclgrind", "oclgrind"),
    ("NVIDIA", "nvidia"),
    ("AMD", "amd"),
    ("rusticl", "rusticl"),
    ("Clover", "clover"),
    ("ARM", "mali"),
    ("QUALCOMM", "adreno"),
    ("Apple", "apple"),
)


def discover() -> tuple[Device, ...]:
    """List every device of every driver, the default one first, those that can't be used last.

    A driver or device that fails is listed too, with the reason.  All drivers are loaded, Oclgrind
    included: `find` loads no more than it must.
    """
    found: list[Device] = []
    for driver in drivers.installed():
        found += _devices_of(driver, found)
    return _numbered([*found, *_from_loader(found)])


def find(spec: str | None = None, *, alone: bool = False, mark: Callable[[str], None] | None = None) -> Device:
    """Choose a device as `choose` does, but load drivers one by one and stop at the first that fits.

    ``alone`` keeps the ICD loader from loading other drivers into this process; see
    `mace_cl.device.drivers.platforms`.  ``Device.index`` counts the devices loaded until then.  ``mark`` is
    called with the name of each step that is done.

    Raises:
        DeviceError: no device fits.
    """
    mark = mark or (lambda step: None)
    import pyopencl  # noqa: F401  # it is large: a step of its own

    mark("pyopencl")
    queue = sorted(drivers.installed(), key=lambda driver: _turn(driver.runtime, "gpu", spec))
    mark("driver scan")
    found: tuple[Device, ...] = ()
    while queue and not (spec and spec.isdecimal()):
        found = _numbered([*found, *_devices_of(queue.pop(0), found, alone=alone and not found)])
        best = next(iter(_fitting(spec, found)), None)
        if best and best.can_compile:
            turn = _turn(best.runtime, best.kind, spec)
            if all(turn <= _turn(driver.runtime, "gpu", spec) for driver in queue):
                return best
    return choose(spec, discover())


def find_same(runtime: str, digest: str) -> Device:
    """In another process, the device of ``runtime`` whose signature has the ``digest``; loads no driver beyond it.

    Raises:
        DeviceError: there is none.
    """
    found: list[Device] = []
    for number, driver in enumerate(sorted(drivers.installed(), key=lambda one: _turn(one.runtime, "gpu", runtime))):
        found += _devices_of(driver, found, alone=number == 0)
        for device in found:
            if device.usable and device.signature.digest() == digest:
                return device
    for device in _from_loader(found):
        if device.usable and device.signature.digest() == digest:
            return device
    raise DeviceError(f"the device of {runtime!r} does not answer in a new process; there is {_those(found)}")


def choose(spec: str | None, devices: Iterable[Device]) -> Device:
    """Choose one of ``devices``.

    ``spec`` is None for the best (a GPU, else Intel's CPU runtime, else PoCL, else any; never
    Oclgrind), an index in the listing, a kind (``cpu``, ``gpu``, ``accelerator``), a runtime
    (``pocl`` or ``pocl-3.0``, ``intel``, ``oclgrind``, …), or a part of the platform's or device's
    name in any case.  The best of several that fit is chosen; one that can compile is better than
    one that can only load programs.

    Raises:
        DeviceError: there is no device at all, none fits, or none that fits is usable.
    """
    listed = tuple(devices)
    if fitting := _fitting(spec, listed):
        return fitting[0]
    if not listed:
        raise DeviceError(f"No OpenCL driver was found on this machine. {_HELP}.")
    asked = "usable as a default" if spec is None else f"that fits {spec!r}"
    raise DeviceError(
        f"No OpenCL device {asked}. Found: {_those(listed)}. Ask for one of these, or install another. {_HELP}."
    )


def _those(devices: Iterable[Device]) -> str:
    return "; ".join(
        f"{device.index}: {device.runtime} ({device.kind}, {device.name}) {device.reason}" for device in devices
    )


def _fitting(spec: str | None, devices: Iterable[Device]) -> list[Device]:
    """The usable devices that ``spec`` means, best first."""
    usable = sorted((device for device in devices if device.usable), key=_rank)
    by_default = [device for device in usable if not quirk_for(device).by_name_only]
    if spec is None:
        return by_default
    word = spec.strip().casefold()
    if word.isdecimal():
        return [device for device in usable if device.index == int(word)]
    if word in _KINDS:
        return [device for device in by_default if device.kind == word]
    fitting = [device for device in usable if _is_runtime(device.runtime, word)]
    if fitting or word.partition("-")[0] in {name for _, name in _RUNTIMES}:
        return fitting
    return [device for device in usable if word in f"{device.platform}\n{device.name}".casefold()]


def _is_runtime(runtime: str, word: str) -> bool:
    """Whether ``runtime``, such as ``pocl-3.0``, is what ``word``, ``pocl`` or ``pocl-3.0``, means."""
    return runtime == word or runtime.startswith(word + "-")


def _rank(device: Device) -> tuple[bool, bool, int]:
    return (not device.usable, not device.can_compile, quirk_for(device).preference)


def _turn(runtime: str, kind: str, spec: str | None) -> tuple[int, int]:
    """Where a runtime comes in the order of loading: what ``spec`` names, what it may mean, the rest."""
    word = (spec or "").strip().casefold()
    may_be = bool(runtime and word) and (_is_runtime(runtime, word) or _is_runtime(word, runtime))
    return (0 if runtime == word else 1 if may_be else 2, quirk_of(runtime, kind).preference)


def _numbered(devices: Iterable[Device]) -> tuple[Device, ...]:
    return tuple(replace(device, index=index) for index, device in enumerate(sorted(devices, key=_rank)))


def _devices_of(driver: drivers.Driver, known: Iterable[Device], *, alone: bool = False) -> list[Device]:
    try:
        found = drivers.platforms(driver, alone=alone)
    except drivers.DriverError as error:
        advice = "; install intel-cmplr-lib-rt beside intel-opencl-rt" if driver.runtime == "intel" else ""
        name = os.path.basename(driver.library)
        return [_unusable(driver.runtime or name, "", name, f"can't be used: {error}{advice}")]
    return [device for platform in _new(found, known) for device in _devices_on(platform)]


def _from_loader(known: Iterable[Device]) -> list[Device]:
    """What only the ICD loader knows: drivers outside the usual places, and other systems' drivers."""
    import pyopencl

    try:
        found = pyopencl.get_platforms()
    except pyopencl.Error:
        return []
    return [device for platform in _new(found, known) for device in _devices_on(platform)]


def _new(platforms: Iterable[pyopencl.Platform], known: Iterable[Device]) -> list[pyopencl.Platform]:
    seen = {device.handle.platform.int_ptr for device in known if device.handle}
    return [platform for platform in platforms if platform.int_ptr not in seen]


def _devices_on(platform: pyopencl.Platform) -> Iterator[Device]:
    import pyopencl

    name = runtime = "unknown"
    try:
        name, version = _text(platform.name), _text(platform.version)
        runtime = _runtime(name, version)
        with drivers.one_thread_per_core():
            handles = platform.get_devices()
    except (pyopencl.Error, UnicodeError) as error:
        yield _unusable(runtime, name, name, f"can't be used: its driver failed: {error}")
        return
    for handle in handles:
        try:
            yield _describe(handle, name, version)
        except (pyopencl.Error, UnicodeError) as error:
            yield _unusable(runtime, name, "unknown", f"can't be used: its driver failed: {error}")


def _describe(handle: Any, platform: str, platform_version: str) -> Device:
    """Ask the driver everything; ``handle`` is a `pyopencl.Device`."""
    kind = _kind(handle.type)
    runtime = _runtime(platform, platform_version)
    if runtime == "intel" and kind == "gpu":
        runtime = "neo"
    c_version = _text(handle.opencl_c_version)
    fault = _fault(handle, c_version)
    quirk = quirk_of(runtime, kind)
    hindrance = _hindrance(handle, quirk.needs_linker)
    images = _optional(handle, "image_support") and not quirk.no_buffer_images
    return Device(
        index=0,
        runtime=runtime,
        platform=platform,
        name=_text(handle.name),
        usable=not fault,
        reason=fault or hindrance or "runs and compiles programs",
        can_compile=not fault and not hindrance,
        kind=kind,
        vendor=_text(handle.vendor),
        driver=_text(handle.driver_version),
        platform_version=platform_version,
        version=_text(handle.version),
        c_version=c_version,
        compute_units=int(handle.max_compute_units),
        vector_width=int(handle.native_vector_width_float),
        base_align=int(handle.mem_base_addr_align) // 8,
        cache_bytes=int(handle.global_mem_cache_size),
        local_bytes=int(handle.local_mem_size),
        global_bytes=int(handle.global_mem_size),
        max_alloc_bytes=int(handle.max_mem_alloc_size),
        max_work_group=int(handle.max_work_group_size),
        address_bits=int(handle.address_bits),
        local_dedicated=_optional(handle, "local_mem_type") == _CL_LOCAL,
        image_texels=_optional(handle, "image_max_buffer_size") if images else 0,
        extensions=tuple(sorted(_text(handle.extensions).split())),
        handle=handle,
    )


def _optional(handle: Any, name: str) -> int:
    """A number that only makes kernels faster, 0 where the driver does not tell it."""
    import pyopencl

    try:
        return int(getattr(handle, name))
    except pyopencl.Error:
        return 0


def _fault(handle: Any, c_version: str) -> str:
    """Why no program can run on a device, or ``""``."""
    if not handle.available:
        return "can't be used: its driver says that it is not available"
    if not handle.endian_little:
        return "can't be used: it is big-endian, and compiled programs are little-endian"
    if not handle.single_fp_config:
        return "can't be used: it has no 32-bit floating point"
    number = re.search(r"(\d+)\.(\d+)", c_version)
    if not number or (int(number[1]), int(number[2])) < (1, 2):
        return f"can't be used: it offers {c_version or 'no version of OpenCL C'}, and OpenCL C 1.2 is needed"
    return ""


def _hindrance(handle: Any, needs_linker: bool) -> str:
    """Why a device that runs programs can't compile them, or ``""``."""
    if not handle.compiler_available:
        return "has no compiler: it only loads programs compiled elsewhere for this device"
    if needs_linker and not any(os.access(os.path.join(path, "ld"), os.X_OK) for path in os.get_exec_path()):
        return (
            "can't compile, as the linker `ld` is not on PATH: it only loads programs already compiled; "
            "install it, on Debian or Ubuntu with `apt install binutils`"
        )
    return ""


def _unusable(runtime: str, platform: str, name: str, reason: str) -> Device:
    return Device(index=0, runtime=runtime, platform=platform, name=name, usable=False, reason=reason)


def _runtime(platform: str, version: str) -> str:
    """The short name of the implementation, from CL_PLATFORM_NAME and CL_PLATFORM_VERSION."""
    if platform.startswith("Intel(R) OpenCL") and "Graphics" in platform:
        return "neo"
    name = next((short for start, short in _RUNTIMES if platform.startswith(start)), "")
    if name == "pocl" and (number := re.search(r"(?i)pocl (\d+\.\d+)", version)):
        return f"pocl-{number[1]}"
    return name or re.sub(r"[^a-z0-9]+", "-", platform.casefold()).strip("-") or "unknown"


def _kind(bits: int) -> str:
    """The name for a CL_DEVICE_TYPE; Oclgrind claims to be all at once."""
    return "cpu" if bits & 2 else "gpu" if bits & 4 else "accelerator" if bits & 8 else "other"


def _text(value: str) -> str:
    return value.replace("\0", "").strip()
