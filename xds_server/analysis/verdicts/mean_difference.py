"""Does the candidate use more: tokens, money, time between tokens? A sequential test of means (pure).

Each block contributes the difference of the two arms' means. Blocks are weighted by the harmonic size of the
arms, and their variance is estimated from the blocks themselves, so that clustered requests do not inflate
precision. The evidence is Robbins' normal mixture over harmful effects, an e-process once there are enough
blocks for means to be normal: it exceeds 1/alpha at any time with a probability of about alpha when nothing
is wrong.

Blocks that are all equal do not prove that requests are: answers limited to 16 tokens, or rounding, make them
so. A smallest deviation per request is therefore assumed, and differences that rounding explains are zero.

Evidence may begin at any time, as it does for odds ratios (`mixed_starts`). A normal mixture needs the sums
since its start, so that only starts at ages that grow geometrically are kept. The others lose their weight,
which is valid.

Source: Robbins 1970; Waudby-Smith et al., "Time-uniform central limit theory" (asymptotic confidence
sequences).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import erfc, log, sqrt
from typing import Final

from xds_server.analysis.verdicts.e_values import log_sum_exp
from xds_server.analysis.verdicts.mixed_starts import START_SECONDS, start_weight

__all__ = ["MIN_BLOCKS", "MeanStarts", "Means"]

MIN_BLOCKS: Final = 8
"""With fewer blocks there is no evidence: their variance is unknown."""

_TUNED: Final = 300.0
"""The number of requests of the smaller arm at which the bounds are tightest."""
_RESOLUTION: Final = 1e-9
"""Differences up to this size (relative, or of logarithms) are rounding errors of sums and count as zero."""
_AGE_RATIO: Final = 1.5
"""The largest ratio of the ages, in blocks, of two starts that are kept, apart from the youngest ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """Weighted sums over blocks: weights, differences and squared differences.

    `noise` is the smallest standard deviation of one request's value that is assumed. It is positive: without
    it, blocks that are all equal would be infinitely precise.
    """

    noise: float = 0.01
    weight: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    blocks: int = 0

    def add_block(self, difference: float, candidate_n: int, control_n: int) -> Means:
        """Return the sums with one more block."""
        if not candidate_n or not control_n:
            return self
        return self.add_weighted(difference, _weight(candidate_n, control_n))

    def add_weighted(self, difference: float, weight: float) -> Means:
        """Return the sums with one more block of this weight."""
        if abs(difference) <= _RESOLUTION:
            difference = 0.0
        return replace(
            self,
            weight=self.weight + weight,
            total=self.total + weight * difference,
            squares=self.squares + weight * difference * difference,
            blocks=self.blocks + 1,
        )

    @property
    def mean(self) -> float:
        """The estimated difference."""
        return self.total / self.weight if self.weight else 0.0

    def log_evidence_above(self, limit: float, least_sigma: float = 0.0) -> float:
        """Return the log evidence against a difference of at most `limit`.

        `least_sigma` is the smallest standard deviation of one request's value.
        """
        return self._evidence(self.mean - limit, least_sigma)

    def log_evidence_below(self, limit: float) -> float:
        """Return the log evidence against a difference of at least `limit`."""
        return self._evidence(limit - self.mean)

    def bounds(self, below_alpha: float, above_alpha: float) -> tuple[float | None, float | None]:
        """Return the bounds of the difference, valid for all checks together.

        The difference lies below the lower bound with a probability of about `below_alpha` at most, and above
        the upper one with about `above_alpha`.
        """
        if self.blocks < MIN_BLOCKS:
            return None, None
        return self.mean - self._reach(-log(below_alpha)), self.mean + self._reach(-log(above_alpha))

    def _reach(self, against: float) -> float:
        """Return the distance from the mean at which the evidence is `against`."""
        low, high = 0.0, self.sigma
        while self._evidence(high) < against:
            high *= 2
        for _ in range(40):
            middle = (low + high) / 2
            low, high = (low, middle) if self._evidence(middle) >= against else (middle, high)
        return high

    @property
    def sigma(self) -> float:
        """The standard deviation of one request's value, estimated from at least two blocks."""
        spread = max(0.0, self.squares - self.weight * self.mean * self.mean) / (self.blocks - 1)
        return max(self.noise, sqrt(spread))

    def _evidence(self, excess: float, least_sigma: float = 0.0) -> float:
        if self.blocks < MIN_BLOCKS:
            return 0.0
        total = excess * self.weight / max(self.sigma, least_sigma)
        whole = self.weight + _TUNED
        z = total / sqrt(whole)
        return log(_TUNED / whole) / 2 + _log_twice_normal(z) + z * z / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanStarts:
    """The sums over all blocks, and those since later starts with their weights, the oldest first.

    Differences of blocks shorter than ten seconds are averaged first, since their means are far from normal:
    `open` has the seconds, the weight and the weighted sum of those that are not added yet.

    A later start has few blocks, and its own variance is uncertain. The deviation of all blocks is therefore
    the least that is assumed.
    """

    whole: Means = field(default_factory=Means)
    later: tuple[tuple[float, Means], ...] = ()
    starts: int = 0
    open: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def add_block(
        self, difference: float, candidate_n: int, control_n: int, seconds: float = START_SECONDS
    ) -> MeanStarts:
        """Return the sums with one more block of `seconds`, with which evidence starts anew, too."""
        if not candidate_n or not control_n:
            return self
        weight = _weight(candidate_n, control_n)
        seconds, whole = seconds + self.open[0], weight + self.open[1]
        total = weight * difference + self.open[2]
        if seconds < START_SECONDS:
            return replace(self, open=(seconds, whole, total))
        return self._add(total / whole, whole)

    def _add(self, difference: float, weight: float) -> MeanStarts:
        later = tuple((part, means.add_weighted(difference, weight)) for part, means in self.later)
        if self.starts:
            first = Means(noise=self.whole.noise).add_weighted(difference, weight)
            later = _thinned((*later, (start_weight(self.starts), first)))
        return MeanStarts(
            whole=self.whole.add_weighted(difference, weight), later=later, starts=self.starts + 1
        )

    def log_evidence_above(self, limit: float) -> float:
        """Return the log evidence that the difference has been above `limit` since some start."""
        first, sigma = start_weight(0), self._sigma
        parts = [log(first) + self.whole.log_evidence_above(limit)]
        parts += [log(weight) + means.log_evidence_above(limit, sigma) for weight, means in self.later]
        unused = 1 - first - sum(weight for weight, _ in self.later)
        return log_sum_exp((*parts, log(unused)))

    def doubt_above(self, limit: float) -> float:
        """Return the log evidence since any later start that the difference is above `limit`."""
        sigma = self._sigma
        return max((means.log_evidence_above(limit, sigma) for _, means in self.later), default=0.0)

    @property
    def _sigma(self) -> float:
        return self.whole.sigma if self.whole.blocks > 1 else 0.0


def _weight(candidate_n: int, control_n: int) -> float:
    return candidate_n * control_n / (candidate_n + control_n)


def _thinned(starts: tuple[tuple[float, Means], ...]) -> tuple[tuple[float, Means], ...]:
    """Return the starts without those that have both neighbors close in age; the newest ones are all kept."""
    kept: list[tuple[float, Means]] = []
    for place, start in enumerate(starts):
        is_inner = 0 < place < len(starts) - 1
        if is_inner and kept[-1][1].blocks <= _AGE_RATIO * starts[place + 1][1].blocks:
            continue
        kept.append(start)
    return tuple(kept)


def _log_twice_normal(z: float) -> float:
    """Return log(2 Phi(z)), by the asymptotic tail for very negative z."""
    if z < -25:
        return -z * z / 2 - log(-z) + log(sqrt(2 / 3.141592653589793))
    return log(erfc(-z / sqrt(2)))
