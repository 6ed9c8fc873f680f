"""OpenCL drivers on this machine, and their platforms, whoever installed them.

An ICD loader (the ``libOpenCL`` that pyopencl calls) reads the system's drivers from
``/etc/OpenCL/vendors``.  It misses those that pip installed, unless environment variables say
where they are.  But a loader only forwards each call through the table that every driver's objects
begin with, so a platform that the driver itself handed out works just as well.  This module
therefore opens a driver's library and asks it for its platforms as the extension ``cl_khr_icd``
describes (https://registry.khronos.org/OpenCL/sdk/3.0/docs/man/html/cl_khr_icd.html): no variable
and no file is needed, and one driver can be loaded without the others.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.record import record

if TYPE_CHECKING:
    import pyopencl

__all__ = ["Driver", "DriverError", "general_variants", "installed", "one_thread_per_core", "platforms"]

_VENDORS = "/etc/OpenCL/vendors"
_LIBRARIES = (
    ("libintelocl_emu", "fpga"),
    ("libintelocl", "intel"),
    ("libpocl", "pocl"),
    ("liboclgrind", "oclgrind"),
    ("libnvidia-opencl", "nvidia"),
    ("libigdrcl", "neo"),
    ("libamdocl", "amd"),
    ("librusticlopencl", "rusticl"),
    ("libmesaopencl", "clover"),
    ("libmali", "mali"),
)
_ICD2_TAG = 0x4F50454E434C3331
_MOST_PLATFORMS = 16


class DriverError(Exception):
    """A driver's library can't be opened, or is no OpenCL driver; never leaves this package."""


@record
class Driver:
    """A driver's library and what is known of its runtime before loading: ``intel``, ``pocl`` or ``""``.

    ``library`` is an absolute path, or a name that the system's dynamic linker resolves.
    """

    runtime: str
    library: str


def installed() -> tuple[Driver, ...]:
    """The drivers found beside pyopencl, on Python's path, in the system's list, and Oclgrind."""
    if sys.platform != "linux":
        return ()
    found = {driver.library: driver for driver in (*_oclgrind(), *_from_system(), *_from_pip())}
    return tuple(found.values())


def platforms(driver: Driver, *, alone: bool = False) -> tuple[pyopencl.Platform, ...]:
    """Load ``driver`` and return its platforms.

    The first OpenCL call of a process makes the ICD loader load the system's drivers as well.  With
    ``alone`` and if no such call was made yet, it loads none but this one: that saves their start
    and their threads, but `pyopencl.get_platforms` then lists no others in this process.

    Raises:
        DriverError: the library can't be opened, or does not do what ``cl_khr_icd`` asks for.
    """
    import pyopencl

    found = []
    for address in _platform_addresses(driver.library):
        platform = pyopencl.Platform.from_int_ptr(address, False)
        if alone:
            with _loader_limited_to(driver.library):
                platform.get_info(pyopencl.platform_info.NAME)
        found.append(platform)
    return tuple(found)


def _platform_addresses(library: str) -> list[int]:
    import ctypes

    try:
        opened = ctypes.CDLL(library)
        lookup = opened.clGetExtensionFunctionAddress
    except OSError as error:
        raise DriverError(f"its library can't be loaded: {error}") from error
    except AttributeError as error:
        raise DriverError("it is not an OpenCL driver: clGetExtensionFunctionAddress is missing") from error
    lookup.restype, lookup.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    address = lookup(b"clIcdGetPlatformIDsKHR")
    if not address:
        raise DriverError("it does not offer the extension cl_khr_icd")
    id_array = ctypes.c_void_p * _MOST_PLATFORMS
    get_ids = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_uint, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint))(address)
    ids, count = id_array(), ctypes.c_uint()
    status = get_ids(_MOST_PLATFORMS, ids, ctypes.byref(count))
    if status != 0 or count.value == 0:
        raise DriverError(f"it has no platform (clIcdGetPlatformIDsKHR gave status {status})")
    return [platform for platform in ids[: count.value] if platform and not _needs_its_loader(platform)]


def _needs_its_loader(platform: int) -> bool:
    """Whether a platform is of the kind (``cl_khr_icd`` 2.0) that a loader must prepare before use.

    Such drivers mark the first entry of their table; `pyopencl.get_platforms` lists them.
    """
    import ctypes

    pointers = ctypes.POINTER(ctypes.c_size_t)
    table = ctypes.cast(platform, pointers)[0]
    return int(ctypes.cast(table, pointers)[0]) == _ICD2_TAG


@contextmanager
def one_thread_per_core() -> Iterator[None]:
    """PoCL devices that are found meanwhile keep each of their threads on a core of its own.

    Left to itself, the system's scheduler at times keeps all of them on one core for seconds: they sleep
    between kernels, and are woken where their waker runs.  Nothing changes where the user set PoCL's
    variables, or gave this process a part of the machine's cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    if cores != os.cpu_count() or {"POCL_AFFINITY", "POCL_MAX_PTHREAD_COUNT"} & os.environ.keys():
        yield
        return
    with _environment({"POCL_AFFINITY": "1"}):
        yield


