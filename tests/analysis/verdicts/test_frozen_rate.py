"""A candidate with all users is compared with the control's last share, and fails only for gross faults."""

from __future__ import annotations

from math import inf, log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.verdict_traffic import first_failures
from xds_server.analysis.counts import Block, Counts, Leg
from xds_server.analysis.verdicts import Guardrail, Policy, add_block, analyze, start_evidence
from xds_server.analysis.verdicts.frozen_rate import FrozenRate
from xds_server.rollout import Finding

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
POLICY = Policy(guardrails=(Guardrail.of("success-rate"), Guardrail.of("valid-json-rate")))


def failing(failed: int, requests: int) -> Counts:
    return Counts(requests=requests, failed=failed)


def result_of(*blocks: tuple[Counts, Counts], policy: Policy = POLICY) -> tuple[Finding, str]:
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    for number, (candidate, control) in enumerate(blocks):
        legs = {CANDIDATE: candidate, CONTROL: control}
        evidence = add_block(evidence, policy, Block(start=number * 10.0, seconds=10.0, legs=legs))
    found = analyze(evidence, policy, len(blocks) * 10.0).metrics[0]
    return found.finding, found.message


BOTH = [(failing(2, 500), failing(2, 500))] * 20
NONE = failing(0, 0)


@pytest.mark.parametrize("before", [[], BOTH], ids=["without control", "after a comparison"])
def test_ten_requests_that_all_fail_are_enough(before: list[tuple[Counts, Counts]]) -> None:
    finding, message = result_of(*before, (failing(10, 10), NONE))
    assert finding is Finding.FAIL
    assert "10 of 10 requests failed at the candidate while the stable backend had no requests" in message


def test_the_evidence_is_never_for_the_candidate() -> None:
    finding, _ = result_of(*[(failing(0, 500), NONE)] * 6)
    assert finding is Finding.NO_DATA


def test_the_share_may_triple_below_two_percent() -> None:
    assert result_of(*BOTH, *[(failing(8, 500), NONE)] * 60)[0] is not Finding.FAIL
    assert result_of(*BOTH, *[(failing(40, 500), NONE)] * 60)[0] is Finding.FAIL


def test_the_limit_is_three_times_the_odds_of_the_controls_upper_bound() -> None:
    assert FrozenRate().limit() == 0.2
    assert FrozenRate().add_control(5, 10_000).limit() == 0.02
    frozen = FrozenRate()
    for _ in range(500):
        frozen = frozen.add_control(50, 500)
    odds = 0.1 / 0.9
    assert 3 * odds / (1 + 3 * odds) < frozen.limit() < 0.28
    assert frozen.limit(10.0) > frozen.limit()


def test_the_controls_older_blocks_fade() -> None:
    frozen = FrozenRate()
    for failed in (*[400] * 50, *[2] * 400):
        frozen = frozen.add_control(failed, 500)
    assert frozen.limit() == 0.02


def test_an_incident_of_both_arms_with_little_traffic_is_no_gross_fault() -> None:
    calm, storm = [(failing(0, 3), failing(0, 3))] * 60, [(failing(1, 2), NONE), (NONE, failing(1, 2))] * 60
    assert result_of(*calm, *storm)[0] is not Finding.FAIL


def test_health_does_not_delay_the_detection_of_a_later_fault() -> None:
    frozen = FrozenRate().add_control(5, 1_000)
    for _ in range(5_000):
        frozen = frozen.add_candidate_alone(0, 500)
    assert frozen.log_evidence < 0
    assert frozen.add_candidate_alone(20, 20).log_evidence > 20


def test_without_blocks_of_the_candidate_alone_there_is_no_evidence() -> None:
    assert FrozenRate().add_control(0, 5).add_candidate_alone(0, 0).log_evidence == -inf


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=40), st.floats(1.0, 20.0))
def test_fewer_failures_are_never_more_evidence(blocks: list[tuple[int, int]], phi: float) -> None:
    one = other = FrozenRate()
    for failed, more in blocks:
        one = one.add_candidate_alone(failed, failed + more, phi)
        other = other.add_candidate_alone(failed // 2, failed + more, phi)
    assert other.log_evidence <= one.log_evidence


def test_evidence_under_the_limit_rarely_exceeds_its_bound() -> None:
    rng, exceeded = np.random.default_rng(11), 0
    for _ in range(200):
        frozen = FrozenRate()
        for failed in rng.binomial(20, 0.2, 60):
            frozen = frozen.add_candidate_alone(int(failed), 20)
            if frozen.log_evidence >= -log(0.05):
                exceeded += 1
                break
    assert exceeded <= 10


def test_a_drifting_rate_is_no_failure() -> None:
    assert not np.isfinite(first_failures("alone_drifting", runs=4, seed=7)).any()


@pytest.mark.parametrize(("name", "at"), [("alone_fails_at_once", 30), ("alone_fails_after_1_h", 390)])
def test_a_failing_candidate_is_found_within_seconds(name: str, at: int) -> None:
    # Times are in blocks of ten seconds.
    assert all(at < found <= at + 0.3 for found in first_failures(name, runs=2, seed=7))


def test_fifty_hours_with_a_rate_that_doubles_have_no_false_failure() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        frozen = FrozenRate()
        for failed in rng.binomial(475, 0.005, 30):
            frozen = frozen.add_control(int(failed), 475)
        for failed in rng.binomial(500, np.linspace(0.005, 0.01, 360)):
            frozen = frozen.add_candidate_alone(int(failed), 500)
            assert frozen.log_evidence < 0
