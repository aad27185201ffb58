"""Reading of the answers of every API.

The shapes are those of the public documentation: "Messages", "Streaming Messages" and "Errors" of the Claude
API; "Chat Completions", "Streaming events" (responses), "Embeddings", "Create transcription", "Transcription
streaming events", "Moderations" and "List models" of the OpenAI API; "OpenAI-Compatible Server" of vLLM
(score, rerank, transcription); "Rerank" of Jina AI; "Text Embeddings Inference" of Hugging Face (rerank).
"""

from __future__ import annotations

import gzip
import json
import math
import struct
from base64 import b64encode
from typing import Any

import brotli
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange import (
    Api,
    Body,
    Reply,
    ReplyKind,
    ToolCall,
    UnreadReason,
    api_of_answer,
    read_reply,
)
from tests.collector.builders import chat_json, chat_stream

SSE = "text/event-stream; charset=utf-8"
JSON = "application/json"
HTML = b"<!doctype html><title>502</title>"


def parse(data: bytes, api: Api = Api.OTHER, content_type: str = JSON, encoding: str = "") -> Reply:
    body = Body(data=data, total=len(data), content_type=content_type, content_encoding=encoding)
    return read_reply(body, api)


def plain(value: Any, api: Api = Api.OTHER) -> Reply:
    return parse(json.dumps(value).encode(), api)


def stream(*events: Any, api: Api = Api.OTHER) -> Reply:
    lines = [event if isinstance(event, str) else typed(event) for event in events]
    return parse("".join(lines).encode(), api, SSE)


def typed(event: dict[str, Any]) -> str:
    name = f"event: {event['type']}\n" if "type" in event else ""
    return f"{name}data: {json.dumps(event)}\n\n"


def done() -> str:
    return "data: [DONE]\n\n"


# The Messages API

START = {
    "type": "message_start",
    "message": {
        "type": "message",
        "role": "assistant",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 25, "cache_read_input_tokens": 100, "output_tokens": 1},
    },
}
STOP = {"type": "message_stop"}
PING = {"type": "ping"}


def block(index: int, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def piece(index: int, kind: str, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **content}}


def message_end(reason: str = "end_turn", **usage: int) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": usage or {"output_tokens": 15},
    }


def test_a_plain_message() -> None:
    reply = plain(
        {
            "type": "message",
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hmm", "signature": "x"},
                {"type": "text", "text": "It is "},
                {"type": "text", "text": "warm."},
                {"type": "tool_use", "id": "t1", "name": "weather", "input": {"city": "Köln"}},
            ],
            "stop_reason": "tool_use",
            "usage": {"input_tokens": 5, "cache_creation_input_tokens": 7, "output_tokens": 9},
        },
        Api.MESSAGES,
    )
    assert reply == Reply(
        kind=ReplyKind.MESSAGE,
        text="It is warm.",
        reasoning="hmm",
        tool_calls=(ToolCall(name="weather", arguments='{"city": "Köln"}'),),
        finish_reason="tool_calls",
        prompt_tokens=12,
        completion_tokens=9,
    )


def test_a_streamed_message() -> None:
    reply = stream(
        START,
        block(0, type="thinking", thinking=""),
        piece(0, "thinking_delta", thinking="hmm"),
        piece(0, "signature_delta", signature="EqQB"),
        PING,
        block(1, type="text", text=""),
        piece(1, "text_delta", text="Let me "),
        piece(1, "text_delta", text="look."),
        block(2, type="tool_use", id="t1", name="weather", input={}),
        piece(2, "input_json_delta", partial_json=""),
        piece(2, "input_json_delta", partial_json='{"city":'),
        piece(2, "input_json_delta", partial_json='"Ulm"}'),
        {"type": "content_block_stop", "index": 2},
        message_end("tool_use", output_tokens=89),
        STOP,
        api=Api.MESSAGES,
    )
    assert reply == Reply(
        kind=ReplyKind.MESSAGE,
        streamed=True,
        text="Let me look.",
        reasoning="hmm",
        tool_calls=(ToolCall(name="weather", arguments='{"city":"Ulm"}'),),
        finish_reason="tool_calls",
        prompt_tokens=125,
        completion_tokens=89,
        content_chunks=5,
    )


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
    ],
)
def test_stop_reasons_have_the_names_of_finish_reasons(reason: str, finish: str) -> None:
    reply = stream(START, message_end(reason), STOP)
    assert (reply.finish_reason, reply.refused) == (finish, reason == "refusal")


