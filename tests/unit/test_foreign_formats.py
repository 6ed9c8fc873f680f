"""What is told of each format, and that no bytes whatever do harm."""

from __future__ import annotations

import json
import re
import struct
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from io import BytesIO

import numpy as np
import onnx
import onnx.helper
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foreign_samples import (
    GOLDEN,
    PTX,
    adreno,
    elf,
    every_sample,
    field,
    mace_protobuf,
    mali,
    old_bitcode,
    poclbin,
    rusticl,
    spirv,
    varint,
    wrapped,
)
from mace_cl.errors import DamagedError
from mace_cl.foreign import Description, recognise
from mace_cl.foreign.notes import Budget, Cursor, Notes, printable
from mace_cl.foreign.recognise import FORMATS
from mace_cl.wire import fields
from mace_cl.wire import varint as least_varint

BITCODE = (GOLDEN / "twice.bc").read_bytes()
SAMPLES = every_sample()


def part_kinds(seen: Description) -> dict[str, str | None]:
    return {part.name: part.content.kind if part.content else None for part in seen.parts}


# each format


@pytest.mark.parametrize("version", [6, 7, 8, 9, 10, 11])
@pytest.mark.parametrize("flags", [0, 2])
def test_pocl(version: int, flags: int) -> None:
    library = elf([(".text", 1, b"code")])
    data = poclbin(version, {"/twice/0-0-0/twice.so": library, "/twice/empty": b""}, flags)
    seen = recognise(data)
    assert (seen.kind, seen.problems) == ("pocl", ())
    assert (seen.fact("version"), seen.fact("device hash")) == (version, "0000000000001234")
    assert (seen.fact("kernels"), seen.fact("program hash")) == (("twice",), "AB/CDEF")
    assert part_kinds(seen) == {
        "/program.bc": "llvm-bitcode",
        "kernel twice": None,
        "twice: /twice/0-0-0/twice.so": "elf",
        "twice: /twice/empty": "empty",
    }
    found = next(part for part in seen.parts if part.name.endswith(".so"))
    assert data[found.offset : found.offset + found.length] == library


def test_pocl_of_a_version_that_is_not_known() -> None:
    seen = recognise(b"poclbin\0" + struct.pack("<QIIQ", 1, 99, 1, 0) + bytes(80))
    assert (seen.kind, seen.fact("not read")) == ("pocl", "version 99; known are 6 to 11")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[:-3], "with files of 24 does not fit"),
        (lambda data: data + b"??", "2 bytes belong to nothing"),
        (lambda data: data[:99], "the file /program.bc of"),
        (lambda data: data.replace(b"\x0a\0\0\0/twice/lib", b"\x5a\0\0\0/twice/lib"), "path"),
        (lambda data: data[:-10] + struct.pack("<I", 2) + data[-6:], "4 bytes belong|beyond|path"),
    ],
)
def test_damaged_pocl_binaries_tell_what_they_can(damage: Callable[[bytes], bytes], problem: str) -> None:
    seen = recognise(damage(poclbin(8, {"/twice/lib": b"machine"[:6]})))
    assert (seen.kind, seen.fact("version")) == ("pocl", 8)
    assert re.search(problem, seen.problems[0])


def test_rusticl() -> None:
    new, old = recognise(rusticl(spirv())), recognise(rusticl(spirv(), None))
    assert (new.kind, new.fact("device"), new.fact("program type")) == ("rusticl", "llvmpipe (LLVM 15)", "executable")
    assert (old.kind, old.fact("device"), old.fact("version")) == ("rusticl", None, 1)
    assert part_kinds(new) == part_kinds(old) == {"program": "spirv"}
    assert recognise(rusticl(spirv())[:-4]).problems


@pytest.mark.parametrize("order", ["<", ">"])
def test_spirv(order: str) -> None:
    seen = recognise(spirv(order))
    assert (seen.kind, seen.problems, seen.parts) == ("spirv", (), ())
    assert seen.fact("version") == "1.0"
    assert seen.fact("generator") == "Khronos LLVM/SPIR-V Translator (14)"
    assert seen.fact("capabilities") == ("Kernel", "Addresses")
    assert seen.fact("entry points") == ("twice (Kernel)",)
    assert seen.fact("extensions") == ("SPV_KHR_no_integer_wrap_decoration",)
    assert seen.fact("imports") == ("OpenCL.std",)
    assert (seen.fact("addressing"), seen.fact("memory model")) == ("Physical64", "OpenCL")
    assert seen.fact("source language") == "OpenCL C 102000"
    assert seen.fact("byte order") == {"<": "little-endian", ">": "big-endian"}[order]


