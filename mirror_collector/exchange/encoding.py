"""Decoding of content encodings, with a limit on the output size.

Supports gzip and deflate; data in any other encoding is returned undecoded, with `ok` False.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

__all__ = ["Decoded", "decode"]

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The result of decoding a body."""

    data: bytes
    ok: bool
    """False if the encoding is not supported or the data is invalid; `data` is then the undecoded input."""

    complete: bool
    """False if the input was truncated or the limit was reached."""


def decode(data: bytes, encoding: str, *, limit: int) -> Decoded:
    """Decode `data` by `encoding`, a Content-Encoding value, and return at most `limit` bytes."""
    match encoding.strip().lower():
        case "" | "identity":
            return Decoded(data=data[:limit], ok=True, complete=len(data) <= limit)
        case "gzip" | "x-gzip":
            decoded = _inflate(data, _GZIP_OR_ZLIB, limit)
        case "deflate":
            # The name stands for the zlib format, but some senders use raw deflate.
            decoded = _inflate(data, _GZIP_OR_ZLIB, limit) or _inflate(data, _RAW, limit)
        case _:
            decoded = None
    return decoded or Decoded(data=data[:limit], ok=False, complete=len(data) <= limit)


def _inflate(data: bytes, bits: int, limit: int) -> Decoded | None:
    decompressor = zlib.decompressobj(bits)
    try:
        out = decompressor.decompress(data, limit)
    except zlib.error:
        return None
    return Decoded(data=out, ok=True, complete=decompressor.eof)
