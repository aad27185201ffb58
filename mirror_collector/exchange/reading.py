"""Reading of response bodies: `read_reply` is the only function that turns a `Body` into a `Reply`.

The API of the request decides what a body must be. A body of another shape is unread, with a reason, because
a client of that API cannot read it either. Without a known API, the shape alone decides. Every input yields
a `Reply`; input that cannot be parsed, such as invalid JSON or excessive nesting, yields an unread one.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from mirror_collector.exchange.api import KINDS, Api
from mirror_collector.exchange.completions import CompletionBuilder
from mirror_collector.exchange.encoding import decode
from mirror_collector.exchange.json_text import load_json
from mirror_collector.exchange.messages import MessageBuilder
from mirror_collector.exchange.numeric import read_embeddings, read_ranking, read_scores
from mirror_collector.exchange.reply import Reply, ReplyKind
from mirror_collector.exchange.responses import ResponseBuilder
from mirror_collector.exchange.streams import read_stream
from mirror_collector.exchange.transcripts import transcript_of_json, transcript_of_text
from mirror_collector.exchange.unread import UnreadReason

if TYPE_CHECKING:
    from mirror_collector.exchange.model import Body

__all__ = ["read_reply"]

_MAX_DECODED: Final = 4 << 20
_SUBTITLES: Final = frozenset({"application/x-subrip", "application/srt"})
_BINARY: Final = ("audio/", "image/", "video/", "application/octet-stream")
_VOLATILE: Final = frozenset({"id", "created", "permission", "model", "root", "parent"})
"""Fields of documents that differ in every answer, or that name the model."""


def read_reply(body: Body, api: Api = Api.OTHER) -> Reply:
    """Parse the answer in a response body; never raises.

    Args:
        body: the body, as captured.
        api: the API of the request. Bodies of errors (status 400 and above) are no answers of the API, and
            are unread unless they are JSON objects with an error.
    """
    if not body.data:
        known = api is not Api.OTHER and body.total is not None
        return Reply(kind=ReplyKind.EMPTY, unread=UnreadReason.MISSING if known else None)
    decoded = decode(body.data, body.content_encoding, limit=_MAX_DECODED)
    if not decoded.ok:
        return _opaque(decoded.failure)
    reply = _read(decoded.data, body.content_type.partition(";")[0].strip().lower(), api)
    if decoded.failure is not None:
        return replace(reply, unread=decoded.failure)
    if body.truncated or (body.total is None and reply.unread is UnreadReason.UNKNOWN_FORMAT):
        return replace(reply, unread=UnreadReason.TRUNCATED)
    if body.total is not None and not decoded.complete:
        return replace(reply, unread=UnreadReason.CORRUPT)
    return reply


def _opaque(reason: UnreadReason | None) -> Reply:
    return Reply(kind=ReplyKind.OPAQUE, unread=reason)


def _unknown(api: Api) -> Reply:
    return _opaque(UnreadReason.UNKNOWN_API if api is Api.OTHER else UnreadReason.UNKNOWN_FORMAT)


def _read(data: bytes, media_type: str, api: Api) -> Reply:
    if media_type == "text/event-stream":
        reply = read_stream(data, api)
        if reply is None and api in (Api.IMAGES, Api.SPEECH):
            return _opaque(UnreadReason.BINARY)
        return _checked(reply, api)
    if media_type == "application/json" or media_type.endswith("+json"):
        return _checked(_read_json(load_json(data), api), api)
    if media_type.startswith(_BINARY):
        return _opaque(UnreadReason.BINARY) if api in (Api.OTHER, Api.SPEECH) else _unknown(api)
    if api is Api.TRANSCRIPTION and (media_type in _SUBTITLES or media_type in ("text/plain", "text/vtt")):
        return transcript_of_text(data.decode("utf-8", "replace"))
    return _unknown(api)


def _checked(reply: Reply | None, api: Api) -> Reply:
    """Return `reply` if it is unread, an error, or of the kind that the API has; else an unread reply."""
    if reply is None:
        return _unknown(api)
    fits = api is Api.OTHER or reply.kind is ReplyKind.ERROR or reply.kind is KINDS.get(api)
    return reply if fits or reply.unread is not None else _unknown(api)


def _read_json(value: Any, api: Api) -> Reply | None:
    """Return the answer in a JSON value; None if it has no known shape."""
    match value:
        case {"choices": [*_]}:
            return _completion(value, api)
        case {"type": "message", "content": [*_]}:
            message = MessageBuilder()
            message.add_message(value)
            return message.build(streamed=False, error=bool(value.get("error")))
        case {"object": "response"}:
            response = ResponseBuilder()
            response.add_response(value)
            return response.build(streamed=False)
        case {"error": error} if error:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case {"object": "error"} | {"type": "error"}:
            return Reply(kind=ReplyKind.ERROR, error=True)
        case _:
            return _read_other(value, api)


def _completion(value: dict[str, Any], api: Api) -> Reply:
    completion = CompletionBuilder()
    for choice in value["choices"]:
        completion.add_choice(choice, key="message")
    completion.add_usage(value.get("usage"))
    return completion.build(streamed=False, whole=True, error=bool(value.get("error")), chat=api is Api.CHAT)


_READERS: Final = {
    Api.TRANSCRIPTION: transcript_of_json,
    Api.RERANK: read_ranking,
    Api.SCORE: read_scores,
}
"""Readers of the APIs whose answers cannot be recognized by their shape."""


def _read_other(value: Any, api: Api) -> Reply | None:
    """Return the answer in a JSON value of an API that generates no text; None if it has no known shape."""
    if api in _READERS:
        return _READERS[api](value)
    match value:
        case {"data": [{"embedding": _}, *_]}:
            return read_embeddings(value)
        case {"results": [{"relevance_score": _}, *_]}:
            return read_ranking(value)
        case {"data": [{"object": "score"}, *_]}:
            return read_scores(value)
        case {"results": [{"categories": _} | {"flagged": _}, *_]}:
            return _document(value)
        case {"data": [{"object": "model"}, *_]} | {"object": "model"}:
            return _document(value)
        case {"data": []} if api is Api.MODELS:
            return _document(value)
        case {"data": [*_]} if api is Api.IMAGES:
            return _opaque(UnreadReason.BINARY)
        case _:
            return None


def _document(value: Any) -> Reply | None:
    try:
        text = json.dumps(_stable(value), sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return None
    return Reply(kind=ReplyKind.DOCUMENT, document=text)


def _stable(value: Any) -> Any:
    """Return a JSON value without its volatile fields."""
    if isinstance(value, dict):
        return {name: _stable(item) for name, item in value.items() if name not in _VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value
