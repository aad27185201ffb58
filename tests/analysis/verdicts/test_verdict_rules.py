"""The rules that turn evidence into verdicts, at their boundaries."""

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
from xds_server.analysis.verdicts.candidate import AnalysisResult, ArmSummary, MetricVerdict, combine_results
from xds_server.analysis.verdicts.metric_state import MetricState, quantile
from xds_server.analysis.verdicts.threshold_state import Measurement, ThresholdState, metric_value
from xds_server.rollout import Finding

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
FREE = (Price(), Price())


def failing(failed: int, requests: int) -> Counts:
    return Counts(requests=requests, failed=failed)


def judged(
    asked: Policy, *blocks: tuple[Counts | None, Counts], seconds: float = 10, now: float = 0.0
) -> AnalysisResult:
    """Judge blocks of (candidate, stable backend), by default at the end of the last one."""
    case = start_evidence(asked, CANDIDATE, CONTROL)
    for number, (mine, other) in enumerate(blocks):
        legs = {CONTROL: other} if mine is None else {CANDIDATE: mine, CONTROL: other}
        case = add_block(case, asked, Block(start=number * seconds, seconds=seconds, legs=legs))
    return analyze(case, asked, now or len(blocks) * seconds)


def policy(*guardrails: Guardrail, **more: Any) -> Policy:
    return Policy(guardrails=guardrails or (Guardrail.of("success-rate"),), **more)


# Samples, silence and warm-up


@pytest.mark.parametrize(
    ("mine", "proven"), [(failing(25, 30), Finding.FAIL), (failing(0, 2_000), Finding.PASS)]
)
def test_a_verdict_needs_exactly_the_minimum_of_requests(mine: Counts, proven: Finding) -> None:
    blocks = [(mine, failing(90, 9_000))] * 2
    for least, finding in ((2 * mine.requests, proven), (2 * mine.requests + 1, Finding.INCONCLUSIVE)):
        found = judged(policy(Guardrail.of("success-rate", min_samples=least)), *blocks)
        assert found.finding is finding
        if finding is Finding.INCONCLUSIVE:
            assert f"{2 * mine.requests} of {least} required requests" in found.message


def test_silence_of_more_than_a_minute_leaves_only_proven_failures() -> None:
    good = [(failing(0, 500), failing(5, 950))] * 10
    bad = [(failing(30, 50), failing(5, 950))] * 10
    assert judged(policy(), *good, now=160.0).finding is Finding.PASS
    silent = judged(policy(), *good, now=160.1)
    assert silent.finding is Finding.NO_DATA
    assert silent.message.endswith("the candidate receives no requests")
    assert judged(policy(), *bad, now=1e6).finding is Finding.FAIL


def test_the_warm_up_begins_with_the_first_request_of_the_candidate() -> None:
    calm = (None, failing(1, 100))
    cold, warm = (failing(40, 50), failing(1, 100)), (failing(0, 50), failing(1, 100))
    for delay, counted in ((0.0, 150), (10.0, 100), (10.1, 50), (20.0, 50), (20.1, 0)):
        asked = policy(initial_delay=delay)
        (metric,) = judged(asked, calm, calm, cold, warm, warm).metrics
        assert metric.candidate.n == counted
        assert metric.candidate.x == (40 if delay == 0 else 0)


def test_a_block_without_requests_of_both_arms_is_no_evidence() -> None:
    (metric,) = judged(policy(), (failing(9, 9), failing(0, 0)), (None, failing(5, 10))).metrics
    assert (metric.candidate.n, metric.control.n, metric.finding) == (0, 0, Finding.NO_DATA)
    assert metric.message == "success-rate: no block has requests of both arms yet"


# What decides, and how sure it has to be


def test_a_guardrail_that_notifies_spends_all_of_alpha_and_the_others_share_it() -> None:
    roll_back = Guardrail.of("success-rate")
    notify = replace(roll_back, action=RegressionAction.NOTIFY)
    asked = policy(roll_back, Guardrail.of("valid-json-rate"), notify, alpha=0.1)
    needed = [metric.needed for metric in judged(asked, (failing(0, 9), failing(0, 9))).metrics]
    assert needed == pytest.approx([20.0, 20.0, 10.0])


