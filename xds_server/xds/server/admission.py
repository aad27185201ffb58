"""How fast new streams may come in (pure): a bucket that fills with time.

Setting a stream up costs a good deal more than serving it. After an outage all proxies come back at once;
those that find no room are told to try again, which Envoy does with growing pauses.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Admission"]


@dataclass(slots=True)
class Admission:
    """`rate` streams a second in the long run, `burst` at once."""

    rate: float = 500.0
    burst: float = 10_000.0
    _level: float | None = None
    _at: float = 0.0

    def take(self, now: float) -> bool:
        """Return whether one more may come in; `now` never goes back."""
        level = self.burst if self._level is None else self._level + (now - self._at) * self.rate
        level = min(level, self.burst)
        self._at = now
        self._level = level - 1 if level >= 1 else level
        return level >= 1
