"""Blocks in, verdicts out: what leads to which finding, and what people are told of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from xds_server.analysis.counts import DURATION_MS, TOKENS, Block, Counts, Leg
from xds_server.analysis.verdicts import (
    Comparison,
    Guardrail,
    Policy,
    Price,
    RegressionAction,
    Threshold,
    fresh,
    heard,
    ruling,
)
from xds_server.analysis.verdicts.metric_state import quantile
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
NONE = Counts()


def policy(*metrics: str, **more: Any) -> Policy:
    return Policy(guardrails=tuple(Guardrail.of(name) for name in metrics), **more)


def judged(
    asked: Policy, blocks: Sequence[tuple[Counts | None, Counts]], *, seconds: float = 10, quiet: float = 0
) -> Any:
    case = fresh(asked, CANDIDATE, CONTROL)
    for number, (mine, other) in enumerate(blocks):
        legs = {CONTROL: other} if mine is None else {CANDIDATE: mine, CONTROL: other}
        case = heard(case, asked, Block(start=number * seconds, seconds=seconds, legs=legs))
    return ruling(case, asked, len(blocks) * seconds + quiet)


def failing(failed: int, requests: int) -> Counts:
    return Counts(requests=requests, failed=failed)


def lasting(rng: np.random.Generator, n: int, milliseconds: float) -> Counts:
    values = rng.lognormal(np.log(milliseconds), 0.5, n)
    places = np.searchsorted(DURATION_MS, values)
    row = np.bincount(places, minlength=len(DURATION_MS) + 1)
    return Counts(requests=n, duration_ms=tuple(int(count) for count in row))


def worded(rng: np.random.Generator, n: int, tokens: float) -> Counts:
    values = rng.lognormal(np.log(tokens), 0.5, n)
    row = np.bincount(np.searchsorted(TOKENS, values), minlength=len(TOKENS) + 1)
    return Counts(
        requests=n, metered=n, completion_tokens=int(values.sum()), tokens=tuple(int(count) for count in row)
    )


def test_more_failures_fail_and_the_numbers_are_told() -> None:
    found = judged(policy("success-rate"), [(failing(4, 50), failing(5, 950))] * 6)
    assert found.finding is Finding.FAIL
    (metric,) = found.metrics
    assert (metric.candidate.x, metric.candidate.n, metric.control.x, metric.control.n) == (24, 300, 30, 5700)
    assert metric.evidence > metric.needed > 0
    assert metric.low is not None
    assert metric.low > 1
    assert "92.00% (24 of 300 failed) against 99.47% (30 of 5,700 failed); worse" in found.words


def test_as_many_failures_pass_in_time_and_say_what_is_excluded() -> None:
    found = judged(policy("success-rate"), [(failing(1, 100), failing(9, 900))] * 60)
    assert found.finding is Finding.PASS
    (metric,) = found.metrics
    assert metric.high is not None
    assert metric.high <= metric.margin == 3.0
    assert "not worse by 3 times" in found.words


def test_where_nothing_fails_enough_requests_are_enough() -> None:
    assert (
        judged(policy("success-rate"), [(failing(0, 50), failing(0, 950))] * 10).finding
        is Finding.INCONCLUSIVE
    )
    assert judged(policy("success-rate"), [(failing(0, 50), failing(0, 950))] * 60).finding is Finding.PASS


def test_an_outage_of_both_blames_nobody() -> None:
    calm, storm = (failing(0, 50), failing(4, 950)), (failing(10, 50), failing(190, 950))
    assert judged(policy("success-rate"), [calm] * 10 + [storm] * 20).finding is not Finding.FAIL


def test_few_requests_decide_nothing() -> None:
    found = judged(policy("success-rate"), [(failing(3, 8), failing(1, 950))] * 6)
    assert found.finding is Finding.INCONCLUSIVE
    assert "48 of the 50 requests it takes" in found.words


def test_a_candidate_without_requests_has_no_verdict() -> None:
    assert judged(policy("success-rate"), [(None, failing(4, 950))] * 6).finding is Finding.NO_DATA
    proven = [(failing(1, 100), failing(9, 900))] * 60
    assert judged(policy("success-rate"), proven, quiet=61).finding is Finding.NO_DATA


def test_what_was_proven_against_it_stays_when_it_falls_silent() -> None:
    found = judged(policy("success-rate"), [(failing(9, 50), failing(5, 950))] * 6, quiet=600)
    assert found.finding is Finding.FAIL


def test_slower_is_found_against_what_was_usual_before() -> None:
    rng = np.random.default_rng(1)
    before: list[tuple[Counts | None, Counts]] = [(None, lasting(rng, 300, 100)) for _ in range(12)]
    slow: list[tuple[Counts | None, Counts]] = [
        (lasting(rng, 50, 150), lasting(rng, 250, 100)) for _ in range(12)
    ]
    same: list[tuple[Counts | None, Counts]] = [
        (lasting(rng, 50, 100), lasting(rng, 250, 100)) for _ in range(30)
    ]
    assert judged(policy("duration-p50"), before + slow).finding is Finding.FAIL
    assert judged(policy("duration-p50"), before + same).finding is Finding.PASS


def always(n: int, milliseconds: float) -> Counts:
    row = [0] * (len(DURATION_MS) + 1)
    row[int(np.searchsorted(DURATION_MS, milliseconds))] = n
    return Counts(requests=n, duration_ms=tuple(row))


@pytest.mark.parametrize("metric", ["duration-p50", "duration-p99"])
def test_slower_is_found_where_all_requests_took_the_same(metric: str) -> None:
    blocks: list[tuple[Counts | None, Counts]] = [(None, always(300, 150)) for _ in range(12)]
    blocks += [(always(50, 900), always(250, 150)) for _ in range(6)]
    assert judged(policy(metric), blocks).finding is Finding.FAIL


def test_what_is_usual_is_what_was_usual_lately() -> None:
    rng = np.random.default_rng(6)
    blocks: list[tuple[Counts | None, Counts]] = [(None, lasting(rng, 300, 10)) for _ in range(20)]
    blocks += [(None, lasting(rng, 300, 1000)) for _ in range(60)]
    blocks += [(lasting(rng, 50, 2000), lasting(rng, 250, 1000)) for _ in range(12)]
    assert judged(policy("duration-p50"), blocks).finding is Finding.FAIL


def test_a_flood_of_other_requests_does_not_become_what_is_usual() -> None:
    rng = np.random.default_rng(7)
    blocks: list[tuple[Counts | None, Counts]] = [(None, lasting(rng, 10_000, 10)) for _ in range(10)]
    blocks += [(lasting(rng, 50, 2000), lasting(rng, 250, 200)) for _ in range(20)]
    assert judged(policy("duration-p50"), blocks).finding is Finding.FAIL


def test_what_is_tolerated_is_no_regression() -> None:
    rng = np.random.default_rng(2)
    blocks: list[tuple[Counts | None, Counts]] = [(None, lasting(rng, 300, 100)) for _ in range(12)]
    blocks += [(lasting(rng, 50, 120), lasting(rng, 250, 100)) for _ in range(20)]
    strict = policy("duration-p50")
    lenient = replace(strict, guardrails=(replace(strict.guardrails[0], max_ratio=1.6),))
    assert judged(strict, blocks).finding is Finding.FAIL
    assert judged(lenient, blocks).finding is not Finding.FAIL


def test_latency_waits_until_it_is_known_what_is_usual() -> None:
    rng = np.random.default_rng(3)
    found = judged(policy("duration-p99"), [(lasting(rng, 50, 100), lasting(rng, 50, 100))] * 3)
    assert found.finding is Finding.NO_DATA
    assert "what is usual of control is not known yet" in found.words


@pytest.mark.parametrize(("tokens", "finding"), [(150.0, Finding.FAIL), (100.0, Finding.PASS)])
def test_more_tokens_cost_more(tokens: float, finding: Finding) -> None:
    rng = np.random.default_rng(4)
    prices = {name: Price(input_per_million=1, output_per_million=2) for name in ("v1", "v2")}
    asked = policy("tokens-per-request", "cost-per-request", prices=prices)
    found = judged(asked, [(worded(rng, 60, tokens), worded(rng, 300, 100)) for _ in range(60)])
    assert [metric.finding for metric in found.metrics] == [finding, finding]


def test_a_dearer_backend_is_dearer_at_the_same_length() -> None:
    rng = np.random.default_rng(5)
    prices = {"v1": Price(output_per_million=1), "v2": Price(output_per_million=2)}
    asked = policy("tokens-per-request", "cost-per-request", prices=prices)
    found = judged(asked, [(worded(rng, 60, 100), worded(rng, 300, 100)) for _ in range(60)])
    assert [metric.finding for metric in found.metrics] == [Finding.PASS, Finding.FAIL]
    assert found.metrics[1].effect == pytest.approx(2.0, rel=0.1)


def test_the_risk_is_shared_by_the_metrics_that_roll_back() -> None:
    one, two = policy("success-rate"), policy("success-rate", "valid-json-rate")
    assert (one.share, two.share) == (0.05, 0.025)
    quiet = replace(
        two, guardrails=(two.guardrails[0], replace(two.guardrails[1], action=RegressionAction.NOTIFY))
    )
    assert quiet.share == 0.05


def test_what_only_notifies_takes_nothing_back() -> None:
    asked = policy("success-rate")
    asked = replace(asked, guardrails=(replace(asked.guardrails[0], action=RegressionAction.NOTIFY),))
    found = judged(asked, [(failing(9, 50), failing(5, 950))] * 6)
    assert found.finding is Finding.PASS
    assert found.metrics[0].finding is Finding.FAIL


def test_nothing_is_judged_while_the_candidate_warms_up() -> None:
    blocks = [(failing(20, 50), failing(5, 950))] * 3 + [(failing(0, 50), failing(5, 950))] * 3
    assert judged(policy("success-rate"), blocks).finding is Finding.FAIL
    assert judged(policy("success-rate", initial_delay=30.0), blocks).finding is not Finding.FAIL


def limit(**more: Any) -> Policy:
    usual: dict[str, Any] = {
        "name": "success-rate",
        "metric": "success-rate",
        "comparison": Comparison.LESS,
        "limit": 0.95,
        "window": 60.0,
        "lasting": 30.0,
    }
    return Policy(guardrails=(), thresholds=(Threshold(**usual | more),))


def test_a_fixed_limit_must_be_broken_for_as_long_as_it_says() -> None:
    bad, good = (failing(10, 50), NONE), (failing(0, 50), NONE)
    assert judged(limit(), [bad] * 3).finding is Finding.PASS
    found = judged(limit(), [bad] * 4)
    assert found.finding is Finding.FAIL
    assert found.words == "success-rate: 0.8, < 0.95 for 30 s"
    assert judged(limit(window=10.0), [bad, bad, good] * 4).finding is Finding.PASS


def test_a_fixed_limit_may_be_broken_a_few_times() -> None:
    bad, good = (failing(10, 50), NONE), (failing(0, 50), NONE)
    asked = limit(window=10.0, failure_limit=2)
    assert judged(asked, [bad, good, bad, good]).finding is Finding.PASS
    assert judged(asked, [bad, good, bad, good, bad]).finding is Finding.FAIL


def test_queries_that_fail_leave_no_verdict() -> None:
    asked = limit(name="gpu", metric=None, query="gpu", error_limit=2, lasting=0.0)
    case = fresh(asked, CANDIDATE, CONTROL)
    for number, answer in enumerate([None, None, None]):
        case = heard(
            case, asked, Block(start=number, seconds=1, legs={CANDIDATE: failing(0, 9)}), {"gpu": answer}
        )
    assert ruling(case, asked, 3).finding is Finding.ERROR
    case = heard(case, asked, Block(start=3, seconds=1, legs={CANDIDATE: failing(0, 9)}), {"gpu": 0.97})
    assert ruling(case, asked, 4).finding is Finding.PASS
    case = heard(case, asked, Block(start=4, seconds=1, legs={CANDIDATE: failing(0, 9)}), {"gpu": 0.2})
    assert ruling(case, asked, 5).finding is Finding.FAIL


def test_a_quantile_lies_within_its_bucket() -> None:
    assert quantile((), (), 0.5) is None
    assert quantile((0, 10, 0), (1.0, 2.0), 0.5) == 1.5
    assert quantile((0, 0, 4), (1.0, 2.0), 0.99) == 2.0
