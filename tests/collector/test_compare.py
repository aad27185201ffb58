"""Comparison of pairs, and totals over pairs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.compare import (
    VERSION,
    CollectorTotals,
    Comparison,
    ComparisonOutcomes,
    Histogram,
    LegCounts,
    PairTotals,
    RouteTotals,
    TokenSource,
    compare,
    rouge_l,
)
from mirror_collector.exchange import Body, Failure, Leg, Pair, Role, RouteName, UnpairedReason, Variant
from tests.collector.builders import chat_json, chat_stream, leg

SSE = "text/event-stream"
CHAT = RouteName("chat")


def primary(body: bytes = b"", **fields: Any) -> Leg:
    return leg(Role.PRIMARY, body=body, **fields)


def shadow(body: bytes = b"", **fields: Any) -> Leg:
    return leg(Role.SHADOW, body=body, **fields)


def compare_legs(one: Leg, two: Leg) -> Comparison:
    return compare(Pair(primary=one, shadow=two))


def failed_shadow() -> Leg:
    return shadow(b"upstream connect error", status=503, failure=Failure.UPSTREAM_CONNECTION_FAILURE)


def with_calls(*calls: tuple[str, str]) -> bytes:
    body = json.loads(chat_json(""))
    body["choices"][0]["message"]["tool_calls"] = [
        {"function": {"name": name, "arguments": arguments}} for name, arguments in calls
    ]
    return json.dumps(body).encode()


def test_equal_answers_agree_fully() -> None:
    comparison = compare_legs(primary(first_ms=20, last_ms=80), shadow(first_ms=31.5, last_ms=99))
    assert (comparison.version, comparison.client_left) == (VERSION, False)
    assert (comparison.status_same, comparison.status_class_same) == (True, True)
    assert (
        comparison.agreement.exact,
        comparison.agreement.rouge_l,
        comparison.length_ratio,
        comparison.similarity,
    ) == (
        True,
        1.0,
        1.0,
        1.0,
    )
    assert (comparison.agreement.finish_reason, comparison.agreement.tool_calls) == (True, None)
    assert (comparison.primary.first_token_ms, comparison.primary.total_ms) == (20.0, 80.0)
    assert (comparison.shadow.first_token_ms, comparison.shadow.total_ms) == (31.5, 99.0)
    assert (comparison.primary.tokens, comparison.shadow.tokens, comparison.token_source) == (
        3,
        3,
        TokenSource.USAGE,
    )


def test_different_answers_agree_partly() -> None:
    comparison = compare_legs(
        primary(chat_json("the cat sat on the mat")), shadow(chat_json("the cat on a mat", finish="length"))
    )
    assert comparison.agreement.exact is False
    assert comparison.agreement.rouge_l == pytest.approx(2 * 4 / 11)
    assert comparison.similarity == comparison.agreement.rouge_l
    assert comparison.length_ratio == pytest.approx(16 / 22)
    assert comparison.agreement.finish_reason is False


def test_a_stream_and_a_plain_answer_are_compared_by_text() -> None:
    comparison = compare_legs(
        primary(chat_json("hi you", tokens=2)), shadow(chat_stream(["hi ", "you"]), content_type=SSE)
    )
    assert comparison.agreement.exact is True
    assert (comparison.token_source, comparison.primary.tokens, comparison.shadow.tokens) == (
        TokenSource.NONE,
        None,
        None,
    )


def test_tokens_are_estimated_if_a_stream_reports_no_usage() -> None:
    comparison = compare_legs(
        primary(chat_stream(["a", "b"], tokens=9), content_type=SSE),
        shadow(chat_stream(["a", "b", "c"]), content_type=SSE),
    )
    assert (comparison.token_source, comparison.primary.tokens, comparison.shadow.tokens) == (
        TokenSource.CHUNKS,
        2,
        3,
    )


def test_nothing_is_compared_if_the_client_disconnected() -> None:
    one = primary(chat_stream(["a"], done=False), content_type=SSE, complete=False, client_left=True)
    comparison = compare_legs(one, shadow(chat_stream(["a", "b"]), content_type=SSE))
    assert comparison.client_left
    assert (
        comparison.agreement.exact,
        comparison.agreement.rouge_l,
        comparison.similarity,
        comparison.agreement.finish_reason,
    ) == (None,) * 4


def test_a_failed_shadow_has_a_different_status() -> None:
    comparison = compare_legs(primary(), failed_shadow())
    assert (comparison.status_same, comparison.status_class_same, comparison.similarity) == (
        False,
        False,
        0.0,
    )
    assert (comparison.agreement.exact, comparison.agreement.rouge_l) == (None, None)
    assert comparison.shadow.failure == "upstream_connection_failure"
    assert not comparison.shadow.succeeded


def test_a_shadow_without_a_response() -> None:
    comparison = compare_legs(
        primary(), shadow(status=None, complete=False, failure=Failure.UPSTREAM_REQUEST_TIMEOUT)
    )
    assert (comparison.status_same, comparison.similarity) == (False, 0.0)


def test_an_incomplete_shadow_answer_differs_in_status_and_text() -> None:
    comparison = compare_legs(
        primary(chat_stream(["one", " two"]), content_type=SSE),
        shadow(
            chat_stream(["one"], done=False),
            content_type=SSE,
            complete=False,
            failure=Failure.UPSTREAM_REMOTE_RESET,
        ),
    )
    assert (comparison.status_same, comparison.status_class_same, comparison.agreement.exact) == (
        False,
        False,
        False,
    )
    assert comparison.agreement.rouge_l == pytest.approx(2 / 3)


def test_different_status_codes_of_the_same_class() -> None:
    comparison = compare_legs(primary(b"{}", status=400), shadow(b"{}", status=404))
    assert (comparison.status_same, comparison.status_class_same, comparison.agreement.exact) == (
        False,
        True,
        None,
    )


def test_two_failed_legs_agree_in_status() -> None:
    failure = {"status": 503, "failure": Failure.UPSTREAM_CONNECTION_FAILURE}
    comparison = compare_legs(primary(b"x", **failure), shadow(b"x", **failure))
    assert (comparison.status_same, comparison.agreement.exact, comparison.similarity) == (True, None, None)


def test_a_truncated_body_is_not_compared() -> None:
    comparison = compare_legs(primary(total=1 << 20), shadow())
    assert (comparison.status_same, comparison.agreement.exact, comparison.agreement.rouge_l) == (
        True,
        None,
        None,
    )


def test_an_error_in_the_shadows_stream_is_not_an_exact_match() -> None:
    cut = chat_stream(["one"], done=False) + b'data: {"error": {"message": "x"}}\n\ndata: [DONE]\n\n'
    comparison = compare_legs(
        primary(chat_stream(["one"]), content_type=SSE), shadow(cut, content_type=SSE, status=200)
    )
    assert (comparison.agreement.exact, comparison.shadow.succeeded) == (False, False)


def test_bodies_that_cannot_be_read_are_compared_by_bytes_and_measure_no_quality() -> None:
    same = compare_legs(primary(b"\0\1", content_type="image/png"), shadow(b"\0\1", content_type="image/png"))
    other = compare_legs(
        primary(b"\0\1", content_type="image/png"), shadow(b"\0\2", content_type="image/png")
    )
    assert (same.agreement.exact, same.agreement.rouge_l, same.similarity) == (True, None, None)
    assert (other.agreement.exact, other.agreement.rouge_l, other.similarity) == (False, None, None)


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ('{"a": 1, "b": [true]}', '{"b":[true],"a":1.0}', True),
        ('{"a": 1}', '{"a": true}', False),
        ('{"a": 12345678901234567}', '{"a": 12345678901234568}', False),
        ('{"a": 0.1}', '{"a": 0.10}', True),
        ('{"a": [1, 2]}', '{"a": [2, 1]}', False),
        ('{"a": 1}', '{"a": 1', False),
        ("not json", "not json", True),
        ("[" * 100_000, "[" * 100_001, False),
        ("1e9999999999999999999", "1e9999999999999999998", False),
    ],
)
def test_tool_calls_are_compared_by_value(one: str, two: str, same: bool) -> None:
    comparison = compare_legs(primary(with_calls(("f", one))), shadow(with_calls(("f", two))))
    assert (comparison.agreement.tool_calls, comparison.agreement.exact) == (same, same)


def test_different_tool_calls() -> None:
    for other in (with_calls(("g", "{}")), with_calls(("f", "{}"), ("f", "{}")), with_calls()):
        comparison = compare_legs(primary(with_calls(("f", "{}"))), shadow(other))
        assert (comparison.agreement.tool_calls, comparison.agreement.exact, comparison.similarity) == (
            False,
            False,
            0.0,
        )


def test_negative_durations_are_unknown() -> None:
    comparison = compare_legs(primary(first_ms=-5, last_ms=-1), shadow())
    assert (comparison.primary.first_token_ms, comparison.primary.total_ms) == (None, None)


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("", "", None),
        ("...", "?!", None),
        ("a", "", 0.0),
        ("Hello, World!", "hello world", 1.0),
        ("a b c d", "d c b a", 0.25),
        ("東京は晴れ", "東京は雨", 2 * 3 / 9),
        ("word 東京", "word 東 京", 1.0),
    ],
)
def test_rouge_l(one: str, two: str, expected: float | None) -> None:
    assert rouge_l(one, two) == (None if expected is None else pytest.approx(expected))


words = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


@given(words, words)
def test_rouge_l_is_symmetric_and_within_bounds(one: str, two: str) -> None:
    score = rouge_l(one, two)
    assert score == rouge_l(two, one)
    assert score is None or 0.0 <= score <= 1.0
    assert rouge_l(one, one) in (None, 1.0)


def test_rouge_l_compares_at_most_4000_words() -> None:
    assert rouge_l("a " * 4000 + "b " * 90_000, "a " * 4000) == 1.0


@given(
    st.binary(max_size=80), st.binary(max_size=80), st.sampled_from(["application/json", SSE, "text/plain"])
)
def test_compare_never_raises(one: bytes, two: bytes, content_type: str) -> None:
    bodies = [Body(data=data, total=len(data), content_type=content_type) for data in (one, two)]
    pair = Pair(
        primary=dataclasses.replace(primary(), response=bodies[0]),
        shadow=dataclasses.replace(shadow(), response=bodies[1]),
    )
    assert isinstance(compare(pair), Comparison)


@given(st.lists(st.floats(0.001, 8e7), min_size=1, max_size=60), st.floats(0.0, 1.0))
def test_quantiles_are_within_one_percent(values: list[float], q: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.0101)
    assert Histogram.from_json(json.loads(json.dumps(histogram.to_json()))) == histogram


def test_a_histogram_accepts_any_value_and_stays_small() -> None:
    histogram = Histogram()
    for value in (0.0, -1.0, 1e300, math.inf, *(1.001**i for i in range(20_000))):
        histogram.add(value)
    assert histogram.count == 20_004
    assert len(histogram.buckets) < 1300
    assert Histogram().quantile(0.5) is None


def sample_pairs() -> list[Pair]:
    left = primary(client_left=True, complete=False)
    return [
        Pair(primary=primary(), shadow=shadow()),
        Pair(primary=primary(), shadow=shadow(chat_json("bye"))),
        Pair(primary=primary(), shadow=failed_shadow()),
        Pair(primary=left, shadow=shadow()),
        Pair(
            primary=primary(chat_stream(["a"]), content_type=SSE),
            shadow=shadow(chat_stream(["a", " b"]), content_type=SSE),
        ),
    ]


def test_totals_over_pairs() -> None:
    totals = PairTotals()
    for pair in sample_pairs():
        totals.add(compare(pair))
    assert (totals.pairs, totals.client_left) == (5, 1)
    assert (totals.status.same, totals.status.of) == (3, 4)
    assert (totals.agreement["exact"].total, totals.agreement["exact"].n) == (1, 3)
    assert totals.agreement["rouge_l"].n == 3
    assert totals.agreement["rouge_l"].total == pytest.approx(1 + 0 + 2 / 3)
    assert totals.traits["failed"] == [0, 1, 4]
    assert totals.outcomes.by_measure["failed"] == ComparisonOutcomes(less=1, same=3)
    assert totals.outcomes.by_measure["length"] == ComparisonOutcomes(less=1, more=1, same=1)
    assert (totals.tokens_of, totals.tokens_estimated) == (3, 1)
    assert (totals.primary.tokens, totals.shadow.tokens) == (3 + 3 + 1, 3 + 3 + 2)
    assert (totals.primary.failed, totals.shadow.failed) == (0, 1)
    assert (totals.primary.total.count, totals.shadow.total.count) == (4, 3)


def test_totals_can_be_serialized_and_merged() -> None:
    totals, double = PairTotals(), PairTotals()
    for pair in sample_pairs():
        totals.add(compare(pair))
        double.add(compare(pair))
        double.add(compare(pair))
    again = PairTotals.from_json(json.loads(json.dumps(totals.to_json())))
    assert again == totals
    again.merge(totals)
    assert rounded(again.to_json()) == rounded(double.to_json())


def rounded(value: Any) -> Any:
    """Round floats; sums depend on their order in the last digit."""
    return json.loads(json.dumps(value), parse_float=lambda text: round(float(text), 9))


def test_a_fork_does_not_change_the_published_totals() -> None:
    totals = CollectorTotals()
    first = totals.fork()
    first.add_counts(LegCounts(legs=_counter((CHAT, Role.PRIMARY), 1)))
    second = first.fork()
    for pair in sample_pairs():
        second.add_pair(pair, compare(pair))
    second.add_drops({"queue_full": 2})
    assert not totals.routes
    assert (first.routes[CHAT].pairs, first.pairs, first.drops) == (0, {}, {})
    assert second.routes[CHAT].pairs == 5
    assert second.routes[CHAT].legs == {Role.PRIMARY: 1}
    assert second.drops == {"queue_full": 2}


def test_legs_lost_in_a_crash_are_counted_as_unpaired() -> None:
    totals = CollectorTotals(routes={CHAT: RouteTotals(pairs=1, paired=2)})
    totals.add_counts(LegCounts(legs=_counter((CHAT, Role.PRIMARY), 5)))
    assert totals.count_lost_legs() == 3
    assert totals.routes[CHAT].unpaired == {UnpairedReason.RESTART: 3}
    assert totals.count_lost_legs() == 0


def test_the_number_of_variants_is_limited() -> None:
    totals = CollectorTotals()
    for n in range(100):
        strange = dataclasses.replace(shadow(), variant=Variant(f"v{n}"))
        pair = Pair(primary=primary(), shadow=strange)
        totals.add_pair(pair, compare(pair))
    assert len(totals.pairs) == 65
    assert sum(totals.pairs for totals in totals.pairs.values()) == 100


def _counter(key: Any, n: int) -> Any:
    counts = LegCounts()
    counts.legs[key] = n
    return counts.legs
