"""An engine with a real store and a real hub in the test's own loop; the test moves the clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any
from unittest import mock

from tests.support.clock import ManualClock
from tests.support.configs import SCRIPTS
from xds_server import rollout
from xds_server.analysis.experiments import Exposures
from xds_server.analysis.verdicts import PairSummary
from xds_server.engine import Action, Caller, build_engine
from xds_server.store import SqliteStore
from xds_server.xds.server import Hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from contextlib import AbstractContextManager
    from pathlib import Path

    from xds_server.analysis.verdicts import PairCounts
    from xds_server.health import BackendCheck
    from xds_server.traces import Tracer
    from xds_server.view import Convergence

__all__ = ["CANARY", "SHADOW", "V1", "V2", "EngineHarness", "RecordingHealth", "running_engine"]

V1, V2 = ("v1", "127.0.0.1:9001"), ("v2", "127.0.0.1:9002")
CANARY = "{canary: {steps: [{setWeight: 5}, {pause: {duration: 1h}}, {setWeight: 100}], finalBakeTime: 1m}}"
SHADOW = "{shadow: {percentage: 20}}"


def _ignore() -> None:
    """Stand in for a callback that a test does not need."""


@dataclass
class _Observer:
    """Passes on what the engine reports to what a test puts here."""

    on_event: Callable[[], None] = _ignore
    tracer: Tracer | None = None

    def span(self, name: str, **fields: str | int) -> AbstractContextManager[None]:
        return nullcontext() if self.tracer is None else self.tracer.span(name, **fields)

    def event_recorded(self) -> None:
        self.on_event()

    def published(self, group: str, convergence: Convergence) -> None:
        if self.tracer is not None:
            self.tracer.published(group, convergence)

    def group_changed(self, group: str, convergence: Convergence) -> None:
        if self.tracer is not None:
            self.tracer.group_changed(group, convergence)


@dataclass
class _Evidence:
    """Answers with what a test puts here."""

    found: dict[str, Any] | None = None
    exposed: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    counts: PairCounts | None = None

    def summary(self, route: str, stable: str, candidate: str | None) -> PairSummary | None:
        return None if self.found is None else PairSummary.from_json(self.found)

    def pair_counts(self, route: str, stable: str, candidate: str, since: float) -> PairCounts | None:
        return self.counts

    def exposures(self, route: str, experiment: str) -> Exposures | None:
        found = self.exposed.get((route, experiment))
        return None if found is None else Exposures.from_json(found)


@dataclass
class RecordingHealth:
    """Records which backends the engine wants checked; a test reports their health."""

    watched: list[tuple[BackendCheck, ...]] = field(default_factory=list)

    def watch(self, watched: Collection[BackendCheck]) -> None:
        self.watched.append(tuple(watched))


class EngineHarness:
    """An engine with a hub and a store file; a second harness with the same file simulates a restart."""

    def __init__(self, path: Path, **settings: Any) -> None:
        self.now: float = settings.pop("now", 1_000.0)
        self.path = path
        self.store = SqliteStore(path)
        self.observer = _Observer()
        self.evidence = _Evidence(found=settings.pop("summary", None))
        clock = ManualClock(lambda: self.now)
        self.engine, self.hub = build_engine(
            self.store,
            SCRIPTS,
            partial(Hub, clock=clock),
            evidence=self.evidence,
            observer=self.observer,
            clock=clock,
            **settings,
        )

    async def apply(self, text: str) -> str:
        applied = await self.engine.routes.apply(text, file="test.yaml", by=Caller(actor="test"))
        return applied.routes[0].action

    async def act(self, action: Action) -> None:
        await self.engine.routes.command("chat", action, by=Caller(actor="test"))

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                await asyncio.sleep(0.002)

    async def phase(self, phase: str) -> None:
        await self.until(lambda: self.engine.queries.view("chat").phase == phase)

    async def ticks(self, count: int = 3) -> None:
        """Move the clock on by one second and wait until the engine has applied a tick, `count` times.

        A tick reaches a rollout after the convergence and the evidence of the same pass. The effects of the
        last tick may still be pending; the effects of all earlier ones are visible.
        """
        step, seen = rollout.step, 0

        def counting_step(state: rollout.State | None, event: rollout.Event, now: float) -> Any:
            nonlocal seen
            seen += isinstance(event, rollout.Tick)
            return step(state, event, now)

        with mock.patch.object(rollout, "step", counting_step):
            while seen < count:
                before = seen
                self.now += 1.0
                self.engine.inbox.group_changed("chat")
                async with asyncio.timeout(10):
                    while seen == before:
                        await asyncio.sleep(0.002)


@asynccontextmanager
async def running_engine(path: Path, **settings: Any) -> AsyncIterator[EngineHarness]:
    harness = EngineHarness(path, **settings)
    await harness.engine.committer.load()
    jobs = [asyncio.create_task(harness.hub.run()), asyncio.create_task(harness.engine.reconciler.run())]
    try:
        yield harness
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        harness.store.close()
