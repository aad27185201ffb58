"""Is the candidate worse for its users, and not only for a few of them? A test over cells of users (pure).

Requests of one user fail together: a user retries, a session breaks, a heavy user sends unusual requests. A
test that takes requests for independent ones then rolls back sound candidates. Users are assigned to cells at
random, however, and each cell has users of both arms. If the candidate is not worse, the difference
of the arms in a cell is as likely positive as negative, whatever the users in it do. The test bets on the
signs of these differences: a cell counts more if its difference is larger, but however large it is, one cell
at most doubles the evidence.

Two rules make it robust. The cell that supports a rollback most is left out, so no verdict depends on one
user. And failures are compared with those of both arms in the same block, so an incident of both arms is no
evidence.

A candidate with a handful of users has requests in a handful of cells, too few for a proof even if all of
them fail. After a minute with so few cells, the requests decide alone (`can_prove`).

The evidence is an e-value at each time, and the same users are counted again at the next. It is a second
condition beside the e-process over requests (`odds_ratio`), which holds over all times for independent
requests; lasting differences of users give no new evidence from one check to the next.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import inf, log
from typing import TYPE_CHECKING, Final

import numpy as np

from xds_server.analysis.counts import CELL_NUMBERS, Counts, cell_counts
from xds_server.analysis.verdicts.e_values import log_mean_exp
from xds_server.analysis.verdicts.odds_ratio import Odds, Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["CellEvidence"]

_HALF_LIVES: Final = (60.0, 600.0, inf)
"""Over how many seconds the weight of older blocks halves; a fault after hours of health is in the first."""
_BETS: Final = np.array([0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 2.0])
_LEAST_CELLS: Final = 4
_COVERED: Final = 0.9
"""The least share of the requests of each arm that have to be in cells."""
_FIRST_SECONDS: Final = 60.0
"""Seconds of counts after which cells without requests are taken as cells without users."""
_MOSTLY: Final = 0.5
"""The share of failures above which most requests of a cell fail."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CellEvidence:
    """Sums over all blocks, in which older blocks count less.

    The arrays have the axes half-life, arm (candidate, control) and cell; they are None before the first
    block with cells. `failed` and `requests` are counts. `excess` is `failed` minus the failures expected if,
    in each block, the candidate's odds of failing were the tolerated ratio times those of the control.
    `outside` is the number of requests of each arm that were in no cell, and `seconds` the length of the
    blocks with requests of both arms in cells, over all blocks alike.
    """

    excess: NDArray[np.float64] | None = None
    failed: NDArray[np.float64] | None = None
    requests: NDArray[np.float64] | None = None
    outside: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0

    def add_block(
        self,
        share: Callable[[Counts], tuple[int, int]],
        arms: tuple[Counts, Counts],
        seconds: float,
        ratio: float,
    ) -> CellEvidence:
        """Return the evidence after a block of `seconds` with counts of (candidate, control).

        `share` returns the failures and requests of a metric, `ratio` is the tolerated odds ratio.
        """
        totals = share(arms[0])[1], share(arms[1])[1]
        if not all(totals):
            return self
        cells = max(len(arm.cells) for arm in arms)
        if not cells and self.requests is None:
            return CellEvidence(outside=(self.outside[0] + totals[0], self.outside[1] + totals[1]))
        width = max(cells, 0 if self.requests is None else self.requests.shape[2])
        counts = np.array([_by_cell(arm, share, width) for arm in arms])
        failed, requests = counts[:, :, 0], counts[:, :, 1]
        expected = np.array(_expected(failed.sum(axis=1), requests.sum(axis=1), ratio))
        excess = failed - expected[:, None] * requests
        fading = np.array([0.5 ** (seconds / half_life) for half_life in _HALF_LIVES])[:, None, None]
        inside = requests.sum(axis=1)
        return CellEvidence(
            excess=_faded(self.excess, fading, width) + excess,
            failed=_faded(self.failed, fading, width) + failed,
            requests=_faded(self.requests, fading, width) + requests,
            outside=(
                self.outside[0] + max(0.0, totals[0] - float(inside[0])),
                self.outside[1] + max(0.0, totals[1] - float(inside[1])),
            ),
            seconds=self.seconds + (seconds if inside.all() else 0.0),
        )

    @property
    def applies(self) -> bool:
        """Whether nearly all requests of both arms were counted by cell."""
        if self.requests is None:
            return False
        inside = self.requests[-1].sum(axis=1)
        return all(
            known > 0 and known >= _COVERED * (known + other)
            for known, other in zip(inside, self.outside, strict=True)
        )

    def can_prove(self, needed: float) -> bool:
        """Return whether the log evidence would reach `needed` if all requests of the candidate failed.

        In the first minute this is taken for granted.
        """
        if self.requests is None or self.seconds < _FIRST_SECONDS:
            return True
        active = self.requests[-1] > 0
        n, m = int(active[0].sum()), int(active[1].sum())
        signs = _signs(np.ones(int(active.all(axis=0).sum())))
        return log_mean_exp([signs, _more_failing(n, n, 0, m)]) >= needed

    @property
    def log_evidence_worse(self) -> float:
        """The log evidence that the candidate is worse in most cells."""
        if self.excess is None or self.requests is None or self.failed is None:
            return 0.0
        found = [
            _signs(_differences(excess, requests))
            for excess, requests in zip(self.excess, self.requests, strict=True)
        ]
        return log_mean_exp([log_mean_exp(found), _failing_cells(self.failed[0], self.requests[0])])

    @property
    def worse(self) -> tuple[int, int]:
        """In how many cells the candidate was worse, and how many cells had requests of both arms."""
        if self.excess is None or self.requests is None:
            return 0, 0
        differences = _differences(self.excess[-1], self.requests[-1])
        return int((differences > 0).sum()), len(differences)


