"""What could not be read is no evidence of equality: counted by API, leg and reason, at every stage."""

from __future__ import annotations

import dataclasses
import gzip
import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.compare import (
    Comparison,
    ComparisonOutcomes,
    Coverage,
    EvidenceBlock,
    LegCounts,
    PairTotals,
    compare,
    outcomes_of,
)
from mirror_collector.compare.tools import offered_tools
from mirror_collector.exchange import Body, Failure, Leg, Pair, Role, UnreadReason
from mirror_collector.store import StoreLimits, StoreReader, StoreWriter
from mirror_collector.store.codec import FLAGS, flags_of
from tests.collector.builders import chat_json, chat_stream, leg
from tests.collector.test_evidence_stream import watch_until_current
from tests.collector.test_pages import get_page
from xds_server.sources import EvidenceBlocks

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from tests.collector.running import Collector

    Start = Callable[..., AbstractAsyncContextManager[Collector]]

SSE = "text/event-stream"
HTML = b"<!doctype html><h1>Bad gateway</h1>"


def answer(data: bytes, **fields: Any) -> Body:
    """Return a response body."""
    return Body(**{"data": data, "total": len(data), "content_type": "application/json", **fields})


READ = answer(chat_json("a b c"))
FAULTS = {
    "html": answer(HTML, content_type="text/html"),
    "unknown shape": answer(b'{"result": "a b c"}'),
    "invalid json": answer(b'{"choices": ['),
    "corrupt gzip": answer(b"no gzip", content_encoding="gzip"),
    "not encoded": answer(chat_json("a b c"), content_encoding="gzip"),
    "empty": answer(b""),
    "audio": answer(b"\0\1", content_type="audio/mpeg"),
}
"""Bodies that a client of the chat API cannot read."""
BLIND = {
    "unknown encoding": answer(b"\x01\x02", content_encoding="snappy"),
    "truncated": answer(chat_json("a b c"), total=1 << 20),
}
"""Bodies that a client can read and the collector cannot."""


def pair_of(primary: Body, shadow: Body, noise: Body | None = None, *, path: str = "") -> Pair:
    def one(role: Role, body: Body) -> Leg:
        made = dataclasses.replace(leg(role), response=body)
        return dataclasses.replace(made, path=path) if path else made

    return Pair(
        primary=one(Role.PRIMARY, primary),
        shadow=one(Role.SHADOW, shadow),
        noise=None if noise is None else one(Role.NOISE, noise),
    )


def compared(*bodies: Body, path: str = "") -> Comparison:
    return compare(pair_of(*bodies, path=path))


@pytest.mark.parametrize("name", FAULTS)
def test_a_body_at_fault_beside_an_answer_is_a_difference_of_its_own(name: str) -> None:
    for noise in (READ, FAULTS[name]):
        assert outcomes_of(compared(READ, FAULTS[name], noise)) == {"unreadable": -1}
        assert outcomes_of(compared(FAULTS[name], READ, noise)) == {"unreadable": 1}
        assert outcomes_of(compared(FAULTS[name], FAULTS[name], noise)) == {}
    found = compared(READ, FAULTS[name])
    assert (found.is_unread, found.read, found.similarity) == (True, False, 0.0)
    assert [role for role, _ in found.unread] == [Role.SHADOW]


@pytest.mark.parametrize("name", BLIND)
def test_what_only_the_collector_cannot_read_is_no_evidence_in_either_direction(name: str) -> None:
    bodies = (READ, BLIND[name])
    for primary in bodies:
        for shadow in bodies:
            found = compared(primary, shadow, READ)
            unread = primary is not READ or shadow is not READ
            assert (outcomes_of(found) == {}) is unread
            assert (found.similarity is None) is unread
    assert outcomes_of(compared(BLIND[name], FAULTS["html"])) == {}


bodies = st.sampled_from([READ, *FAULTS.values(), *BLIND.values(), answer(chat_json(""))])


