"""A histogram with fixed buckets, read when metrics are scraped."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

__all__ = ["Histogram"]


@dataclass(slots=True)
class Histogram:
    """Counts by bucket, and the `total` of all values.

    `bounds` are inclusive upper bounds, ascending; the last bucket has no bound.
    """

    bounds: tuple[float, ...]
    total: float = 0.0
    counts: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Create one bucket more than there are bounds."""
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Add a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: Histogram) -> None:
        """Add the counts of a histogram with the same bounds."""
        self.total += other.total
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]

    def cumulative(self) -> list[tuple[str, float]]:
        """Return (upper bound, cumulative count) of each bucket, as Prometheus expects them."""
        running, found = 0, []
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            running += count
            found.append((bound, float(running)))
        return found