def test_the_last_usage_of_a_message_wins() -> None:
    ends = [message_end(output_tokens=3), message_end(input_tokens=30, output_tokens=8)]
    reply = stream(START, *ends, STOP)
    assert (reply.prompt_tokens, reply.completion_tokens) == (130, 8)


def test_a_message_is_whole_only_with_its_last_event() -> None:
    events = [START, block(0, type="text", text=""), piece(0, "text_delta", text="a"), message_end()]
    assert not stream(*events, done(), api=Api.MESSAGES).whole
    assert stream(*events, STOP, api=Api.MESSAGES).whole
    assert stream(*events, api=Api.MESSAGES).is_broken


def test_an_error_within_a_message() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    reply = stream(START, block(0, type="text", text="a"), error, api=Api.MESSAGES)
    assert (reply.kind, reply.text, reply.error, reply.whole) == (ReplyKind.MESSAGE, "a", True, False)
    assert stream(error, api=Api.MESSAGES).kind is ReplyKind.ERROR
    assert plain(error, Api.MESSAGES) == Reply(kind=ReplyKind.ERROR, error=True)


def test_a_tool_call_that_comes_at_once() -> None:
    calls = [
        block(0, type="tool_use", name="f", input={"a": 1}),
        block(1, type="tool_use", name="g", input={}),
    ]
    reply = stream(START, *calls, message_end("tool_use"), STOP)
    assert [call.arguments for call in reply.tool_calls] == ['{"a": 1}', "{}"]


@given(st.lists(st.text(min_size=1, max_size=5), max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_text_and_arguments_of_a_message_are_joined(pieces: list[str], pings: list[bool]) -> None:
    events: list[Any] = [START, block(0, type="text", text=""), block(1, type="tool_use", name="f", input={})]
    for text, ping in zip(pieces, pings, strict=False):
        events += [
            piece(0, "text_delta", text=text),
            piece(1, "input_json_delta", partial_json=text),
            *([PING] if ping else []),
        ]
    reply = stream(*events, message_end(), STOP)
    assert reply.text == "".join(pieces)
    assert reply.tool_calls[0].arguments == ("".join(pieces) or "{}")
    assert reply.content_chunks == 2 * len(pieces)


# Chat and text completions


def test_an_error_within_a_stream_that_has_an_end_mark() -> None:
    error = {"error": {"message": "EngineDeadError", "type": "InternalServerError", "code": 500}}
    reply = parse(chat_stream(["so f"], done=False) + typed(error).encode() + done().encode(), Api.CHAT, SSE)
    assert (reply.text, reply.error, reply.is_broken) == ("so f", True, True)
    assert stream(error, done(), api=Api.CHAT) == Reply(kind=ReplyKind.ERROR, error=True, streamed=True)


@pytest.mark.parametrize(
    "event",
    [
        {"object": "error", "message": "boom"},
        {"choices": [], "error": {"message": "boom"}},
        {"choices": [{"index": 0, "delta": {}, "error": {"message": "boom"}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "abort"}]},
        'event: error\ndata: {"message": "boom"}\n\n',
        'event:error\r\ndata: {"message": "boom"}\r\n\r\n'.replace("\r", ""),
    ],
)
def test_other_ways_to_report_an_error_within_a_stream(event: Any) -> None:
    text = {"choices": [{"index": 0, "delta": {"content": "a"}}]}
    assert stream(text, event, done(), api=Api.CHAT).error


def test_text_that_looks_like_an_error_is_none() -> None:
    text = {"choices": [{"index": 0, "delta": {"content": '\nevent: error\ndata: {"error": 1}\n'}}]}
    assert not stream(text, done(), api=Api.CHAT).error


def test_only_an_end_mark_is_an_empty_answer() -> None:
    for api, kind in ((Api.CHAT, ReplyKind.CHAT), (Api.COMPLETIONS, ReplyKind.COMPLETION)):
        reply = stream(done(), api=api)
        assert (reply.kind, reply.text, reply.whole, reply.unread) == (kind, "", True, None)
    for api in (Api.RESPONSES, Api.MESSAGES, Api.TRANSCRIPTION):
        assert not stream(done(), api=api).whole, "its streams have another end mark"
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 0}}
    reply = stream(usage, done(), api=Api.CHAT)
    assert (reply.kind, reply.text, reply.whole, reply.prompt_tokens) == (ReplyKind.CHAT, "", True, 3)


