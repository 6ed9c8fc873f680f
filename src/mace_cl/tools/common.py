"""What several verbs share."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mace_cl.errors import StorageError

if TYPE_CHECKING:
    from mace_cl.device import Device
    from mace_cl.program.program import Target

__all__ = ["PROGRAM_NAME", "DeviceName", "Preprocessing", "Progress", "check_writable", "tuned"]

PROGRAM_NAME = "mace-cl-compiled-program.bin"

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class DeviceName:
    """The device that was used, in short; `mace_cl.tools.devices` tells all of it."""

    runtime: str
    name: str
    driver: str

    @classmethod
    def of(cls, device: Device) -> DeviceName:
        return cls(device.runtime, device.name, device.driver)

    def __str__(self) -> str:
        return f"{self.name} ({self.runtime}, driver {self.driver})"


@dataclass(frozen=True)
class Preprocessing:
    """How pixels become numbers: (pixel × ``scale`` - ``mean``) ÷ ``std``, a pixel being 0 to 255.

    ``mean`` and ``std`` have one value, or one for each channel.  ``scale`` of None is 1/255, but 1
    for inputs of uint8, which take pixels as they are.  ``layout`` and ``color`` of None follow from
    the input's shape: one channel is gray, three are rgb.
    """

    scale: float | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: Literal["nchw", "nhwc"] | None = None
    color: Literal["rgb", "bgr", "gray"] | None = None


def tuned(target: Target) -> dict[str, str]:
    """How many choices in a part come from tuning records, by kind and rung of the ladder; see docs/tuning.md."""
    found = {}
    for name, value in target.provenance:
        if name.startswith("tuned, "):
            found[name] = f"{len(value.split(', '))} of {len(target.schedule.kernels)} kernels' parameters"
        elif name.startswith("algorithms, "):
            found[name] = f"those of {value} convolutions"
    return found


def process_seconds() -> float | None:
    """Seconds since this process began; None where the system does not tell.

    Linux tells the start in ticks of 10 ms (proc(5), starttime); the processor time used since then, which a
    process that only starts spends all the time, says where in the tick.
    """
    try:
        with Path("/proc/self/stat").open("rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        tick = 1.0 / os.sysconf("SC_CLK_TCK")
        longest = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks * tick
    except (OSError, ValueError, IndexError, AttributeError):
        return None
    return min(max(time.process_time(), longest - tick), longest)


def check_writable(path: Path) -> None:
    """Tell before any work that a file can't be written.

    Raises:
        StorageError: ``path`` is a directory, or the directory it names is missing or not writable.
    """
    folder = path.parent
    if path.is_dir():
        raise StorageError(f"{path}: is a directory; name a file in it")
    if not folder.is_dir():
        raise StorageError(f"{path}: can't be written, as there is no directory {folder}; make it, or name another")
    if not os.access(folder, os.W_OK):
        raise StorageError(f"{path}: can't be written, as {folder} is not writable for you; name another place")
