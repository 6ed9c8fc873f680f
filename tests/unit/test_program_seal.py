"""Signatures: made, checked, and everything that is refused because of one."""

from __future__ import annotations

import os
import shutil
import stat
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from forgery import forged
from mace_cl.errors import DamagedError, ForeignError, MaceClError, SealError, SettingsError, StorageError
from mace_cl.program.format import Opened, open_program, read, scan, write, write_sealed
from mace_cl.program.policy import SET_ASIDE, decide, examine
from mace_cl.program.program import Program
from mace_cl.program.seal import LOCAL_KEY, KeyPair, admit, keygen, local_signer, may_rewrite, sign, signed_by, verify

GOLDEN = Path(__file__).parents[1] / "golden" / "program" / "format-3.bin"
SAMPLE = read(GOLDEN)
HERE = SAMPLE.targets[0].signature


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[KeyPair, KeyPair]:
    folder = tmp_path_factory.mktemp("keys")
    return keygen(folder / "mine"), keygen(folder / "theirs")


@pytest.fixture
def mine(keys: tuple[KeyPair, KeyPair]) -> KeyPair:
    return keys[0]


@pytest.fixture
def theirs(keys: tuple[KeyPair, KeyPair]) -> KeyPair:
    return keys[1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return Path(shutil.copy(GOLDEN, tmp_path / "program.bin"))


@pytest.fixture
def signed(path: Path, mine: KeyPair) -> Path:
    assert sign(path, mine.private) == mine.id
    return path


def test_keygen(mine: KeyPair) -> None:
    assert stat.S_IMODE(mine.private.stat().st_mode) == 0o600
    assert mine.private.read_text().startswith("-----BEGIN PRIVATE KEY-----")
    assert mine.public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert len(mine.hex) == 64
    assert len(mine.id) == 16


def test_keygen_loses_no_key(tmp_path: Path, mine: KeyPair) -> None:
    before = mine.private.read_bytes()
    with pytest.raises(StorageError, match=r"\.pub: exists"):
        keygen(mine.private)
    (tmp_path / "key").write_bytes(b"")
    with pytest.raises(StorageError, match="key: exists"):
        keygen(tmp_path / "key")
    with pytest.raises(StorageError, match="No such file"):
        keygen(tmp_path / "missing" / "key")
    assert mine.private.read_bytes() == before


def test_signing_changes_the_seal_only(signed: Path, mine: KeyPair) -> None:
    data, before = signed.read_bytes(), GOLDEN.read_bytes()
    assert data[64 : len(before)] == before[64:]
    assert data[len(before) :][:8] == b"Ed25519\0"
    assert data[len(before) + 8 :][:32].hex() == mine.hex
    assert len(data) == len(before) + 104
    assert read(signed) == SAMPLE
    assert signed_by(scan(signed)) == (mine.id,)
    assert scan(signed).sealed
    assert not scan(GOLDEN).sealed
    assert signed_by(scan(GOLDEN)) == ()


def test_signing_again_gives_the_same_bytes(signed: Path, mine: KeyPair) -> None:
    data = signed.read_bytes()
    sign(signed, mine.private)
    assert signed.read_bytes() == data


def test_several_may_sign(signed: Path, mine: KeyPair, theirs: KeyPair) -> None:
    sign(signed, theirs.private)
    verdict = verify(signed, [theirs.hex])
    assert (verdict.signed_by, verdict.trusted, verdict.sections) == ((mine.id, theirs.id), (theirs.id,), 5)


def test_only_so_many_may_sign(path: Path, tmp_path: Path) -> None:
    pairs = [keygen(tmp_path / f"key{number}") for number in range(17)]
    for pair in pairs[:16]:
        sign(path, pair.private)
    with pytest.raises(SealError, match="16 keys have signed it already"):
        sign(path, pairs[16].private)


@pytest.mark.parametrize("form", ["hex", "public", "upper"])
def test_a_trusted_file_is_admitted(signed: Path, mine: KeyPair, form: str) -> None:
    trusted = {"hex": mine.hex, "public": str(mine.public), "upper": mine.hex.upper()}[form]
    opened = open_program(signed)
    admitted = admit(opened, [trusted])
    assert admitted.program == SAMPLE
    assert admitted.name == str(signed)
    constants = admitted.program.targets[0].constants
    assert constants is not None
    assert constants.obj is not opened.view.obj


def test_what_was_admitted_can_not_be_altered_afterwards(signed: Path, mine: KeyPair) -> None:
    """Somebody who may write to the file gets nothing to the driver, even between check and use."""
    opened = open_program(signed)
    admitted = admit(opened, [mine.hex])
    with signed.open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(b"evil")
    assert opened.program != SAMPLE
    assert admitted.program == SAMPLE


def test_a_file_changed_before_it_is_admitted(signed: Path, mine: KeyPair) -> None:
    opened = open_program(signed)
    with signed.open("r+b") as file:
        file.seek(-200, os.SEEK_END)
        file.write(b"evil")
    with pytest.raises(DamagedError, match=r"section 4 \(constants"):
        admit(opened, [mine.hex])


def test_without_a_trusted_key_nothing_is_asked(path: Path) -> None:
    opened = open_program(path)
    assert admit(opened, ()) is opened
    script = (
        "import sys; from pathlib import Path; from mace_cl.program.policy import examine; "
        f"assert examine(Path({str(GOLDEN)!r})).program; "
        "found = {'cryptography', 'mace_cl.program.seal'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_an_unsigned_file_is_refused(path: Path, mine: KeyPair) -> None:
    with pytest.raises(SealError, match=f"program.bin: is not signed, but only .* trusted key are used .{mine.id}"):
        admit(open_program(path), [mine.hex])
    with pytest.raises(SealError, match="is not signed"):
        verify(path, [mine.hex])
    assert verify(path).signed_by == ()


def test_a_stranger_is_refused(signed: Path, mine: KeyPair, theirs: KeyPair) -> None:
    with pytest.raises(SealError, match=f"is signed by {mine.id}, but only .*{theirs.id}"):
        admit(open_program(signed), [theirs.hex])


def test_an_altered_manifest_is_refused_and_the_key_named(signed: Path, mine: KeyPair) -> None:
    data = forged(signed.read_bytes(), lambda m: setattr(m, "engine", "f" * 64), lambda out: None)
    assert read(data).engine == "f" * 64, "checksums alone do not tell"
    for check in (lambda: admit(open_program(data), [mine.hex]), lambda: verify(scan(data))):
        with pytest.raises(SealError, match=f"text and manifest are not what the key {mine.id} signed"):
            check()


def test_an_altered_section_is_refused_and_named(signed: Path, mine: KeyPair) -> None:
    """Weights with a right CRC32: the signed manifest can't be made to fit, so the key that signed is named."""
    offset = scan(signed).manifest.sections[4].offset

    def alter(out: bytearray) -> None:
        out[offset] ^= 1

    with pytest.raises(SealError, match=f"not what the key {mine.id} signed"):
        admit(open_program(forged(signed.read_bytes(), lambda m: None, alter)), [mine.hex])


def test_a_collision_of_the_crc_does_not_help(signed: Path, mine: KeyPair) -> None:
    """CRC32 is no protection against intent: four chosen bytes make any sum right, the SHA-256 remains."""
    data = bytearray(signed.read_bytes())
    section = scan(signed).manifest.sections[4]
    content = bytearray(data[section.offset : section.offset + section.length])
    content[0] ^= 1
    content[-4:] = _four_bytes(bytes(content[:-4]), section.crc32)
    data[section.offset : section.offset + section.length] = content
    assert read(bytes(data)) != SAMPLE, "the checksum is right"
    with pytest.raises(SealError, match=rf"section 4 \(constants, 5000 bytes\) has the SHA-256 .* key {mine.id}"):
        admit(open_program(bytes(data)), [mine.hex])
    unsigned = scan(bytes(data))
    with pytest.raises(DamagedError, match=r"section 4 \(constants, 5000 bytes\) has the SHA-256"):
        verify(replace(unsigned, seal_length=0))


def _four_bytes(before: bytes, wanted: int) -> bytes:
    """What to append so that the CRC32 of all is ``wanted``: the table, walked backwards."""
    table = []
    for number in range(256):
        for _ in range(8):
            number = number >> 1 ^ (0xEDB88320 if number & 1 else 0)
        table.append(number)
    high = {entry >> 24: index for index, entry in enumerate(table)}
    state, path = wanted ^ 0xFFFFFFFF, []
    for _ in range(4):
        index = high[state >> 24]
        path.append(index)
        state = (state ^ table[index]) << 8 & 0xFFFFFFFF
    now, out = zlib.crc32(before) ^ 0xFFFFFFFF, bytearray()
    for index in reversed(path):
        out.append((now ^ index) & 0xFF)
        now = now >> 8 ^ table[index]
    return bytes(out)


@pytest.mark.parametrize("place", [8 + 5, 8 + 32 + 3], ids=["key", "signature"])
def test_an_altered_seal_is_refused(signed: Path, mine: KeyPair, place: int) -> None:
    file = scan(signed)
    seal = bytearray(file.seal)
    seal[place] ^= 1
    write_sealed(file, signed, bytes(seal))
    with pytest.raises(SealError, match=r"text and manifest are not what the key .* signed"):
        admit(open_program(signed), [mine.hex])
    assert read(signed) == SAMPLE, "without trusted keys a seal is not looked at"


def test_a_seal_of_another_file_does_not_fit(signed: Path, tmp_path: Path, mine: KeyPair) -> None:
    other = tmp_path / "other.bin"
    write(replace(SAMPLE, producer="another"), other)
    write_sealed(scan(other), other, bytes(scan(signed).seal))
    with pytest.raises(SealError, match=f"not what the key {mine.id} signed"):
        admit(open_program(other), [mine.hex])


@pytest.mark.parametrize("seal", [b"?", b"Ed25519\0", b"RSA\0\0\0\0\0" + bytes(96), b"x" * 5000])
def test_a_seal_that_is_none(path: Path, mine: KeyPair, seal: bytes) -> None:
    write_sealed(scan(path), path, seal)
    with pytest.raises(SealError, match="is not signed"):
        admit(open_program(path), [mine.hex])
    sign(path, mine.private)
    assert admit(open_program(path), [mine.hex]).program == SAMPLE


def test_text_and_manifest_can_not_be_shifted_against_each_other(signed: Path, mine: KeyPair) -> None:
    data = bytearray(signed.read_bytes())
    text, manifest = struct.unpack_from("<II", data, 24)
    struct.pack_into("<II", data, 24, 0, text + manifest)
    assert scan(signed).message()[:28] != b"mace-cl program\0" + struct.pack("<III", 3, 0, text + manifest)


def test_damaged_files_are_not_signed(path: Path, mine: KeyPair) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=r"section 4"):
        sign(path, mine.private)
    path.write_bytes(b"hello\n")
    with pytest.raises(ForeignError):
        sign(path, mine.private)


def test_keys_that_are_none(path: Path, tmp_path: Path, mine: KeyPair) -> None:
    loose = Path(shutil.copy(mine.private, tmp_path / "loose"))
    loose.chmod(0o644)
    with pytest.raises(SealError, match="others can read or write this private key"):
        sign(path, loose)
    wrong = tmp_path / "wrong"
    wrong.write_bytes(b"-----BEGIN PRIVATE KEY-----\n")
    wrong.chmod(0o600)
    with pytest.raises(SealError, match="is no private key"):
        sign(path, wrong)
    with pytest.raises(StorageError, match="No such file"):
        sign(path, tmp_path / "missing")
    other_kind = tmp_path / "x25519"
    other_kind.write_bytes(_other_kind(private=True))
    other_kind.chmod(0o600)
    with pytest.raises(SealError, match="of another kind than Ed25519"):
        sign(path, other_kind)
    assert scan(path).seal_length == 0


def _other_kind(private: bool) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key, pem = X25519PrivateKey.generate(), serialization.Encoding.PEM
    if private:
        return key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)