@pytest.mark.parametrize("api", [Api.CHAT, Api.COMPLETIONS, Api.RESPONSES, Api.MESSAGES, Api.TRANSCRIPTION])
def test_a_stream_without_events_is_a_broken_answer(api: Api) -> None:
    reply = parse(b": ping\n\n: ping\n\n", api, SSE)
    assert (reply.unread, reply.text, reply.is_answer, reply.is_broken) == (None, "", True, True)


def test_a_stream_without_an_end_is_not_whole() -> None:
    assert parse(chat_stream(["a", "b"], done=False), Api.CHAT, SSE).is_broken
    role = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
    reply = stream(role, ": ping\n\n", api=Api.CHAT)
    assert (reply.whole, reply.content_chunks) == (False, 0)


def test_finish_reasons_are_no_end_mark() -> None:
    ends = [{"choices": [{"index": i, "delta": {"content": "x"}, "finish_reason": "stop"}]} for i in (0, 1)]
    assert stream(*ends, "data: [DONE]\n\n", api=Api.CHAT).whole
    assert stream(*ends, api=Api.CHAT).text == "x\fx"
    assert stream(*ends, api=Api.CHAT).is_broken


def test_a_stream_with_an_event_that_is_no_json_is_broken() -> None:
    event = {"choices": [{"index": 0, "delta": {"content": "x"}}]}
    reply = stream(event, 'data: {"choices": [{"ind\n\n', event, "data: [DONE]\n\n", api=Api.CHAT)
    assert (reply.text, reply.whole, reply.is_broken) == ("xx", False, True)


def test_an_empty_ranking_is_no_answer() -> None:
    assert plain({"id": "r", "model": "m", "results": []}, Api.RERANK).unread is UnreadReason.UNKNOWN_FORMAT


@pytest.mark.parametrize("error", [{"message": "no such model"}, "no such model"])
def test_an_error_with_status_200(error: Any) -> None:
    for api in Api:
        assert plain({"error": error}, api) == Reply(kind=ReplyKind.ERROR, error=True)
    assert plain({"choices": [], "error": error}, Api.CHAT).error


def test_content_in_parts_and_transcripts_of_audio() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "yes"},
    ]
    reply = plain({"choices": [{"message": {"content": parts}}]}, Api.CHAT)
    assert (reply.text, reply.reasoning) == ("yes", "hm")
    audio = {"id": "a", "data": "AAAA" * 1000, "transcript": "spoken"}
    assert plain({"choices": [{"message": {"content": None, "audio": audio}}]}, Api.CHAT).text == "spoken"
    chunk = {"choices": [{"index": 0, "delta": {"audio": {"data": "AAAA" * 1000}}}]}
    assert stream(chunk, chunk, done(), api=Api.CHAT).content_chunks == 0


def test_a_legacy_function_call() -> None:
    call = {"name": "f", "arguments": "{}"}
    reply = plain({"choices": [{"message": {"content": None, "function_call": call}}]}, Api.CHAT)
    assert reply.tool_calls == (ToolCall(name="f", arguments="{}"),)


# Responses


