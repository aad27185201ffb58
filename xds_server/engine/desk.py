"""What may be asked of the routes that run: how they stand, what happened, what was counted, who did what.

Reading takes no lock: what is in memory changes between two steps of the loop and never within one, and what
is in the store is read in a thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from xds_server import rollout
from xds_server.access.audit import Outcome, entry_to_json
from xds_server.analysis.counts import block_to_json
from xds_server.analysis.verdicts import EquivalenceResult, PairCounts, assess_equivalence
from xds_server.engine.analysis_service import AnalysisService
from xds_server.engine.caller import anything
from xds_server.engine.errors import UnknownRouteError
from xds_server.engine.live import LiveRoute, event_view, experiment_of, shadow_budget
from xds_server.sources import Asked
from xds_server.store import soon
from xds_server.view import Convergence, EventView, ProxyView, RouteView, route_view, to_json
from xds_server.view.equivalence import equivalence_view
from xds_server.view.experiments import experiment_view
from xds_server.view.verdicts import analysis_view, cost_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping

    from xds_server.access.audit import Break, Checkpoint, Entry
    from xds_server.engine.caller import Caller
    from xds_server.store import SqliteStore
    from xds_server.xds.server import Hub
    from xds_server.xds.workers import WorkerPool

__all__ = ["Desk", "Summary", "no_summary"]

_LINES_AT_ONCE: Final = 100

T = TypeVar("T")
May = Callable[["Mapping[str, str]"], bool]
"""Whether somebody may see or do something with routes that have these labels."""

Summary = Callable[[str, str, str | None], dict[str, Any] | None]
"""Route, stable and candidate backend → what the collector found of their pairs, None for nothing."""


def no_summary(_route: str, _stable: str, _candidate: str | None) -> None:
    """Stand in for a collector where there is none."""


def no_evidence(_route: str, _stable: str, _candidate: str, _since: float) -> None:
    """Stand in for collectors' evidence where there is none."""


class Desk:
    """The routes that run, and what others know of them; answers questions and changes nothing."""

    def __init__(self, store: SqliteStore, summary: Summary, clock: Callable[[], float]) -> None:
        """`summary` tells what the collector found of a route."""
        self._store = store
        self._summary = summary
        self._clock = clock
        self._routes: dict[str, LiveRoute] = {}
        self._court = AnalysisService()
        self._hub: Hub | WorkerPool | None = None
        # What takes long, and what is wide, is done one after the other, so that threads are left.
        self._long, self._wide = asyncio.Lock(), asyncio.Lock()
        self._exposed: Callable[[str, str], Mapping[str, Any] | None] = lambda _route, _experiment: None
        self._evidence: Callable[[str, str, str, float], PairCounts | None] = no_evidence

    # Where what is known of routes comes from

    def on_exposures(self, exposed: Callable[[str, str], Mapping[str, Any] | None]) -> None:
        """Take what is known of users in A/B tests from here, by route and experiment."""
        self._exposed = exposed

    def on_evidence(self, evidence: Callable[[str, str, str, float], PairCounts | None]) -> None:
        """Take what was counted of pairs from here: by route, stable and candidate backend, since when."""
        self._evidence = evidence

    def on_answers(self, answers: Callable[[str], Mapping[str, float | None]]) -> None:
        """Take the answers to `queries` from here: route → by name, None for a failure."""
        self._court.answers = lambda live: answers(live.name)

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
            equivalence=equivalence_view(self._resemblance(live)),
            capture_lost=self._lost(live.group),
            actions=live.allowed(self._clock()),
            analysis=analysis_view(self._court.ruling(name), dry_run=spec.analysis.dry_run),
            costs=cost_view(spec, self._court.totals(name)),
            experiment=experiment_view(
                spec,
                self._exposed(name, experiment_of(live.route)),
                started=live.state.step_began_at,
                now=self._clock(),
            ),
        )

    def names(self, may: May = anything) -> list[str]:
        """Return the names of all routes whose labels are such, in order."""
        return sorted(name for name, live in self._routes.items() if may(live.labels))

    def groups(self, may: May = anything) -> set[str]:
        """Return the groups of proxies that serve such routes."""
        return {live.group for live in self._routes.values() if may(live.labels)}

    def views(self, may: May = anything) -> list[RouteView]:
        """Return how all routes with such labels stand, by name."""
        return [self.view(name) for name in self.names(may)]

    def spec_text(self, name: str) -> str:
        """Return the accepted YAML of a route."""
        return self._live(name).document.text

    def labels(self, name: str, *, seen: May = anything) -> dict[str, str]:
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
        return [event_view(e) for e in await soon(self._store.history, name, limit, before, whole=whole)]

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

    async def audit_breaks(self, anchors: Iterable[Checkpoint] = ()) -> tuple[int, list[Break]]:
        """Return how many entries the audit has, and where its chain does not hold."""
        async with self._long:
            return await asyncio.to_thread(self._store.audit_breaks, tuple(anchors))

    async def audit_end(self) -> int:
        """Return how many entries the audit has."""
        return (await soon(self._store.head)).seq

    async def audit_lines(self) -> AsyncIterator[bytes]:
        """Yield the whole audit, oldest first, an entry a line and some lines at a time."""
        after, last = 0, await self.audit_end()
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

    async def costs(self, name: str) -> list[dict[str, Any]]:
        """Return what each leg of a route took by day, oldest first; today as of half a minute ago."""
        live = self._live(name)
        found = []
        for day, leg, counts in await soon(self._store.days, name):
            found += [{"day": day, **to_json(cost)} for cost in cost_view(live.route.spec, {leg: counts})]
        return found

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

    # Inside

    def _live(self, name: str, seen: May = anything) -> LiveRoute:
        live = self._routes.get(name)
        if live is None:
            known = ", ".join(self.names(seen)) or "none yet"
            raise UnknownRouteError(f"there is no route {name!r}; routes: {known}")
        return live

    def _resemblance(self, live: LiveRoute) -> EquivalenceResult | None:
        """Return how alike the shadow's backends answer; None outside of a shadow or without a pair."""
        spec, began = live.route.spec, live.state.step_began_at
        if not isinstance(live.state.current, rollout.Shadow) or spec.candidate is None or began is None:
            return None
        counts = self._evidence(live.name, spec.stable, spec.candidate, began)
        return None if counts is None else assess_equivalence(counts)

    def _convergence(self, group: str) -> Convergence:
        if self._hub is None:
            return Convergence(connected=0, acked=0, nacked=0, version="", detail="")
        return self._hub.convergence(group)

    def _lost(self, group: str) -> dict[str, int]:
        """Return what proxies of a group gave up of captured legs and copies, by reason."""
        if self._hub is None:
            return {}
        found = self._hub.counters.lost
        return {key.rpartition("/")[2]: n for key, n in found.items() if key.rpartition("/")[0] == group}
