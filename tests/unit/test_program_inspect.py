"""What `inspect` tells is what is in the file."""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from google.protobuf import text_format

import mace_cl
from mace_cl.cli import main
from mace_cl.errors import DamagedError, SealError
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.format import Opened, open_program, read, scan, write
from mace_cl.program.inspect import look, summary, text
from mace_cl.program.seal import keygen, sign

GOLDEN = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"
SAMPLE = read(GOLDEN)


@pytest.fixture
def opened() -> Opened:
    return open_program(GOLDEN)


def test_summary(opened: Opened) -> None:
    data = GOLDEN.read_bytes()
    seen = summary(opened)
    assert (seen.file, seen.format_version, seen.kernel_count) == (str(GOLDEN), 3, 4)
    assert (seen.file_bytes, seen.crc32) == (len(data), f"{zlib.crc32(data):08x}")
    assert (seen.producer, seen.model, seen.options) == (SAMPLE.producer, SAMPLE.model, SAMPLE.options)
    assert seen.section_bytes == {"source": 32 + 26, "binary": 17 + 13, "constants": 5000}
    for section in seen.sections:
        assert f"{zlib.crc32(data[section.offset : section.offset + section.length]):08x}" == section.crc32
    first, second = seen.targets
    assert first.signature == SAMPLE.targets[0].signature
    assert (first.launches, first.units, first.units_with_binary, first.binary_bytes) == (2, 2, 2, 30)
    assert (second.units_with_binary, second.binary_bytes, second.source_bytes) == (1, 13, 58)
    assert (first.arena_bytes, first.constant_bytes, first.constants_inside) == (8192, 5000, True)
    assert (first.inputs[0].name, first.outputs[0].shape) == ("image", (1, 10))
    kernel = first.kernels[1]
    assert (kernel.name, kernel.family, kernel.parameters, kernel.unit, kernel.launches) == ("pool_1", "pool", (), 1, 1)
    assert (kernel.source_bytes, kernel.source_sha256) == (26, seen.sections[1].sha256)
    assert first.provenance == (("tuning", "default parameters"),)


def test_summary_as_json(opened: Opened) -> None:
    seen = json.loads(json.dumps(asdict(summary(opened))))
    assert seen["targets"][0]["signature"]["driver"] == "3.1"
    assert seen["targets"][0]["kernels"][0]["parameters"] == [["tile", 28], ["rows", -1]]


