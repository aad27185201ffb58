"""The one way every change goes: the machine decides, the store keeps it, and only then does anything leave.

So whatever was published is also what a restart finds. Whoever calls this sees to it that changes come one
after the other.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

import structlog

from xds_server import rollout
from xds_server.access.audit import Outcome
from xds_server.access.identity import FailureLimiter
from xds_server.engine.acceptance import words_of
from xds_server.engine.analysis_service import BLOCKS_KEPT
from xds_server.engine.caller import standing
from xds_server.engine.desk import Desk
from xds_server.engine.errors import EngineError, TooManyRefusalsError
from xds_server.engine.live import EVENTS_KEPT, LiveRoute, event_view, watched
from xds_server.spec import load
from xds_server.store import Change, ConflictError, soon
from xds_server.view import EventView

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from xds_server import ir
    from xds_server.access.audit import AuditEvent, Checkpoint
    from xds_server.engine.caller import Caller, OperatorRequest
    from xds_server.engine.desk import Summary
    from xds_server.engine.snapshots import SnapshotCompiler
    from xds_server.health import BackendCheck
    from xds_server.store import SqliteStore
    from xds_server.xds.snapshot import Snapshot

__all__ = ["Changes"]

_MOST_REFUSALS: Final = 100
"""Refused tries of one caller that are written down at once; then one every few seconds."""

log = structlog.get_logger()


def no_span(_name: str, **_fields: str | int) -> AbstractContextManager[None]:
    """Stand in for traces where nobody wants any."""
    return nullcontext()


class Changes(Desk):
    """The routes that run, and what a change of one of them does to store, log and proxies."""

    def __init__(
        self,
        store: SqliteStore,
        worlds: SnapshotCompiler,
        summary: Summary,
        clock: Callable[[], float],
        *,
        checks_health: bool,
    ) -> None:
        super().__init__(store, summary, clock)
        self.ready = False
        """Whether the store was loaded."""
        self.reads_usage = True
        """Whether proxies read from answers how many tokens they took; to be set before any comes in."""
        self._worlds = worlds
        self._checks_health = checks_health
        self._refused = FailureLimiter(burst=_MOST_REFUSALS)
        self._wake = asyncio.Event()
        self._moved: set[str] = set()
        self.on_watched: Callable[[Collection[BackendCheck]], None] = lambda _watched: None
        self.on_group_changed: Callable[[str], None] = lambda _group: None
        self.on_event: Callable[[], None] = lambda: None
        """Called whenever a line was added to the history of a route; may neither wait nor fail."""
        self.on_published: Callable[[str], None] = lambda _group: None
        self.span: Callable[..., AbstractContextManager[None]] = no_span
        """Makes a span of what happens inside, by name and fields."""
        store.file.on_audited = _audited

    async def load(self) -> None:
        """Take over what the store holds; before this, no stream may be accepted.

        Raises:
            EngineError: A stored spec cannot be read by this version.
        """
        await self._take_over()
        self.ready = True
        log.info("store_loaded", routes=len(self._routes))
        self._watch()

    async def refuse(self, by: Caller, action: str, name: str, words: str) -> None:
        """Write down what somebody may not do, or what could not be done.

        Raises:
            TooManyRefusalsError: So much of theirs was refused that more of it would only fill the audit.
        """
        # Who they are, and not who they say is at the keyboard.
        who, now = f"{by.via} {by.actor.partition(' (as ')[0]}", time.monotonic()
        if wait := self._refused.wait(who, now):
            raise TooManyRefusalsError(words, wait)
        self._refused.note(who, now)
        await self.note(by.deed(action, name, self._clock(), outcome=Outcome.REFUSED, detail=words))

    async def note(self, deed: AuditEvent) -> None:
        """Write down what somebody did that is not about a rollout, or was refused."""
        await soon(self._store.note, deed)

    def compile(self, proxies: ir.NodeClass) -> Snapshot:
        """Return the newest world of a class of proxies.

        Raises:
            WorldError: It would break a rule that protects users.
        """
        return self._worlds.newest(proxies, self._routes.values(), reads_usage=self.reads_usage)

    # Inside

    async def _feed(
        self, name: str, event: rollout.Event, actor: str, told: OperatorRequest | None = None
    ) -> None:
        """Let a route take an event: decide, keep, then publish."""
        live = self._live(name)
        now = self._clock()
        after, effects = rollout.step(live.state, event, now)
        if after == live.state and not effects:
            if told is not None:
                await self.note(told.by.deed(told.action, name, now, detail="nothing was to be changed"))
            return
        deed = None
        if told is not None:
            stood = standing(live.state), standing(after)
            deed = told.by.deed(
                told.action, name, now, detail=words_of(effects), before=stood[0], after=stood[1]
            )
        change = Change(
            name=name,
            expected=live.seq,
            event=event,
            actor=actor,
            at=now,
            state=after,
            effects=effects,
            deed=deed,
        )
        with self.span("move", route=name, event=type(event).__name__, actor=actor):
            (live.seq,) = await self._keep(change)
            live.state = after
            self._record(live, effects, actor)
            if any(isinstance(effect, rollout.Publish) for effect in effects):
                self._publish(live.group)

    async def _keep(self, *changes: Change) -> tuple[int, ...]:
        """Store changes, before anything follows from them."""
        try:
            with self.span("keep", changes=len(changes)):
                return await soon(self._store.commit, *changes)
        except ConflictError:
            # The store went on without us, say after an error that came too late. What it holds is the truth.
            await self._take_over()
            raise

    async def _take_over(self) -> None:
        for stored in await soon(self._store.load):
            loaded = load(stored.text, file=stored.file)
            if not loaded.documents or not loaded.ok:
                problems = "; ".join(str(problem) for problem in loaded.problems)
                raise EngineError(f"the store holds a spec that this version cannot read: {problems}")
            live = LiveRoute(document=loaded.documents[0], state=stored.state, seq=stored.seq)
            history = await soon(self._store.history, live.name, EVENTS_KEPT, whole=False)
            live.events.extend(event_view(event) for event in history)
            self._routes[live.name] = live
            blocks = await soon(self._store.blocks, live.name, BLOCKS_KEPT)
            self._court.resume(live, blocks, self._clock())

    def _record(self, live: LiveRoute, effects: tuple[rollout.Effect, ...], actor: str) -> None:
        state = live.state
        for effect in effects:
            if isinstance(effect, rollout.Record):
                log.info(
                    effect.what,
                    route=live.name,
                    group=live.group,
                    generation=state.generation,
                    revision=state.revision,
                    phase=state.phase.value,
                    actor=actor,
                    message=effect.message,
                )
                view = EventView(
                    seq=live.seq or 0,
                    at=self._clock(),
                    kind=effect.what,
                    actor=actor,
                    message=effect.message,
                    phase=state.phase.value,
                    generation=state.generation,
                    revision=state.revision,
                    weights={variant: share / 100 for variant, share in state.weights.items()},
                )
                live.events.append(view)
                self.on_event()

    def _publish(self, group: str) -> None:
        if self._hub is not None:
            with self.span("publish", group=group):
                self._hub.publish(group)
                self.on_published(group)
        self.group_changed(group)

    def _watch(self) -> None:
        self.on_watched(tuple(watched(self._routes.values())) if self._checks_health else ())

    def group_changed(self, group: str) -> None:
        """Note that the convergence of a group of proxies changed."""
        self.on_group_changed(group)
        self._moved.add(group)
        self._wake.set()


def _audited(anchor: Checkpoint) -> None:
    """Say where the chain of the audit is, so that the log knows it too."""
    log.info("audited", seq=anchor.seq, hash=anchor.hash)
