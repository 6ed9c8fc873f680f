"""Signatures of compiled programs: Ed25519 over the manifest, which holds the hash of every section.

A seal is up to 16 records of 104 bytes: the word ``Ed25519`` and a zero byte, the public key (32
bytes), the signature (64 bytes) of `Scanned.message`.  Keys are kept as PEM files, as OpenSSL writes
them.  The package cryptography (extra ``seal``) is imported where a key is used, not before.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mace_cl.errors import DamagedError, ProgramError, SealError, SettingsError, StorageError
from mace_cl.program.cipher import missing
from mace_cl.program.format import Opened, Scanned, Signer, open_private, scan, write_sealed

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

__all__ = [
    "LOCAL_KEY",
    "KeyPair",
    "Signed",
    "Verdict",
    "admit",
    "key_id",
    "keygen",
    "local_signer",
    "may_rewrite",
    "sign",
    "signatures",
    "signed_by",
    "verify",
]

LOCAL_KEY = "local.key"
"""The name, in the store, of the key that signs what was compiled here."""

_RECORD = struct.Struct("<8s32s64s")
_ALGORITHM = b"Ed25519\0"
_MOST = 16


@dataclass(frozen=True)
class KeyPair:
    """Two files that `keygen` wrote: ``private`` to be kept secret, ``public`` to be handed out.

    ``id`` names the key in messages, ``hex`` is the public key as settings take it.
    """

    private: Path
    public: Path
    id: str
    hex: str


@dataclass(frozen=True)
class Verdict:
    """What `verify` found: the ids of the keys whose signatures are right, and the trusted ones among them."""

    file: str
    signed_by: tuple[str, ...]
    trusted: tuple[str, ...]
    sections: int


@dataclass(frozen=True)
class Signed:
    """One signature of a file: the id of its key, whether it is right, and whether that key is trusted.

    It is "not checked" where the package cryptography is missing.
    """

    key: str
    state: Literal["right", "wrong", "not checked"]
    trusted: bool


def key_id(public: bytes) -> str:
    """The name of a public key of 32 bytes: the first 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:16]


def keygen(path: Path | str) -> KeyPair:
    """Makes a key to sign with: ``path``, which only its owner may read, and the public ``path`` + ``.pub``.

    Raises:
        StorageError: one of the files exists or can't be written.
        SealError: the package cryptography is missing.
    """
    key, private = _new_key(), Path(path)
    public = private.with_name(private.name + ".pub")
    if os.path.lexists(public):
        raise StorageError(f"{public}: exists; name another file, so that no key is lost.")
    _write_private(key, private)
    try:
        with public.open("xb") as file:
            file.write(_public_pem(key))
    except OSError as error:
        raise StorageError(f"{public}: can't be written ({error.strerror or error}); name another place.") from error
    raw = key.public_key().public_bytes_raw()
    return KeyPair(private, public, key_id(raw), raw.hex())


def sign(file: Path | str, key: Path | str) -> str:
    """Signs a program file with the private key in the file ``key``; returns the key's id.

    The file is replaced by one that differs in its seal only.  Signatures of other keys stay, except
    those that are wrong.

    Raises:
        DamagedError, ProgramError: the file is damaged or no compiled program; nothing is signed.
        SealError: ``key`` is no such key, 16 keys have signed, or the package cryptography is missing.
        StorageError: a file can't be read or written.
    """
    signer = _signer(_read_private(Path(key)))
    scanned = scan(file)
    scanned.verify()
    scanned.verify_hashes()
    record = signer(scanned.message())
    mine = record[: len(_ALGORITHM) + 32]
    others = [kept for kept in _right_records(scanned)[0] if not kept.startswith(mine)]
    if len(others) >= _MOST:
        raise SealError(f"{file}: {_MOST} keys have signed it already; write it anew to drop their signatures.")
    write_sealed(scanned, file, b"".join(others) + record)
    return key_id(record[len(_ALGORITHM) : len(mine)])


def signed_by(file: Scanned) -> tuple[str, ...]:
    """The ids of the keys whose signatures of ``file`` are right, in their order; sections are not read.

    Raises:
        SealError: there are signatures, and the package cryptography is missing.
    """
    return tuple(key_id(public) for public in _right_records(file)[1])