@pytest.mark.parametrize("action", RegressionAction)
def test_evidence_decides_at_what_is_needed(action: RegressionAction) -> None:
    guardrail = replace(Guardrail.of("success-rate", min_samples=1), action=action)
    block = (failing(8, 60), failing(20, 600))
    (metric,) = judged(policy(guardrail), block).metrics
    assert metric.evidence > 1
    for alpha, finding in ((1 / metric.evidence + 1e-9, Finding.FAIL), (1 / metric.evidence - 1e-9, None)):
        (found,) = judged(policy(guardrail, alpha=alpha), block).metrics
        assert (found.finding is Finding.FAIL) is (finding is Finding.FAIL)
    for support, passes in ((1e-9, True), (-1e-9, False)):
        fine = (failing(0, 900), failing(9, 900))
        (metric,) = judged(policy(guardrail), fine).metrics
        assert metric.support > 1
        (found,) = judged(policy(guardrail, alpha=1 / metric.support + support), fine).metrics
        assert (found.finding is Finding.PASS) is passes


LIMIT = Threshold(name="t", metric=None, query="q", comparison=ComparisonOperator.GREATER, limit=1.0)


def found(
    finding: Finding, action: RegressionAction = RegressionAction.ROLLBACK
) -> tuple[Threshold, list[float | None]]:
    """Return a limit on a query and its answers, which lead to this finding."""
    answers: dict[Finding, list[float | None]] = {
        Finding.FAIL: [2.0] * 5,
        Finding.ERROR: [None] * 5,
        Finding.NO_DATA: [],
        Finding.PASS: [1.0] * 5,
    }
    return replace(LIMIT, name=finding.value, action=action), answers[finding]


@pytest.mark.parametrize("others", [[Finding.PASS], [Finding.PASS, Finding.NO_DATA]])
@pytest.mark.parametrize("worst", [Finding.FAIL, Finding.ERROR, Finding.NO_DATA, Finding.PASS])
@pytest.mark.parametrize("action", RegressionAction)
def test_the_worst_finding_of_what_rolls_back_is_the_verdict(
    worst: Finding, others: list[Finding], action: RegressionAction
) -> None:
    limits = [found(worst, action), *(found(other) for other in others if other is not worst)]
    asked = Policy(guardrails=(), thresholds=tuple(limit for limit, _ in limits))
    case = start_evidence(asked, CANDIDATE, CONTROL)
    for number in range(5):
        answers = {limit.name: given[number] for limit, given in limits if number < len(given)}
        case = add_block(
            case, asked, Block(start=number, seconds=1, legs={CANDIDATE: failing(0, 9)}), answers
        )
    seen = [metric.finding for metric in analyze(case, asked, 5).metrics]
    assert seen == [worst, *(other for other in others if other is not worst)]
    order = [Finding.FAIL, Finding.ERROR, Finding.NO_DATA, Finding.INCONCLUSIVE, Finding.PASS]
    deciding = seen if action is RegressionAction.ROLLBACK else seen[1:]
    expected = min(deciding, key=order.index) if deciding else Finding.PASS
    assert analyze(case, asked, 5).finding is expected


def test_an_undecided_guardrail_outweighs_a_pass_and_gives_way_to_missing_data() -> None:
    undecided = Guardrail.of("success-rate")
    block = (failing(1, 60), failing(1, 60))
    asked = policy(undecided, thresholds=(replace(LIMIT, query=None, metric="success-rate"),))
    assert judged(asked, block).finding is Finding.INCONCLUSIVE
    assert judged(policy(undecided, thresholds=(LIMIT,)), block).finding is Finding.NO_DATA


def test_several_candidates_have_the_worst_verdict_of_all() -> None:
    good = judged(policy(), *[(failing(0, 500), failing(5, 950))] * 10)
    bad = judged(policy(), *[(failing(30, 50), failing(5, 950))] * 10)
    assert combine_results({"v2": bad}) is bad
    both = combine_results({"v2": good, "v3": bad})
    assert both.finding is Finding.FAIL
    assert [metric.metric for metric in both.metrics] == ["v2 success-rate", "v3 success-rate"]
    assert both.message == f"v2: {good.message}; v3: {bad.message}"
    assert combine_results({"v2": good, "v3": good}).finding is Finding.PASS


def test_a_policy_that_asks_for_nothing_passes() -> None:
    empty = judged(Policy(guardrails=()), (failing(9, 9), failing(0, 9)))
    assert (empty.finding, empty.message) == (Finding.PASS, "no metric can roll the candidate back")


# Fixed limits


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


def watched(limit: Threshold, *values: tuple[float, float | None]) -> ThresholdState:
    """Return the threshold_state after values at their times; None is a query without an answer."""
    threshold_state = ThresholdState()
    for now, value in values:
        threshold_state = threshold_state.add_block(limit, Measurement(value=value), now)
    return threshold_state