@given(bodies, bodies)
def test_swapping_primary_and_shadow_inverts_every_outcome(one: Body, other: Body) -> None:
    """Two equal models have each outcome as often as its opposite, so no fault may count on one side only."""
    outcomes, swapped = outcomes_of(compared(one, other)), outcomes_of(compared(other, one))
    assert {name: -value for name, value in swapped.items()} == outcomes


@given(bodies, bodies, bodies)
def test_swapping_shadow_and_noise_leg_inverts_every_measure_of_agreement(
    primary: Body, shadow: Body, noise: Body
) -> None:
    names = {"exact", "rouge_l", "edit", "finish_reason", "tool_calls", "language"}
    one, other = (outcomes_of(compared(primary, *legs)) for legs in ((shadow, noise), (noise, shadow)))
    assert {name: one[name] for name in names & one.keys()} == {
        name: -other[name] for name in names & other.keys()
    }


def test_a_failed_leg_counts_although_the_other_cannot_be_read() -> None:
    pair = pair_of(BLIND["unknown encoding"], READ)
    dead = dataclasses.replace(pair.shadow, status=503, failure=Failure.UPSTREAM_CONNECTION_FAILURE)
    assert outcomes_of(compare(dataclasses.replace(pair, shadow=dead))) == {"failed": -1}
    alive = dataclasses.replace(dead, status=None, failure=None, complete=False)
    assert outcomes_of(compare(dataclasses.replace(pair, shadow=alive))) == {"failed": -1}
    assert outcomes_of(compare(pair)) == {}, "no leg failed"


def test_an_unread_noise_leg_leaves_the_traits_as_evidence() -> None:
    found = compared(READ, READ, BLIND["unknown encoding"])
    assert found.read
    assert found.unread == ((Role.NOISE, UnreadReason.ENCODING),)
    assert "rouge_l" not in outcomes_of(found)
    assert outcomes_of(found)["empty"] == 0


def test_a_compressed_answer_is_read() -> None:
    packed = answer(gzip.compress(chat_json("a b c")), content_encoding="gzip")
    found = compared(READ, packed, READ)
    assert (found.read, found.agreement.exact) == (True, True)
    assert not any(outcomes_of(found).values())


def test_an_answer_without_its_end_mark_has_failed() -> None:
    open_ended = answer(chat_stream(["a"], done=False), content_type=SSE)
    whole = answer(chat_stream(["a"]), content_type=SSE)
    assert outcomes_of(compared(whole, open_ended)) == {"failed": -1}
    cut_by_capture = dataclasses.replace(open_ended, total=1 << 20)
    assert outcomes_of(compared(whole, cut_by_capture)) == {}, "the end mark was not captured"


def test_a_measure_has_outcomes_only_where_it_applies() -> None:
    outcomes = outcomes_of(compared(READ, READ, READ))
    assert outcomes.keys().isdisjoint({"tool_calls", "invalid_calls", "invalid_json", "meaning"})
    empty = answer(chat_json(""))
    assert "length" not in outcomes_of(compared(empty, empty, empty))


def test_an_answer_without_a_language_differs_from_one_with_the_users_language() -> None:
    english = answer(chat_json("The cat is on the mat and it is not for you"))
    gibberish = answer(chat_json("!!!! 42"))
    assert outcomes_of(compared(english, gibberish, english))["language"] == -1
    assert outcomes_of(compared(english, english, gibberish))["language"] == 1
    assert outcomes_of(compared(english, gibberish, gibberish)).get("language") is None


def with_call(name: str, arguments: str) -> Body:
    body = json.loads(chat_json(""))
    call = {"function": {"name": name, "arguments": arguments}}
    body["choices"][0]["message"]["tool_calls"] = [call]
    return answer(json.dumps(body).encode())


