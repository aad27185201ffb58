"""Error rates over simulated rollouts with fixed seeds: few false rollbacks, fast detection."""

from __future__ import annotations

import numpy as np
import pytest

from bench.verdict_traffic import SCENARIOS as TRAFFIC
from bench.verdict_traffic import first_failures
from bench.verdicts import SCENARIOS, first_alarms

RUNS = 150


@pytest.mark.parametrize(
    "name", [name for name, scenario in SCENARIOS.items() if not scenario.candidate_is_worse]
)
def test_false_rollbacks_stay_below_alpha(name: str) -> None:
    at = first_alarms("shiftplane", name, runs=RUNS, seed=7)
    assert np.isfinite(at).mean() <= 0.05


@pytest.mark.parametrize(
    ("name", "found", "median"), [("detect_0.5_to_2", 0.95, 150), ("detect_0.5_to_5", 0.99, 40)]
)
def test_a_worse_candidate_is_rolled_back_soon(name: str, found: float, median: float) -> None:
    at = first_alarms("shiftplane", name, runs=RUNS, seed=7)
    hit = np.isfinite(at)
    assert hit.mean() >= found
    assert np.median(at[hit]) <= median


@pytest.mark.parametrize(
    ("name", "runs", "median", "slowest"),
    [
        ("fails_all", 12, 4, 4),
        ("fails_all_quarter", 12, 4, 6),
        ("fails_all_after_1_h", 1, 10, 10),
        ("10_times_slower", 8, 4, 8),
        ("10_times_slower_after_1_h", 1, 20, 20),
    ],
)
def test_a_gross_fault_is_found_after_a_few_requests(
    name: str, runs: int, median: float, slowest: float
) -> None:
    # The candidate has 2.5 requests a second.
    fault_at = TRAFFIC[name].fault_at or 0
    seconds = [10 * (at - fault_at) for at in first_failures(name, runs=runs, seed=7)]
    assert min(seconds) > 0
    assert np.median(seconds) <= median
    assert max(seconds) <= slowest


def test_the_compared_rules_have_their_known_error_rates() -> None:
    false_rollbacks = {
        rule: np.isfinite(first_alarms(rule, "0.5", runs=600, seed=7)).mean()
        for rule in ("chi_square", "yates")
    }
    assert 0.18 < false_rollbacks["chi_square"] < 0.31
    assert 0.08 < false_rollbacks["yates"] < 0.19
    ramp = {
        rule: np.isfinite(first_alarms(rule, "ramp", runs=50, seed=7)).mean()
        for rule in ("msprt", "chi_square")
    }
    assert ramp == {"msprt": 1.0, "chi_square": 1.0}
    assert np.isfinite(first_alarms("threshold", "outage", runs=50, seed=7)).all()
    assert not np.isfinite(first_alarms("threshold", "detect_0.5_to_2", runs=50, seed=7)).any()