def response(kind: str, **fields: Any) -> dict[str, Any]:
    status = kind.removeprefix("response.")
    usage = {"input_tokens": 11, "output_tokens": 4, "input_tokens_details": {"cached_tokens": 10}}
    return {
        "type": kind,
        "response": {"object": "response", "status": status, "error": None, "usage": usage, **fields},
    }


def text_delta(text: str) -> dict[str, Any]:
    return {"type": "response.output_text.delta", "output_index": 0, "delta": text}


@pytest.mark.parametrize(
    ("kind", "fields", "finish", "error"),
    [
        ("response.completed", {}, "stop", False),
        ("response.incomplete", {"incomplete_details": {"reason": "max_output_tokens"}}, "length", False),
        (
            "response.incomplete",
            {"incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            False,
        ),
        ("response.failed", {"error": {"code": "server_error"}}, "error", True),
    ],
)
def test_the_last_event_of_a_response(kind: str, fields: Any, finish: str, error: bool) -> None:
    reply = stream(text_delta("hi"), response(kind, **fields), api=Api.RESPONSES)
    assert (reply.finish_reason, reply.error, reply.whole) == (finish, error, True)
    assert (reply.prompt_tokens, reply.completion_tokens, reply.content_chunks) == (11, 4, 1)


def test_a_last_event_without_a_response_object() -> None:
    reply = stream(text_delta("hi"), {"type": "response.failed"}, api=Api.RESPONSES)
    assert (reply.error, reply.finish_reason) == (True, "error")


@pytest.mark.parametrize("before", [[], [text_delta("hi")]])
def test_an_error_event_of_a_response(before: list[Any]) -> None:
    error = {"type": "error", "code": "server_error", "message": "boom", "param": None}
    assert stream(*before, error, api=Api.RESPONSES).error


def test_a_response_that_stops_is_not_whole() -> None:
    assert stream(text_delta("hi"), api=Api.RESPONSES).is_broken
    assert stream(text_delta("hi"), done(), api=Api.RESPONSES).is_broken


def test_a_response_without_deltas_has_the_text_of_its_last_event() -> None:
    output = [{"type": "message", "content": [{"type": "output_text", "text": "hi"}]}]
    reply = stream({"type": "response.created"}, response("response.completed", output=output))
    assert (reply.text, reply.content_chunks, reply.whole) == ("hi", None, True)
    reply = stream(text_delta("hi"), response("response.completed", output=output))
    assert reply.text == "hi"


def test_a_null_error_of_a_response_is_none() -> None:
    value: dict[str, Any] = {"object": "response", "status": "completed", "error": None, "output": []}
    reply = plain(value, Api.RESPONSES)
    assert (reply.kind, reply.error, reply.whole) == (ReplyKind.RESPONSE, False, True)


def test_text_without_deltas_is_not_estimated() -> None:
    """Zero events with text would be counted as zero tokens."""
    assert stream(START, block(0, type="text", text="hi"), message_end(), STOP).content_chunks is None
    assert stream(START, block(0, type="text", text=""), message_end(), STOP).content_chunks == 0
    end = {"type": "transcript.text.done", "text": "hi"}
    assert stream(end).content_chunks is None
    assert stream({**end, "text": ""}).content_chunks == 0


def test_audio_of_a_response_is_no_text() -> None:
    audio = {"type": "response.audio.delta", "output_index": 0, "delta": "AAAA" * 100}
    reply = stream(audio, audio, response("response.completed"), api=Api.RESPONSES)
    assert (reply.text, reply.content_chunks) == ("", 0)


def test_a_custom_tool_call_has_its_text_as_a_json_object() -> None:
    item = {"type": "custom_tool_call", "name": "run", "input": 'print("a")'}
    expected = (ToolCall(name="run", arguments='{"input":"print(\\"a\\")"}'),)
    value = {"object": "response", "status": "completed", "output": [item]}
    assert plain(value, Api.RESPONSES).tool_calls == expected
    added = {"type": "response.output_item.added", "output_index": 0, "item": {**item, "input": ""}}
    delta = {"type": "response.custom_tool_call_input.delta", "output_index": 0, "delta": 'print("a")'}
    assert stream(added, delta, response("response.completed")).tool_calls == expected


# Numbers


def floats(*values: float) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def embedding_list(*embeddings: Any, **fields: Any) -> dict[str, Any]:
    data = [{"object": "embedding", "index": i, "embedding": one} for i, one in enumerate(embeddings)]
    return {"object": "list", "data": data, "usage": {"prompt_tokens": 8, "total_tokens": 8}, **fields}


def test_embeddings_as_lists_and_as_base64_are_equal() -> None:
    lists = plain(embedding_list([0.25, -1, 2.5], [1.0, 0.0, 0.0]), Api.EMBEDDINGS)
    encoded = [b64encode(floats(*one)).decode() for one in ([0.25, -1.0, 2.5], [1.0, 0.0, 0.0])]
    assert plain(embedding_list(*encoded), Api.EMBEDDINGS) == lists
    assert lists == Reply(
        kind=ReplyKind.EMBEDDINGS,
        vectors=(floats(0.25, -1.0, 2.5), floats(1.0, 0.0, 0.0)),
        prompt_tokens=8,
    )


def test_embeddings_are_ordered_by_index() -> None:
    value = embedding_list([1.0], [2.0])
    value["data"].reverse()
    assert plain(value, Api.EMBEDDINGS).vectors == (floats(1.0), floats(2.0))


@pytest.mark.parametrize(
    "bad", [[], [None], ["x"], "", "!", "AAA=", 3, None, [1e300], {"float": [1.0]}, [[1.0]], "\ud800"]
)
def test_an_embedding_that_is_no_vector_cannot_be_read(bad: Any) -> None:
    assert plain(embedding_list([1.0], bad), Api.EMBEDDINGS).unread is UnreadReason.UNKNOWN_FORMAT


@pytest.mark.parametrize(
    "value", [{"data": []}, {"data": [{"index": 0}]}, embedding_list([1.0]) | {"data": 1}]
)
def test_a_list_without_embeddings_cannot_be_read(value: Any) -> None:
    assert plain(value, Api.EMBEDDINGS).unread is UnreadReason.UNKNOWN_FORMAT


def test_two_embeddings_of_one_input_cannot_be_read() -> None:
    value = embedding_list([1.0], [2.0])
    value["data"][1]["index"] = 0
    assert plain(value, Api.EMBEDDINGS).unread is UnreadReason.UNKNOWN_FORMAT


def test_rankings() -> None:
    results = [
        {"index": 2, "relevance_score": 0.9, "document": {"text": "x"}},
        {"index": 0, "relevance_score": 1},
    ]
    reply = plain({"results": results, "usage": {"total_tokens": 40}}, Api.RERANK)
    assert reply == Reply(kind=ReplyKind.RANKING, scores=((2, 0.9), (0, 1.0)), prompt_tokens=40)
    assert plain([{"index": 1, "score": 0.5}], Api.RERANK).scores == ((1, 0.5),)
    assert plain({"results": results}).kind is ReplyKind.RANKING


def test_scores() -> None:
    data = [{"index": 1, "object": "score", "score": 0.5}, {"index": 0, "object": "score", "score": 2}]
    reply = plain({"data": data, "usage": {"prompt_tokens": 6, "total_tokens": 6}}, Api.SCORE)
    assert reply == Reply(kind=ReplyKind.SCORES, scores=((0, 2.0), (1, 0.5)), prompt_tokens=6)


@pytest.mark.parametrize("score", [None, "1", True, math.nan, math.inf, 10**400, [1]])
@pytest.mark.parametrize("index", [0, -1, True, "0", 1.5, 1 << 40])
def test_a_result_that_is_no_score_cannot_be_read(score: Any, index: Any) -> None:
    ranking = {"results": [{"index": index, "relevance_score": score}]}
    assert plain(ranking, Api.RERANK).unread is UnreadReason.UNKNOWN_FORMAT
    assert (
        plain({"data": [{"index": index, "score": score}]}, Api.SCORE).unread is UnreadReason.UNKNOWN_FORMAT
    )


# Transcripts


def test_a_transcript_as_json() -> None:
    usage = {"type": "tokens", "input_tokens": 14, "output_tokens": 3}
    verbose = {"task": "transcribe", "language": "en", "duration": 2.5, "text": "Hi.", "segments": []}
    assert plain({"text": "Hi.", "usage": usage}, Api.TRANSCRIPTION) == Reply(
        kind=ReplyKind.TRANSCRIPT, text="Hi.", prompt_tokens=14, completion_tokens=3
    )
    seconds = {"type": "duration", "seconds": 3}
    for value in (verbose, {"text": "Hi.", "usage": seconds}, "Hi."):
        assert plain(value, Api.TRANSCRIPTION) == Reply(kind=ReplyKind.TRANSCRIPT, text="Hi.")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain; charset=utf-8", "Hi there.\nGrüße."),
        (
            "text/plain",
            "1\n00:00:00,000 --> 00:00:02,500\nHi there.\n\n2\n00:00:03,000 --> 00:00:04,000\nGrüße.",
        ),
        ("text/vtt", "WEBVTT\n\n00:00.000 --> 00:02.500\nHi there.\n\n00:03.000 --> 00:04.000\nGrüße.\n"),
        ("application/x-subrip", "1\r\n00:00:00,000 --> 00:00:02,500\r\nHi there.\r\nGrüße.\r\n"),
    ],
)
def test_a_transcript_as_text(content_type: str, body: str) -> None:
    reply = parse(body.encode(), Api.TRANSCRIPTION, content_type)
    assert (reply.kind, reply.text.split()) == (ReplyKind.TRANSCRIPT, ["Hi", "there.", "Grüße."])


