"""All metric series of both programs, read from their own collectors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirror_collector.compare import Ledger
from mirror_collector.serve import LedgerCollector
from tests.support.worlds import SCRIPTS
from xds_server.ads import Hub
from xds_server.engine import Engine
from xds_server.notify import Notifications
from xds_server.outbox import Outbox
from xds_server.store import SqliteStore
from xds_server.web import registry

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping

    from prometheus_client.metrics_core import Metric

__all__ = ["Series", "catalogue"]

_SUFFIX: Final = {"counter": "_total"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One series: its exposed name, type, labels and help text."""

    name: str
    type: str
    labels: tuple[str, ...]
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Empty:
    """A collector of an empty store."""

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
    """Return the series of a program by name."""
    families = _control_plane() if program == "xds_server" else LedgerCollector(Ledger, _Empty()).collect()
    found = [
        Series(
            name=f"{family.name}{_SUFFIX.get(family.type, '')}",
            type=family.type,
            labels=tuple(getattr(family, "_labelnames", ())),
            words=family.documentation,
        )
        for family in families
    ]
    return sorted(found, key=lambda series: series.name)


def _control_plane() -> Iterable[Metric]:
    store = SqliteStore(":memory:")
    try:
        engine = Engine(store, SCRIPTS)
        outbox = Outbox(store, Notifications(targets=()))
        return list(registry(engine, Hub(engine.compile), outbox).collect())
    finally:
        store.close()
