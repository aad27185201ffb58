"""``POST /v1/outcomes``: which users did what an A/B test counts.

The body is one outcome, a list of them, or ``{"outcomes": […]}``; each is ``{"route": …, "metric": …, "unit":
…}`` with the user named as in the requests. Each user counts once per metric. All of a request are taken or
none: the answer is 202 ``{"accepted": 2}``, or 400 with every problem.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mirror_collector.exchange import Outcome, RouteName
from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mirror_collector.store import Store

__all__ = ["outcome_routes", "parse_outcomes"]

_MOST: Final = 10_000
_LONGEST: Final = 256
_FIELDS: Final = ("route", "metric", "unit")


def outcome_routes(store: Store, clock: Callable[[], float]) -> list[web.RouteDef]:
    """Return the route of this door."""

    async def post(request: web.Request) -> web.Response:
        try:
            outcomes = parse_outcomes(json.loads(await request.read()))
        except (ValueError, RecursionError) as error:
            return web.json_response({"error": "malformed", "detail": str(error)}, status=400)
        try:
            await store.write_outcomes(outcomes, clock())
        except StoreError as error:
            return web.json_response({"error": "store_failed", "detail": str(error)}, status=503)
        return web.json_response({"accepted": len(outcomes)}, status=202)

    return [web.post("/v1/outcomes", post)]


def parse_outcomes(document: Any) -> list[Outcome]:
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
    return [
        Outcome(route=RouteName(value["route"]), metric=value["metric"], unit=value["unit"])
        for value in values
    ]


def _problems(number: int, value: Any) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"[{number}]: must be an object with route, metric and unit"
        return
    for name in _FIELDS:
        text = value.get(name)
        if not isinstance(text, str) or not 0 < len(text) <= _LONGEST:
            yield f"[{number}].{name}: text of at most {_LONGEST} characters is needed"
    for name in sorted(set(value) - set(_FIELDS)):
        yield f"[{number}].{name}: unknown; route, metric and unit are allowed"
