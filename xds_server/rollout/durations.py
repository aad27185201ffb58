"""Durations as text."""

from __future__ import annotations

__all__ = ["format_duration"]


def format_duration(seconds: float) -> str:
    """Format seconds as `250 ms`, `6 s`, `1 h`, `1 h 30 min` or `3 d`."""
    if 0 < seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    days, rest = divmod(round(seconds), 86_400)
    hours, rest = divmod(rest, 3_600)
    minutes, left = divmod(rest, 60)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (left, "s"))
    return " ".join(f"{count} {unit}" for count, unit in parts if count) or "0 s"
