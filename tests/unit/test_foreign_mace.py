"""MACE's own files: compiled programs and tuned parameters in both layouts, graphs, names."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foreign_samples import (
    DEVICE_KEY,
    MACE_TUNING,
    PLATFORM_KEY,
    field,
    mace_counted,
    mace_multi_net,
    mace_net,
    mace_programs,
    mace_protobuf,
    spirv,
)
from mace_cl.errors import DamagedError
from mace_cl.foreign import Description, Part, recognise
from mace_cl.foreign.mace_names import obfuscate, reveal
from mace_cl.foreign.mace_programs import PROGRAMS, explain_option, platform_facts, program_facts
from mace_cl.foreign.mace_store import Store, layout_of, read, write
from mace_cl.foreign.mace_tuning import tuning_facts

REAL = Path(__file__).parents[3] / "shared" / "real" / "mace_people_segmentation"


Make = Callable[[Mapping[str, bytes | Sequence[int]]], bytes]
BOTH = pytest.mark.parametrize("make", [mace_protobuf, mace_counted], ids=["protobuf", "counted"])
PAIRS = pytest.mark.parametrize("pairs", [mace_programs(), MACE_TUNING], ids=["programs", "tuning"])


def part(seen: Description, begin: str) -> Part:
    (found,) = (part for part in seen.parts if part.name.startswith(begin))
    return found


# names


@pytest.mark.parametrize(
    ("name", "obfuscated"),
    [
        ("conv_2d_1x1", "c44CimyloKq"),
        ("conv_2d_3x3", "c44CimylqKs"),
        ("batch_norm", "bq_u0j8_D_"),
        ("arg_buffer_to_image", "a7xhuD011EoIErAF5BA"),
    ],
)
def test_names_seen_in_real_files(name: str, obfuscated: str) -> None:
    assert obfuscate(name) == obfuscated
    assert reveal(obfuscated) == name
    assert reveal(name) is None


def test_capitals_collide_as_they_do_in_mace() -> None:
    assert obfuscate("xA") == obfuscate("x4")
    assert obfuscate("xZ") == obfuscate("xt")
    assert reveal(obfuscate("xA")) == "x4"


def test_other_characters_stay() -> None:
    assert obfuscate("k_[8, 3]")[2] == "["
    assert reveal(obfuscate("k_[8, 3]")) == "k_[8, 3]"
    assert obfuscate("") == "" == reveal("")


@given(st.from_regex(r"[a-z][a-z0-9_]{0,80}", fullmatch=True))
def test_undoing_is_exact_without_capitals(name: str) -> None:
    assert reveal(obfuscate(name)) == name


def test_no_two_programs_of_mace_share_an_obfuscated_name() -> None:
    assert len({obfuscate(name) for name in PROGRAMS}) == len(PROGRAMS) == 43


# compiled programs


@BOTH
def test_compiled_programs(make: Make) -> None:
    data = make(mace_programs())
    seen = recognise(data)
    assert (seen.kind, seen.length, seen.problems) == ("mace-programs", len(data), ())
    assert seen.fact("platform") == "QUALCOMM Snapdragon(TM)"
    assert seen.fact("device") == "Adreno(TM) 640"
    assert seen.fact("driver date") == "2021-10-01"
    assert seen.fact("driver branch") == "refs/tags/AU_LINUX_ANDROID_LA.UM.9.1"
    assert seen.fact("MACE version") == "v1.0.4-0-g1234567"
    assert (seen.fact("programs"), seen.fact("program bytes")) == (3, 3 * 17)
    assert seen.fact("names") == "2 obfuscated, 1 plain"
    assert seen.fact("crc32") == (f"{zlib.crc32(data[:-4]):08x}" if make is mace_protobuf else None)
    assert [data[p.offset : p.offset + p.length] for p in seen.parts] == [b"a driver's binary"] * 3
    norm = dict(part(seen, "batch_norm").facts)
    assert (norm["program"], norm["kernel"]) == ("batch_norm", "batch_norm")
    assert norm["kernel's obfuscated name"] == "bq_u0j8_D_"
    assert norm["source hash"] == "946c9681f9b74d35d186"
    assert "-DUSE_RELU: followed by ReLU" in norm["options"]  # type: ignore[operator]
    eltwise = dict(part(seen, "eltwise").facts)
    assert eltwise["options"] == (
        "-DELTWISE_TYPE=2: prod",
        "-DINPUT_NUM=2: number of inputs 2",
        "-DNEW_ONE=3: not known",
    )


def test_a_double_space_belongs_to_the_key() -> None:
    seen = recognise(mace_protobuf(mace_programs()))
    assert part(seen, "conv_2d_3x3  -DCMD").name == next(key for key in mace_programs() if key.startswith("conv"))


def test_a_program_s_binary_is_looked_into() -> None:
    content = recognise(mace_counted(mace_programs(spirv()))).parts[0].content
    assert content is not None
    assert content.kind == "spirv"


@pytest.mark.parametrize(
    ("option", "meaning"),
    [
        ("-DBIAS", "adds a bias"),
        ("-DUSE_RELUX", "followed by ReLU with an upper limit"),
        ("-DDATA_TYPE=half", "computes in half"),
        ("-DIN_DATA_TYPE=float", "reads float"),
        ("-DOUT_DATA_TYPE=half", "writes half"),
        ("-DCMD_DATA_TYPE=h", "read_imageh and write_imageh"),
        ("-DCMD_DATA_TYPE=i", "image access"),
        ("-DSTRIDE=2", "stride 2"),
        ("-DREDUCE_TYPE=4", "sum"),
        ("-DREDUCE_TYPE=77", "not known"),
        ("-DELTWISE_TYPE=²", "not known"),
        ("-Dwhat=c44CimyloKq", "not known; c44CimyloKq may be the obfuscated conv_2d_1x1"),
        ("-cl-mad-enable", "not known"),
    ],
)
def test_options_are_explained(option: str, meaning: str) -> None:
    assert explain_option(option) == meaning


def test_a_program_that_mace_does_not_have() -> None:
    assert program_facts("warp -DX=1")[0] == ("program", "warp (not one of MACE v1.1.1)")
    assert program_facts("") == (("program", "(none) (not one of MACE v1.1.1)"), ("names", "without a kernel name"))


def test_platform_with_commas_in_its_version() -> None:
    version = "OpenCL 3.0 PoCL 3.1+debian  Linux, None+Asserts, RELOC, SPIR, LLVM 15.0.6"
    facts = dict(platform_facts(f"Portable Computing Language, FULL_PROFILE, {version}, v1.1.1-23-g0fc55a54"))
    assert facts["platform version"] == version
    assert facts["MACE version"] == "v1.1.1-23-g0fc55a54"
    assert platform_facts("odd, text") == (("platform", "odd, text"),)


def test_a_file_for_a_device_that_mace_does_not_name() -> None:
    seen = recognise(mace_protobuf({**mace_programs(), DEVICE_KEY: b""}))
    assert seen.fact("device") == "none named: MACE never uses this file again"


def test_an_empty_store() -> None:
    seen = recognise(bytes(4))
    assert (seen.kind, seen.fact("programs"), seen.problems) == ("mace-programs", 0, ())


def test_text_from_the_file_is_fit_for_a_terminal() -> None:
    seen = recognise(mace_protobuf({PLATFORM_KEY: b"a\x1b[31m, b, c\n, d\xff"}))
    assert seen.fact("platform") == "a\\x1b[31m"
    assert seen.fact("MACE version") == "d\\xff"


def test_a_wrong_checksum_is_told_and_the_rest_shown() -> None:
    data = mace_protobuf(mace_programs())
    seen = recognise(data[:-1] + bytes([data[-1] ^ 1]))
    assert seen.kind == "mace-programs"
    assert seen.fact("programs") == 3
    assert "CRC32" in seen.problems[0]


@BOTH
@PAIRS
def test_a_truncated_file_is_still_known(make: Make, pairs: Mapping[str, bytes | Sequence[int]]) -> None:
    data = make(pairs)
    kind = recognise(data).kind
    seen = recognise(data[: len(data) * 2 // 5])
    assert (seen.kind, bool(seen.problems)) == (kind, True)
    assert 0 < len(seen.parts) < len(recognise(data).parts)


# tuned parameters


@BOTH
def test_tuned_parameters(make: Make) -> None:
    seen = recognise(make(MACE_TUNING))
    assert (seen.kind, seen.problems) == ("mace-tuning", ())
    assert (seen.fact("queue window"), seen.fact("kernels")) == (0, 3)
    convolution, transform, pooling = (dict(part.facts) for part in seen.parts)
    assert convolution == {
        "kernel": "conv2d_3x3_opencl_kernel",
        "names": "obfuscated",
        "sizes": "1 32 32 16",
        "local work-group": "4 x 8 x 4",
        "enqueued": "at once",
    }
    assert (transform["kernel"], transform["sizes"]) == ("filter_buffer_to_image", "[8, 3, 3, 3]")
    assert (transform["local work-group"], transform["enqueued"]) == ("16 x 64", "in slices of 32")
    assert (pooling["kernel"], pooling["sizes"]) == ("pooling_opencl_kernel", "1 7 7 64")


def test_numbers_that_are_no_work_group() -> None:
    assert tuning_facts("odd", (1, 2)) == (("kernel", "odd"), ("names", "plain"), ("numbers", "1 2"))


# reading and writing


@BOTH
@PAIRS
def test_writing_again_gives_the_same_bytes(make: Make, pairs: Mapping[str, bytes | Sequence[int]]) -> None:
    data = make(pairs)
    assert write(read(data)) == data


@PAIRS
def test_one_layout_becomes_the_other_and_back(pairs: Mapping[str, bytes | Sequence[int]]) -> None:
    old, new = mace_counted(pairs), mace_protobuf(pairs)
    assert write(read(old), "protobuf") == new
    assert write(read(new), "counted") == old


def test_programs_are_written_in_mace_s_order_and_once() -> None:
    pairs = mace_programs()
    twice = Store("protobuf", read(mace_protobuf(dict(reversed(pairs.items())))).pairs)
    assert write(twice) == mace_protobuf(pairs)
    first, second = (field(1, field(1, "a -DX") + field(2, value)) for value in (b"first", b"second"))
    body = first + second
    doubled = read(body + struct.pack("<I", zlib.crc32(body)))
    assert write(doubled) == first + struct.pack("<I", zlib.crc32(first))


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


@given(st.dictionaries(TEXTS.map("a -DX={}".format), st.binary(max_size=80)))
def test_any_programs_survive_both_layouts(pairs: dict[str, bytes]) -> None:
    pairs = {"a -D": b"first", **pairs}
    data = mace_protobuf(dict(sorted(pairs.items(), key=lambda item: item[0].encode())))
    store = read(data)
    assert {pair.key: bytes(pair.value) for pair in store.pairs} == pairs
    assert write(store) == data
    assert write(read(write(store, "counted")), "protobuf") == data


@given(st.dictionaries(st.text(max_size=40), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=16), min_size=1))
def test_any_numbers_survive_the_protobuf_layout(pairs: dict[str, list[int]]) -> None:
    store = read(mace_protobuf(pairs))
    assert {pair.key: list(pair.as_numbers()) for pair in store.pairs} == pairs
    assert write(store) == mace_protobuf(pairs)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no file of MACE"),
        (b"nothing like it, really", "no file of MACE"),
        (mace_protobuf(mace_programs())[:-1], "CRC32"),
        (mace_counted(mace_programs())[:-1], "a value of 20 bytes ends beyond"),
        (mace_counted(mace_programs()) + b"\0", "1 bytes follow the last of 6 pairs"),
        (struct.pack("<qi", 2, 5) + b"a -DX" + struct.pack("<i", -1), "a value of -1 bytes"),
        (struct.pack("<qi", 2, 5) + b"a -DX" + struct.pack("<ii", 0, 1 << 20) + bytes(9), "a key of 1048576 bytes"),
        (struct.pack("<qi", 2, 5) + b"a -DX" + struct.pack("<ii", 0, 1) + b"\xff" + bytes(9), "is not UTF-8"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        read(data, "some.bin")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (field(1, field(1, "a -DX")) + field(2, "x"), "field 2 is not a pair"),
        (field(1, field(1, "a -DX") + field(4, "x")), "field 4 of a pair is not known"),
        (field(1, field(1, "a -DX") + field(3, 1 << 32)), "field 3 of a pair is not known"),
        (field(1, field(1, "a -DX" + "x" * (1 << 14))), "a key of 16389 bytes"),
        (field(1, field(1, "a -DX")) + b"\x0a\x7f", "field 1 of 127 bytes does not fit the 0 left"),
        (field(1, field(1, "a -DX") + field(2, "x") + field(3, 1)), "a pair has bytes and numbers"),
        (field(1, b"\x0a\xff"), "a number ends too early"),
    ],
)
def test_contradictions_behind_a_right_checksum_are_named(body: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        read(body + struct.pack("<I", zlib.crc32(body)))


def test_more_pairs_than_any_file_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mace_cl.foreign.mace_store.MAX_PAIRS", 2)
    with pytest.raises(DamagedError, match="more than 2 pairs"):
        read(mace_protobuf(mace_programs()))


def test_what_mace_could_not_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    store = read(mace_protobuf(mace_programs()))
    monkeypatch.setattr("mace_cl.foreign.mace_store._MAX_FILE", 100)
    with pytest.raises(ValueError, match="more than the 100 that MACE can read"):
        write(store)


def test_layouts_are_told_apart() -> None:
    assert layout_of(memoryview(mace_protobuf(MACE_TUNING))) == "protobuf"
    assert layout_of(memoryview(mace_counted(MACE_TUNING))) == "counted"
    assert layout_of(memoryview(b"\x0a\x03abc" * 9)) is None


# graphs


def test_graph_of_the_older_schema() -> None:
    seen = recognise(mace_net())
    assert (seen.kind, seen.problems) == ("mace-graph", ())
    assert seen.fact("schema") == "NetDef (older)"
    assert seen.fact("graph") == "default_graph"
    assert seen.fact("data type") == "half"
    assert seen.fact("inputs") == ("input: float32[1, 32, 32, 3] NHWC",)
    assert (seen.fact("operators"), seen.fact("operators by type")) == (2, ("Activation 1", "Conv2D 1"))
    assert seen.fact("constant tensors by type") == ("half 1", "int32 1")
    assert (seen.fact("constant elements"), seen.fact("bytes of .data needed")) == (32, 80)
    assert (seen.fact("runtime"), seen.fact("OpenCL memory")) == ("GPU", "image")
    assert seen.fact("names") == "plain"


def test_graph_with_obfuscated_names() -> None:
    assert recognise(mace_net(("0a1b2c3d", "deadbeef"))).fact("names") == "obfuscated (parts of MD5)"


def test_graphs_of_the_newer_schema() -> None:
    one = recognise(mace_multi_net(mace_net()))
    assert (one.kind, one.fact("schema"), one.fact("operators")) == ("mace-graph", "MultiNetDef", 2)
    assert (one.fact("model inputs"), one.fact("model outputs")) == (("input",), ("relu1",))
    data = mace_multi_net(mace_net(), mace_net(data_offset=80))
    two = recognise(data)
    assert (two.fact("graphs"), len(two.parts), two.problems) == (2, 2, ())
    assert dict(two.parts[1].facts)["bytes of .data needed"] == 160
    second = two.parts[1]
    assert data[second.offset : second.offset + second.length] == mace_net(data_offset=80)


def test_a_truncated_graph() -> None:
    seen = recognise(mace_net()[:-30])
    assert (seen.kind, seen.fact("operators")) == ("mace-graph", 2)
    assert seen.problems


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real models of MACE in {REAL}")
@pytest.mark.parametrize(
    ("name", "operators", "constants", "data_bytes", "types"),
    [
        ("deeplab_v3_plus_mobilenet_v2_quant.pb", 85, 101, 2270776, ("uint8 60", "int32 41")),
        ("deeplab_v3_plus_mobilenet_v2.pb", 83, 101, 4481732, ("half 101",)),
        ("older_e57823d5_deeplab_v3_plus_mobilenet_v2.pb", 100, 120, 4206316, ("half 120",)),
    ],
)
def test_real_graphs(name: str, operators: int, constants: int, data_bytes: int, types: tuple[str, ...]) -> None:
    seen = recognise((REAL / name).read_bytes())
    assert (seen.kind, seen.problems) == ("mace-graph", ())
    assert (seen.fact("operators"), seen.fact("constant tensors")) == (operators, constants)
    assert seen.fact("constant tensors by type") == types
    assert seen.fact("bytes of .data needed") == data_bytes
    data = (REAL / name).with_suffix(".data")
    if data.exists():
        assert data.stat().st_size == data_bytes


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real models of MACE in {REAL}")
def test_real_weights_can_not_be_recognised() -> None:
    seen = recognise((REAL / "deeplab_v3_plus_mobilenet_v2_quant.data").read_bytes())
    assert (seen.kind, seen.fact("first bytes")) == ("unknown", "39 00 00 00 d3 01 00 00 c7 01 00 00 94 02 00 00")