def test_trusted_keys_that_are_none(signed: Path, tmp_path: Path) -> None:
    for text, words in [("ab", "No such file"), (str(signed), "can't be read"), (str(tmp_path), "can't be read")]:
        with pytest.raises(SettingsError, match=words):
            admit(open_program(signed), [text])
    (tmp_path / "other.pub").write_bytes(_other_kind(private=False))
    with pytest.raises(SettingsError, match="of another kind than Ed25519"):
        verify(signed, [str(tmp_path / "other.pub")])


# ---- what was compiled here ----


def test_the_stores_own_key(tmp_path: Path, mine: KeyPair) -> None:
    store = tmp_path / "store"
    store.mkdir()
    path = store / "program.bin"
    write(SAMPLE, path, signer=local_signer(store))
    assert stat.S_IMODE((store / LOCAL_KEY).stat().st_mode) == 0o600
    assert admit(open_program(path), [mine.hex], store).program == SAMPLE
    with pytest.raises(SealError, match="is signed by"):
        admit(open_program(path), [mine.hex])
    with pytest.raises(SealError, match="is signed by"):
        admit(open_program(path), [mine.hex], tmp_path)
    first = path.read_bytes()
    write(SAMPLE, path, signer=local_signer(store))
    assert path.read_bytes() == first
    assert sorted(entry.name for entry in store.iterdir()) == [LOCAL_KEY, "program.bin"]


