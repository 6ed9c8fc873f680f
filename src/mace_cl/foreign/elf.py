"""ELF files: libraries, objects, and program binaries that are ELF too: Intel's CPU runtime, CUDA, AMD, Intel GPUs.

Sources: the System V ABI, chapter 4; LLVM's ``ELF.h`` for the flags of CUDA; files of ptxas 12.9 and 13, PoCL 3.0 and
3.1 and Intel's CPU runtime 2026.2 for what their sections hold.
"""

from __future__ import annotations

from typing import NamedTuple

from mace_cl.foreign.notes import Cursor, Format, Notes, printable
from mace_cl.wire import damaged

__all__ = ["FORMAT"]

_WHAT = "the ELF file"
_MACHINES = {
    3: "x86",
    40: "Arm",
    62: "x86-64",
    183: "AArch64",
    190: "NVIDIA CUDA",
    205: "Intel GPU",
    224: "AMD GPU",
    243: "RISC-V",
    258: "LoongArch",
}
_TYPES = {1: "relocatable", 2: "executable", 3: "shared object", 4: "core"}
_CUDA, _INTEL_GPU, _AMD = 190, 205, 224
_SYMTAB, _NOBITS, _DYNSYM = 2, 8, 11
_LOOK = {".ocl.ir", ".ocl.obj", ".llvmbc", ".llvmir", ".nv_fatbin", ".spirv", ".spv", ".source"}
_TEXTS = {".comment", ".compile_options", ".note.compiler"}
_POCL = ("_pocl_kernel_", "_workgroup")


class _Section(NamedTuple):
    name: str
    kind: int
    offset: int
    size: int
    link: int


def _read(view: memoryview, notes: Notes) -> None:
    cursor = Cursor(view, _WHAT, 4)
    width, order, _, _, abi_version = cursor.numbers("BBBBB")
    if width not in (1, 2) or order not in (1, 2):
        raise damaged(_WHAT, 4, f"class {width} and byte order {order} are not known")
    cursor.offset, cursor.order = 16, "<" if order == 1 else ">"
    address = "Q" if width == 2 else "I"
    kind, machine, version, _, _, sections_at, flags = cursor.numbers("HHI" + 3 * address + "I")
    _, _, _, entry_size, count, names_in = cursor.numbers("HHHHHH")
    notes.fact("machine", _MACHINES.get(machine, f"machine {machine}"))
    notes.fact("bits", 32 * width)
    notes.fact("type", _TYPES.get(kind, f"type {kind:#x}"))
    if machine == _CUDA:
        # from ABI version 8 on (CUDA 13) the architecture is in the second byte
        notes.fact("architecture", f"sm_{flags >> 8 & 255 if abi_version >= 8 else flags & 255}")
        if abi_version < 8:
            notes.fact("CUDA toolkit", f"{version // 10}.{version % 10}")
    notes.fact("flags", f"{flags:#x}" if flags else None)
    sections = _sections(view, cursor, (sections_at, entry_size, count, names_in), address, notes)
    symbols = _symbols(view, cursor.order, sections, address, notes)
    _tell(view, machine, sections, symbols, notes)


def _sections(
    view: memoryview, cursor: Cursor, table: tuple[int, int, int, int], address: str, notes: Notes
) -> list[_Section]:
    begin, entry_size, count, names_in = table
    codes = "II" + 4 * address + "II"
    raw: list[tuple[int, ...]] = []
    for number in range(count if begin else 0):
        notes.spend()
        cursor.offset = begin + number * entry_size
        raw.append(cursor.numbers(codes))
    strings = raw[names_in] if names_in < len(raw) else (0,) * 8
    sections = []
    for name, kind, _, _, offset, size, link, _ in raw:
        size = 0 if kind in (0, _NOBITS) and offset + size > len(view) else size
        section = _Section(_name(view, strings[4] + name, strings[4] + strings[5]), kind, offset, size, link)
        if section.offset + section.size > len(view):
            notes.problems.append(f"{_WHAT}: section {section.name} of {size} bytes from byte {offset} does not fit")
            section = section._replace(offset=0, size=0)
        sections.append(section)
        if section.size:
            notes.part(section.name or "(unnamed)", section.offset, section.size, look=section.name in _LOOK)
    return sections


def _symbols(view: memoryview, order: str, sections: list[_Section], address: str, notes: Notes) -> dict[str, int]:
    """Names of defined symbols and their types; those of a symbol table's string table that lies in the file."""
    codes = "IBBHQQ" if address == "Q" else "IIIBBH"
    entry = 24 if address == "Q" else 16
    found: dict[str, int] = {}
    for section in sections:
        if section.kind not in (_SYMTAB, _DYNSYM) or section.link >= len(sections):
            continue
        strings = sections[section.link]
        cursor = Cursor(view[: section.offset + section.size], _WHAT, section.offset, order)
        while cursor.left >= entry:
            notes.spend()
            numbers = cursor.numbers(codes)
            name, info, index = (numbers[0], numbers[1], numbers[3]) if address == "Q" else (*numbers[::3], numbers[5])
            if index and name:
                found[_name(view, strings.offset + name, strings.offset + strings.size)] = info & 15
    return found


def _name(view: memoryview, begin: int, end: int) -> str:
    return printable(bytes(view[begin : min(end, begin + 1024)]).partition(b"\0")[0], 1024)


def _tell(view: memoryview, machine: int, sections: list[_Section], symbols: dict[str, int], notes: Notes) -> None:
    names = [section.name for section in sections]
    kernels: list[str] = []
    if any(name.startswith(".ocl.") for name in names):
        notes.kind, notes.title = "intel-cpu", "program binary of Intel's OpenCL runtime for CPUs (ELF)"
        notes.fact("holds", [name for name in names if name.startswith(".ocl.")])
    elif machine == _CUDA:
        notes.kind, notes.title = "cubin", "CUDA binary (ELF)"
        kernels = [name.removeprefix(".text.") for name in names if name.startswith(".text.")]
    elif machine == _INTEL_GPU:
        notes.kind, notes.title = "zebin", "program binary of an Intel GPU (ELF)"
        kernels = [name.removeprefix(".text.") for name in names if name.startswith(".text.")]
    elif machine == _AMD:
        notes.kind, notes.title = "amdgpu", "code object of an AMD GPU (ELF)"
        kernels = [name.removesuffix(".kd") for name in symbols if name.endswith(".kd")]
    else:
        begin, end = _POCL
        kernels = [n.removeprefix(begin).removesuffix(end) for n in symbols if n.startswith(begin) and n.endswith(end)]
    notes.fact("kernels", sorted(set(kernels)))
    if not kernels:
        notes.fact("functions", sorted(name for name, kind in symbols.items() if kind == 2)[:64])
    for section in sections:
        if section.name in _TEXTS and section.size:
            text = bytes(view[section.offset : section.offset + min(section.size, 512)]).strip(b"\0")
            notes.fact(section.name, [printable(line) for line in text.split(b"\0") if line])


FORMAT = Format("elf", "ELF file", lambda view: bytes(view[:4]) == b"\x7fELF", _read)
