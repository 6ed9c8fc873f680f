"""Small files of every format that `mace_cl.foreign` knows, made here from the formats' descriptions."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from mace_cl.foreign.mace_names import obfuscate

GOLDEN = Path(__file__).parent / "golden" / "foreign"
"""``twice*``: one kernel (and for ``twice.bc`` two) compiled by ptxas 12.9 and 13, and by Intel's CPU runtime."""

PLATFORM_KEY = "mace_opencl_precompiled_platform_info_key"
DEVICE_KEY = "mace_opencl_precompiled_device_name_key"
ADRENO_VERSION = (
    "OpenCL 2.0 QUALCOMM build: commit #3dad7f8ed7 changeid #I593c16c433 Date: 10/01/21 Fri Local Branch:  "
    "Remote Branch: refs/tags/AU_LINUX_ANDROID_LA.UM.9.1"
)

PTX = b"""// Compiler Build ID: CL-1

.version 7.8
.target sm_80, texmode_independent
.address_size 64

.func (.param .b32 result) helper(
)
.visible .entry twice(
\t.param .u64 .ptr .global .align 4 twice_param_0
)
{
\tret;
}
.entry add_bias( .param .u64 a ) { ret; }
"""


def varint(number: int) -> bytes:
    out = b""
    while number >= 128:
        out += bytes([number % 128 + 128])
        number //= 128
    return out + bytes([number])


def field(number: int, value: int | bytes | str) -> bytes:
    """A protobuf field: a number as varint, text and bytes with their length."""
    if isinstance(value, int):
        return varint(number * 8) + varint(value % 2**64)
    data = value.encode() if isinstance(value, str) else value
    return varint(number * 8 + 2) + varint(len(data)) + data


def mace_protobuf(pairs: Mapping[str, bytes | Sequence[int]]) -> bytes:
    """MACE's file since March 2021, pairs in the order given."""
    body = b""
    for key, value in pairs.items():
        inner = field(1, key)
        inner += field(2, value) if isinstance(value, bytes) else b"".join(field(3, number) for number in value)
        body += field(1, inner)
    return body + struct.pack("<I", zlib.crc32(body))


def mace_counted(pairs: Mapping[str, bytes | Sequence[int]]) -> bytes:
    """MACE's file before, pairs in the order given."""
    out = struct.pack("<q", len(pairs))
    for key, value in pairs.items():
        data = value if isinstance(value, bytes) else struct.pack(f"<{len(value)}I", *value)
        out += struct.pack("<i", len(key)) + key.encode() + struct.pack("<i", len(data)) + data
    return out


def mace_programs(binary: bytes = b"a driver's binary") -> dict[str, bytes]:
    """The pairs of a compiled-program file as official builds write it for an Adreno, in the order of their keys."""
    keys = [
        f"batch_norm -DCMD_DATA_TYPE=f -DDATA_TYPE=float -DFOLDED_CONSTANT -DNON_UNIFORM_WORK_GROUP -DUSE_RELU "
        f"-Dbatch_norm={obfuscate('batch_norm')}",
        f"conv_2d_3x3  -DCMD_DATA_TYPE=f -DDATA_TYPE=float -DNON_UNIFORM_WORK_GROUP "
        f"-Dconv_2d_3x3={obfuscate('conv_2d_3x3')}",
        "eltwise -DELTWISE_TYPE=2 -DINPUT_NUM=2 -DNEW_ONE=3 -Deltwise=eltwise",
    ]
    pairs = dict.fromkeys(keys, binary)
    pairs[DEVICE_KEY] = b"Adreno(TM) 640"
    pairs[PLATFORM_KEY] = f"QUALCOMM Snapdragon(TM), FULL_PROFILE, {ADRENO_VERSION}, v1.0.4-0-g1234567".encode()
    pairs[f"program_hash_ {keys[0]}"] = b"946c9681f9b74d35d186"
    return dict(sorted(pairs.items()))


MACE_TUNING: dict[str, Sequence[int]] = {
    obfuscate("conv2d_3x3_opencl_kernel_1_32_32_16"): (4, 8, 4, 0),
    "MACE_OPENCL_QUEUE_WINDOW_SIZE": (0,),
    "filter_buffer_to_image_[8, 3, 3, 3]": (16, 64, 32),
    obfuscate("pooling_opencl_kernel__1_7_7_64"): (1, 7, 16, 0),
}


def mace_net(names: Sequence[str] = ("conv1", "relu1"), data_offset: int = 0) -> bytes:
    """A NetDef: convolution and activation, two constants of float16 in ``.data``."""
    ops = b"".join(
        field(
            1,
            field(1, "input") + field(2, f"{name}:0") + field(3, name) + field(4, kind)
            + field(6, field(1, "T") + field(3, 3)) + field(7, field(1, 1) + field(1, 8)),
        )
        for name, kind in zip(names, ("Conv2D", "Activation"), strict=True)
    )  # fmt: skip
    weights = field(1, 8) + field(1, 3) + field(2, 3) + field(5, f"{names[0]}:0") + field(6, 0) + field(7, 24)
    bias = field(1, 8) + field(2, 4) + field(5, f"{names[1]}:0") + field(6, 48) + field(7, 8)
    port = field(1, "input") + b"".join(field(3, size) for size in (1, 32, 32, 3)) + field(5, 1) + field(6, 1)
    arguments = field(2, field(1, "runtime_type") + field(3, 2)) + field(2, field(1, "opencl_mem_type") + field(3, 2))
    return (
        ops + arguments + field(3, weights) + field(3, bias) + field(4, 3) + field(5, "default_graph")
        + field(6, data_offset) + field(7, 80) + field(100, port) + field(101, port)
    )  # fmt: skip


