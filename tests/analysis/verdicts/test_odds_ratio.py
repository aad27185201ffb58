"""The exact test of the odds ratio: equal to scipy's distribution, and valid under repeated checks."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nchypergeom_fisher

from xds_server.analysis.verdicts.odds_ratio import GRID, Odds, Table, grid_with


def logpmf(table: Table, ratio: float) -> float:
    """Return scipy's log probability of a table."""
    total = table.candidate_x + table.control_x
    whole = table.candidate_n + table.control_n
    return float(nchypergeom_fisher.logpmf(table.candidate_x, whole, table.candidate_n, total, ratio))


tables = st.builds(
    lambda n, m, x, y: Table(candidate_x=min(x, n), candidate_n=n, control_x=min(y, m), control_n=m),
    st.integers(0, 60),
    st.integers(0, 400),
    st.integers(0, 60),
    st.integers(0, 60),
)


@settings(max_examples=200, deadline=None)
@given(table=tables)
def test_the_likelihood_of_a_block_equals_fishers_distribution(table: Table) -> None:
    odds = Odds.initial().add_block(table)
    one = GRID.index(1.0)
    if table.uninformative:
        assert not odds.loglik.any()
        return
    for place in (4, 12, 20, 28):
        expected = logpmf(table, GRID[place]) - logpmf(table, 1.0)
        assert odds.loglik[place] - odds.loglik[one] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_large_blocks_are_exact_although_summed_around_their_mode() -> None:
    large = Table(candidate_x=1_300, candidate_n=2_500, control_x=24_000, control_n=47_500)
    odds = Odds.initial().add_block(large)
    one = GRID.index(1.0)
    for ratio in (0.5, 0.8408964152537145, 1.189207115002721, 2.0):
        expected = logpmf(large, ratio) - logpmf(large, 1.0)
        assert odds.loglik[GRID.index(ratio)] - odds.loglik[one] == pytest.approx(
            expected, rel=1e-9, abs=1e-7
        )


def test_evidence_is_the_mean_of_likelihood_ratios() -> None:
    table = Table(candidate_x=4, candidate_n=25, control_x=3, control_n=475)
    odds = Odds.initial().add_block(table)
    worse = [exp(logpmf(table, r) - logpmf(table, 1.0)) for r in GRID if r > 1]
    better = [exp(logpmf(table, r) - logpmf(table, 2.0)) for r in GRID if r < 2]
    assert odds.log_evidence_worse(1.0) == pytest.approx(log(sum(worse) / len(worse)), rel=1e-9)
    assert odds.log_evidence_better(2.0) == pytest.approx(log(sum(better) / len(better)), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(blocks=st.lists(tables, max_size=20), phi=st.floats(1, 10))
def test_bounds_are_the_ratios_that_are_not_excluded(blocks: list[Table], phi: float) -> None:
    odds = Odds.initial(grid_with(1.5))
    for table in blocks:
        odds = odds.add_block(table)
    odds = odds.with_phi(phi)
    low, high = odds.bounds(0.05, 0.1)
    excluded_low = [r for r in odds.grid[:-1] if odds.log_evidence_worse(r) >= -log(0.05)]
    excluded_high = [r for r in odds.grid[1:] if odds.log_evidence_better(r) >= -log(0.1)]
    assert low == (max(excluded_low) if excluded_low else None)
    assert high == (min(excluded_high) if excluded_high else None)


def test_dispersion_divides_evidence() -> None:
    odds = Odds.initial()
    for _ in range(10):
        odds = odds.add_block(Table(candidate_x=3, candidate_n=25, control_x=3, control_n=475))
    assert odds.with_phi(4).log_evidence_worse(1) < odds.log_evidence_worse(1) / 3
    assert odds.with_phi(0.1).phi == 1.0


def test_uninformative_tables_add_no_evidence() -> None:
    for x, n, y, m in ((0, 10, 0, 10), (5, 5, 5, 5), (0, 0, 3, 9), (3, 9, 0, 0)):
        table = Table(candidate_x=x, candidate_n=n, control_x=y, control_n=m)
        assert table.uninformative
        assert Odds.initial().add_block(table).most_likely is None


def test_false_alarms_stay_below_alpha_under_repeated_checks() -> None:
    rng = np.random.default_rng(11)
    false_alarms = 0
    for _ in range(300):
        odds = Odds.initial()
        for x, y in zip(rng.binomial(25, 0.01, 60), rng.binomial(475, 0.01, 60), strict=True):
            odds = odds.add_block(Table(candidate_x=int(x), candidate_n=25, control_x=int(y), control_n=475))
            if odds.log_evidence_worse(1.0) >= -log(0.05):
                false_alarms += 1
                break
    assert false_alarms <= 15
