"""The HTTP server put together: API, pages, health and metrics behind one gate."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from xds_server.web.alarms import alarm_operations
from xds_server.web.api import proxies, routes
from xds_server.web.openapi import document
from xds_server.web.operations import Answer, Operation, registered
from xds_server.web.pages import login_routes, page_routes
from xds_server.web.pages.frame import Frame
from xds_server.web.problems import ProblemError, errors_as_problems
from xds_server.web.tokens import people

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from xds_server.engine import Engine
    from xds_server.web.authenticator import Authenticator
    from xds_server.web.oidc import Provider

__all__ = ["Site", "build", "operations"]

_MOST_BYTES: Final = 8 << 20
_STATUS: Final = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
_READY: Final = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What the server is made of. Senders of alarms share the `alarm_secret`."""

    engine: Engine
    registry: CollectorRegistry
    gate: Authenticator
    alarm_secret: bytes | None = None
    provider: Provider | None = None
    """Who else may say who somebody is."""
    pairs_url: str = ""
    """The collector's list of pairs, as people reach it."""


def build(site: Site) -> web.Application:
    """Return the application."""
    app = web.Application(client_max_size=_MOST_BYTES, middlewares=[errors_as_problems, site.gate.middleware])
    app.add_routes(registered(operations(site)))
    frame = Frame(site.gate)
    app.add_routes(page_routes(site.engine, frame, pairs_url=site.pairs_url))
    app.add_routes(login_routes(site.gate, frame, site.provider))
    return app


def operations(site: Site) -> list[Operation]:
    """Return everything programs can ask."""
    found = [
        *routes(site.engine),
        *proxies(site.engine),
        *people(site.engine, site.gate.access),
        *alarm_operations(site.engine, site.alarm_secret, site.gate),
        *_health(site),
    ]
    described = document(found, version("shiftplane"))

    async def describe(_request: web.Request) -> web.Response:
        return web.json_response(described)

    return [
        *found,
        Operation(
            method="GET",
            path="/v1/openapi.json",
            name="describe",
            about="Return this description.",
            role=None,
            handler=describe,
            answer=Answer(about="OpenAPI 3.1.", schema={"type": "object"}),
        ),
    ]


def _health(site: Site) -> list[Operation]:
    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        if not site.engine.committer.ready:
            raise ProblemError(503, "not_ready", "the store is not loaded yet, and no proxy may come in")
        return web.json_response({"ready": True})

    async def metrics(_request: web.Request) -> web.Response:
        body = generate_latest(site.registry)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})

    return [
        Operation(
            method="GET",
            path="/healthz",
            name="healthz",
            about="Say that this process works.",
            role=None,
            handler=healthz,
            answer=Answer(about="It does.", schema=_STATUS),
        ),
        Operation(
            method="GET",
            path="/readyz",
            name="readyz",
            about="Say whether the store was loaded and proxies may come in.",
            role=None,
            handler=readyz,
            answer=Answer(about="They may.", schema=_READY),
            refusals=(503,),
        ),
        Operation(
            method="GET",
            path="/metrics",
            name="metrics",
            about="Our own series, for a Prometheus.",
            role=None,
            handler=metrics,
            answer=Answer(about="Text of Prometheus' format.", content_type="text/plain"),
        ),
    ]
