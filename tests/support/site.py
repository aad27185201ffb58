"""The HTTP server of a control plane with a real engine and store, in the event loop of the test."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp.test_utils import TestClient, TestServer

from tests.support.plane import route
from tests.support.worlds import SCRIPTS
from xds_server.ads import Hub
from xds_server.audit import Deed
from xds_server.engine import Caller, Engine
from xds_server.identity import Grant, Role, new_token
from xds_server.store import AccessStore, SqliteStore
from xds_server.web import Gate, Provider, Site, build, registry

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
    """Return a canary spec with another name, path and labels."""
    said = ", ".join(f"{key}: {value}" for key, value in labels.items())
    text = GOOD.replace("metadata: {name: chat}", f"metadata: {{name: {name}, labels: {{{said}}}}}")
    return text.replace("prefix: /v1/", f"prefix: {path}")


@dataclass(slots=True)
class Served:
    """The server and its parts."""

    client: Client
    engine: Engine
    store: SqliteStore
    access: AccessStore
    hub: Hub

    def token(self, role: Role, name: str = "", *, life: float = 600.0, **labels: str) -> str:
        """Create a token and return its text."""
        now = self.engine._clock()
        grant = Grant(role=role, labels=tuple(sorted(labels.items())))
        token, text = new_token(
            secrets.token_bytes(38), name=name or role.word, grant=grant, by="test", now=now, expires_in=life
        )
        self.access.add_token(token, Deed(at=now, actor="test", action="create-token"))
        return text

    async def apply(self, text: str) -> None:
        await self.engine.apply(text, file="test.yaml", by=Caller(actor="test"))

    async def ask(
        self, method: str, path: str, *, token: str = "", **more: Any
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Send a request; return the status, JSON and headers of the response."""
        headers = dict(more.pop("headers", {}))
        if token:
            headers["authorization"] = f"Bearer {token}"
        async with self.client.request(method, path, headers=headers, **more) as answer:
            told = await answer.json(content_type=None) if "json" in answer.content_type else {}
            return answer.status, told, {key.lower(): value for key, value in answer.headers.items()}

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until `holds` returns true."""
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.005)

    def deeds(self) -> list[tuple[str, str, str, str]]:
        """Return the audit log as (actor, action, route, outcome)."""
        return [
            (e.deed.actor, e.deed.action, e.deed.route, e.deed.outcome.value) for e in self.store.audit(1_000)
        ]


@asynccontextmanager
async def serving(
    path: Path,
    *,
    is_open: bool,
    secret: bytes | None = None,
    alive: bool = False,
    oidc: Oidc | None = None,
) -> AsyncIterator[Served]:
    """Run a server; with `alive`, rollouts progress too."""
    store = SqliteStore(path / "state.sqlite")
    engine = Engine(store, SCRIPTS)
    hub = Hub(engine.compile)
    engine.attach(hub)
    await engine.load()
    access = AccessStore(store.file)
    gate = Gate(access, engine, is_open=is_open)
    site = Site(
        engine=engine,
        registry=registry(engine, hub),
        gate=gate,
        alarm_secret=secret,
        provider=None if oidc is None else Provider(oidc, gate),
    )
    jobs = [asyncio.create_task(job()) for job in (hub.run, engine.run)] if alive else []
    async with TestClient(TestServer(build(site))) as found:
        yield Served(found, engine, store, access, hub)
    for job in jobs:
        job.cancel()
    await asyncio.gather(*jobs, return_exceptions=True)
    store.close()
