"""The answers of every API of the simulated server have the fields that its documentation requires."""

from __future__ import annotations

import base64
import io
import json
import struct
import wave
from typing import TYPE_CHECKING, Any

import pytest

from demo.simulated import Flavour
from tests.support import api_shapes as shapes
from tests.support.simulated import serving
from tests.support.simulated_apis import (
    AUDIO,
    BODIES,
    PATHS,
    STREAMED,
    TOOLS,
    ask,
    datas,
    documents,
    ended,
    text,
    tools,
    upload,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

PLAIN: dict[str, type[BaseModel]] = {
    "chat": shapes.ChatCompletion,
    "completions": shapes.Completion,
    "responses": shapes.Response,
    "messages": shapes.Message,
    "embeddings": shapes.Embeddings,
    "rerank": shapes.Rerank,
    "score": shapes.Scores,
    "transcription": shapes.Transcription,
}
ALL = tuple(PATHS)


def check_events(api: str, body: bytes) -> list[Any]:
    """Return the events of a stream after a check of each against the documentation."""
    found = list(documents(body))
    for event in found:
        match api:
            case "chat":
                shapes.ChatChunk.model_validate(event)
            case "completions":
                shapes.Completion.model_validate(event)
            case "responses":
                shapes.ResponseEvent.model_validate({"event": event})
            case _:
                shapes.MessageEvent.model_validate({"event": event})
    return found


@pytest.mark.parametrize("api", PLAIN)
async def test_plain_answers_have_the_documented_fields(api: str) -> None:
    async with serving() as (_, session):
        got = await ask(session, api)
    assert (got.status, got.headers["content-type"]) == (200, "application/json")
    PLAIN[api].model_validate(got.document)


@pytest.mark.parametrize("api", STREAMED)
async def test_streams_have_the_documented_events_and_the_text_of_the_plain_answer(api: str) -> None:
    async with serving() as (_, session):
        plain, got = await ask(session, api), await ask(session, api, stream=True)
    check_events(api, got.body)
    assert got.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert ended(api, got.body)
    assert text(api, got, stream=True) == text(api, plain, stream=False) != ""


@pytest.mark.parametrize("api", ["responses", "messages"])
async def test_named_events_carry_their_name_in_the_data(api: str) -> None:
    async with serving() as (_, session):
        got = await ask(session, api, stream=True)
    assert [name for name, _ in datas(got.body)] == [event["type"] for event in documents(got.body)]


async def test_a_responses_stream_is_numbered_and_ends_with_the_plain_answer() -> None:
    async with serving() as (_, session):
        plain, got = await ask(session, "responses"), await ask(session, "responses", stream=True)
    found = list(documents(got.body))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["type"] for event in found[:4]] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
    ]
    same = {"created_at": 0}
    assert found[-1]["response"] | same == plain.document | same
    assert plain.document["usage"]["output_tokens"] == sum(
        event["type"] == "response.output_text.delta" for event in found
    )


async def test_a_messages_stream_has_its_usage_split() -> None:
    async with serving() as (_, session):
        plain, got = await ask(session, "messages"), await ask(session, "messages", stream=True)
    found = list(documents(got.body))
    usage = plain.document["usage"]
    assert [event["type"] for event in found[-3:]] == ["content_block_stop", "message_delta", "message_stop"]
    assert found[0]["message"]["usage"]["input_tokens"] == usage["input_tokens"] > 0
    assert found[-2]["usage"]["output_tokens"] == usage["output_tokens"] > 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("api", "field", "reason"),
    [
        ("chat", "max_completion_tokens", "length"),
        ("completions", "max_tokens", "length"),
        ("responses", "max_output_tokens", "incomplete"),
        ("messages", "max_tokens", "max_tokens"),
    ],
)
async def test_a_token_limit_is_kept_and_named(api: str, field: str, reason: str, *, stream: bool) -> None:
    async with serving() as (_, session):
        got = await ask(session, api, stream=stream, **{field: 3})
    found = check_events(api, got.body) if stream else [got.document]
    reasons = json.dumps(found)
    assert f'"{reason}"' in reasons
    assert 0 < len(text(api, got, stream=stream)) < 40


def calls_of(api: str, got: Any) -> list[tuple[str, Any]]:
    """Return (name, arguments) of the tool calls of a plain answer."""
    match api:
        case "chat":
            (choice,) = got["choices"]
            assert choice["finish_reason"] == "tool_calls"
            functions = [call["function"] for call in choice["message"]["tool_calls"]]
            return [(one["name"], json.loads(one["arguments"])) for one in functions]
        case "responses":
            return [(item["name"], json.loads(item["arguments"])) for item in got["output"]]
        case _:
            assert got["stop_reason"] == "tool_use"
            return [(block["name"], block["input"]) for block in got["content"]]