def test_a_local_key_that_others_may_read_is_not_used(tmp_path: Path, mine: KeyPair) -> None:
    path = tmp_path / "program.bin"
    write(SAMPLE, path, signer=local_signer(tmp_path))
    (tmp_path / LOCAL_KEY).chmod(0o640)
    for use in (lambda: local_signer(tmp_path), lambda: admit(open_program(path), [mine.hex], tmp_path)):
        with pytest.raises(SealError, match=r"others can read or write .*chmod 600"):
            use()


def test_a_local_key_that_can_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="can't be written"):
        local_signer(tmp_path / "missing")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match="Operation not permitted"):
        local_signer(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_processes_make_one_local_key(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from mace_cl.program.seal import local_signer; "
        "print(local_signer(Path(sys.argv[1]))(b'x').hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    assert len({process.communicate()[0] for process in processes}) == 1
    assert [process.returncode for process in processes] == [0] * 6
    assert [entry.name for entry in tmp_path.iterdir()] == [LOCAL_KEY]


def test_what_may_be_rewritten(path: Path, signed: Path, tmp_path: Path, mine: KeyPair, theirs: KeyPair) -> None:
    """Only what nobody else has signed or encrypted."""
    plain, here, secret = (tmp_path / name for name in ("plain.bin", "here.bin", "secret.bin"))
    write(SAMPLE, plain)
    assert may_rewrite(plain, tmp_path)
    assert may_rewrite(tmp_path / "missing.bin", tmp_path)
    assert not may_rewrite(signed, tmp_path)
    write(SAMPLE, here, signer=local_signer(tmp_path))
    assert may_rewrite(here, tmp_path)
    assert not may_rewrite(here, tmp_path / "elsewhere")
    assert not may_rewrite(signed, tmp_path)
    sign(here, theirs.private)
    assert not may_rewrite(here, tmp_path)
    write(SAMPLE, secret, key=bytes(32), signer=local_signer(tmp_path))
    assert not may_rewrite(secret, tmp_path)
    plain.write_bytes(b"x")
    assert may_rewrite(plain, tmp_path)


# ---- the rules ----


def test_the_decision_says_refused(signed: Path, path: Path, mine: KeyPair, theirs: KeyPair) -> None:
    assert decide(_found(examine(signed, trusted_keys=[mine.hex])), device=HERE).code == "hit"
    decision = decide(_found(examine(signed, trusted_keys=[theirs.hex])), device=HERE)
    assert (decision.action, decision.code) == ("compile", "refused")
    assert theirs.id in decision.sentence
    assert "refused" not in SET_ASIDE


def _found(found: Opened | MaceClError | None) -> Program | MaceClError | None:
    return found.program if isinstance(found, Opened) else found


def test_a_trusted_key_that_can_not_be_read_lets_nothing_pass(signed: Path) -> None:
    with pytest.raises(SettingsError):
        examine(signed, trusted_keys=["/missing.pub"])


def test_without_the_package(signed: Path, mine: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "cryptography"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    opened = open_program(signed)
    uses: list[Callable[[], object]] = [
        lambda: keygen(signed.parent / "key"),
        lambda: sign(signed, mine.private),
        lambda: verify(signed),
        lambda: admit(opened, [mine.hex]),
        lambda: admit(opened, [str(mine.public)]),
        lambda: local_signer(signed.parent),
    ]
    for use in uses:
        with pytest.raises(SealError, match=r"needs the package cryptography; .*pip install 'mace-cl\[seal\]'"):
            use()
