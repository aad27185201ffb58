"""``POST /v1/outcomes``: conversions of A/B tests, and feedback on answers.

The body is one outcome, a list of outcomes, or ``{"outcomes": […]}``::

    {"route": "chat", "metric": "purchase", "unit": "ada"}
    {"route": "chat", "metric": "thumbs", "request_id": "…", "value": true, "id": "…"}
    {"route": "chat", "metric": "rating", "unit": "ada", "value": 4, "variant": "v2"}

An outcome without ``value`` is a conversion. It names the user as the requests do, and each user counts once
per metric. An outcome with ``value`` is feedback on a request or from a user: ``true`` and ``false`` are
thumbs up and down, numbers are ratings. Feedback with the same ``id`` counts once; without ``id``, each
request or user counts once per metric. Outcomes may be sent long after the answer.

Either all outcomes of a request are accepted or none: the status is 202 with
``{"accepted": 2, "repeated": 0}``, 400 with up to twenty problems, or 503 if
the store cannot write.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mirror_collector.exchange import Conversion, Feedback, RouteName, join_problems
from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mirror_collector.store import Store

__all__ = ["ParsedOutcomes", "outcome_routes", "parse_outcomes"]

_MAX_OUTCOMES: Final = 10_000
_MAX_TEXT: Final = 256
_REQUIRED: Final = ("route", "metric")
_OPTIONAL: Final = ("unit", "request_id", "variant", "id")
_FIELDS: Final = (*_REQUIRED, *_OPTIONAL, "value")
_MAX_VALUE: Final = 1e9
_MAX_PROBLEMS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedOutcomes:
    """The outcomes of one request body."""

    conversions: tuple[Conversion, ...]
    feedback: tuple[Feedback, ...]

    def __len__(self) -> int:
        """Number of outcomes."""
        return len(self.conversions) + len(self.feedback)


def outcome_routes(store: Store, clock: Callable[[], float]) -> list[web.RouteDef]:
    """Return the route of this endpoint; it writes the received outcomes to `store`."""

    async def post(request: web.Request) -> web.Response:
        try:
            outcomes = parse_outcomes(json.loads(await request.read()))
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            detail = f"the body is not valid JSON: {error}"
            return web.json_response({"error": "malformed", "detail": detail}, status=400)
        except ValueError as error:
            return web.json_response({"error": "malformed", "detail": str(error)}, status=400)
        try:
            repeated = await store.write_outcomes(outcomes.conversions, outcomes.feedback, clock())
        except StoreError as error:
            return web.json_response({"error": "store_failed", "detail": str(error)}, status=503)
        return web.json_response({"accepted": len(outcomes), "repeated": repeated}, status=202)

    return [web.post("/v1/outcomes", post)]


def parse_outcomes(document: Any) -> ParsedOutcomes:
    """Parse the outcomes of a decoded request body.

    Raises:
        ValueError: The body is invalid; the message lists up to twenty problems and the number of others.
    """
    match document:
        case [*items] | {"outcomes": [*items]}:
            values = items
        case _:
            values = [document]
    if len(values) > _MAX_OUTCOMES:
        raise ValueError(
            f"the body has {len(values)} outcomes; at most {_MAX_OUTCOMES} are allowed in one request"
        )
    problems = [problem for number, value in enumerate(values) for problem in _problems(number, value)]
    if problems:
        raise ValueError(join_problems(problems, _MAX_PROBLEMS))
    return ParsedOutcomes(
        conversions=tuple(
            Conversion(route=RouteName(value["route"]), metric=value["metric"], unit=value["unit"])
            for value in values
            if "value" not in value
        ),
        feedback=tuple(_feedback(value) for value in values if "value" in value),
    )


def _feedback(value: dict[str, Any]) -> Feedback:
    request_id, unit = value.get("request_id", ""), value.get("unit", "")
    given_id = value.get("id")
    # Each part is prefixed with its length, so that different parts never join to the same text.
    joined = "".join(f"{len(part)}:{part}" for part in (value["route"], value["metric"], request_id, unit))
    return Feedback(
        id=f"={given_id}" if given_id else joined,
        route=RouteName(value["route"]),
        metric=value["metric"],
        value=float(value["value"]),
        request_id=request_id,
        unit=unit,
        variant=value.get("variant", ""),
    )


def _problems(number: int, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        optional = ", ".join((*_OPTIONAL, "value"))
        yield f"[{number}]: must be an object with {' and '.join(_REQUIRED)}, and optionally {optional}"
        return
    for name in (*_REQUIRED, *(name for name in _OPTIONAL if name in value)):
        text = value.get(name)
        if not isinstance(text, str) or not 0 < len(text) <= _MAX_TEXT:
            yield f"[{number}].{name}: must be a text of 1 to {_MAX_TEXT} characters"
    if "value" in value:
        yield from _feedback_problems(number, value)
    elif "unit" not in value:
        yield (
            f"[{number}].unit: required for a conversion (an outcome without `value`);"
            f" must be a text of 1 to {_MAX_TEXT} characters"
        )
    for name in sorted(set(value) - set(_FIELDS)):
        yield f"[{number}].{name}: unknown field; allowed fields: {', '.join(_FIELDS)}"


def _feedback_problems(number: int, value: dict[str, Any]) -> Iterator[str]:
    given = value["value"]
    if not isinstance(given, int | float) or not math.isfinite(given) or abs(given) > _MAX_VALUE:
        yield f"[{number}].value: must be true, false or a number from {-_MAX_VALUE:.0f} to {_MAX_VALUE:.0f}"
    if "unit" not in value and "request_id" not in value:
        yield f"[{number}]: feedback (an outcome with `value`) requires a request_id or a unit"