def test_damaged_spirv() -> None:
    assert "no words" in recognise(spirv()[:20] + bytes(8)).problems[0]
    cut = recognise(spirv()[:50])
    assert "ends beyond" in cut.problems[0]
    assert cut.fact("capabilities") == ("Kernel", "Addresses")


def test_bitcode() -> None:
    seen = recognise(BITCODE)
    assert (seen.kind, seen.problems) == ("llvm-bitcode", ())
    assert seen.fact("producer") == "Intel.oneAPI.DPCPP.Compiler_2026.2.0"
    assert seen.fact("target") == "spir64-unknown-unknown"
    assert seen.fact("kernels") == ("twice", "add_bias")
    assert (seen.fact("functions"), seen.fact("functions declared only")) == (4, 3)


def test_bitcode_in_its_wrapper() -> None:
    seen = recognise(wrapped(BITCODE) + b"padding")
    assert (seen.kind, seen.problems, seen.fact("kernels")) == ("llvm-bitcode", (), ("twice", "add_bias"))
    assert seen.fact("wrapper") == f"{len(BITCODE)} bytes from byte 20, CPU type 0x1000007"
    assert "are not there" in recognise(wrapped(BITCODE)[:-4]).problems[0]


def test_bitcode_of_before_llvm_5() -> None:
    seen = recognise(old_bitcode())
    assert (seen.kind, seen.problems) == ("llvm-bitcode", ())
    assert (seen.fact("target"), seen.fact("kernels")) == ("spir64-unknown-unknown", ("twice",))
    assert (seen.fact("functions"), seen.fact("functions declared only")) == (2, 1)


