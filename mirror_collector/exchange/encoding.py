"""Decoding of content encodings, with limits on the output's size and on its ratio to the input.

Supports gzip, deflate, br and zstd, and lists of them (RFC 9110, section 8.4).
"""

from __future__ import annotations

import sys
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import brotli

from mirror_collector.exchange.unread import UnreadReason

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Decoded", "decode"]

_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS
_RAW: Final = -zlib.MAX_WBITS
_GZIP_MAGIC: Final = b"\x1f\x8b"
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_OPTIONS: Final[dict[int, int]] = {zstd.DecompressionParameter.window_log_max: 23}
"""The window of the content encoding zstd has at most 8 MiB (RFC 9659)."""

_MAX_CODINGS: Final = 3
_MAX_MEMBERS: Final = 256
"""Maximum number of gzip members or zstd frames of one body; decoding each copies the rest of the input."""

_ANY_RATIO: Final = 1 << 20
_MAX_RATIO: Final = 200
"""Up to `_ANY_RATIO` bytes, the output may have any ratio to the input; beyond that, it may be at most
`_MAX_RATIO` times as large. A stream that repeats one token reaches ratios above 1000, and has to be decoded
up to the first limit, because the repetition is a fault of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """The result of decoding a body."""

    data: bytes
    """The output; the beginning of it if it is too large, and the undecoded input if `ok` is False."""

    failure: UnreadReason | None = None
    """ENCODING, CORRUPT or TOO_LARGE; None if nothing failed."""

    complete: bool = True
    """False if the input was truncated, a limit was reached, or the input could not be decoded."""

    ok: bool = True
    """Whether `data` is decoded."""


class _DecodeError(Exception):
    def __init__(self, reason: UnreadReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def decode(data: bytes, encoding: str, *, limit: int) -> Decoded:
    """Decode `data` by `encoding`, a Content-Encoding value, and return at most `limit` bytes.

    Without input there is nothing to decode: the result is empty and complete in any encoding.
    """
    codings = [name for name in (part.strip().lower() for part in encoding.split(",")) if name]
    codings = [name for name in codings if name != "identity"]
    if not data or not codings:
        return _within(data, limit)
    decoders = [_DECODERS.get(name) for name in reversed(codings)]
    if len(decoders) > _MAX_CODINGS or None in decoders:
        return Decoded(data=data[:limit], failure=UnreadReason.ENCODING, complete=False, ok=False)
    bound = min(limit, max(_ANY_RATIO, _MAX_RATIO * len(data)))
    out, complete = data, True
    for decoder in decoders:
        if decoder is None:  # pragma: no cover - excluded above
            continue
        try:
            out, ended = decoder(out, bound)
        except _DecodeError as error:
            return Decoded(data=data[:limit], failure=error.reason, complete=False, ok=False)
        if len(out) > bound:
            return _within(out, bound)
        complete = complete and ended
    return Decoded(data=out, complete=complete)


def _within(data: bytes, limit: int) -> Decoded:
    if len(data) <= limit:
        return Decoded(data=data)
    return Decoded(data=data[:limit], failure=UnreadReason.TOO_LARGE, complete=False)


# Each decoder returns its output and whether the input was complete. It stops soon after `bound` bytes, and
# then returns more than `bound` bytes.


def _gzip(data: bytes, bound: int) -> tuple[bytes, bool]:
    return _inflate(data, _GZIP_OR_ZLIB, bound)


def _deflate(data: bytes, bound: int) -> tuple[bytes, bool]:
    try:
        return _inflate(data, _GZIP_OR_ZLIB, bound)
    except _DecodeError:
        # The name stands for the zlib format, but some senders use raw deflate.
        return _inflate(data, _RAW, bound)


def _inflate(data: bytes, bits: int, bound: int) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    size = 0
    for _ in range(_MAX_MEMBERS):
        decompressor = zlib.decompressobj(bits)
        try:
            pieces.append(decompressor.decompress(data, bound + 1 - size))
        except zlib.error as error:
            raise _DecodeError(UnreadReason.CORRUPT) from error
        size += len(pieces[-1])
        data = decompressor.unused_data
        if size > bound or not decompressor.eof:
            return b"".join(pieces), False
        if not data.startswith(_GZIP_MAGIC):
            return b"".join(pieces), True
    raise _DecodeError(UnreadReason.TOO_LARGE)


def _brotli(data: bytes, bound: int) -> tuple[bytes, bool]:
    decompressor = brotli.Decompressor()
    pieces: list[bytes] = []
    size = 0
    try:
        while not decompressor.is_finished():
            pieces.append(decompressor.process(data, output_buffer_limit=bound + 1 - size))
            size += len(pieces[-1])
            if size > bound or (not data and not pieces[-1]):
                break
            data = b""
    except brotli.error as error:
        raise _DecodeError(UnreadReason.CORRUPT) from error
    return b"".join(pieces), decompressor.is_finished()


def _zstd(data: bytes, bound: int) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    size = 0
    for _ in range(_MAX_MEMBERS):
        decompressor = zstd.ZstdDecompressor(options=_ZSTD_OPTIONS)
        try:
            pieces.append(decompressor.decompress(data, bound + 1 - size))
        except zstd.ZstdError as error:
            # The frame has a larger window than the content encoding allows. Some clients accept such a
            # frame, so it does not count as corrupt.
            too_large = "too much memory" in str(error)
            raise _DecodeError(UnreadReason.TOO_LARGE if too_large else UnreadReason.CORRUPT) from error
        size += len(pieces[-1])
        if size > bound or not decompressor.eof:
            return b"".join(pieces), False
        data = decompressor.unused_data
        if not data.startswith(_ZSTD_MAGIC):
            return b"".join(pieces), True
    raise _DecodeError(UnreadReason.TOO_LARGE)


_DECODERS: Final[dict[str, Callable[[bytes, int], tuple[bytes, bool]]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
