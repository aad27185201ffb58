"""Parsing of durations, sizes and addresses from command line and settings."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Address", "parse_address", "parse_duration", "parse_size"]

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_BYTES: Final = {
    "B": 1,
    "kB": 1000,
    "KB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "TiB": 1 << 40,
}
_PART: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A host and a port to listen on."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_duration(text: str) -> float:
    """Parse a duration such as ``90s``, ``1h30m`` or ``7d`` into seconds; raises ValueError."""
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(
            f"{text!r} is not a duration; use numbers with the units ms, s, m, h or d, such as 90s or 1h30m"
        )
    return math.fsum(float(number) * _SECONDS[unit] for number, unit in parts)


def parse_size(text: str) -> int:
    """Parse a size such as ``512KiB``, ``2GiB`` or ``10MB`` into bytes; raises ValueError."""
    match = _SIZE.fullmatch(text)
    if match is None or match[2] not in _BYTES:
        raise ValueError(
            f"{text!r} is not a size; use a number with the unit B, KiB, MiB, GiB, TiB, kB, MB, GB or TB"
        )
    return round(float(match[1]) * _BYTES[match[2]])


def parse_address(text: str) -> Address:
    """Parse an address such as ``127.0.0.1:18002`` or ``[::1]:18002``; raises ValueError.

    With port 0, the system chooses a port when the address is bound.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (colon and host and port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 1 << 16):
        raise ValueError(
            f"{text!r} is not an address; use host:port or [ipv6]:port, with a port from 0 to 65535"
        )
    return Address(host=host, port=int(port))
