"""Agreement of answers that are not generated text, and of answers that could not be read."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import math
import random
import struct
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.compare import ANSWER_MEASURES, Agreement, Comparison, LegCounts, compare, outcomes_of
from mirror_collector.compare.numeric import (
    document_agreement,
    rank_agreement,
    ranks_of_scores,
    score_agreement,
    vector_agreement,
)
from mirror_collector.compare.similarity import word_error_rate
from mirror_collector.exchange import Api, Leg, Pair, ReplyKind, Role, UnreadReason, read_reply
from mirror_collector.serve.views import pair_view
from mirror_collector.store import StoreLimits, StoreReader, StoreWriter
from mirror_collector.store.codec import stored_messages
from mirror_collector.store.privacy import MessageStorage, RoutePrivacyPolicy
from tests.collector.builders import chat_json, chat_stream, leg

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EMBEDDINGS = "/v1/embeddings"
RERANK = "/v1/rerank"
SCORE = "/score"
TRANSCRIPTIONS = "/v1/audio/transcriptions"
MODERATIONS = "/v1/moderations"
CHAT = "/v1/chat/completions"
HTML = b"<!doctype html>"


def make_leg(role: Role, path: str, value: Any, **fields: Any) -> Leg:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    encoding = fields.pop("encoding", "")
    one = leg(role, body=body, **fields)
    response = dataclasses.replace(one.response, content_encoding=encoding)
    return dataclasses.replace(one, path=path, response=response)


def make_pair(path: str, primary: Any, shadow: Any, noise: Any = None) -> Pair:
    return Pair(
        primary=make_leg(Role.PRIMARY, path, primary),
        shadow=make_leg(Role.SHADOW, path, shadow),
        noise=None if noise is None else make_leg(Role.NOISE, path, noise),
    )


def compare_answers(path: str, primary: Any, shadow: Any, noise: Any = None) -> Comparison:
    return compare(make_pair(path, primary, shadow, noise))


def measures(agreement: Agreement | None) -> dict[str, Any]:
    """The measures that apply, except those of text."""
    assert agreement is not None
    named = {name: getattr(agreement, name) for name in ("exact", *ANSWER_MEASURES)}
    return {name: value for name, value in named.items() if value is not None}


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def embedding_list(*embeddings: Any) -> dict[str, Any]:
    return {"data": [{"index": index, "embedding": one} for index, one in enumerate(embeddings)]}


def ranking(*indexes: int) -> dict[str, Any]:
    return {"results": [{"index": one, "relevance_score": 1 - n / 100} for n, one in enumerate(indexes)]}


def score_list(*scores: float) -> dict[str, Any]:
    return {"data": [{"index": index, "score": score} for index, score in enumerate(scores)]}


def moderation(flagged: bool, **scores: float) -> dict[str, Any]:
    categories = {name: score > 0.5 for name, score in scores.items()}
    result = {"flagged": flagged, "categories": categories, "category_scores": scores}
    return {"id": f"modr-{random.random()}", "model": "m", "results": [result]}


def test_vectors() -> None:
    one = [0.6, 0.8]
    encoded = b64encode(floats(*one)).decode()
    for same in (embedding_list(one), embedding_list(encoded)):
        assert measures(compare_answers(EMBEDDINGS, embedding_list(one), same).agreement) == {
            "exact": True,
            "vector": 1.0,
        }
    turned = compare_answers(EMBEDDINGS, embedding_list(one), embedding_list([1.0, 0.0]))
    assert measures(turned.agreement) == {"exact": False, "vector": 0.6}
    assert turned.similarity == 0.6
    assert turned.shadow.traits.empty is None, "a vector is neither empty nor refused"
    assert (turned.shadow.traits.refused, turned.shadow.tokens_used) == (None, None)


def test_a_vector_that_is_broken_has_nothing_in_common() -> None:
    one = floats(0.6, 0.8)
    for broken in (
        floats(0.6),
        floats(0.0, 0.0),
        floats(math.nan, 1.0),
        floats(math.inf, 1.0),
        floats(-0.6, -0.8),
    ):
        assert vector_agreement([one], [broken]) == 0.0
    assert vector_agreement([one], []) == 0.0
    assert vector_agreement([one, one], [one]) == 0.0


def test_one_broken_input_of_a_batch_is_a_broken_answer() -> None:
    batch = [floats(1.0, float(index)) for index in range(50)]
    assert vector_agreement(batch, [*batch[:-1], floats(-49.0, 1.0)]) == 0.0


def test_the_last_bits_of_a_vector_are_no_difference() -> None:
    rng = random.Random(1)
    one = [rng.gauss(0, 1) for _ in range(768)]
    jitter = [value + rng.gauss(0, 1e-4) for value in one]
    assert vector_agreement([floats(*one)], [floats(*jitter)]) == 1.0
    pruned = [value if abs(value) > 0.5 else 0.0 for value in one]
    assert vector_agreement([floats(*one)], [floats(*pruned)]) < 0.99


vectors = st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3).map(lambda values: floats(*values))


@given(st.lists(vectors, max_size=4), st.lists(vectors, max_size=4))
def test_the_agreement_of_vectors_is_symmetric(one: list[bytes], other: list[bytes]) -> None:
    agreement = vector_agreement(one, other)
    assert 0.0 <= agreement <= 1.0
    assert vector_agreement(other, one) == pytest.approx(agreement, abs=0.0011)
    assert vector_agreement(one, one) == 1.0


def test_rankings() -> None:
    same = compare_answers(RERANK, ranking(2, 0, 1), ranking(2, 0, 1))
    assert measures(same.agreement) == {"exact": True, "ranking": 1.0, "top_result": True}
    swapped = compare_answers(RERANK, ranking(2, 0, 1), ranking(0, 2, 1))
    assert measures(swapped.agreement) == {"exact": False, "ranking": 0.75, "top_result": False}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 2, 3], [1, 2, 3], 1.0),
        ([1, 2, 3], [3, 2, 1], 0.0),
        ([1], [1], None),
        ([], [], None),
        ([], [1, 2], 0.0),
        ([1], [2], 0.0),
        ([1, 2, 3, 4], [1, 2], 0.974),
    ],
)
def test_rank_agreement(one: list[int], other: list[int], expected: float | None) -> None:
    assert rank_agreement(one, other) == expected


@given(st.permutations(range(6)), st.permutations(range(6)), st.integers(0, 6), st.integers(0, 6))
def test_rank_agreement_is_symmetric(one: list[int], other: list[int], first: int, second: int) -> None:
    agreement = rank_agreement(one[:first], other[:second])
    assert agreement == rank_agreement(other[:second], one[:first])
    assert agreement is None or 0.0 <= agreement <= 1.0
    if first > 1:
        assert rank_agreement(one[:first], one[:first]) == 1.0


def test_rank_agreement_is_spearmans_correlation() -> None:
    for order in itertools.permutations(range(5)):
        squares = sum((place - document) ** 2 for place, document in enumerate(order))
        rho = 1 - 6 * squares / (5 * 24)
        assert rank_agreement(list(range(5)), list(order)) == pytest.approx((rho + 1) / 2, abs=0.001)


def test_scores() -> None:
    one = score_list(0.9, 0.1, 0.5)
    assert measures(compare_answers(SCORE, one, one).agreement) == {
        "exact": True,
        "scores": 1.0,
        "ranking": 1.0,
        "top_result": True,
    }
    assert measures(compare_answers(SCORE, one, score_list(0.1, 0.9, 0.5)).agreement) == {
        "exact": False,
        "scores": pytest.approx(1 - 1.6 / 3, abs=0.001),
        "ranking": 0.0,
        "top_result": False,
    }
    single = compare_answers(SCORE, score_list(0.9), score_list(0.8))
    assert measures(single.agreement) == {"exact": False, "scores": 0.9}
    fewer = compare_answers(SCORE, one, score_list(0.9, 0.1))
    assert measures(fewer.agreement) == {"exact": False, "scores": 0.0}


def test_equal_scores_share_their_places() -> None:
    assert ranks_of_scores([0.5, 0.9, 0.5, 0.1]) == [1.5, 0.0, 1.5, 3.0]
    assert score_agreement([0.5, 0.5], [0.5, 0.5]) == (1.0, 1.0)
    assert score_agreement([0.5, 0.6], [0.5, 0.5]) == (0.95, 0.5)
    assert score_agreement([1e308], [-1e308]) == (0.0, None)


@pytest.mark.parametrize(
    ("reference", "text", "expected"),
    [
        ("the cat sat", "The cat, sat!", 0.0),
        ("the cat sat", "the cat", 1 / 3),
        ("the cat sat", "the big cat sat", 1 / 3),
        ("the cat sat", "a dog stood", 1.0),
        ("cat", "a b c d e f", 1.0),
        ("", "", 0.0),
        ("...", "", 0.0),
        ("", "thanks for watching", 1.0),
        ("the cat", "", 1.0),
        ("東京は晴れ", "東京は雨", 2 / 5),
    ],
)
def test_the_word_error_rate(reference: str, text: str, expected: float) -> None:
    assert word_error_rate(reference, text) == pytest.approx(expected)


def test_transcripts() -> None:
    comparison = compare_answers(
        TRANSCRIPTIONS, {"text": "one two three four"}, {"text": "one two tree four"}
    )
    assert measures(comparison.agreement) == {"exact": False, "transcript": 0.75}
    silence = compare_answers(TRANSCRIPTIONS, {"text": ""}, {"text": ""})
    assert measures(silence.agreement) == {"exact": True, "transcript": 1.0}
    assert (silence.shadow.traits.empty, silence.shadow.traits.refused) == (True, None)
    invented = compare_answers(TRANSCRIPTIONS, {"text": ""}, {"text": "Thank you."})
    assert measures(invented.agreement) == {"exact": False, "transcript": 0.0}


def test_documents() -> None:
    one = moderation(flagged=False, hate=0.1, violence=0.3)
    assert measures(
        compare_answers(MODERATIONS, one, moderation(False, hate=0.1, violence=0.3)).agreement
    ) == {
        "exact": True,
        "document": 1.0,
    }
    other = compare_answers(MODERATIONS, one, moderation(True, hate=0.9, violence=0.3))
    assert measures(other.agreement) == {
        "exact": False,
        # Of five fields, flagged and hate differ, and the score of hate is off by 0.8.
        "document": pytest.approx((5 - 1 - 1 - 0.8) / 5),
    }


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, 1.0),
        ({"a": 1}, {"a": True}, 0.0),
        ({"a": 1}, {"b": 1}, 0.0),
        ({"a": [1, 2]}, {"a": [1, 2, 3]}, 0.667),
        ({"a": 100}, {"a": 50}, 0.5),
        ({"a": {}}, {"a": []}, 0.0),
        ({"a": None}, {"a": None}, 1.0),
        ([], {}, 0.0),
    ],
)
def test_document_agreement(one: Any, other: Any, expected: float) -> None:
    assert document_agreement(json.dumps(one), json.dumps(other)) == expected


NOTHING: dict[str, tuple[Any, dict[str, Any]]] = {
    EMBEDDINGS: (embedding_list([1.0, 2.0]), {"vector": 0.0}),
    RERANK: (ranking(1, 0), {"ranking": 0.0, "top_result": 0.0}),
    SCORE: (score_list(0.5), {"scores": 0.0}),
    TRANSCRIPTIONS: ({"text": "hi"}, {"transcript": 0.0}),
    MODERATIONS: (moderation(flagged=False), {"document": 0.0}),
    CHAT: (chat_json("hi"), {}),
}


@pytest.mark.parametrize("path", NOTHING)
def test_an_answer_that_its_client_cannot_read_has_nothing_in_common(path: str) -> None:
    answer, nothing = NOTHING[path]
    for rubbish in (HTML, {"detail": "ok"}, b"{", {"error": {"message": "boom"}}):
        agreement = compare_answers(path, answer, rubbish).agreement
        assert measures(agreement) == {"exact": False, **nothing}
        text = 0.0 if path == CHAT else None
        assert (agreement.rouge_l, agreement.edit) == (text, text)


@pytest.mark.parametrize("path", NOTHING)
def test_an_answer_that_only_the_collector_cannot_read_is_no_evidence(path: str) -> None:
    answer, _ = NOTHING[path]
    primary = make_leg(Role.PRIMARY, path, answer)
    limit = make_leg(Role.SHADOW, path, answer, total=1 << 20)
    encoding = make_leg(Role.SHADOW, path, answer, encoding="compress")
    bomb = make_leg(Role.SHADOW, path, gzip.compress(bytes(16 << 20)), encoding="gzip")
    for shadow in (limit, encoding, bomb):
        comparison = compare(Pair(primary=primary, shadow=shadow))
        assert comparison.agreement == Agreement()
        assert comparison.similarity is None


@pytest.mark.parametrize("path", [EMBEDDINGS, CHAT])
def test_a_compressed_answer_is_compared(path: str) -> None:
    answer, _ = NOTHING[path]
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    shadow = make_leg(Role.SHADOW, path, gzip.compress(body), encoding="gzip")
    comparison = compare(Pair(primary=make_leg(Role.PRIMARY, path, answer), shadow=shadow))
    assert comparison.agreement.exact is True
    assert comparison.shadow.traits.invalid_json is None


def test_an_answer_that_did_not_end_is_a_difference() -> None:
    cut = leg(Role.SHADOW, body=chat_json("hi")[:-5], complete=False)
    agreement = compare(Pair(primary=leg(Role.PRIMARY, body=chat_json("hi")), shadow=cut)).agreement
    assert (agreement.exact, agreement.rouge_l, agreement.finish_reason) == (False, 0.0, None)


def test_an_encoded_stream_that_ends_too_early_has_nothing_in_common() -> None:
    packed = gzip.compress(b" " * 100 + chat_stream([f"word {n} " for n in range(50)]))
    event_stream = "text/event-stream"
    primary = leg(Role.PRIMARY, body=chat_stream(["word 0 "]), content_type=event_stream)
    cut = make_leg(Role.SHADOW, CHAT, packed[:-5], content_type=event_stream, encoding="gzip")
    comparison = compare(Pair(primary=primary, shadow=cut))
    assert comparison.shadow.characters > 0
    assert (comparison.agreement.exact, comparison.agreement.rouge_l) == (False, 0.0)


def test_beside_an_answer_that_was_read_anything_else_has_nothing_in_common() -> None:
    """The shape of the primary's answer decides, if the path does not."""
    primary = make_leg(Role.PRIMARY, "/proxy", chat_json("hi"))
    page = make_leg(Role.SHADOW, "/proxy", HTML, content_type="text/html")
    audio = make_leg(Role.SHADOW, "/proxy", b"ID3", content_type="audio/mpeg")
    vectors = make_leg(Role.SHADOW, "/proxy", embedding_list([1.0]))
    for shadow in (page, audio, vectors):
        agreement = compare(Pair(primary=primary, shadow=shadow)).agreement
        assert (agreement.exact, agreement.rouge_l, agreement.vector) == (False, 0.0, None)


