"""Coordinates of the graphics on the pages. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Timeline", "TimelineLane", "interval", "timeline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineLane:
    """One leg on the timeline.

    `first`, `end` and `marks` are percentages of the timeline's width. If there are many chunks, only every
    n-th one has a mark.
    """

    role: str
    variant: str
    first: float | None
    end: float | None
    marks: tuple[float, ...]
    first_ms: float | None
    total_ms: float | None
    chunks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The lanes of a pair, and the width of the time axis in milliseconds."""

    lanes: tuple[TimelineLane, ...]
    width_ms: float
    ticks: tuple[tuple[float, str], ...]
    """Position in percent and label of each tick of the axis."""


_MAX_MARKS = 200
_TICKS = 4


def timeline(legs: Sequence[dict[str, Any]]) -> Timeline:
    """Return the timeline of the legs of a pair; each leg starts at 0."""
    durations = [_ms(leg, "last_chunk_at") or 0.0 for leg in legs]
    width = max([*durations, 1.0])
    lanes = []
    for leg in legs:
        first, end = _ms(leg, "first_chunk_at"), _ms(leg, "last_chunk_at")
        times = [at / 1000 for at, _ in leg.get("times", ())]
        step = max(1, len(times) // _MAX_MARKS)
        lanes.append(
            TimelineLane(
                role=leg["role"],
                variant=leg["variant"],
                first=None if first is None else _percent(first, width),
                end=None if end is None else _percent(end, width),
                marks=tuple(_percent(at, width) for at in times[::step] if 0 <= at <= width),
                first_ms=first,
                total_ms=end,
                chunks=leg["chunks"],
            )
        )
    ticks = tuple(
        (100 * number / _TICKS, f"{width * number / _TICKS:,.0f} ms") for number in range(_TICKS + 1)
    )
    return Timeline(lanes=tuple(lanes), width_ms=width, ticks=ticks)


def interval(measure: dict[str, Any] | None) -> dict[str, float] | None:
    """Return a mean and its interval as percentages of a bar that spans 0 to 1; None without a measure."""
    if measure is None:
        return None
    mean, margin = measure["mean"], measure["margin"] or 0.0
    low, high = max(0.0, mean - margin), min(1.0, mean + margin)
    return {"mean": 100 * mean, "low": 100 * low, "width": max(0.6, 100 * (high - low))}


def _ms(leg: dict[str, Any], name: str) -> float | None:
    """Milliseconds since the start of the leg; None if unknown, or negative due to a clock change."""
    if leg[name] is None:
        return None
    elapsed: float = 1000 * (leg[name] - leg["started_at"])
    return elapsed if elapsed >= 0 else None


def _percent(value: float, width: float) -> float:
    return round(100 * value / width, 3)
