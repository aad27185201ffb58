"""What the faults do to events, bodies and responses, as functions over values.

Faults of the content are in ``drafts``, ``vectors``, ``ranking`` and ``audio``; those that hold a request
before its answer are in ``server``.
"""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from demo.simulated import messages, responses
from demo.simulated.events import DONE, Event, EventKind
from demo.simulated.modes import FaultMode
from demo.simulated.script import Ending, Part, Script, in_coding
from demo.simulated.wire import Api, WireError, encode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from demo.simulated.faults import Fault

__all__ = [
    "JSON",
    "Pace",
    "changed_body",
    "changed_events",
    "changed_script",
    "compressed",
    "pinged",
    "replacement",
    "streamed",
]

JSON: Final = "application/json"
STREAM: Final = "text/event-stream; charset=utf-8"
_SLOWNESS: Final = 10.0
_SLOWEST_FIRST_TOKEN_SECONDS: Final = 0.1
_PINGS: Final = 8
_BOMB_BYTES: Final = 64 * 1024 * 1024
_MESSAGE: Final = "The simulated engine failed on purpose."
_HTML: Final = (
    b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in</h1></body></html>\n"
)
_TEXT: Final = b"upstream connect error or disconnect/reset before headers\n"
_UNKNOWN: Final = {"status": "ok", "result": [{"kind": "answer", "value": 42}]}
_ENCODINGS: Final = frozenset(
    {
        FaultMode.ENCODED,
        FaultMode.CLAIMED_ENCODING,
        FaultMode.UNLABELED_ENCODING,
        FaultMode.UNKNOWN_ENCODING,
        FaultMode.CORRUPT_GZIP,
        FaultMode.TRUNCATED_GZIP,
        FaultMode.GZIP_BOMB,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds to the first token, and between tokens."""

    first: float
    inter: float

    def slowed(self, fault: Fault) -> Pace:
        """Return the pace under a fault."""
        match fault.mode:
            case FaultMode.SLOW:
                first = max(self.first * _SLOWNESS, _SLOWEST_FIRST_TOKEN_SECONDS)
                return Pace(first=first, inter=self.inter * _SLOWNESS)
            case FaultMode.LATE_PING | FaultMode.LATE_ROLE:
                return Pace(first=self.first + fault.delay, inter=self.inter)
            case _:
                return self

    def total(self, tokens: int) -> float:
        """Return the seconds until the last token of an answer of `tokens` tokens."""
        return self.first + self.inter * max(0, tokens - 1)


def replacement(fault: Fault, api: Api, *, stream: bool, max_model_len: int) -> Script | None:
    """Return the response of a fault that does not depend on the request's content; None for other faults."""
    match fault.mode:
        case FaultMode.ERROR:
            return _error(fault, api)
        case FaultMode.UNKNOWN_MODEL:
            error = WireError.no_model("(any)")
        case FaultMode.CONTEXT_LENGTH:
            error = WireError.too_long(f"The prompt is longer than the model's {max_model_len} tokens.")
        case FaultMode.HTML_200:
            return Script(content_type="text/html; charset=utf-8", parts=(Part(data=_HTML),))
        case FaultMode.TEXT_200:
            return Script(content_type="text/plain; charset=utf-8", parts=(Part(data=_TEXT),))
        case FaultMode.EMPTY_BODY:
            return Script(content_type=STREAM if stream else JSON, parts=(), streamed=stream)
        case FaultMode.GZIP_BOMB:
            return Script(
                content_type=STREAM if stream else JSON,
                parts=(Part(data=_bomb()),),
                headers=(("content-encoding", "gzip"),),
                streamed=stream,
            )
        case _:
            return None
    return Script(content_type=JSON, parts=(Part(data=encode(error.document(api))),), status=error.status)


def _error(fault: Fault, api: Api) -> Script:
    """Return the error of a status, in the form in which vLLM or the Anthropic API sends it."""
    document: Any = WireError.injected(fault.status).document(api)
    if api is not Api.MESSAGES and fault.status == 401:
        document = {"error": "Unauthorized"}  # vLLM sends a text here, and no object.
    elif api is not Api.MESSAGES and fault.status == 422:
        document = {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required"}]}
    wait = () if fault.retry_after is None else (("retry-after", str(fault.retry_after)),)
    body = encode(document)
    return Script(content_type=JSON, parts=(Part(data=body),), status=fault.status, headers=wait)


@cache
def _bomb() -> bytes:
    return gzip.compress(b'{"x":"' + b" " * _BOMB_BYTES + b'"}', mtime=0)


def changed_body(document: Any, fault: Fault, api: Api) -> bytes:
    """Return the body of an answer that is not streamed, with the fault applied.

    A text or bytes as the document are the body of an API that does not send JSON.
    """
    match fault.mode:
        case FaultMode.ERROR_200 | FaultMode.ERROR_200_UNENDED:
            return encode(WireError.injected(500).document(api))
        case FaultMode.UNKNOWN_JSON:
            return encode(_UNKNOWN)
        case FaultMode.BROKEN_JSON:
            body = encode(document)
            return body[: len(body) // 2]
        case FaultMode.NO_USAGE if isinstance(document, dict):
            return encode({name: value for name, value in document.items() if name != "usage"})
        case FaultMode.NULL_USAGE if isinstance(document, dict):
            return encode({**document, "usage": None})
        case _ if isinstance(document, bytes):
            return document
        case _ if isinstance(document, str):
            return document.encode()
        case _:
            return encode(document)


def changed_events(made: Sequence[Event], fault: Fault, api: Api) -> list[Event]:
    """Return the events of a stream as a fault of the stream's form changes them."""
    match fault.mode:
        case FaultMode.ERROR_200 | FaultMode.ERROR_200_UNENDED:
            ended = fault.mode is FaultMode.ERROR_200
            return [*_before(made, fault.after), *_error_events(api, ended=ended)]
        case FaultMode.END_MARK_ONLY:
            return [event for event in made if event.kind is EventKind.END]
        case FaultMode.NO_END_MARK:
            return [event for event in made if event.kind is not EventKind.END]
        case FaultMode.BROKEN_JSON:
            broken = _tokens(made)[len(_tokens(made)) // 2]
            return [_broken(event) if event is broken else event for event in made]
        case FaultMode.UNKNOWN_JSON:
            return [event if event.raw else replace(event, name=None, document=_UNKNOWN) for event in made]
        case FaultMode.LATE_ROLE:
            return [
                replace(event, kind=EventKind.OPENING) if event.kind is EventKind.ROLE else event
                for event in made
            ]
        case _:
            return list(made)


def _tokens(made: Sequence[Event]) -> list[Event]:
    return [event for event in made if event.kind is EventKind.TOKEN] or list(made)


def _before(made: Sequence[Event], share: float) -> list[Event]:
    """Return the events up to the end of the first ``share`` of the tokens.

    If that is less than one token, return the events before the first token.
    """
    tokens = [place for place, event in enumerate(made) if event.kind is EventKind.TOKEN]
    kept = tokens[: int(len(tokens) * share)]
    end = kept[-1] + 1 if kept else tokens[0] if tokens else 0
    return list(made[:end])


def _broken(event: Event) -> Event:
    data = encode(event.document)
    return replace(event, document=None, raw=data[: len(data) // 2])


def _error_events(api: Api, *, ended: bool) -> list[Event]:
    match api:
        case Api.RESPONSES:
            return responses.error_events(_MESSAGE, ended=ended)
        case Api.MESSAGES:
            return messages.error_events(_MESSAGE, ended=ended)
        case _:
            document = WireError.injected(500).document(api)
            error = Event(kind=EventKind.TOKEN, document=document)
            return [error, DONE] if ended else [error]


def streamed(made: Sequence[Event], pace: Pace) -> Script:
    """Return the response that sends each event when it is due."""
    parts, last = [], 0.0
    for event in made:
        match event.kind:
            case EventKind.OPENING:
                due = 0.0
            case EventKind.ROLE:
                due = pace.first
            case EventKind.TOKEN:
                due = pace.first + pace.inter * event.token
            case _:
                due = last
        last = max(last, due)
        parts.append(Part(data=event.data, due=last))
    return Script(content_type=STREAM, parts=tuple(parts), streamed=True)


def pinged(script: Script, fault: Fault) -> Script:
    """Return the response with comments before the first token, for ``late_ping``."""
    if fault.mode is not FaultMode.LATE_PING:
        return script
    pings = (Part(data=b": ping\n\n", due=fault.delay * place / _PINGS) for place in range(_PINGS))
    return replace(script, parts=(*pings, *script.parts))


def compressed(script: Script, fault: Fault, coding: str | None) -> Script:
    """Return the response in the content encoding of the server, if a fault does not choose another."""
    if coding is None or not script.parts or fault.mode in _ENCODINGS:
        return script
    return in_coding(script, coding)


def changed_script(script: Script, fault: Fault) -> Script:
    """Return the response as a fault of its transfer, content type or encoding changes it."""
    match fault.mode:
        case FaultMode.CUT_STREAM:
            return _ended(script, fault.after, Ending.CUT)
        case FaultMode.STOP_EARLY:
            return _ended(script, fault.after, Ending.CLOSE)
        case FaultMode.HANG_MIDSTREAM:
            return _ended(script, fault.after, Ending.HANG)
        case FaultMode.HANG_AFTER_HEADERS:
            return replace(script, parts=(), length=len(script.body), ending=Ending.HANG)
        case FaultMode.WRONG_CONTENT_TYPE:
            return replace(script, content_type="text/html; charset=utf-8")
        case _:
            return _miscoded(script, fault)


def _miscoded(script: Script, fault: Fault) -> Script:
    """Return the response as a fault of its encoding changes it."""
    match fault.mode:
        case FaultMode.ENCODED:
            return in_coding(script, fault.encoding)
        case FaultMode.UNLABELED_ENCODING:
            return replace(in_coding(script, fault.encoding), headers=script.headers)
        case FaultMode.CLAIMED_ENCODING:
            return replace(script, headers=(*script.headers, ("content-encoding", "gzip")))
        case FaultMode.UNKNOWN_ENCODING:
            return replace(script, headers=(*script.headers, ("content-encoding", "x-simulated")))
        case FaultMode.CORRUPT_GZIP:
            return _corrupt(in_coding(script, "gzip"))
        case FaultMode.TRUNCATED_GZIP:
            return _truncated(in_coding(script, "gzip"))
        case _:
            return script


def _ended(script: Script, share: float, ending: Ending) -> Script:
    """Return the first ``share`` of the events of a stream or the bytes of a body, but never all."""
    if script.streamed:
        kept = script.parts[: min(max(1, int(len(script.parts) * share)), max(0, len(script.parts) - 1))]
        return replace(script, parts=kept, ending=ending)
    body = script.body
    due = script.parts[-1].due if script.parts else 0.0
    half = body[: min(int(len(body) * share), max(0, len(body) - 1))]
    return replace(script, parts=(Part(data=half, due=due),), length=len(body), ending=ending)


def _corrupt(script: Script) -> Script:
    """Return gzip data of which one part is overwritten, so that it cannot be decoded."""
    place = len(script.parts) // 2
    part = script.parts[place]
    head = 10 if place == 0 else 0  # The header of gzip stays, so that the data is known as gzip.
    # A block type of 3 is invalid in deflate; 0xFF begins such a block at a byte boundary.
    broken = replace(part, data=part.data[:head] + b"\xff" * max(8, len(part.data) - head))
    return replace(script, parts=(*script.parts[:place], broken, *script.parts[place + 1 :]))


def _truncated(script: Script) -> Script:
    """Return gzip data without the end: half of the parts of a stream, or half of the bytes."""
    if len(script.parts) > 1:
        return replace(script, parts=script.parts[: len(script.parts) // 2])
    (part,) = script.parts
    return replace(script, parts=(replace(part, data=part.data[: max(10, len(part.data) // 2)]),))
