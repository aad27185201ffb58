"""The numbers and messages of a verdict, and the bucket edges at which latency is compared."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.analysis.counts import DURATION_MS, TOKENS, Block, Counts, Leg
from xds_server.analysis.verdicts import (
    Guardrail,
    MetricVerdict,
    Policy,
    Price,
    add_block,
    analyze,
    start_evidence,
)
from xds_server.analysis.verdicts.metric_state import Totals, _nearest_edge_to_quantile
from xds_server.rollout import Finding

CANDIDATE, CONTROL = Leg(route="chat", variant="v2"), Leg(route="chat", variant="v1")
PRICES = {"v1": Price(output_per_million=10.0), "v2": Price(output_per_million=10.0)}


def metric_verdict(
    metric: str, *blocks: tuple[Counts | None, Counts], start: float = 0.0, now: float = 0.0, **overrides: Any
) -> MetricVerdict:
    """Return the verdict on one metric after blocks of ten seconds."""
    guardrail = replace(Guardrail.of(metric), **overrides)
    policy = Policy(guardrails=(guardrail,), prices=PRICES)
    evidence = start_evidence(policy, CANDIDATE, CONTROL)
    for number, (candidate, control) in enumerate(blocks):
        legs = {CONTROL: control} if candidate is None else {CANDIDATE: candidate, CONTROL: control}
        evidence = add_block(evidence, policy, Block(start=start + number * 10, seconds=10, legs=legs))
    (found,) = analyze(evidence, policy, now or start + len(blocks) * 10).metrics
    return found


def failing(failed: int, requests: int) -> Counts:
    return Counts(requests=requests, failed=failed)


def with_duration(place: int, n: int) -> Counts:
    row = [0] * (len(DURATION_MS) + 1)
    row[place] = n
    return Counts(requests=n, duration_ms=tuple(row))


def with_stream_time(ms: float, n: int) -> Counts:
    return Counts(requests=n, metered=n, stream_ms=int(ms * 100 * n), streamed_tokens=100 * n)


def with_tokens(place: int, n: int, tokens: int) -> Counts:
    row = [0] * (len(TOKENS) + 1)
    row[place] = n
    return Counts(requests=n, metered=n, completion_tokens=tokens * n, tokens=tuple(row))


# Remaining time


@pytest.mark.parametrize(
    ("requests", "acceptable", "unit", "seconds"),
    [(40, 0.02, "seconds", 1), (4, 0.02, "minutes", 60), (1, 0.002, "hours", 3_600)],
    ids=["seconds", "minutes", "hours"],
)
def test_the_remaining_time_has_a_readable_unit(
    requests: int, acceptable: float, unit: str, seconds: int
) -> None:
    blocks = [(failing(0, requests), failing(0, 900))] * 4
    found = metric_verdict("success-rate", *blocks, min_samples=1, acceptable=acceptable)
    assert found.remaining is not None
    assert found.message.endswith(f"; about {found.remaining / seconds:.0f} more {unit} needed")


# Bounds and messages


def test_the_message_of_a_failure_has_shares_counts_and_bounds() -> None:
    found = metric_verdict("success-rate", *[(failing(9, 50), failing(5, 950))] * 6)
    assert found.message == (
        "success-rate: candidate 82.00% (54 of 300 failed), stable 99.47% (30 of 5,700 failed); "
        f"worse, evidence against chance {found.evidence:,.0f} : 1; "
        f"the candidate's odds of failing are above {found.low:.3g} times the stable backend's"
    )


def test_the_message_of_a_pass_names_the_margin() -> None:
    found = metric_verdict("success-rate", *[(failing(1, 100), failing(9, 900))] * 60)
    low, high = found.low, found.high
    assert high is not None
    bounds = f"below {high:.3g}" if low is None else f"between {low:.3g} and {high:.3g}"
    assert found.message.endswith(
        f"; not worse: the candidate's odds of failing are {bounds} times the stable backend's, "
        "within the margin of 3"
    )
    assert found.effect == pytest.approx(1.0, abs=0.3)


def test_the_message_of_a_pass_without_failures_names_the_acceptable_share() -> None:
    found = metric_verdict("success-rate", *[(failing(0, 500), failing(0, 500))] * 4)
    assert found.finding is Finding.PASS
    assert "passes because failures are proven acceptable (less than 0.5 % of requests)" in found.message


def test_the_message_without_a_bound_excludes_no_odds_ratio() -> None:
    found = metric_verdict("success-rate", (failing(0, 60), failing(0, 60)))
    assert (found.low, found.high) == (None, None)
    assert (
        "; undecided: not enough requests yet for a bound on the candidate's odds of failing"
    ) in found.message


def test_means_are_reported_as_ratios_with_their_bounds() -> None:
    pattern = [(with_stream_time(20 + n % 3, 60), with_stream_time(20 + (n + 1) % 3, 300)) for n in range(60)]
    found = metric_verdict("inter-token", *pattern)
    assert found.finding is Finding.PASS
    assert None not in (found.effect, found.low, found.high)
    assert found.low < found.effect < found.high < 1.25  # type: ignore[operator]
    assert found.effect == pytest.approx(1.0, abs=0.01)
    assert found.message.endswith(
        f"the candidate's mean is between {found.low:.3g} and {found.high:.3g} times the stable backend's, "
        "within the margin of 1.25"
    )
    assert found.message.startswith("inter-token: candidate 21 ms, stable 21 ms; not worse")
    assert (found.dispersion, found.candidate.x) == (1.0, 0)


def test_tokens_are_reported_as_geometric_means() -> None:
    blocks = [(with_tokens(6 + n % 2, 60, 10), with_tokens(6 + n % 2, 300, 10)) for n in range(4)]
    found = metric_verdict("tokens-per-request", *blocks)
    middle = [(log(TOKENS[place - 1]) + log(TOKENS[place])) / 2 for place in (6, 7)]
    assert found.candidate.value == pytest.approx(exp(sum(middle) / 2))
    assert found.control.value == pytest.approx(exp(sum(middle) / 2))
    assert found.effect == pytest.approx(1.0)
    assert found.message.startswith(
        f"tokens-per-request: candidate {found.candidate.value:,.4g} tokens, stable"
    )


def test_cost_is_reported_without_a_unit() -> None:
    found = metric_verdict("cost-per-request", *[(with_tokens(6, 60, 300), with_tokens(6, 300, 200))] * 3)
    assert found.message.startswith("cost-per-request: candidate 0.003, stable 0.002; undecided")
    assert found.effect == pytest.approx(1.5)


def test_latency_is_reported_at_its_quantile() -> None:
    before = [(None, with_duration(4, 200))] * 2
    found = metric_verdict("duration-p50", *before, *[(with_duration(5, 20), with_duration(4, 50))] * 12)
    assert found.finding is Finding.FAIL
    assert found.candidate.value == pytest.approx((DURATION_MS[4] + DURATION_MS[5]) / 2)
    assert found.control.value == pytest.approx((DURATION_MS[3] + DURATION_MS[4]) / 2)
    assert (found.candidate.x, found.candidate.n, found.control.x) == (240, 240, 0)
    unknown = metric_verdict("duration-p50", (None, with_duration(4, 40)))
    assert unknown.message.endswith(
        "not enough requests of the stable backend yet for a reference value: 40 of 100 "
        "(older requests count less)"
    )


def test_shares_of_valid_json_are_of_the_answers_that_should_be_json() -> None:
    candidate = Counts(requests=90, invalid=5, metered=30, unmetered=15)
    found = metric_verdict("valid-json-rate", *[(candidate, candidate)] * 2)
    assert (found.candidate.x, found.candidate.n) == (10, 100)


# Totals


def test_totals_add_up() -> None:
    empty = Totals()
    assert (empty.share, empty.mean) == (None, None)
    totals = empty.add(1, 4, 8.0, (1, 2)).add(2, 6, 2.0, (3, 4)).add(0, 0)
    assert totals == Totals(x=3, n=10, total=10.0, buckets=(4, 6))
    assert (totals.share, totals.mean) == (0.3, 1.0)


# Where latency is compared


@pytest.mark.parametrize(
    ("buckets", "quantile", "edge"),
    [
        ((0, 0, 9, 0), 0.5, 2),
        ((9, 0, 0, 0), 0.99, 0),
        ((0, 0, 0, 9), 0.5, 3),
        ((50, 50, 0, 0), 0.5, 0),
        ((49, 51, 0, 0), 0.5, 0),  # 51 % lie above, which is nearest to the median
        ((30, 70, 0, 0), 0.5, 0),  # 70 % lie above the lower edge, and nothing above the upper one
        ((20, 80, 0, 0), 0.5, 1),  # 80 % are too many
        ((985, 14, 1, 0), 0.99, 0),
        ((960, 39, 1, 0), 0.99, 1),
        ((980, 12, 8, 0), 0.99, 1),  # 0.8 % above is nearer to 1 % than 2 %
    ],
)
def test_the_edge_nearest_to_a_quantile(buckets: tuple[float, ...], quantile: float, edge: int) -> None:
    assert _nearest_edge_to_quantile(buckets, quantile) == edge


@given(st.lists(st.integers(0, 500), min_size=2, max_size=12).filter(any), st.sampled_from([0.5, 0.99]))
def test_the_edge_is_above_the_quantile_or_the_one_below(counts: list[int], quantile: float) -> None:
    edge = _nearest_edge_to_quantile(tuple(float(count) for count in counts), quantile)
    total, nominal = sum(counts), 1 - quantile
    above = [sum(counts[place + 1 :]) / total for place in range(len(counts))]
    first = next(place for place, share in enumerate(above) if share <= nominal + 1e-12)
    assert edge in {first, first - 1}
    if edge == first - 1:
        assert above[edge] <= min(3 * nominal, (1 + nominal) / 2) + 1e-9
        assert abs(log(above[edge] / nominal)) <= abs(log(max(above[first], 1 / total) / nominal)) + 1e-9
