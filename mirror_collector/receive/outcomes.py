"""``POST /v1/outcomes``: what became of answers: conversions, thumbs, ratings.

The body is one outcome, a list of them, or ``{"outcomes": […]}``, each::

    {"route": "chat", "metric": "purchase", "unit": "ada"}
    {"route": "chat", "metric": "thumbs", "request_id": "…", "value": true, "id": "…"}
    {"route": "chat", "metric": "rating", "unit": "ada", "value": 4, "variant": "v2"}

Without a ``value`` it is a conversion of an A/B test: it names the user as the requests do, and each user
counts once per metric. With one it is feedback, of a request or of a user: ``true`` and ``false`` are thumbs,
numbers ratings. ``id`` makes it count once however often it is sent; without one, a request or user has one
say per metric. It may come long after the answer. All of a request are taken or none: the answer is 202
``{"accepted": 2, "repeated": 0}``, or 400 with every problem.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mirror_collector.exchange import Feedback, Outcome, RouteName
from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mirror_collector.store import Store

__all__ = ["Outcomes", "outcome_routes", "parse_outcomes"]

_MOST: Final = 10_000
_LONGEST: Final = 256
_NEEDED: Final = ("route", "metric")
_MAY: Final = ("unit", "request_id", "variant", "id")
_FIELDS: Final = (*_NEEDED, *_MAY, "value")
_LARGEST: Final = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """What a request held."""

    conversions: tuple[Outcome, ...]
    feedback: tuple[Feedback, ...]

    def __len__(self) -> int:
        """How many."""
        return len(self.conversions) + len(self.feedback)


def outcome_routes(store: Store, clock: Callable[[], float]) -> list[web.RouteDef]:
    """Return the route of this door."""

    async def post(request: web.Request) -> web.Response:
        try:
            outcomes = parse_outcomes(json.loads(await request.read()))
        except (ValueError, RecursionError) as error:
            return web.json_response({"error": "malformed", "detail": str(error)}, status=400)
        try:
            repeated = await store.write_outcomes(outcomes.conversions, outcomes.feedback, clock())
        except StoreError as error:
            return web.json_response({"error": "store_failed", "detail": str(error)}, status=503)
        return web.json_response({"accepted": len(outcomes), "repeated": repeated}, status=202)

    return [web.post("/v1/outcomes", post)]


def parse_outcomes(document: Any) -> Outcomes:
    """Return the outcomes of a body.

    Raises:
        ValueError: It holds something else; the message names up to twenty problems.
    """
    match document:
        case [*items] | {"outcomes": [*items]}:
            values = items
        case _:
            values = [document]
    if len(values) > _MOST:
        raise ValueError(f"{len(values)} outcomes; at most {_MOST} are allowed in one request")
    problems = [words for number, value in enumerate(values) for words in _problems(number, value)]
    if problems:
        raise ValueError("; ".join(problems[:20]))
    return Outcomes(
        conversions=tuple(
            Outcome(route=RouteName(value["route"]), metric=value["metric"], unit=value["unit"])
            for value in values
            if "value" not in value
        ),
        feedback=tuple(_feedback(value) for value in values if "value" in value),
    )


def _feedback(value: dict[str, Any]) -> Feedback:
    about = value.get("request_id", ""), value.get("unit", "")
    own = value.get("id")
    # Lengths, so that no two different ones look alike once they are joined.
    joined = "".join(f"{len(part)}:{part}" for part in (value["route"], value["metric"], *about))
    return Feedback(
        id=f"={own}" if own else joined,
        route=RouteName(value["route"]),
        metric=value["metric"],
        value=float(value["value"]),
        request_id=about[0],
        unit=about[1],
        variant=value.get("variant", ""),
    )


def _problems(number: int, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"[{number}]: must be an object with {', '.join(_FIELDS)}"
        return
    for name in (*_NEEDED, *(name for name in _MAY if name in value)):
        text = value.get(name)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST:
            yield f"[{number}].{name}: text of at most {_LONGEST} characters is needed"
    if "value" in value:
        yield from _problems_of_feedback(number, value)
    elif "unit" not in value:
        yield f"[{number}].unit: a conversion needs the user; text of at most {_LONGEST} characters"
    for name in sorted(set(value) - set(_FIELDS)):
        yield f"[{number}].{name}: unknown; {', '.join(_FIELDS)} are allowed"


def _problems_of_feedback(number: int, value: dict[str, Any]) -> Iterator[str]:
    said = value["value"]
    if not isinstance(said, int | float) or not math.isfinite(said) or abs(said) > _LARGEST:
        yield f"[{number}].value: true, false or a number is needed"
    if "unit" not in value and "request_id" not in value:
        yield f"[{number}]: feedback needs a request_id or a unit"
