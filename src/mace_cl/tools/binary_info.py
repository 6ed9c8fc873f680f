"""The six lines about compiled kernels that ``--dump_binary_info`` prints, for our files and those of others."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mace_cl.errors import DamagedError, ForeignError, ProgramError

if TYPE_CHECKING:
    from mace_cl.foreign import Description
    from mace_cl.program.inspect import Inspection

__all__ = ["BinaryInfo", "run"]


@dataclass(frozen=True)
class BinaryInfo:
    """Sizes in bytes; texts say so where a format does not store what is asked."""

    binary_format_version: str
    target_gpu: str
    driver_version: str
    kernel_count: int
    total_binary_size: int
    crc32_checksum: str

    def lines(self) -> tuple[str, ...]:
        """The block as it is printed."""
        return (
            f"Binary format version: {self.binary_format_version}",
            f"Target GPU: {self.target_gpu}",
            f"Driver version: {self.driver_version}",
            f"Kernel count: {self.kernel_count}",
            f"Total binary size: {self.total_binary_size} bytes",
            f"CRC32 checksum: {self.crc32_checksum}",
        )


def run(file: Path) -> BinaryInfo:
    """Read a compiled program of mace-cl or MACE, or a bare program binary of a driver.

    Raises:
        InputError, StorageError: there is no such file, or it can't be read.
        ProgramError: no compiled kernels are in it.
        DamagedError: it is damaged.
    """
    from mace_cl.tools import foreign, inspect

    try:
        return _ours(inspect.of_program(file).inspection)
    except ForeignError:
        seen = foreign.describe(file)
    if seen.problems:
        raise DamagedError(f"{file}: {seen.title}, damaged: {seen.problems[0]}")
    return _foreign(file, seen)


def _ours(seen: Inspection) -> BinaryInfo:
    return BinaryInfo(
        str(seen.format_version),
        ", ".join(target.signature.device for target in seen.targets),
        ", ".join(dict.fromkeys(target.signature.driver for target in seen.targets)),
        seen.kernel_count,
        seen.section_bytes.get("binary", 0),
        f"{seen.crc32} (of the whole file; every part was compared with its own)",
    )


def _foreign(file: Path, seen: Description) -> BinaryInfo:
    from mace_cl.program.format import map_file

    crc = f"{zlib.crc32(map_file(file)):08x} (of the whole file; it stores none)"
    if seen.kind == "mace-programs":
        stored = seen.fact("crc32")
        driver = seen.fact("platform version")
        return BinaryInfo(
            f"none stored; {seen.fact('layout')}",
            str(seen.fact("device") or seen.fact("platform") or "not stored"),
            f"{driver} (platform version; MACE does not store the driver's)" if driver else "not stored",
            len(seen.parts),
            sum(part.length for part in seen.parts),
            f"{stored} (stored, and right)" if stored else crc,
        )
    kernels = seen.fact("kernels") or seen.fact("entry points")
    if not isinstance(kernels, tuple):
        raise ProgramError(f"{file}: {seen.title}; it holds no compiled kernels. `mace-cl inspect` tells what it holds")
    return BinaryInfo(
        f"{seen.fact('version') or seen.fact('PTX version') or 'none stored'} ({seen.title})",
        str(seen.fact("architecture") or seen.fact("target") or seen.fact("machine") or "not stored"),
        str(seen.fact("producer") or "not stored"),
        len(kernels),
        seen.length,
        crc,
    )
