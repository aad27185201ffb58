"""How old evidence may be before it counts as missing, and how its time is written (pure)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

__all__ = ["FRESH_SECONDS", "format_time", "is_stale"]

FRESH_SECONDS: Final = 60.0
"""Without a new comparison for longer than this, a verdict that is not Fail is NoData."""
_FRESH_BLOCKS: Final = 1.5
"""The same limit in block lengths; the longer of both applies, as a block adds evidence only at its end."""


def is_stale(at: float | None, now: float, block_seconds: float = 0.0) -> bool:
    """Return whether evidence of time `at` (None: there is none) is too old at `now`; both in seconds."""
    return at is None or now - at > max(FRESH_SECONDS, _FRESH_BLOCKS * block_seconds)


def format_time(at: float) -> str:
    """Format a time: 0.0 → `1970-01-01 00:00:00 UTC`."""
    return f"{datetime.fromtimestamp(at, tz=UTC):%Y-%m-%d %H:%M:%S} UTC"
