"""A histogram of durations with buckets of equal relative width.

Quantiles are accurate to one percent. The range from one microsecond to one day bounds the number of buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Histogram"]

_LOG_GROWTH: Final = math.log(1.02)
_MIN_MS: Final = 1e-3
_MAX_MS: Final = 8.64e7


@dataclass(slots=True)
class Histogram:
    """Counts by bucket; bucket *i* contains values in (1.02^(i-1), 1.02^i] milliseconds."""

    buckets: dict[int, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.buckets.values())

    def add(self, value_ms: float) -> None:
        """Count one value; a value outside the range is counted in the first or the last bucket."""
        clamped = min(max(value_ms, _MIN_MS), _MAX_MS)
        bucket = math.ceil(math.log(clamped) / _LOG_GROWTH)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def quantile(self, q: float) -> float | None:
        """Return the `q` quantile (`q` in [0, 1]) in milliseconds; None without values."""
        rank = max(1, math.ceil(q * self.count))
        cumulative = 0
        for bucket in sorted(self.buckets):
            cumulative += self.buckets[bucket]
            if cumulative >= rank:
                return math.exp((bucket - 0.5) * _LOG_GROWTH)
        return None

    def merge(self, other: Histogram) -> None:
        """Add the counts of `other`."""
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def to_json(self) -> dict[str, int]:
        """Return a JSON object that `from_json` reads."""
        return {str(bucket): count for bucket, count in sorted(self.buckets.items())}

    @classmethod
    def from_json(cls, value: Mapping[str, int]) -> Histogram:
        """Return the histogram that `to_json` wrote."""
        return cls({int(bucket): count for bucket, count in value.items()})