def test_a_streamed_transcript() -> None:
    deltas = [{"type": "transcript.text.delta", "delta": text} for text in ("Hi ", "there.")]
    end = {
        "type": "transcript.text.done",
        "text": "Hi there.",
        "usage": {"input_tokens": 14, "output_tokens": 3},
    }
    reply = stream(*deltas, end, api=Api.TRANSCRIPTION)
    assert (reply.text, reply.content_chunks, reply.whole, reply.completion_tokens) == (
        "Hi there.",
        2,
        True,
        3,
    )
    assert stream(*deltas, api=Api.TRANSCRIPTION).is_broken


def test_a_transcript_that_is_streamed_like_chat() -> None:
    reply = parse(chat_stream(["Hi ", "there."]), Api.TRANSCRIPTION, SSE)
    assert (reply.kind, reply.text, reply.whole) == (ReplyKind.TRANSCRIPT, "Hi there.", True)


# What cannot be read

CHAT_LIKE = (Api.CHAT, Api.COMPLETIONS, Api.RESPONSES, Api.MESSAGES)
READ = [api for api in Api if api not in (Api.OTHER, Api.SPEECH, Api.IMAGES)]


@pytest.mark.parametrize("api", [api for api in Api if api is not Api.OTHER])
@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (HTML, "text/html"),
        (HTML, JSON),
        (b'{"detail": "Not Found"}', JSON),
        (b'{"choices": [', JSON),
        (b"null", JSON),
        (b"upstream connect error", "application/problem"),
    ],
)
def test_rubbish_is_no_answer_of_any_api(api: Api, body: bytes, content_type: str) -> None:
    reply = parse(body, api, content_type)
    assert reply.unread is UnreadReason.UNKNOWN_FORMAT
    assert reply.unread.is_defect


