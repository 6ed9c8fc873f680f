"""SPIR-V modules, of either byte order.  Source: the SPIR-V specification, "Physical Layout of a SPIR-V Module"."""

from __future__ import annotations

from mace_cl.foreign.notes import Cursor, Format, Notes, printable
from mace_cl.wire import damaged

__all__ = ["FORMAT"]

_MAGIC = 0x07230203
_GENERATORS = {
    0: "Khronos",
    6: "Khronos LLVM/SPIR-V Translator",
    7: "Khronos SPIR-V Tools Assembler",
    8: "Khronos Glslang",
    13: "Google Shaderc over Glslang",
    14: "Google spiregg",
    15: "Google rspirv",
    17: "Khronos SPIR-V Tools Linker",
}
_SOURCE, _EXTENSION, _IMPORT, _MEMORY_MODEL, _ENTRY, _CAPABILITY, _FUNCTION = 3, 10, 11, 14, 15, 17, 54
_OF_USE = {_SOURCE, _EXTENSION, _IMPORT, _MEMORY_MODEL, _ENTRY, _CAPABILITY}
_LANGUAGES = {0: "unknown", 1: "ESSL", 2: "GLSL", 3: "OpenCL C", 4: "OpenCL C++", 5: "HLSL", 6: "C++ for OpenCL"}
_MODELS = {0: "Vertex", 4: "Fragment", 5: "GLCompute", 6: "Kernel"}
_ADDRESSING = {0: "Logical", 1: "Physical32", 2: "Physical64", 5348: "PhysicalStorageBuffer64"}
_MEMORY = {0: "Simple", 1: "GLSL450", 2: "OpenCL", 3: "Vulkan"}
_CAPABILITIES = {
    0: "Matrix",
    1: "Shader",
    4: "Addresses",
    5: "Linkage",
    6: "Kernel",
    7: "Vector16",
    8: "Float16Buffer",
    9: "Float16",
    10: "Float64",
    11: "Int64",
    12: "Int64Atomics",
    13: "ImageBasic",
    14: "ImageReadWrite",
    15: "ImageMipmap",
    17: "Pipes",
    18: "Groups",
    19: "DeviceEnqueue",
    20: "LiteralSampler",
    22: "Int16",
    38: "GenericPointer",
    39: "Int8",
    43: "Sampled1D",
    44: "Image1D",
    46: "SampledBuffer",
    47: "ImageBuffer",
    58: "SubgroupDispatch",
    61: "GroupNonUniform",
}


def _sniff(view: memoryview) -> bool:
    return len(view) >= 20 and int.from_bytes(view[:4], "little") in (_MAGIC, 0x03022307)


def _read(view: memoryview, notes: Notes) -> None:
    little = int.from_bytes(view[:4], "little") == _MAGIC
    cursor = Cursor(view, "the SPIR-V module", 4, "<" if little else ">")
    version, generator, bound, _ = cursor.numbers("IIII")
    notes.fact("version", f"{version >> 16 & 255}.{version >> 8 & 255}")
    tool = generator >> 16
    notes.fact("generator", f"{_GENERATORS.get(tool, f'tool {tool}')} ({generator & 0xFFFF})")
    notes.fact("ids", bound)
    notes.fact("byte order", "little-endian" if little else "big-endian")
    found: dict[str, list[str]] = {"capabilities": [], "extensions": [], "imports": [], "entry points": []}
    try:
        while cursor.left:
            notes.spend()
            begin = cursor.offset
            word = cursor.u32()
            words, op = word >> 16, word & 0xFFFF
            if words == 0:
                raise damaged(cursor.what, begin, "an instruction of no words")
            if op == _FUNCTION:
                break
            data = cursor.take(4 * (words - 1), "an instruction")
            if op in _OF_USE:
                _instruction(op, Cursor(data, f"{cursor.what}, instruction {op}", 0, cursor.order), found, notes)
    finally:
        for label, values in found.items():
            notes.fact(label, values)


def _instruction(op: int, operands: Cursor, found: dict[str, list[str]], notes: Notes) -> None:
    if op == _CAPABILITY:
        number = operands.u32()
        found["capabilities"].append(_CAPABILITIES.get(number, f"capability {number}"))
    elif op == _EXTENSION:
        found["extensions"].append(_text(operands))
    elif op == _IMPORT:
        operands.u32()
        found["imports"].append(_text(operands))
    elif op == _ENTRY:
        model, _ = operands.numbers("II")
        found["entry points"].append(f"{_text(operands)} ({_MODELS.get(model, f'model {model}')})")
    elif op == _MEMORY_MODEL:
        addressing, memory = operands.numbers("II")
        notes.fact("addressing", _ADDRESSING.get(addressing, str(addressing)))
        notes.fact("memory model", _MEMORY.get(memory, str(memory)))
    elif op == _SOURCE:
        language, version = operands.numbers("II")
        notes.fact("source language", f"{_LANGUAGES.get(language, f'language {language}')} {version}")


def _text(operands: Cursor) -> str:
    """A string literal: characters from the low byte of each word up, ended by a zero byte."""
    data = bytes(operands.take(operands.left))
    if operands.order == ">":
        data = b"".join(data[i : i + 4][::-1] for i in range(0, len(data), 4))
    return printable(data.partition(b"\0")[0])


FORMAT = Format("spirv", "SPIR-V module", _sniff, _read)
