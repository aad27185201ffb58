"""Reading of answers that are streams of server-sent events.

The shape of an event decides to which API it belongs. A stream with events of several APIs is read by the API
of the request, if any of the events belongs to that API.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mirror_collector.exchange.api import KINDS, Api
from mirror_collector.exchange.completions import CompletionBuilder
from mirror_collector.exchange.json_text import load_json
from mirror_collector.exchange.messages import MESSAGE_EVENTS, MessageBuilder
from mirror_collector.exchange.reply import Reply, ReplyKind
from mirror_collector.exchange.responses import ResponseBuilder
from mirror_collector.exchange.sse import event_data
from mirror_collector.exchange.transcripts import TRANSCRIPT_EVENTS, TranscriptBuilder
from mirror_collector.exchange.unread import UnreadReason

__all__ = ["read_stream"]

_MAX_EVENTS: Final = 50_000
_ERROR_EVENT: Final = re.compile(rb"^event: ?error[ \t]*$", re.MULTILINE)
"""Matches a line that names an event `error`. Data cannot contain such a line: JSON escapes line breaks."""

_ENDED_BY_MARK: Final = frozenset({Api.CHAT, Api.COMPLETIONS, Api.OTHER})
"""APIs whose streams end with ``[DONE]``; streams of other APIs end with an event of their API."""


@dataclass(slots=True)
class _Stream:
    """What was read of a stream."""

    completion: CompletionBuilder = field(default_factory=CompletionBuilder)
    response: ResponseBuilder = field(default_factory=ResponseBuilder)
    message: MessageBuilder = field(default_factory=MessageBuilder)
    transcript: TranscriptBuilder = field(default_factory=TranscriptBuilder)
    done: bool = False
    """Whether the stream has the end mark ``[DONE]``."""

    failed: bool = False
    """Whether an event reports an error."""

    broken: bool = False
    """Whether an event is no JSON, so that clients fail on it."""

    unknown: int = 0
    """Number of events of no known shape."""

    def add(self, value: Any) -> None:
        """Add the data of one event."""
        if not isinstance(value, dict):
            self.unknown += 1
            return
        choices, kind = value.get("choices"), value.get("type")
        if isinstance(choices, list):
            self.completion.add_event(choices, value.get("usage"))
            self.failed = self.failed or bool(value.get("error"))
        elif isinstance(kind, str):
            self._add_typed(kind, value)
        elif value.get("error") or value.get("object") == "error":
            self.failed = True
        else:
            self.unknown += 1

    def _add_typed(self, kind: str, value: dict[str, Any]) -> None:
        if kind.startswith("response."):
            self.response.add_event(kind, value)
        elif kind in MESSAGE_EVENTS:
            self.message.add_event(kind, value)
        elif kind.startswith(TRANSCRIPT_EVENTS):
            self.transcript.add_event(kind, value)
        elif kind == "error" or value.get("error"):
            self.failed = True
        elif kind != "ping":
            self.unknown += 1


def read_stream(data: bytes, api: Api) -> Reply | None:
    """Return the answer in a stream; None if it has events, but none of a known shape.

    A stream without events is an empty answer, and complete only if the API's streams end with ``[DONE]`` and
    this one does. Without a known API, a stream with neither events nor ``[DONE]`` is no answer (None).
    """
    stream = _Stream()
    add_choices = stream.completion.add_event
    count = 0
    for count, text in enumerate(event_data(data, limit=_MAX_EVENTS), start=1):  # noqa: B007 - used below
        event = text.strip()
        if event == b"[DONE]":
            stream.done = True
            break
        if not event:
            continue
        # Anything but an object is no event of a model, or is cut off by the end of the body.
        value = load_json(event) if event[:1] == b"{" else None
        stream.broken = stream.broken or (value is None and event[:1] == b"{")
        if type(value) is dict and type(choices := value.get("choices")) is list and "error" not in value:
            # A shortcut: nearly every event is of this kind, and a stream has hundreds of events.
            add_choices(choices, value.get("usage"))
        else:
            stream.add(value)
    if b"error" in data and _ERROR_EVENT.search(data):
        stream.failed = True
    reply = _build(stream, api)
    if reply is not None and stream.broken:
        reply = replace(reply, whole=False)
    if reply is None or count < _MAX_EVENTS or stream.done:
        return reply
    return replace(reply, unread=UnreadReason.TOO_LARGE)


def _build(stream: _Stream, api: Api) -> Reply | None:
    replies = [reply for read in _READERS if (reply := read(stream, api)) is not None]
    if replies:
        return next((reply for reply in replies if reply.kind is KINDS.get(api)), replies[0])
    if stream.failed:
        return Reply(kind=ReplyKind.ERROR, error=True, streamed=True)
    if stream.unknown or (api is Api.OTHER and not stream.done):
        return None
    return Reply(
        kind=KINDS.get(api, ReplyKind.CHAT),
        streamed=True,
        content_chunks=0,
        whole=stream.done and api in _ENDED_BY_MARK,
    )


def _read_message(stream: _Stream, _api: Api) -> Reply | None:
    return stream.message.build(streamed=True, error=stream.failed) if stream.message.seen else None


def _read_response(stream: _Stream, _api: Api) -> Reply | None:
    return stream.response.build(streamed=True, error=stream.failed) if stream.response.seen else None


def _read_transcript(stream: _Stream, _api: Api) -> Reply | None:
    return stream.transcript.build(error=stream.failed) if stream.transcript.seen else None


def _read_completion(stream: _Stream, api: Api) -> Reply | None:
    completion = stream.completion
    if not completion.seen:
        return None
    reply = completion.build(streamed=True, whole=stream.done, error=stream.failed, chat=api is Api.CHAT)
    # vLLM streams a transcript in the format of chat.
    return replace(reply, kind=ReplyKind.TRANSCRIPT) if api is Api.TRANSCRIPTION else reply


_READERS: Final = (_read_message, _read_response, _read_transcript, _read_completion)
