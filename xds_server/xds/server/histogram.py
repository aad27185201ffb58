"""Counts by upper bound, kept by whoever measures and read at scrape time."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

__all__ = ["Histogram"]


@dataclass(slots=True)
class Histogram:
    """`bounds` are inclusive upper bounds in rising order; what is above the last is counted beyond it."""

    bounds: tuple[float, ...]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """One more count than bounds."""
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Add the counts of another with the same bounds."""
        self.total += other.total
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (bound, how many were at most that), as Prometheus has it."""
        running, found = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            found.append((bound, float(running)))
        return found
