"""Verdicts on a candidate: which counts lead to which finding, and the messages."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

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
from xds_server.analysis.verdicts.metric_state import quantile
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
NO_COUNTS = Counts()


def policy(*metrics: str, **more: Any) -> Policy:
    return Policy(guardrails=tuple(Guardrail.of(name) for name in metrics), **more)


def analyzed(
    policy_: Policy, blocks: Sequence[tuple[Counts | None, Counts]], *, seconds: float = 10, quiet: float = 0
) -> Any:
    evidence = start_evidence(policy_, CANDIDATE, CONTROL)
    for number, (candidate, control) in enumerate(blocks):
        legs = {CONTROL: control} if candidate is None else {CANDIDATE: candidate, CONTROL: control}
        evidence = add_block(evidence, policy_, Block(start=number * seconds, seconds=seconds, legs=legs))
    return analyze(evidence, policy_, len(blocks) * seconds + quiet)


def requests_with_failures(failed: int, requests: int) -> Counts:
    return Counts(requests=requests, failed=failed)


def requests_with_durations(rng: np.random.Generator, n: int, milliseconds: float) -> Counts:
    values = rng.lognormal(np.log(milliseconds), 0.5, n)
    places = np.searchsorted(DURATION_MS, values)
    row = np.bincount(places, minlength=len(DURATION_MS) + 1)
    return Counts(requests=n, duration_ms=tuple(int(count) for count in row))


def requests_with_tokens(rng: np.random.Generator, n: int, tokens: float) -> Counts:
    values = rng.lognormal(np.log(tokens), 0.5, n)
    row = np.bincount(np.searchsorted(TOKENS, values), minlength=len(TOKENS) + 1)
    return Counts(
        requests=n, metered=n, completion_tokens=int(values.sum()), tokens=tuple(int(count) for count in row)
    )


def test_more_failures_fail_with_numbers_in_the_message() -> None:
    found = analyzed(
        policy("success-rate"), [(requests_with_failures(4, 50), requests_with_failures(5, 950))] * 6
    )
    assert found.finding is Finding.FAIL
    (metric,) = found.metrics
    assert (metric.candidate.x, metric.candidate.n, metric.control.x, metric.control.n) == (24, 300, 30, 5700)
    assert metric.evidence > metric.needed > 0
    assert metric.low is not None
    assert metric.low > 1
    assert "candidate 92.00% (24 of 300 failed), stable 99.47% (30 of 5,700 failed); worse" in found.message


def test_equal_failures_pass_with_the_excluded_margin_in_the_message() -> None:
    found = analyzed(
        policy("success-rate"), [(requests_with_failures(1, 100), requests_with_failures(9, 900))] * 60
    )
    assert found.finding is Finding.PASS
    (metric,) = found.metrics
    assert metric.high is not None
    assert metric.high <= metric.margin == 3.0
    assert "within the margin of 3" in found.message


def test_enough_requests_without_failures_pass() -> None:
    assert (
        analyzed(
            policy("success-rate"), [(requests_with_failures(0, 50), requests_with_failures(0, 950))] * 10
        ).finding
        is Finding.INCONCLUSIVE
    )
    assert (
        analyzed(
            policy("success-rate"), [(requests_with_failures(0, 50), requests_with_failures(0, 950))] * 60
        ).finding
        is Finding.PASS
    )


def test_an_outage_of_both_arms_is_no_regression() -> None:
    calm, storm = (
        (requests_with_failures(0, 50), requests_with_failures(4, 950)),
        (requests_with_failures(10, 50), requests_with_failures(190, 950)),
    )
    assert analyzed(policy("success-rate"), [calm] * 10 + [storm] * 20).finding is not Finding.FAIL


def test_too_few_requests_do_not_pass() -> None:
    found = analyzed(
        policy("success-rate"), [(requests_with_failures(0, 8), requests_with_failures(1, 950))] * 6
    )
    assert found.finding is Finding.INCONCLUSIVE
    assert "48 of 50 required requests" in found.message


def test_a_candidate_without_requests_has_no_data() -> None:
    assert (
        analyzed(policy("success-rate"), [(None, requests_with_failures(4, 950))] * 6).finding
        is Finding.NO_DATA
    )
    proven = [(requests_with_failures(1, 100), requests_with_failures(9, 900))] * 60
    assert analyzed(policy("success-rate"), proven, quiet=61).finding is Finding.NO_DATA


def test_a_proven_regression_remains_without_further_requests() -> None:
    found = analyzed(
        policy("success-rate"),
        [(requests_with_failures(9, 50), requests_with_failures(5, 950))] * 6,
        quiet=600,
    )
    assert found.finding is Finding.FAIL


def test_a_slower_candidate_fails_against_earlier_control_latency() -> None:
    rng = np.random.default_rng(1)
    before: list[tuple[Counts | None, Counts]] = [
        (None, requests_with_durations(rng, 300, 100)) for _ in range(12)
    ]
    slow: list[tuple[Counts | None, Counts]] = [
        (requests_with_durations(rng, 50, 150), requests_with_durations(rng, 250, 100)) for _ in range(12)
    ]
    same: list[tuple[Counts | None, Counts]] = [
        (requests_with_durations(rng, 50, 100), requests_with_durations(rng, 250, 100)) for _ in range(30)
    ]
    assert analyzed(policy("duration-p50"), before + slow).finding is Finding.FAIL
    assert analyzed(policy("duration-p50"), before + same).finding is Finding.PASS


def requests_with_one_duration(n: int, milliseconds: float) -> Counts:
    row = [0] * (len(DURATION_MS) + 1)
    row[int(np.searchsorted(DURATION_MS, milliseconds))] = n
    return Counts(requests=n, duration_ms=tuple(row))


@pytest.mark.parametrize("metric", ["duration-p50", "duration-p99"])
def test_a_slower_candidate_fails_when_all_control_requests_are_equal(metric: str) -> None:
    blocks: list[tuple[Counts | None, Counts]] = [
        (None, requests_with_one_duration(300, 150)) for _ in range(12)
    ]
    blocks += [(requests_with_one_duration(50, 900), requests_with_one_duration(250, 150)) for _ in range(6)]
    assert analyzed(policy(metric), blocks).finding is Finding.FAIL


def test_the_latency_reference_follows_recent_blocks() -> None:
    rng = np.random.default_rng(6)
    blocks: list[tuple[Counts | None, Counts]] = [
        (None, requests_with_durations(rng, 300, 10)) for _ in range(20)
    ]
    blocks += [(None, requests_with_durations(rng, 300, 1000)) for _ in range(60)]
    blocks += [
        (requests_with_durations(rng, 50, 2000), requests_with_durations(rng, 250, 1000)) for _ in range(12)
    ]
    assert analyzed(policy("duration-p50"), blocks).finding is Finding.FAIL


def test_one_large_burst_does_not_dominate_the_latency_reference() -> None:
    rng = np.random.default_rng(7)
    blocks: list[tuple[Counts | None, Counts]] = [
        (None, requests_with_durations(rng, 10_000, 10)) for _ in range(10)
    ]
    blocks += [
        (requests_with_durations(rng, 50, 2000), requests_with_durations(rng, 250, 200)) for _ in range(20)
    ]
    assert analyzed(policy("duration-p50"), blocks).finding is Finding.FAIL


def test_a_tolerated_ratio_is_no_regression() -> None:
    rng = np.random.default_rng(2)
    blocks: list[tuple[Counts | None, Counts]] = [
        (None, requests_with_durations(rng, 300, 100)) for _ in range(12)
    ]
    blocks += [
        (requests_with_durations(rng, 50, 120), requests_with_durations(rng, 250, 100)) for _ in range(20)
    ]
    strict = policy("duration-p50")
    lenient = replace(strict, guardrails=(replace(strict.guardrails[0], max_ratio=1.6),))
    assert analyzed(strict, blocks).finding is Finding.FAIL
    assert analyzed(lenient, blocks).finding is not Finding.FAIL


def test_latency_has_no_data_before_the_reference_is_established() -> None:
    rng = np.random.default_rng(3)
    found = analyzed(
        policy("duration-p99"),
        [(requests_with_durations(rng, 50, 100), requests_with_durations(rng, 50, 100))] * 3,
    )
    assert found.finding is Finding.NO_DATA
    assert "not enough requests of the stable backend yet" in found.message


@pytest.mark.parametrize(("tokens", "finding"), [(150.0, Finding.FAIL), (100.0, Finding.PASS)])
def test_more_tokens_fail_the_token_and_cost_metrics(tokens: float, finding: Finding) -> None:
    rng = np.random.default_rng(4)
    prices = {name: Price(input_per_million=1, output_per_million=2) for name in ("v1", "v2")}
    policy_ = policy("tokens-per-request", "cost-per-request", prices=prices)
    found = analyzed(
        policy_,
        [(requests_with_tokens(rng, 60, tokens), requests_with_tokens(rng, 300, 100)) for _ in range(60)],
    )
    assert [metric.finding for metric in found.metrics] == [finding, finding]


def test_a_higher_price_fails_the_cost_metric_at_equal_tokens() -> None:
    rng = np.random.default_rng(5)
    prices = {"v1": Price(output_per_million=1), "v2": Price(output_per_million=2)}
    policy_ = policy("tokens-per-request", "cost-per-request", prices=prices)
    found = analyzed(
        policy_,
        [(requests_with_tokens(rng, 60, 100), requests_with_tokens(rng, 300, 100)) for _ in range(60)],
    )
    assert [metric.finding for metric in found.metrics] == [Finding.PASS, Finding.FAIL]
    assert found.metrics[1].effect == pytest.approx(2.0, rel=0.1)


def test_alpha_is_split_over_the_metrics_that_roll_back() -> None:
    one, two = policy("success-rate"), policy("success-rate", "valid-json-rate")
    assert (one.alpha_per_guardrail, two.alpha_per_guardrail) == (0.05, 0.025)
    quiet = replace(
        two, guardrails=(two.guardrails[0], replace(two.guardrails[1], action=RegressionAction.NOTIFY))
    )
    assert quiet.alpha_per_guardrail == 0.05


def test_a_metric_that_only_notifies_does_not_roll_back() -> None:
    policy_ = policy("success-rate")
    policy_ = replace(policy_, guardrails=(replace(policy_.guardrails[0], action=RegressionAction.NOTIFY),))
    found = analyzed(policy_, [(requests_with_failures(9, 50), requests_with_failures(5, 950))] * 6)
    assert found.finding is Finding.PASS
    assert found.metrics[0].finding is Finding.FAIL


def test_requests_during_the_initial_delay_are_ignored() -> None:
    blocks = [(requests_with_failures(20, 50), requests_with_failures(5, 950))] * 3 + [
        (requests_with_failures(0, 50), requests_with_failures(5, 950))
    ] * 3
    assert analyzed(policy("success-rate"), blocks).finding is Finding.FAIL
    assert analyzed(policy("success-rate", initial_delay=30.0), blocks).finding is not Finding.FAIL


def limit(**more: Any) -> Policy:
    defaults: dict[str, Any] = {
        "name": "success-rate",
        "metric": "success-rate",
        "comparison": ComparisonOperator.LESS,
        "limit": 0.95,
        "window": 60.0,
        "lasting": 30.0,
    }
    return Policy(guardrails=(), thresholds=(Threshold(**defaults | more),))


def test_a_fixed_limit_fails_after_its_duration() -> None:
    bad, good = (requests_with_failures(10, 50), NO_COUNTS), (requests_with_failures(0, 50), NO_COUNTS)
    assert analyzed(limit(), [bad] * 3).finding is Finding.PASS
    found = analyzed(limit(), [bad] * 4)
    assert found.finding is Finding.FAIL
    assert found.message == "success-rate: was < 0.95 for 30 s; newest value: 0.8"
    assert analyzed(limit(window=10.0), [bad, bad, good] * 4).finding is Finding.PASS


def test_a_fixed_limit_fails_after_its_failure_limit() -> None:
    bad, good = (requests_with_failures(10, 50), NO_COUNTS), (requests_with_failures(0, 50), NO_COUNTS)
    policy_ = limit(window=10.0, failure_limit=2)
    assert analyzed(policy_, [bad, good, bad, good]).finding is Finding.PASS
    assert analyzed(policy_, [bad, good, bad, good, bad]).finding is Finding.FAIL


def test_failing_queries_end_in_an_error() -> None:
    policy_ = limit(name="gpu", metric=None, query="gpu", error_limit=2, lasting=0.0)
    evidence = start_evidence(policy_, CANDIDATE, CONTROL)
    for number, answer in enumerate([None, None, None]):
        evidence = add_block(
            evidence,
            policy_,
            Block(start=number, seconds=1, legs={CANDIDATE: requests_with_failures(0, 9)}),
            {"gpu": answer},
        )
    assert analyze(evidence, policy_, 3).finding is Finding.ERROR
    evidence = add_block(
        evidence,
        policy_,
        Block(start=3, seconds=1, legs={CANDIDATE: requests_with_failures(0, 9)}),
        {"gpu": 0.97},
    )
    assert analyze(evidence, policy_, 4).finding is Finding.PASS
    evidence = add_block(
        evidence,
        policy_,
        Block(start=4, seconds=1, legs={CANDIDATE: requests_with_failures(0, 9)}),
        {"gpu": 0.2},
    )
    assert analyze(evidence, policy_, 5).finding is Finding.FAIL


def test_a_quantile_lies_within_its_bucket() -> None:
    assert quantile((), (), 0.5) is None
    assert quantile((0, 10, 0), (1.0, 2.0), 0.5) == 1.5
    assert quantile((0, 0, 4), (1.0, 2.0), 0.99) == 2.0
