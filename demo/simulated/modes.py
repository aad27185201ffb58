"""The faults by name, and which requests each can hit."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from demo.simulated.wire import STREAMED_APIS, Api

__all__ = ["FaultMode", "Traits", "applies"]


class FaultMode(Enum):
    """The effect on a request that the fault hits."""

    NONE = "none"

    # No answer, or an error
    ERROR = "error"
    """The response is the fault's status (500 by default) with an error object, sent at once."""
    UNKNOWN_MODEL = "unknown_model"
    """The response is vLLM's 404 for a model that is not served."""
    CONTEXT_LENGTH = "context_length"
    """The response is vLLM's 400 for a prompt that is longer than the context."""
    HANG = "hang"
    """No response is sent; the connection closes when the fault is changed."""
    REFUSE_READ = "refuse_read"
    """The body is not read, so a large upload stalls; the connection closes when the fault is changed."""
    HANG_AFTER_HEADERS = "hang_after_headers"
    """The headers are sent and nothing after them; the connection closes when the fault is changed."""
    HANG_MIDSTREAM = "hang_midstream"
    """The answer stops in its midst; the connection closes when the fault is changed."""

    # Status 200, and no answer
    ERROR_200 = "error_200"
    """An error object with status 200; in a stream after some tokens, followed by the end mark."""
    ERROR_200_UNENDED = "error_200_unended"
    """An error object with status 200; in a stream after some tokens, without an end mark."""
    HTML_200 = "html_200"
    TEXT_200 = "text_200"
    EMPTY_BODY = "empty_body"
    UNKNOWN_JSON = "unknown_json"
    """JSON of a shape that no API has; in a stream, all events have this shape."""
    BROKEN_JSON = "broken_json"
    """The JSON ends in its midst; in a stream, the JSON of one event does."""

    # An incomplete answer
    CUT_STREAM = "cut_stream"
    """The connection closes after the share ``after`` of the answer."""
    STOP_EARLY = "stop_early"
    """The stream ends properly, in the midst of the answer and without its end mark."""
    NO_END_MARK = "no_end_mark"
    """The whole answer is streamed, without its end mark."""
    END_MARK_ONLY = "end_mark_only"
    """The stream has its end mark and nothing else."""
    EMPTY_TEXT = "empty_text"
    """A well-formed answer without content: no text, empty vectors, no results."""

    # A complete answer that is wrong
    GIBBERISH = "gibberish"
    """Random letter sequences, vectors or scores."""
    EXCLAMATIONS = "exclamations"
    """Exclamation marks only, as a model with overflowing weights generates them."""
    REPETITION = "repetition"
    """The first words again and again."""
    TOOL_NAME = "tool_name"
    """Tool calls name a function that the request does not have."""
    TOOL_ARGUMENTS = "tool_arguments"
    """Arguments of tool calls are not JSON."""
    TOOL_VALUES = "tool_values"
    """Arguments of tool calls are JSON and lack a property."""
    WRONG_DIMENSIONS = "wrong_dimensions"
    """Vectors have half as many dimensions."""
    REVERSED_RANKING = "reversed_ranking"

    # Usage
    NO_USAGE = "no_usage"
    NULL_USAGE = "null_usage"
    SPLIT_USAGE = "split_usage"
    """The first event reports only the tokens of the prompt, the last one only those of the answer."""
    CUMULATIVE_USAGE = "cumulative_usage"
    """Every event has the usage so far."""

    # Time
    SLOW = "slow"
    """The answer takes ten times as long as configured, and at least 100 ms to the first token."""
    LATE_PING = "late_ping"
    """Comments (``: ping``) are streamed from the start; the first token is late by the fault's delay."""
    LATE_ROLE = "late_role"
    """The event before the first token is sent at once; the first token is late by the fault's delay."""

    # Encodings and types
    ENCODED = "encoded"
    """A sound answer in a content encoding that the client may not have asked for."""
    CLAIMED_ENCODING = "claimed_encoding"
    """The headers claim gzip, and the body is not encoded."""
    UNLABELED_ENCODING = "unlabeled_encoding"
    """The body is encoded, and no header names the encoding."""
    UNKNOWN_ENCODING = "unknown_encoding"
    """The headers claim an encoding that does not exist."""
    CORRUPT_GZIP = "corrupt_gzip"
    TRUNCATED_GZIP = "truncated_gzip"
    """The gzip data end early, and the response ends properly."""
    GZIP_BOMB = "gzip_bomb"
    """A body of some kilobytes that decode to 64 MiB."""
    WRONG_CONTENT_TYPE = "wrong_content_type"
    """A sound answer whose content type is ``text/html``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """What decides whether a fault can hit a request; ``usage`` is whether the answer would contain usage."""

    api: Api
    stream: bool = False
    calls: bool = False
    usage: bool = False
    plain_text: bool = False


_STREAM: Final = frozenset(
    {FaultMode.STOP_EARLY, FaultMode.NO_END_MARK, FaultMode.END_MARK_ONLY, FaultMode.LATE_PING}
)
_TEXT: Final = frozenset({FaultMode.EXCLAMATIONS, FaultMode.REPETITION})
_CALLS: Final = frozenset({FaultMode.TOOL_NAME, FaultMode.TOOL_ARGUMENTS, FaultMode.TOOL_VALUES})
_USAGE: Final = frozenset({FaultMode.NO_USAGE, FaultMode.NULL_USAGE})
_CONTENT: Final = frozenset({FaultMode.EMPTY_TEXT, FaultMode.GIBBERISH})
_RANKING: Final = frozenset({FaultMode.REVERSED_RANKING})


_NOT_GENERATED: Final = frozenset({Api.SPEECH, Api.MODELS})


def applies(mode: FaultMode, traits: Traits) -> bool:
    """Return whether a fault changes the response; if not, the request is answered as without a fault."""
    api, streamed = traits.api, traits.stream and traits.api in STREAMED_APIS
    conditions = (
        ({FaultMode.NONE}, False),
        (_STREAM, streamed),
        (_TEXT, api in STREAMED_APIS),
        (_CALLS, traits.calls),
        (_USAGE, traits.usage),
        (_CONTENT, api not in _NOT_GENERATED),
        (_RANKING, api in {Api.RERANK, Api.SCORE}),
        ({FaultMode.CUMULATIVE_USAGE}, streamed and traits.usage),
        # A Messages stream always has its usage split.
        ({FaultMode.SPLIT_USAGE}, streamed and traits.usage and api is not Api.MESSAGES),
        ({FaultMode.LATE_ROLE}, streamed and api is not Api.COMPLETIONS),
        ({FaultMode.BROKEN_JSON}, api is not Api.SPEECH and not traits.plain_text),
        ({FaultMode.WRONG_DIMENSIONS}, api is Api.EMBEDDINGS),
    )
    return all(holds for modes, holds in conditions if mode in modes)
