"""LLVM bitcode, raw or in its wrapper: who made it, for which target, and its kernels.

Read are the identification block, the records of the module itself (triple, source, functions) and the table of
names; every other block is skipped by its length.  Source: https://llvm.org/docs/BitCodeFormat.html
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mace_cl.foreign.notes import Cursor, Format, Notes, printable
from mace_cl.wire import damaged

__all__ = ["FORMAT", "MAGIC"]

MAGIC = b"BC\xc0\xde"
_WRAPPER = b"\xde\xc0\x17\x0b"
_WHAT = "the bitcode"

_INFO, _MODULE, _IDENTIFICATION, _SYMTAB_OLD, _STRTAB = 0, 8, 13, 14, 23
_KERNEL_CONVENTIONS = {71: "PTX kernel", 76: "SPIR kernel", 91: "AMDGPU kernel"}
_CHAR6 = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"
_FIXED, _VBR, _ARRAY, _CHAR, _BLOB = 1, 2, 3, 4, 5

Abbreviation = list[tuple[int, int]]
"""Encoding and number of each operand; encoding 0 is a literal."""


class _Bits:
    """Reads bits, lowest first, up to ``end`` (in bits)."""

    def __init__(self, view: memoryview, spend: Callable[[], None]) -> None:
        self.view, self.position, self.end, self.spend = view, 0, 8 * len(view), spend

    def fixed(self, width: int) -> int:
        """A number of ``width`` bits, at most 64."""
        self.spend()
        if width > 64 or self.position + width > self.end:
            raise damaged(_WHAT, self.position // 8, f"{width} bits do not fit what is left")
        first = self.position >> 3
        word = int.from_bytes(self.view[first : first + 9], "little") >> (self.position & 7)
        self.position += width
        return word & ((1 << width) - 1)

    def vbr(self, width: int) -> int:
        """A number in groups of ``width`` bits, the highest of each telling whether another follows."""
        value = shift = 0
        high = 1 << (width - 1)
        while True:
            group = self.fixed(width)
            value |= (group & (high - 1)) << shift
            if not group & high:
                return value
            shift += width - 1
            if shift > 63:
                raise damaged(_WHAT, self.position // 8, "a number has more than 64 bits")

    def align(self) -> None:
        """Go on at the next word of 32 bits."""
        self.position = -(-self.position // 32) * 32


@dataclass
class _Module:
    """What is gathered."""

    functions: list[list[int]] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)
    version: int = 0
    values: int = 0
    numbers: list[int] = field(default_factory=list)
    strings: memoryview = field(default_factory=lambda: memoryview(b""))


def _sniff(view: memoryview) -> bool:
    return len(view) >= 8 and bytes(view[:4]) in (MAGIC, _WRAPPER)


def _read(view: memoryview, notes: Notes) -> None:
    if view[:4] == _WRAPPER:
        cursor = Cursor(view, "the bitcode's wrapper", 4)
        _, offset, size, cpu = cursor.numbers("IIII")
        notes.fact("wrapper", f"{size} bytes from byte {offset}, CPU type {cpu:#x}")
        if offset + size > len(view) or view[offset : offset + 4] != MAGIC:
            raise damaged("the bitcode's wrapper", 8, f"{size} bytes of bitcode from byte {offset} are not there")
        view = view[offset : offset + size]
    module = _Module()
    bits = _Bits(view, notes.spend)
    bits.position = 32
    infos: dict[int, list[Abbreviation]] = {}
    try:
        while bits.end - bits.position >= 64 and bits.fixed(2) == 1:
            _block(bits, module, infos, notes)
    finally:
        _tell(module, notes)


def _enter(bits: _Bits) -> tuple[int, int, int]:
    """Reads a block's head: its number, the width of its abbreviations, where it ends in bits."""
    number, width = bits.vbr(8), bits.vbr(4)
    bits.align()
    words = bits.fixed(32)
    end = bits.position + 32 * words
    if end > bits.end or not 2 <= width <= 32:
        raise damaged(_WHAT, bits.position // 8, f"block {number} of {words} words does not fit")
    return number, width, end


def _block(bits: _Bits, module: _Module, infos: dict[int, list[Abbreviation]], notes: Notes) -> None:
    """One outermost block; of blocks inside it only those that are of use, which have no further ones inside."""
    number, width, end = _enter(bits)
    if number not in (_MODULE, _IDENTIFICATION, _STRTAB):
        bits.position = end
        return
    stack = [(number, width, end, list(infos.get(number, [])))]
    target = -1
    while stack:
        number, width, end, abbreviations = stack[-1]
        if bits.position >= end:
            stack.pop()
            continue
        code = bits.fixed(width)
        if code == 0:
            bits.position = end
        elif code == 1:
            inner, inner_width, inner_end = _enter(bits)
            if inner_end > end:
                raise damaged(_WHAT, bits.position // 8, f"block {inner} ends beyond the one around it")
            if number == _MODULE and inner in (_INFO, _SYMTAB_OLD):
                stack.append((inner, inner_width, inner_end, list(infos.get(inner, []))))
            else:
                bits.position = inner_end
        elif code == 2:
            (infos.setdefault(target, []) if number == _INFO else abbreviations).append(_abbreviation(bits))
        else:
            record, blob = _record(bits, code, abbreviations)
            if number == _INFO and record[0] == 1 and len(record) > 1:
                target = record[1]
            _gather(module, number, record, blob, notes)


def _abbreviation(bits: _Bits) -> Abbreviation:
    operands: Abbreviation = []
    for _ in range(bits.vbr(5)):
        if bits.fixed(1):
            operands.append((0, bits.vbr(8)))
            continue
        encoding = bits.fixed(3)
        width = bits.vbr(5) if encoding in (_FIXED, _VBR) else 0
        if not 1 <= encoding <= 5 or width > 64 or (encoding == _VBR and width == 1):
            raise damaged(_WHAT, bits.position // 8, f"an abbreviation with the encoding {encoding} of {width} bits")
        operands.append((encoding, width))
    return operands


def _record(bits: _Bits, code: int, abbreviations: list[Abbreviation]) -> tuple[list[int], memoryview]:
    """A record: its code and operands; and its blob, if it has one."""
    if code == 3:
        return [bits.vbr(6), *(bits.vbr(6) for _ in range(bits.vbr(6)))], memoryview(b"")
    if code - 4 >= len(abbreviations):
        raise damaged(_WHAT, bits.position // 8, f"abbreviation {code} was not defined")
    record: list[int] = []
    blob = memoryview(b"")
    operands = iter(abbreviations[code - 4])
    for encoding, number in operands:
        if encoding == _ARRAY:
            element = next(operands, (0, 0))
            record += [_scalar(bits, *element) for _ in range(bits.vbr(6))]
        elif encoding == _BLOB:
            length = bits.vbr(6)
            bits.align()
            begin = bits.position // 8
            bits.position += 8 * length
            bits.align()
            if bits.position > bits.end:
                raise damaged(_WHAT, begin, f"{length} bytes do not fit what is left")
            blob = bits.view[begin : begin + length]
        else:
            record.append(_scalar(bits, encoding, number))
    return record or [-1], blob


def _scalar(bits: _Bits, encoding: int, number: int) -> int:
    if encoding == 0 or (number == 0 and encoding != _CHAR):
        bits.spend()
        return number if encoding == 0 else 0
    if encoding == _CHAR:
        return ord(_CHAR6[bits.fixed(6)])
    return bits.fixed(number) if encoding == _FIXED else bits.vbr(number)


def _gather(module: _Module, block: int, record: list[int], blob: memoryview, notes: Notes) -> None:
    code, operands = record[0], record[1:]
    if block == _IDENTIFICATION and code == 1:
        notes.fact("producer", _text(operands))
    elif block == _STRTAB and code == 1:
        module.strings = blob
    elif block == _SYMTAB_OLD and code in (1, 3) and operands:
        module.names[operands[0]] = _text(operands[1 if code == 1 else 2 :])
    elif block == _MODULE:
        if code == 1 and operands:
            module.version = operands[0]
        elif code == 2:
            notes.fact("target", _text(operands))
        elif code == 16:
            notes.fact("source file", _text(operands))
        elif code == 8:
            module.functions.append(operands)
            module.numbers.append(module.values)
        module.values += code in (7, 8, 9, 14)


def _text(codes: list[int]) -> str:
    return printable(bytes(code & 255 for code in codes[:257]))


def _tell(module: _Module, notes: Notes) -> None:
    skip = 2 if module.version >= 2 else 0
    kernels, defined = [], 0
    for operands, value in zip(module.functions, module.numbers, strict=True):
        if len(operands) < skip + 3 or operands[skip + 2]:
            continue
        defined += 1
        if operands[skip + 1] in _KERNEL_CONVENTIONS:
            name = module.names.get(value, "?")
            if skip:
                name = printable(module.strings[operands[0] : operands[0] + min(operands[1], 1024)])
            kernels.append(name)
    notes.fact("kernels", kernels)
    notes.fact("functions", defined)
    notes.fact("functions declared only", len(module.functions) - defined)


FORMAT = Format("llvm-bitcode", "LLVM bitcode", _sniff, _read)
