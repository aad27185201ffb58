"""What can be said of one answer by itself: did it fail, is it empty, a refusal, broken JSON.

Every trait is such that of a model and its equal neither has it more often. A trait that does not apply, as
broken JSON where nobody asked for JSON, is None.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import orjson

from mirror_collector.compare.language import language

if TYPE_CHECKING:
    from mirror_collector.exchange import Body, Leg, Reply

__all__ = ["TRAITS", "Traits", "asks_for_json", "traits"]

TRAITS: Final = ("failed", "empty", "refused", "cut", "invalid_json", "invalid_calls")
"""The names of those that are good or bad, worst first."""

_OPENING: Final = 320
_DEEDS: Final = (
    "help|assist|provide|comply|fulfil|fulfill|do that|do this|support|answer|create|write|generate|engage"
    "|share|give|offer|discuss|participate"
)
_REFUSAL: Final = re.compile(
    r"\b(?:i(?:['\u2019]m| am)(?: (?:very|really|so|truly|deeply))? sorry,? (?:but|i)\b"
    r"|i (?:can(?:not|['\u2019]t| not)|am (?:unable|not able)|won['\u2019]t|will not|must decline)"
    rf"(?: be able)?(?: to)? (?:{_DEEDS})"
    r"|i['\u2019]m (?:unable|not able) to|i can(?:not|['\u2019]t) (?:in good conscience)"
    r"|as an ai(?: language)?(?: model| assistant)?,? i (?:can(?:not|['\u2019]t)|am not|do not|don['\u2019]t)"
    r"|(?:es )?tut mir leid,? (?:aber|das|ich)"
    r"|(?:dabei|damit|hierbei) kann ich (?:dir |ihnen )?(?:leider )?nicht"
    r"|je suis désolée?,? mais|je ne peux pas (?:vous )?(?:aider|fournir|répondre)"
    r"|lo siento,? pero|no puedo (?:ayudar|proporcionar|cumplir))"
)
_REFUSAL_MARKS: Final = (
    *("sorry", "i can", "i am ", "i won", "i will not", "i must decline", "unable", "not able", "as an ai"),
    *("mir leid", "kann ich", "désol", "je ne peux", "lo siento", "no puedo"),
)
"""Without any of these there is no refusal, and the pattern need not look."""

_JSON_MARKS: Final = (b"response_format", b"guided_json", b"json_schema", b"json_object")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """One answer; None where a trait does not apply or nothing was said."""

    failed: bool
    empty: bool | None = None
    refused: bool | None = None
    cut: bool | None = None
    """Ended by the limit of tokens."""

    invalid_json: bool | None = None
    invalid_calls: bool | None = None
    """A tool call whose arguments are no JSON object."""

    language: str | None = None


def traits(leg: Leg, reply: Reply, *, wants_json: bool) -> Traits:
    """Look at one answer.

    Args:
        leg: how it came.
        reply: what was said.
        wants_json: whether the request asked for JSON.
    """
    # A retried request failed once; copies are never retried, so that has to count as one.
    failed = not leg.succeeded or reply.error or leg.attempts > 1
    if not leg.succeeded or not reply.spoken or leg.response.capped:
        return Traits(failed=failed)
    said = reply.text.strip()
    return Traits(
        failed=failed,
        empty=not said and not reply.tool_calls,
        refused=reply.refused or _refuses(said[:_OPENING].casefold()),
        cut=reply.finish_reason == "length",
        invalid_json=not _is_json(said) if wants_json and said else None,
        invalid_calls=(
            not all(_is_object(call.arguments) for call in reply.tool_calls) if reply.tool_calls else None
        ),
        language=language(said),
    )


def _refuses(opening: str) -> bool:
    # Every answer passes here, and a generator costs more than the search itself.
    for mark in _REFUSAL_MARKS:
        if mark in opening:
            return _REFUSAL.search(opening) is not None
    return False


def asks_for_json(request: Body) -> bool:
    """Whether a request asks for an answer in JSON; by ``response_format`` and its kin."""
    if not any(mark in request.data for mark in _JSON_MARKS):
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
    return _loaded(text) is not _NOTHING


def _is_object(text: str) -> bool:
    return isinstance(_loaded(text or "{}"), dict)


_NOTHING: Final = object()


def _loaded(text: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        pass
    try:
        # What the standard library reads as well is no fault of a model: numbers of any size, for one.
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOTHING
