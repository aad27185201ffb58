"""Read models of the live routes: state, history, counts, audit log. Changes nothing.

Reading takes no lock: values in memory change between two steps of the event loop and never within one, and
the store is read in a thread.
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
from xds_server.analysis.verdicts import EquivalenceResult, analyzed_block_to_json, assess_equivalence
from xds_server.engine.caller import anything
from xds_server.engine.observations import experiment_name, shadow_budget
from xds_server.engine.routes import event_view
from xds_server.store import run_in_store_thread
from xds_server.view import EventView, ProxyView, RouteView, route_view, to_json
from xds_server.view.equivalence import equivalence_view
from xds_server.view.experiments import experiment_view
from xds_server.view.uncounted import text_of, uncounted, uncounted_texts
from xds_server.view.unguarded import unguarded
from xds_server.view.verdicts import analysis_view, cost_view

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable, Mapping

    from xds_server.access.audit import Break, Checkpoint, Entry
    from xds_server.clock import Clock
    from xds_server.engine.analysis_service import AnalysisService
    from xds_server.engine.caller import Caller
    from xds_server.engine.ports import Publisher, ShadowEvidence
    from xds_server.engine.routes import LiveRoute, RouteTable
    from xds_server.store import SqliteStore
    from xds_server.view.uncounted import StatisticsDefect

__all__ = ["RouteQueries"]

_LINES_AT_ONCE: Final = 100

T = TypeVar("T")
May = Callable[["Mapping[str, str]"], bool]
"""Whether a caller may read routes with these labels."""


class RouteQueries:
    """Everything that API, pages and metrics read."""

    def __init__(  # noqa: PLR0913 - one argument per source
        self,
        *,
        table: RouteTable,
        store: SqliteStore,
        publisher: Publisher,
        evidence: ShadowEvidence,
        analysis: AnalysisService,
        clock: Clock,
        token_statistics: bool = True,
    ) -> None:
        """`token_statistics` is whether proxies read answers, as `serve --token-statistics` sets it."""
        self._table = table
        self._token_statistics = token_statistics
        self._store = store
        self._publisher = publisher
        self._evidence = evidence
        self._analysis = analysis
        self._clock = clock
        # Reads of the whole audit log (`_long`) and other slow reads (`_wide`) each run one at a time, so
        # that they occupy at most two threads of the default executor.
        self._long, self._wide = asyncio.Lock(), asyncio.Lock()

    def view(self, name: str) -> RouteView:
        """Return the read model of a route.

        Raises:
            UnknownRouteError: There is no such route.
        """
        return self._view(name, self._unguarded())

    def _view(self, name: str, missing: Mapping[str, tuple[str, ...]]) -> RouteView:
        live = self._table.get(name)
        spec = live.route.spec
        summary = self._evidence.summary(name, spec.stable, spec.candidate)
        view = route_view(
            live.route,
            live.state,
            self._publisher.convergence(live.group),
            pairs=None if summary is None else dict(summary.document),
            events=tuple(live.events),
        )
        return replace(
            view,
            shadow_budget=shadow_budget(live.state, summary),
            equivalence=equivalence_view(self.equivalence(live)),
            capture_lost=self._capture_losses(live.group),
            actions=live.allowed(self._clock.now()),
            analysis=analysis_view(self._analysis.result(name), self._analysis.guards(name), spec.analysis),
            unguarded=missing.get(live.group, unguarded((), token_statistics=self._token_statistics)),
            costs=cost_view(spec, self._analysis.totals(name)),
            experiment=experiment_view(
                spec,
                self._evidence.exposures(name, experiment_name(live.route)),
                started=live.state.step_began_at,
                now=self._clock.now(),
            ),
        )

    def names(self, may: May = anything) -> list[str]:
        """Return the names of the routes that a caller may read, sorted."""
        return self._table.names(may)

    def groups(self, may: May = anything) -> set[str]:
        """Return the groups of proxies that serve the routes a caller may read."""
        return {live.group for live in self._table if may(live.labels)}

    def views(self, may: May = anything) -> list[RouteView]:
        """Return the read models of the routes a caller may read, by name."""
        missing = self._unguarded()  # Once, since there may be thousands of routes and of proxies.
        return [self._view(name, missing) for name in self.names(may)]

    def spec_text(self, name: str) -> str:
        """Return the accepted YAML of a route."""
        return self._table.get(name).document.text

    def labels(self, name: str, *, seen: May = anything) -> dict[str, str]:
        """Return the labels of a route.

        Raises:
            UnknownRouteError: There is no such route; the message lists those whose labels are `seen`.
        """
        return self._table.get(name, visible=seen).labels

    def spec_tag(self, name: str) -> str:
        """Return the entity tag of a route's spec."""
        return self._table.get(name).tag

    async def events(
        self, name: str, limit: int, before: int | None = None, *, whole: bool = True
    ) -> list[EventView]:
        """Return the newest events of a route, oldest first; with `before`, those before that event.

        Without `whole`, only those since the route was last created: a deleted route may have had its name.
        """
        self._table.get(name)
        return [
            event_view(e)
            for e in await run_in_store_thread(self._store.history, name, limit, before, whole=whole)
        ]

    async def blocks(self, name: str, limit: int) -> bytes:
        """Return the newest blocks of counts of a route with their runs, oldest first, as JSON lines."""
        self._table.get(name)

        def lines() -> bytes:
            return b"".join(
                f"{json.dumps(analyzed_block_to_json(stored.analyzed))}\n".encode()
                for stored in self._store.blocks(name, limit)
            )

        return await self.in_thread(lines)

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Run slow work (up to about a second) in a thread, one call at a time."""
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
        """Return the newest audit entries, oldest first: of route `name`, of `routes`, or of all."""
        wanted = partial(self._store.audit, limit, route=name, routes=routes, before=before)
        return list(await self.in_thread(wanted))

    async def audit_breaks(self, checkpoints: Iterable[Checkpoint] = ()) -> tuple[int, list[Break]]:
        """Return the number of audit entries, and where the hash chain is broken."""
        async with self._long:
            return await asyncio.to_thread(self._store.audit_breaks, tuple(checkpoints))

    async def audit_end(self) -> int:
        """Return the number of audit entries."""
        return (await run_in_store_thread(self._store.head)).seq

    async def audit_lines(self) -> AsyncIterator[bytes]:
        """Yield the whole audit log as JSON lines, oldest first, some lines at a time."""
        after, last = 0, await self.audit_end()
        while after < last:
            async with self._long:
                after, lines = await asyncio.to_thread(self._audit_page, after, last)
            yield lines

    def _audit_page(self, after: int, last: int) -> tuple[int, bytes]:
        page = self._store.audit_following(after, last, _LINES_AT_ONCE)
        lines = "".join(f"{json.dumps(entry_to_json(entry))}\n" for entry in page)
        return page[-1].seq if page else last, lines.encode()

    async def done_before(self, by: Caller) -> tuple[Entry, ...]:
        """Return what this caller did under its request's idempotency key; refused attempts do not count."""
        if not by.key:
            return ()
        found = await run_in_store_thread(self._store.audit_by_key, by.actor, by.key)
        return tuple(entry for entry in found if entry.event.outcome is Outcome.DONE)

    def proxies(self) -> tuple[ProxyView, ...]:
        """Return every connected proxy; `reduced` contains what is missing in its statistics."""
        proxies = self._publisher.proxies()
        found = self._uncounted(proxies)
        return tuple(
            proxy
            if (defect := found.get((proxy.group, proxy.id))) is None
            else replace(proxy, reduced=(*proxy.reduced, text_of(defect)))
            for proxy in proxies
        )

    def uncounted(self) -> dict[tuple[str, str], StatisticsDefect]:
        """Return what is missing in the statistics of proxies, by group and node id.

        Empty if Prometheus reads the counts: which proxies it scrapes is not known here.
        """
        return self._uncounted(self._publisher.proxies())

    def _uncounted(self, proxies: Iterable[ProxyView]) -> dict[tuple[str, str], StatisticsDefect]:
        if not self._analysis.proxies_count:
            return {}
        return uncounted(proxies, self._publisher.statistics_defects(), self._clock.now())

    async def costs(self, name: str) -> list[dict[str, Any]]:
        """Return the counts and costs of each leg by day, oldest first; today's are up to 30 s old."""
        live = self._table.get(name)
        found = []
        for day, leg, counts in await run_in_store_thread(self._store.days, name):
            found += [{"day": day, **to_json(cost)} for cost in cost_view(live.route.spec, {leg: counts})]
        return found

    def equivalence(self, live: LiveRoute) -> EquivalenceResult | None:
        """Return whether a shadow's two backends answer alike; None outside a shadow or without a pair."""
        spec, began = live.route.spec, live.state.step_began_at
        if not isinstance(live.state.current, rollout.Shadow) or spec.candidate is None or began is None:
            return None
        counts = self._evidence.pair_counts(live.name, spec.stable, spec.candidate, began)
        if counts is None:
            return None
        least = live.state.current.min_pairs
        return assess_equivalence(counts) if least is None else assess_equivalence(counts, min_pairs=least)

    def _unguarded(self) -> dict[str, tuple[str, ...]]:
        """Return what guards cannot detect in each group with connected proxies, as texts."""
        versions: dict[str, list[str]] = {}
        proxies = self._publisher.proxies()
        for proxy in proxies:
            versions.setdefault(proxy.group, []).append(proxy.envoy_version)
        texts = uncounted_texts(self._uncounted(proxies))
        return {
            group: (*unguarded(found, token_statistics=self._token_statistics), *texts.get(group, ()))
            for group, found in versions.items()
        }

    def _capture_losses(self, group: str) -> dict[str, int]:
        """Return the losses of capture in a group's proxies by reason, as in `RouteView.capture_lost`."""
        lost = self._publisher.counters.lost
        return {key.rpartition("/")[2]: n for key, n in lost.items() if key.rpartition("/")[0] == group}
