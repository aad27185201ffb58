"""Limits on the calls of a judge: a rate and a daily cost. Pure: the time is a parameter."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Budget"]

_DAY = 86_400


@dataclass(slots=True, kw_only=True)
class Budget:
    """A token bucket of calls per minute, and a cost limit per day (UTC) at prices per million tokens.

    If both prices are 0, the cost is not limited.
    """

    per_minute: float
    cost_per_day: float
    input_per_million: float = 0.0
    output_per_million: float = 0.0
    spent: float = 0.0
    """Cost of the current day."""

    _tokens: float = 0.0
    _filled_at: float | None = None
    _day: int = -1

    def reserve(self, now: float, calls: int = 2) -> str:
        """Reserve `calls` calls; return the name of the exhausted limit, empty on success."""
        if int(now // _DAY) != self._day:
            self._day, self.spent = int(now // _DAY), 0.0
        if self.spent >= self.cost_per_day and self._has_prices:
            return "cost_per_day"
        capacity = max(float(calls), self.per_minute)
        filled_at = now if self._filled_at is None else self._filled_at
        tokens = capacity if self._filled_at is None else self._tokens
        self._tokens = min(capacity, tokens + max(0.0, now - filled_at) * self.per_minute / 60)
        self._filled_at = max(now, filled_at)
        if self._tokens < calls:
            return "per_minute"
        self._tokens -= calls
        return ""

    def record_usage(self, tokens_in: int, tokens_out: int) -> None:
        """Add the cost of a call."""
        self.spent += (tokens_in * self.input_per_million + tokens_out * self.output_per_million) / 1e6

    @property
    def _has_prices(self) -> bool:
        return self.input_per_million > 0 or self.output_per_million > 0
