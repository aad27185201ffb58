"""The HTTP API for reading and deleting data.

===================  =====================================================================================
GET /v1/summary      totals by route; ``?route=``
GET /v1/pairs        a page of pairs; ``?route=&flags=refused,longer&limit=1..500&order=newest|worst&before=``
GET /v1/pairs/{id}   one pair; with the bodies of its legs for the roles reader and admin
DELETE /v1/pairs     deletes all data of a request, or of a user or session; ``?request_id=`` or ``?unit=``
GET /v1/exposures    A/B tests: units and requests by variant; ``?route=&experiment=``
GET /v1/feedback     thumbs and ratings by variant; ``?route=``
GET /healthz         200 while the process runs
GET /readyz          200 while both servers listen and the store accepts writes, else 503
GET /metrics         Prometheus metrics
===================  =====================================================================================

Errors are ``{"error": <code>, "detail": <message>}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from mirror_collector.serve.auth import ACCESS_ROLE, AccessRole, require_role
from mirror_collector.serve.query import pair_id, pair_query
from mirror_collector.serve.views import experiment_view, feedback_view, pair_view, summary_view
from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.compare import CollectorTotals
    from mirror_collector.store import Store

__all__ = ["api_routes"]


def api_routes(
    store: Store,
    registry: CollectorRegistry,
    *,
    totals: Callable[[], CollectorTotals],
    not_ready_reason: Callable[[], str | None],
) -> list[web.RouteDef]:
    """Return the routes of the API.

    Args:
        store: the store to read from.
        registry: the metrics.
        totals: returns the current totals.
        not_ready_reason: returns why the collector is not ready, or None if it is.
    """
    api = _Api(store, registry, totals, not_ready_reason)
    return [
        web.get("/v1/summary", api.summary),
        web.get("/v1/exposures", api.exposures),
        web.get("/v1/pairs", api.pairs),
        web.get("/v1/pairs/{id}", api.pair),
        web.delete("/v1/pairs", api.forget),
        web.get("/v1/feedback", api.feedback),
        web.get("/healthz", api.healthz),
        web.get("/readyz", api.readyz),
        web.get("/metrics", api.metrics),
    ]


class _Api:
    def __init__(
        self,
        store: Store,
        registry: CollectorRegistry,
        totals: Callable[[], CollectorTotals],
        not_ready_reason: Callable[[], str | None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._totals = totals
        self._not_ready_reason = not_ready_reason

    async def summary(self, request: web.Request) -> web.Response:
        return web.json_response(summary_view(self._totals(), route=request.query.get("route")))

    async def exposures(self, request: web.Request) -> web.Response:
        route, experiment = request.query.get("route"), request.query.get("experiment")
        try:
            experiments = await self._store.exposures(route, experiment)
        except StoreError as error:
            return _error(503, "store_failed", str(error))
        return web.json_response({"experiments": [experiment_view(one) for one in experiments]})

    async def pairs(self, request: web.Request) -> web.Response:
        try:
            query = pair_query(request.query)
        except ValueError as error:
            return _error(400, "bad_query", str(error))
        try:
            page = await self._store.page(query)
        except StoreError as error:
            return _error(503, "store_failed", str(error))
        next_cursor = None if page.next_cursor is None else str(page.next_cursor)
        return web.json_response({"pairs": page.pairs, "next": next_cursor})

    async def pair(self, request: web.Request) -> web.Response:
        number = pair_id(request.match_info["id"])
        try:
            pair = None if number is None else await self._store.pair(number)
        except StoreError as error:
            return _error(503, "store_failed", str(error))
        if pair is None:
            return _error(404, "not_found", "no such pair; it may have been deleted after its retention time")
        return web.json_response(pair_view(pair, bodies=request[ACCESS_ROLE] >= AccessRole.READER))

    async def feedback(self, request: web.Request) -> web.Response:
        try:
            feedback = await self._store.feedback(request.query.get("route"))
        except StoreError as error:
            return _error(503, "store_failed", str(error))
        return web.json_response({"feedback": [feedback_view(one) for one in feedback]})

    async def forget(self, request: web.Request) -> web.Response:
        forbidden = require_role(request, AccessRole.ADMIN)
        if forbidden is not None:
            return forbidden
        selector = {name: request.query[name] for name in ("request_id", "unit") if request.query.get(name)}
        if len(selector) != 1 or len(request.query) != 1:
            detail = (
                "exactly one of the parameters request_id and unit is required; no other parameter is allowed"
            )
            return _error(400, "bad_query", detail)
        try:
            deleted = await self._store.forget(**selector)
        except StoreError as error:
            return _error(503, "store_failed", str(error))
        return web.json_response({"deleted": deleted})

    async def healthz(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(self, _request: web.Request) -> web.Response:
        reason = self._not_ready_reason()
        if reason is not None:
            return _error(503, "not_ready", reason)
        return web.json_response({"status": "ready"})

    async def metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})


def _error(status: int, error: str, detail: str) -> web.Response:
    return web.json_response({"error": error, "detail": detail}, status=status)
