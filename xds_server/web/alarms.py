"""Where alarms come in. Whoever may post one may take a rollout back, and do nothing else."""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from xds_server.alarms import PayloadError, SignatureError, alertmanager, verify, webhook
from xds_server.web.operations import Answer, Operation, Parameter
from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.alarms import Alert
    from xds_server.engine import Engine
    from xds_server.web.authenticator import Authenticator

__all__ = ["alarm_operations"]

_HEARD: Final = {
    "type": "object",
    "properties": {
        "alerts": {"type": "integer"},
        "routes": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["alerts", "routes"],
}
_TEXT: Final = {"type": "string"}
_NEEDED: Final = "alarms need serve --alarm-secret-file: whoever may post one may take a rollout back"

log = structlog.get_logger()


def alarm_operations(engine: Engine, secret: bytes | None, gate: Authenticator) -> list[Operation]:
    """Return the doors. With a `secret`, Alertmanager must show it as its bearer token.

    The generic webhook is always signed; without a secret there is none. Only where nobody has to log in does
    Alertmanager need nothing to show. Who shows a wrong secret too often has to wait.
    """

    async def from_alertmanager(request: web.Request) -> web.Response:
        if secret is None and not gate.is_open:
            raise ProblemError(403, "forbidden", _NEEDED)
        shown = request.headers.get("authorization", "")
        if secret is not None and not hmac.compare_digest(
            shown.encode(errors="replace"), b"Bearer " + secret
        ):
            log.warning("alarm_refused", peer=request.remote, reason="another bearer token")
            await gate.failed(request, "sender of alarms", "another bearer token")
            raise ProblemError(401, "unauthorized", "the bearer token is not the one of --alarm-secret-file")
        return await _take(engine, alertmanager(_json(await request.read())))

    async def from_webhook(request: web.Request) -> web.Response:
        if secret is None:
            raise ProblemError(403, "forbidden", _NEEDED)
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
            await gate.failed(request, "sender of alarms", str(error))
            raise ProblemError(401, "unauthorized", str(error)) from error
        return await _take(engine, [webhook(_json(body))])

    signed = (
        Parameter(name="x-shiftplane-timestamp", about="Seconds since the epoch.", schema=_TEXT, header=True),
        Parameter(name="x-shiftplane-signature", about="sha256=… of both.", schema=_TEXT, header=True),
    )
    return [
        Operation(
            method="POST",
            path="/v1/alarms/alertmanager",
            name="alertmanager",
            about="Hear what an Alertmanager posts.",
            role=None,
            handler=from_alertmanager,
            body={"application/json": {"type": "object"}},
            answer=Answer(about="Which routes heard of it, and their phase then.", schema=_HEARD),
            refusals=(401, 403, 429, 503),
        ),
        Operation(
            method="POST",
            path="/v1/alarms/webhook",
            name="alarm",
            about="Hear a signed alarm of anything else.",
            role=None,
            handler=from_webhook,
            parameters=signed,
            body={"application/json": {"type": "object"}},
            answer=Answer(about="Which routes heard of it, and their phase then.", schema=_HEARD),
            refusals=(401, 403, 429, 503),
        ),
    ]


async def _take(engine: Engine, alerts: Iterable[Alert]) -> web.Response:
    found = list(alerts)
    routes = await engine.routes.alarm(found)
    return web.json_response({"alerts": len(found), "routes": routes})


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"the body is not JSON: {error}") from error