def test_a_limit_trips_when_it_was_broken_for_as_long_as_it_says() -> None:
    limit = replace(LIMIT, lasting=30.0)
    assert not watched(limit, (0, 2.0), (29.9, 2.0)).tripped
    broken = watched(limit, (0, 2.0), (30, 2.0))
    assert (broken.tripped, broken.reason, broken.breached_since) == (True, "> 1 for 30 s", 0)
    assert not watched(limit, (0, 2.0), (20, 1.0), (30, 2.0), (59, 2.0)).tripped, "a good value begins anew"
    assert watched(limit, (0, 2.0), (20, None), (30, 2.0)).tripped, "silence does not"
    assert watched(LIMIT, (5, 2.0)).tripped, "without a duration one value is enough"


def test_a_limit_trips_when_it_was_broken_more_often_than_it_may() -> None:
    limit = replace(LIMIT, failure_limit=2)
    values = [(0, 2.0), (1, 1.0), (2, 2.0), (3, None)]
    threshold_state = watched(limit, *values)
    assert (threshold_state.tripped, threshold_state.failures, threshold_state.measurements) == (False, 2, 3)
    threshold_state = watched(limit, *values, (4, 2.0))
    assert (threshold_state.tripped, threshold_state.reason) == (True, "> 1 3 times, more than 2")
    assert watched(replace(LIMIT, failure_limit=0), (0, 2.0)).tripped


def test_the_verdict_on_a_limit_has_its_counts_and_no_statistics() -> None:
    asked = Policy(guardrails=(), thresholds=(replace(LIMIT, lasting=60.0, action=RegressionAction.NOTIFY),))
    case = start_evidence(asked, CANDIDATE, CONTROL)
    for number, answer in enumerate([2.0, 0.5, 2.0]):
        block = Block(start=number, seconds=1, legs={CANDIDATE: failing(0, 9)})
        case = add_block(case, asked, block, {"t": answer})
    (metric,) = analyze(case, asked, 3).metrics
    nothing = dict.fromkeys(("effect", "low", "high", "remaining"))
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
        message="t: 2, not > 1 for long enough",
        **nothing,
    )


def test_a_limit_that_tripped_stays_so() -> None:
    assert watched(LIMIT, (0, 2.0), (1, 0.0), (2, None)).tripped


def test_only_failures_in_a_row_are_an_error() -> None:
    asked = Policy(guardrails=(), thresholds=(replace(LIMIT, error_limit=2),))
    case = start_evidence(asked, CANDIDATE, CONTROL)
    findings = []
    for number, answer in enumerate([1.0, None, None, 1.0, None, None, None]):
        block = Block(start=number, seconds=1, legs={CANDIDATE: failing(0, 9)})
        case = add_block(case, asked, block, {"t": answer})
        findings.append(analyze(case, asked, number + 1).finding)
    assert findings == [Finding.PASS] * 6 + [Finding.ERROR]


def test_a_limit_on_the_candidates_own_numbers_uses_those_of_its_window() -> None:
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
    silent = ThresholdState().add_block(limit, Measurement(counts=failing(0, 0)), 10)
    assert (silent.value, silent.measurements) == (None, 0)


@pytest.mark.parametrize("query", [None, "q"])
@pytest.mark.parametrize("quiet", [False, True])
def test_no_value_is_no_verdict_for_a_query_and_for_a_candidate_that_is_silent(
    query: str | None, quiet: bool
) -> None:
    limit = replace(LIMIT, query=query, metric=None if query else "success-rate")
    asked = Policy(guardrails=(), thresholds=(limit,))
    blocks = [(None, failing(0, 9))] if quiet else [(failing(0, 9), failing(0, 9))]
    finding = Finding.NO_DATA if query or quiet else Finding.PASS
    assert judged(asked, *blocks).finding is finding


def test_the_values_people_know() -> None:
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


# What is learnt of one guardrail


@given(st.integers(0, 30), st.integers(1, 3_000), st.integers(0, 30), st.integers(1, 3_000))
def test_either_proof_that_failures_are_acceptable_counts_half(x: int, n: int, y: int, m: int) -> None:
    guardrail = Guardrail.of("success-rate")
    memory = MetricState.initial(guardrail).add_block(
        guardrail, (failing(min(x, n), n), failing(min(y, m), m)), FREE
    )
    compared = exp(memory.odds.log_evidence_better(guardrail.margin))
    assert memory.log_evidence_for(replace(guardrail, acceptable=0.0)) == pytest.approx(log(compared / 2))
    assert memory.log_evidence_for(replace(guardrail, acceptable=1.0)) == pytest.approx(log(compared / 2))
    limit, x = guardrail.acceptable, memory.candidate.x
    bets = []
    for halvings in range(1, 9):
        share = limit / 2**halvings
        likelier = x * log(share / limit) + (n - x) * log((1 - share) / (1 - limit))
        bets.append(exp(likelier / memory.dispersion.phi))
    assert memory.log_evidence_for(guardrail) == pytest.approx(log((compared + sum(bets) / 8) / 2), abs=1e-6)


