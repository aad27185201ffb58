"""The HTTP API for reading, and for forgetting.

===================  =====================================================================================
GET /v1/summary      sums by route; ``?route=``
GET /v1/pairs        a page of pairs; ``?route=&flags=refused,longer&limit=1..500&order=newest|worst&before=``
GET /v1/pairs/{id}   one pair with both bodies of its legs, for who may read them
DELETE /v1/pairs     everything of one request or of one user or session; ``?request_id=`` or ``?unit=``
GET /v1/exposures    A/B tests: units and requests by variant; ``?route=&experiment=``
GET /v1/feedback     thumbs and ratings by variant; ``?route=``
GET /healthz         200 while the process runs
GET /readyz          200 while both doors are open and the store takes what it is given, else 503
GET /metrics         for Prometheus
===================  =====================================================================================

Errors are ``{"error": <word>, "detail": <sentence>}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from mirror_collector.serve.auth import ROLE, Role, needs
from mirror_collector.serve.query import pair_query
from mirror_collector.serve.views import experiment_view, feedback_view, pair_view, summary_view
from mirror_collector.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirror_collector.compare import Ledger
    from mirror_collector.store import Store

__all__ = ["api_routes"]


def api_routes(
    store: Store,
    registry: CollectorRegistry,
    *,
    ledger: Callable[[], Ledger],
    not_ready_reason: Callable[[], str | None],
) -> list[web.RouteDef]:
    """The routes of the API.

    Args:
        store: where pairs are read.
        registry: where metrics come from.
        ledger: the sums of this moment.
        not_ready_reason: says why the collector is not ready, None when it is.
    """
    api = _Api(store, registry, ledger, not_ready_reason)
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
        ledger: Callable[[], Ledger],
        not_ready_reason: Callable[[], str | None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._ledger = ledger
        self._not_ready_reason = not_ready_reason

    async def summary(self, request: web.Request) -> web.Response:
        return web.json_response(summary_view(self._ledger(), route=request.query.get("route")))

    async def exposures(self, request: web.Request) -> web.Response:
        try:
            found = await self._store.exposures(request.query.get("route"), request.query.get("experiment"))
        except StoreError as error:
            return _error(503, "store_failed", str(error))
        return web.json_response({"experiments": [experiment_view(one) for one in found]})

    async def pairs(self, request: web.Request) -> web.Response:
        try:
            query = pair_query(request.query)
        except ValueError as error:
            return _error(400, "bad_query", str(error))
        try:
            page = await self._store.page(query)
        except StoreError as error:
            return _error(503, "store", str(error))
        following = None if page.following is None else str(page.following)
        return web.json_response({"pairs": page.pairs, "next": following})

    async def pair(self, request: web.Request) -> web.Response:
        text = request.match_info["id"]
        # Beyond 18 digits no id was ever given, and SQLite takes no such number.
        known = text.isascii() and text.isdigit() and len(text) <= 18
        try:
            pair = await self._store.pair(int(text)) if known else None
        except StoreError as error:
            return _error(503, "store", str(error))
        if pair is None:
            return _error(404, "not_found", "no such pair; it may be past its retention")
        return web.json_response(pair_view(pair, bodies=request[ROLE] >= Role.READER))

    async def feedback(self, request: web.Request) -> web.Response:
        try:
            found = await self._store.feedback(request.query.get("route"))
        except StoreError as error:
            return _error(503, "store", str(error))
        return web.json_response({"feedback": [feedback_view(one) for one in found]})

    async def forget(self, request: web.Request) -> web.Response:
        refused = needs(request, Role.ADMIN)
        if refused is not None:
            return refused
        wanted = {name: request.query[name] for name in ("request_id", "unit") if request.query.get(name)}
        if len(wanted) != 1 or len(request.query) != 1:
            return _error(400, "bad_query", "exactly one of request_id and unit is needed, and nothing else")
        try:
            deleted = await self._store.forget(**wanted)
        except StoreError as error:
            return _error(503, "store", str(error))
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
