"""Traits of one answer: failed, unreadable, empty, refused, cut, invalid JSON or tool calls.

Two equal models have every trait equally often. A trait that does not apply is None, such as invalid JSON if
the request did not require JSON.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.compare.language import detect_language
from mirror_collector.compare.readability import unread_reason
from mirror_collector.exchange import ReplyKind

if TYPE_CHECKING:
    from mirror_collector.compare.tools import OfferedTools
    from mirror_collector.exchange import Body, Leg, Reply, ToolCall

__all__ = ["TRAITS", "Traits", "detect_traits", "requests_json"]

TRAITS: Final = ("failed", "unreadable", "empty", "refused", "cut", "invalid_json", "invalid_calls")
"""Names of the traits that count against a model, worst first."""

_REFUSAL_WINDOW: Final = 320
_REFUSED_ACTIONS: Final = (
    "help|assist|provide|comply|fulfil|fulfill|do that|do this|support|answer|create|write|generate|engage"
    "|share|give|offer|discuss|participate"
)
_REFUSAL: Final = re.compile(
    r"\b(?:i(?:['\u2019]m| am)(?: (?:very|really|so|truly|deeply))? sorry,? (?:but|i)\b"
    r"|i (?:can(?:not|['\u2019]t| not)|am (?:unable|not able)|won['\u2019]t|will not|must decline)"
    rf"(?: be able)?(?: to)? (?:{_REFUSED_ACTIONS})"
    r"|i['\u2019]m (?:unable|not able) to|i can(?:not|['\u2019]t) (?:in good conscience)"
    r"|as an ai(?: language)?(?: model| assistant)?,? i (?:can(?:not|['\u2019]t)|am not|do not|don['\u2019]t)"
    r"|(?:es )?tut mir leid,? (?:aber|das|ich)"
    r"|(?:dabei|damit|hierbei) kann ich (?:dir |ihnen )?(?:leider )?nicht"
    r"|je suis désolée?,? mais|je ne peux pas (?:vous )?(?:aider|fournir|répondre)"
    r"|lo siento,? pero|no puedo (?:ayudar|proporcionar|cumplir))"
)
_REFUSAL_HINTS: Final = (
    *("sorry", "i can", "i am ", "i won", "i will not", "i must decline", "unable", "not able", "as an ai"),
    *("mir leid", "kann ich", "désol", "je ne peux", "lo siento", "no puedo"),
)
"""Every refusal contains one of these; the regex is only run on texts that do."""

_JSON_HINTS: Final = (b"response_format", b"guided_json", b"json_schema", b"json_object")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """The traits of one answer; None for a trait that does not apply."""

    failed: bool
    """Whether the leg failed, its answer reports an error or is incomplete, or the proxy retried it."""

    unreadable: bool | None = None
    """Whether the answer could not be read because its body is defective; see `UnreadReason.is_defect`."""

    empty: bool | None = None
    refused: bool | None = None
    cut: bool | None = None
    """Whether the token limit ended the answer."""

    invalid_json: bool | None = None
    invalid_calls: bool | None = None
    """Whether any tool call is invalid: its arguments are no JSON object, the request does not offer the
    tool, or a required argument is missing."""

    language: str | None = None


def detect_traits(leg: Leg, reply: Reply, *, wants_json: bool, offered: OfferedTools | None = None) -> Traits:
    """Return the traits of one answer.

    Args:
        leg: the leg the answer belongs to.
        reply: the parsed answer.
        wants_json: whether the request requires a JSON answer.
        offered: the tools that the request offers. If there are none, the names and the required arguments
            of tool calls are not checked.
    """
    # The proxy retries primaries but never copies; a retried primary therefore counts as failed.
    failed = not leg.succeeded or reply.is_broken or leg.attempts > 1
    reason = unread_reason(leg, reply)
    if reason is not None:
        return Traits(failed=failed, unreadable=True if reason.is_defect else None)
    if not leg.succeeded:
        return Traits(failed=failed)
    if not (reply.is_generated or reply.kind is ReplyKind.TRANSCRIPT):
        return Traits(failed=failed, unreadable=False)
    text = reply.text.strip()
    if not reply.is_generated:
        return Traits(failed=failed, unreadable=False, empty=not text, language=detect_language(text))
    return Traits(
        failed=failed,
        unreadable=False,
        empty=not text and not reply.tool_calls,
        refused=reply.refused or _is_refusal(text[:_REFUSAL_WINDOW].casefold()),
        cut=reply.finish_reason == "length",
        invalid_json=not _is_json(text) if wants_json and text else None,
        invalid_calls=(
            not all(_is_valid_call(call, offered or {}) for call in reply.tool_calls)
            if reply.tool_calls
            else None
        ),
        language=detect_language(text),
    )


def _is_refusal(opening: str) -> bool:
    # This runs for every answer, and a generator expression costs more than the searches.
    for hint in _REFUSAL_HINTS:
        if hint in opening:
            return _REFUSAL.search(opening) is not None
    return False


def requests_json(request: Body) -> bool:
    """Whether a request requires a JSON answer, by ``response_format`` or an equivalent parameter."""
    if not any(hint in request.data for hint in _JSON_HINTS):
        return False
    try:
        value = orjson.loads(request.data)
    except ValueError:
        return False
    match value:
        case {"response_format": {"type": "json_object" | "json_schema"}}:
            return True
        case {"text": {"format": {"type": "json_object" | "json_schema"}}}:
            return True
        case {"guided_json": schema} if schema:
            return True
        case _:
            return False


def _is_json(text: str) -> bool:
    return _load_json(text) is not _INVALID


def _is_valid_call(call: ToolCall, offered: OfferedTools) -> bool:
    arguments = _load_json(call.arguments or "{}")
    if not isinstance(arguments, dict):
        return False
    return not offered or (call.name in offered and offered[call.name] <= arguments.keys())


_INVALID: Final = object()


def _load_json(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        pass
    try:
        # The standard library accepts more than orjson, such as integers of any size; these count as valid.
        return json.loads(text)
    except (ValueError, RecursionError):
        return _INVALID