@pytest.mark.parametrize("api", READ)
def test_an_answer_of_another_api_is_no_answer(api: Api) -> None:
    bodies: dict[Api, Any] = {
        Api.CHAT: json.loads(chat_json("x")),
        Api.COMPLETIONS: {"choices": [{"text": "x", "finish_reason": "stop"}]},
        Api.RESPONSES: {"object": "response", "status": "completed", "output": []},
        Api.MESSAGES: {"type": "message", "content": [], "stop_reason": "end_turn"},
        Api.EMBEDDINGS: embedding_list([1.0]),
        Api.RERANK: {"results": [{"index": 0, "relevance_score": 1.0}]},
        Api.SCORE: {"data": [{"index": 0, "object": "score", "score": 1.0}]},
        Api.TRANSCRIPTION: {"text": "x"},
        Api.MODERATIONS: {"results": [{"flagged": False, "categories": {}, "category_scores": {}}]},
        Api.MODELS: {"object": "list", "data": [{"id": "m", "object": "model"}]},
    }
    documents = {Api.MODERATIONS, Api.MODELS}
    assert set(bodies) == set(READ)
    for other, body in bodies.items():
        expected = None if other is api or {other, api} <= documents else UnreadReason.UNKNOWN_FORMAT
        assert plain(body, api).unread is expected, other
        reply = plain(body)
        if other is not Api.TRANSCRIPTION:
            assert (reply.unread, reply.kind) == (None, plain(body, other).kind)
            if other not in documents:
                assert api_of_answer("/proxy", reply) is other, "without a path, the shape decides"
    assert api_of_answer("/v1/score", plain(bodies[Api.CHAT])) is Api.SCORE


