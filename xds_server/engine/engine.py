"""The shell around rollouts: takes specs, commands and acknowledgements, keeps the store, publishes worlds.

Every change goes the same way: the pure `step` decides, the store keeps event and state, and only then does
anything leave for a proxy. So whatever was published is also what a restart finds. One lock orders all
changes; reading needs none.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from xds_server import ir, rollout
from xds_server.alarms import Seen
from xds_server.analysis import PairCounts, Resemblance, likeness
from xds_server.audit import Outcome, entry_to_json
from xds_server.compiler import compile_world
from xds_server.engine.caller import Told, anything, standing
from xds_server.engine.court import BLOCKS_KEPT, DAYS_KEPT, KEPT_SECONDS, Court
from xds_server.engine.errors import (
    CommandRefusedError,
    EngineError,
    ForbiddenError,
    SpecRefusedError,
    StaleError,
    TooManyRefusalsError,
    UnknownRouteError,
)
from xds_server.engine.live import (
    EVENTS_KEPT,
    Action,
    Applied,
    AppliedRoute,
    Live,
    Only,
    alarm_event,
    allowed,
    asked_for,
    event_of,
    event_view,
    experiment_of,
    heard,
    learned,
    shadow_budget,
    watched,
)
from xds_server.identity import Failures
from xds_server.plan import Traffic
from xds_server.snapshot import Snapshot, build
from xds_server.sources import Asked
from xds_server.spec import Document, Loaded, check_together, digest, load
from xds_server.store import Change, ConflictError, StoreError, soon
from xds_server.telemetry import block_to_json, by_route
from xds_server.view import (
    Convergence,
    EventView,
    ProxyView,
    RouteView,
    route_view,
    to_json,
)
from xds_server.view.experiments import experiment_view
from xds_server.view.likeness import likeness_view
from xds_server.view.verdicts import analysis_view, cost_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from xds_server.ads import Fleet, Hub
    from xds_server.alarms import Alert
    from xds_server.audit import Anchor, Break, Deed, Entry
    from xds_server.engine.caller import Caller
    from xds_server.sources import Watched
    from xds_server.store import SqliteStore
    from xds_server.telemetry import Counts, Leg
    from xds_server.translate import Scripts

__all__ = ["Engine", "no_summary"]

_MOST_CLASSES: Final = 1_024
_TICK_SECONDS: Final = 1.0
_TALLY_SECONDS: Final = 30.0
_LINES_AT_ONCE: Final = 100
_MOST_REFUSALS: Final = 100
"""Refused tries of one caller that are written down at once; then one every few seconds."""
_ANY_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)

T = TypeVar("T")
Summary = Callable[[str, str, str | None], dict[str, Any] | None]
"""Route, stable and candidate backend → what the collector found of their pairs, None for nothing."""

log = structlog.get_logger()


def no_summary(_route: str, _stable: str, _candidate: str | None) -> None:
    """Stand in for a collector where there is none."""


def no_span(_name: str, **_fields: str | int) -> AbstractContextManager[None]:
    """Stand in for traces where nobody wants any."""
    return nullcontext()


def no_evidence(_route: str, _stable: str, _candidate: str, _since: float) -> None:
    """Stand in for collectors' evidence where there is none."""


