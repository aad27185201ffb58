"""Build the HTTP application: API, pages, health checks and metrics behind one authenticator."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from xds_server.web.access_api import access_operations
from xds_server.web.alarms import alarm_operations
from xds_server.web.openapi import document
from xds_server.web.operations import Operation, SuccessResponse, http_routes
from xds_server.web.pages import login_routes, page_routes
from xds_server.web.pages.renderer import PageRenderer
from xds_server.web.problems import ProblemError, errors_as_problems
from xds_server.web.route_api import proxy_operations, route_operations

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from xds_server.engine import Engine
    from xds_server.web.authenticator import Authenticator
    from xds_server.web.oidc import OidcProvider

__all__ = ["Site", "build", "operations"]

_MAX_BODY_BYTES: Final = 8 << 20
_STATUS: Final = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
_READY: Final = {"type": "object", "properties": {"ready": {"type": "boolean"}}, "required": ["ready"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """The parts of the server. `alarm_secret` is shared with the senders of alarms."""

    engine: Engine
    registry: CollectorRegistry
    authenticator: Authenticator
    alarm_secret: bytes | None = None
    oidc_provider: OidcProvider | None = None
    """The identity provider for logins; None if users log in with tokens only."""
    pairs_url: str = ""
    """The URL of the collector's list of pairs, for links in pages."""


def build(site: Site) -> web.Application:
    """Return the application."""
    app = web.Application(
        client_max_size=_MAX_BODY_BYTES, middlewares=[errors_as_problems, site.authenticator.middleware]
    )
    app.add_routes(http_routes(operations(site)))
    renderer = PageRenderer(site.authenticator)
    app.add_routes(page_routes(site.engine, renderer, pairs_url=site.pairs_url))
    app.add_routes(login_routes(site.authenticator, renderer, site.oidc_provider))
    return app


def operations(site: Site) -> list[Operation]:
    """Return all operations of the API, including the one that returns the OpenAPI document."""
    found = [
        *route_operations(site.engine),
        *proxy_operations(site.engine),
        *access_operations(site.engine, site.authenticator.access),
        *alarm_operations(site.engine, site.alarm_secret, site.authenticator),
        *_health_operations(site),
    ]
    description = document(found, version("shiftplane"))

    async def describe(_request: web.Request) -> web.Response:
        return web.json_response(description)

    return [
        *found,
        Operation(
            method="GET",
            path="/v1/openapi.json",
            name="describe",
            summary="Return this OpenAPI document.",
            role=None,
            handler=describe,
            response=SuccessResponse(description="OpenAPI 3.1.", schema={"type": "object"}),
        ),
    ]


def _health_operations(site: Site) -> list[Operation]:
    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(_request: web.Request) -> web.Response:
        if not site.engine.committer.ready:
            raise ProblemError(
                503, "not_ready", "the store is not loaded yet, and proxies cannot connect; retry later"
            )
        return web.json_response({"ready": True})

    async def metrics(_request: web.Request) -> web.Response:
        body = generate_latest(site.registry)
        return web.Response(body=body, headers={"content-type": CONTENT_TYPE_LATEST})

    return [
        Operation(
            method="GET",
            path="/healthz",
            name="healthz",
            summary="Liveness check: the process serves requests.",
            role=None,
            handler=healthz,
            response=SuccessResponse(description="The process is alive.", schema=_STATUS),
        ),
        Operation(
            method="GET",
            path="/readyz",
            name="readyz",
            summary="Readiness check: the store is loaded and proxies can connect.",
            role=None,
            handler=readyz,
            response=SuccessResponse(description="The control plane is ready.", schema=_READY),
            error_statuses=(503,),
        ),
        Operation(
            method="GET",
            path="/metrics",
            name="metrics",
            summary="Return the control plane's metrics for Prometheus.",
            role=None,
            handler=metrics,
            response=SuccessResponse(
                description="Metrics in the Prometheus text format.", content_type="text/plain"
            ),
        ),
    ]