def test_an_unknown_api_is_no_defect() -> None:
    for body, content_type in ((HTML, "text/html"), (b'{"input_tokens": 5}', JSON), (b"x", "")):
        reply = parse(body, Api.OTHER, content_type)
        assert (reply.kind, reply.unread) == (ReplyKind.OPAQUE, UnreadReason.UNKNOWN_API)
        assert reply.unread is not None
        assert not reply.unread.is_defect


@pytest.mark.parametrize(
    ("api", "body", "content_type"),
    [
        (Api.SPEECH, b"ID3\0", "audio/mpeg"),
        (Api.SPEECH, b"\0\1", "application/octet-stream"),
        (Api.SPEECH, b'data: {"type": "speech.audio.delta", "audio": "AA"}\n\n', SSE),
        (Api.IMAGES, b'{"created": 1, "data": [{"b64_json": "AA"}]}', JSON),
        (Api.IMAGES, b'data: {"type": "image_generation.partial_image", "b64_json": "AA"}\n\n', SSE),
        (Api.OTHER, b"\x89PNG", "image/png"),
    ],
)
def test_audio_and_images_are_binary(api: Api, body: bytes, content_type: str) -> None:
    reply = parse(body, api, content_type)
    assert (reply.unread, reply.content_chunks, reply.completion_tokens) == (UnreadReason.BINARY, None, None)
    assert not UnreadReason.BINARY.is_defect


def test_audio_where_text_belongs_is_a_defect() -> None:
    assert parse(b"ID3\0", Api.CHAT, "audio/mpeg").unread is UnreadReason.UNKNOWN_FORMAT


def test_a_missing_body() -> None:
    assert parse(b"", Api.CHAT) == Reply(kind=ReplyKind.EMPTY, unread=UnreadReason.MISSING)
    assert parse(b"") == Reply(kind=ReplyKind.EMPTY)


def test_a_body_above_the_capture_limit_is_truncated() -> None:
    data = chat_stream(["one", " two"])
    for content_type, body in ((SSE, data[:-30]), (JSON, chat_json("x")[:-5])):
        reply = read_reply(Body(data=body, total=1 << 20, content_type=content_type), Api.CHAT)
        assert reply.unread is UnreadReason.TRUNCATED
    assert not UnreadReason.TRUNCATED.is_defect


def test_a_stream_that_did_not_end_is_read_as_far_as_it_came() -> None:
    reply = read_reply(Body(data=chat_stream(["one"], done=False), content_type=SSE), Api.CHAT)
    assert (reply.unread, reply.text, reply.whole) == (None, "one", False)
    reply = read_reply(Body(data=chat_json("x")[:-5], content_type=JSON), Api.CHAT)
    assert reply.unread is UnreadReason.TRUNCATED


