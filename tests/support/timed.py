"""A control plane in a thread of the test, whose rollouts use a clock that the test advances.

Everything else is real: the store, the discovery port, the proxies and the backends. Hours of a rollout pass
in the time it takes a proxy to sync.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any, Self, TypeVar

from tests.support.clock import ManualClock
from tests.support.configs import SCRIPTS
from tests.support.plane import eventually
from xds_server import ir
from xds_server.engine import Action, Caller, ReconcileInbox, build_engine
from xds_server.health import HealthChecks
from xds_server.sources import CollectorEvidence, CollectorSource
from xds_server.store import SqliteStore
from xds_server.view import to_json
from xds_server.xds.server import Hub, ListenerConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

__all__ = ["TimedPlane"]

T = TypeVar("T")


class TimedPlane:
    """A control plane on `port`; `advance` advances its clock."""

    def __init__(self, folder: Path, port: int, *, collector: tuple[int, int] | None = None) -> None:
        """Create it; `collector` is the gRPC and the HTTP port of a running collector."""
        self.ahead = 0.0
        self._store = SqliteStore(folder / "timed.sqlite")
        source = None if collector is None else CollectorSource(f"http://127.0.0.1:{collector[1]}")
        inbox = ReconcileInbox()
        self._health = HealthChecks(inbox.health_reported)
        self.engine, self._hub = build_engine(
            self._store,
            SCRIPTS,
            Hub,
            collector=None if collector is None else ir.Address(host="127.0.0.1", port=collector[0]),
            evidence=CollectorEvidence(source, None),
            health=self._health,
            inbox=inbox,
            clock=ManualClock(lambda: time.time() + self.ahead),
        )
        self._source = source
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def __enter__(self) -> Self:
        """Start the control plane and wait until its xDS port is open."""
        self._thread.start()
        assert self._up.wait(10), "the control plane did not start"
        return self

    def __exit__(self, *_error: object) -> None:
        """Stop the control plane."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()
        self._store.close()

    def advance(self, seconds: float) -> None:
        """Advance the clock."""
        self.ahead += seconds

    def apply(self, text: str) -> list[str]:
        """Apply a spec; return the result per route."""
        applied = self._call(self.engine.routes.apply(text, file="test.yaml", by=Caller(actor="test")))
        return [item.action for item in applied.routes]

    def act(self, action: Action, reason: str = "the test requests it", name: str = "chat") -> dict[str, Any]:
        """Send a command to a route; return its view."""
        return to_json(
            self._call(self.engine.routes.command(name, action, by=Caller(actor="test", reason=reason)))
        )

    def view(self, name: str = "chat") -> dict[str, Any]:
        """Return the view of a route."""

        async def ask() -> dict[str, Any]:
            return to_json(self.engine.queries.view(name))

        return self._call(ask())

    def until(self, holds: Callable[[dict[str, Any]], bool], *, within: float = 20) -> dict[str, Any]:
        """Poll until the view of the route satisfies `holds`."""
        return eventually(self.view, holds, within=within)

    def held(self, kind: str, weight: float | None = None) -> dict[str, Any]:
        """Wait for a step (or phase) of this kind with its timer running and the proxies synced."""

        def holds(view: dict[str, Any]) -> bool:
            there = view["phase"] == kind or (view["step"] is not None and view["step"]["kind"] == kind)
            convergence = view["convergence"]
            settled = convergence["connected"] > 0 and convergence["acked"] == convergence["connected"]
            waits = view["step"] is None or view["step"]["waiting_for"] != "convergence"
            share = weight is None or 100 - view["weights"][view["stable"]] == weight
            return bool(there and settled and waits and share)

        return self.until(holds)

    def kinds(self) -> list[str]:
        """Return the kinds of the recorded events of the route, oldest first."""
        return [event.kind for event in self._call(self.engine.queries.events("chat", 1_000))]

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(20)

    async def _run(self) -> None:
        hub = self._hub
        await self.engine.committer.load()
        door = ListenerConfig(address=f"127.0.0.1:{self._port}")
        server = door.server(hub)
        await server.start(door.address)
        async with asyncio.TaskGroup() as tasks:
            jobs = [hub.run, self.engine.reconciler.run, self._health.run]
            if self._source is not None:
                jobs.append(self._source.run)
            running = [tasks.create_task(job()) for job in jobs]
            self._up.set()
            await self._stop.wait()
            for task in running:
                task.cancel()
        await server.stop(1)