def test_a_mean_is_compared_with_what_was_usual_of_control() -> None:
    guardrail = Guardrail.of("inter-token")

    def streaming(ms: int, n: int) -> Counts:
        return Counts(requests=n, metered=n, stream_ms=ms * 100, streamed_tokens=100)

    memory = MetricState.initial(guardrail).add_block(guardrail, (Counts(), streaming(10, 5)), FREE)
    assert (memory.reference_mean, memory.blocks) == (10.0, 0)
    memory = memory.add_block(guardrail, (streaming(24, 2), streaming(20, 3)), FREE)
    assert memory.reference_mean == pytest.approx(12.0), "one fifth of the way from 10 to 20"
    assert memory.means.mean == pytest.approx((24 - 20) / 12)
    assert memory.means.weight == pytest.approx(2 * 3 / 5)
    assert (memory.candidate.total, memory.candidate.n, memory.control.total) == (48.0, 2, 60.0)
    assert memory.blocks == 1
    assert memory.add_block(guardrail, (streaming(24, 2), Counts()), FREE) == memory


def test_a_backend_that_costs_nothing_is_no_evidence() -> None:
    guardrail = Guardrail.of("cost-per-request")
    counts = Counts(requests=5, metered=5, completion_tokens=100)
    memory = MetricState.initial(guardrail).add_block(guardrail, (counts, counts), FREE)
    assert (memory.reference_mean, memory.blocks, memory.candidate.n) == (0.0, 0, 0)
    priced = memory.add_block(guardrail, (counts, counts), (Price(), Price(output_per_million=1.0)))
    assert priced.blocks == 1
    assert priced.means.mean == pytest.approx(-5.0), "the level is one fifth of the way there"


def test_blocks_in_which_both_arms_were_seen_are_counted() -> None:
    guardrail = Guardrail.of("success-rate")
    memory = MetricState.initial(guardrail)
    for arms, blocks in (((1, 1), 1), ((1, 0), 1), ((0, 1), 1), ((2, 2), 2)):
        memory = memory.add_block(guardrail, (failing(0, arms[0]), failing(0, arms[1])), FREE)
        assert memory.blocks == blocks


def test_tokens_are_compared_as_logarithms() -> None:
    guardrail = Guardrail.of("tokens-per-request")

    def worded(place: int, n: int) -> Counts:
        row = [0] * (len(TOKENS) + 1)
        row[place] = n
        return Counts(requests=n, metered=n, tokens=tuple(row))

    memory = MetricState.initial(guardrail).add_block(guardrail, (worded(4, 2), worded(3, 3)), FREE)
    middle = {place: (log(TOKENS[place - 1]) + log(TOKENS[place])) / 2 for place in (3, 4)}
    assert memory.means.mean == pytest.approx(middle[4] - middle[3])


def test_what_is_usual_is_known_after_enough_requests_and_counts_for_the_next_block() -> None:
    guardrail = Guardrail.of("duration-p50")

    def lasting(place: int, n: int) -> Counts:
        row = [0] * (len(DURATION_MS) + 1)
        row[place] = n
        return Counts(requests=n, duration_ms=tuple(row))

    known = MetricState.initial(guardrail).add_block(guardrail, (lasting(5, 50), lasting(4, 99)), FREE)
    assert (known.reference_edge, known.blocks) == (None, 0)
    known = known.add_block(guardrail, (lasting(5, 50), lasting(4, 3)), FREE)
    assert known.reference_edge == 4, "97.02 of 99 are left of the block before, and 3 were added"
    assert known.blocks == 0, "the block itself was not held against it yet"
    judged_ = known.add_block(guardrail, (lasting(5, 50), lasting(4, 10)), FREE)
    assert (judged_.candidate.x, judged_.candidate.n, judged_.control.x, judged_.control.n) == (50, 50, 0, 10)
    wider = replace(guardrail, max_ratio=DURATION_MS[5] / DURATION_MS[4])
    assert known.add_block(wider, (lasting(5, 50), lasting(4, 10)), FREE).candidate.x == 0
    flood = MetricState.initial(guardrail).add_block(guardrail, (Counts(), lasting(4, 10_000)), FREE)
    assert sum(flood.reference_buckets) == pytest.approx(200)


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
def test_a_quantile_by_a_straight_line(buckets: tuple[int, ...], share: float, value: float) -> None:
    assert quantile(buckets, (10.0, 20.0), share) == pytest.approx(value)
