"""The exact test of odds: equal to the library's distribution, and right at any time one looks."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import nchypergeom_fisher

from xds_server.analysis.verdicts.odds import GRID, Odds, Table, grid_with


def logpmf(table: Table, ratio: float) -> float:
    """Return what scipy says of a table."""
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
def test_a_block_weighs_what_fishers_distribution_says(table: Table) -> None:
    odds = Odds.none().after(table)
    one = GRID.index(1.0)
    if table.silent:
        assert not odds.loglik.any()
        return
    for place in (4, 12, 20, 28):
        expected = logpmf(table, GRID[place]) - logpmf(table, 1.0)
        assert odds.loglik[place] - odds.loglik[one] == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_large_blocks_are_summed_around_their_mode_and_lose_nothing() -> None:
    large = Table(candidate_x=1_300, candidate_n=2_500, control_x=24_000, control_n=47_500)
    odds = Odds.none().after(large)
    one = GRID.index(1.0)
    for ratio in (0.5, 0.8408964152537145, 1.189207115002721, 2.0):
        expected = logpmf(large, ratio) - logpmf(large, 1.0)
        assert odds.loglik[GRID.index(ratio)] - odds.loglik[one] == pytest.approx(
            expected, rel=1e-9, abs=1e-7
        )


def test_evidence_is_the_mean_of_likelihood_ratios() -> None:
    table = Table(candidate_x=4, candidate_n=25, control_x=3, control_n=475)
    odds = Odds.none().after(table)
    worse = [exp(logpmf(table, r) - logpmf(table, 1.0)) for r in GRID if r > 1]
    better = [exp(logpmf(table, r) - logpmf(table, 2.0)) for r in GRID if r < 2]
    assert odds.worse_than(1.0) == pytest.approx(log(sum(worse) / len(worse)), rel=1e-9)
    assert odds.better_than(2.0) == pytest.approx(log(sum(better) / len(better)), rel=1e-9)


@settings(max_examples=50, deadline=None)
@given(blocks=st.lists(tables, max_size=20), phi=st.floats(1, 10))
def test_bounds_are_the_odds_that_neither_side_excludes(blocks: list[Table], phi: float) -> None:
    odds = Odds.none(grid_with(1.5))
    for table in blocks:
        odds = odds.after(table)
    odds = odds.with_phi(phi)
    low, high = odds.bounds(0.05, 0.1)
    excluded_low = [r for r in odds.grid[:-1] if odds.worse_than(r) >= -log(0.05)]
    excluded_high = [r for r in odds.grid[1:] if odds.better_than(r) >= -log(0.1)]
    assert low == (max(excluded_low) if excluded_low else None)
    assert high == (min(excluded_high) if excluded_high else None)


def test_dispersion_divides_evidence() -> None:
    odds = Odds.none()
    for _ in range(10):
        odds = odds.after(Table(candidate_x=3, candidate_n=25, control_x=3, control_n=475))
    assert odds.with_phi(4).worse_than(1) < odds.worse_than(1) / 3
    assert odds.with_phi(0.1).phi == 1.0


def test_nothing_is_learnt_where_an_arm_is_empty_or_nothing_failed() -> None:
    for x, n, y, m in ((0, 10, 0, 10), (5, 5, 5, 5), (0, 0, 3, 9), (3, 9, 0, 0)):
        table = Table(candidate_x=x, candidate_n=n, control_x=y, control_n=m)
        assert table.silent
        assert Odds.none().after(table).likeliest is None


def test_a_candidate_that_is_no_worse_is_seldom_blamed_however_often_one_looks() -> None:
    rng = np.random.default_rng(11)
    blamed = 0
    for _ in range(300):
        odds = Odds.none()
        for x, y in zip(rng.binomial(25, 0.01, 60), rng.binomial(475, 0.01, 60), strict=True):
            odds = odds.after(Table(candidate_x=int(x), candidate_n=25, control_x=int(y), control_n=475))
            if odds.worse_than(1.0) >= -log(0.05):
                blamed += 1
                break
    assert blamed <= 15
