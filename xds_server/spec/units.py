"""Durations, sizes and percentages in the notation of specs; durations and sizes need a unit."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from decimal import Decimal
from typing import Final

__all__ = [
    "DURATION",
    "PERCENT",
    "SIZE",
    "UnitError",
    "basis_points",
    "duration",
    "duration_text",
    "percent_number",
    "size",
    "size_text",
]

DURATION: Final = 'expected a duration with a unit, such as "250ms", "30s", "24h" or "1h30m"'
SIZE: Final = 'expected a whole number with a unit, such as "128KiB", "32MiB" or "1MB"'
PERCENT: Final = "expected a percentage from 0 to 100 with at most two decimals, such as 5 or 12.5"

_PART: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)")
_SECONDS: Final = {
    "ms": Decimal("0.001"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
    "d": Decimal(86400),
}
_SIZE: Final = re.compile(r"(\d{1,12})\s?(B|KB|MB|GB|KiB|MiB|GiB)")
_BYTES: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_LONGEST: Final = timedelta(days=365)


class UnitError(ValueError):
    """A value that is not a valid quantity; `allowed` states the expected notation."""

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


def duration(value: object) -> timedelta:
    """Return the duration of a text such as `1h30m`; return a timedelta unchanged.

    Raises:
        UnitError: `value` is not a valid duration.
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnitError(f"{_shown(value)} is not a duration", DURATION)
    if not isinstance(value, str):
        raise UnitError(f"{value} has no unit", DURATION)
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        raise UnitError(f"{value!r} has no unit", DURATION)
    if value.strip().startswith("-"):
        raise UnitError(f"{value!r} is negative", DURATION)
    parts = _PART.findall(value)
    if not parts or "".join(number + unit for number, unit in parts) != value.strip():
        raise UnitError(f"{value!r} is not a duration", DURATION)
    seconds = sum((Decimal(number) * _SECONDS[unit] for number, unit in parts), Decimal(0))
    if seconds > _LONGEST.total_seconds():
        raise UnitError(f"{value!r} is longer than a year", "expected at most 365d")
    return timedelta(microseconds=int(seconds * 1_000_000))


def size(value: object) -> int:
    """Return the number of bytes of a text such as `32MiB`.

    Raises:
        UnitError: `value` is not a valid size.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UnitError(f"{_shown(value)} is not a size", SIZE)
    if not isinstance(value, str) or re.fullmatch(r"\s*\d+(\.\d+)?\s*", value):
        raise UnitError(f"{value!r} has no unit" if isinstance(value, str) else f"{value} has no unit", SIZE)
    match = _SIZE.fullmatch(value.strip())
    if match is None:
        raise UnitError(f"{value!r} is not a size", SIZE)
    return int(match[1]) * _BYTES[match[2]]


def basis_points(value: object) -> int:
    """Return a percentage such as 12.5 in basis points (hundredths of a percent).

    Raises:
        UnitError: `value` is not a valid percentage.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        hint = ""
        if isinstance(value, str) and re.fullmatch(r"\s*\d+(\.\d+)?\s*%?\s*", value):
            hint = " (omit the % sign)" if "%" in value else " (remove the quotes)"
        raise UnitError(f"{_shown(value)} is not a percentage{hint}", PERCENT)
    if not math.isfinite(value):
        raise UnitError(f"{value} is not a percentage", PERCENT)
    exact = Decimal(str(value)) * 100
    whole = exact == exact.to_integral_value()
    if not 0 <= exact <= 10_000:
        raise UnitError(f"{value} is not between 0 and 100", PERCENT)
    if not whole:
        raise UnitError(f"{value} has more than two decimals", PERCENT)
    return int(exact)


def duration_text(value: timedelta) -> str:
    """Return a duration in the notation that `duration` parses, such as `1h30m`."""
    whole, micro = divmod(value, timedelta(seconds=1))
    seconds, parts = whole, []
    for unit, length in (("h", 3600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    if micro:
        parts.append(f"{Decimal(micro // timedelta(microseconds=1)) / 1000}ms")
    return "".join(parts) or "0s"


def size_text(value: int) -> str:
    """Return a size in the notation that `size` parses, such as `32MiB`."""
    for unit in ("GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def percent_number(value: int) -> int | float:
    """Return basis points as a percentage; the inverse of `basis_points`."""
    return value // 100 if value % 100 == 0 else value / 100


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return str(value).lower()
        case dict():
            return "a mapping"
        case list():
            return "a list"
        case _:
            return repr(value)
