"""What each fault of the simulated server does to the response."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import aiohttp
import pytest

from demo.simulated import Fault, FaultMode
from tests.support import api_shapes as shapes
from tests.support.simulated import CHAT, serving, until
from tests.support.simulated_apis import (
    PATHS,
    STREAMED,
    Got,
    ask,
    booked,
    datas,
    documents,
    ended,
    faulty,
    text,
    tools,
)

ALL = tuple(PATHS)


# Errors


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503, 529])
@pytest.mark.parametrize("api", ["chat", "messages", "embeddings"])
async def test_an_error_status_has_the_error_of_the_api(api: str, status: int) -> None:
    got = await faulty(api, "error", status=status, stream=api != "embeddings")
    assert (got.status, got.headers["content-type"]) == (status, "application/json")
    if api == "messages":
        shapes.AnthropicError.model_validate(got.document)
    elif status == 401:
        assert got.document == {"error": "Unauthorized"}
    elif status == 422:
        assert got.document["detail"]
    else:
        assert shapes.VllmError.model_validate(got.document).error.code == status


async def test_a_429_has_its_retry_after() -> None:
    got = await faulty("chat", "error", status=429, retry_after=7)
    assert got.headers["retry-after"] == "7"
    assert "retry-after" not in (await faulty("chat", "error", status=429)).headers


@pytest.mark.parametrize(("mode", "status"), [("unknown_model", 404), ("context_length", 400)])
@pytest.mark.parametrize("api", ALL)
async def test_vllms_own_rejections_on_demand(api: str, mode: str, status: int) -> None:
    assert (await faulty(api, mode)).status == status


@pytest.mark.parametrize("mode", ["error_200", "error_200_unended"])
@pytest.mark.parametrize("api", ALL)
async def test_an_error_object_with_status_200(api: str, mode: str) -> None:
    got = await faulty(api, mode)
    assert (got.status, got.headers["content-type"]) == (200, "application/json")
    assert got.document["error"]["message"]


@pytest.mark.parametrize("after", [0.0, 0.5])
@pytest.mark.parametrize("mode", ["error_200", "error_200_unended"])
@pytest.mark.parametrize("api", STREAMED)
async def test_an_error_in_a_stream_with_and_without_an_end(api: str, mode: str, after: float) -> None:
    got = await faulty(api, mode, stream=True, after=after)
    found = list(documents(got.body))
    errors = [event for event in found if "error" in event or event.get("type") == "error"]
    assert len(errors) == 1
    assert ended(api, got.body) is (mode == "error_200")
    assert not got.cut
    assert bool(text(api, got, stream=True) if after else "") is bool(after)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("mode", "content_type"), [("html_200", "text/html"), ("text_200", "text/plain"), ("empty_body", "")]
)
async def test_bodies_that_are_no_answers(mode: str, content_type: str, *, stream: bool) -> None:
    got = await faulty("chat", mode, stream=stream)
    assert got.status == 200
    assert got.headers["content-type"].startswith(content_type)
    assert bool(got.body) is (mode != "empty_body")
    with pytest.raises(json.JSONDecodeError):
        json.loads(got.body)


@pytest.mark.parametrize("api", [api for api in ALL if api != "speech"])
async def test_broken_and_unknown_json(api: str) -> None:
    broken, unknown = await faulty(api, "broken_json"), await faulty(api, "unknown_json")
    with pytest.raises(json.JSONDecodeError):
        json.loads(broken.body)
    assert set(unknown.document) == {"status", "result"}


@pytest.mark.parametrize("api", STREAMED)
async def test_broken_and_unknown_json_in_a_stream(api: str) -> None:
    broken = await faulty(api, "broken_json", stream=True)
    unknown = await faulty(api, "unknown_json", stream=True)

    def readable(data: str) -> bool:
        try:
            json.loads(data)
        except json.JSONDecodeError:
            return data == "[DONE]"
        return True

    assert [readable(data) for _, data in datas(broken.body)].count(False) == 1
    assert ended(api, broken.body)
    assert all(set(event) == {"status", "result"} for event in documents(unknown.body))


# Incomplete answers


@pytest.mark.parametrize("api", STREAMED)
async def test_streams_that_are_not_whole(api: str) -> None:
    async with serving() as (_, session):
        whole = text(api, await ask(session, api, stream=True), stream=True)
    early = await faulty(api, "stop_early", stream=True)
    unmarked = await faulty(api, "no_end_mark", stream=True)
    bare = await faulty(api, "end_mark_only", stream=True)
    cut = await faulty(api, "cut_stream", stream=True)
    assert [got.cut for got in (early, unmarked, bare, cut)] == [False, False, False, True]
    assert [ended(api, got.body) for got in (early, unmarked, bare, cut)] == [False, False, True, False]
    assert text(api, unmarked, stream=True) == whole
    assert len(datas(bare.body)) == 1
    for got in (early, cut):
        part = text(api, got, stream=True)
        assert part != whole
        assert whole.startswith(part)


@pytest.mark.parametrize("api", ALL)
async def test_a_plain_answer_is_cut(api: str) -> None:
    got = await faulty(api, "cut_stream")
    assert got.cut
    assert 0 < len(got.body) < int(got.headers["content-length"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", STREAMED)
async def test_an_empty_text_is_well_formed(api: str, *, stream: bool) -> None:
    got = await faulty(api, "empty_text", stream=stream)
    assert text(api, got, stream=stream) == ""
    assert ended(api, got.body) is True if stream else got.document["usage"]


@pytest.mark.parametrize("api", ["embeddings", "rerank", "score", "transcription"])
async def test_other_empty_answers_are_well_formed(api: str) -> None:
    document = (await faulty(api, "empty_text")).document
    match api:
        case "embeddings":
            assert [item["embedding"] for item in document["data"]] == [[], []]
        case "transcription":
            assert document["text"] == ""
        case _:
            assert document.get("results", document.get("data")) == []


# Time


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("mode", "some"), [("hang", None), ("hang_after_headers", False), ("hang_midstream", True)]
)
async def test_each_hang_is_released_and_booked(mode: str, some: bool | None, *, stream: bool) -> None:
    async with serving(fault=Fault(mode=FaultMode(mode))) as (server, session):
        hung = asyncio.create_task(ask(session, "chat", stream=stream))
        await until(lambda: server.books.document()["running"] == {"chat": 1})
        if mode == "hang":
            await until(lambda: bool(server.log.document(only=[], limit=1)["last"][0]["body_bytes"]))
        else:
            await until(lambda: server.log.document(only=[], limit=1)["last"][0]["status"] == 200)
        assert not hung.done()
        assert booked(server) == Counter()
        server.faults.put()
        if some is None:
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await hung
        else:
            got = await hung
            assert got.cut
            assert bool(got.body) is some
        assert booked(server) == Counter({("chat", mode, 200 if some is not None else None): 1})


async def test_a_client_that_leaves_is_booked_as_aborted() -> None:
    async with serving(fault=Fault(mode=FaultMode.HANG)) as (server, session):
        hung = asyncio.create_task(ask(session, "messages"))
        await until(lambda: bool(server.log.document(only=[], limit=1)["last"]))
        await until(lambda: bool(server.log.document(only=[], limit=1)["last"][0]["body_bytes"]))
        hung.cancel()
        await until(lambda: not server.books.document()["running"])
        (entry,) = server.books.document()["entries"]
    assert (entry["outcome"], entry["status"], entry["count"], entry["aborted"]) == ("hang", None, 1, 1)


@pytest.mark.parametrize(("mode", "first"), [("late_ping", b": ping\n\n"), ("late_role", b"data: ")])
async def test_bytes_long_before_the_first_token(mode: str, first: bytes) -> None:
    fault = Fault(mode=FaultMode(mode), delay=3600.0)
    async with (
        serving(fault=fault, shutdown_timeout=0.1) as (_, session),
        session.post(CHAT, json={"messages": [{"role": "user", "content": "x"}], "stream": True}) as response,
    ):
        line = await response.content.readuntil(b"\n\n")
    assert line.startswith(first)
    if mode == "late_role":
        assert json.loads(line[6:])["choices"][0]["delta"] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("mode", ["late_ping", "late_role"])
@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_a_late_answer_is_whole(api: str, mode: str) -> None:
    async with serving() as (_, session):
        whole = text(api, await ask(session, api, stream=True), stream=True)
    got = await faulty(api, mode, stream=True, delay=0.01)
    assert text(api, got, stream=True) == whole
    assert ended(api, got.body)
    assert got.body.startswith(b": ping") is (mode == "late_ping")


# Wrong answers


@pytest.mark.parametrize("mode", ["gibberish", "exclamations", "repetition"])
@pytest.mark.parametrize("api", STREAMED)
async def test_wrong_texts_are_well_formed(api: str, mode: str) -> None:
    async with serving() as (_, session):
        sound = text(api, await ask(session, api), stream=False)
    plain, got = await faulty(api, mode), await faulty(api, mode, stream=True)
    wrong = text(api, plain, stream=False)
    assert wrong == text(api, got, stream=True)
    assert ended(api, got.body)
    if mode == "exclamations":
        assert set(wrong) == {"!"}
    else:
        assert len(set(wrong.split()) & set(sound.split())) < len(set(sound.split())) / 2


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["tool_name", "tool_arguments", "tool_values"])
async def test_tool_calls_break_in_three_ways(mode: str, *, stream: bool) -> None:
    weather = {"tools": tools("chat")[:1]}
    got = await faulty("chat", mode, stream=stream, fields=weather)
    if stream:
        calls = [call for event in documents(got.body) for choice in event["choices"]
                 for call in choice["delta"].get("tool_calls", [])]  # fmt: skip
        name = calls[0]["function"]["name"]
        arguments = "".join(call["function"]["arguments"] for call in calls)
    else:
        function = got.document["choices"][0]["message"]["tool_calls"][0]["function"]
        name, arguments = function["name"], function["arguments"]
    assert (name == "find_weather") is (mode != "tool_name")
    if mode == "tool_arguments":
        with pytest.raises(json.JSONDecodeError):
            json.loads(arguments)
    else:
        assert ("city" in json.loads(arguments)) is (mode == "tool_name")


@pytest.mark.parametrize("api", ["responses", "messages"])
async def test_tool_calls_of_other_apis_break_too(api: str) -> None:
    got = (await faulty(api, "tool_arguments", fields={"tools": tools(api)[:1]})).document
    if api == "messages":
        assert isinstance(got["content"][0]["input"], str)
    else:
        with pytest.raises(json.JSONDecodeError):
            json.loads(got["output"][0]["arguments"])


async def test_vectors_of_half_the_dimensions_and_a_reversed_ranking() -> None:
    async with serving() as (_, session):
        ranking = [one["index"] for one in (await ask(session, "rerank")).document["results"]]
    vectors = (await faulty("embeddings", "wrong_dimensions")).document["data"]
    reversed_ = (await faulty("rerank", "reversed_ranking")).document["results"]
    assert [len(item["embedding"]) for item in vectors] == [32, 32]
    assert [one["index"] for one in reversed_] == ranking[::-1]
    assert (await faulty("score", "reversed_ranking")).document["data"][0]["score"] < 0.5


@pytest.mark.parametrize("api", ["embeddings", "rerank", "score", "transcription"])
async def test_gibberish_of_other_apis_is_well_formed(api: str) -> None:
    async with serving() as (_, session):
        sound = (await ask(session, api)).document
    wrong = (await faulty(api, "gibberish")).document
    assert set(wrong) == set(sound)
    assert wrong != sound


# Usage


@pytest.mark.parametrize("api", ["chat", "completions", "responses", "messages", "embeddings", "rerank"])
async def test_plain_answers_without_usage(api: str) -> None:
    assert "usage" not in (await faulty(api, "no_usage")).document
    assert (await faulty(api, "null_usage")).document["usage"] is None


def usages(got: Got) -> list[Any]:
    """Return the usage objects of a stream, wherever they are."""
    holders = [
        holder
        for event in documents(got.body)
        for holder in (event, event.get("response"), event.get("message"))
        if holder and "usage" in holder
    ]
    return [holder["usage"] for holder in holders]


@pytest.mark.parametrize("api", STREAMED)
async def test_streams_without_usage(api: str) -> None:
    nulls = usages(await faulty(api, "null_usage", stream=True))
    assert nulls
    assert not any(nulls)
    assert not any(usages(await faulty(api, "no_usage", stream=True)))


@pytest.mark.parametrize("api", ["chat", "completions", "responses"])
async def test_split_usage_is_in_the_first_and_the_last_event(api: str) -> None:
    first, *_, last = [one for one in usages(await faulty(api, "split_usage", stream=True)) if one]
    prompt, completion = (
        ("input_tokens", "output_tokens") if api == "responses" else ("prompt_tokens", "completion_tokens")
    )
    assert (list(first), list(last)) == ([prompt], [completion])


@pytest.mark.parametrize("api", STREAMED)
async def test_cumulative_usage_grows_to_the_usual_one(api: str) -> None:
    name = "output_tokens" if api in {"responses", "messages"} else "completion_tokens"
    async with serving() as (_, session):
        usual = usages(await ask(session, api, stream=True))[-1][name]
    counts = [one[name] for one in usages(await faulty(api, "cumulative_usage", stream=True)) if one]
    growing = counts[1:] if api == "messages" else counts
    assert growing == sorted(growing)
    assert len(growing) > usual / 2
    assert growing[-1] == usual