def general_variants() -> AbstractContextManager[None]:
    """PoCL's kernels that run for the first time meanwhile do so in the variant that its binaries hold.

    That is the one for any work-group size.  Left to itself it compiles another for the size at hand, which takes as
    long again.  It keeps to what a kernel's first run took.
    """
    return _environment({"POCL_WORK_GROUP_SPECIALIZATION": "0"})


def _loader_limited_to(library: str) -> AbstractContextManager[None]:
    return _environment({"OCL_ICD_VENDORS": library, "PYOPENCL_HOME": os.path.dirname(__file__)})


@contextmanager
def _environment(wanted: dict[str, str]) -> Iterator[None]:
    # Loaders and drivers have no other interface than these variables; afterwards they are as before, so that no
    # child process inherits them.
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _from_pip() -> Iterator[Driver]:
    for entry in dict.fromkeys(sys.path):
        site = Path(entry or ".").absolute()
        # PyPI's PoCL lies in a directory of pyopencl's; its .icd file holds a name relative to it.
        for driver in _listed_in(site / "pyopencl" / ".libs"):
            versions = [path.stem.partition("-")[2] for path in site.glob("pocl_binary_distribution-*.dist-info")]
            yield replace(driver, runtime=f"pocl-{versions[0]}") if driver.runtime == "pocl" and versions else driver
        # Intel's wheels put their libraries into PREFIX/lib, and a placeholder into their .icd files.
        prefix = site.parents[2] if len(site.parents) > 2 else site
        for folder in (prefix / "lib", site / "lib"):
            if (library := folder / "libintelocl.so").is_file():
                yield _driver(str(library.resolve()))


def _from_system() -> Iterator[Driver]:
    chosen = os.environ.get("OCL_ICD_VENDORS") or os.environ.get("OPENCL_VENDOR_PATH") or _VENDORS
    if chosen.endswith(".icd"):
        yield from _read_icd(Path(chosen))
    elif chosen == _VENDORS or Path(chosen).is_dir():
        yield from _listed_in(Path(chosen))
    else:
        yield _driver(chosen)


def _oclgrind() -> Iterator[Driver]:
    for folder in os.get_exec_path():
        if os.path.isfile(os.path.join(folder, "oclgrind")):
            for name in ("lib/oclgrind", "lib"):
                library = Path(folder).parent / name / "liboclgrind-rt-icd.so"
                if library.is_file():
                    yield _driver(str(library.resolve()))


def _listed_in(folder: Path) -> Iterator[Driver]:
    for path in sorted(folder.glob("*.icd")):
        yield from _read_icd(path)


def _read_icd(path: Path) -> Iterator[Driver]:
    """The driver that a file names on its first line, if it can be there."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    library = lines[0].strip() if lines else ""
    if not library or "\0" in library:
        return
    beside = path.parent / library
    if beside.is_file():
        yield _driver(str(beside.resolve()))
    elif not os.path.isabs(library):
        yield _driver(library)


def _driver(library: str) -> Driver:
    name = os.path.basename(library).lower()
    return Driver(next((runtime for start, runtime in _LIBRARIES if name.startswith(start)), ""), library)
