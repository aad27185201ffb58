"""The format of tokens, and the digest the store keeps instead of the secret.

A token is `spt_<id>_<secret>`. Secret scanners can find a leaked token by the prefix, and the id identifies
it without revealing the secret. A secret has 256 random bits, so its SHA-256 cannot be reversed; the store
keeps only this digest.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

__all__ = ["IssuedSecret", "digest", "issue_secret", "token_id"]

_TOKEN: Final = re.compile(r"spt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ID_BYTES: Final = 6
RANDOM_BYTES: Final = _ID_BYTES + 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSecret:
    """A new secret in clear text, which is shown once, with its id and digest, which are stored."""

    id: str
    text: str
    digest: str

    def __repr__(self) -> str:
        """Return the id only; the secret is redacted."""
        return f"IssuedSecret(id={self.id!r}, text=[redacted])"


def issue_secret(randomness: bytes) -> IssuedSecret:
    """Return a new secret for a token or session, made of 38 random bytes."""
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"expected {RANDOM_BYTES} random bytes, got {len(randomness)}")
    ident = randomness[:_ID_BYTES].hex()
    secret = base64.urlsafe_b64encode(randomness[_ID_BYTES:]).rstrip(b"=").decode()
    text = f"spt_{ident}_{secret}"
    return IssuedSecret(id=ident, text=text, digest=digest(text))


def digest(text: str) -> str:
    """Return the SHA-256 of a secret in hexadecimal."""
    return sha256(text.encode(errors="surrogateescape")).hexdigest()


def token_id(text: str) -> str | None:
    """Return the id of a text in the format of a token; None for other texts."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else found[1]