@pytest.mark.parametrize(("encoding", "pack"), [("gzip", gzip.compress), ("br", brotli.compress)])
def test_encoded_answers(encoding: str, pack: Any) -> None:
    packed = pack(chat_json("x"))
    assert parse(packed, Api.CHAT, encoding=encoding) == plain(json.loads(chat_json("x")), Api.CHAT)
    assert parse(packed[:-4], Api.CHAT, encoding=encoding).unread is UnreadReason.CORRUPT
    assert parse(chat_json("x"), Api.CHAT, encoding=encoding).unread is UnreadReason.CORRUPT
    assert parse(packed, Api.CHAT, encoding="compress").unread is UnreadReason.ENCODING
    assert parse(packed, Api.CHAT).unread is UnreadReason.UNKNOWN_FORMAT, "a client cannot read it either"
    assert parse(pack(bytes(8 << 20)), Api.CHAT, encoding=encoding).unread is UnreadReason.TOO_LARGE
    truncated = Body(data=packed[:-9], total=len(packed), content_type=JSON, content_encoding=encoding)
    assert read_reply(truncated, Api.CHAT).unread is UnreadReason.TRUNCATED


def test_a_stream_of_too_many_events_is_too_large() -> None:
    event = b'data: {"choices":[]}\n\n'
    assert parse(event * 50_000, Api.CHAT, SSE).unread is UnreadReason.TOO_LARGE
    assert parse(event * 40_000 + done().encode(), Api.CHAT, SSE).unread is None


# All of it

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "type",
                        "message",
                        "content",
                        "content_block",
                        "delta",
                        "index",
                        "usage",
                        "text",
                        "thinking",
                    ),
                    *(
                        "name",
                        "input",
                        "partial_json",
                        "stop_reason",
                        "data",
                        "embedding",
                        "results",
                        "score",
                    ),
                    *(
                        "relevance_score",
                        "object",
                        "response",
                        "output",
                        "error",
                        "choices",
                        "status",
                        "item",
                    ),
                ]
            ),
            inner
            | st.sampled_from(
                [
                    *(
                        "message",
                        "text",
                        "tool_use",
                        "text_delta",
                        "input_json_delta",
                        "message_start",
                        "error",
                    ),
                    *("message_delta", "content_block_start", "content_block_delta", "transcript.text.done"),
                    *(
                        "response",
                        "response.completed",
                        "response.output_item.added",
                        "function_call",
                        "score",
                    ),
                ]
            ),
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(st.lists(JSON_VALUES, min_size=1, max_size=4), st.sampled_from(Api))
def test_any_json_yields_a_reply_that_can_be_stored(values: list[Any], api: Api) -> None:
    replies = [plain(values[0], api), stream(*(f"data: {json.dumps(one)}\n\n" for one in values), api=api)]
    for reply in replies:
        assert Reply.from_json(json.loads(json.dumps(reply.to_json()))) == reply
        assert (reply.kind is ReplyKind.OPAQUE) <= (reply.unread is not None)


@given(
    st.binary(max_size=200),
    st.sampled_from([SSE, JSON, "text/plain", "audio/wav", ""]),
    st.sampled_from(["", "gzip", "br", "zstd"]),
    st.sampled_from(Api),
)
def test_any_bytes_yield_a_reply(data: bytes, content_type: str, encoding: str, api: Api) -> None:
    assert isinstance(parse(data, api, content_type, encoding), Reply)


def test_a_reply_stored_by_an_earlier_release() -> None:
    stored = {
        "kind": "chat",
        "text": "hi",
        "tool_calls": [["f", "{}"]],
        "streamed": True,
        "content_chunks": 3,
    }
    assert Reply.from_json(stored) == Reply(
        kind=ReplyKind.CHAT,
        text="hi",
        tool_calls=(ToolCall(name="f", arguments="{}"),),
        streamed=True,
        content_chunks=3,
    )