def signatures(file: Scanned, trusted_keys: Sequence[str] = (), store_dir: Path | None = None) -> tuple[Signed, ...]:
    """Who signed ``file``, in their order; that its sections are what was signed is not checked.

    Raises:
        SettingsError: a trusted key can't be read.
    """
    records = _records(file)
    if not records:
        return ()
    try:
        right, checked = _right_records(file)[0], True
        trusted = _trusted(trusted_keys, store_dir) if trusted_keys else set()
    except SealError:
        right, checked, trusted = [], False, set()
    states = ["not checked" if not checked else "right" if record in right else "wrong" for record, _, _ in records]
    return tuple(
        Signed(key_id(public), state, state == "right" and public in trusted)  # type: ignore[arg-type]
        for (_, public, _), state in zip(records, states, strict=True)
    )


def verify(file: Path | str | Scanned, trusted_keys: Sequence[str] = ()) -> Verdict:
    """Checks every byte, every section's hash and the signatures.

    ``trusted_keys`` are public keys: 64 hexadecimal digits, or files.  Without any, the verdict only
    tells who signed.

    Raises:
        DamagedError: a section is not what was written, naming it and the keys that signed it.
        SealError: a signature does not fit the file, or no trusted key has signed.
        SettingsError: a trusted key can't be read.
        ProgramError, StorageError: as `mace_cl.program.format.scan`.
    """
    scanned = file if isinstance(file, Scanned) else scan(file)
    scanned.verify()
    trusted = {_public_key(text) for text in trusted_keys}
    verdict = _verdict(scanned, trusted)
    if trusted and not verdict.trusted:
        raise _untrusted(scanned, verdict.signed_by, trusted)
    return verdict


def admit(opened: Opened, trusted_keys: Sequence[str], store_dir: Path | None = None) -> Opened:
    """What may be used of an opened file: itself where no key is trusted, else a checked copy in memory.

    Signature and SHA-256 of every section are checked on that copy, which no other process can write
    to.  The key of the store in ``store_dir``, with which `local_signer` signs what was compiled on
    this machine, is trusted too.

    Raises:
        SealError: the file is unsigned, not signed by a trusted key, or altered after it was signed.
        SettingsError: a trusted key can't be read.
        DamagedError: the file was changed while it was read.
    """
    if not trusted_keys:
        return opened
    private = open_private(opened)
    private.verify()
    trusted = _trusted(trusted_keys, store_dir if private.seal_length else None)
    verdict = _verdict(private, trusted)
    if not verdict.trusted:
        raise _untrusted(private, verdict.signed_by, trusted)
    return private


def local_signer(store_dir: Path) -> Signer:
    """Signs with the key of the store, which is made now if there is none.

    Raises:
        StorageError: it can't be written.
        SealError: others can read it, it is no key, or the package cryptography is missing.
    """
    path = store_dir / LOCAL_KEY
    if not path.exists():
        temporary = path.with_name(f".mace-cl-{os.getpid()}-{os.urandom(4).hex()}.tmp")
        _write_private(_new_key(), temporary)
        try:
            with suppress(FileExistsError):  # another process was faster
                os.link(temporary, path)
        except OSError as error:
            raise StorageError(f"{path}: can't be written ({error.strerror or error}).") from error
        finally:
            temporary.unlink(missing_ok=True)
    return _signer(_read_private(path))


def may_rewrite(path: Path, store_dir: Path) -> bool:
    """Whether a file may be replaced by one with another part: not if someone signed or encrypted it.

    What only the key of the store in ``store_dir`` signed was made here, and may be.
    """
    try:
        file = scan(path)
    except (ProgramError, StorageError):
        return True
    if not file.sealed or file.manifest.key:
        return not file.sealed
    try:
        local = _read_private(store_dir / LOCAL_KEY).public_key().public_bytes_raw()
        return signed_by(file) == (key_id(local),)
    except (SealError, StorageError):
        return False


def _new_key() -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise missing("signing") from error
    return Ed25519PrivateKey.generate()


def _signer(key: Ed25519PrivateKey) -> Signer:
    public = key.public_key().public_bytes_raw()
    return lambda message: _RECORD.pack(_ALGORITHM, public, key.sign(message))


