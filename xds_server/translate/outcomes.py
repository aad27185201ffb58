"""The outcome of a response as Envoy sees it: one CEL expression, a tag of the request counter (pure).

A status from 200 to 299 does not make a success: an error may be inside the answer, a stream may stop
without its end mark, and the body may be in a form that Envoy cannot read. Every response has one outcome,
and the outcomes are constants, so that a backend cannot create statistics. `xds_server.analysis.counts`
turns them into classes.
"""

from __future__ import annotations

from typing import Final

from xds_server.analysis.counts import Outcome
from xds_server.ir.versions import reads_streams

__all__ = ["ANSWER", "FAULTS", "outcome"]

ANSWER: Final = "shiftplane.llm"
"""The namespace of the metadata in which the filters keep what they read of an answer."""

FAULTS: Final = str(
    [
        found.value
        for found in (
            Outcome.STATUS,
            Outcome.ERROR,
            Outcome.INVALID,
            Outcome.FORMAT,
            Outcome.UNENDED,
            Outcome.EMPTY,
        )
    ]
)
"""The outcomes that are no success, as a CEL list. A status below 200 or above 299 is one of them."""

_READ: Final = f"metadata.filter_metadata['{ANSWER}']"
_TEXT_APIS: Final = ("/chat/completions", "/completions", "/responses", "/messages", "/embeddings")
"""The ends of the paths of APIs that answer with JSON or an event stream, and with nothing else."""
_END_EVENTS: Final = ("message_stop", "response.completed", "response.incomplete")
_ERROR_EVENTS: Final = ("error", "response.failed")
_ENCODED: Final = (
    "'content-encoding' in response.headers && response.headers['content-encoding'] != 'identity'"
)
_FALSE: Final = ("0", "false")
"""How the filters write `"error": false`, which is no error."""


def outcome(envoy: int, *, reads_answers: bool) -> str:
    """Return the CEL expression that yields the value of a response's `Outcome`, for Envoy 1.`envoy`.

    `reads_answers` is whether the filters of `answers` are in place.
    """
    unread = _unread(envoy, reads_answers=reads_answers)
    known = _if(f"'{ANSWER}' in metadata.filter_metadata", _read(), unread) if reads_answers else unread
    return _if("response.code < 200 || response.code > 299", _name(Outcome.STATUS), known)


def _read() -> str:
    """Return the expression for an answer of which the filters read something."""
    error = _either(
        f"'error' in {_READ} && !({_READ}['error'] in {_list(_FALSE)})",
        f"'object' in {_READ} && {_READ}['object'] == 'error'",
        f"'type' in {_READ} && {_READ}['type'] in {_list(_ERROR_EVENTS)}",
    )
    ended = _either(f"'mark' in {_READ}", f"'type' in {_READ} && {_READ}['type'] in {_list(_END_EVENTS)}")
    shaped = _either(*(f"'{key}' in {_READ}" for key in ("object", "type", "model", "prompt")))
    return _choose(
        # The parser of streams can find events in encoded streams, too: br and zstd store short events
        # literally, and a header can declare an encoding that the body does not have. A client would decode
        # the body and not receive these events, so they are ignored.
        (_ENCODED, _name(Outcome.ENCODED)),
        (f"'invalid' in {_READ}", _name(Outcome.INVALID)),
        (error, _name(Outcome.ERROR)),
        (f"response.size == 0 || !('kind' in {_READ})", _name(Outcome.EMPTY)),
        (f"{_READ}['kind'] == 'json'", _if(shaped, _name(Outcome.JSON), _name(Outcome.SHAPE))),
        (f"!({ended})", _name(Outcome.UNENDED)),
        (f"{_READ}['kind'] == 'stream of others' && !({shaped})", _name(Outcome.SHAPE)),
        otherwise=_name(Outcome.STREAM),
    )


def _unread(envoy: int, *, reads_answers: bool) -> str:
    """Return the expression for a response of which nothing was read."""
    content_type = "response.headers['content-type']"
    text_api = _either(*(f"request.url_path.endsWith('{end}')" for end in _TEXT_APIS))
    stream = Outcome.EMPTY if reads_answers and reads_streams(envoy) else Outcome.UNSUPPORTED
    long_json = Outcome.UNSIZED if reads_answers else Outcome.UNSUPPORTED
    return _choose(
        ("request.method != 'POST'", _name(Outcome.OTHER)),
        ("response.size == 0", _name(Outcome.EMPTY)),
        (_ENCODED, _name(Outcome.ENCODED)),
        ("!('content-type' in response.headers)", _if(text_api, _name(Outcome.FORMAT), _name(Outcome.OTHER))),
        (f"{content_type}.matches('(?i)^text/event-stream')", _name(stream)),
        (f"{content_type}.matches('(?i)^application/([^;]*[+])?json')", _name(long_json)),
        (f"{content_type}.matches('(?i)^text/html')", _name(Outcome.FORMAT)),
        (text_api, _name(Outcome.FORMAT)),
        otherwise=_name(Outcome.OTHER),
    )


def _name(found: Outcome) -> str:
    return f"'{found.value}'"


def _list(values: tuple[str, ...]) -> str:
    return f"[{', '.join(repr(value) for value in values)}]"


def _either(*conditions: str) -> str:
    return " || ".join(conditions)


def _if(condition: str, value: str, otherwise: str) -> str:
    return f"({condition} ? {value} : {otherwise})"


def _choose(*cases: tuple[str, str], otherwise: str) -> str:
    """Return the expression for the value of the first case whose condition holds."""
    found = otherwise
    for condition, value in reversed(cases):
        found = _if(condition, value, found)
    return found
