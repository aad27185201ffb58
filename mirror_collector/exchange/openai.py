"""Parsing of response bodies of OpenAI-compatible endpoints.

Supports chat completions, text completions and responses, plain and streamed, as vLLM sends them. Any other
body is opaque and can only be compared by its bytes. Every input yields a `Reply`: invalid JSON, invalid
UTF-8, excessive nesting and absurd numbers result in an opaque reply.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.exchange.completions import CompletionBuilder
from mirror_collector.exchange.encoding import decode
from mirror_collector.exchange.reply import Reply, ReplyKind
from mirror_collector.exchange.responses import ResponseBuilder
from mirror_collector.exchange.sse import event_data

if TYPE_CHECKING:
    from mirror_collector.exchange.model import Body

__all__ = ["read_reply"]

_MAX_DECODED: Final = 4 << 20
_MAX_EVENTS: Final = 50_000
_EMPTY: Final = Reply(kind=ReplyKind.EMPTY)
_OPAQUE: Final = Reply(kind=ReplyKind.OPAQUE)


def read_reply(body: Body) -> Reply:
    """Parse the answer in a response body; never raises."""
    if not body.data:
        return _EMPTY
    media_type = body.content_type.partition(";")[0].strip().lower()
    decoded = decode(body.data, body.content_encoding, limit=_MAX_DECODED)
    if not decoded.ok:
        return _OPAQUE
    if media_type == "text/event-stream":
        return _streamed(decoded.data)
    if media_type == "application/json" or media_type.endswith("+json"):
        return _plain(decoded.data)
    return _OPAQUE


def _plain(data: bytes) -> Reply:
    match _json(data):
        case {"choices": [*choices], **rest}:
            completion = CompletionBuilder()
            for choice in choices:
                completion.add_choice(choice, key="message")
            completion.add_usage(rest.get("usage"))
            return completion.build(streamed=False, whole=True)
        case {"object": "response"} as value:
            response = ResponseBuilder()
            response.add_response(value)
            return response.build(streamed=False)
        case {"error": error} if error:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case {"object": "error"}:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case _:
            return _OPAQUE


def _streamed(data: bytes) -> Reply:
    completion, response = CompletionBuilder(), ResponseBuilder()
    done = failed = False
    for text in event_data(data, limit=_MAX_EVENTS):
        event = text.strip()
        if event == b"[DONE]":
            done = True
            break
        value = _json(event) if event[:1] == b"{" else None
        if not isinstance(value, dict):
            # A comment, a ping, or an event that the end of a truncated stream cut off.
            continue
        choices, kind = value.get("choices"), value.get("type")
        if isinstance(choices, list):
            completion.add_event(choices, value.get("usage"))
        elif isinstance(kind, str) and _is_response_event(kind, response):
            response.add_event(kind, value)
        elif value.get("error"):
            failed = True
    if response.seen:
        return response.build(streamed=True)
    if not completion.seen:
        return Reply(kind=ReplyKind.ERROR, error=True, streamed=True) if failed else _OPAQUE
    return completion.build(streamed=True, whole=done or completion.finished, error=failed)


def _is_response_event(kind: str, response: ResponseBuilder) -> bool:
    return kind.startswith("response.") or (kind == "error" and response.seen)


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    try:
        # Slower, but accepts what orjson does not: lone surrogates, NaN, and invalid UTF-8 within strings.
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