def test_the_bytes_of_an_unknown_api_are_compared_for_display_only() -> None:
    same = compare_answers("/v1/tokenize", {"tokens": [1]}, {"tokens": [1]})
    other = compare_answers("/v1/tokenize", {"tokens": [1]}, {"tokens": [2]})
    assert (same.agreement, other.agreement) == (Agreement(exact=True), Agreement(exact=False))


def test_a_stream_without_its_end_mark_counts_as_failed() -> None:
    def streamed(role: Role, *, done: bool) -> Leg:
        return leg(role, body=chat_stream(["one"], done=done), content_type="text/event-stream")

    comparison = compare(
        Pair(primary=streamed(Role.PRIMARY, done=True), shadow=streamed(Role.SHADOW, done=False))
    )
    assert (comparison.shadow.traits.failed, comparison.shadow.succeeded) == (True, False)
    assert comparison.agreement.exact is False


@pytest.mark.parametrize("path", [EMBEDDINGS, RERANK, SCORE, TRANSCRIPTIONS, MODERATIONS])
def test_the_noise_baseline_decides_which_differences_count(path: str) -> None:
    """Like the second answer: same. Unlike it, where the stable model repeats itself: less."""
    variants: dict[str, tuple[Any, Any]] = {
        EMBEDDINGS: (embedding_list([1.0, 2.0]), embedding_list([2.0, 1.0])),
        RERANK: (ranking(0, 1, 2), ranking(2, 1, 0)),
        SCORE: (score_list(0.5), score_list(0.1)),
        TRANSCRIPTIONS: ({"text": "one two"}, {"text": "one too"}),
        MODERATIONS: (moderation(False, hate=0.1), moderation(False, hate=0.4)),
    }
    one, other = variants[path]
    agreed = set(measures(compare_answers(path, one, other).agreement))
    equal = outcomes_of(compare_answers(path, one, other, other))
    assert {equal[name] for name in agreed} == {0}
    worse = outcomes_of(compare_answers(path, one, other, one))
    assert {worse[name] for name in agreed} == {-1}
    better = outcomes_of(compare_answers(path, one, one, other))
    assert {better[name] for name in agreed} == {1}
    absent = set(ANSWER_MEASURES) - agreed
    assert not absent & set(worse), "a measure of another API has no outcome"