class Engine:
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
        self.ready = False
        self.store_failures = 0
        """How often rollouts stood still because the store did not take what happened."""
        self._store = store
        self._scripts = scripts
        self._collector = collector
        self._summary = summary
        self._checks_health = checks_health
        self.hears_proxies = True
        self.reads_usage = True
        """Whether proxies read from answers how many tokens they took; to be set before any comes in."""
        self._clock = clock
        self._routes: dict[str, Live] = {}
        self._lock = asyncio.Lock()
        self._reads = asyncio.Lock()
        # What takes long, and what is wide, is done one after the other, so that threads are left.
        self._long, self._wide = asyncio.Lock(), asyncio.Lock()
        self._wake = asyncio.Event()
        self._moved: set[str] = set()
        self._swept = 0.0
        self._tallied = 0.0
        self._built: dict[ir.Proxies, Snapshot] = {}
        self._hub: Hub | Fleet | None = None
        self._health: dict[tuple[str, str], rollout.Health] = {}
        self._court = Court()
        self._alarms = Seen()
        self._refused = Failures(burst=_MOST_REFUSALS)
        self._exposed: Callable[[str, str], Mapping[str, Any] | None] = lambda _route, _experiment: None
        self._evidence: Callable[[str, str, str, float], PairCounts | None] = no_evidence
        self.on_watched: Callable[[Collection[Watched]], None] = lambda _watched: None
        self.on_event: Callable[[], None] = lambda: None
        """Called whenever a line was added to the history of a route; may neither wait nor fail."""
        self.on_published: Callable[[str], None] = lambda _group: None
        self.span: Callable[..., AbstractContextManager[None]] = no_span
        """Makes a span of what happens inside, by name and fields."""

    def attach(self, hub: Hub | Fleet) -> None:
        """Publish through this hub, and hear from it who accepted what."""
        self._hub = hub
        hub.on_change = self._note
        hub.on_counts = self.count

    async def load(self) -> None:
        """Take over what the store holds; before this, no stream may be accepted.

        Raises:
            EngineError: A stored spec cannot be read by this version.
        """
        await self._take_over()
        self.ready = True
        log.info("store_loaded", routes=len(self._routes))
        self._watch()

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
        for name, own in by_route(legs).items():
            live = self._routes.get(name)
            if live is not None and group in {None, live.group}:
                self._court.count(live, own, now)

    def queries(self) -> list[Asked]:
        """Return what the policies of all routes want to be answered."""
        return [
            Asked(
                route=live.name,
                name=threshold.name,
                query=threshold.query,
                interval=live.route.spec.analysis.interval.total_seconds(),
            )
            for live in self._routes.values()
            for threshold in self._court.policy(live).thresholds
            if threshold.query is not None
        ]

    def on_exposures(self, exposed: Callable[[str, str], Mapping[str, Any] | None]) -> None:
        """Take what is known of users in A/B tests from here, by route and experiment."""
        self._exposed = exposed

    def on_evidence(self, evidence: Callable[[str, str, str, float], PairCounts | None]) -> None:
        """Take what was counted of pairs from here: by route, stable and candidate backend, since when."""
        self._evidence = evidence

    def _resemblance(self, live: Live) -> Resemblance | None:
        """Return how alike the shadow's backends answer; None outside of a shadow or without a pair."""
        spec, began = live.route.spec, live.state.step_began_at
        if not isinstance(live.state.current, rollout.Shadow) or spec.candidate is None or began is None:
            return None
        counts = self._evidence(live.name, spec.stable, spec.candidate, began)
        return None if counts is None else likeness(counts)

    def on_answers(self, answers: Callable[[str], Mapping[str, float | None]]) -> None:
        """Take the answers to those queries from here: route → by name, None for a failure."""
        self._court.answers = lambda live: answers(live.name)

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
        self, text: str, *, file: str, by: Caller, dry_run: bool = False, only: Only | None = None
    ) -> Applied:
        """Accept the routes of a spec file, all of them or none; of one route `only`, where that is said.

        Raises:
            SpecRefusedError: The file has problems, alone or together with the routes that run.
            ForbiddenError: One of the routes is not the caller's, or would not be any more.
            StaleError: The route is no longer the one it should be.
        """
        async with self._reads:
            # A large file takes seconds: nobody waits for it but who gave it, and whoever gives another.
            loaded = await asyncio.to_thread(load, text, file=file)
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
                    await self._feed(name, event, by.actor, Told(by=by, action=action.value))
            except rollout.Refused as error:
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
                raise CommandRefusedError(
                    f"there is no generation {generation} of {name!r}; there are {known}"
                )
            if generation == live.state.generation:
                raise CommandRefusedError(f"{name!r} is at generation {generation} already")
            loaded = load(wanted.text, file=f"{name}, generation {generation}")
            why = f"undo to generation {generation}" + (f": {by.reason}" if by.reason else "")
            await self._apply(loaded, by=replace(by, reason=why))
        return self.view(name)

    async def alarm(self, alerts: Collection[Alert]) -> dict[str, str]:
        """Hear alerts; return which routes heard of one of them, and what followed.

        An alert that was heard before and still fires changes nothing, nor does one that is resolved.
        """
        heard_of: dict[str, str] = {}
        async with self._lock:
            for alert in [alert for alert in alerts if self._alarms.is_news(alert)]:
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
            StaleError: Its spec no longer has this `tag`.
        """
        async with self._lock:
            live = self._live(name, by.may)
            await self._permit(by, "delete", name, live.labels)
            if tag is not None and tag != live.tag:
                await self.refuse(by, "delete", name, "the spec was changed meanwhile")
                raise _stale(name)
            before = standing(live.state, live.document.text)
            deed = by.deed("delete", name, self._clock(), detail="the route was deleted", before=before)
            await soon(self._store.delete, name, deed=deed)
            self.audited()
            del self._routes[name]
            self._court.forget(name)
            log.info("route_deleted", route=name, actor=by.actor)
            self.on_event()
            self._watch()
            self._publish(live.group)

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

    async def note(self, deed: Deed) -> None:
        """Write down what somebody did that is not about a rollout, or was refused."""
        await soon(self._store.note, deed)
        self.audited()

    def audited(self) -> None:
        """Say where the chain of the audit is, so that the log knows it too."""
        head = self._store.head
        log.info("audited", seq=head.seq, hash=head.hash)

    # What may be asked

    def view(self, name: str) -> RouteView:
        """Return how a route stands."""
        live = self._live(name)
        spec = live.route.spec
        view = route_view(
            live.route,
            live.state,
            self._convergence(live.group),
            pairs=self._summary(name, spec.stable, spec.candidate),
            events=tuple(live.events),
        )
        return replace(
            view,
            shadow_budget=shadow_budget(live.state, view.pairs),
            likeness=likeness_view(self._resemblance(live)),
            capture_lost=self._lost(live.group),
            actions=allowed(live.state, self._clock()),
            analysis=analysis_view(self._court.ruling(name), dry_run=spec.analysis.dry_run),
            costs=cost_view(spec, self._court.totals(name)),
            experiment=experiment_view(
                spec,
                self._exposed(name, experiment_of(live.route)),
                began=live.state.step_began_at,
                now=self._clock(),
            ),
        )

    def _lost(self, group: str) -> dict[str, int]:
        """Return what proxies of a group gave up of captured legs and copies, by reason."""
        if self._hub is None:
            return {}
        found = self._hub.counters.lost
        return {key.rpartition("/")[2]: n for key, n in found.items() if key.rpartition("/")[0] == group}

    def views(self) -> list[RouteView]:
        """Return how all routes stand, by name."""
        return [self.view(name) for name in sorted(self._routes)]

    def spec_text(self, name: str) -> str:
        """Return the accepted YAML of a route."""
        return self._live(name).document.text

    def labels(self, name: str, *, seen: Callable[[Mapping[str, str]], bool] = anything) -> dict[str, str]:
        """Return the labels of a route. Where there is none, those with labels that are `seen` are named."""
        return self._live(name, seen).labels

    def spec_tag(self, name: str) -> str:
        """Return what changes whenever the spec of a route does."""
        return self._live(name).tag

    async def events(
        self, name: str, limit: int, before: int | None = None, *, whole: bool = True
    ) -> list[EventView]:
        """Return the newest events of a route, oldest first; those `before` one, to go back in pages.

        If not the `whole`, then those since it was last created: its name may have been another's before.
        """
        self._live(name)
        found = await soon(self._store.history, name, limit, before, whole=whole)
        return [event_view(event) for event in found]

    async def blocks(self, name: str, limit: int) -> bytes:
        """Return the newest blocks of counts of a route with their runs, oldest first, as one JSON a line."""
        self._live(name)

        def lines() -> bytes:
            kept = self._store.blocks(name, limit)
            return b"".join(
                f"{json.dumps({'run': stored.run, **block_to_json(stored.block)})}\n".encode()
                for stored in kept
            )

        return await self.apart(lines)

    async def apart(self, work: Callable[[], T]) -> T:
        """Do what may take a second in a thread, one after the other: what is urgent needs threads too."""
        async with self._wide:
            return await asyncio.to_thread(work)

    async def audit(
        self,
        limit: int,
        name: str | None = None,
        *,
        routes: Collection[str] | None = None,
        before: int | None = None,
    ) -> list[Entry]:
        """Return the newest entries of the audit, oldest first: of one route, of some, or of any."""
        wanted = partial(self._store.audit, limit, route=name, routes=routes, before=before)
        return list(await self.apart(wanted))

    async def audit_breaks(self, anchors: Iterable[Anchor] = ()) -> tuple[int, list[Break]]:
        """Return how many entries the audit has, and where its chain does not hold."""
        async with self._long:
            return await asyncio.to_thread(self._store.audit_breaks, tuple(anchors))

    async def audit_end(self) -> int:
        """Return how many entries the audit has."""
        return await soon(self._store.audit_end)

    async def audit_lines(self) -> AsyncIterator[bytes]:
        """Yield the whole audit, oldest first, an entry a line and some lines at a time."""
        after, last = 0, await soon(self._store.audit_end)
        while after < last:
            async with self._long:
                after, lines = await asyncio.to_thread(self._lines, after, last)
            yield lines

    def _lines(self, after: int, last: int) -> tuple[int, bytes]:
        page = self._store.audit_following(after, last, _LINES_AT_ONCE)
        lines = "".join(f"{json.dumps(entry_to_json(entry))}\n" for entry in page)
        return page[-1].seq if page else last, lines.encode()

    async def done_before(self, by: Caller) -> tuple[Entry, ...]:
        """Return what this caller did under the idempotency key of its request; a refused try did nothing."""
        if not by.key:
            return ()
        found = await soon(self._store.audit_by_key, by.actor, by.key)
        return tuple(entry for entry in found if entry.deed.outcome is Outcome.DONE)

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected proxy."""
        return () if self._hub is None else self._hub.proxies()

    def compile(self, proxies: ir.Proxies) -> Snapshot:
        """Return the newest world of a class of proxies.

        Raises:
            WorldError: It would break a rule that protects users.
        """
        world = self._compile(proxies, self._routes.values())
        if len(self._built) >= _MOST_CLASSES and proxies not in self._built:
            self._built.clear()  # Only a memory of what could be shared; clients choose their own class.
        self._built[proxies] = world
        return world

    # Inside

    def _live(self, name: str, seen: Callable[[Mapping[str, str]], bool] = anything) -> Live:
        live = self._routes.get(name)
        if live is None:
            known = ", ".join(n for n in sorted(self._routes) if seen(self._routes[n].labels)) or "none yet"
            raise UnknownRouteError(f"there is no route {name!r}; routes: {known}")
        return live

    def _check(self, loaded: Loaded) -> None:
        """Refuse a file that is wrong alone, or beside the routes that run."""
        renewed = {document.route.metadata.name for document in loaded.documents}
        others = [
            Loaded(documents=(live.document,), problems=())
            for name, live in self._routes.items()
            if name not in renewed
        ]
        problems = (*loaded.problems, *check_together([loaded, *others]))
        if any(problem.severity.name == "ERROR" for problem in problems):
            raise SpecRefusedError(problems)

    async def _permit(self, by: Caller, action: str, name: str, labels: Mapping[str, str]) -> None:
        """Refuse what is not the caller's to do, and write down that it was tried."""
        if not by.may(labels):
            said = ", ".join(f"{key}={value}" for key, value in sorted(labels.items())) or "no labels"
            words = f"{by.actor} may not {action} route {name!r} ({said})"
            await self.refuse(by, action, name, words)
            raise ForbiddenError(words)

    async def _apply(
        self, loaded: Loaded, *, by: Caller, dry_run: bool = False, only: Only | None = None
    ) -> Applied:
        """Try the whole file, keep it in one transaction, and publish it once."""
        for document in loaded.documents:
            name, live = document.route.metadata.name, self._routes.get(document.route.metadata.name)
            if live is not None:
                await self._permit(by, "apply", name, live.labels)
            await self._permit(by, "apply", name, document.route.metadata.labels)
        self._check(loaded)
        if only is not None:
            await self._only(loaded, only, by)
        accepted = [self._accept(document, by) for document in loaded.documents]
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
            anybody = ir.Proxies(group=group, entry=_ANY_ENTRY, virtual_hosts_apart=True)
            self._compile(anybody, becoming.values())
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
        return Applied(routes=tuple(applied for applied, _, _ in accepted), warnings=tuple(loaded.problems))

    async def _only(self, loaded: Loaded, only: Only, by: Caller) -> None:
        names = [document.route.metadata.name for document in loaded.documents]
        if names != [only.name]:
            raise CommandRefusedError(
                f"a spec of route {only.name!r} alone is needed, not of {', '.join(names)}"
            )
        live = self._routes.get(only.name)
        if only.tag is not None and (live is None or only.tag not in {"*", live.tag}):
            await self.refuse(by, "apply", only.name, "the spec was changed meanwhile")
            raise _stale(only.name)

    def _accept(self, document: Document, by: Caller) -> tuple[AppliedRoute, Change | None, Live]:
        """Return what would become of a route; no change where the spec means the same."""
        name, live = document.route.metadata.name, self._routes.get(document.route.metadata.name)
        event = rollout.SpecAccepted(
            route=name,
            program=rollout.program(document.route, checked=self._checks_health),
            digest=digest(document.route),
            actor=by.actor,
            reason=by.reason,
        )
        now = self._clock()
        after, effects = rollout.step(None if live is None else live.state, event, now)
        if live is not None and after == live.state:
            return AppliedRoute(name=name, action="unchanged", generation=after.generation), None, live
        becoming = Live(document=document, state=after, seq=None)
        if live is not None:
            becoming.events = live.events
        change = Change(
            name=name,
            expected=None if live is None else live.seq,
            event=event,
            actor=by.actor,
            at=now,
            state=after,
            effects=effects,
            text=document.text,
            file=document.file,
            deed=by.deed(
                "apply",
                name,
                now,
                detail=_words(effects),
                before="" if live is None else standing(live.state, live.document.text),
                after=standing(after, document.text),
            ),
        )
        action = "created" if live is None else "updated"
        return AppliedRoute(name=name, action=action, generation=after.generation), change, becoming

    def _compile(self, proxies: ir.Proxies, routes: Iterable[Live]) -> Snapshot:
        traffic = [Traffic.of(live.route, live.state) for live in routes]
        found = compile_world(
            proxies, traffic, self._scripts, collector=self._collector, reads_usage=self.reads_usage
        )
        return build(found, self._built.get(proxies))

    async def _feed(self, name: str, event: rollout.Event, actor: str, told: Told | None = None) -> None:
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
                told.action, name, now, detail=_words(effects), before=stood[0], after=stood[1]
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
                numbers = await soon(self._store.commit, *changes)
        except ConflictError:
            # The store went on without us, say after an error that came too late. What it holds is the truth.
            await self._take_over()
            raise
        if any(change.deed is not None for change in changes):
            self.audited()
        return numbers

    async def _take_over(self) -> None:
        for stored in await soon(self._store.load):
            loaded = load(stored.text, file=stored.file)
            if not loaded.documents or not loaded.ok:
                problems = "; ".join(str(problem) for problem in loaded.problems)
                raise EngineError(f"the store holds a spec that this version cannot read: {problems}")
            live = Live(document=loaded.documents[0], state=stored.state, seq=stored.seq)
            history = await soon(self._store.history, live.name, EVENTS_KEPT, whole=False)
            live.events.extend(event_view(event) for event in history)
            self._routes[live.name] = live
            blocks = await soon(self._store.blocks, live.name, BLOCKS_KEPT)
            self._court.resume(live, blocks, self._clock())

    def _record(self, live: Live, effects: tuple[rollout.Effect, ...], actor: str) -> None:
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

    async def costs(self, name: str) -> list[dict[str, Any]]:
        """Return what each leg of a route took by day, oldest first; today as of half a minute ago."""
        live = self._live(name)
        found = []
        for day, leg, counts in await soon(self._store.days, name):
            found += [{"day": day, **to_json(cost)} for cost in cost_view(live.route.spec, {leg: counts})]
        return found

    def _convergence(self, group: str) -> Convergence:
        if self._hub is None:
            return Convergence(connected=0, acked=0, nacked=0, version="", detail="")
        return self._hub.convergence(group)

    def _publish(self, group: str) -> None:
        if self._hub is not None:
            with self.span("publish", group=group):
                self._hub.publish(group)
                self.on_published(group)
        self._note(group)

    def _watch(self) -> None:
        self.on_watched(tuple(watched(self._routes.values())) if self._checks_health else ())

    def _note(self, group: str) -> None:
        self._moved.add(group)
        self._wake.set()

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


def _words(effects: tuple[rollout.Effect, ...]) -> str:
    return "; ".join(effect.message for effect in effects if isinstance(effect, rollout.Record))


def _stale(name: str) -> StaleError:
    return StaleError(f"the spec of route {name!r} was changed meanwhile; read it again, it has another tag")
