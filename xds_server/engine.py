"""The shell around rollouts: takes specs, commands and acknowledgements, keeps the store, publishes worlds.

Every change goes the same way: the pure `step` decides, the store keeps event and state, and only then does
anything leave for a proxy. So whatever was published is also what a restart finds. One lock orders all
changes; reading needs none.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

import structlog

from xds_server import ir, rollout
from xds_server.compiler import compile_world
from xds_server.plan import Traffic
from xds_server.snapshot import Snapshot, build
from xds_server.spec import Document, Loaded, ModelRoute, Problem, check_together, digest, load
from xds_server.store import StoreError
from xds_server.view import Convergence, EventView, ProxyView, RouteView, route_view

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.ads import Fleet, Hub
    from xds_server.store import SqliteStore, StoredEvent
    from xds_server.translate import Scripts

__all__ = [
    "Action",
    "Applied",
    "AppliedRoute",
    "CommandRefusedError",
    "Engine",
    "EngineError",
    "SpecRefusedError",
    "UnknownRouteError",
    "no_summary",
]

_EVENTS_KEPT: Final = 20
_MOST_CLASSES: Final = 1_024
_TICK_SECONDS: Final = 1.0
_ANY_ENTRY: Final = ir.Address(host="0.0.0.0", port=10_000)

Summary = Callable[[str, str, str | None], dict[str, Any] | None]
"""Route, stable and candidate backend → what the collector found of their pairs, None for nothing."""

log = structlog.get_logger()


def no_summary(_route: str, _stable: str, _candidate: str | None) -> None:
    """Stand in for a collector where there is none."""


class EngineError(Exception):
    """Root of what the engine refuses.

    EngineError
    ├── UnknownRouteError     there is no such route
    ├── CommandRefusedError   the route is in a phase in which the command makes no sense
    └── SpecRefusedError      the spec has problems; the running world stays as it was

    A WorldError of the compiler passes through: it would be a bug of ours, and nothing was published.
    """


class UnknownRouteError(EngineError):
    """There is no such route."""


class CommandRefusedError(EngineError):
    """The route is in a phase in which the command makes no sense; the message says what is allowed."""


class SpecRefusedError(EngineError):
    """The spec has problems; `problems` lists all of them."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        super().__init__(f"{len(problems)} problems")


class Action(Enum):
    """What an operator may tell a route."""

    PROMOTE = "promote"
    PROMOTE_FULL = "promote-full"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


