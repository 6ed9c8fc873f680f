"""Encrypted programs: weights and sources are hidden, and only the right key brings them back."""

from __future__ import annotations

import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from forgery import forged
from mace_cl.errors import DamagedError, FutureError, SealError
from mace_cl.program import cipher
from mace_cl.program import manifest_pb2 as pb
from mace_cl.program.cipher import FEATURE, Cipher
from mace_cl.program.format import open_program, read, scan, write
from mace_cl.program.policy import decide, examine
from mace_cl.program.seal import admit, keygen, sign, verify

SAMPLE = read(Path(__file__).parents[1] / "golden" / "program" / "format-3.bin")
KEY, OTHER = bytes(range(32)), bytes(32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(SAMPLE, tmp_path / "program.bin", key=KEY)
    return tmp_path / "program.bin"


def test_there_and_back(path: Path) -> None:
    assert read(path, KEY) == SAMPLE
    assert read(path, lambda: KEY) == SAMPLE
    assert scan(path).sealed
    assert list(scan(path).manifest.requires) == [FEATURE]


def test_weights_and_sources_are_hidden_binaries_are_not(path: Path) -> None:
    data = path.read_bytes()
    constants = SAMPLE.targets[0].constants
    assert constants is not None
    assert bytes(constants[:32]) not in data
    assert b"__kernel void" not in data
    assert b"first binary" in data
    assert KEY not in data


def test_every_section_has_its_own_nonce_and_every_writing_others(path: Path) -> None:
    first = [section.nonce for section in scan(path).manifest.sections]
    write(SAMPLE, path, key=KEY)
    second = [section.nonce for section in scan(path).manifest.sections]
    nonces = [nonce for nonce in (*first, *second) if nonce]
    assert len(nonces) == len(set(nonces)) == 6
    assert {len(nonce) for nonce in nonces} == {12}


def test_equal_content_is_still_stored_once(path: Path) -> None:
    assert len(scan(path).manifest.sections) == 5


def test_an_unencrypted_file_needs_no_key_and_no_package() -> None:
    script = (
        "import sys; from mace_cl.program.format import read; "
        f"read({str(Path(__file__).parents[1] / 'golden' / 'program' / 'format-3.bin')!r}, bytes(32)); "
        "assert 'cryptography' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_no_key(path: Path) -> None:
    with pytest.raises(SealError, match=f"encrypted with the key {Cipher(KEY).id}, and no key was given. Set MACE_CL"):
        read(path)


def test_a_wrong_key(path: Path) -> None:
    with pytest.raises(SealError, match=f"with the key {Cipher(KEY).id}; the key given is {Cipher(OTHER).id}"):
        read(path, OTHER)


@pytest.mark.parametrize("key", [b"", bytes(16), bytes(33), "00" * 32])
def test_a_key_that_is_none(path: Path, key: bytes) -> None:
    for use in (lambda: read(path, key), lambda: read(path, lambda: key), lambda: write(SAMPLE, path, key=key)):
        with pytest.raises(SealError, match="an encryption key has 32 bytes"):
            use()


def test_the_decision_says_refused(path: Path) -> None:
    found = examine(path, key=OTHER)
    assert isinstance(found, SealError)
    assert decide(found, device=SAMPLE.targets[0].signature).code == "refused"


def test_damage_is_told_from_a_wrong_key(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with pytest.raises(DamagedError, match=r"section 4 \(constants, 5016 bytes\) has the CRC32"):
        read(bytes(data), KEY)


def _swap_nonces(manifest: pb.Manifest) -> None:
    one, other = manifest.sections[0], manifest.sections[1]
    one.nonce, other.nonce = other.nonce, one.nonce


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: None, r"section 4 \(constants, 5016 bytes\) does not decrypt .* altered on purpose"),
        (_swap_nonces, r"section 0 \(source, 48 bytes\) does not decrypt"),
        (lambda m: setattr(m.model, "sha256", "cd" * 32), "section 0 .* does not decrypt"),
    ],
)
def test_alterations_with_right_checksums_do_not_decrypt(
    path: Path, edit: Callable[[pb.Manifest], object], message: str
) -> None:
    def alter(out: bytearray) -> None:
        if "section 4" in message:
            out[-1] ^= 1

    with pytest.raises(DamagedError, match=message):
        read(forged(path.read_bytes(), edit, alter), KEY)


def test_a_nonce_of_another_length(path: Path) -> None:
    def edit(manifest: pb.Manifest) -> None:
        manifest.sections[0].nonce = bytes(11)
        manifest.engine += "e"

    with pytest.raises(DamagedError, match=r"section 0 .* with a nonce of 11 bytes can't be encrypted"):
        read(forged(path.read_bytes(), edit, lambda out: None), KEY)


def test_a_reader_without_the_feature_refuses(path: Path) -> None:
    """What an older reader does: it knows no word in ``requires``."""
    data = forged(path.read_bytes(), lambda m: m.requires.__setitem__(0, "AES-256-GCM"), lambda out: None)
    with pytest.raises(FutureError, match="knows 'AES-256-GCM'"):
        read(data, KEY)


def test_signing_and_verifying_need_no_key(path: Path, tmp_path: Path) -> None:
    pair = keygen(tmp_path / "key")
    sign(path, pair.private)
    assert verify(path, [pair.hex]).trusted == (pair.id,)
    assert admit(open_program(path, KEY), [pair.hex]).program == SAMPLE


def test_too_much_for_one_piece(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cipher, "_LIMIT", 4000)
    with pytest.raises(SealError, match="5000 bytes are too many to be encrypted in one piece"):
        write(SAMPLE, tmp_path / "program.bin", key=KEY)
    assert list(tmp_path.iterdir()) == []


def test_without_the_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(SealError, match=r"encryption needs the package cryptography; .*mace-cl\[seal\]"):
        read(path, KEY)


def test_sums_cover_what_is_stored(path: Path) -> None:
    file = scan(path)
    for section, view in zip(file.manifest.sections, file.sections, strict=True):
        assert zlib.crc32(view) == section.crc32
    file.verify_hashes()
