"""Encryption of a program's weights and kernel sources: AES-256-GCM, a fresh nonce for every section.

The driver's binaries and the manifest (names, shapes, sizes, launches) stay readable.  The package
cryptography (extra ``seal``) is imported when a key is used, not before.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from mace_cl.errors import DamagedError, SealError

__all__ = ["FEATURE", "KEY_BYTES", "NONCE_BYTES", "TAG_BYTES", "Cipher", "Key", "missing"]

FEATURE = "aes-256-gcm"
"""The word in a manifest's ``requires`` that says that sections are encrypted."""

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
_LIMIT = (1 << 31) - 1

Key = bytes | Callable[[], bytes]
"""32 bytes, or a function that gives them, called when an encrypted file is met."""


class Cipher:
    """Encrypts and decrypts sections with one key, which ``id``, 16 hexadecimal digits, names but does not tell.

    Raises:
        SealError: the key has not 32 bytes, or the package cryptography is missing.
    """

    def __init__(self, key: Key) -> None:
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        except ImportError as error:
            raise missing("encryption") from error
        secret = key() if callable(key) else key
        if not isinstance(secret, bytes) or len(secret) != KEY_BYTES:
            raise SealError(
                f"an encryption key has {KEY_BYTES} bytes; the one given is not of that form. "
                "`openssl rand -hex 32` makes one for MACE_CL_KEY."
            )
        self.id = hashlib.sha256(b"mace-cl encryption key\0" + secret).hexdigest()[:16]
        self._cipher = AESGCM(secret)

    def encrypt(self, kind: int, model: str, content: memoryview) -> tuple[bytes, bytes]:
        """A fresh nonce, and ``content`` with its tag.  Bound to the section's kind and the model's SHA-256.

        Raises:
            SealError: the content is larger than 2 GiB.
        """
        if content.nbytes > _LIMIT:
            raise SealError(f"{content.nbytes} bytes are too many to be encrypted in one piece; leave the weights out.")
        nonce = os.urandom(NONCE_BYTES)
        return nonce, self._cipher.encrypt(nonce, content, _binding(kind, model))

    def decrypt(self, kind: int, model: str, nonce: bytes, content: memoryview, where: str) -> bytes:
        """What was encrypted.

        Raises:
            DamagedError: the bytes at ``where`` are not what was written with this key.
        """
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher.decrypt(nonce, content, _binding(kind, model))
        except (InvalidTag, ValueError, OverflowError):
            raise DamagedError(
                f"{where} does not decrypt with the key {self.id}, although its checksum is right: "
                "it was altered on purpose. Get the file anew from whom you trust."
            ) from None


def missing(what: str) -> SealError:
    """The error for ``what`` without the package that does it."""
    return SealError(f"{what} needs the package cryptography; install it with: pip install 'mace-cl[seal]'")


def _binding(kind: int, model: str) -> bytes:
    return f"mace-cl section {kind} of {model}".encode()
