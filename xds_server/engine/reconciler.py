"""The loop that moves rollouts on: by time, proxies' ACKs, evidence and health reports."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from xds_server import rollout
from xds_server.engine.analysis_service import DAYS_STORED, SECONDS_STORED
from xds_server.engine.observations import convergence_event, shadow_events
from xds_server.store import StoreError, run_in_store_thread

if TYPE_CHECKING:
    from xds_server.clock import Clock
    from xds_server.engine.analysis_service import AnalysisService
    from xds_server.engine.committer import Committer
    from xds_server.engine.inbox import ReconcileInbox
    from xds_server.engine.ports import EngineObserver, Publisher, ShadowEvidence
    from xds_server.engine.queries import RouteQueries
    from xds_server.engine.routes import LiveRoute, RouteTable
    from xds_server.store import SqliteStore

__all__ = ["Reconciler"]

_PASS_SECONDS: Final = 1.0
"""The longest time between two passes over all routes."""
_DAYS_SECONDS: Final = 30.0
"""Seconds between two writes of the counts by day."""
_SHORTEST_WAIT: Final = 0.005

log = structlog.get_logger()


class Reconciler:
    """Runs passes: what was observed and what is due becomes events of the routes' state machines."""

    def __init__(  # noqa: PLR0913 - the composition root passes each part
        self,
        *,
        table: RouteTable,
        committer: Committer,
        queries: RouteQueries,
        analysis: AnalysisService,
        evidence: ShadowEvidence,
        publisher: Publisher,
        store: SqliteStore,
        inbox: ReconcileInbox,
        observer: EngineObserver,
        clock: Clock,
    ) -> None:
        self.store_failures = 0
        """Passes that ended early because the store could not write."""
        self._table = table
        self._committer = committer
        self._queries = queries
        self._analysis = analysis
        self._evidence = evidence
        self._publisher = publisher
        self._store = store
        self._inbox = inbox
        self._observer = observer
        self._clock = clock
        self._full_pass_at = 0.0
        self._days_stored_at = 0.0

    async def run(self) -> None:
        """Run passes until canceled."""
        while True:
            changed = self._inbox.take_groups()
            for group in changed:
                self._observer.group_changed(group, self._publisher.convergence(group))
            try:
                async with self._committer.exclusive():
                    await self._apply_health()
                    for live, group_changed in self._due(changed):
                        await self._advance(live, group_changed=group_changed)
                await self._store_counts()
            except StoreError:
                # Rollouts stay in the state that was stored last; proxies keep the snapshot they have.
                self.store_failures += 1
                log.exception("store_failed", consequence="rollouts stand still until the store works again")
                self._inbox.put_back(changed)
                await asyncio.sleep(_PASS_SECONDS)
            await self._inbox.wait(self._seconds_to_next_pass())

    async def _apply_health(self) -> None:
        for route, health in self._inbox.pending_health():
            live = self._table.find(route)
            if live is not None:
                await self._committer.apply_event(route, health, "health")
                # A step that waited for a healthy endpoint begins in the same pass.
                await self._advance(live, group_changed=False)
            # Not reached if the store could not write: the report then stays for the next pass.
            self._inbox.health_handled(route, health)

    def _due(self, changed_groups: set[str]) -> list[tuple[LiveRoute, bool]]:
        """Return the routes of this pass, and whether the convergence of each one's group changed."""
        now = self._clock.now()
        everything = now - self._full_pass_at >= _PASS_SECONDS
        if everything:
            self._full_pass_at = now
        due = []
        for live in self._table:
            group_changed = live.group in changed_groups
            deadline = rollout.next_deadline(live.state)
            if everything or group_changed or (deadline is not None and deadline <= now):
                due.append((live, group_changed))
        return due

    async def _advance(self, live: LiveRoute, *, group_changed: bool) -> None:
        """Apply convergence, evidence, verdict and time to a route, in this order."""
        name, spec = live.name, live.route.spec
        convergence = self._publisher.convergence(live.group)
        reached = convergence.reached(spec.convergence.quorum)
        if group_changed or not reached:
            event = convergence_event(live.state, convergence, reached=reached)
            await self._committer.apply_event(name, event, "proxies")
        summary = self._evidence.summary(name, spec.stable, spec.candidate)
        for event in shadow_events(live.state, summary, self._queries.equivalence(live)):
            await self._committer.apply_event(name, event, "collector")
        verdict = self._analysis.evaluate(live, self._clock.now())
        if verdict is not None:
            await self._committer.apply_event(name, verdict, "analysis")
        await self._committer.apply_event(name, rollout.Tick(synced=reached), "clock")

    async def _store_counts(self) -> None:
        """Store closed blocks and daily counts; those that the store cannot write are lost.

        A block that was not stored is not evaluated again after a restart.
        """
        now = self._clock.now()
        blocks = self._analysis.take_blocks()
        if blocks:
            await run_in_store_thread(self._store.save_blocks, blocks, drop_before=now - SECONDS_STORED)
        if now - self._days_stored_at >= _DAYS_SECONDS:
            self._days_stored_at = now
            days = self._analysis.take_days()
            oldest = datetime.fromtimestamp(now - DAYS_STORED * 86_400, tz=UTC).date().isoformat()
            if days:
                await run_in_store_thread(self._store.add_days, days, drop_before=oldest)

    def _seconds_to_next_pass(self) -> float:
        """Return the seconds until the next deadline of any route, but at least 5 ms and at most 1 s."""
        now = self._clock.now()
        deadlines = [rollout.next_deadline(live.state) for live in self._table]
        soonest = min((d for d in deadlines if d is not None), default=now + _PASS_SECONDS)
        return min(_PASS_SECONDS, max(_SHORTEST_WAIT, soonest - now))
