"""Does the candidate fail grossly while the control has no requests to compare it with? (pure).

At a weight of 100 %, and from the first request on if a strategy moves all users at once, the control is
idle. What remains of it is the failed share of its last blocks, which is frozen. Base rates drift with the
time of day, the traffic and the providers behind a model, and such a drift cannot be distinguished from a
fault of the candidate. Therefore only a gross fault is evidence: a share above three times the odds of the
control's last share, taken at the upper end of its confidence interval, and above 2 % in any case. Three
times is the default margin of failures, so that a candidate that has just passed is not above the limit.
Below 2 % a rate of one in two hundred may double or triple by itself. If the control's very last blocks were
worse than the ones before, they count: an incident of both arms may have begun. Without any requests of the
control, the limit is 20 %.

Evidence is a betting process on single requests: under "not above the limit" it exceeds 1/alpha at any time
with a probability of at most alpha. It mixes over the block in which a fault may have begun (block t with a
weight of 1/(t(t + 1))), so that an hour of health does not delay the detection of a later fault. It is
evidence against the candidate and never for it.

Source: Ville's inequality; Shin, Ramdas and Rinaldo, "E-detectors".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, log, sqrt
from typing import Final

import numpy as np

from xds_server.analysis.verdicts.e_values import log_mean_exp

__all__ = ["ALPHA_PART", "FrozenRate"]

ALPHA_PART: Final = 0.25
"""The part of a guardrail's alpha that this test may use, in addition to that of the comparison."""

_SECONDS: Final = 10.0
_FADING: Final = 0.98
_FADING_OF_RECENT: Final = 0.7
"""The weight of requests relative to those ten seconds later."""
_PRIOR_REQUESTS: Final = 2.0
"""Assumed requests with the usual failed share; they smooth the share of the control's very last blocks."""
_TOLERATED_ODDS: Final = 3.0
_LEAST_LIMIT: Final = 0.02
_LIMIT_WITHOUT_CONTROL: Final = 0.2
_ALTERNATIVES: Final = (4.0, 16.0, 64.0, 256.0)
"""The odds of failing that the bets are on, as multiples of those of the limit."""
_DEVIATIONS: Final = 2.6
"""The half width of the control's confidence interval, in standard deviations: 99 %."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenRate:
    """The control's share of failures (`failed` of `total`, older blocks fading), and the bets against it.

    `recent_failed` of `recent_total` are those of the last few blocks with requests of the control.
    `alone` counts the blocks in which only the candidate had requests: `candidate_failed` of
    `candidate_total`. `bets` are the logarithms of the fortunes, one for each alternative.
    """

    failed: float = 0.0
    total: float = 0.0
    recent_failed: float = 0.0
    recent_total: float = 0.0
    alone: int = 0
    candidate_failed: int = 0
    candidate_total: int = 0
    bets: tuple[float, ...] = (-inf,) * len(_ALTERNATIVES)

    def add_control(self, failed: int, total: int, seconds: float = _SECONDS) -> FrozenRate:
        """Return the state after a block of `seconds` with requests of the control."""
        if not total:
            return self
        fading, fading_of_recent = (f ** (seconds / _SECONDS) for f in (_FADING, _FADING_OF_RECENT))
        return replace(
            self,
            failed=fading * self.failed + failed,
            total=fading * self.total + total,
            recent_failed=fading_of_recent * self.recent_failed + failed,
            recent_total=fading_of_recent * self.recent_total + total,
        )

    def add_candidate_alone(self, failed: int, total: int, phi: float = 1.0) -> FrozenRate:
        """Return the state after a block with requests of the candidate only; `phi` is the dispersion."""
        if not total:
            return self
        limit, block = self.limit(phi), self.alone + 1
        started = -log(block * (block + 1))
        return replace(
            self,
            alone=block,
            candidate_failed=self.candidate_failed + failed,
            candidate_total=self.candidate_total + total,
            bets=tuple(
                float(np.logaddexp(bet, started)) + _log_likelihood_ratio(failed, total, limit, times) / phi
                for bet, times in zip(self.bets, _ALTERNATIVES, strict=True)
            ),
        )

    @property
    def log_evidence(self) -> float:
        """The log evidence that the candidate's share is above the limit; -inf if it was never alone."""
        return log_mean_exp(self.bets) if self.alone else -inf

    def limit(self, phi: float = 1.0) -> float:
        """Return the share of failures in (0, 1) above which the candidate fails grossly."""
        if not self.total:
            return _LIMIT_WITHOUT_CONTROL
        share = self.failed / self.total
        recent = self.recent_failed + _PRIOR_REQUESTS * share
        recent /= self.recent_total + _PRIOR_REQUESTS
        upper = max(_upper_bound(share, self.total / max(1.0, phi)), min(recent, 0.999))
        tolerated = _TOLERATED_ODDS * upper / (1 - upper)
        return max(_LEAST_LIMIT, tolerated / (1 + tolerated))


def _upper_bound(share: float, n: float) -> float:
    """Return the upper end of the Wilson interval of a share of `n` requests, below 1."""
    square = _DEVIATIONS**2
    spread = sqrt(share * (1 - share) / n + square / (4 * n * n))
    return min(0.999, (share + square / (2 * n) + _DEVIATIONS * spread) / (1 + square / n))


def _log_likelihood_ratio(failed: int, total: int, limit: float, times: float) -> float:
    odds = times * limit / (1 - limit)
    share = odds / (1 + odds)
    return failed * log(share / limit) + (total - failed) * log((1 - share) / (1 - limit))
