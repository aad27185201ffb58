"""How often a judge may be asked, and what it may cost in a day. Pure: the time is a parameter."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Budget"]

_DAY = 86_400


@dataclass(slots=True, kw_only=True)
class Budget:
    """Calls per minute, and cost per day (UTC) at prices per million tokens."""

    per_minute: float
    cost_per_day: float
    input_per_million: float = 0.0
    output_per_million: float = 0.0
    spent: float = 0.0
    _tokens: float = 0.0
    _filled_at: float | None = None
    _day: int = -1

    def take(self, now: float, calls: int = 2) -> str:
        """Take room for so many calls; returns why not, empty where there is room."""
        if int(now // _DAY) != self._day:
            self._day, self.spent = int(now // _DAY), 0.0
        if self.spent >= self.cost_per_day and self._priced:
            return "cost_per_day"
        most = max(float(calls), self.per_minute)
        before = now if self._filled_at is None else self._filled_at
        start = most if self._filled_at is None else self._tokens
        self._tokens = min(most, start + max(0.0, now - before) * self.per_minute / 60)
        self._filled_at = max(now, before)
        if self._tokens < calls:
            return "per_minute"
        self._tokens -= calls
        return ""

    def spend(self, tokens_in: int, tokens_out: int) -> None:
        """Note what a call cost."""
        self.spent += (tokens_in * self.input_per_million + tokens_out * self.output_per_million) / 1e6

    @property
    def _priced(self) -> bool:
        return self.input_per_million > 0 or self.output_per_million > 0
