"""Does the candidate take more: tokens, money, time between tokens? An answer that survives looking (pure).

Each block gives the difference of the two arms' means; blocks weigh as much as the smaller arm has requests,
and their spread is taken from the blocks themselves, so that clustered requests do not fake precision.
Evidence is Robbins' normal mixture over harmful effects, an e-process once there are enough blocks for means
to be normal: it exceeds 1/alpha at any time with a probability of about alpha where nothing is wrong.

Source: Robbins 1970; Waudby-Smith et al., "Time-uniform central limit theory" (asymptotic confidence
sequences).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, inf, log, sqrt
from typing import Final

__all__ = ["LEAST_BLOCKS", "Means"]

LEAST_BLOCKS: Final = 8
"""Fewer blocks say nothing: their spread is not known yet."""

_TUNED: Final = 300.0
"""The number of requests of the smaller arm at which the bounds are tightest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Weighted sums of the blocks' differences: weights, differences, squares."""

    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    blocks: int = 0

    def after(self, difference: float, candidate_n: int, control_n: int) -> Means:
        """Return what is known after one more block."""
        if not candidate_n or not control_n:
            return self
        weight = candidate_n * control_n / (candidate_n + control_n)
        return Means(
            weight=self.weight + weight,
            total=self.total + weight * difference,
            squares=self.squares + weight * difference * difference,
            blocks=self.blocks + 1,
        )

    @property
    def mean(self) -> float:
        """The difference, as far as is known."""
        return self.total / self.weight if self.weight else 0.0

    def above(self, limit: float) -> float:
        """Return the logarithm of the evidence against a difference of at most `limit`."""
        return self._evidence(self.mean - limit)

    def below(self, limit: float) -> float:
        """Return the logarithm of the evidence against a difference of at least `limit`."""
        return self._evidence(limit - self.mean)

    def bounds(self, below_alpha: float, above_alpha: float) -> tuple[float | None, float | None]:
        """Return between which differences the truth lies, at every look at once.

        It lies below with a probability of about `below_alpha` at most, and above likewise.
        """
        if not self._sigma:
            return None, None
        return self.mean - self._reach(-log(below_alpha)), self.mean + self._reach(-log(above_alpha))

    def _reach(self, against: float) -> float:
        """Return how far from the mean the evidence is that strong."""
        low, high = 0.0, self._sigma
        while self._evidence(high) < against:
            high *= 2
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if self._evidence(middle) >= against else (middle, high)
        return high

    @property
    def _sigma(self) -> float:
        if self.blocks < LEAST_BLOCKS:
            return 0.0
        spread = max(0.0, self.squares - self.weight * self.mean * self.mean) / (self.blocks - 1)
        return sqrt(spread)

    def _evidence(self, excess: float) -> float:
        if self.blocks < LEAST_BLOCKS:
            return 0.0
        sigma = self._sigma
        if not sigma:
            return 0.0 if excess <= 0 else inf
        total = excess * self.weight / sigma
        whole = self.weight + _TUNED
        z = total / sqrt(whole)
        return log(_TUNED / whole) / 2 + _log_twice_normal(z) + z * z / 2


def _log_twice_normal(z: float) -> float:
    """Return log(2 Phi(z)), for far negative z by its tail."""
    if z < -25:
        return -z * z / 2 - log(-z) + log(sqrt(2 / 3.141592653589793))
    return log(erfc(-z / sqrt(2)))
