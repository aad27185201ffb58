"""Puts the parts of the engine together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from xds_server.clock import SystemClock
from xds_server.engine.analysis_service import AnalysisService
from xds_server.engine.audit import AuditRecorder
from xds_server.engine.committer import Committer
from xds_server.engine.inbox import ReconcileInbox
from xds_server.engine.ports import NoEvidence, NoMetrics, NoObserver, Publisher
from xds_server.engine.queries import RouteQueries
from xds_server.engine.reconciler import Reconciler
from xds_server.engine.routes import RouteTable
from xds_server.engine.service import RouteService
from xds_server.engine.snapshots import SnapshotCompiler

if TYPE_CHECKING:
    from xds_server import ir
    from xds_server.clock import Clock
    from xds_server.engine.ports import (
        EngineObserver,
        HealthWatcher,
        MakePublisher,
        MetricsSource,
        ShadowEvidence,
    )
    from xds_server.store import SqliteStore
    from xds_server.translate import Scripts

__all__ = ["Engine", "build_engine"]

P = TypeVar("P", bound=Publisher)


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The parts of the engine; each has one job and receives the others as arguments."""

    table: RouteTable
    """The live routes."""
    queries: RouteQueries
    """Everything that API, pages and metrics read."""
    routes: RouteService
    """The requests of operators: apply specs, give commands, undo, delete."""
    committer: Committer
    """The only writer of routes: decide, store, publish."""
    reconciler: Reconciler
    """The loop that moves rollouts on."""
    analysis: AnalysisService
    audit: AuditRecorder
    snapshots: SnapshotCompiler
    inbox: ReconcileInbox


def build_engine(  # noqa: PLR0913 - one argument per party outside the engine
    store: SqliteStore,
    scripts: Scripts,
    make_publisher: MakePublisher[P],
    *,
    collector: ir.Address | None = None,
    token_statistics: bool = True,
    evidence: ShadowEvidence | None = None,
    metrics: MetricsSource | None = None,
    health: HealthWatcher | None = None,
    inbox: ReconcileInbox | None = None,
    observer: EngineObserver | None = None,
    clock: Clock | None = None,
) -> tuple[Engine, P]:
    """Return an engine over a store, and the publisher that it sends snapshots through.

    `collector` is where proxies send captured legs. The caller's health checks report to `inbox`. Without
    `evidence`, `metrics` or `observer`, a stand-in that does nothing is used; without `health`, candidates
    receive users although no backend is checked.
    """
    clock = SystemClock() if clock is None else clock
    inbox = ReconcileInbox() if inbox is None else inbox
    observer = NoObserver() if observer is None else observer
    evidence = NoEvidence() if evidence is None else evidence
    table = RouteTable()
    audit = AuditRecorder(store, clock)
    analysis = AnalysisService(table, NoMetrics() if metrics is None else metrics, clock)
    snapshots = SnapshotCompiler(table, scripts, collector=collector, token_statistics=token_statistics)
    publisher = make_publisher(
        snapshots.newest, on_change=inbox.group_changed, on_counts=analysis.count_from_proxy
    )
    committer = Committer(
        store=store,
        table=table,
        publisher=publisher,
        analysis=analysis,
        audit=audit,
        inbox=inbox,
        observer=observer,
        clock=clock,
        health=health,
    )
    queries = RouteQueries(
        table=table,
        store=store,
        publisher=publisher,
        evidence=evidence,
        analysis=analysis,
        clock=clock,
        token_statistics=token_statistics,
    )
    routes = RouteService(
        table=table,
        committer=committer,
        queries=queries,
        snapshots=snapshots,
        store=store,
        audit=audit,
        inbox=inbox,
        observer=observer,
        clock=clock,
    )
    reconciler = Reconciler(
        table=table,
        committer=committer,
        queries=queries,
        analysis=analysis,
        evidence=evidence,
        publisher=publisher,
        store=store,
        inbox=inbox,
        observer=observer,
        clock=clock,
    )
    engine = Engine(
        table=table,
        queries=queries,
        routes=routes,
        committer=committer,
        reconciler=reconciler,
        analysis=analysis,
        audit=audit,
        snapshots=snapshots,
        inbox=inbox,
    )
    return engine, publisher
