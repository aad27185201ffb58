"""``POST /v1/exchanges``: legs as JSON, for senders that are no Envoy.

The body is one leg, a list of legs, ``{"legs": […]}`` or, as ``application/x-ndjson``, one leg a line; for
the fields of a leg see `mirror_collector.exchange.document`. Good and bad legs may be mixed. The answer is
202::

    {"accepted": 2, "rejected": [{"line": 3, "reason": "bad_field", "detail": "role: Input should be …"}]}

where ``line`` counts legs from 1, or 400 where the body is not JSON at all, or 413 where it is too large.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mirror_collector.exchange import Leg, Rejection, RejectionReason, parse_document

if TYPE_CHECKING:
    from mirror_collector.receive.queue import Intake

__all__ = ["MAX_REQUEST", "exchange_routes"]

MAX_REQUEST: Final = 32 << 20
_MAX_LEGS: Final = 10_000
_BREATH: Final = 64
_NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_NOT_JSON: Final = Rejection(reason=RejectionReason.MALFORMED, detail="not JSON")


def exchange_routes(intake: Intake) -> list[web.RouteDef]:
    """The route of this door."""
    return [web.post("/v1/exchanges", _Door(intake).post)]


class _Door:
    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def post(self, request: web.Request) -> web.Response:
        body = await request.read()
        values = _lines(body) if request.content_type in _NDJSON else _document(body)
        if isinstance(values, Rejection):
            self._intake.refuse(values)
            return web.json_response({"error": "malformed", "detail": values.detail}, status=400)
        if len(values) > _MAX_LEGS:
            detail = f"at most {_MAX_LEGS} legs in one request"
            return web.json_response({"error": "too_large", "detail": detail}, status=413)
        rejected: list[dict[str, Any]] = []
        for line, value in enumerate(values, start=1):
            refused = self._accept(value)
            if refused is not None:
                rejected.append({"line": line, "reason": refused.reason.value, "detail": refused.detail})
            if line % _BREATH == 0:
                await asyncio.sleep(0)
        answer = {"accepted": len(values) - len(rejected), "rejected": rejected}
        return web.json_response(answer, status=202)

    def _accept(self, value: Any) -> Rejection | None:
        if isinstance(value, Rejection):
            return self._intake.refuse(value)
        leg = parse_document(value, max_body=self._intake.limits.max_body)
        return self._intake.offer(leg) if isinstance(leg, Leg) else self._intake.refuse(leg)


def _document(body: bytes) -> list[Any] | Rejection:
    match _json(body):
        case Rejection() as refused:
            return refused
        case [*legs] | {"legs": [*legs]}:
            return legs
        case leg:
            return [leg]


def _lines(body: bytes) -> list[Any]:
    # One line more than is taken tells that there are too many; a body of newlines only must not explode.
    return [_json(line) for line in body.split(b"\n", _MAX_LEGS) if line.strip()]


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON
