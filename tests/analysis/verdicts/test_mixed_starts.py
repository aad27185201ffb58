"""Evidence that may begin at any time: still an e-process, and a late fault is found like an early one."""

from __future__ import annotations

from math import exp, inf, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds_server.analysis.counts import Block, Counts, Leg
from xds_server.analysis.verdicts import Guardrail, Policy, Price, add_block, analyze, start_evidence
from xds_server.analysis.verdicts.mean_difference import MeanStarts
from xds_server.analysis.verdicts.metric_state import MetricState
from xds_server.analysis.verdicts.mixed_starts import DOUBT, START_SECONDS, MixedStarts, start_weight
from xds_server.rollout import Finding

FREE = (Price(), Price())
SHARE = Guardrail.of("success-rate")
NEEDED = -log(0.05)


def test_the_weights_of_all_starts_sum_to_at_most_one() -> None:
    weights = [start_weight(number) for number in range(200_000)]
    # The rest is below the integral of 1/(x log² x), which is 1/log x.
    rest = 0.5 / 2.11 / log(len(weights))
    assert 0.99 < sum(weights) + rest <= 1.0
    assert weights[0] == 0.5


@settings(max_examples=60, deadline=None)
@given(
    blocks=st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3), st.sampled_from((1.0, 10.0))), max_size=15),
    phi=st.floats(1, 5),
)
def test_one_sum_has_the_evidence_since_every_start(
    blocks: list[tuple[float, float, float]], phi: float
) -> None:
    mixed, starts, since = MixedStarts.initial(2), list[list[float]](), START_SECONDS
    for one, other, seconds in blocks:
        mixed = mixed.add_block(np.array([one, other]), phi, seconds)
        if since >= START_SECONDS:
            since = 0.0
            starts.append([0.0, 0.0])
        since += seconds
        starts = [[a + one, b + other] for a, b in starts]
    parts = [start_weight(number) * (exp(a / phi) + exp(b / phi)) / 2 for number, (a, b) in enumerate(starts)]
    unused = 1 - sum(start_weight(number) for number in range(len(starts)))
    first = log(parts[0] / start_weight(0)) if parts else -inf
    expected = log(sum(parts) + unused - (0.0 if parts else start_weight(0)))
    assert mixed.log_evidence(first) == pytest.approx(expected, abs=1e-9)


def test_a_higher_dispersion_gives_no_start_more_weight() -> None:
    healthy = MixedStarts.initial(1)
    for _ in range(50):
        healthy = healthy.add_block(np.array([-1.0]), 1.0, 10.0)
    clustered = healthy.wait(20.0, 10.0)
    assert clustered.log_evidence(-inf) == pytest.approx(healthy.log_evidence(-inf))
    assert clustered.wait(1.0, 10.0).log_evidence(-inf) <= healthy.log_evidence(-inf)


def failing(n: int, failed: int) -> Counts:
    return Counts(requests=n, failed=failed)


def add(state: MetricState, rng: np.random.Generator, rate: float) -> MetricState:
    candidate = failing(125, int(rng.binomial(125, rate)))
    return state.add_block(SHARE, (candidate, failing(375, int(rng.binomial(375, 0.005)))), FREE)


def test_a_fault_after_hours_of_health_is_found_soon_and_no_longer_passes_at_once() -> None:
    found, doubted, wrong = [], [], 0
    for run in range(6):
        rng = np.random.default_rng([5, run])
        state = MetricState.initial(SHARE)
        for _ in range(720):
            state = add(state, rng, 0.005)
            wrong += state.log_evidence_against(SHARE) >= NEEDED
        assert state.log_evidence_for(SHARE) >= NEEDED
        doubts = None
        for block in range(1, 61):
            state = add(state, rng, 0.02)
            doubts = block if doubts is None and state.doubt(SHARE) >= DOUBT else doubts
            if state.log_evidence_against(SHARE) >= NEEDED:
                found.append(10 * block)
                break
        doubted.append(10 * (doubts or 60))
    assert wrong == 0
    assert len(found) == 6
    assert np.median(found) <= 200
    assert max(doubted) <= 90


def test_a_candidate_that_passed_is_undecided_while_its_newest_requests_are_worse() -> None:
    policy, stable, candidate = (
        Policy(guardrails=(SHARE,)),
        Leg(route="r", variant="a"),
        Leg(route="r", variant="b"),
    )
    evidence = start_evidence(policy, candidate, stable)
    found = []
    for number in range(72):
        failed = 6 if number >= 70 else number % 2
        legs = {candidate: failing(125, failed), stable: failing(375, 2)}
        evidence = add_block(evidence, policy, Block(start=10.0 * number, seconds=10.0, legs=legs))
        found.append(analyze(evidence, policy, 10.0 * (number + 1)))
    assert found[69].finding is Finding.PASS
    assert found[71].finding is Finding.INCONCLUSIVE
    assert "the newest requests point to a worse candidate" in found[71].message


def test_means_find_a_late_fault_and_keep_few_starts() -> None:
    rng, means = np.random.default_rng(9), MeanStarts()
    for _ in range(1_440):
        means = means.add_block(float(rng.normal(0, 0.1)), 25, 475)
        assert means.log_evidence_above(0.0) < NEEDED
    assert len(means.later) < 32
    for _ in range(20):
        means = means.add_block(float(rng.normal(0.3, 0.1)), 25, 475)
    assert means.log_evidence_above(0.0) >= NEEDED
    assert means.whole.log_evidence_above(0.0) < NEEDED
    assert means.doubt_above(0.0) >= DOUBT


def test_wrong_alarms_of_means_stay_below_alpha_over_hours() -> None:
    rng, wrong = np.random.default_rng(12), 0
    for _ in range(40):
        means, blocks = MeanStarts(), rng.standard_t(5, 200) / 10
        wrong += any(
            (means := means.add_block(float(block), 25, 475)).log_evidence_above(0.0) >= NEEDED
            for block in blocks
        )
    assert wrong <= 4
