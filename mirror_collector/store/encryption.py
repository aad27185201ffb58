"""Encryption of stored messages with AES-256-GCM."""

from __future__ import annotations

import binascii
import os
from base64 import b64decode
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from mirror_collector.store.connection import StoreError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MessageCipher"]

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_KEY_ID_BYTES: Final = 4


class MessageCipher:
    """Encrypts and decrypts messages; without keys, messages are stored unencrypted.

    The first key encrypts, all keys decrypt. To rotate keys, insert a new key at the beginning, and remove
    the old key after the retention time of the messages it encrypted.
    """

    def __init__(self, keys: tuple[bytes, ...] = ()) -> None:
        """Use keys of 32 bytes each; raises StoreError if the `cryptography` package is missing."""
        self._ciphers = {}
        self._current: bytes | None = None
        if not keys:
            return
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra of its own
        except ImportError as error:
            raise StoreError(
                "encryption requires an extra package; install it with: pip install 'shiftplane[encryption]'"
            ) from error
        for key in keys:
            key_id = blake2b(key, digest_size=_KEY_ID_BYTES, person=b"shiftplane vault").digest()
            self._ciphers[key_id] = AESGCM(key)
            self._current = self._current or key_id

    @classmethod
    def from_key_file(cls, path: Path) -> MessageCipher:
        """Read keys from a file, one per line, each 32 bytes in base64 or hex; raises StoreError."""
        keys = []
        try:
            lines = path.read_text(encoding="ascii").split()
        except OSError as error:
            raise StoreError(f"cannot read keys from {path}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise StoreError(f"cannot read keys from {path}: not ASCII text (byte {error.start})") from error
        for number, line in enumerate(lines, start=1):
            key = _parse_key(line)
            if key is None:
                raise StoreError(f"{path}: key {number} is invalid; a key must be 32 bytes in base64 or hex")
            keys.append(key)
        if not keys:
            raise StoreError(f"{path} contains no key; write one key per line, 32 bytes in base64 or hex")
        return cls(tuple(keys))

    @property
    def enabled(self) -> bool:
        """Whether messages are encrypted."""
        return self._current is not None

    def encrypt(self, data: bytes) -> bytes:
        """Return an encrypted message; the message itself if it is empty or there are no keys."""
        if self._current is None or not data:
            return data
        nonce = os.urandom(_NONCE_BYTES)
        return self._current + nonce + self._ciphers[self._current].encrypt(nonce, data, None)

    def decrypt(self, data: bytes) -> bytes | None:
        """Return a decrypted message; None if its key is missing or the data was modified."""
        if not data:
            return data
        cipher = self._ciphers.get(data[:_KEY_ID_BYTES])
        if cipher is None:
            return None
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - installed, as there is a cipher

        try:
            nonce_end = _KEY_ID_BYTES + _NONCE_BYTES
            return cipher.decrypt(data[_KEY_ID_BYTES:nonce_end], data[nonce_end:], None)
        except InvalidTag:
            return None


def _parse_key(text: str) -> bytes | None:
    for decode in (bytes.fromhex, lambda encoded: b64decode(encoded, validate=True)):
        try:
            key: bytes = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(key) == _KEY_BYTES:
            return key
    return None
