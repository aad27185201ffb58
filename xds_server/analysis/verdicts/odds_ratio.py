"""Is the candidate more likely to fail? An exact, stratified sequential test of the odds ratio (pure).

In each block of time the failures of both arms are compared given their total, which removes the base rate:
an incident that hits both arms, a ramp of weights or a slow day is no evidence. The evidence of a block is
the likelihood of its table under Fisher's noncentral hypergeometric distribution, as a function of the odds
ratio; the likelihoods of blocks multiply. The mean of likelihood ratios over a grid of worse odds ratios is
an e-process: under "not worse" it exceeds 1/alpha at any time with a probability of at most alpha. In the
other direction the same numbers prove that the candidate is *not* worse than a margin, which a promotion
requires.

`Odds` has the likelihoods since the start of the run and the bounds of the odds ratio over all of it.
`Comparison` mixes starts for the evidence against a candidate, so that a late fault is found like an early
one.

Source: Ville's inequality; Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample
tests".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from typing import TYPE_CHECKING, Final

import numpy as np

from xds_server.analysis.verdicts.mixed_starts import START_SECONDS, MixedStarts, log_mean

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GRID", "Comparison", "Odds", "Table", "grid_with"]

GRID: Final = tuple(2.0 ** (step / 4) for step in range(-16, 17))
"""The odds ratios of the grid: from 1/16 to 16, each about a fifth above the one before."""

_FIRST_FACTORIALS: Final = 1 << 14
_SPREADS: Final = 9.0
"""How far from its mode a distribution is summed, in standard deviations; the rest is below 1e-16."""
_WHOLE: Final = 512
"""Distributions with at most this many outcomes are summed completely."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One block: in each arm `x` of `n` failed."""

    candidate_x: int
    candidate_n: int
    control_x: int
    control_n: int

    @property
    def uninformative(self) -> bool:
        """Whether the block is no evidence: an arm is empty, or all or none of the requests failed."""
        total = self.candidate_x + self.control_x
        return not (self.candidate_n and self.control_n and 0 < total < self.candidate_n + self.control_n)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Odds:
    """The log-likelihood of each odds ratio of the grid, summed over all blocks.

    `phi` is the dispersion: how much more clustered failures are than independent ones. Evidence is divided
    by it.
    """

    grid: tuple[float, ...] = GRID
    loglik: NDArray[np.float64]
    phi: float = 1.0

    @classmethod
    def initial(cls, grid: tuple[float, ...] = GRID) -> Odds:
        """Return the state before the first block."""
        return cls(grid=grid, loglik=np.zeros(len(grid)))

    def add_block(self, table: Table) -> Odds:
        """Return the state after one more block."""
        if table.uninformative:
            return self
        return self.add_likelihoods(_loglik(table, self.grid))

    def add_likelihoods(self, loglik: NDArray[np.float64]) -> Odds:
        """Return the state after a block with these log-likelihoods of the grid."""
        return replace(self, loglik=self.loglik + loglik)

    def with_phi(self, phi: float) -> Odds:
        """Return the same evidence with another dispersion."""
        return replace(self, phi=max(1.0, phi))

    def log_evidence_worse(self, ratio: float) -> float:
        """Return the log evidence against an odds ratio of at most `ratio`."""
        at = _index(self.grid, ratio)
        return log_mean((self.loglik[at + 1 :] - self.loglik[at]) / self.phi)

    def log_evidence_better(self, ratio: float) -> float:
        """Return the log evidence against an odds ratio of at least `ratio`."""
        at = _index(self.grid, ratio)
        return log_mean((self.loglik[:at] - self.loglik[at]) / self.phi)

    def bounds(self, below_alpha: float, above_alpha: float) -> tuple[float | None, float | None]:
        """Return the bounds of the odds ratio, valid for all checks together.

        The odds ratio lies below the lower bound with a probability of at most `below_alpha`, and above the
        upper one with at most `above_alpha`. A bound is None if no ratio of the grid is excluded on that
        side.
        """
        scaled = self.loglik / self.phi
        counts = _logs(tuple(range(1, len(scaled))))
        above = np.logaddexp.accumulate(scaled[:0:-1])[::-1] - counts[::-1] - scaled[:-1]
        below = np.logaddexp.accumulate(scaled[:-1]) - counts - scaled[1:]
        low, high = np.flatnonzero(above >= -log(below_alpha)), np.flatnonzero(below >= -log(above_alpha))
        return (
            self.grid[int(low[-1])] if len(low) else None,
            self.grid[int(high[0]) + 1] if len(high) else None,
        )

    @property
    def most_likely(self) -> float | None:
        """The odds ratio of the grid with the highest likelihood; None without evidence."""
        return self.grid[int(self.loglik.argmax())] if self.loglik.any() else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """The evidence on one odds ratio: all of it in `odds`, that it is above `tolerated` in `worse`."""

    tolerated: float
    odds: Odds
    worse: MixedStarts

    @classmethod
    def initial(cls, tolerated: float = 1.0, margin: float = 3.0) -> Comparison:
        """Return the state before the first block."""
        grid = grid_with(tolerated, margin)
        alternatives = len(grid) - _index(grid, tolerated) - 1
        return cls(tolerated=tolerated, odds=Odds.initial(grid), worse=MixedStarts.initial(alternatives))

    def add_block(self, table: Table, phi: float = 1.0, seconds: float = START_SECONDS) -> Comparison:
        """Return the state after a block of `seconds`; `phi` is the dispersion."""
        if table.uninformative:
            return replace(self, odds=self.odds.with_phi(phi), worse=self.worse.wait(phi, seconds))
        loglik, at = _loglik(table, self.odds.grid), _index(self.odds.grid, self.tolerated)
        return replace(
            self,
            odds=self.odds.add_likelihoods(loglik).with_phi(phi),
            worse=self.worse.add_block(loglik[at + 1 :] - loglik[at], phi, seconds),
        )

    @property
    def log_evidence_worse(self) -> float:
        """The log evidence that the odds ratio has been above `tolerated` since some start."""
        return self.worse.log_evidence(self.odds.log_evidence_worse(self.tolerated))


