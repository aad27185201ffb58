"""Are failures likelier on the candidate? The exact, stratified answer that survives looking at any time.

In each block of time the failures of both arms are compared given how many there were in all, which takes
the base rate out: an incident that hits both arms, a ramp of weights, a slow day say nothing. What a block
says is the likelihood of its table under Fisher's noncentral hypergeometric distribution, as a function of
the odds ratio; blocks multiply. The mean of likelihood ratios over a grid of worse odds ratios is an
e-process: under "not worse" it exceeds 1/alpha at any time with a probability of at most alpha. Read the
other way round, the same numbers show that the candidate is *not* worse than a margin, which is what a
promotion asks for.

Source: Ville's inequality; Turner, Ly and Grünwald, "Generic E-variables for exact sequential k-sample
tests".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import log
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["GRID", "Odds", "Table", "grid_with"]

GRID: Final = tuple(2.0 ** (step / 4) for step in range(-16, 17))
"""The odds ratios that are weighed: from a sixteenth to sixteenfold, a fifth apart."""

_FIRST_FACTORIALS: Final = 1 << 14
_SPREADS: Final = 9.0
"""How far from its mode a distribution is summed, in standard deviations; what is left out is below 1e-16."""
_WHOLE: Final = 512
"""Tables with no more outcomes than this are summed as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """One block: `x` of `n` failed in each arm."""

    candidate_x: int
    candidate_n: int
    control_x: int
    control_n: int

    @property
    def silent(self) -> bool:
        """Whether the block can say nothing: an arm is empty, or everything or nothing failed in both."""
        total = self.candidate_x + self.control_x
        return not (self.candidate_n and self.control_n and 0 < total < self.candidate_n + self.control_n)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Odds:
    """The log-likelihood of each odds ratio of the grid, summed over all blocks so far.

    `phi` is by how much failures are more clustered than independent requests would be; all evidence is
    divided by it.
    """

    grid: tuple[float, ...] = GRID
    loglik: NDArray[np.float64]
    phi: float = 1.0

    @classmethod
    def none(cls, grid: tuple[float, ...] = GRID) -> Odds:
        """Return what is known before the first block."""
        return cls(grid=grid, loglik=np.zeros(len(grid)))

    def after(self, table: Table) -> Odds:
        """Return what is known after one more block."""
        if table.silent:
            return self
        return replace(self, loglik=self.loglik + _loglik(table, self.grid))

    def with_phi(self, phi: float) -> Odds:
        """Return the same evidence, read with another dispersion."""
        return replace(self, phi=max(1.0, phi))

    def worse_than(self, ratio: float) -> float:
        """Return the logarithm of the evidence against an odds ratio of at most `ratio`."""
        at = _index(self.grid, ratio)
        return _log_mean(self.loglik[at + 1 :] - self.loglik[at], self.phi)

    def better_than(self, ratio: float) -> float:
        """Return the logarithm of the evidence against an odds ratio of at least `ratio`."""
        at = _index(self.grid, ratio)
        return _log_mean(self.loglik[:at] - self.loglik[at], self.phi)

    def bounds(self, below_alpha: float, above_alpha: float) -> tuple[float | None, float | None]:
        """Return between which odds ratios the truth lies, at every look at once.

        It lies below with a probability of at most `below_alpha`, and above likewise. None on a side says
        that nothing of the grid could be excluded there.
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
    def likeliest(self) -> float | None:
        """The odds ratio of the grid that fits best; None before anything was said."""
        return self.grid[int(self.loglik.argmax())] if self.loglik.any() else None


@lru_cache(maxsize=1024)
def _index(grid: tuple[float, ...], ratio: float) -> int:
    return min(range(len(grid)), key=lambda i: abs(log(grid[i] / ratio)))


@lru_cache(maxsize=256)
def grid_with(*ratios: float) -> tuple[float, ...]:
    """Return the grid with the odds ratios that a policy names."""
    return tuple(sorted({*GRID, *ratios}))


def _log_mean(values: NDArray[np.float64], phi: float) -> float:
    if not len(values):
        return 0.0
    scaled = values / phi
    top = float(scaled.max())
    return top + log(float(np.exp(scaled - top).mean()))


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
    """Return the log-likelihood of a table for each odds ratio, less what does not depend on it."""
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
    # A window at the edge names the edge more than once; each outcome counts once.
    shares = np.exp(sums - top[:, None])
    if counts.ndim > 1:
        shares[:, 1:][counts[:, 1:] == counts[:, :-1]] = 0.0
    found: NDArray[np.float64] = -(top + np.log(shares.sum(axis=1)))
    return found


def _weights(table: Table, total: int, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the logarithm of how many ways lead to each count of the candidate's failures."""
    lf: NDArray[np.float64] = _log_factorials(max(table.candidate_n, table.control_n) + 1)
    rest = total - counts
    found: NDArray[np.float64] = -(
        lf[counts] + lf[table.candidate_n - counts] + lf[rest] + lf[table.control_n - rest]
    )
    return found


def _around(table: Table, total: int, grid: tuple[float, ...], low: int, high: int) -> NDArray[np.int64]:
    """Return for each odds ratio the counts around its mode, one row each."""
    n, m = table.candidate_n, table.control_n
    psi = np.array(grid)
    # The mean solves x (m - total + x) = psi (n - x) (total - x).
    a = psi - 1.0
    b = -(psi * (n + total) + (m - total))
    c = psi * n * total
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    centre = 2 * c / (-b + root)
    spread = 1 / np.sqrt(
        1 / np.maximum(centre, 0.5)
        + 1 / np.maximum(n - centre, 0.5)
        + 1 / np.maximum(total - centre, 0.5)
        + 1 / np.maximum(m - total + centre, 0.5)
    )
    reach = int(np.ceil(_SPREADS * spread.max())) + 8
    found: NDArray[np.int64] = np.clip(
        np.round(centre).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)[None, :], low, high
    )
    return found