def test_equal_models_that_vary_differ_in_neither_direction() -> None:
    """Answers of one model are interchangeable, whatever their spread."""
    rng = random.Random(7)

    def answer() -> Any:
        return embedding_list([1.0 + rng.gauss(0, 0.3) for _ in range(16)])

    counts = {-1: 0, 0: 0, 1: 0}
    for _ in range(400):
        counts[outcomes_of(compare_answers(EMBEDDINGS, answer(), answer(), answer()))["vector"]] += 1
    assert counts[-1] + counts[1] > 300
    assert abs(counts[-1] - counts[1]) < 80, "four standard deviations"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[StoreWriter, StoreReader]]:
    path = tmp_path / "pairs.sqlite"
    writer = StoreWriter(path, StoreLimits())
    reader = StoreReader(path)
    yield writer, reader
    reader.close()
    writer.close()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(b'{"choices": [' + b" " * (16 << 20)), UnreadReason.TOO_LARGE),
        (gzip.compress(chat_json("hi"))[:-4], UnreadReason.CORRUPT),
    ],
)
def test_the_reason_survives_the_store(
    store: tuple[StoreWriter, StoreReader], body: bytes, reason: UnreadReason
) -> None:
    """The store keeps the decoded, redacted beginning, which alone is JSON of no known shape."""
    writer, reader = store
    pair = Pair(
        primary=make_leg(Role.PRIMARY, CHAT, chat_json("hi")),
        shadow=make_leg(Role.SHADOW, CHAT, body, encoding="gzip"),
    )
    _, (stored,) = writer.write([pair], LegCounts(), 1_700_000_000.0)
    assert stored.replies.shadow.unread is reason
    loaded = reader.pair(stored.pair_id)
    assert loaded is not None
    assert loaded.legs["shadow"].reply is not None
    assert loaded.legs["shadow"].reply.unread is reason


