"""The control plane's HTTP server with a real engine and store, in the event loop of the test."""

from __future__ import annotations

import asyncio
import secrets
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp.test_utils import TestClient, TestServer

from tests.support.configs import SCRIPTS
from tests.support.plane import route
from xds_server.access.audit import AuditEvent
from xds_server.access.identity import Grant, Role, new_token
from xds_server.engine import Caller, Engine, build_engine, log_checkpoint
from xds_server.store import AccessStore, SqliteStore
from xds_server.web import Authenticator, OidcProvider, Site, build, registry
from xds_server.xds.server import Hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from aiohttp import web

    from xds_server.web.settings import Oidc

    Client = TestClient[web.Request, web.Application]

__all__ = ["CANARY", "GOOD", "Served", "serving", "spec"]

CANARY = "{canary: {steps: [{setWeight: 5}, {pause: {}}, {setWeight: 100}]}}"
GOOD = route(("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002"), CANARY)


def spec(name: str = "chat", path: str = "/v1/", **labels: str) -> str:
    """Return a valid canary spec with another name, path and labels."""
    label_map = ", ".join(f"{key}: {value}" for key, value in labels.items())
    text = GOOD.replace("metadata: {name: chat}", f"metadata: {{name: {name}, labels: {{{label_map}}}}}")
    return text.replace("prefix: /v1/", f"prefix: {path}")


@dataclass(slots=True)
class Served:
    """The server and its parts."""

    client: Client
    engine: Engine
    store: SqliteStore
    access: AccessStore
    hub: Hub

    def token(self, role: Role, name: str = "", *, lifetime: float = 600.0, **labels: str) -> str:
        """Create a token and return its text."""
        now = time.time()
        grant = Grant(role=role, labels=tuple(sorted(labels.items())))
        token, text = new_token(
            secrets.token_bytes(38),
            name=name or role.text,
            grant=grant,
            by="test",
            now=now,
            expires_in=lifetime,
        )
        self.access.add_token(token, AuditEvent(at=now, actor="test", action="create-token"))
        return text

    async def apply(self, text: str) -> None:
        await self.engine.routes.apply(text, file="test.yaml", by=Caller(actor="test"))

    async def request(
        self, method: str, path: str, *, token: str = "", **options: Any
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Send a request; return the status, JSON body and headers of the response."""
        headers = dict(options.pop("headers", {}))
        if token:
            headers["authorization"] = f"Bearer {token}"
        async with self.client.request(method, path, headers=headers, **options) as response:
            body = await response.json(content_type=None) if "json" in response.content_type else {}
            return response.status, body, {key.lower(): value for key, value in response.headers.items()}

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition is true."""
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.005)

    def audit_events(self) -> list[tuple[str, str, str, str]]:
        """Return the actor, action, route and outcome of each audit entry."""
        return [
            (entry.event.actor, entry.event.action, entry.event.route, entry.event.outcome.value)
            for entry in self.store.audit(1_000)
        ]


@asynccontextmanager
async def serving(
    path: Path,
    *,
    is_open: bool,
    secret: bytes | None = None,
    run_rollouts: bool = False,
    oidc: Oidc | None = None,
) -> AsyncIterator[Served]:
    """Run a server with a store in a folder; with `run_rollouts` the engine also advances rollouts."""
    store = SqliteStore(path / "state.sqlite", on_audited=log_checkpoint)
    engine, hub = build_engine(store, SCRIPTS, Hub)
    await engine.committer.load()
    access = AccessStore(store.file)
    authenticator = Authenticator(access, engine, is_open=is_open)
    site = Site(
        engine=engine,
        registry=registry(engine, hub),
        authenticator=authenticator,
        alarm_secret=secret,
        oidc_provider=None if oidc is None else OidcProvider(oidc, authenticator),
    )
    tasks = [asyncio.create_task(run()) for run in (hub.run, engine.reconciler.run)] if run_rollouts else []
    async with TestClient(TestServer(build(site))) as client:
        yield Served(client, engine, store, access, hub)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    store.close()
