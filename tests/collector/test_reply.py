"""Parsing of response bodies into replies."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror_collector.exchange import Body, Reply, ReplyKind, ToolCall, read_reply
from mirror_collector.exchange.encoding import decode
from mirror_collector.exchange.sse import event_data
from tests.collector.builders import chat_json, chat_stream

SSE = "text/event-stream; charset=utf-8"


def parse(data: bytes, content_type: str = "application/json", encoding: str = "") -> Reply:
    return read_reply(Body(data=data, total=len(data), content_type=content_type, content_encoding=encoding))


def stream(*event_data: Any, end: str = "\n\n") -> bytes:
    return "".join(
        f"data: {one if isinstance(one, str) else json.dumps(one)}{end}" for one in event_data
    ).encode()


def delta(**content: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": content}]}


def test_a_plain_chat_answer() -> None:
    assert parse(chat_json("Grüße", tokens=5, finish="length"), "Application/JSON; charset=utf-8") == Reply(
        kind=ReplyKind.CHAT, text="Grüße", finish_reason="length", prompt_tokens=7, completion_tokens=5
    )


def test_a_plain_text_completion() -> None:
    body = {"choices": [{"index": 0, "text": "once upon", "finish_reason": "stop"}]}
    reply = parse(json.dumps(body).encode())
    assert (reply.kind, reply.text, reply.completion_tokens) == (ReplyKind.COMPLETION, "once upon", None)


def test_choices_are_ordered_by_index() -> None:
    choices = [{"index": 1, "text": "b"}, {"index": 0, "text": "a"}]
    assert parse(json.dumps({"choices": choices}).encode()).text == "a\fb"


def test_tool_calls_of_a_plain_answer() -> None:
    calls = [{"type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}]
    message = {"content": None, "tool_calls": calls}
    reply = parse(json.dumps({"choices": [{"message": message, "finish_reason": "tool_calls"}]}).encode())
    assert reply.tool_calls == (ToolCall(name="f", arguments='{"a":1}'),)
    assert (reply.text, reply.finish_reason) == ("", "tool_calls")


def test_a_streamed_chat_answer() -> None:
    assert parse(chat_stream(["Hel", "lo", " 東京"], tokens=4), SSE) == Reply(
        kind=ReplyKind.CHAT,
        streamed=True,
        text="Hello 東京",
        finish_reason="stop",
        prompt_tokens=7,
        completion_tokens=4,
        content_chunks=3,
    )


def test_a_streamed_text_completion() -> None:
    parts = [{"choices": [{"index": 0, "text": text}]} for text in ("a", "b")]
    reply = parse(stream(*parts, "[DONE]"), SSE)
    assert (reply.kind, reply.text, reply.content_chunks, reply.whole) == (
        ReplyKind.COMPLETION,
        "ab",
        2,
        True,
    )


def test_streamed_tool_calls_are_joined_by_index() -> None:
    body = stream(
        delta(tool_calls=[{"index": 0, "function": {"name": "weather", "arguments": ""}}]),
        delta(tool_calls=[{"index": 1, "function": {"name": "time", "arguments": "{}"}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"city":'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '"Ulm"}'}}]),
        "[DONE]",
    )
    assert parse(body, SSE).tool_calls == (
        ToolCall(name="weather", arguments='{"city":"Ulm"}'),
        ToolCall(name="time", arguments="{}"),
    )


def test_reasoning_counts_as_content_but_not_as_text() -> None:
    reply = parse(stream(delta(reasoning_content="hmm"), delta(content="yes"), "[DONE]"), SSE)
    assert (reply.text, reply.content_chunks) == ("yes", 2)


def test_a_stream_truncated_within_an_event() -> None:
    whole = chat_stream(["one", " two"], done=False)
    reply = parse(whole + b'data: {"choices":[{"delta":{"cont', SSE)
    assert (reply.text, reply.whole, reply.finish_reason) == ("one two", False, None)


def test_an_error_within_a_stream() -> None:
    reply = parse(stream(delta(content="so f"), {"error": {"message": "boom"}}, "[DONE]"), SSE)
    assert (reply.kind, reply.text, reply.error) == (ReplyKind.CHAT, "so f", True)


def test_a_body_with_only_an_error() -> None:
    plain = parse(b'{"error": {"message": "no such model", "code": 404}}')
    streamed = parse(stream({"error": {"message": "boom"}}), SSE)
    assert (plain.kind, plain.error) == (ReplyKind.ERROR, True)
    assert (streamed.kind, streamed.error) == (ReplyKind.ERROR, True)


@given(st.lists(st.text(max_size=8), max_size=6), st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"]))
def test_streamed_text_is_preserved_with_any_line_ends(pieces: list[str], end: str) -> None:
    body = stream(*(delta(content=piece) for piece in pieces), "[DONE]", end=end)
    if pieces:
        assert parse(body, SSE).text == "".join(pieces)


@given(st.integers(0, 400), st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=5))
def test_a_truncated_stream_contains_a_prefix_of_the_text(cut: int, pieces: list[str]) -> None:
    body = chat_stream(pieces, tokens=3)
    reply = parse(body[: cut % len(body)], SSE)
    assert "".join(pieces).startswith(reply.text)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data:a\ndata: b\n\n", [b"a\nb"]),
        (b": ping\n\nevent: x\ndata: a\nid: 1\n\n", [b"a"]),
        (b"\xef\xbb\xbfdata: a\r\n\r\ndata: b\r\r", [b"a", b"b"]),
        (b"database: a\n\ndata\n\n", [b""]),
        (b"data: a", [b"a"]),
        (b"data:  \xff\n\n", [b" \xff"]),
    ],
)
def test_the_event_stream_format(body: bytes, expected: list[bytes]) -> None:
    assert list(event_data(body, limit=10)) == expected


def test_the_number_of_events_is_limited() -> None:
    assert len(list(event_data(b"data: x\n\n" * 100, limit=7))) == 7


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "Deflate ", "x-gzip"])
def test_compressed_bodies(encoding: str) -> None:
    body = chat_json("hello")
    packed = gzip.compress(body) if "gzip" in encoding else zlib.compress(body)
    assert parse(packed, encoding=encoding).text == "hello"


def test_raw_deflate() -> None:
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(chat_json("hello")) + packer.flush()
    assert parse(packed, encoding="deflate").text == "hello"


def test_a_truncated_compressed_stream_is_decoded_as_far_as_possible() -> None:
    packer = zlib.compressobj(wbits=31)
    packed = packer.compress(stream(delta(content="first"))) + packer.flush(zlib.Z_SYNC_FLUSH)
    assert parse(packed, SSE, "gzip").text == "first"


def test_a_decompression_bomb_is_limited() -> None:
    bomb = gzip.compress(b"\0" * (50 << 20))
    decoded = decode(bomb, "gzip", limit=1 << 20)
    assert (len(decoded.data), decoded.complete, decoded.ok) == (1 << 20, False, True)
    assert parse(bomb, encoding="gzip").kind is ReplyKind.OPAQUE


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b'{"choices": [' + b"[" * 100_000,
        b"9" * 10_000,
        b'{"choices": "many"}',
        b"\xff\xfe\xfd",
        b"null",
        b"NaN",
    ],
)
def test_hostile_json_is_opaque(body: bytes) -> None:
    assert parse(body).kind is ReplyKind.OPAQUE
    assert parse(b"data: " + body + b"\n\n", SSE).kind is ReplyKind.OPAQUE


@pytest.mark.parametrize("tokens", [-1, 1e3, "5", True, None, 10**30, [1]])
def test_implausible_token_counts_are_ignored(tokens: Any) -> None:
    body = json.loads(chat_json("x"))
    body["usage"] = {"completion_tokens": tokens}
    assert parse(json.dumps(body).encode()).completion_tokens is None


def test_surrogate_pairs_split_between_events_are_joined() -> None:
    body = stream(delta(content="\ud83d"), delta(content="\ude00"), delta(content="\ud83d"), "[DONE]")
    assert parse(body, SSE).text == "😀\ufffd"


@pytest.mark.parametrize(
    ("content_type", "encoding"), [("text/html", ""), ("", ""), ("application/json", "br"), (SSE, "gzip")]
)
def test_other_media_types_are_opaque(content_type: str, encoding: str) -> None:
    assert parse(chat_json("x"), content_type, encoding).kind is ReplyKind.OPAQUE


def test_a_missing_body_is_empty() -> None:
    assert parse(b"").kind is ReplyKind.EMPTY


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "index", "delta", "message", "text", "content", "tool_calls", "function", "usage"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=25,
)


@given(values, st.sampled_from([SSE, "application/json"]))
def test_read_reply_never_raises_for_json(value: Any, content_type: str) -> None:
    inner = json.dumps(value)
    body = f"data: {inner}\n\ndata: {{" if content_type == SSE else inner
    assert isinstance(parse(body.encode(), content_type), Reply)


@given(
    st.binary(max_size=200),
    st.sampled_from([SSE, "application/json"]),
    st.sampled_from(["", "gzip", "deflate"]),
)
def test_read_reply_never_raises_for_bytes(body: bytes, content_type: str, encoding: str) -> None:
    assert isinstance(parse(body, content_type, encoding), Reply)
