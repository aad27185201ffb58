"""Evidence that may begin at any time, so that health does not delay the detection of a later fault (pure).

A product of likelihood ratios from the start of a run banks health: each healthy block makes it smaller, and
a later fault has to make up for all of them. Here, evidence starts anew again and again. Each start has a
part of the weight, and together they have at most all of it, so that the mixture stays an e-process: under
"not worse" it exceeds 1/alpha at any time with a probability of at most alpha. Half of the weight is that of
the first start; the k-th later one has a weight in proportion to 1/(k log² k). A fault after hours then needs
evidence that is larger by the reciprocal of its weight, whatever the health before.

All later starts share the likelihood ratios from then on. One sum per alternative therefore has all of them,
whatever their number: M(t) = (M(t - 1) + weight(t)) * ratio(t). The first start is apart, so that the
evidence is at least half of that without any later start.

A proof of health needs the whole run, and a candidate that was sound for hours would have it for hours more.
`doubt` is therefore the evidence since the least favorable start, without weights: the statistic of CUSUM.
Chance alone raises it now and then, so that it takes no user away, but nothing passes meanwhile.

Source: Shin, Ramdas and Rinaldo, "E-detectors".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, log
from typing import TYPE_CHECKING, Final

import numpy as np

from xds_server.analysis.verdicts.e_values import log_sum_exp

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["DOUBT", "START_SECONDS", "MixedStarts", "log_mean", "start_weight"]

START_SECONDS: Final = 10.0
"""The shortest time between two starts; short blocks would otherwise use up the weight."""
DOUBT: Final = 4.0
"""The log evidence of the newest blocks, 55 : 1, from which a candidate does not pass."""
_FIRST: Final = 0.5
_SUM: Final = 2.11
"""An upper bound of the sum of 1/(n log² n) over n from 2 on."""


def start_weight(number: int) -> float:
    """Return the weight of a start, counted from 0; the sum over all starts is below 1."""
    if number == 0:
        return _FIRST
    return (1 - _FIRST) / (_SUM * (number + 1) * log(number + 1) ** 2)


def log_mean(values: NDArray[np.float64]) -> float:
    """Return the logarithm of the mean of e-values given as logarithms; 0 without values."""
    if not len(values):
        return 0.0
    top = float(values.max())
    return top + log(float(np.exp(values - top).mean()))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MixedStarts:
    """The log-likelihood ratio of each alternative, mixed over the later starts with `weight` in all.

    Ratios are divided by the dispersion `phi` of the newest block, those of earlier blocks too. `newest` are
    the ratios since the least favorable start of each alternative. `starts` includes the first one, and
    `seconds` have passed since the last.
    """

    ratios: NDArray[np.float64]
    newest: NDArray[np.float64]
    phi: float = 1.0
    starts: int = 0
    weight: float = 0.0
    seconds: float = inf

    @classmethod
    def initial(cls, alternatives: int) -> MixedStarts:
        """Return the state before the first block."""
        return cls(ratios=np.zeros(alternatives), newest=np.zeros(alternatives))

    def add_block(self, ratios: NDArray[np.float64], phi: float, seconds: float) -> MixedStarts:
        """Return the state after a block of `seconds` with these log-likelihood ratios.

        Evidence starts with the block if the last start is long enough ago.
        """
        known = self._with_phi(max(1.0, phi))
        if known.seconds >= START_SECONDS:
            known = _with_start(known)
        return replace(
            known,
            ratios=known.ratios + ratios if known.weight else known.ratios,
            newest=np.maximum(0.0, known.newest) + ratios,
            seconds=known.seconds + seconds,
        )

    def wait(self, phi: float, seconds: float) -> MixedStarts:
        """Return the state after a block of `seconds` without evidence."""
        return replace(self._with_phi(max(1.0, phi)), seconds=self.seconds + seconds)

    def log_evidence(self, first: float) -> float:
        """Return the log evidence for the alternatives, given that since the first start."""
        parts = [log(_FIRST) + first, log(1 - _FIRST - self.weight)]
        if self.weight:
            parts.append(log(self.weight) + log_mean(self.ratios / self.phi))
        return log_sum_exp(parts)

    @property
    def doubt(self) -> float:
        """The log evidence for the alternatives since the least favorable start, at any time."""
        return log_mean(self.newest / self.phi)

    def _with_phi(self, phi: float) -> MixedStarts:
        """Return the evidence divided by another dispersion.

        A higher one makes evidence for an alternative weaker, but takes back nothing of the evidence against
        it: a start must not get more weight than it had.
        """
        kept = np.where(self.ratios < 0, self.ratios * max(1.0, phi / self.phi), self.ratios)
        return replace(self, ratios=kept, phi=phi)


def _with_start(before: MixedStarts) -> MixedStarts:
    """Return the evidence with one more start, which has no ratio yet."""
    starts = before.starts + 1
    if not before.starts:
        return replace(before, starts=starts, seconds=0.0)
    added = start_weight(before.starts)
    weight = before.weight + added
    if not before.weight:
        return replace(before, starts=starts, weight=weight, seconds=0.0)
    mixed = np.logaddexp(log(before.weight) + before.ratios / before.phi, log(added)) - log(weight)
    return replace(before, ratios=before.phi * mixed, starts=starts, weight=weight, seconds=0.0)
