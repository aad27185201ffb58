"""By how much failures come in bursts: one user's retries, one bad replica, one long prompt (pure).

Tests count requests as if each failed by itself. Where failures come in bursts of three, that lets a quarter
of all equal candidates look guilty. The control arm shows how clustered they are: the variance of its share
from one block to the next, over what independent requests would give. Only differences of neighbours count,
so that slow drift is no burst; sums are divided and not quotients averaged, which would come out too small
for rare failures. A little is assumed before anything was seen, and some is added while little was.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

__all__ = ["Dispersion"]

_ASSUMED: Final = 2.0
_ASSUMED_BLOCKS: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """Squared differences of neighbouring blocks of control, and what chance alone would make of them."""

    seen: float = 0.0
    expected: float = 0.0
    blocks: int = 0
    last: tuple[int, int] | None = None

    def after(self, x: int, n: int) -> Dispersion:
        """Return what is known after one more block of control: `x` of `n` failed."""
        if n == 0:
            return self
        if self.last is None:
            return replace(self, last=(x, n))
        before_x, before_n = self.last
        share = (x + before_x) / (n + before_n)
        return Dispersion(
            seen=self.seen + (x / n - before_x / before_n) ** 2,
            expected=self.expected + share * (1 - share) * (1 / n + 1 / before_n),
            blocks=self.blocks + 1,
            last=(x, n),
        )

    @property
    def phi(self) -> float:
        """The factor by which evidence is to be divided, at least 1."""
        usual = self.expected / self.blocks if self.blocks else 0.0
        if not usual:
            return _ASSUMED
        prior = _ASSUMED_BLOCKS * usual
        found = (_ASSUMED * prior + self.seen) / (prior + self.expected)
        return max(1.0, found + max(0.0, found - 1) / sqrt(self.blocks + _ASSUMED_BLOCKS))
