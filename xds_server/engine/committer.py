"""The only writer of routes: decide, store, publish.

Every change of a route goes through these three steps in this order (a deletion starts with step 2):

1. **decide**: `rollout.step` returns the next state and the effects (pure).
2. **store**: the event, the state and the audit event are written in one transaction.
3. **publish**: the route table changes, and the publisher sends the new snapshot to the proxies.

A process that is killed between 2 and 3 loses nothing: on its next start it refuses streams until it has
loaded the stored state, and then serves the snapshot of that state to every proxy that connects. A process
that is killed before 2 has changed nothing.

Each step is a method: `_decide` (for specs: `acceptance.evaluate`), `_store_changes`, `_adopt` with
`_publish`. A kill command that must not wait for a slow store could be adopted and published first and stored
later; no code path does that yet.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from xds_server import rollout
from xds_server.engine.acceptance import message_of
from xds_server.engine.analysis_service import BLOCKS_RESUMED
from xds_server.engine.caller import audited_state
from xds_server.engine.errors import EngineError
from xds_server.engine.observations import watched_backends
from xds_server.engine.routes import EVENTS_KEPT, LiveRoute, event_view
from xds_server.spec import load
from xds_server.store import Change, ConflictError, run_in_store_thread
from xds_server.view import EventView

if TYPE_CHECKING:
    from collections.abc import Collection

    from xds_server.access.audit import AuditEvent
    from xds_server.clock import Clock
    from xds_server.engine.acceptance import Candidate
    from xds_server.engine.analysis_service import AnalysisService
    from xds_server.engine.audit import AuditRecorder
    from xds_server.engine.caller import OperatorRequest
    from xds_server.engine.inbox import ReconcileInbox
    from xds_server.engine.ports import EngineObserver, HealthWatcher, Publisher
    from xds_server.engine.routes import RouteTable
    from xds_server.store import SqliteStore

__all__ = ["Committer"]

log = structlog.get_logger()


class Committer:
    """Applies changes to the route table, the store and the proxies, one after the other."""

    def __init__(  # noqa: PLR0913 - the composition root passes each part
        self,
        *,
        store: SqliteStore,
        table: RouteTable,
        publisher: Publisher,
        analysis: AnalysisService,
        audit: AuditRecorder,
        inbox: ReconcileInbox,
        observer: EngineObserver,
        clock: Clock,
        health: HealthWatcher | None,
    ) -> None:
        """`health` is None where backends are not checked."""
        self.ready = False
        """Whether the store was loaded; no stream may be served before that."""
        self._store = store
        self._table = table
        self._publisher = publisher
        self._analysis = analysis
        self._audit = audit
        self._inbox = inbox
        self._observer = observer
        self._clock = clock
        self._health = health
        self._lock = asyncio.Lock()

    @property
    def checks_health(self) -> bool:
        """Whether backends are health-checked, so that candidates wait for a healthy endpoint."""
        return self._health is not None

    def exclusive(self) -> asyncio.Lock:
        """Return the lock that orders all changes; hold it for `apply_event`, `apply_specs` and `delete`."""
        return self._lock

    async def load(self) -> None:
        """Load the stored routes into the table.

        Raises:
            EngineError: A stored spec cannot be read by this version.
            StoreError: The store cannot be read.
        """
        await self._load_routes()
        self.ready = True
        log.info("store_loaded", routes=len(self._table))
        self._watch_backends()

    async def apply_event(
        self, name: str, event: rollout.Event, actor: str, request: OperatorRequest | None = None
    ) -> None:
        """Apply an event to a route's state machine; store and publish the resulting change.

        `request` is the audited request of an operator, None for what the engine observes itself.

        Raises:
            UnknownRouteError: There is no such route.
            CommandNotAllowedError: The route's phase does not allow the command; nothing changed.
            ConflictError: The store holds a newer state; it was loaded and published, without this event.
            StoreError: The store cannot write; nothing changed.
        """
        live = self._table.get(name)
        change = self._decide(live, event, actor, request)
        if change is None:
            if request is not None:
                now = self._clock.now()
                unchanged = request.by.audit_event(request.action, name, now, detail="nothing to change")
                await self._audit.record(unchanged)
            return
        with self._observer.span("move", route=name, event=type(event).__name__, actor=actor):
            (seq,) = await self._store_changes(change)
            self._adopt(live, change, seq)
            if any(isinstance(effect, rollout.Publish) for effect in change.effects):
                self._publish(live.group)

    def _decide(
        self, live: LiveRoute, event: rollout.Event, actor: str, request: OperatorRequest | None
    ) -> Change | None:
        """Return the change that follows from an event; None if nothing changes.

        Raises:
            CommandNotAllowedError: The route's phase does not allow the command.
        """
        now = self._clock.now()
        state, effects = rollout.step(live.state, event, now)
        if state == live.state and not effects:
            return None
        audited = None
        if request is not None:
            audited = request.by.audit_event(
                request.action,
                live.name,
                now,
                detail=message_of(effects),
                before=audited_state(live.state),
                after=audited_state(state),
            )
        return Change(
            name=live.name,
            expected=live.seq,
            event=event,
            actor=actor,
            at=now,
            state=state,
            effects=effects,
            audit_event=audited,
        )

    async def apply_specs(self, candidates: Collection[Candidate], groups: Collection[str]) -> None:
        """Store the changed routes of a file in one transaction, and publish each group once.

        Raises:
            ConflictError: The store holds a newer state; it was loaded and published, without this file.
            StoreError: The store cannot write; nothing changed.
        """
        changed = [(c.change, c.becoming) for c in candidates if c.change is not None]
        numbers = await self._store_changes(*(change for change, _ in changed))
        for (change, becoming), seq in zip(changed, numbers, strict=True):
            self._table.put(becoming)
            self._adopt(becoming, change, seq)
        self._watch_backends()
        for group in groups:
            self._publish(group)
        self._inbox.wake()

    async def delete(self, live: LiveRoute, event: AuditEvent) -> None:
        """Delete a route from the store, then from the table and the proxies.

        Raises:
            StoreError: The store cannot write; nothing changed.
        """
        await run_in_store_thread(self._store.delete, live.name, audit_event=event)
        self._table.remove(live.name)
        self._analysis.forget(live.name)
        log.info("route_deleted", route=live.name, actor=event.actor)
        self._observer.event_recorded()
        self._watch_backends()
        self._publish(live.group)

    async def _store_changes(self, *changes: Change) -> tuple[int, ...]:
        """Write changes in one transaction; return the numbers of their events.

        After a conflict, load and publish what the store holds, and raise the ConflictError.
        """
        try:
            with self._observer.span("keep", changes=len(changes)):
                return await run_in_store_thread(self._store.commit, *changes)
        except ConflictError:
            # Another process changed the store, or a commit of this process succeeded but reported an error.
            groups = {live.group for live in self._table}
            await self._load_routes()
            # Proxies may lack what the store holds by now, such as a kill.
            for group in groups | {live.group for live in self._table}:
                self._publish(group)
            raise

    async def _load_routes(self) -> None:
        """Replace the table by the stored routes."""
        stored_routes = await run_in_store_thread(self._store.load)
        for stored in stored_routes:
            loaded = load(stored.text, file=stored.file)
            if not loaded.documents or not loaded.ok:
                problems = "; ".join(str(problem) for problem in loaded.problems)
                raise EngineError(
                    f"this version of shiftplane cannot read the stored spec of route {stored.name!r}; "
                    f"run the version that stored it, or restore a backup; problems: {problems}"
                )
            live = LiveRoute(document=loaded.documents[0], state=stored.state, seq=stored.seq)
            history = await run_in_store_thread(self._store.history, live.name, EVENTS_KEPT, whole=False)
            live.events.extend(event_view(event) for event in history)
            self._table.put(live)
            blocks = await run_in_store_thread(self._store.blocks, live.name, BLOCKS_RESUMED)
            self._analysis.resume(live, blocks, self._clock.now())
        for name in set(self._table.names()) - {stored.name for stored in stored_routes}:
            self._table.remove(name)
            self._analysis.forget(name)

    def _adopt(self, live: LiveRoute, change: Change, seq: int) -> None:
        """Make a stored change the route's present state; log its records and add them to its history."""
        live.seq = seq
        live.state = change.state
        state = live.state
        for effect in change.effects:
            if isinstance(effect, rollout.Record):
                log.info(
                    effect.what,
                    route=live.name,
                    group=live.group,
                    generation=state.generation,
                    revision=state.revision,
                    phase=state.phase.value,
                    actor=change.actor,
                    message=effect.message,
                )
                view = EventView(
                    seq=seq,
                    at=self._clock.now(),
                    kind=effect.what,
                    actor=change.actor,
                    message=effect.message,
                    phase=state.phase.value,
                    generation=state.generation,
                    revision=state.revision,
                    weights={variant: share / 100 for variant, share in state.weights.items()},
                )
                live.events.append(view)
                self._observer.event_recorded()

    def _publish(self, group: str) -> None:
        """Send the newest snapshots of a group to its proxies."""
        with self._observer.span("publish", group=group):
            self._publisher.publish(group)
            self._observer.published(group, self._publisher.convergence(group))
        self._inbox.group_changed(group)

    def _watch_backends(self) -> None:
        if self._health is not None:
            self._health.watch(tuple(watched_backends(self._table)))
