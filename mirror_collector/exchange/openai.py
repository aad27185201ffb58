"""What a model said, from the bytes it was said in.

Understands the answers of OpenAI's chat, text completion and responses endpoints, plain and streamed, as vLLM
sends them. Anything else is opaque: it can be compared by its bytes only. Every input yields a `Reply`;
broken JSON, broken UTF-8, absurd nesting and absurd numbers are all just opaque.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.exchange.completions import Assembly
from mirror_collector.exchange.encoding import decode
from mirror_collector.exchange.reply import Reply, ReplyKind
from mirror_collector.exchange.responses import Responses
from mirror_collector.exchange.sse import events

if TYPE_CHECKING:
    from mirror_collector.exchange.model import Body

__all__ = ["read_reply"]

_MAX_DECODED: Final = 4 << 20
_MAX_EVENTS: Final = 50_000
_EMPTY: Final = Reply(kind=ReplyKind.EMPTY)
_OPAQUE: Final = Reply(kind=ReplyKind.OPAQUE)


def read_reply(body: Body) -> Reply:
    """Put an answer together; never raises."""
    if not body.data:
        return _EMPTY
    media = body.content_type.partition(";")[0].strip().lower()
    decoded = decode(body.data, body.content_encoding, limit=_MAX_DECODED)
    if not decoded.understood:
        return _OPAQUE
    if media == "text/event-stream":
        return _streamed(decoded.data)
    if media == "application/json" or media.endswith("+json"):
        return _plain(decoded.data)
    return _OPAQUE


def _plain(data: bytes) -> Reply:
    match _json(data):
        case {"choices": [*choices], **rest}:
            answer = Assembly()
            for choice in choices:
                answer.choice(choice, key="message")
            answer.usage(rest.get("usage"))
            return answer.reply(streamed=False, whole=True)
        case {"object": "response"} as response:
            found = Responses()
            found.whole_response(response)
            return found.reply(streamed=False)
        case {"error": error} if error:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case {"object": "error"}:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case _:
            return _OPAQUE


def _streamed(data: bytes) -> Reply:
    answer, responses = Assembly(), Responses()
    done = failed = False
    for text in events(data, limit=_MAX_EVENTS):
        event = text.strip()
        if event == b"[DONE]":
            done = True
            break
        value = _json(event) if event[:1] == b"{" else None
        if not isinstance(value, dict):
            # Comments, pings and the piece a cut stream breaks off in.
            continue
        choices, kind = value.get("choices"), value.get("type")
        if isinstance(choices, list):
            answer.event(choices, value.get("usage"))
        elif isinstance(kind, str) and _of_responses(kind, responses):
            responses.event(kind, value)
        elif value.get("error"):
            failed = True
    if responses.seen:
        return responses.reply(streamed=True)
    if not answer.seen:
        return Reply(kind=ReplyKind.ERROR, error=True, streamed=True) if failed else _OPAQUE
    return answer.reply(streamed=True, whole=done or answer.finished, error=failed)


def _of_responses(kind: str, responses: Responses) -> bool:
    return kind.startswith("response.") or (kind == "error" and responses.seen)


def _json(data: bytes) -> Any:
    try:
        return orjson.loads(data)
    except ValueError:
        pass
    try:
        # Slower, and takes what is almost JSON: halves of surrogate pairs, NaN, broken UTF-8 in a text.
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
