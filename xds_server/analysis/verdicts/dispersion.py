"""How clustered failures are: their variance relative to that of independent failures (pure).

One user's retries, one bad replica or one long prompt cause failures in bursts, but the tests treat failures
as independent: bursts of three would make a quarter of all equally good candidates look worse. The factor is
estimated from the control: the variance of its failed share between blocks, divided by the variance that
independent requests would have. Blocks shorter than ten seconds are added up first, since a burst may last
several seconds. Only adjacent blocks are compared, so that slow drift does not count as clustering. A jump
that the candidate shares is an incident of both arms and is ignored. A jump of the control alone counts only
as far as bursts explain it: otherwise one short outage of the control would blind the test for as long as it
is remembered. The estimate is a ratio of sums, since a mean of ratios would be too low for rare failures. A
prior applies before any data, the estimate is raised while there are few blocks, and old blocks fade.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

__all__ = ["Dispersion"]

_PRIOR_PHI: Final = 2.0
_PRIOR_BLOCKS: Final = 3.0
_FADING: Final = 0.5 ** (1 / 120)
"""The weight of a block relative to the next one; the weight of a block halves every 120 blocks."""
_JUMP: Final = 9.0
_FOLLOWS: Final = 2.0
_LARGEST: Final = 64.0
"""Limit of a squared difference, as a multiple of its expectation: that of a burst of 64 failures."""
_HEAVIEST: Final = 16.0
"""Limit of what one change adds to `expected`, as a multiple of the mean of earlier changes."""

_SECONDS: Final = 10.0
"""The shortest block that is compared with the one before."""

_Share = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispersion:
    """Squared differences of adjacent control blocks, and their expectation under independence.

    `last` is (failed, total) of the control in its last block with requests, `last_candidate` the same of the
    candidate in that block. `open_control` and `open_candidate` are those of the `open_seconds` of short
    blocks that are not compared yet.
    """

    observed: float = 0.0
    expected: float = 0.0
    blocks: float = 0.0
    last: _Share | None = None
    last_candidate: _Share = (0, 0)
    open_control: _Share = (0, 0)
    open_candidate: _Share = (0, 0)
    open_seconds: float = 0.0

    def add_block(self, control: _Share, candidate: _Share = (0, 0), seconds: float = _SECONDS) -> Dispersion:
        """Return the state after one more block: (failed, total) of each arm."""
        if not control[1]:
            return self
        control, candidate = _sum(self.open_control, control), _sum(self.open_candidate, candidate)
        seconds += self.open_seconds
        if seconds < _SECONDS:
            return replace(self, open_control=control, open_candidate=candidate, open_seconds=seconds)
        whole = replace(self, open_control=(0, 0), open_candidate=(0, 0), open_seconds=0.0)
        return whole.compare(control, candidate)

    def compare(self, control: _Share, candidate: _Share) -> Dispersion:
        """Return the state after a block of ten seconds or more."""
        if self.last is None:
            return replace(self, last=control, last_candidate=candidate)
        difference, chance = _change(self.last, control)
        moved = replace(self, last=control, last_candidate=candidate)
        if difference**2 > _JUMP * chance and _candidate_jumped_too(
            self.last_candidate, candidate, difference
        ):
            return moved
        usual = self.expected / self.blocks if self.blocks else 0.0
        weight = min(1.0, _HEAVIEST * usual / chance) if usual and chance else 1.0
        return replace(
            moved,
            observed=_FADING * self.observed + weight * min(difference**2, _LARGEST * chance),
            expected=_FADING * self.expected + weight * chance,
            blocks=_FADING * self.blocks + 1,
        )

    @property
    def phi(self) -> float:
        """The factor by which evidence is divided, at least 1."""
        usual = self.expected / self.blocks if self.blocks else 0.0
        if not usual:
            return _PRIOR_PHI
        prior = _PRIOR_BLOCKS * usual
        found = (_PRIOR_PHI * prior + self.observed) / (prior + self.expected)
        return max(1.0, found + max(0.0, found - 1) / sqrt(self.blocks + _PRIOR_BLOCKS))


def _sum(one: _Share, other: _Share) -> _Share:
    return one[0] + other[0], one[1] + other[1]


def _change(before: _Share, after: _Share) -> tuple[float, float]:
    """Return the change of a share, and its variance under independence."""
    (x, n), (y, m) = before, after
    share = (x + y) / (n + m)
    return y / m - x / n, share * (1 - share) * (1 / n + 1 / m)


def _candidate_jumped_too(before: _Share, after: _Share, difference: float) -> bool:
    """Return whether the candidate's share jumped in the same direction."""
    if not before[1] or not after[1]:
        return False
    change, chance = _change(before, after)
    return change * difference > 0 and change**2 > _FOLLOWS**2 * chance