def test_text_is_readable_and_complete(opened: Opened, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN.with_suffix(".bin.pb")
    written = text(opened)
    if request.config.getoption("--update-golden", False):
        golden.write_text(written, encoding="utf-8")
    assert written == golden.read_text(encoding="utf-8")
    assert text_format.Parse(written, pb.Manifest()) == opened.manifest


def test_a_kind_of_section_that_is_not_known(opened: Opened) -> None:
    opened.manifest.sections[0].kind = 77  # type: ignore[assignment]
    assert summary(opened).sections[0].kind == "77"


class TestSealed:
    """Who signed a file and how it is encrypted; keys come from options or from the settings."""

    @pytest.fixture
    def signed(self, tmp_path: Path) -> Path:
        keygen(tmp_path / "a.key")
        keygen(tmp_path / "b.key")
        write(SAMPLE, tmp_path / "signed.bin")
        for name in ("a.key", "b.key"):
            sign(tmp_path / "signed.bin", tmp_path / name)
        return tmp_path / "signed.bin"

    @pytest.fixture
    def encrypted(self, tmp_path: Path) -> Path:
        write(SAMPLE, tmp_path / "encrypted.bin", key=bytes(range(32)))
        (tmp_path / "key.hex").write_text(bytes(range(32)).hex() + "\n")
        return tmp_path / "encrypted.bin"

    def test_signers_and_who_is_trusted(
        self, signed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trusted = str(signed.with_name("b.key.pub"))
        assert main(["inspect", str(signed), "--json", "--trust", trusted]) == 0
        signatures = json.loads(capsys.readouterr().out)["signatures"]
        assert [(one["state"], one["trusted"]) for one in signatures] == [("right", False), ("right", True)]
        monkeypatch.setenv("MACE_CL_TRUSTED_KEYS", trusted)
        assert main(["inspect", str(signed)]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert f"signed by {signatures[0]['key']} (right), {signatures[1]['key']} (right, trusted) encrypted no" in out
        assert main(["inspect", str(GOLDEN)]) == 0
        assert "signed by nobody encrypted no" in " ".join(capsys.readouterr().out.split())

    def test_a_wrong_signature_is_shown_and_fails(self, signed: Path, capsys: pytest.CaptureFixture[str]) -> None:
        data = bytearray(signed.read_bytes())
        data[-1] ^= 1  # of the second signature
        data[40:44] = zlib.crc32(data[-2 * 104 :]).to_bytes(4, "little")
        data[60:64] = zlib.crc32(data[:60]).to_bytes(4, "little")
        signed.write_bytes(data)
        assert main(["inspect", str(signed)]) == SealError.exit_code
        said = capsys.readouterr()
        assert "(right), " in said.out
        assert "(wrong)" in said.out
        assert "was altered" in said.err

    def test_a_signed_section_that_was_altered(self, signed: Path, tmp_path: Path) -> None:
        """Its CRC32 is that of the altered bytes: only the hash that was signed tells."""
        values = tuple(
            replace(target, constants=memoryview(bytes(target.constants.nbytes)) if target.constants else None)
            for target in SAMPLE.targets
        )
        write(replace(SAMPLE, targets=values), tmp_path / "other.bin")
        ours, other = scan(signed), scan(tmp_path / "other.bin")
        number = next(n for n, one in enumerate(ours.manifest.sections) if one.kind == pb.KIND_CONSTANTS)
        offset, crc = ours.manifest.sections[number].offset, other.manifest.sections[number].crc32
        data = bytearray(signed.read_bytes())
        data[offset : offset + len(ours.sections[number])] = other.sections[number]
        ours.manifest.sections[number].crc32 = crc
        manifest = ours.manifest.SerializeToString(deterministic=True)
        begin = 64 + ours.text_length
        assert len(manifest) == ours.manifest_length
        data[begin : begin + len(manifest)] = manifest
        data[12:16] = zlib.crc32(data[64 : begin + len(manifest)]).to_bytes(4, "little")
        data[60:64] = zlib.crc32(data[:60]).to_bytes(4, "little")
        with pytest.raises(DamagedError, match="has the SHA-256"):
            look(bytes(data))

    def test_without_the_package_cryptography(self, signed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
        assert [one.state for one in look(signed)[1].signatures] == ["not checked"] * 2

    def test_an_encrypted_file_with_and_without_its_key(
        self, encrypted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        argv = ["inspect", str(encrypted)]
        assert main(argv) == 0
        assert "which is not at hand" in capsys.readouterr().out
        assert main([*argv, "--json"]) == 0
        without = json.loads(capsys.readouterr().out)
        assert main([*argv, "--json", "--key", str(encrypted.with_name("key.hex"))]) == 0
        given = json.loads(capsys.readouterr().out)
        assert without["encrypted_with"] == given["encrypted_with"] != ""
        assert {**without, "readable": True} == given
        monkeypatch.setenv("MACE_CL_KEY", bytes(range(32)).hex())
        assert main([*argv, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == given

    def test_wrong_keys(self, encrypted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "other.hex").write_text("ab" * 32)
        (tmp_path / "short.hex").write_text("ab")
        for name, code, said in (
            ("other.hex", SealError.exit_code, "Give the right one"),
            ("short.hex", 2, "64 hexadecimal digits"),
            ("absent", 2, "can't be read"),
        ):
            assert main(["inspect", str(encrypted), "--key", str(tmp_path / name)]) == code
            assert said in capsys.readouterr().err

    def test_from_python(self, encrypted: Path, signed: Path) -> None:
        seen = mace_cl.inspect(encrypted, key=lambda: bytes(range(32)))
        assert (seen.readable, mace_cl.inspect(encrypted).readable) == (True, False)
        public = signed.with_name("a.key.pub")
        assert [one.trusted for one in mace_cl.inspect(signed, trusted_keys=[public]).signatures] == [True, False]