def streamed_calls(api: str, events: list[Any]) -> list[tuple[str, Any]]:
    """Return (name, arguments) of the tool calls of a stream, joined from their fragments."""
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for event in events:
        if api == "chat":
            for choice in event["choices"]:
                for call in choice["delta"].get("tool_calls", []):
                    names.setdefault(call["index"], call["function"].get("name"))
                    arguments[call["index"]] = (
                        arguments.get(call["index"], "") + call["function"]["arguments"]
                    )
        elif event["type"] == "response.output_item.added":
            names[event["output_index"]] = event["item"]["name"]
        elif event["type"] == "content_block_start":
            names[event["index"]] = event["content_block"]["name"]
        elif event["type"] == "response.function_call_arguments.delta":
            place = event["output_index"]
            arguments[place] = arguments.get(place, "") + event["delta"]
        elif event["type"] == "content_block_delta":
            place = event["index"]
            arguments[place] = arguments.get(place, "") + event["delta"]["partial_json"]
    return [(names[place], json.loads(arguments[place])) for place in sorted(names)]


@pytest.mark.parametrize("question", [f"What about the weather in town {n}?" for n in range(6)])
@pytest.mark.parametrize("api", ["chat", "responses", "messages"])
async def test_tool_calls_are_the_same_plain_and_streamed(api: str, question: str) -> None:
    asked: dict[str, Any] = {"tools": tools(api)}
    asked |= (
        {"input": question} if api == "responses" else {"messages": [{"role": "user", "content": question}]}
    )
    async with serving() as (_, session):
        plain, got = await ask(session, api, **asked), await ask(session, api, stream=True, **asked)
    PLAIN[api].model_validate(plain.document)
    calls = calls_of(api, plain.document)
    assert calls == streamed_calls(api, check_events(api, got.body))
    assert ended(api, got.body)
    assert {name for name, _ in calls} <= {tool["name"] for tool in TOOLS}
    for name, arguments in calls:
        if name == "find_weather":
            assert arguments["unit"] in {"C", "F"}
            assert isinstance(arguments["days"], int)
            assert isinstance(arguments["options"]["brief"], bool)


async def test_some_answers_have_two_calls_and_some_have_one() -> None:
    counts = set()
    async with serving() as (_, session):
        for number in range(12):
            messages = [{"role": "user", "content": f"question {number}"}]
            got = await ask(session, "chat", tools=tools("chat"), messages=messages)
            counts.add(len(calls_of("chat", got.document)))
            alone = await ask(
                session, "chat", tools=tools("chat"), messages=messages, parallel_tool_calls=False
            )
            assert len(calls_of("chat", alone.document)) == 1
    assert counts == {1, 2}


@pytest.mark.parametrize(
    ("api", "choice"),
    [
        ("chat", {"type": "function", "function": {"name": "open_page"}}),
        ("responses", {"type": "function", "name": "open_page"}),
        ("messages", {"type": "tool", "name": "open_page"}),
    ],
)
async def test_a_named_tool_is_called_and_none_is_not(api: str, choice: dict[str, Any]) -> None:
    none: Any = {"type": "none"} if api == "messages" else "none"
    async with serving() as (_, session):
        named = await ask(session, api, tools=tools(api), tool_choice=choice)
        without = await ask(session, api, tools=tools(api), tool_choice=none)
    assert [name for name, _ in calls_of(api, named.document)] == ["open_page"]
    assert text(api, without, stream=False)


async def test_a_tools_result_is_answered_with_text() -> None:
    results: dict[str, Any] = {
        "chat": {"messages": [{"role": "tool", "tool_call_id": "x", "content": "3 degrees"}]},
        "responses": {"input": [{"type": "function_call_output", "call_id": "x", "output": "3 degrees"}]},
        "messages": {
            "messages": [
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x", "content": "3"}]}
            ]
        },
    }
    async with serving() as (_, session):
        for api, fields in results.items():
            got = await ask(session, api, tools=tools(api), **fields)
            assert text(api, got, stream=False), api


@pytest.mark.parametrize("api", ["chat", "completions"])
async def test_several_choices_differ_and_are_the_same_streamed(api: str) -> None:
    async with serving() as (_, session):
        plain, got = await ask(session, api, n=3), await ask(session, api, stream=True, n=3)
    choices = plain.document["choices"]
    texts = [choice["message"]["content"] if api == "chat" else choice["text"] for choice in choices]
    streamed = ["", "", ""]
    for event in check_events(api, got.body):
        for choice in event["choices"]:
            streamed[choice["index"]] += choice["delta"]["content"] if api == "chat" else choice["text"]
    assert texts == streamed
    assert len(set(texts)) == 3
    assert [choice["index"] for choice in choices] == [0, 1, 2]


async def test_continuous_usage_counts_up_to_the_last_event() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    async with serving() as (_, session):
        got = await ask(session, "chat", stream=True, stream_options=options)
    counts = [event["usage"]["completion_tokens"] for event in check_events("chat", got.body)]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == counts[-2] > 10