def _by_cell(counts: Counts, share: Callable[[Counts], tuple[int, int]], width: int) -> NDArray[np.float64]:
    """Return the failures and requests of a metric in each of `width` cells."""
    found = np.zeros((width, 2))
    if counts.cells:
        found[: len(counts.cells)] = np.array(counts.cells, dtype=np.float64) @ _coefficients(share)
    return found


@cache
def _coefficients(share: Callable[[Counts], tuple[int, int]]) -> NDArray[np.float64]:
    """Return what each number of a cell adds to the failures and requests: shares are sums of numbers."""
    ones = np.eye(len(CELL_NUMBERS), dtype=np.int64).tolist()
    return np.array([share(cell_counts(row)) for row in ones], dtype=np.float64)


def _faded(sums: NDArray[np.float64] | None, fading: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    if sums is None:
        return np.zeros((len(_HALF_LIVES), 2, width))
    missing = width - sums.shape[2]
    return np.pad(sums, ((0, 0), (0, 0), (0, missing))) * fading if missing else sums * fading


def _expected(
    failed: NDArray[np.float64], requests: NDArray[np.float64], ratio: float
) -> tuple[float, float]:
    """Return the failed share of each arm if the odds of the candidate were `ratio` times as high.

    Together they have the failures of the block.
    """
    total, both = float(failed.sum()), float(requests.sum())
    if not 0 < total < both:
        share = total / both if both else 0.0
        return share, share
    n, m = float(requests[0]), float(requests[1])
    # The control's share p solves n r p / (1 - p + r p) + m p = total.
    a = m * (ratio - 1)
    b = n * ratio + m - total * (ratio - 1)
    root = max(0.0, b * b + 4 * a * total) ** 0.5
    control = min(1.0, 2 * total / (b + root))
    return ratio * control / (1 - control + ratio * control), control


def _differences(excess: NDArray[np.float64], requests: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the difference of the arms in each cell that has requests of both.

    The excess of a cell is divided by the requests of a usual cell of its arm, and not by its own: a cell
    with few requests then counts little.
    """
    both = (requests > 0).all(axis=0)
    if both.sum() < _LEAST_CELLS:
        return np.zeros(0)
    usual = requests[:, both].mean(axis=1)
    found: NDArray[np.float64] = excess[0, both] / usual[0] - excess[1, both] / usual[1]
    return found


def _signs(differences: NDArray[np.float64]) -> float:
    """Return the log evidence of the signs, without the cell with the largest difference."""
    if len(differences) < _LEAST_CELLS:
        return 0.0
    rest = np.delete(differences, int(differences.argmax()))
    size = float(np.sqrt((rest * rest).mean()))
    if size <= 0:
        return 0.0
    bets = np.outer(_BETS, rest / size)
    return log_mean_exp((bets - np.logaddexp(bets, -bets) + log(2)).sum(axis=1).tolist())


def _failing_cells(failed: NDArray[np.float64], requests: NDArray[np.float64]) -> float:
    """Return the log evidence that most requests fail in more cells of the candidate, one cell left out."""
    active = requests > 0
    failing = active & (failed >= _MOSTLY * requests)
    (n, m), (x, y) = (cells.sum(axis=1).tolist() for cells in (active, failing))
    return _more_failing(x, n, y, m)


def _more_failing(x: int, n: int, y: int, m: int) -> float:
    """Return the log evidence of `x` of `n` failing cells of the candidate and `y` of `m` of the control."""
    if x < _LEAST_CELLS:
        return 0.0
    table = Table(candidate_x=x - 1, candidate_n=n - 1, control_x=y, control_n=m)
    return Odds.initial().add_block(table).log_evidence_worse(1.0)
