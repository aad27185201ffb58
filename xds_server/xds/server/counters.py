"""Totals since the start, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

from xds_server.xds.server.histogram import Histogram

__all__ = ["Counters"]

_QUEUE_BOUNDS: Final = (0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0)
_CONVERGENCE_BOUNDS: Final = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0)


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened on the streams of one process, or of several added up; times in seconds."""

    pushes: int = 0
    bytes_sent: int = 0
    stale: int = 0
    slow_closed: int = 0
    turned_away: int = 0
    identity_refused: int = 0
    versions_stopped: int = 0
    worlds_failed: int = 0
    statistics: int = 0
    statistics_bytes: int = 0
    statistics_refused: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Captured legs and copies that proxies gave up, by group and reason: ``chat/log_entries_dropped``."""

    accepted: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(_QUEUE_BOUNDS))
    convergence_seconds: Histogram = field(default_factory=lambda: Histogram(_CONVERGENCE_BOUNDS))

    def add(self, other: Counters) -> None:
        """Add another process's totals."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lost.update(other.lost)
        self.accepted.update(other.accepted)
        self.rejected.update(other.rejected)
        for name in _HISTOGRAMS:
            getattr(self, name).add(getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        found |= {"lost": dict(self.lost), "accepted": dict(self.accepted), "rejected": dict(self.rejected)}
        for name in _HISTOGRAMS:
            histogram = getattr(self, name)
            found[name] = {"total": histogram.total, "counts": histogram.counts}
        return found

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Counters:
        """Return what `to_json` made."""
        found = cls(**{name: values[name] for name in _NUMBERS})
        found.accepted.update(values["accepted"])
        found.rejected.update(values["rejected"])
        found.lost.update(values["lost"])
        for name in _HISTOGRAMS:
            histogram = getattr(found, name)
            histogram.total, histogram.counts = values[name]["total"], values[name]["counts"]
        return found


_NUMBERS: Final = (
    "pushes",
    "bytes_sent",
    "stale",
    "slow_closed",
    "turned_away",
    "identity_refused",
    "versions_stopped",
    "worlds_failed",
    "statistics",
    "statistics_bytes",
    "statistics_refused",
)
_HISTOGRAMS: Final = ("queue_seconds", "convergence_seconds")