@pytest.mark.parametrize("api", ALL)
async def test_equal_requests_have_equal_answers_and_the_flavours_differ(api: str) -> None:
    async with (
        serving(seed=1) as (_, one),
        serving(seed=2) as (_, other),
        serving(flavour=Flavour.B) as (_, second),
    ):
        bodies = [(await ask(session, api)).body for session in (one, other, second)]
    if api not in {"speech", "transcription"}:
        documents = [json.loads(body) for body in bodies]
        bodies = [json.dumps(one | {"created": 0, "created_at": 0}).encode() for one in documents]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


async def test_embeddings_are_the_same_numbers_in_both_formats() -> None:
    async with serving() as (_, session):
        floats = (await ask(session, "embeddings")).document
        coded = (await ask(session, "embeddings", encoding_format="base64")).document
        short = (await ask(session, "embeddings", dimensions=8, input=[[1, 2, 3]])).document
    shapes.Embeddings.model_validate(coded)
    vectors = [item["embedding"] for item in floats["data"]]
    packed = [base64.b64decode(item["embedding"]) for item in coded["data"]]
    assert [list(struct.unpack("<64f", one)) for one in packed] == vectors
    assert all(sum(x * x for x in vector) == pytest.approx(1, abs=1e-5) for vector in vectors)
    assert [len(item["embedding"]) for item in short["data"]] == [8]
    assert short["usage"] == floats["usage"] | {"prompt_tokens": 3, "total_tokens": 3}


async def test_the_two_flavours_have_close_vectors_and_other_texts_have_not() -> None:
    async with serving() as (_, one), serving(flavour=Flavour.B) as (_, other):
        first = [item["embedding"] for item in (await ask(one, "embeddings")).document["data"]]
        second = [item["embedding"] for item in (await ask(other, "embeddings")).document["data"]]

    def cosine(a: list[float], b: list[float]) -> float:
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert all(0.9 < cosine(a, b) < 0.9999 for a, b in zip(first, second, strict=True))
    assert cosine(first[0], first[1]) < 0.6


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
async def test_a_rerank_lists_the_best_first(path: str) -> None:
    async with serving() as (_, session):
        async with session.post(path, json=BODIES["rerank"]) as response:
            results = shapes.Rerank.model_validate(await response.json()).results
        async with session.post(path, json=BODIES["rerank"] | {"top_n": 1}) as response:
            (best,) = shapes.Rerank.model_validate(await response.json()).results
    scores = [result.relevance_score for result in results]
    assert scores == sorted(scores, reverse=True)
    assert [result.index for result in results] == [0, 2, 1]
    assert best == results[0]


async def test_scores_are_in_the_order_of_the_request() -> None:
    async with serving() as (_, session):
        for names in (("text_1", "text_2"), ("queries", "documents")):
            ask_ = dict(zip(names, (BODIES["score"]["text_1"], BODIES["score"]["text_2"]), strict=True))
            async with session.post("/score", json=ask_) as response:
                first, second = shapes.Scores.model_validate(await response.json()).data
            assert (first.index, second.index) == (0, 1)
            assert first.score > second.score


async def test_transcriptions_as_json_verbose_json_and_text() -> None:
    async with serving() as (_, session):
        short = (await ask(session, "transcription", response_format="json")).document
        verbose = await ask(session, "transcription", response_format="verbose_json", language="de")
        plain = await ask(session, "transcription", response_format="text")
    full = shapes.VerboseTranscription.model_validate(verbose.document)
    assert plain.headers["content-type"] == "text/plain; charset=utf-8"
    assert plain.body.decode() == f"{short['text']}\n"
    assert full.text == short["text"] == " ".join(segment.text for segment in full.segments)
    assert (full.language, full.duration) == ("de", len(AUDIO) / 32_000)
    assert full.segments[-1].end == pytest.approx(full.duration, abs=0.01)


async def test_a_streamed_transcription_is_rejected() -> None:
    async with (
        serving() as (_, session),
        session.post(PATHS["transcription"], data=upload(stream="true")) as response,
    ):
        assert response.status == 400


async def test_speech_is_audio() -> None:
    async with serving() as (_, session):
        mp3 = await ask(session, "speech")
        wav = await ask(session, "speech", response_format="wav")
    assert (mp3.headers["content-type"], mp3.body[:2]) == ("audio/mpeg", b"\xff\xfb")
    assert wav.headers["content-type"] == "audio/wav"
    with wave.open(io.BytesIO(wav.body)) as file:
        assert file.getnframes() / file.getframerate() == pytest.approx(0.72, abs=0.01)


async def test_models_are_listed_and_found_by_name() -> None:
    async with serving(model="org/small") as (_, session):
        async with session.get("/v1/models") as response:
            (listed,) = shapes.Models.model_validate(await response.json()).data
        async with session.get("/v1/models/org/small") as response:
            assert shapes.Model.model_validate(await response.json()) == listed
        async with session.get("/v1/models/other") as response:
            assert response.status == 404
            shapes.VllmError.model_validate(await response.json())
