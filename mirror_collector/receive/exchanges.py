"""``POST /v1/exchanges``: legs as JSON, for senders other than Envoy.

The body is one leg, a list of legs, ``{"legs": […]}``, or one leg per line as ``application/x-ndjson``. The
fields of a leg are documented in `mirror_collector.exchange.document`. Valid legs are accepted even if others
are rejected. The response has status 202::

    {"accepted": 2, "rejected": [{"line": 3, "reason": "bad_field", "detail": "role: Input should be …"}]}

``line`` is the number of the leg, starting at 1. The status is 400 if the body is not JSON, and 413 if it is
too large or contains too many legs. In ``application/x-ndjson``, a line that is not JSON is a rejected leg.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from mirror_collector.exchange import Leg, Rejection, RejectionReason, parse_document

if TYPE_CHECKING:
    from mirror_collector.receive.queue import LegQueue

__all__ = ["MAX_REQUEST", "exchange_routes"]

MAX_REQUEST: Final = 32 << 20
_MAX_LEGS: Final = 10_000
_YIELD_EVERY: Final = 64
"""Number of legs after which other tasks of the event loop may run."""

_NDJSON: Final = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl"})
_NOT_JSON: Final = Rejection(reason=RejectionReason.MALFORMED, detail="not valid JSON")


def exchange_routes(queue: LegQueue) -> list[web.RouteDef]:
    """Return the route of this endpoint; it puts the received legs into `queue`."""
    return [web.post("/v1/exchanges", _ExchangeHandler(queue).post)]


class _ExchangeHandler:
    def __init__(self, queue: LegQueue) -> None:
        self._queue = queue

    async def post(self, request: web.Request) -> web.Response:
        body = await request.read()
        values = _lines(body) if request.content_type in _NDJSON else _document(body)
        if isinstance(values, Rejection):
            self._queue.reject(values)
            detail = (
                "the body is not valid JSON; for one leg per line, use the content type application/x-ndjson"
            )
            return web.json_response({"error": "malformed", "detail": detail}, status=400)
        if len(values) > _MAX_LEGS:
            detail = f"too many legs; at most {_MAX_LEGS} are allowed in one request"
            return web.json_response({"error": "too_large", "detail": detail}, status=413)
        rejected: list[dict[str, Any]] = []
        for line, value in enumerate(values, start=1):
            rejection = self._receive(value)
            if rejection is not None:
                rejected.append({"line": line, "reason": rejection.reason.value, "detail": rejection.detail})
            if line % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
        result = {"accepted": len(values) - len(rejected), "rejected": rejected}
        return web.json_response(result, status=202)

    def _receive(self, value: Any) -> Rejection | None:
        if isinstance(value, Rejection):
            return self._queue.reject(value)
        leg = parse_document(value, max_body=self._queue.limits.max_body)
        return self._queue.put(leg) if isinstance(leg, Leg) else self._queue.reject(leg)


def _document(body: bytes) -> list[Any] | Rejection:
    match _json(body):
        case Rejection() as rejection:
            return rejection
        case [*legs] | {"legs": [*legs]}:
            return legs
        case leg:
            return [leg]


def _lines(body: bytes) -> list[Any]:
    # One part more than the limit is enough to reject the body. The limit on splits keeps a body of nothing
    # but line breaks from becoming millions of parts.
    return [_json(line) for line in body.split(b"\n", _MAX_LEGS) if line.strip()]


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NOT_JSON
