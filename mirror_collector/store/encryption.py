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

__all__ = ["Vault"]

_KEY: Final = 32
_NONCE: Final = 12
_MARK: Final = 4


class Vault:
    """Seals messages with AES-256-GCM; without keys they stay as they are.

    The first key seals, all of them open: a new key is put in front, the old one stays until what it sealed
    is past its retention.
    """

    def __init__(self, keys: tuple[bytes, ...] = ()) -> None:
        """Take keys of 32 bytes each; raises StoreError where the library is missing."""
        self._ciphers = {}
        self._first: bytes | None = None
        if not keys:
            return
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra of its own
        except ImportError as error:
            raise StoreError("encryption needs the extra: pip install 'shiftplane[encryption]'") from error
        for key in keys:
            mark = blake2b(key, digest_size=_MARK, person=b"shiftplane vault").digest()
            self._ciphers[mark] = AESGCM(key)
            self._first = self._first or mark

    @classmethod
    def from_file(cls, path: Path) -> Vault:
        """Read keys, one a line, each 32 bytes in base64 or hex; raises StoreError."""
        keys = []
        try:
            lines = path.read_text(encoding="ascii").split()
        except (OSError, UnicodeDecodeError) as error:
            raise StoreError(f"cannot read keys from {path}: {error}") from error
        for number, line in enumerate(lines, start=1):
            key = _key(line)
            if key is None:
                raise StoreError(f"{path}:{number}: must be 32 bytes in base64 or hex")
            keys.append(key)
        if not keys:
            raise StoreError(f"{path} holds no key; one a line, each 32 bytes in base64 or hex")
        return cls(tuple(keys))

    @property
    def sealing(self) -> bool:
        """Whether messages are sealed."""
        return self._first is not None

    def seal(self, data: bytes) -> bytes:
        """Return a message as it is written."""
        if self._first is None or not data:
            return data
        nonce = os.urandom(_NONCE)
        return self._first + nonce + self._ciphers[self._first].encrypt(nonce, data, None)

    def open(self, data: bytes) -> bytes | None:
        """Return a sealed message; None where its key is not here or it was tampered with."""
        if not data:
            return data
        cipher = self._ciphers.get(data[:_MARK])
        if cipher is None:
            return None
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - there is a cipher, so it is there

        try:
            return cipher.decrypt(data[_MARK : _MARK + _NONCE], data[_MARK + _NONCE :], None)
        except InvalidTag:
            return None


def _key(text: str) -> bytes | None:
    for decode in (bytes.fromhex, lambda one: b64decode(one, validate=True)):
        try:
            found: bytes = decode(text)
        except (ValueError, binascii.Error):
            continue
        if len(found) == _KEY:
            return found
    return None