def test_truncated_bitcode() -> None:
    seen = recognise(BITCODE[: len(BITCODE) // 2])
    assert seen.fact("producer") == "Intel.oneAPI.DPCPP.Compiler_2026.2.0"
    assert "does not fit" in seen.problems[0]


@pytest.mark.parametrize(
    ("name", "architecture", "toolkit"), [("twice-cuda12", "sm_80", "12.9"), ("twice-cuda13", "sm_90", None)]
)
def test_cubin(name: str, architecture: str, toolkit: str | None) -> None:
    seen = recognise((GOLDEN / f"{name}.cubin").read_bytes())
    assert (seen.kind, seen.title, seen.problems) == ("cubin", "CUDA binary (ELF)", ())
    assert (seen.fact("architecture"), seen.fact("CUDA toolkit")) == (architecture, toolkit)
    assert seen.fact("kernels") == ("twice",)


def test_ptx() -> None:
    seen = recognise(PTX)
    assert (seen.kind, seen.problems) == ("ptx", ())
    assert (seen.fact("PTX version"), seen.fact("target")) == ("7.8", "sm_80, texmode_independent")
    assert (seen.fact("address bits"), seen.fact("compiler")) == ("64", ("CL-1",))
    assert (seen.fact("kernels"), seen.fact("functions")) == (("twice", "add_bias"), ("helper",))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_elf(bits: int, order: str) -> None:
    names = b"\0twice\0_pocl_kernel_add_workgroup\0missing\0"
    rows = [(1, 0x12, 1), (7, 0x12, 1), (names.index(b"missing"), 0x12, 0)]
    if bits == 64:
        symbols = b"".join(struct.pack(f"{order}IBBHQQ", name, info, 0, index, 0, 0) for name, info, index in rows)
    else:
        symbols = b"".join(struct.pack(f"{order}IIIBBH", name, 0, 0, info, 0, index) for name, info, index in rows)
    sections = [(".symtab", 2, symbols), (".strtab", 3, names), (".comment", 1, b"\0clang 14\0")]
    seen = recognise(elf(sections, bits=bits, order=order))
    assert (seen.kind, seen.problems) == ("elf", ())
    assert (seen.fact("machine"), seen.fact("bits"), seen.fact("type")) == ("x86-64", bits, "relocatable")
    assert seen.fact("kernels") == ("add",)
    assert seen.fact(".comment") == ("clang 14",)
    assert [part.name for part in seen.parts] == [".symtab", ".strtab", ".comment", ".shstrtab"]
    plain = [(name, kind, data.replace(b"_pocl_", b"_plain")) for name, kind, data in sections]
    assert recognise(elf(plain, bits=bits, order=order)).fact("functions") == ("_plainkernel_add_workgroup", "twice")


def test_elf_of_intel_s_cpu_runtime() -> None:
    data = elf([(".ocl.ir", 0, BITCODE), (".ocl.meta", 0, b"?"), (".ocl.obj", 0, elf([]))])
    seen = recognise(data)
    assert (seen.kind, seen.fact("holds")) == ("intel-cpu", (".ocl.ir", ".ocl.meta", ".ocl.obj"))
    kinds = part_kinds(seen)
    assert (kinds[".ocl.ir"], kinds[".ocl.obj"], kinds[".ocl.meta"]) == ("llvm-bitcode", "elf", None)


def test_elf_of_gpus() -> None:
    intel = recognise(elf([(".text.twice", 1, b"code"), (".ze_info", 1, b"---")], machine=205))
    assert (intel.kind, intel.fact("kernels")) == ("zebin", ("twice",))
    symbols = struct.pack("<IBBHQQ", 1, 0x11, 0, 1, 0, 0)
    amd = recognise(elf([(".symtab", 2, symbols), (".strtab", 3, b"\0twice.kd\0")], machine=224))
    assert (amd.kind, amd.fact("kernels")) == ("amdgpu", ("twice",))


def test_elf_that_contradicts_itself() -> None:
    assert "class 9" in recognise(b"\x7fELF\x09" + bytes(60)).problems[0]
    assert "ends beyond" in recognise(elf([(".text", 1, b"code")])[:-20]).problems[0]
    data = bytearray(elf([(".text", 1, b"code")]))
    table = struct.unpack_from("<Q", data, 40)[0]
    struct.pack_into("<Q", data, table + 64 + 32, 1 << 60)
    seen = recognise(bytes(data))
    assert "section .text of 1152921504606846976 bytes" in seen.problems[0]
    assert [part.name for part in seen.parts] == [".shstrtab"]


def test_mali() -> None:
    seen = recognise(mali(BITCODE))
    assert (seen.kind, seen.parts[0].offset) == ("mali", 132)
    content = seen.parts[0].content
    assert content is not None
    assert content.fact("kernels") == ("twice", "add_bias")
    assert recognise(mali(b"")).fact("LLVM bitcode") == "none found"


def test_adreno() -> None:
    seen = recognise(adreno())
    assert (seen.kind, seen.fact("kernel")) == ("adreno", "conv_2d")
    assert (seen.fact("private memory"), seen.fact("shared memory")) == (16, 1024)
    assert (seen.fact("full registers"), seen.fact("half registers")) == (12, 3)
    assert (seen.parts[0].offset, seen.parts[0].length) == (0x600, 64)
    assert "not documented" in str(seen.fact("not known"))
    for offset, value in ((0xC0, 1 << 31), (0x110, 0x7F0), (0x34, 0x7FF), (0x100, 63)):
        data = bytearray(adreno())
        struct.pack_into("<I", data, offset, value)
        assert recognise(bytes(data)).kind == "unknown"


def test_models_of_others() -> None:
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [], [])
    opsets = [onnx.helper.make_opsetid("", 13), onnx.helper.make_opsetid("com.x", 1)]
    model = onnx.helper.make_model(graph, producer_name="tests", opset_imports=opsets, ir_version=8)
    seen = recognise(model.SerializeToString())
    assert (seen.kind, seen.fact("IR version"), seen.fact("producer")) == ("onnx", 8, "tests")
    assert (seen.fact("opsets"), seen.fact("operators by type")) == (("ai.onnx 13", "com.x 1"), ("Relu 1",))
    tensorflow = recognise(field(1, field(1, "conv/weights") + field(2, "Const") + field(5, field(1, "dtype"))))
    assert (tensorflow.kind, tensorflow.fact("operators")) == ("tensorflow", 1)
    caffe = recognise(field(1, "net") + field(100, field(1, "conv1") + field(2, "Convolution")))
    assert (caffe.kind, caffe.fact("name"), caffe.fact("operators by type")) == ("caffe", "net", ("Convolution 1",))


def zip_file() -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (zip_file(), "a zip archive"),
        (b"\x1c\0\0\0TFL3" + bytes(40), "a TensorFlow Lite model"),
        (b"\x89MCL\r\n\x1a\n" + bytes(60), "a compiled program of mace-cl"),
        (b"\x50\xed\x55\xba" + bytes(60), "a CUDA fat binary"),
        (b"# a net\nop {\n  input: 'x'\n}\n", "protobuf text"),
        (b'name: "net"\nlayer {\n}\n', "protobuf text"),
        (b"Dear reader,\nhello.\n", "a text file"),
    ],
)
def test_others_are_named(data: bytes, title: str) -> None:
    seen = recognise(data)
    assert (seen.kind, seen.title, seen.facts) == ("other", title, ())


