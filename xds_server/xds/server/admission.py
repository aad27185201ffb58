"""A token bucket that limits the rate of new streams (pure).

Setting up a stream costs much more CPU than serving it, and after an outage all proxies reconnect at once.
Rejected proxies retry, which Envoy does with increasing intervals.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Admission"]


@dataclass(slots=True)
class Admission:
    """Admits `rate` streams a second on average, and `burst` at once."""

    rate: float = 500.0
    burst: float = 10_000.0
    _level: float | None = None
    _updated_at: float = 0.0

    def take(self, now: float) -> bool:
        """Return whether a new stream is admitted; `now` never decreases."""
        level = self.burst if self._level is None else self._level + (now - self._updated_at) * self.rate
        level = min(level, self.burst)
        self._updated_at = now
        self._level = level - 1 if level >= 1 else level
        return level >= 1
