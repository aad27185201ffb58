"""Content encodings of a response, without I/O; br and zstd only if their libraries are installed."""

from __future__ import annotations

import importlib
import zlib
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

__all__ = ["CODINGS", "accepted", "encoded"]


class _Coder(Protocol):
    """A streaming encoder; the data of each part can be decoded before the next one is sent."""

    def part(self, data: bytes) -> bytes:
        """Return the encoded data, flushed."""

    def end(self) -> bytes:
        """Return the end of the encoded stream."""


class _Zlib:
    def __init__(self, bits: int) -> None:
        self._coder = zlib.compressobj(wbits=bits)

    def part(self, data: bytes) -> bytes:
        return self._coder.compress(data) + self._coder.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._coder.flush()


class _Brotli:
    def __init__(self, module: Any) -> None:
        self._coder = module.Compressor()

    def part(self, data: bytes) -> bytes:
        return bytes(self._coder.process(data) + self._coder.flush())

    def end(self) -> bytes:
        return bytes(self._coder.finish())


class _Zstd:
    def __init__(self, module: Any) -> None:
        self._coder = module.ZstdCompressor()
        self._flush = self._coder.FLUSH_BLOCK

    def part(self, data: bytes) -> bytes:
        return bytes(self._coder.compress(data, mode=self._flush))

    def end(self) -> bytes:
        return bytes(self._coder.flush())


def _available() -> dict[str, Callable[[], _Coder]]:
    coders: dict[str, Callable[[], _Coder]] = {
        "gzip": lambda: _Zlib(16 + zlib.MAX_WBITS),
        "deflate": lambda: _Zlib(zlib.MAX_WBITS),
    }
    if (brotli := _imported("brotli")) is not None:
        coders["br"] = lambda: _Brotli(brotli)
    if (zstd := _imported("compression.zstd") or _imported("backports.zstd")) is not None:
        coders["zstd"] = lambda: _Zstd(zstd)
    return coders


def _imported(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


CODINGS: Final[Mapping[str, Callable[[], _Coder]]] = _available()
"""The available encodings, by their name in Content-Encoding."""


def encoded(parts: Sequence[bytes], coding: str) -> list[bytes]:
    """Return the parts of a body in a content encoding; the last part also has the end of the encoding."""
    coder = CODINGS[coding]()
    coded = [coder.part(part) for part in parts]
    end = coder.end()
    return [*coded[:-1], coded[-1] + end] if coded else [end]


def accepted(header: str) -> str | None:
    """Return the available encoding with the highest weight in an Accept-Encoding header, or None."""
    best, highest = None, 0.0
    for item in header.split(","):
        name, _, weight = item.strip().partition(";")
        name = name.strip().lower()
        value = _weight(weight)
        if name in CODINGS and value > highest:
            best, highest = name, value
    return best


def _weight(text: str) -> float:
    name, _, value = text.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
