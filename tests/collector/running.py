"""A collector within the test process, on loopback ports chosen by the system."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from mirror_collector.app import BoundAddresses, Config, run
from mirror_collector.exchange import PairingLimits
from mirror_collector.logs import start_logging
from mirror_collector.receive import LegQueueLimits
from mirror_collector.settings import Settings
from mirror_collector.store import StoreLimits
from mirror_collector.units import Address

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

LOOPBACK = Address(host="127.0.0.1", port=0)


@dataclass(slots=True, kw_only=True)
class Clock:
    """A clock that tests advance."""

    now: float = 1_700_000_100.0

    def __call__(self) -> float:
        return self.now


@dataclass(slots=True, kw_only=True)
class Collector:
    """A running collector and an HTTP client."""

    at: BoundAddresses
    client: aiohttp.ClientSession
    clock: Clock
    stop: asyncio.Event
    log: io.StringIO

    async def get(self, path: str, status: int = 200) -> Any:
        async with self.client.get(f"http://{self.at.http}{path}") as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def text(self, path: str) -> str:
        async with self.client.get(f"http://{self.at.http}{path}") as response:
            return await response.text()

    async def post(self, body: Any, *, status: int = 202, kind: str = "application/json") -> Any:
        url = f"http://{self.at.http}/v1/exchanges"
        sent = (
            {"data": body, "headers": {"content-type": kind}} if isinstance(body, bytes) else {"json": body}
        )
        async with self.client.post(url, **sent) as response:
            assert response.status == status, await response.text()
            return await response.json()

    async def summary_when(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Poll the summary until `done` returns True."""
        async with asyncio.timeout(10):
            while True:
                summary: dict[str, Any] = await self.get("/v1/summary")
                if done(summary):
                    return summary

    async def pairs_when(self, n: int) -> dict[str, Any]:
        """Return the summary of the route ``chat`` when it has `n` pairs."""
        summary = await self.summary_when(lambda s: any(r["pairs"] == n for r in s["routes"]))
        chat: dict[str, Any] = next(route for route in summary["routes"] if route["route"] == "chat")
        return chat


@dataclass(slots=True, kw_only=True)
class Setting:
    """The configuration of the collector that tests vary."""

    pairing: PairingLimits = field(default_factory=PairingLimits)
    queue: LegQueueLimits = field(default_factory=LegQueueLimits)
    limits: StoreLimits = field(default_factory=StoreLimits)
    settings: Settings = field(default_factory=Settings)


def start_collector(path: Path, setting: Setting) -> AbstractAsyncContextManager[Collector]:
    @asynccontextmanager
    async def started() -> AsyncIterator[Collector]:
        config = Config(
            store=path,
            grpc=LOOPBACK,
            http=LOOPBACK,
            pairing=setting.pairing,
            queue=setting.queue,
            limits=setting.limits,
            settings=setting.settings,
        )
        clock, stop, log = Clock(), asyncio.Event(), io.StringIO()
        listening: asyncio.Future[BoundAddresses] = asyncio.get_running_loop().create_future()
        running = asyncio.create_task(
            run(config, stop=stop, log=start_logging(log), clock=clock, listening=listening)
        )
        tasks: set[asyncio.Future[Any]] = {listening, running}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            await running
        try:
            async with aiohttp.ClientSession() as client:
                yield Collector(at=listening.result(), client=client, clock=clock, stop=stop, log=log)
        finally:
            stop.set()
            async with asyncio.timeout(10):
                await running

    return started()
