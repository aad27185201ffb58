"""The bar: wrong verdicts stay rare and right ones come soon; seeds are fixed."""

from __future__ import annotations

import numpy as np
import pytest

from bench.verdicts import SCENARIOS, first_alarms

RUNS = 150


@pytest.mark.parametrize("name", [name for name, scenario in SCENARIOS.items() if not scenario.guilty])
def test_a_candidate_that_is_no_worse_is_seldom_taken_back(name: str) -> None:
    at = first_alarms("shiftplane", name, runs=RUNS, seed=7)
    assert np.isfinite(at).mean() <= 0.05


@pytest.mark.parametrize(
    ("name", "found", "median"), [("detect_0.5_to_2", 0.95, 150), ("detect_0.5_to_5", 0.99, 40)]
)
def test_a_candidate_that_is_worse_is_taken_back_soon(name: str, found: float, median: float) -> None:
    at = first_alarms("shiftplane", name, runs=RUNS, seed=7)
    hit = np.isfinite(at)
    assert hit.mean() >= found
    assert np.median(at[hit]) <= median


def test_the_rules_beside_it_do_what_is_known_of_them() -> None:
    blamed = {
        rule: np.isfinite(first_alarms(rule, "0.5", runs=600, seed=7)).mean()
        for rule in ("chi_square", "yates")
    }
    assert 0.18 < blamed["chi_square"] < 0.31
    assert 0.08 < blamed["yates"] < 0.19
    ramp = {
        rule: np.isfinite(first_alarms(rule, "ramp", runs=50, seed=7)).mean()
        for rule in ("msprt", "chi_square")
    }
    assert ramp == {"msprt": 1.0, "chi_square": 1.0}
    assert np.isfinite(first_alarms("threshold", "outage", runs=50, seed=7)).all()
    assert not np.isfinite(first_alarms("threshold", "detect_0.5_to_2", runs=50, seed=7)).any()