def mace_multi_net(*nets: bytes) -> bytes:
    return field(1, 1) + b"".join(field(3, net) for net in nets) + field(100, "input") + field(101, "relu1")


def spirv(order: str = "<") -> bytes:
    """A module with one empty OpenCL kernel, ``twice``, that drivers accept."""

    def text(words: str) -> list[int]:
        data = words.encode() + bytes(4 - len(words) % 4)
        return [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]

    instructions = [
        (17, [6]),  # OpCapability Kernel
        (17, [4]),  # OpCapability Addresses
        (10, text("SPV_KHR_no_integer_wrap_decoration")),
        (11, [1, *text("OpenCL.std")]),
        (14, [2, 2]),  # OpMemoryModel Physical64 OpenCL
        (15, [6, 4, *text("twice")]),  # OpEntryPoint Kernel %4
        (3, [3, 102000]),  # OpSource OpenCL C 1.2
        (19, [2]),  # OpTypeVoid
        (33, [3, 2]),  # OpTypeFunction
        (54, [2, 4, 0, 3]),  # OpFunction
        (248, [5]),
        (253, []),
        (56, []),
    ]
    words = [0x07230203, 0x00010000, 6 << 16 | 14, 6, 0]
    for code, operands in instructions:
        words += [(len(operands) + 1) << 16 | code, *operands]
    return struct.pack(f"{order}{len(words)}I", *words)


def poclbin(version: int, files: Mapping[str, bytes], flags: int = 0) -> bytes:
    """A PoCL binary with the kernel ``twice``: ``/program.bc`` in the root, the other ``files`` in the kernel."""

    def one(path: str, data: bytes) -> bytes:
        return struct.pack("<I", len(path)) + path.encode() + struct.pack("<I", len(data)) + data

    kernel_files = b"".join(one(path, data) for path, data in files.items())
    rest = struct.pack("<II", 1, 0) + b"arguments".ljust(40)
    size = 20 + 4 + 5 + len(rest) + len(kernel_files)
    kernel = struct.pack("<QQI", size, len(kernel_files), 40) + struct.pack("<I", 5) + b"twice" + rest + kernel_files
    root = one("/program.bc", (GOLDEN / "twice.bc").read_bytes())
    head = b"poclbin\0" + struct.pack("<QIIQ", 0x1234, version, 1, flags)
    if version >= 9:
        head += struct.pack("<I", 1)
    head += b"AB/CDEF".ljust(41, b"\0")
    if version >= 10 and flags & 2:
        head += struct.pack("<Q", 64)
    if version >= 9:
        head += struct.pack("<Q", len(root))
    return head + root + kernel


def elf(sections: Sequence[tuple[str, int, bytes]], machine: int = 62, bits: int = 64, order: str = "<") -> bytes:
    """An ELF file with these sections (name, type, content); one named ``.symtab`` is tied to ``.strtab``."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name, _, _ in sections) + b".shstrtab\0"
    everything = [("", 0, b""), *sections, (".shstrtab", 3, names)]
    head_size, address = (64, "Q") if bits == 64 else (52, "I")
    contents = b"".join(data for _, _, data in everything)
    table, offset, name_at = b"", head_size, 0
    links = {name: index for index, (name, _, _) in enumerate(everything)}
    for name, kind, data in everything:
        name_at = names.index(name.encode() + b"\0") if name else 0
        link = links.get(".strtab", 0) if name == ".symtab" else 0
        table += struct.pack(f"{order}II4{address}II", name_at, kind, 0, 0, offset, len(data), link, 0)
        table += struct.pack(f"{order}2{address}", 1, 0)
        offset += len(data)
    entry = 64 if bits == 64 else 40
    head = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1, 0, 7]) + bytes(7)
    head += struct.pack(f"{order}HHI3{address}I", 1, machine, 1, 0, 0, head_size + len(contents), 0)
    head += struct.pack(f"{order}6H", head_size, 0, 0, entry, len(everything), len(everything) - 1)
    return head + contents + table


class BitWriter:
    """Writes LLVM's bitstream: enough for a module as LLVM before 5.0 wrote it."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def fixed(self, value: int, width: int) -> None:
        self.bits += [value >> bit & 1 for bit in range(width)]

    def vbr(self, value: int, width: int) -> None:
        high = 1 << (width - 1)
        while value >= high:
            self.fixed(value & (high - 1) | high, width)
            value >>= width - 1
        self.fixed(value, width)

    def align(self) -> None:
        self.bits += [0] * (-len(self.bits) % 32)

    def record(self, code: int, operands: Sequence[int], width: int) -> None:
        self.fixed(3, width)
        self.vbr(code, 6)
        self.vbr(len(operands), 6)
        for operand in operands:
            self.vbr(operand, 6)

    def enter(self, number: int, width: int, outer: int) -> int:
        self.fixed(1, outer)
        self.vbr(number, 8)
        self.vbr(width, 4)
        self.align()
        self.fixed(0, 32)
        return len(self.bits)

    def leave(self, begin: int, width: int) -> None:
        self.fixed(0, width)
        self.align()
        words = (len(self.bits) - begin) // 32
        self.bits[begin - 32 : begin] = [words >> bit & 1 for bit in range(32)]

    def bytes(self) -> bytes:
        return bytes(
            sum(bit << place for place, bit in enumerate(self.bits[i : i + 8])) for i in range(0, len(self.bits), 8)
        )