@lru_cache(maxsize=1024)
def _index(grid: tuple[float, ...], ratio: float) -> int:
    return min(range(len(grid)), key=lambda i: abs(log(grid[i] / ratio)))


@lru_cache(maxsize=256)
def grid_with(*ratios: float) -> tuple[float, ...]:
    """Return the grid with the odds ratios of a policy added."""
    return tuple(sorted({*GRID, *ratios}))


_factorials: NDArray[np.float64] = np.concatenate(
    ([0.0], np.cumsum(np.log(np.arange(1, _FIRST_FACTORIALS, dtype=np.float64))))
)


def _log_factorials(up_to: int) -> NDArray[np.float64]:
    global _factorials  # noqa: PLW0603 - a table of constants that grows
    if up_to >= len(_factorials):
        size = 1 << up_to.bit_length()
        _factorials = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, size, dtype=np.float64)))))
    return _factorials


@lru_cache(maxsize=256)
def _logs(values: tuple[float, ...]) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.log(np.array(values, dtype=np.float64))
    return found


def _loglik(table: Table, grid: tuple[float, ...]) -> NDArray[np.float64]:
    """Return the log-likelihood of a table for each odds ratio, up to a constant."""
    total = table.candidate_x + table.control_x
    low, high = max(0, total - table.control_n), min(total, table.candidate_n)
    logs = _logs(grid)
    if high - low <= _WHOLE:
        counts = np.arange(low, high + 1)
        weights = _weights(table, total, counts)
        sums = weights[None, :] + np.outer(logs, counts - table.candidate_x)
    else:
        counts = _around(table, total, grid, low, high)
        sums = _weights(table, total, counts) + logs[:, None] * (counts - table.candidate_x)
    top = sums.max(axis=1)
    # A clipped window repeats its edge; each outcome counts once.
    shares = np.exp(sums - top[:, None])
    if counts.ndim > 1:
        shares[:, 1:][counts[:, 1:] == counts[:, :-1]] = 0.0
    found: NDArray[np.float64] = -(top + np.log(shares.sum(axis=1)))
    return found


def _weights(table: Table, total: int, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the log of C(n, x) C(m, total - x) for each count x of candidate failures, up to a constant."""
    lf: NDArray[np.float64] = _log_factorials(max(table.candidate_n, table.control_n) + 1)
    rest = total - counts
    found: NDArray[np.float64] = -(
        lf[counts] + lf[table.candidate_n - counts] + lf[rest] + lf[table.control_n - rest]
    )
    return found


def _around(table: Table, total: int, grid: tuple[float, ...], low: int, high: int) -> NDArray[np.int64]:
    """Return the counts around the mode of each odds ratio, one row per ratio."""
    n, m = table.candidate_n, table.control_n
    psi = np.array(grid)
    # The mean solves x (m - total + x) = psi (n - x) (total - x).
    a = psi - 1.0
    b = -(psi * (n + total) + (m - total))
    c = psi * n * total
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    center = 2 * c / (-b + root)
    spread = 1 / np.sqrt(
        1 / np.maximum(center, 0.5)
        + 1 / np.maximum(n - center, 0.5)
        + 1 / np.maximum(total - center, 0.5)
        + 1 / np.maximum(m - total + center, 0.5)
    )
    reach = int(np.ceil(_SPREADS * spread.max())) + 8
    found: NDArray[np.int64] = np.clip(
        np.round(center).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)[None, :], low, high
    )
    return found
