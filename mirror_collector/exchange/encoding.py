"""Undoing a content encoding, within a bound.

Knows gzip and deflate; anything else is left to the caller as it is.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

__all__ = ["Decoded", "decode"]

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What came out."""

    data: bytes
    understood: bool
    """False where the encoding is unknown or the data is not in it; `data` is then the input."""

    whole: bool
    """False where the input ended early or the bound was reached."""


def decode(data: bytes, encoding: str, *, limit: int) -> Decoded:
    """Undo `encoding` (a Content-Encoding value) and return at most `limit` bytes."""
    match encoding.strip().lower():
        case "" | "identity":
            return Decoded(data=data[:limit], understood=True, whole=len(data) <= limit)
        case "gzip" | "x-gzip":
            found = _inflate(data, _GZIP_OR_ZLIB, limit)
        case "deflate":
            # The name means zlib, but some senders mean the bare stream.
            found = _inflate(data, _GZIP_OR_ZLIB, limit) or _inflate(data, _RAW, limit)
        case _:
            found = None
    return found or Decoded(data=data[:limit], understood=False, whole=len(data) <= limit)


def _inflate(data: bytes, bits: int, limit: int) -> Decoded | None:
    inflater = zlib.decompressobj(bits)
    try:
        out = inflater.decompress(data, limit)
    except zlib.error:
        return None
    return Decoded(data=out, understood=True, whole=inflater.eof)