def test_an_empty_file() -> None:
    assert (recognise(b"").kind, recognise(b"").title) == ("empty", "an empty file")


def test_what_is_not_known_is_said_to_be_so() -> None:
    noise = np.random.default_rng(1).integers(0, 256, 8192, np.uint8).tobytes()
    seen = recognise(b"\x00\x01" + b"a string" + b"\xff" * 6 + noise + BITCODE)
    assert (seen.kind, seen.title) == ("unknown", "not known")
    assert seen.fact("first bytes") == "00 01 61 20 73 74 72 69 6e 67 ff ff ff ff ff ff"
    assert "a string" in seen.fact("strings")  # type: ignore[operator]
    assert "7." in str(seen.fact("entropy"))
    (inside,) = seen.parts
    assert (inside.name, inside.offset) == ("LLVM bitcode at byte 8208", 8208)
    assert inside.content is not None
    assert inside.content.fact("kernels") == ("twice", "add_bias")
    assert recognise(bytes(5)).fact("entropy") == "0.00 of 8 bits per byte: zeros only"
    assert "compressed, encrypted, or numbers" in str(recognise(b"\0\xff" + noise).fact("entropy"))


def test_contents_are_looked_into_to_a_bounded_depth() -> None:
    data = BITCODE
    for _ in range(8):
        data = elf([(".ocl.obj", 0, data)])
    seen: Description | None = recognise(data)
    depth = 0
    while seen is not None:
        depth, seen = depth + 1, seen.parts[0].content
    assert depth == 5


def test_what_was_not_looked_into_is_said() -> None:
    seen = recognise(overlapping_elf(4000))
    assert seen.problems == ("too much to look at; not all parts were looked into",)
    assert any(part.content is None for part in seen.parts)


# what they share


def test_printable() -> None:
    assert printable(b"a\x1b]0;evil\x07\n\xe4\xc3\xa4") == "a\\x1b]0;evil\\x07\\n\\xe4ä"
    assert printable("x" * 300) == "x" * 256 + "…"
    assert printable("\u202e\u2066") == "\\u202e\\u2066"


def test_cursor_never_leaves_the_bytes() -> None:
    cursor = Cursor(memoryview(b"\1\0\0\0rest"), "the file")
    assert (cursor.u32(), bytes(cursor.take(4))) == (1, b"rest")
    for length in (1, -1):
        with pytest.raises(DamagedError, match="the file, byte 8"):
            cursor.take(length)
    cursor.offset = -1
    with pytest.raises(DamagedError):
        cursor.u32()


def test_steps_and_parts_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes("x", "x", Budget(2))
    notes.spend(2)
    with pytest.raises(DamagedError, match="too much to look at"):
        notes.spend()
    monkeypatch.setattr("mace_cl.foreign.notes.MAX_PARTS", 1)
    notes = Notes("x", "x")
    notes.part("a", 0, 0)
    with pytest.raises(DamagedError, match="more than 1 parts"):
        notes.part("b", 0, 0)


@given(st.integers(0, 2**64 - 1))
def test_varint(number: int) -> None:
    assert least_varint(number) == varint(number)
    (found,) = fields(memoryview(b"\x08" + varint(number)), "it")
    assert (found.number, found.uint, found.begin) == (1, number, 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x08" + b"\xff" * 10, "more than 64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        (b"\x08\xff", "ends too early"),
        (b"\x00\x00", "0 is no field number"),
        (b"\x0b", "wire type 3"),
        (b"\x0d\x00\x00", "field 1 of 4 bytes does not fit the 2 left"),
        (b"\x0a\xff\xff\xff\xff\x0f", "does not fit the 0 left"),
    ],
)
def test_what_is_no_protobuf_message(data: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        list(fields(memoryview(data), "it"))


# no bytes do harm


def check(data: bytes) -> Description:
    """Recognise, and prove what holds for every file: it ends, it can be written as JSON, parts lie inside."""
    seen = recognise(data)
    json.dumps(asdict(seen))
    todo = [(seen, len(data))]
    while todo:
        description, length = todo.pop()
        assert description.length == length
        for part in description.parts:
            assert 0 <= part.offset <= part.offset + part.length <= length
            if part.content:
                todo.append((part.content, part.length))
        texts = [description.kind, description.title, *(str(value) for _, value in description.facts)]
        assert all(text.isprintable() for text in texts), texts
    return seen


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_whole(name: str) -> None:
    seen = check(SAMPLES[name])
    assert seen.kind != "unknown"
    assert not seen.problems


@given(st.binary(max_size=2048))
def test_any_bytes(data: bytes) -> None:
    check(data)


BEGINNINGS = st.sampled_from(
    [
        b"poclbin\0",
        b"rusticl\0\1\0\0\0",
        b"\x7fELF\x02\x01\x01",
        b"BC\xc0\xde",
        b"\xde\xc0\x17\x0b",
        b"\x03\x02\x23\x07",
        b"CLCC",
        b".version 7.8\n.target sm_80\n",
        b"\x0a",
        b"\x08\x07",
        struct.pack("<qi", 3, 8) + b"conv -DX",
    ]
)


@given(BEGINNINGS, st.binary(max_size=1024))
def test_any_bytes_behind_the_beginning_of_a_format(beginning: bytes, data: bytes) -> None:
    check(beginning + data)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(sorted(SAMPLES)), st.data())
