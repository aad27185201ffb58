"""API operations that receive alarms.

The alarm secret permits its holder to trigger rollbacks by alarms, and nothing else.
"""

from __future__ import annotations

import hmac
import json
import time
from typing import TYPE_CHECKING, Any, Final

import structlog
from aiohttp import web

from xds_server.alarms import PayloadError, SignatureError, alertmanager, verify, webhook
from xds_server.web.operations import Operation, Parameter, SuccessResponse
from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.alarms import Alert
    from xds_server.engine import Engine
    from xds_server.web.authenticator import Authenticator

__all__ = ["alarm_operations"]

_RECEIVED: Final = {
    "type": "object",
    "properties": {
        "alerts": {"type": "integer"},
        "routes": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["alerts", "routes"],
}
_TEXT: Final = {"type": "string"}
_ALARMS_DISABLED: Final = (
    "alarms are not accepted without a secret, because they can trigger rollbacks; start "
    '"shiftplane serve" with --alarm-secret-file FILE'
)
_SENDER: Final = "sender of alarms"

log = structlog.get_logger()


def alarm_operations(engine: Engine, secret: bytes | None, authenticator: Authenticator) -> list[Operation]:
    """Return the operations that receive alarms.

    With a `secret`, Alertmanager must send it as its bearer token. Without one, Alertmanager is accepted in
    open mode only. Requests to the generic webhook must always be signed with the secret. After too many
    wrong secrets or signatures from an address (IPv6: from a /64 network), further ones get the status 429
    for a while.
    """

    async def from_alertmanager(request: web.Request) -> web.Response:
        if secret is None and not authenticator.is_open:
            raise ProblemError(403, "forbidden", _ALARMS_DISABLED)
        header = request.headers.get("authorization", "")
        if secret is not None and not hmac.compare_digest(
            header.encode(errors="replace"), b"Bearer " + secret
        ):
            log.warning("alarm_rejected", peer=request.remote, reason="missing or wrong bearer token")
            await authenticator.record_failure(request, _SENDER, "missing or wrong bearer token")
            raise ProblemError(
                401,
                "unauthorized",
                "the bearer token is missing or differs from the content of the file given to "
                '"shiftplane serve --alarm-secret-file"',
            )
        return await _process(engine, alertmanager(_json(await request.read())))

    async def from_webhook(request: web.Request) -> web.Response:
        if secret is None:
            raise ProblemError(403, "forbidden", _ALARMS_DISABLED)
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
            log.warning("alarm_rejected", peer=request.remote, reason=str(error))
            await authenticator.record_failure(request, _SENDER, str(error))
            raise ProblemError(401, "unauthorized", str(error)) from error
        return await _process(engine, [webhook(_json(body))])

    response = SuccessResponse(
        description="The routes matched by alerts that start to fire, each with its phase afterwards.",
        schema=_RECEIVED,
    )
    signature_headers = (
        Parameter(
            name="x-shiftplane-timestamp",
            description="Time of signing in seconds since the epoch, at most 300 s from the server's time.",
            schema=_TEXT,
            header=True,
        ),
        Parameter(
            name="x-shiftplane-signature",
            description="sha256= and the HMAC-SHA256 of TIMESTAMP.BODY, keyed with the alarm secret, in "
            "hexadecimal.",
            schema=_TEXT,
            header=True,
        ),
    )
    return [
        Operation(
            method="POST",
            path="/v1/alarms/alertmanager",
            name="alertmanager",
            summary="Receive alerts from an Alertmanager webhook.",
            role=None,
            handler=from_alertmanager,
            body={"application/json": {"type": "object"}},
            response=response,
            error_statuses=(401, 403, 429, 503),
        ),
        Operation(
            method="POST",
            path="/v1/alarms/webhook",
            name="alarm",
            summary="Receive a signed alarm from any other sender.",
            role=None,
            handler=from_webhook,
            parameters=signature_headers,
            body={"application/json": {"type": "object"}},
            response=response,
            error_statuses=(401, 403, 429, 503),
        ),
    ]


async def _process(engine: Engine, alerts: Iterable[Alert]) -> web.Response:
    found = list(alerts)
    routes = await engine.routes.alarm(found)
    return web.json_response({"alerts": len(found), "routes": routes})


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except RecursionError as error:
        raise PayloadError("the body contains too deeply nested JSON") from error
    except ValueError as error:
        raise PayloadError(f"the body is not JSON: {error}") from error
