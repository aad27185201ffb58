"""Comparison outcomes, traits and evidence blocks."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.compare import (
    ComparisonOutcomes,
    EvidenceBlock,
    PairTotals,
    block_start,
    compare,
    detect_language,
    outcomes_of,
)
from mirror_collector.compare.traits import Traits, detect_traits, requests_json
from mirror_collector.exchange import Body, Failure, Leg, Pair, Role, read_reply
from tests.collector.builders import chat_json, chat_stream, leg

P, S, N = Role.PRIMARY, Role.SHADOW, Role.NOISE


def make_pair(primary: str, shadow: str, noise: str, **shadow_fields: Any) -> Pair:
    return Pair(
        primary=leg(P, body=chat_json(primary)),
        shadow=leg(S, body=chat_json(shadow), **shadow_fields),
        noise=leg(N, body=chat_json(noise)),
    )


def nonzero_outcomes(pair: Pair) -> dict[str, int]:
    return {name: sign for name, sign in outcomes_of(compare(pair)).items() if sign}


def test_the_answer_closer_to_the_primary_determines_the_outcome() -> None:
    assert nonzero_outcomes(make_pair("a b c d", "a b x y", "a b c x")) == {"rouge_l": -1, "edit": -1}
    assert nonzero_outcomes(make_pair("a b c d", "a b c x", "a b x y")) == {"rouge_l": 1, "edit": 1}
    assert nonzero_outcomes(make_pair("a b c d", "a b c d", "a b c x")) == {
        "exact": 1,
        "rouge_l": 1,
        "edit": 1,
    }
    assert nonzero_outcomes(make_pair("a b c d", "a b c x", "a b y d")) == {}


words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=8).map(" ".join)


@given(words, words, words)
def test_swapping_shadow_and_noise_leg_inverts_the_outcomes(primary: str, shadow: str, noise: str) -> None:
    one, other = (
        outcomes_of(compare(make_pair(primary, shadow, noise))),
        outcomes_of(compare(make_pair(primary, noise, shadow))),
    )
    for name in ("exact", "rouge_l", "edit", "finish_reason", "tool_calls", "language"):
        assert one.get(name, 0) == -other.get(name, 0)
    assert one.keys() == other.keys()


def test_without_a_noise_leg_there_are_no_text_outcomes() -> None:
    pair = Pair(primary=leg(P, body=chat_json("a b c")), shadow=leg(S, body=chat_json("x y")))
    assert outcomes_of(compare(pair)) == {
        **dict.fromkeys(("failed", "unreadable", "empty", "refused", "cut"), 0),
        "length": -1,
    }


def test_traits_that_only_one_leg_has() -> None:
    sorry = "I'm sorry, but I can't help with that."
    assert nonzero_outcomes(make_pair("here you are", sorry, "here it is")) == {
        "rouge_l": -1,
        "edit": -1,
        "refused": -1,
        "length": 1,
    }
    empty = Pair(primary=leg(P, body=chat_json("so")), shadow=leg(S, body=chat_json(" ")))
    assert nonzero_outcomes(empty) == {"empty": -1, "length": -1}
    cut = Pair(primary=leg(P, body=chat_json("so")), shadow=leg(S, body=chat_json("so", finish="length")))
    assert nonzero_outcomes(cut) == {"cut": -1}


def test_a_failed_candidate_has_only_the_outcome_failed() -> None:
    dead = make_pair("a", "b", "a", status=503, failure=Failure.UPSTREAM_CONNECTION_FAILURE)
    assert nonzero_outcomes(dead) == {"failed": -1}


def test_limited_pairs_have_no_outcomes() -> None:
    comparison = compare(make_pair("a", "b", "a", status=503, failure=Failure.UPSTREAM_OVERFLOW))
    assert comparison.limited
    assert outcomes_of(comparison) == {}
    totals = PairTotals()
    totals.add(comparison)
    assert (totals.limited, totals.status.of) == (1, 0)


def test_a_retried_primary_counts_as_failed() -> None:
    # Copies are never retried, so a retried primary would look better than a copy by the same model.
    retried = Pair(primary=replace(leg(P), attempts=2), shadow=leg(S))
    assert nonzero_outcomes(retried) == {"failed": 1}


@pytest.mark.parametrize(
    ("request_body", "wanted"),
    [
        (b'{"response_format": {"type": "json_object"}}', True),
        (b'{"response_format": {"type": "json_schema", "json_schema": {}}}', True),
        (b'{"text": {"format": {"type": "json_schema"}}}', True),
        (b'{"guided_json": {"type": "object"}}', True),
        (b'{"response_format": {"type": "text"}}', False),
        (b'{"messages": [{"content": "what is response_format?"}]}', False),
        (b'{"response_format": ', False),
        (b"", False),
    ],
)
def test_requests_that_require_json(request_body: bytes, wanted: bool) -> None:
    assert requests_json(Body(data=request_body)) is wanted


def traits_of_text(text: str, **more: Any) -> Traits:
    return traits_of_leg(leg(S, body=chat_json(text)), **more)


def traits_of_leg(one: Leg, *, wants_json: bool = False) -> Traits:
    return detect_traits(one, read_reply(one.response), wants_json=wants_json)


def test_invalid_json_counts_only_if_json_is_required() -> None:
    assert traits_of_text('{"a": 1}', wants_json=True).invalid_json is False
    assert traits_of_text('{"a": 1', wants_json=True).invalid_json is True
    assert traits_of_text('{"a": 1').invalid_json is None
    assert traits_of_text("9" * 5000, wants_json=True).invalid_json in (True, False)
    assert traits_of_text("[" * 100_000, wants_json=True).invalid_json is True


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can\u2019t assist with that request.", True),
        ("I cannot provide instructions for this.", True),
        ("As an AI language model, I cannot have opinions.", True),
        ("Es tut mir leid, aber dabei kann ich nicht helfen.", True),
        ("Je suis désolé, mais je ne peux pas répondre.", True),
        ("I can help you with that!", False),
        ("You said: I am here. I can not only sing but dance.", False),
        ("The word 'sorry' has five letters.", False),
        ("x" * 400 + " I'm sorry, but I can't help", False),
    ],
)
def test_refusals_are_detected_by_their_beginning(text: str, refused: bool) -> None:
    assert traits_of_text(text).refused is refused


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The cat is on the mat and it is not for you", "en"),
        ("Der Hund ist nicht auf dem Tisch und das ist gut", "de"),
        ("Le chat est sur la table et il ne veut pas de lait", "fr"),
        ("Привет, как дела сегодня?", "cyrillic"),
        ("東京はいい天気です", "ja"),
        ("今天天气很好", "han"),
        ("ok", None),
        ("42 + 1", None),
        ("", None),
    ],
)
def test_languages_are_detected(text: str, name: str | None) -> None:
    assert detect_language(text) == name


def test_a_block_counts_each_session_once() -> None:
    block = EvidenceBlock()
    comparison = compare(make_pair("a b c d", "a x y z", "a b c x"))
    block.add(comparison, first_of_unit=True, first_baseline_of_unit=True)
    block.add(comparison, first_of_unit=False, first_baseline_of_unit=False)
    assert (block.pairs, block.counted, block.trios, block.repeated) == (2, 1, 1, 1)
    assert block.outcomes.by_measure["rouge_l"] == ComparisonOutcomes(less=1)
    assert block.outcomes.by_measure["failed"] == ComparisonOutcomes(same=1)
    assert block.tokens == {"primary": 6, "shadow": 6, "noise": 6}
    late = compare(Pair(primary=leg(P), shadow=leg(S)))
    block.add(late, first_of_unit=True, first_baseline_of_unit=True)
    assert (block.counted, block.trios) == (2, 1)
    assert EvidenceBlock.from_json(json.loads(json.dumps(block.to_json()))) == block


def test_streams_have_an_inter_token_time() -> None:
    comparison = compare(
        Pair(
            primary=leg(P, body=chat_stream(["a", "b", "c"]), content_type="text/event-stream"),
            shadow=leg(S),
        )
    )
    assert comparison.primary.inter_token_ms == pytest.approx(30.0)
    assert comparison.shadow.inter_token_ms is None


def test_blocks_start_at_multiples_of_ten_seconds() -> None:
    assert (block_start(1_700_000_009.9), block_start(1_700_000_010.0)) == (1_700_000_000, 1_700_000_010)
