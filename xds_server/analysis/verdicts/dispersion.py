"""By how much failures come in bursts: one user's retries, one bad replica, one long prompt (pure).

Tests count requests as if each failed by itself. Where failures come in bursts of three, that lets a quarter
of all equal candidates look guilty. The control arm shows how clustered they are: the variance of its share
from one block to the next, over what independent requests would give. Only differences of neighbours count,
so that slow drift is no burst; and a leap that the candidate makes as well is an incident of both and no
burst. Sums are divided and not quotients averaged, which would come out too small for rare failures. A little
is assumed before anything was seen, some is added while little was, and what is long past is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

__all__ = ["Dispersion"]

_ASSUMED: Final = 2.0
_ASSUMED_BLOCKS: Final = 3.0
_FADING: Final = 0.5 ** (1 / 120)
"""What is left of a block one block later: half of it is gone after a hundred and twenty."""
_LEAP: Final = 9.0
_FOLLOWS: Final = 2.0

_Share = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """Squared differences of neighbouring blocks of control, and what chance alone would make of them.

    `last` is (failed, all) of control in the block before, `beside` the same of the candidate.
    """

    seen: float = 0.0
    expected: float = 0.0
    blocks: float = 0.0
    last: _Share | None = None
    beside: _Share = (0, 0)

    def after(self, control: _Share, candidate: _Share = (0, 0)) -> Dispersion:
        """Return what is known after one more block: (failed, all) of each arm."""
        if not control[1]:
            return self
        if self.last is None:
            return replace(self, last=control, beside=candidate)
        difference, chance = _change(self.last, control)
        moved = replace(self, last=control, beside=candidate)
        if difference**2 > _LEAP * chance and _went_along(self.beside, candidate, difference):
            return moved
        return replace(
            moved,
            seen=_FADING * self.seen + difference**2,
            expected=_FADING * self.expected + chance,
            blocks=_FADING * self.blocks + 1,
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


def _change(before: _Share, after: _Share) -> tuple[float, float]:
    """Return by how much a share changed, and the variance that chance alone gives that."""
    (x, n), (y, m) = before, after
    share = (x + y) / (n + m)
    return y / m - x / n, share * (1 - share) * (1 / n + 1 / m)


def _went_along(before: _Share, after: _Share, difference: float) -> bool:
    """Return whether the candidate's share leapt the same way."""
    if not before[1] or not after[1]:
        return False
    own, chance = _change(before, after)
    return own * difference > 0 and own**2 > _FOLLOWS**2 * chance
