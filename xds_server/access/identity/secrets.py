"""Secrets people carry: how they look, and what is kept of them.

`spt_<id>_<secret>`: the prefix lets scanners find one that leaked, the id says which it was without telling
it. Secrets have 256 random bits, so a plain SHA-256 of one tells nothing; only that is kept.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

__all__ = ["IssuedSecret", "digest", "mint", "token_id"]

_TOKEN: Final = re.compile(r"spt_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_ID_BYTES: Final = 6
RANDOM_BYTES: Final = _ID_BYTES + 32


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedSecret:
    """A new secret, shown once, and its id and digest, which are kept."""

    id: str
    text: str
    digest: str

    def __repr__(self) -> str:
        """Never the secret."""
        return f"Minted(id={self.id!r}, text=[redacted])"


def mint(randomness: bytes) -> IssuedSecret:
    """Return a token made of 38 random bytes."""
    if len(randomness) != RANDOM_BYTES:
        raise ValueError(f"{RANDOM_BYTES} random bytes are needed")
    ident = randomness[:_ID_BYTES].hex()
    secret = base64.urlsafe_b64encode(randomness[_ID_BYTES:]).rstrip(b"=").decode()
    text = f"spt_{ident}_{secret}"
    return IssuedSecret(id=ident, text=text, digest=digest(text))


def digest(text: str) -> str:
    """Return what is kept of a secret."""
    return sha256(text.encode(errors="surrogateescape")).hexdigest()


def token_id(text: str) -> str | None:
    """Return the id of something that looks like a token; None of what does not."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else found[1]