_COMMANDS: Final = {
    Action.PROMOTE: rollout.CommandKind.PROMOTE,
    Action.PROMOTE_FULL: rollout.CommandKind.PROMOTE_FULL,
    Action.PAUSE: rollout.CommandKind.PAUSE,
    Action.RESUME: rollout.CommandKind.RESUME,
    Action.ABORT: rollout.CommandKind.ABORT,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRoute:
    """What became of one route: created, updated or unchanged."""

    name: str
    action: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """What became of one file."""

    routes: tuple[AppliedRoute, ...]
    warnings: tuple[Problem, ...]


@dataclass(slots=True, kw_only=True)
class _Live:
    """A route the engine runs. `seq` is the store's number of its last event."""

    document: Document
    state: rollout.State
    seq: int | None
    events: deque[EventView] = field(default_factory=lambda: deque(maxlen=_EVENTS_KEPT))

    @property
    def route(self) -> ModelRoute:
        return self.document.route

    @property
    def group(self) -> str:
        return self.document.route.spec.proxies.group


class Engine:
    """All routes, and the only door through which any of them changes."""

    def __init__(
        self,
        store: SqliteStore,
        scripts: Scripts,
        *,
        collector: ir.Address | None = None,
        summary: Summary = no_summary,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`collector` is where proxies send captured legs; `summary` tells what it found of a route."""
        self.ready = False
        self._store = store
        self._scripts = scripts
        self._collector = collector
        self._summary = summary
        self._clock = clock
        self._routes: dict[str, _Live] = {}
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._moved: set[str] = set()
        self._swept = 0.0
        self._built: dict[ir.Proxies, Snapshot] = {}
        self._hub: Hub | Fleet | None = None

    def attach(self, hub: Hub | Fleet) -> None:
        """Publish through this hub, and hear from it who accepted what."""
        self._hub = hub
        hub.on_change = self._note

    async def load(self) -> None:
        """Take over what the store holds; before this, no stream may be accepted.

        Raises:
            EngineError: A stored spec cannot be read by this version.
        """
        for stored in await asyncio.to_thread(self._store.load):
            loaded = load(stored.text, file=stored.file)
            if not loaded.documents or not loaded.ok:
                problems = "; ".join(str(problem) for problem in loaded.problems)
                raise EngineError(f"the store holds a spec that this version cannot read: {problems}")
            live = _Live(document=loaded.documents[0], state=stored.state, seq=stored.seq)
            history = await asyncio.to_thread(self._store.history, live.route.metadata.name, _EVENTS_KEPT)
            live.events.extend(_event_view(event) for event in history)
            self._routes[live.route.metadata.name] = live
        self.ready = True
        log.info("store_loaded", routes=len(self._routes))

    async def run(self) -> None:
        """Move rollouts on, by time and by acknowledgements, until cancelled."""
        while True:
            self._wake.clear()
            moved, self._moved = self._moved, set()
            try:
                async with self._lock:
                    for name, by_proxies in self._due(moved):
                        await self._advance(name, by_proxies=by_proxies)
            except StoreError:
                # Rollouts stand still where the store last saw them; proxies keep what they hold.
                log.exception("store_failed", consequence="rollouts stand still until it works again")
                self._moved |= moved
                await asyncio.sleep(_TICK_SECONDS)
            await self._sleep()

    # What may be done

    async def apply(self, text: str, *, file: str, actor: str, dry_run: bool = False) -> Applied:
        """Accept the routes of a spec file, all of them or none.

        Raises:
            SpecRefusedError: The file has problems, alone or together with the routes that run.
        """
        loaded = load(text, file=file)
        async with self._lock:
            self._check(loaded)
            for document in loaded.documents:
                # Each is tried before the first is kept, so that a world that cannot be built keeps none.
                await self._accept(document, actor, dry_run=True)
            former = {live.group for name, live in self._routes.items() if name in _names(loaded)}
            try:
                applied = [await self._accept(d, actor, dry_run=dry_run) for d in loaded.documents]
            finally:
                # One publish for the whole file. What was kept before a store failed is told as well.
                if not dry_run:
                    now = {live.group for name, live in self._routes.items() if name in _names(loaded)}
                    for group in former | now:
                        self._publish(group)
        self._wake.set()
        return Applied(routes=tuple(applied), warnings=tuple(loaded.problems))

    async def command(self, name: str, action: Action, *, actor: str, reason: str) -> RouteView:
        """Tell a route something, and return how it stands then.

        Raises:
            UnknownRouteError: There is no such route.
            CommandRefusedError: The route's phase does not allow it.
        """
        event = rollout.Command(command=_COMMANDS[action], actor=actor, reason=reason)
        async with self._lock:
            self._live(name)
            try:
                await self._feed(name, event, actor)
            except rollout.Refused as error:
                raise CommandRefusedError(str(error)) from error
        self._wake.set()
        return self.view(name)

    async def delete(self, name: str, *, actor: str) -> None:
        """Forget a route; its proxies answer 404 for it from now on."""
        async with self._lock:
            live = self._live(name)
            await asyncio.to_thread(self._store.delete, name, at=self._clock(), actor=actor)
            del self._routes[name]
            log.info("route_deleted", route=name, actor=actor)
            self._publish(live.group)

    # What may be asked

    def view(self, name: str) -> RouteView:
        """Return how a route stands."""
        live = self._live(name)
        return route_view(
            live.route,
            live.state,
            self._convergence(live.group),
            pairs=self._summary(name, live.route.spec.stable, live.route.spec.candidate),
            events=tuple(live.events),
        )

    def views(self) -> list[RouteView]:
        """Return how all routes stand, by name."""
        return [self.view(name) for name in sorted(self._routes)]

    def spec_text(self, name: str) -> str:
        """Return the accepted YAML of a route."""
        return self._live(name).document.text

    async def events(self, name: str, limit: int) -> list[EventView]:
        """Return the newest events of a route, oldest first."""
        self._live(name)
        return [_event_view(e) for e in await asyncio.to_thread(self._store.history, name, limit)]

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

    def _live(self, name: str) -> _Live:
        live = self._routes.get(name)
        if live is None:
            known = ", ".join(sorted(self._routes)) or "none yet"
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

    async def _accept(self, document: Document, actor: str, *, dry_run: bool) -> AppliedRoute:
        name, live = document.route.metadata.name, self._routes.get(document.route.metadata.name)
        event = rollout.SpecAccepted(
            route=name, program=rollout.program(document.route), digest=digest(document.route), actor=actor
        )
        state = None if live is None else live.state
        after, effects = rollout.step(state, event, self._clock())
        if live is not None and after == live.state:
            return AppliedRoute(name=name, action="unchanged", generation=after.generation)
        trial = _Live(document=document, state=after, seq=None)
        others = [other for key, other in self._routes.items() if key != name]
        # Whatever the world would look like is built once before anything is kept.
        anybody = ir.Proxies(group=trial.group, entry=_ANY_ENTRY, virtual_hosts_apart=True)
        self._compile(anybody, [*others, trial])
        action = "created" if live is None else "updated"
        if dry_run:
            return AppliedRoute(name=name, action=action, generation=after.generation)
        seq = await self._keep(name, live, event, actor, (after, effects), document)
        self._routes[name] = _Live(
            document=document,
            state=after,
            seq=seq,
            events=trial.events if live is None else live.events,
        )
        self._record(self._routes[name], effects, actor)
        return AppliedRoute(name=name, action=action, generation=after.generation)

    def _compile(self, proxies: ir.Proxies, routes: Iterable[_Live]) -> Snapshot:
        traffic = [
            Traffic(route=live.route, weight=live.state.weight, mirror=live.state.mirror) for live in routes
        ]
        found = compile_world(proxies, traffic, self._scripts, collector=self._collector)
        return build(found, self._built.get(proxies))

    async def _feed(self, name: str, event: rollout.Event, actor: str) -> None:
        """Let a route take an event: decide, keep, then publish."""
        live = self._live(name)
        after, effects = rollout.step(live.state, event, self._clock())
        if after == live.state and not effects:
            return
        live.seq = await self._keep(name, live, event, actor, (after, effects))
        live.state = after
        self._record(live, effects, actor)
        if any(isinstance(effect, rollout.Publish) for effect in effects):
            self._publish(live.group)

    async def _keep(
        self,
        name: str,
        live: _Live | None,
        event: rollout.Event,
        actor: str,
        result: tuple[rollout.State, tuple[rollout.Effect, ...]],
        document: Document | None = None,
    ) -> int:
        """Store an event and the state it led to, in one transaction, before anything follows from it."""
        return await asyncio.to_thread(
            self._store.commit,
            name,
            expected=None if live is None else live.seq,
            event=event,
            actor=actor,
            at=self._clock(),
            state=result[0],
            effects=result[1],
            text=None if document is None else document.text,
            file=None if document is None else document.file,
        )

    def _record(self, live: _Live, effects: tuple[rollout.Effect, ...], actor: str) -> None:
        for effect in effects:
            if isinstance(effect, rollout.Record):
                log.info(effect.what, route=live.route.metadata.name, actor=actor, message=effect.message)
                live.events.append(
                    EventView(
                        seq=live.seq or 0,
                        at=self._clock(),
                        kind=effect.what,
                        actor=actor,
                        message=effect.message,
                    )
                )

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
            await self._feed(name, _heard(live.state, convergence, reached=reached), "proxies")
        await self._feed(name, rollout.Tick(synced=reached), "clock")

    def _convergence(self, group: str) -> Convergence:
        if self._hub is None:
            return Convergence(connected=0, acked=0, nacked=0, version="", detail="")
        return self._hub.convergence(group)

    def _publish(self, group: str) -> None:
        if self._hub is not None:
            self._hub.publish(group)
        self._note(group)

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


def _names(loaded: Loaded) -> set[str]:
    return {document.route.metadata.name for document in loaded.documents}


def _heard(state: rollout.State, convergence: Convergence, *, reached: bool) -> rollout.Event:
    if reached:
        return rollout.Converged(
            revision=state.revision, acked=convergence.acked, connected=convergence.connected
        )
    detail = convergence.detail or "no proxy of this group is connected"
    return rollout.NotConverged(revision=state.revision, refused=convergence.nacked > 0, detail=detail)


def _event_view(event: StoredEvent) -> EventView:
    return EventView(seq=event.seq, at=event.at, kind=event.what, actor=event.actor, message=event.message)
