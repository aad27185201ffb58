"""Exponential backoff with jitter (pure)."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RetryPolicy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """The delays before retries, in seconds.

    The delay grows by `factor` with each failed attempt, up to `longest_delay`. `jitter` is the share of the
    delay that is random: with 0.5 a delay is between half of its full length and its full length. Jitter
    keeps clients that failed at the same time from retrying at the same time.
    """

    first_delay: float
    longest_delay: float
    factor: float = 2.0
    jitter: float = 0.0

    def delay(self, attempt: int, random: float = 1.0) -> float:
        """Return the delay after a failed attempt.

        Args:
            attempt: the number of the failed attempt, from 0.
            random: a random number in [0, 1]; 1 gives the full delay.
        """
        try:
            full = min(self.first_delay * self.factor**attempt, self.longest_delay)
        except OverflowError:
            full = self.longest_delay
        return full * (1.0 - self.jitter + self.jitter * random)
