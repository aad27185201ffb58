"""The rules that turn evidence into verdicts, tested at their boundaries."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.analysis.counts import DURATION_MS, TOKENS, Block, Counts, Leg
from xds_server.analysis.verdicts import (
    ComparisonOperator,
    Guardrail,
    Policy,
    Price,
    RegressionAction,
    Threshold,
    add_block,
    analyze,
    start_evidence,
)
from xds_server.analysis.verdicts.metric_state import MetricState, quantile
from xds_server.analysis.verdicts.result import AnalysisResult, ArmSummary, MetricVerdict, combine_results
from xds_server.analysis.verdicts.threshold_state import Measurement, ThresholdState, metric_value
from xds_server.rollout import Finding

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
FREE = (Price(), Price())


def failing(failed: int, requests: int) -> Counts:
    return Counts(requests=requests, failed=failed)


def analyze_blocks(
    policy: Policy, *blocks: tuple[Counts | None, Counts], seconds: float = 10, now: float = 0.0
) -> AnalysisResult:
    """Analyze blocks of (candidate, control), by default at the end of the last block."""
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    for number, (candidate, control) in enumerate(blocks):
        legs = {CONTROL: control} if candidate is None else {CANDIDATE: candidate, CONTROL: control}
        evidence = add_block(evidence, policy, Block(start=number * seconds, seconds=seconds, legs=legs))
    return analyze(evidence, policy, now or len(blocks) * seconds)


def make_policy(*guardrails: Guardrail, **overrides: Any) -> Policy:
    return Policy(guardrails=guardrails or (Guardrail.of("success-rate"),), **overrides)


# Samples, quiet candidates and warm-up


@pytest.mark.parametrize(
    ("candidate", "proven", "below"),
    [
        (failing(25, 30), Finding.FAIL, Finding.FAIL),
        (failing(0, 2_000), Finding.PASS, Finding.INCONCLUSIVE),
    ],
)
def test_a_pass_requires_exactly_the_minimum_of_requests_and_a_fail_none(
    candidate: Counts, proven: Finding, below: Finding
) -> None:
    blocks = [(candidate, failing(90, 9_000))] * 2
    for least, finding in ((2 * candidate.requests, proven), (2 * candidate.requests + 1, below)):
        found = analyze_blocks(make_policy(Guardrail.of("success-rate", min_samples=least)), *blocks)
        assert found.finding is finding
        if finding is Finding.INCONCLUSIVE:
            assert f"{2 * candidate.requests} of {least} required requests" in found.message


def test_without_requests_for_more_than_a_minute_only_a_proven_failure_remains() -> None:
    good = [(failing(0, 500), failing(5, 950))] * 10
    bad = [(failing(30, 50), failing(5, 950))] * 10
    assert analyze_blocks(make_policy(), *good, now=160.0).finding is Finding.PASS
    quiet = analyze_blocks(make_policy(), *good, now=160.1)
    assert quiet.finding is Finding.NO_DATA
    assert "; no comparison since 1970-01-01 00:01:40 UTC: no interval had" in quiet.message
    assert analyze_blocks(make_policy(), *bad, now=1e6).finding is Finding.FAIL


@pytest.mark.parametrize("silent", [(None, failing(5, 950)), (failing(0, 500), failing(0, 0)), None])
def test_a_pass_without_a_comparison_for_a_minute_is_no_data(silent: Any) -> None:
    good = [(failing(0, 500), failing(5, 950))] * 10
    blocks = [*good, *[silent or (None, failing(0, 0))] * 7]
    assert analyze_blocks(make_policy(), *blocks[:-1]).finding is Finding.PASS
    found = analyze_blocks(make_policy(), *blocks)
    assert found.finding is Finding.NO_DATA
    assert found.lapsed is (silent is not None and silent[0] is not None)
    passed = "; all metrics passed at their last comparison" if found.lapsed else ""
    since = "since 1970-01-01 00:01:40 UTC"
    none = "no interval had comparable requests of both the candidate and the stable backend"
    assert found.message.endswith(f"no comparison {since}: {none}{passed}")


def test_each_metric_has_an_age_of_its_own() -> None:
    policy = make_policy(Guardrail.of("success-rate"), Guardrail.of("valid-json-rate"))
    both = Counts(requests=500, unmetered=500)
    status_only = Counts(requests=500)
    found = analyze_blocks(policy, *[(both, both)] * 20, *[(status_only, status_only)] * 7)
    assert [metric.finding for metric in found.metrics] == [Finding.PASS, Finding.NO_DATA]
    assert not analyze_blocks(policy, *[(status_only, both)] * 7).lapsed


def test_blocks_of_several_minutes_are_as_new_as_they_can_be() -> None:
    good = [(failing(0, 5_000), failing(5, 9_000))] * 5
    assert analyze_blocks(make_policy(), *good, seconds=300, now=1_799.0).finding is Finding.PASS
    silent = (failing(0, 500), failing(0, 0))
    assert analyze_blocks(make_policy(), *good, silent, seconds=300).finding is Finding.PASS
    assert analyze_blocks(make_policy(), *good, silent, silent, seconds=300).finding is Finding.NO_DATA


def test_a_long_silent_block_does_not_extend_the_age() -> None:
    policy, good = make_policy(), {CANDIDATE: failing(0, 5_000), CONTROL: failing(5, 9_000)}
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    evidence = add_block(evidence, policy, Block(start=0, seconds=10, legs=good))
    assert analyze(evidence, policy, 10).finding is Finding.PASS
    evidence = add_block(evidence, policy, Block(start=10, seconds=600, legs={}))
    assert analyze(evidence, policy, 610).finding is Finding.NO_DATA


def test_the_warm_up_starts_with_the_first_request_of_the_candidate() -> None:
    calm = (None, failing(1, 100))
    cold, warm = (failing(40, 50), failing(1, 100)), (failing(0, 50), failing(1, 100))
    for delay, counted in ((0.0, 150), (10.0, 100), (10.1, 50), (20.0, 50), (20.1, 0)):
        policy = make_policy(initial_delay=delay)
        (metric,) = analyze_blocks(policy, calm, calm, cold, warm, warm).metrics
        assert metric.candidate.n == counted
        assert metric.candidate.x == (40 if delay == 0 else 0)


def test_a_block_without_requests_of_both_arms_is_no_evidence() -> None:
    (metric,) = analyze_blocks(make_policy(), (failing(1, 9), failing(0, 0)), (None, failing(5, 10))).metrics
    assert (metric.candidate.n, metric.control.n, metric.finding) == (0, 0, Finding.NO_DATA)
    since = "since the candidate's first request at 1970-01-01 00:00:00 UTC"
    none = "no interval had comparable requests of both the candidate and the stable backend"
    assert metric.message == f"success-rate: no comparison {since}: {none}"


# Required evidence, and how findings combine


def test_a_guardrail_that_notifies_spends_all_of_alpha_and_the_others_share_it() -> None:
    roll_back = Guardrail.of("success-rate")
    notify = replace(roll_back, action=RegressionAction.NOTIFY)
    policy = make_policy(roll_back, Guardrail.of("valid-json-rate"), notify, alpha=0.1)
    needed = [metric.needed for metric in analyze_blocks(policy, (failing(0, 9), failing(0, 9))).metrics]
    assert needed == pytest.approx([20.0, 20.0, 10.0])


@pytest.mark.parametrize("action", RegressionAction)
def test_a_finding_changes_exactly_at_the_needed_evidence(action: RegressionAction) -> None:
    guardrail = replace(Guardrail.of("success-rate", min_samples=1), action=action)
    block = (failing(8, 60), failing(20, 600))
    (metric,) = analyze_blocks(make_policy(guardrail), block).metrics
    assert metric.evidence > 1
    for alpha, finding in ((1 / metric.evidence + 1e-9, Finding.FAIL), (1 / metric.evidence - 1e-9, None)):
        (found,) = analyze_blocks(make_policy(guardrail, alpha=alpha), block).metrics
        assert (found.finding is Finding.FAIL) is (finding is Finding.FAIL)
    for support, passes in ((1e-9, True), (-1e-9, False)):
        fine = (failing(0, 900), failing(9, 900))
        (metric,) = analyze_blocks(make_policy(guardrail), fine).metrics
        assert metric.support > 1
        (found,) = analyze_blocks(make_policy(guardrail, alpha=1 / metric.support + support), fine).metrics
        assert (found.finding is Finding.PASS) is passes


LIMIT = Threshold(name="t", metric=None, query="q", comparison=ComparisonOperator.GREATER, limit=1.0)


def threshold_with(
    finding: Finding, action: RegressionAction = RegressionAction.ROLLBACK
) -> tuple[Threshold, list[float | None]]:
    """Return a threshold on a query, and query results that lead to this finding."""
    results: dict[Finding, list[float | None]] = {
        Finding.FAIL: [2.0] * 5,
        Finding.ERROR: [None] * 5,
        Finding.NO_DATA: [],
        Finding.PASS: [1.0] * 5,
    }
    return replace(LIMIT, name=finding.value, action=action), results[finding]


@pytest.mark.parametrize("others", [[Finding.PASS], [Finding.PASS, Finding.NO_DATA]])
@pytest.mark.parametrize("worst", [Finding.FAIL, Finding.ERROR, Finding.NO_DATA, Finding.PASS])
@pytest.mark.parametrize("action", RegressionAction)
def test_the_verdict_is_the_worst_finding_of_the_metrics_that_roll_back(
    worst: Finding, others: list[Finding], action: RegressionAction
) -> None:
    limits = [
        threshold_with(worst, action),
        *(threshold_with(other) for other in others if other is not worst),
    ]
    policy = Policy(guardrails=(), thresholds=tuple(limit for limit, _ in limits))
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    for number in range(5):
        results = {limit.name: given[number] for limit, given in limits if number < len(given)}
        evidence = add_block(
            evidence, policy, Block(start=number, seconds=1, legs={CANDIDATE: failing(0, 9)}), results
        )
    seen = [metric.finding for metric in analyze(evidence, policy, 5).metrics]
    assert seen == [worst, *(other for other in others if other is not worst)]
    order = [Finding.FAIL, Finding.ERROR, Finding.NO_DATA, Finding.INCONCLUSIVE, Finding.PASS]
    deciding = seen if action is RegressionAction.ROLLBACK else seen[1:]
    expected = min(deciding, key=order.index) if deciding else Finding.PASS
    assert analyze(evidence, policy, 5).finding is expected


def test_inconclusive_outranks_a_pass_and_missing_data_outranks_inconclusive() -> None:
    undecided = Guardrail.of("success-rate")
    block = (failing(1, 60), failing(1, 60))
    policy = make_policy(undecided, thresholds=(replace(LIMIT, query=None, metric="success-rate"),))
    assert analyze_blocks(policy, block).finding is Finding.INCONCLUSIVE
    assert analyze_blocks(make_policy(undecided, thresholds=(LIMIT,)), block).finding is Finding.NO_DATA


def test_several_candidates_have_the_worst_verdict_of_all() -> None:
    good = analyze_blocks(make_policy(), *[(failing(0, 500), failing(5, 950))] * 10)
    bad = analyze_blocks(make_policy(), *[(failing(30, 50), failing(5, 950))] * 10)
    assert combine_results({"v2": bad}) is bad
    both = combine_results({"v2": good, "v3": bad})
    assert both.finding is Finding.FAIL
    assert [metric.metric for metric in both.metrics] == ["v2 success-rate", "v3 success-rate"]
    assert both.message == f"v3: {bad.message}"
    assert combine_results({"v2": good, "v3": good}).finding is Finding.PASS


def test_a_policy_without_metrics_passes() -> None:
    empty = analyze_blocks(Policy(guardrails=()), (failing(9, 9), failing(0, 9)))
    assert (empty.finding, empty.message) == (Finding.PASS, "no metric has onRegression: Rollback")


# Thresholds


@pytest.mark.parametrize(
    ("comparison", "holds"),
    [
        (ComparisonOperator.LESS, (True, False, False)),
        (ComparisonOperator.AT_MOST, (True, True, False)),
        (ComparisonOperator.GREATER, (False, False, True)),
        (ComparisonOperator.AT_LEAST, (False, True, True)),
    ],
)
def test_a_comparison_holds_below_at_or_above_its_limit(
    comparison: ComparisonOperator, holds: tuple[bool, bool, bool]
) -> None:
    assert tuple(comparison.holds(value, 2.0) for value in (1.0, 2.0, 3.0)) == holds


def threshold_after(limit: Threshold, *values: tuple[float, float | None]) -> ThresholdState:
    """Return the threshold state after values at their times; None is a query without a result."""
    threshold_state = ThresholdState()
    for now, value in values:
        threshold_state = threshold_state.add_block(limit, Measurement(value=value), now)
    return threshold_state


def test_a_threshold_trips_when_it_was_breached_for_its_duration() -> None:
    limit = replace(LIMIT, lasting=30.0)
    assert not threshold_after(limit, (0, 2.0), (29.9, 2.0)).tripped
    breached = threshold_after(limit, (0, 2.0), (30, 2.0))
    assert (breached.tripped, breached.reason, breached.breached_since) == (True, "> 1 for 30 s", 0)
    assert not threshold_after(limit, (0, 2.0), (20, 1.0), (30, 2.0), (59, 2.0)).tripped, (
        "a value within the limit ends the breach"
    )
    assert threshold_after(limit, (0, 2.0), (20, None), (30, 2.0)).tripped, "a missing value does not"
    assert threshold_after(LIMIT, (5, 2.0)).tripped, "without a duration one value is enough"


def test_a_threshold_trips_when_it_was_breached_more_often_than_its_failure_limit() -> None:
    limit = replace(LIMIT, failure_limit=2)
    values = [(0, 2.0), (1, 1.0), (2, 2.0), (3, None)]
    threshold_state = threshold_after(limit, *values)
    assert (threshold_state.tripped, threshold_state.failures, threshold_state.measurements) == (False, 2, 3)
    threshold_state = threshold_after(limit, *values, (4, 2.0))
    assert (threshold_state.tripped, threshold_state.reason) == (
        True,
        "> 1 in 3 measurements, more than failureLimit 2",
    )
    assert threshold_after(replace(LIMIT, failure_limit=0), (0, 2.0)).tripped


def test_the_verdict_on_a_threshold_has_its_counts_and_no_statistics() -> None:
    policy = Policy(guardrails=(), thresholds=(replace(LIMIT, lasting=60.0, action=RegressionAction.NOTIFY),))
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    for number, answer in enumerate([2.0, 0.5, 2.0]):
        block = Block(start=number, seconds=1, legs={CANDIDATE: failing(0, 9)})
        evidence = add_block(evidence, policy, block, {"t": answer})
    (metric,) = analyze(evidence, policy, 3).metrics
    no_statistics = dict.fromkeys(("effect", "low", "high", "remaining"))
    assert metric == MetricVerdict(
        metric="t",
        finding=Finding.PASS,
        action=RegressionAction.NOTIFY,
        unit="",
        candidate=ArmSummary(n=3, x=2, value=2.0),
        control=ArmSummary(n=0, x=0, value=None),
        evidence=0.0,
        support=0.0,
        needed=0.0,
        max_ratio=1.0,
        margin=1.0,
        dispersion=1.0,
        message="t: 2; fails when > 1 for 60 s",
        **no_statistics,
    )


def test_a_tripped_threshold_stays_tripped() -> None:
    assert threshold_after(LIMIT, (0, 2.0), (1, 0.0), (2, None)).tripped


def test_only_consecutive_failed_queries_are_an_error() -> None:
    policy = Policy(guardrails=(), thresholds=(replace(LIMIT, error_limit=2),))
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    findings = []
    for number, answer in enumerate([1.0, None, None, 1.0, None, None, None]):
        block = Block(start=number, seconds=1, legs={CANDIDATE: failing(0, 9)})
        evidence = add_block(evidence, policy, block, {"t": answer})
        findings.append(analyze(evidence, policy, number + 1).finding)
    assert findings == [Finding.PASS] * 6 + [Finding.ERROR]


def test_a_threshold_on_a_metric_uses_the_counts_of_its_window() -> None:
    limit = Threshold(
        name="t",
        metric="success-rate",
        comparison=ComparisonOperator.LESS,
        limit=0.95,
        window=20.0,
        lasting=1e9,
    )
    threshold_state = ThresholdState()
    for now, failed in ((10, 10), (20, 0), (30, 0)):
        threshold_state = threshold_state.add_block(limit, Measurement(counts=failing(failed, 10)), now)
    assert threshold_state.value == 1.0, "a block that ended 20 s ago is out of a window of 20 s"
    threshold_state = threshold_state.add_block(
        replace(limit, window=20.1), Measurement(counts=failing(5, 10)), 40
    )
    assert threshold_state.value == pytest.approx(1 - 5 / 30)
    wide = replace(limit, window=600.0)
    for now in (50, 60, 70, 80, 90, 100):
        threshold_state = threshold_state.add_block(wide, Measurement(counts=Counts()), now)
    assert threshold_state.value == pytest.approx(5 / 6)
    assert threshold_state.value_at == 40
    assert threshold_state.add_block(wide, Measurement(counts=Counts()), 100.1).value is None
    quiet = ThresholdState().add_block(limit, Measurement(counts=failing(0, 0)), 10)
    assert (quiet.value, quiet.measurements) == (None, 0)


@pytest.mark.parametrize("query", [None, "q"])
@pytest.mark.parametrize("quiet", [False, True])
def test_a_query_or_a_quiet_candidate_without_a_value_has_no_data(query: str | None, quiet: bool) -> None:
    limit = replace(LIMIT, query=query, metric=None if query else "success-rate")
    policy = Policy(guardrails=(), thresholds=(limit,))
    blocks = [(None, failing(0, 9))] if quiet else [(failing(0, 9), failing(0, 9))]
    finding = Finding.NO_DATA if query or quiet else Finding.PASS
    assert analyze_blocks(policy, *blocks).finding is finding


@pytest.mark.parametrize("query", [None, "q"])
def test_a_value_older_than_a_minute_is_none(query: str | None) -> None:
    limit = replace(LIMIT, query=query, metric=None if query else "success-rate", window=1e6, limit=2.0)
    policy = Policy(guardrails=(), thresholds=(limit,))
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    block = Block(start=0, seconds=10, legs={CANDIDATE: failing(0, 9)})
    evidence = add_block(evidence, policy, block, {"t": 1.0})
    assert analyze(evidence, policy, 70.0).finding is Finding.PASS
    found = analyze(evidence, policy, 70.1)
    assert found.finding is Finding.NO_DATA
    assert found.message == "t: no value since 1970-01-01 00:00:10 UTC; fails when > 2"
    for start in range(10, 80, 10):
        silent = Block(start=start, seconds=10, legs={CANDIDATE: failing(0, 0)})
        evidence = add_block(evidence, policy, silent, {"t": None} if start < 50 else {})
    assert analyze(evidence, policy, 80.0).finding is Finding.NO_DATA


def test_metric_values_are_in_their_own_units() -> None:
    price = Price(input_per_million=1.0, output_per_million=2.0)
    counts = Counts(
        requests=10,
        failed=1,
        invalid=2,
        metered=4,
        unmetered=2,
        prompt_tokens=1_000_000,
        completion_tokens=2_000_000,
        streamed_tokens=100,
        stream_ms=250,
    )
    assert metric_value("success-rate", counts, None) == pytest.approx(0.9)
    assert metric_value("valid-json-rate", counts, None) == pytest.approx(0.75)
    assert metric_value("tokens-per-request", counts, None) == 500_000
    assert metric_value("cost-per-request", counts, price) == pytest.approx(5.0 / 4)
    assert metric_value("cost-per-request", counts, None) is None
    assert metric_value("inter-token", counts, price) == 2.5
    for name in ("success-rate", "valid-json-rate", "tokens-per-request", "duration-p50"):
        assert metric_value(name, Counts(), price) is None
    row = [0] * (len(DURATION_MS) + 1)
    row[3] = 10
    halfway = (DURATION_MS[2] + DURATION_MS[3]) / 2
    assert metric_value("duration-p50", Counts(duration_ms=tuple(row)), None) == pytest.approx(halfway)


# The state of one guardrail


@given(st.integers(0, 30), st.integers(1, 3_000), st.integers(0, 30), st.integers(1, 3_000))
def test_each_of_the_two_proofs_that_failures_are_acceptable_has_half_the_weight(
    x: int, n: int, y: int, m: int
) -> None:
    guardrail = Guardrail.of("success-rate")
    state = MetricState.initial(guardrail).add_block(
        guardrail, (failing(min(x, n), n), failing(min(y, m), m)), FREE
    )
    compared = exp(state.odds.log_evidence_better(guardrail.margin))
    assert state.log_evidence_for(replace(guardrail, acceptable=0.0)) == pytest.approx(log(compared / 2))
    assert state.log_evidence_for(replace(guardrail, acceptable=1.0)) == pytest.approx(log(compared / 2))
    limit, x = guardrail.acceptable, state.candidate.x
    bets = []
    for halvings in range(1, 9):
        share = limit / 2**halvings
        likelier = x * log(share / limit) + (n - x) * log((1 - share) / (1 - limit))
        bets.append(exp(likelier / state.dispersion.phi))
    assert state.log_evidence_for(guardrail) == pytest.approx(log((compared + sum(bets) / 8) / 2), abs=1e-6)


def test_a_difference_of_means_is_relative_to_the_smoothed_mean_of_the_control() -> None:
    guardrail = Guardrail.of("inter-token")

    def with_stream_time(ms: int, n: int) -> Counts:
        return Counts(requests=n, metered=n, stream_ms=ms * 100, streamed_tokens=100)

    state = MetricState.initial(guardrail).add_block(guardrail, (Counts(), with_stream_time(10, 5)), FREE)
    assert (state.reference_mean, state.blocks) == (10.0, 0)
    state = state.add_block(guardrail, (with_stream_time(24, 2), with_stream_time(20, 3)), FREE)
    assert state.reference_mean == pytest.approx(12.0), "one fifth of the difference from 10 to 20"
    assert state.means.mean == pytest.approx((24 - 20) / 12)
    assert state.means.weight == pytest.approx(2 * 3 / 5)
    assert (state.candidate.total, state.candidate.n, state.control.total) == (48.0, 2, 60.0)
    assert state.blocks == 1
    assert state.add_block(guardrail, (with_stream_time(24, 2), Counts()), FREE) == state


def test_a_control_that_costs_nothing_gives_no_evidence() -> None:
    guardrail = Guardrail.of("cost-per-request")
    counts = Counts(requests=5, metered=5, completion_tokens=100)
    state = MetricState.initial(guardrail).add_block(guardrail, (counts, counts), FREE)
    assert (state.reference_mean, state.blocks, state.candidate.n) == (0.0, 0, 0)
    priced = state.add_block(guardrail, (counts, counts), (Price(), Price(output_per_million=1.0)))
    assert priced.blocks == 1
    assert priced.means.mean == pytest.approx(-5.0), (
        "the reference mean is one fifth of the mean of the control"
    )


def test_only_blocks_with_requests_of_both_arms_are_counted() -> None:
    guardrail = Guardrail.of("success-rate")
    state = MetricState.initial(guardrail)
    for arms, blocks in (((1, 1), 1), ((1, 0), 1), ((0, 1), 1), ((2, 2), 2)):
        state = state.add_block(guardrail, (failing(0, arms[0]), failing(0, arms[1])), FREE)
        assert state.blocks == blocks


def test_tokens_are_compared_as_logarithms() -> None:
    guardrail = Guardrail.of("tokens-per-request")

    def with_tokens(place: int, n: int) -> Counts:
        row = [0] * (len(TOKENS) + 1)
        row[place] = n
        return Counts(requests=n, metered=n, tokens=tuple(row))

    state = MetricState.initial(guardrail).add_block(guardrail, (with_tokens(4, 2), with_tokens(3, 3)), FREE)
    middle = {place: (log(TOKENS[place - 1]) + log(TOKENS[place])) / 2 for place in (3, 4)}
    assert state.means.mean == pytest.approx(middle[4] - middle[3])


def test_the_reference_edge_needs_enough_requests_and_applies_from_the_next_block() -> None:
    guardrail = Guardrail.of("duration-p50")

    def with_duration(place: int, n: int) -> Counts:
        row = [0] * (len(DURATION_MS) + 1)
        row[place] = n
        return Counts(requests=n, duration_ms=tuple(row))

    state = MetricState.initial(guardrail).add_block(
        guardrail, (with_duration(5, 50), with_duration(4, 99)), FREE
    )
    assert (state.reference_edge, state.blocks) == (None, 0)
    state = state.add_block(guardrail, (with_duration(5, 50), with_duration(4, 3)), FREE)
    assert state.reference_edge == 4, "97.02 of the 99 earlier requests remain after fading, and 3 were added"
    assert state.blocks == 0, "the block that sets the edge is not compared with it"
    compared = state.add_block(guardrail, (with_duration(5, 50), with_duration(4, 10)), FREE)
    assert (compared.candidate.x, compared.candidate.n, compared.control.x, compared.control.n) == (
        50,
        50,
        0,
        10,
    )
    wider = replace(guardrail, max_ratio=DURATION_MS[5] / DURATION_MS[4])
    assert state.add_block(wider, (with_duration(5, 50), with_duration(4, 10)), FREE).candidate.x == 0
    burst = MetricState.initial(guardrail).add_block(guardrail, (Counts(), with_duration(4, 10_000)), FREE)
    assert sum(burst.reference_buckets) == pytest.approx(200)


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ((4, 0, 0), 0.5, 5.0),
        ((4, 4, 0), 0.5, 10.0),
        ((4, 4, 0), 0.75, 15.0),
        ((0, 4, 4), 0.5, 20.0),
        ((2, 0, 2), 1.0, 20.0),
        ((1, 0, 0), 0.0, 0.0),
    ],
)
def test_a_quantile_is_interpolated_linearly(buckets: tuple[int, ...], share: float, value: float) -> None:
    assert quantile(buckets, (10.0, 20.0), share) == pytest.approx(value)