SCHEMA = {"type": "object", "properties": {"city": {}}, "required": ["city"]}
REQUESTS = {
    "chat": {"tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]},
    "responses": {"tools": [{"type": "function", "name": "weather", "parameters": SCHEMA}]},
    "messages": {"tools": [{"name": "weather", "input_schema": SCHEMA}]},
    "functions": {"functions": [{"name": "weather", "parameters": SCHEMA}]},
}


@pytest.mark.parametrize("api", REQUESTS)
@pytest.mark.parametrize(
    ("name", "arguments", "broken"),
    [
        ("weather", '{"city": "Ulm"}', False),
        ("weather", '{"city": "Ulm", "day": 1}', False),
        ("weather", '{"town": "Ulm"}', True),
        ("weather", '{"city": "Ulm"', True),
        ("weather", "", True),
        ("whether", '{"city": "Ulm"}', True),
    ],
)
def test_a_tool_call_is_checked_against_the_tools_of_the_request(
    api: str, name: str, arguments: str, broken: bool
) -> None:
    pair = pair_of(with_call("weather", '{"city": "Ulm"}'), with_call(name, arguments))
    request = Body(data=json.dumps(REQUESTS[api]).encode())
    pair = dataclasses.replace(pair, primary=dataclasses.replace(pair.primary, request=request))
    assert outcomes_of(compare(pair))["invalid_calls"] == -broken


@given(st.binary(max_size=60) | st.builds(lambda data: b'{"tools": ' + data, st.binary(max_size=40)))
def test_no_request_breaks_the_search_for_tools(data: bytes) -> None:
    assert isinstance(offered_tools(Body(data=data)), dict)


@pytest.mark.parametrize(
    "tools", ["1", "[1]", "[{}]", '[{"name": 1}]', '[{"name": "f", "parameters": {"required": 1}}]']
)
def test_tools_of_another_shape_require_nothing(tools: str) -> None:
    assert set(offered_tools(Body(data=f'{{"tools": {tools}}}'.encode())).values()) <= {frozenset()}


def test_unread_pairs_are_counted_apart_and_never_as_agreement() -> None:
    totals, block = PairTotals(), EvidenceBlock()
    pairs = [
        compared(READ, READ, READ),
        compared(READ, FAULTS["html"], READ),
        compared(*[BLIND["unknown encoding"]] * 3),
        compared(*[BLIND["unknown encoding"]] * 3, path="/v1/embeddings"),
    ]
    for one in pairs:
        totals.add(one)
        block.add(one, first_of_unit=True, first_baseline_of_unit=True)
    block.add(pairs[0], first_of_unit=False, first_baseline_of_unit=False)
    coverage = totals.coverage["chat"]
    assert (coverage.pairs, coverage.read, coverage.unread) == (3, 1, 2)
    assert coverage.unread_legs == {
        ("primary", "encoding"): 1,
        ("shadow", "encoding"): 1,
        ("noise", "encoding"): 1,
        ("shadow", "unknown_format"): 1,
    }
    assert totals.agreement["exact"].n == totals.trios == 1
    assert totals.traits["empty"] == [0, 0, 1]
    assert totals.traits["unreadable"] == [0, 1, 2]
    assert totals.outcomes.by_measure["unreadable"] == ComparisonOutcomes(less=1, same=1)
    assert (block.pairs, block.counted, block.trios) == (5, 4, 1)
    assert {api: (one.pairs, one.coverage.pairs, one.trios) for api, one in block.apis.items()} == {
        "chat": (4, 3, 1),
        "embeddings": (1, 1, 0),
    }
    assert block.apis["chat"].coverage == coverage
    assert block.apis["embeddings"].outcomes.by_measure == {}
    for value, kind in ((totals, PairTotals), (block, EvidenceBlock), (coverage, Coverage)):
        assert kind.from_json(json.loads(json.dumps(value.to_json()))) == value
    both = PairTotals()
    both.merge(totals)
    both.merge(totals)
    assert (both.coverage["chat"].pairs, both.coverage["embeddings"].unread) == (6, 2)


def test_flags_name_unread_pairs() -> None:
    flags = {name for name, bit in FLAGS.items() if flags_of(compared(READ, FAULTS["html"])) & bit}
    assert flags == {"unread", "unreadable"}


def unread_document(role: str, request_id: str, path: str = "/v1/chat/completions") -> dict[str, Any]:
    """Return a leg whose answer could not be read if it is the shadow's."""
    text = HTML.decode() if role == "shadow" else chat_json("a b c").decode()
    return {
        "route": "chat",
        "role": role,
        "request_id": request_id,
        "variant": "v1" if role == "primary" else "v2",
        "started_at": 1_700_000_000.0,
        "path": path,
        "response": {"status": 200, "body": text},
    }


async def test_coverage_reaches_api_metrics_pages_and_the_evidence_stream(start: Start) -> None:
    async with start() as collector:
        await collector.post([unread_document(role, "r1") for role in ("primary", "shadow")])
        await collector.pairs_when(1)
        metrics = await get_page(collector, "/metrics")
        labels = 'api="chat",leg="shadow",primary="v1",reason="unknown_format",route="chat",shadow="v2"'
        assert f"mirror_collector_unread_total{{{labels}}} 1.0" in metrics
        labels = 'api="chat",primary="v1",result="unread",route="chat",shadow="v2"'
        assert f"mirror_collector_compared_pairs_total{{{labels}}} 1.0" in metrics
        overview = await get_page(collector, "/")
        assert "shadow unknown format 1" in overview
        pair = await get_page(collector, "/pairs/1")
        assert "the answer could not be read (unknown format)" in pair
        summary = json.loads(await get_page(collector, "/v1/summary"))["routes"][0]
        assert (summary["read"], summary["unread"]) == (0, 1)
        assert summary["apis"]["chat"]["unread_legs"] == {"shadow": {"unknown_format": 1}}
        response = await watch_until_current(collector)
        blocks = EvidenceBlocks()
        blocks.add(response.store, response.blocks)
        counts = blocks.counts("chat", "v1", "v2", 0.0)
        assert counts is not None
        chat = counts.apis["chat"]
        assert (chat.pairs, chat.counted, chat.read, chat.unread, chat.trios) == (1, 1, 0, 1, 0)
        assert chat.unread_legs == {("shadow", "unknown_format"): 1}
        assert chat.outcomes["unreadable"].less == 1


def pairs_of_users(*users: tuple[str, str, str]) -> list[Pair]:
    """Return a pair for each user, request id and path."""
    return [
        Pair(
            primary=dataclasses.replace(leg(Role.PRIMARY, name), unit=user, path=path),
            shadow=leg(Role.SHADOW, name),
        )
        for user, name, path in users
    ]


def test_each_user_is_counted_once_with_each_api_also_after_a_repeated_comparison(tmp_path: Path) -> None:
    chat, messages = "/v1/chat/completions", "/v1/messages"
    first = pairs_of_users(("ada", "r1", chat), ("ada", "r2", chat), ("ada", "r3", messages))
    second = pairs_of_users(("ada", "r4", chat), ("ada", "r5", messages), ("bob", "r6", chat))
    path = tmp_path / "pairs.sqlite"
    with closing(StoreWriter(path, StoreLimits())) as writer, closing(StoreReader(path)) as reader:

        def counts() -> dict[str, tuple[int, int]]:
            blocks = [EvidenceBlock.from_json(block.counts) for block in reader.evidence(0)]
            found: dict[str, tuple[int, int]] = {}
            for block in blocks:
                for api, one in block.apis.items():
                    pairs, counted = found.get(api, (0, 0))
                    found[api] = (pairs + one.pairs, counted + one.coverage.pairs)
            return found

        writer.write(first, LegCounts(), 1_700_000_100.0)
        assert counts() == {"chat": (2, 1), "messages": (1, 1)}
        writer.write(second, LegCounts(), 1_700_000_200.0)
        expected = {"chat": (4, 2), "messages": (2, 1)}
        assert counts() == expected
        result = writer.recompare(reader, lambda _done: None)
        assert result.measured == 6
        assert counts() == expected
        assert writer.forget(unit="ada")["seen_units"] == 2
        assert writer.forget(unit="bob")["seen_units"] == 1
