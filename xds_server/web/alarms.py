"""Where alarms come in. Whoever may post one may take a rollout back, and do nothing else."""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING, Any

import structlog
from aiohttp import web

from xds_server.alarms import PayloadError, SignatureError, alertmanager, verify, webhook

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.alarms import Alert
    from xds_server.engine import Engine

__all__ = ["alarm_routes"]

log = structlog.get_logger()


def alarm_routes(engine: Engine, secret: bytes | None) -> list[web.RouteDef]:
    """Return the handlers. With a `secret`, Alertmanager must show it as its bearer token.

    The generic webhook is always signed; without a secret there is none.
    """

    async def from_alertmanager(request: web.Request) -> web.Response:
        shown = request.headers.get("authorization", "")
        if secret is not None and not hmac.compare_digest(shown.encode(), b"Bearer " + secret):
            raise web.HTTPUnauthorized(text="the bearer token is not the one of --alarm-secret-file")
        return await _take(engine, alertmanager(_json(await request.read())))

    async def from_webhook(request: web.Request) -> web.Response:
        if secret is None:
            raise web.HTTPForbidden(text="signed alarms need serve --alarm-secret-file")
        body = await request.read()
        try:
            verify(
                secret,
                timestamp=request.headers.get("x-shiftplane-timestamp", ""),
                given=request.headers.get("x-shiftplane-signature", ""),
                body=body,
                now=time.time(),
            )
        except SignatureError as error:
            log.warning("alarm_refused", peer=request.remote, reason=str(error))
            raise web.HTTPUnauthorized(text=str(error)) from error
        return await _take(engine, [webhook(_json(body))])

    return [
        web.post("/v1/alarms/alertmanager", from_alertmanager),
        web.post("/v1/alarms/webhook", from_webhook),
    ]


async def _take(engine: Engine, alerts: Iterable[Alert]) -> web.Response:
    found = list(alerts)
    routes = await engine.alarm(found)
    return web.json_response({"alerts": len(found), "routes": routes})


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError as error:
        raise PayloadError(f"the body is not JSON: {error}") from error
