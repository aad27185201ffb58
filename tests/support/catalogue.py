"""Every metric series of both programs, read from their collectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirror_collector.compare import CollectorTotals
from mirror_collector.serve import MetricsCollector
from tests.support.configs import SCRIPTS
from xds_server.engine import build_engine
from xds_server.notifications.delivery import Outbox
from xds_server.notifications.messages import Notifications
from xds_server.store import SqliteStore
from xds_server.web import registry
from xds_server.xds.server import Hub

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

__all__ = ["Series", "catalogue"]

_SUFFIX: Final = {"counter": "_total"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series: its name in a scrape, its type, its labels and its help."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Empty:
    """A mirror collector without data."""

    queued_legs: int = 0
    queued_bytes: int = 0
    waiting_legs: int = 0
    waiting_bytes: int = 0
    store_bytes: int = 0
    store_writable: bool = True
    handed: Mapping[str, Counter[str]] = field(default_factory=dict)

    def handed_on(self) -> Mapping[str, Counter[str]]:
        return self.handed


def catalogue(program: str) -> list[Series]:
    """Return the series of a program, sorted by name."""
    families = (
        _control_plane() if program == "xds_server" else MetricsCollector(CollectorTotals, _Empty()).collect()
    )
    series = [
        Series(
            name=f"{family.name}{_SUFFIX.get(family.type, '')}",
            type=family.type,
            labels=tuple(getattr(family, "_labelnames", ())),
            help=family.documentation,
        )
        for family in families
    ]
    return sorted(series, key=lambda one: one.name)


def _control_plane() -> Iterable[Metric]:
    store = SqliteStore(":memory:")
    try:
        engine, hub = build_engine(store, SCRIPTS, Hub)
        outbox = Outbox(store, Notifications(targets=()))
        return list(registry(engine, hub, outbox).collect())
    finally:
        store.close()
