"""The shell around rollouts: takes specs, commands and what others know, and moves rollouts on.

One lock orders all changes; each goes the one way of `changes`. Reading, in `desk`, needs none.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import structlog

from xds_server import ir, rollout
from xds_server.alarms import FiringAlerts
from xds_server.analysis.counts import group_by_route
from xds_server.engine.acceptance import accept, refuse_wrong
from xds_server.engine.analysis_service import DAYS_KEPT, KEPT_SECONDS
from xds_server.engine.caller import OperatorRequest, standing
from xds_server.engine.changes import Changes
from xds_server.engine.claims import same_claim, takes_from
from xds_server.engine.desk import no_summary
from xds_server.engine.errors import CommandRefusedError, ForbiddenError, StaleError
from xds_server.engine.live import (
    Action,
    ApplyResult,
    SpecPrecondition,
    alarm_event,
    asked_for,
    event_of,
    heard,
    learned,
)
from xds_server.engine.snapshots import SnapshotCompiler
from xds_server.spec import Loaded, load
from xds_server.store import StoreError, soon

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from xds_server.alarms import Alert
    from xds_server.analysis.counts import Counts, Leg
    from xds_server.engine.caller import Caller
    from xds_server.engine.desk import Summary
    from xds_server.engine.live import LiveRoute
    from xds_server.spec import ModelRoute
    from xds_server.store import SqliteStore
    from xds_server.translate import Scripts
    from xds_server.view import RouteView
    from xds_server.xds.server import Hub
    from xds_server.xds.workers import WorkerPool

__all__ = ["Engine"]

_TICK_SECONDS: Final = 1.0
_TALLY_SECONDS: Final = 30.0
_ANY_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)

log = structlog.get_logger()


class Engine(Changes):
    """All routes, and the only door through which any of them changes."""

    def __init__(
        self,
        store: SqliteStore,
        scripts: Scripts,
        *,
        collector: ir.Address | None = None,
        summary: Summary = no_summary,
        checks_health: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`collector` is where proxies send captured legs; `summary` tells what it found of a route.

        With `checks_health` somebody tells which backends live, and candidates wait for that.
        """
        super().__init__(
            store, SnapshotCompiler(scripts, collector), summary, clock, checks_health=checks_health
        )
        self.store_failures = 0
        """How often rollouts stood still because the store did not take what happened."""
        self.hears_proxies = True
        self._lock = asyncio.Lock()
        self._reads = asyncio.Lock()
        self._swept = 0.0
        self._tallied = 0.0
        self._health: dict[tuple[str, str], rollout.Health] = {}
        self._alarms = FiringAlerts()

    def attach(self, hub: Hub | WorkerPool) -> None:
        """Publish through this hub, and hear from it who accepted what."""
        self._hub = hub

    def note_health(self, route: str, found: rollout.Health) -> None:
        """Hear how many endpoints of a backend live; the newest word counts."""
        self._health[route, found.backend] = found
        self._wake.set()

    def count(self, group: str, legs: Mapping[Leg, Counts]) -> None:
        """Hear what a proxy of a group counted; of routes that others serve, nothing."""
        if self.hears_proxies:
            self._count(legs, group)

    def count_all(self, legs: Mapping[Leg, Counts]) -> None:
        """Hear what all proxies counted, from somebody else; what they say themselves is then not heard."""
        self.hears_proxies = False
        self._count(legs, None)

    def _count(self, legs: Mapping[Leg, Counts], group: str | None) -> None:
        now = self._clock()
        for name, own in group_by_route(legs).items():
            live = self._routes.get(name)
            if live is not None and group in {None, live.group}:
                self._court.count(live, own, now)

    async def run(self) -> None:
        """Move rollouts on, by time and by acknowledgements, until cancelled."""
        while True:
            self._wake.clear()
            moved, self._moved = self._moved, set()
            try:
                async with self._lock:
                    await self._hear_health()
                    for name, by_proxies in self._due(moved):
                        await self._advance(name, by_proxies=by_proxies)
                await self._keep_blocks()
            except StoreError:
                # Rollouts stand still where the store last saw them; proxies keep what they hold.
                self.store_failures += 1
                log.exception("store_failed", consequence="rollouts stand still until it works again")
                self._moved |= moved
                await asyncio.sleep(_TICK_SECONDS)
            await self._sleep()

    # What may be done

    async def apply(
        self, text: str, *, file: str, by: Caller, dry_run: bool = False, only: SpecPrecondition | None = None
    ) -> ApplyResult:
        """Accept the routes of a spec file, all of them or none; of one route `only`, where that is said.

        Raises:
            SpecRefusedError: The file has problems, alone or together with the routes that run.
            ForbiddenError: One of the routes is not the caller's, or would not be any more.
            StaleError: The route is no longer the one it should be.
        """
        loaded = await self._read(text, file)
        async with self._lock:
            with self.span("apply", file=file, actor=by.actor):
                return await self._apply(loaded, by=by, dry_run=dry_run, only=only)

    async def command(self, name: str, action: Action, *, by: Caller) -> RouteView:
        """Tell a route something, and return how it stands then.

        Raises:
            UnknownRouteError: There is no such route.
            ForbiddenError: It is not the caller's.
            CommandRefusedError: The route's phase does not allow it.
        """
        event = event_of(action, actor=by.actor, reason=by.reason)
        async with self._lock:
            live = self._live(name, by.may)
            await self._permit(by, action.value, name, live.labels)
            try:
                with self.span("command", route=name, command=action.value, actor=by.actor):
                    await self._feed(name, event, by.actor, OperatorRequest(by=by, action=action.value))
            except rollout.CommandNotAllowedError as error:
                await self.refuse(by, action.value, name, str(error))
                raise CommandRefusedError(str(error)) from error
        self._wake.set()
        return self.view(name)

    async def undo_to(self, name: str, generation: int, *, by: Caller) -> RouteView:
        """Accept an earlier spec of a route once more.

        Raises:
            UnknownRouteError: There is no such route.
            ForbiddenError: It is not the caller's, or was not then.
            CommandRefusedError: The route never had that generation, or is at it.
            SpecRefusedError: The spec has problems beside the routes that run now.
        """
        async with self._lock:
            live = self._live(name, by.may)
            await self._permit(by, "undo", name, live.labels)
            specs = await soon(self._store.specs, name)
            wanted = next((spec for spec in specs if spec.generation == generation), None)
            if wanted is None:
                known = ", ".join(str(spec.generation) for spec in specs)
                words = f"there is no generation {generation} of {name!r}; there are {known}"
                await self.refuse(by, "undo", name, words)
                raise CommandRefusedError(words)
            if generation == live.state.generation:
                words = f"{name!r} is at generation {generation} already"
                await self.refuse(by, "undo", name, words)
                raise CommandRefusedError(words)
        loaded = await self._read(wanted.text, f"{name}, generation {generation}")
        why = f"undo to generation {generation}" + (f": {by.reason}" if by.reason else "")
        async with self._lock:
            self._live(name, by.may)  # It may have been deleted while its old spec was read.
            await self._apply(loaded, "undo", by=replace(by, reason=why))
        return self.view(name)

    async def alarm(self, alerts: Collection[Alert]) -> dict[str, str]:
        """Hear alerts; return which routes heard of one of them, and what followed.

        An alert that was heard before and still fires changes nothing, nor does one that is resolved.
        """
        heard_of: dict[str, str] = {}
        async with self._lock:
            for alert in [alert for alert in alerts if self._alarms.is_new(alert)]:
                for live in list(self._routes.values()):
                    rule = asked_for(live.route.spec, alert)
                    if rule is not None:
                        rollback = rule.on_firing == "Rollback"
                        event = alarm_event(alert, rollback=rollback)
                        await self._feed(live.name, event, f"alarm:{alert.source}")
                        heard_of[live.name] = live.state.phase.value
        self._wake.set()
        return heard_of

    async def delete(self, name: str, *, by: Caller, tag: str | None = None) -> None:
        """Forget a route; its proxies answer 404 for it from now on.

        Raises:
            UnknownRouteError: There is no such route.
            ForbiddenError: It is not the caller's.
            StaleError: Its spec no longer has this `tag`; `*` is any.
        """
        async with self._lock:
            live = self._live(name, by.may)
            await self._permit(by, "delete", name, live.labels)
            if tag is not None and tag not in {"*", live.tag}:
                await self.refuse(by, "delete", name, "the spec was changed meanwhile")
                raise _stale(name)
            before = standing(live.state, live.document.text)
            deed = by.deed("delete", name, self._clock(), detail="the route was deleted", before=before)
            await soon(self._store.delete, name, deed=deed)
            del self._routes[name]
            self._court.forget(name)
            log.info("route_deleted", route=name, actor=by.actor)
            self.on_event()
            self._watch()
            self._publish(live.group)

    # Inside

    async def _read(self, text: str, file: str) -> Loaded:
        """Read a spec; a large one takes seconds, and nobody waits for it but who gave one."""
        async with self._reads:
            return await asyncio.to_thread(load, text, file=file)

    async def _permit(self, by: Caller, action: str, name: str, labels: Mapping[str, str]) -> None:
        """Refuse what is not the caller's to do, and write down that it was tried."""
        if not by.may(labels):
            said = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
            words = f"{by.actor} may not {action} route {name!r} ({said})"
            await self.refuse(by, action, name, words)
            raise ForbiddenError(words)

    async def _leave_to_others(
        self, by: Caller, action: str, route: ModelRoute, live: LiveRoute | None
    ) -> None:
        """Refuse a new claim to requests of a route that is not the caller's."""
        if live is not None and same_claim(live.route, route):
            return
        for other in self._routes.values():
            name = route.metadata.name
            if other.name != name and not by.may(other.labels) and takes_from(route, other.route):
                words = (
                    f"{by.actor} may not give {name!r} requests of route {other.name!r}, which is not theirs"
                )
                await self.refuse(by, action, name, words)
                raise ForbiddenError(words)

    async def _apply(
        self,
        loaded: Loaded,
        action: str = "apply",
        *,
        by: Caller,
        dry_run: bool = False,
        only: SpecPrecondition | None = None,
    ) -> ApplyResult:
        """Try the whole file, keep it in one transaction, and publish it once."""
        for document in loaded.documents:
            name, live = document.route.metadata.name, self._routes.get(document.route.metadata.name)
            if live is not None:
                await self._permit(by, action, name, live.labels)
            await self._permit(by, action, name, document.route.metadata.labels)
            await self._leave_to_others(by, action, document.route, live)
        refuse_wrong(loaded, self._routes)
        if only is not None:
            await self._only(loaded, only, by)
        now = self._clock()
        accepted = [
            accept(
                document,
                self._routes.get(document.route.metadata.name),
                action,
                by=by,
                checked=self._checks_health,
                now=now,
            )
            for document in loaded.documents
        ]
        changes = [change for _, change, _ in accepted if change is not None]
        becoming = {**self._routes, **{live.name: live for _, change, live in accepted if change is not None}}
        groups = {
            live.group
            for change in changes
            for live in (self._routes.get(change.name), becoming[change.name])
            if live is not None
        }
        for group in groups:
            # Whatever the world would look like is built once before anything is kept.
            anybody = ir.NodeClass(group=group, entry=_ANY_ENTRY, virtual_hosts_apart=True)
            self._worlds.tried(anybody, becoming.values(), reads_usage=self.reads_usage)
        if changes and not dry_run:
            numbers = await self._keep(*changes)
            for change, seq in zip(changes, numbers, strict=True):
                live = self._routes[change.name] = becoming[change.name]
                live.seq = seq
                self._record(live, change.effects, by.actor)
            self._watch()
            for group in groups:
                self._publish(group)
            self._wake.set()
        return ApplyResult(
            routes=tuple(applied for applied, _, _ in accepted), warnings=tuple(loaded.problems)
        )

    async def _only(self, loaded: Loaded, only: SpecPrecondition, by: Caller) -> None:
        names = [document.route.metadata.name for document in loaded.documents]
        if names != [only.name]:
            raise CommandRefusedError(
                f"a spec of route {only.name!r} alone is needed, not of {', '.join(names)}"
            )
        live = self._routes.get(only.name)
        if only.tag is not None and (live is None or only.tag not in {"*", live.tag}):
            await self.refuse(by, "apply", only.name, "the spec was changed meanwhile")
            raise _stale(only.name)

    async def _hear_health(self) -> None:
        for key, found in list(self._health.items()):
            if key[0] in self._routes:
                await self._feed(key[0], found, "health")
                await self._advance(key[0], by_proxies=False)  # Who waited for it goes on.
            if self._health.get(key) is found:
                del self._health[key]  # What the store did not take is tried again.

    def _due(self, moved: set[str]) -> list[tuple[str, bool]]:
        """Return the routes to look at, and whether their proxies moved: now and then all of them."""
        now = self._clock()
        everything = now - self._swept >= _TICK_SECONDS
        if everything:
            self._swept = now
        found = []
        for name, live in self._routes.items():
            by_proxies = live.group in moved
            deadline = rollout.next_deadline(live.state)
            if everything or by_proxies or (deadline is not None and deadline <= now):
                found.append((name, by_proxies))
        return found

    async def _advance(self, name: str, *, by_proxies: bool) -> None:
        """Tell a rollout what proxies have accepted, then what time it is."""
        live = self._routes[name]
        convergence = self._convergence(live.group)
        reached = convergence.reached(live.route.spec.convergence.quorum)
        if by_proxies or not reached:
            await self._feed(name, heard(live.state, convergence, reached=reached), "proxies")
        spec = live.route.spec
        summary = self._summary(name, spec.stable, spec.candidate)
        for news in learned(live.state, summary, self._resemblance(live)):
            await self._feed(name, news, "collector")
        verdict = self._court.hear(live, self._clock())
        if verdict is not None:
            await self._feed(name, verdict, "analysis")
        await self._feed(name, rollout.Tick(synced=reached), "clock")

    async def _keep_blocks(self) -> None:
        """Store what was counted. What is lost is not judged again after a restart, and nothing else."""
        kept = self._court.take_kept()
        if kept:
            drop_before = self._clock() - KEPT_SECONDS
            await soon(self._store.keep_blocks, kept, drop_before=drop_before)
        if self._clock() - self._tallied >= _TALLY_SECONDS:
            self._tallied = self._clock()
            days = self._court.take_days()
            oldest = datetime.fromtimestamp(self._tallied - DAYS_KEPT * 86_400, tz=UTC).date().isoformat()
            if days:
                await soon(self._store.add_days, days, drop_before=oldest)

    async def _sleep(self) -> None:
        """Wait for the next deadline, or for something to happen."""
        now = self._clock()
        deadlines = [rollout.next_deadline(live.state) for live in self._routes.values()]
        soonest = min((d for d in deadlines if d is not None), default=now + _TICK_SECONDS)
        try:
            async with asyncio.timeout(min(_TICK_SECONDS, max(0.005, soonest - now))):
                await self._wake.wait()
        except TimeoutError:
            return


def _stale(name: str) -> StaleError:
    return StaleError(f"the spec of route {name!r} was changed meanwhile; read it again, it has another tag")