def test_hashes_of_vectors_differ(tmp_path: Path) -> None:
    policy = RoutePrivacyPolicy(storage=MessageStorage.HASHES)
    found = []
    for value in (1.0, 2.0):
        one = make_leg(Role.PRIMARY, EMBEDDINGS, embedding_list([value]))
        reply = read_reply(one.response, Api.EMBEDDINGS)
        form, *_ = stored_messages(one, reply, policy, hash_message=bytes.hex)
        found.append(form["hashes"]["response"])
    assert found[0] != found[1]


@pytest.mark.parametrize("path", NOTHING)
def test_stored_answers_are_read_as_they_were(store: tuple[StoreWriter, StoreReader], path: str) -> None:
    writer, reader = store
    answer, _ = NOTHING[path]
    _, (stored,) = writer.write([make_pair(path, answer, answer, HTML)], LegCounts(), 1_700_000_000.0)
    loaded = reader.pair(stored.pair_id)
    assert loaded is not None
    replies = {role: one.reply for role, one in loaded.legs.items()}
    assert replies["primary"] == stored.replies.primary
    assert replies["shadow"] == stored.replies.shadow
    assert replies["noise"] is not None
    assert (replies["noise"].kind, replies["noise"].unread) == (ReplyKind.OPAQUE, UnreadReason.UNKNOWN_FORMAT)
    assert pair_view(loaded)["noise"]["reply"]["unread"] == "unknown_format"
    assert "unread" not in pair_view(loaded)["primary"]["reply"]
