"""Files of others on the command line: inspect, extract, repack, and the program ``mace_run``."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from foreign_samples import (
    MACE_TUNING,
    every_sample,
    mace_counted,
    mace_net,
    mace_programs,
    mace_protobuf,
    poclbin,
    spirv,
)
from mace_cl.cli import main
from mace_cl.cli.mace_run import mace_run
from mace_cl.errors import DamagedError, InputError, ProgramError
from mace_cl.program.format import open_program
from mace_cl.tools import binary_info, foreign

OURS = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A compiled-program file of MACE with SPIR-V in it."""
    path = tmp_path / "mace_cl_compiled_program.bin"
    path.write_bytes(mace_protobuf(mace_programs(spirv())))
    return path


@pytest.mark.parametrize(("name", "data"), every_sample().items(), ids=list(every_sample()))
def test_inspect_shows_every_format(name: str, data: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(data)
    assert main(["inspect", str(tmp_path / name)]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for part in foreign.describe(tmp_path / name).parts:
        assert part.name in said.out
    assert main(["inspect", str(tmp_path / name), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["length"], found["kind"]) == (len(data), foreign.describe(tmp_path / name).kind)


def test_inspect_numbers_entries_and_explains_them(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(programs)]) == 0
    said = capsys.readouterr().out
    assert "\n1  batch_norm -DCMD_DATA_TYPE=f" in said
    assert "     kernel's obfuscated name: bq_u0j8_D_\n" in said
    assert "-DUSE_RELU: followed by ReLU" in said
    assert "entry points: twice (Kernel)" in said
    assert f"`mace-cl extract {programs} ENTRY -o OUT`" in said


def test_inspect_of_what_is_damaged_or_not_known(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(mace_protobuf(mace_programs())[:-1])
    assert main(["inspect", str(path)]) == 5
    said = capsys.readouterr()
    assert "compiled programs of MACE" in said.out
    assert "but damaged" in said.err
    path.write_bytes(b"\x00\x01\x02")
    assert main(["inspect", str(path)]) == 5
    said = capsys.readouterr()
    assert "first bytes  00 01 02" in said.out
    assert "no kind of file that mace-cl knows" in said.err


def test_inspect_compares_the_weights_of_a_graph(tmp_path: Path) -> None:
    graph = tmp_path / "net.pb"
    graph.write_bytes(mace_net())
    assert foreign.describe(graph).fact(".data") is None
    graph.with_suffix(".data").write_bytes(bytes(80))
    assert foreign.describe(graph).fact(".data") == "net.data has 80 bytes"
    graph.with_suffix(".data").write_bytes(bytes(79))
    assert foreign.describe(graph).fact(".data") == "net.data has 79 bytes, 1 too few"


# --dump_binary_info


def block(text: str) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in text.splitlines())


LABELS = [
    "Binary format version",
    "Target GPU",
    "Driver version",
    "Kernel count",
    "Total binary size",
    "CRC32 checksum",
]


def test_binary_info_of_mace(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mace_run([f"--model_file={programs}", "--dump_binary_info"]) == 0
    said = capsys.readouterr().out
    found = block(said)
    assert list(found) == LABELS
    assert found["Target GPU"] == "Adreno(TM) 640"
    assert found["Driver version"].startswith("OpenCL 2.0 QUALCOMM build")
    assert (found["Kernel count"], found["Total binary size"]) == ("3", f"{3 * len(spirv())} bytes")
    assert found["CRC32 checksum"] == f"{zlib.crc32(programs.read_bytes()[:-4]):08x} (stored, and right)"
    assert main(["inspect", str(programs), "--dump_binary_info"]) == 0
    assert capsys.readouterr().out == said
    assert main(["inspect", str(programs), "--dump_binary_info", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kernel_count"] == 3


def test_binary_info_of_mace_s_older_layout(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(mace_counted(mace_programs()))
    info = binary_info.run(path)
    assert "a count and then pairs" in info.binary_format_version
    assert info.crc32_checksum == f"{zlib.crc32(path.read_bytes()):08x} (of the whole file; it stores none)"


def test_binary_info_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert mace_run(["--model_file", str(OURS), "--dump_binary_info"]) == 0
    found = block(capsys.readouterr().out)
    assert list(found) == LABELS
    assert (found["Binary format version"], found["Kernel count"]) == ("3", "4")
    assert found["Target GPU"].startswith("AnyCL CPU")
    assert found["CRC32 checksum"].startswith(f"{zlib.crc32(OURS.read_bytes()):08x}")


def test_binary_info_of_a_driver_s_binary(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(poclbin(9, {}))
    info = binary_info.run(path)
    assert (info.binary_format_version, info.kernel_count) == ("9 (PoCL program binary)", 1)
    assert info.total_binary_size == path.stat().st_size


def test_binary_info_needs_kernels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x"
    path.write_bytes(mace_net())
    with pytest.raises(ProgramError, match="holds no compiled kernels"):
        binary_info.run(path)
    path.write_bytes(mace_protobuf(mace_programs())[:-1])
    with pytest.raises(DamagedError, match="CRC32"):
        binary_info.run(path)
    assert mace_run(["--model_file=absent", "--dump_binary_info"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert mace_run(["--help"]) == 0


# extract


def test_extract_by_number_and_name(programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    for entry in ("1", "batch_norm -DCMD"):
        output.unlink(missing_ok=True)
        assert main(["extract", str(programs), entry, "-o", str(output), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert output.read_bytes() == spirv()
        assert programs.read_bytes()[found["offset"] :].startswith(spirv())
    assert main(["extract", str(programs), "3", "-o", str(output)]) == 0
    assert "eltwise -DELTWISE_TYPE=2" in capsys.readouterr().out


def test_extract_from_inside_an_entry(tmp_path: Path) -> None:
    path, output = tmp_path / "x", tmp_path / "out"
    path.write_bytes(mace_counted(mace_programs(poclbin(9, {"/twice/a.so": b"library"}))))
    result = foreign.extract_entry(foreign.EntryArgs(path, "2.3", output))
    assert result.name == "twice: /twice/a.so"
    assert output.read_bytes() == b"library" == path.read_bytes()[result.offset :][:7]


def test_extract_a_section_of_ours(tmp_path: Path) -> None:
    output = tmp_path / "out"
    opened = open_program(OURS)
    section = opened.manifest.sections[1]
    for entry in ("2", section.sha256[:16]):
        foreign.extract_entry(foreign.EntryArgs(OURS, entry, output))
        assert output.read_bytes() == bytes(opened.view[section.offset : section.offset + section.length])


@pytest.mark.parametrize("entry", ["0", "4", "1.1", "1.", ".", "-DCMD_DATA_TYPE", "warp"])
def test_extract_an_entry_that_is_not_there(programs: Path, tmp_path: Path, entry: str) -> None:
    with pytest.raises(InputError, match=r"entr(y|ies)"):
        foreign.extract_entry(foreign.EntryArgs(programs, entry, tmp_path / "out"))


def test_extract_needs_an_entry_or_a_target(programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more in ([], ["1", "--target", "1"]):
        assert main(["extract", str(programs), *more, "-o", "x"]) == 2
        assert "either which ENTRY or which --target" in capsys.readouterr().err


# repack


@pytest.mark.parametrize("pairs", [mace_programs(), MACE_TUNING], ids=["programs", "tuning"])
def test_repack(pairs: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new, out = tmp_path / "old", tmp_path / "new", tmp_path / "out"
    old.write_bytes(mace_counted(pairs))
    new.write_bytes(mace_protobuf(pairs))
    for source, layout, wanted, identical in (
        (new, "protobuf", new, "yes"),
        (old, "protobuf", new, "no"),
        (old, "counted", old, "yes"),
        (new, "counted", old, "no"),
    ):
        assert main(["mace", "repack", str(source), "-o", str(out), "--layout", layout]) == 0
        assert out.read_bytes() == wanted.read_bytes()
        assert f"identical  {identical}" in capsys.readouterr().out
    assert main(["mace", "repack", str(old), "-o", str(old), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["layout_before"], found["layout"]) == (len(pairs), "counted", "protobuf")
    assert old.read_bytes() == new.read_bytes()


def test_repack_refuses_what_is_damaged(programs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    programs.write_bytes(programs.read_bytes()[:-1])
    assert main(["mace", "repack", str(programs), "-o", str(tmp_path / "out")]) == 5
    assert str(programs) in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_repack_refuses_what_mace_could_not_read(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(store: object, layout: object) -> bytes:
        raise ValueError("too large")

    monkeypatch.setattr("mace_cl.foreign.mace_store.write", refuse)
    with pytest.raises(ProgramError, match="too large"):
        foreign.repack(foreign.RepackArgs(programs, tmp_path / "out"))