def old_bitcode() -> bytes:
    """A module of version 1, its names in a table of its own: kernel ``twice``, function ``helper``, one declared."""
    writer = BitWriter()
    writer.fixed(int.from_bytes(b"BC\xc0\xde", "little"), 32)
    module = writer.enter(8, 3, 2)
    writer.record(1, [1], 3)
    writer.record(2, list(b"spir64-unknown-unknown"), 3)
    writer.record(7, [0, 0, 0], 3)  # a global variable: value 0
    for convention, declared in ((76, 0), (75, 0), (75, 1)):
        writer.record(8, [0, convention, declared, 0], 3)
    skipped = writer.enter(15, 3, 3)  # metadata
    writer.record(1, [5, 6, 7], 3)
    writer.leave(skipped, 3)
    names = writer.enter(14, 4, 3)
    # an abbreviation of its own: literal 1, value in 8 bits, name in characters of 6 bits
    writer.fixed(2, 4)
    writer.vbr(4, 5)
    for literal, value in ((1, 1), (0, 8)):
        writer.fixed(literal, 1)
        if literal:
            writer.vbr(value, 8)
        else:
            writer.fixed(1, 3)
            writer.vbr(value, 5)
    writer.fixed(0, 1)
    writer.fixed(3, 3)
    writer.fixed(0, 1)
    writer.fixed(4, 3)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._"
    for value, name in ((1, "twice"), (2, "helper")):
        writer.fixed(4, 4)
        writer.fixed(value, 8)
        writer.vbr(len(name), 6)
        for character in name:
            writer.fixed(alphabet.index(character), 6)
    writer.leave(names, 4)
    writer.leave(module, 3)
    return writer.bytes()


def wrapped(bitcode: bytes) -> bytes:
    return struct.pack("<5I", 0x0B17C0DE, 0, 20, len(bitcode), 0x01000007) + bitcode


def mali(bitcode: bytes) -> bytes:
    return b"CLCC" + struct.pack("<7I", *range(7)) + b"\x11" * 100 + bitcode


def adreno() -> bytes:
    data = bytearray(0x800)
    for offset, value in (
        (0x34, 0x500), (0xC0, 0x600), (0x100, 64), (0x110, 0x180),
        (0x500 + 0x14, 12), (0x500 + 0x18, 3), (0x180 + 0xC8, 16), (0x180 + 0xD8, 1024),
    ):  # fmt: skip
        struct.pack_into("<I", data, offset, value)
    data[0x180 + 0x158 : 0x180 + 0x160] = b"conv_2d\0"
    return bytes(data)


def rusticl(module: bytes, device: bytes | None = b"llvmpipe (LLVM 15)") -> bytes:
    if device is None:
        return struct.pack("<III", 1, len(module), 4) + module
    return b"rusticl\0" + struct.pack("<IIII", 1, len(device), len(module), 4) + device + module


def every_sample() -> dict[str, bytes]:
    """One file of each kind, by a name for it."""
    bitcode = (GOLDEN / "twice.bc").read_bytes()
    pairs = mace_programs(bitcode)
    return {
        "mace-programs": mace_protobuf(pairs),
        "mace-programs-counted": mace_counted(pairs),
        "mace-tuning": mace_protobuf(MACE_TUNING),
        "mace-tuning-counted": mace_counted(MACE_TUNING),
        "mace-graph": mace_net(),
        "mace-graph-multi": mace_multi_net(mace_net(), mace_net(data_offset=80)),
        "spirv": spirv(),
        "llvm-bitcode": bitcode,
        "llvm-bitcode-old": old_bitcode(),
        "llvm-bitcode-wrapped": wrapped(bitcode),
        "pocl-8": poclbin(8, {"/twice/twice.so": elf([(".text", 1, b"code")])}),
        "pocl-11": poclbin(11, {"/twice/twice.so": elf([(".text", 1, b"code")])}, flags=2),
        "cubin": (GOLDEN / "twice-cuda12.cubin").read_bytes(),
        "elf-32": elf([(".comment", 1, b"a compiler\0")], bits=32, order=">"),
        "mali": mali(bitcode),
        "adreno": adreno(),
        "rusticl": rusticl(spirv()),
        "ptx": PTX,
    }
