"""Mean differences: bounds that hold under repeated checks, and dispersion estimated from the control."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from scipy.stats import norm

from bench.verdict_traffic import first_failures
from xds_server.analysis.verdicts.dispersion import Dispersion
from xds_server.analysis.verdicts.mean_difference import MIN_BLOCKS, Means


def filled(differences: list[float], n: int = 25, m: int = 475) -> Means:
    means = Means()
    for difference in differences:
        means = means.add_block(difference, n, m)
    return means


def test_evidence_is_robbins_normal_mixture() -> None:
    differences = [0.1 + 0.01 * (-1) ** k for k in range(20)]
    means = filled(differences)
    weight = 20 * 25 * 475 / 500
    spread = np.sqrt(sum((25 * 475 / 500) * (d - np.mean(differences)) ** 2 for d in differences) / 19)
    z = np.mean(differences) * weight / spread / np.sqrt(weight + 300)
    expected = 0.5 * log(300 / (weight + 300)) + log(2 * norm.cdf(z)) + z * z / 2
    assert means.log_evidence_above(0.0) == pytest.approx(expected, rel=1e-9)


def test_too_few_blocks_give_no_evidence() -> None:
    means = filled([1.0 + 0.1 * k for k in range(MIN_BLOCKS - 1)])
    assert means.log_evidence_above(0.0) == means.log_evidence_below(0.0) == 0.0
    assert means.bounds(0.05, 0.05) == (None, None)


def test_an_empty_arm_gives_no_evidence() -> None:
    assert filled([1.0] * 20, n=0) == Means()


def test_evidence_at_the_bounds_equals_the_threshold() -> None:
    rng = np.random.default_rng(5)
    means = filled([float(d) for d in rng.normal(0.1, 0.1, 40)])
    low, high = means.bounds(0.05, 0.01)
    assert low is not None
    assert high is not None
    assert means.log_evidence_above(low) == pytest.approx(-log(0.05), rel=1e-6)
    assert means.log_evidence_below(high) == pytest.approx(-log(0.01), rel=1e-6)
    assert low < means.mean < high


@pytest.mark.parametrize(("ratio", "least", "most"), [(1.0, 0.0, 0.06), (1.2, 0.97, 1.0)])
def test_more_tokens_are_detected_and_equal_tokens_are_not(ratio: float, least: float, most: float) -> None:
    rng = np.random.default_rng(17)
    found = 0
    for _ in range(200):
        means = Means()
        for _ in range(60):
            candidate, control = rng.normal(4 + log(ratio), 1, 25).mean(), rng.normal(4, 1, 475).mean()
            means = means.add_block(float(candidate - control), 25, 475)
            if means.log_evidence_above(0.0) >= -log(0.05):
                found += 1
                break
    assert least <= found / 200 <= most


def test_extreme_tails_do_not_raise() -> None:
    means = filled([100.0 + 0.001 * (k % 3) for k in range(50)])
    assert means.log_evidence_below(0.0) < -10
    assert means.log_evidence_above(0.0) > 100


def test_dispersion_starts_at_its_prior() -> None:
    assert Dispersion().phi == Dispersion().add_block((3, 100)).phi == 2.0


def spread(bursts: float, *, blocks: int = 400) -> float:
    rng = np.random.default_rng(3)
    dispersion = Dispersion()
    for _ in range(blocks):
        starts = rng.poisson(475 * 0.01 / bursts)
        failed = int(rng.geometric(1 / bursts, starts).sum()) if bursts > 1 else int(rng.binomial(475, 0.01))
        dispersion = dispersion.add_block((min(475, failed), 475))
    return dispersion.phi


def test_dispersion_detects_bursts_and_independence() -> None:
    assert spread(1) == pytest.approx(1.0, abs=0.4)
    assert spread(3) == pytest.approx(5.0, abs=1.8)


def test_an_incident_of_both_arms_is_no_burst() -> None:
    calm, storm = ((5, 1000), (1, 200)), ((200, 1000), (40, 200))
    alone = together = Dispersion()
    for control, candidate in [calm] * 30 + [storm] * 3 + [calm] * 30:
        alone = alone.add_block(control)
        together = together.add_block(control, candidate)
    assert alone.phi > 10
    assert together.phi < 2


def test_equal_blocks_are_not_infinitely_precise() -> None:
    rounding = filled([1e-16 * (-1) ** k + 2e-16 for k in range(200)])
    assert rounding.mean == 0.0
    assert rounding.log_evidence_above(0.0) < 0
    assert rounding.log_evidence_below(0.2) > 10
    low, high = rounding.bounds(0.05, 0.05)
    assert low is not None
    assert high is not None
    assert low < 0 < high


def test_a_constant_difference_is_found() -> None:
    assert filled([log(2)] * MIN_BLOCKS).log_evidence_above(0.0) > -log(0.001)


@pytest.mark.parametrize(
    ("name", "runs", "found"),
    [("same_16_tokens", 12, 0), ("nearly_16_tokens", 12, 0), ("32_not_16_tokens", 3, 3)],
)
def test_answers_of_fixed_length_fail_only_if_the_arms_differ(name: str, runs: int, found: int) -> None:
    at = first_failures(name, runs=runs, seed=7)
    assert int(np.isfinite(at).sum()) == found
