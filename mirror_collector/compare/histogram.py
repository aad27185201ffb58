"""A histogram of durations with buckets of equal relative width, which can be added up and stored.

Any quantile is right within one percent. Its size is bounded by the range it covers: a microsecond to a day.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Histogram"]

_LOG_GROWTH: Final = math.log(1.02)
_LEAST_MS: Final = 1e-3
_MOST_MS: Final = 8.64e7


@dataclass(slots=True)
class Histogram:
    """Counts by bucket; bucket *i* holds values in (1.02^(i-1), 1.02^i] milliseconds."""

    buckets: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Values added so far."""
        return sum(self.buckets.values())

    def add(self, value_ms: float) -> None:
        """Count one value; what lies outside the range counts at its edge."""
        clamped = min(max(value_ms, _LEAST_MS), _MOST_MS)
        bucket = math.ceil(math.log(clamped) / _LOG_GROWTH)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def quantile(self, q: float) -> float | None:
        """The milliseconds that the share `q` (0..1) of all values does not exceed; None without values."""
        rank = max(1, math.ceil(q * self.count))
        below = 0
        for bucket in sorted(self.buckets):
            below += self.buckets[bucket]
            if below >= rank:
                return math.exp((bucket - 0.5) * _LOG_GROWTH)
        return None

    def merge(self, other: Histogram) -> None:
        """Add all of `other`."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def to_json(self) -> dict[str, int]:
        """A JSON object that `from_json` reads."""
        return {str(bucket): count for bucket, count in sorted(self.buckets.items())}

    @classmethod
    def from_json(cls, value: Mapping[str, int]) -> Histogram:
        """The histogram `to_json` wrote."""
        return cls({int(bucket): count for bucket, count in value.items()})