def _write_private(key: Ed25519PrivateKey, path: Path) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    except FileExistsError:
        raise StorageError(f"{path}: exists; name another file, so that no key is lost.") from None
    except OSError as error:
        raise StorageError(f"{path}: can't be written ({error.strerror or error}); name another place.") from error


def _public_pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _read_private(path: Path) -> Ed25519PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
    except ImportError as error:
        raise missing("signing") from error
    try:
        status, data = path.stat(), path.read_bytes()
    except OSError as error:
        raise StorageError(f"{path}: can't be read ({error.strerror or error}); check the path.") from error
    if os.name == "posix" and (stat.S_IMODE(status.st_mode) & 0o077 or status.st_uid not in (os.geteuid(), 0)):
        raise SealError(f"{path}: others can read or write this private key; make a new one, or: chmod 600 {path}")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise SealError(f"{path}: is no private key, or has a password ({error}); see `mace-cl keygen`.") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SealError(f"{path}: is a key of another kind than Ed25519; `mace-cl keygen` makes one.")
    return key


def _public_key(text: str) -> bytes:
    """The 32 bytes of a trusted key given as hexadecimal digits or as the path of a PEM file."""
    if re.fullmatch("[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text)
    try:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise missing("reading a public key") from error
    try:
        key = load_pem_public_key(Path(text).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"the trusted key {text!r} can't be read ({reason}); give 64 hexadecimal digits or the file "
            "that `mace-cl keygen` named .pub"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise SettingsError(f"the trusted key {text!r} is of another kind than Ed25519; `mace-cl keygen` makes one")
    return key.public_bytes_raw()


def _trusted(trusted_keys: Sequence[str], store_dir: Path | None) -> set[bytes]:
    """The public keys that are trusted, that of the store among them."""
    trusted = {_public_key(text) for text in trusted_keys}
    local = store_dir / LOCAL_KEY if store_dir is not None else None
    if local is not None and local.exists():
        trusted.add(_read_private(local).public_key().public_bytes_raw())
    return trusted


def _records(file: Scanned) -> list[tuple[bytes, bytes, bytes]]:
    """(record, public key, signature) of each signature that this version knows."""
    seal = bytes(file.seal[: _MOST * _RECORD.size])
    whole = len(seal) - len(seal) % _RECORD.size
    parts = [(seal[at : at + _RECORD.size], _RECORD.unpack_from(seal, at)) for at in range(0, whole, _RECORD.size)]
    return [(record, public, signature) for record, (word, public, signature) in parts if word == _ALGORITHM]


def _right_records(file: Scanned) -> tuple[list[bytes], list[bytes]]:
    """The records whose signatures are right, and their public keys."""
    records = _records(file)
    if not records:
        return [], []
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise missing("verifying a signature") from error
    message, right = file.message(), []
    for record, public, signature in records:
        with suppress(InvalidSignature, ValueError):
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
            right.append((record, public))
    return [record for record, _ in right], [public for _, public in right]


def _verdict(file: Scanned, trusted: set[bytes]) -> Verdict:
    """Who signed; raises where a signature or, in a signed file, a section's hash does not fit."""
    publics = _right_records(file)[1]
    wrong = [key_id(public) for _, public, _ in _records(file) if public not in publics]
    if wrong:
        raise SealError(
            f"{file.name}: text and manifest are not what the key {', '.join(wrong)} signed; the file was altered. "
            "Get it anew from whom you trust."
        )
    names = tuple(map(key_id, publics))
    try:
        file.verify_hashes()
    except DamagedError as error:
        if not names:
            raise
        raise SealError(f"{error} The manifest was signed by the key {', '.join(names)}.") from None
    good = tuple(key_id(public) for public in publics if public in trusted)
    return Verdict(file.name, names, good, len(file.sections))


def _untrusted(file: Scanned, names: Sequence[str], trusted: set[bytes]) -> SealError:
    found = f"is signed by {', '.join(names)}" if names else "is not signed"
    wanted = ", ".join(sorted(map(key_id, trusted)))
    return SealError(
        f"{file.name}: {found}, but only files signed by a trusted key are used ({wanted}). "
        "Get a signed file, sign it with `mace-cl sign`, or change the setting trusted_keys."
    )
