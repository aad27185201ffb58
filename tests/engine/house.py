"""An engine with a real store and a real hub in the test's own loop; the clock is the test's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.support.worlds import SCRIPTS
from xds_server.engine import Action, Caller, Engine
from xds_server.store import SqliteStore
from xds_server.xds.server import Hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

__all__ = ["CANARY", "SHADOW", "V1", "V2", "House", "living"]

V1, V2 = ("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002")
CANARY = "{canary: {steps: [{setWeight: 5}, {pause: {duration: 1h}}, {setWeight: 100}], finalBakeTime: 1m}}"
SHADOW = "{shadow: {percentage: 20}}"


class House:
    """An engine over a file, which can be closed and opened again."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.now = 1_000.0
        self.path = path
        self.store = SqliteStore(path)
        self.engine = Engine(self.store, SCRIPTS, clock=lambda: self.now, **settings)
        self.hub = Hub(
            self.engine.compile,
            on_change=self.engine.group_changed,
            on_counts=self.engine.count,
            clock=lambda: self.now,
        )
        self.engine.attach(self.hub)

    async def apply(self, text: str) -> str:
        applied = await self.engine.apply(text, file="test.yaml", by=Caller(actor="test"))
        return applied.routes[0].action

    async def act(self, action: Action) -> None:
        await self.engine.command("chat", action, by=Caller(actor="test"))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.002)

    async def phase(self, phase: str) -> None:
        await self.until(lambda: self.engine.view("chat").phase == phase)

    async def ticks(self, count: int = 3) -> None:
        """Move the clock on by one second, wait until the engine has passed a tick, and repeat `count` times.

        A tick reaches the rollouts after the facts about proxies and evidence of the same pass. The effects
        of the last tick may still be on their way; the effects of all earlier ones are visible.
        """
        real, seen = rollout.step, 0

        def counting(state: rollout.State | None, event: rollout.Event, now: float) -> Any:
            nonlocal seen
            seen += isinstance(event, rollout.Tick)
            return real(state, event, now)

        with mock.patch.object(rollout, "step", counting):
            while seen < count:
                before = seen
                self.now += 1.0
                self.hub.on_change("chat")  # Wakes the engine.
                async with asyncio.timeout(10):
                    while seen == before:
                        await asyncio.sleep(0.002)


@asynccontextmanager
async def living(path: Path, **settings: Any) -> AsyncIterator[House]:
    house = House(path, **settings)
    await house.engine.load()
    jobs = [asyncio.create_task(house.hub.run()), asyncio.create_task(house.engine.run())]
    try:
        yield house
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        house.store.close()