def test_damaged_samples(name: str, data: st.DataObject) -> None:
    damaged = bytearray(SAMPLES[name])
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        damaged[place] = data.draw(st.integers(0, 255))
    check(bytes(damaged[: data.draw(st.integers(0, len(damaged)))]))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_cut_everywhere(name: str) -> None:
    sample = SAMPLES[name]
    for length in range(0, len(sample), 1 + len(sample) // 200):
        check(sample[:length])


def overlapping_elf(count: int) -> bytes:
    """Sections named ``.ocl.obj``, each of which is the whole file."""
    size = 64 + 64 * count + 11
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHI3QI6H", 1, 62, 1, 0, 0, 64, 0, 64, 0, 0, 64, count, 1)
    names = struct.pack("<II4QIIQQ", 0, 3, 0, 0, size - 11, 11, 0, 0, 0, 0)
    whole = struct.pack("<II4QIIQQ", 1, 1, 0, 0, 0, size, 0, 0, 0, 0)
    return head + names * 2 + whole * (count - 2) + b"\0.ocl.obj\0\0"


HOSTILE = {
    "elf-overlap": overlapping_elf(4000),
    "spirv-nops": struct.pack("<5I", 0x07230203, 0x10000, 0, 1, 0) + struct.pack("<I", 1 << 16) * 600_000,
    "bitcode-ones": b"BC\xc0\xde" + b"\xff" * 4_000_000,
    "bitcode-zeros": BITCODE[:200] + bytes(4_000_000),
    "mace-pairs": field(1, field(1, "a -DX") + field(2, b"")) * 400_000 + b"\0\0\0\0",
    "mace-numbers": field(1, field(1, "key") + b"\x18\0" * 2_000_000) + b"\0\0\0\0",
    "mace-count": struct.pack("<qi", 16384, 5) + b"a -DX" + struct.pack("<i", 2**31 - 1) + bytes(1000),
    "net-fields": field(1, field(2, "a") + field(3, "b") + field(4, "Conv2D")) * 300_000,
    "one-op": field(1, b"\x12\0" * 2_000_000),
    "ptx-lines": b".version 7.8\n.target sm_80\n" + b".entry a\n" * 400_000,
    "ptx-blank": b".version 7.8\n.target sm_80\n" + b" " * 4_000_000,
    "onnx-fields": b"\x08\x07" + field(7, b"\x0a\0" * 2_000_000),
    "pocl-kernels": b"poclbin\0" + struct.pack("<QIIQ", 1, 8, 2**32 - 1, 0) + bytes(41 + 8) + bytes(4_000_000),
    "magics": b"\0" + b"\x7fELFBC\xc0\xde\x03\x02\x23\x07CLCCPK\x03\x04" * 200_000,
    "mali-nest": b"CLCCBC\xc0\xde" * 500_000,
    "keys": mace_protobuf({"_" * 16000 + f" {number}": (1, 2) for number in range(200)}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_cost_little_time_and_memory(name: str) -> None:
    begin = time.process_time()
    check(HOSTILE[name])
    assert time.process_time() - begin < 10
    tracemalloc.start()
    recognise(HOSTILE[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 128 << 20


def test_every_format_refuses_nothing_at_all() -> None:
    assert not [form.kind for form in FORMATS if form.sniff(memoryview(b""))]
