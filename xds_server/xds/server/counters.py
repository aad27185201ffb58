"""Counters of the xDS server since its start, for metrics."""

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
    """The counters of one process, or the sum of several; times in seconds."""

    pushes: int = 0
    bytes_sent: int = 0
    stale_nonces: int = 0
    slow_clients_closed: int = 0
    streams_rejected: int = 0
    nodes_denied: int = 0
    versions_stopped: int = 0
    snapshot_builds_failed: int = 0
    statistics_messages: int = 0
    statistics_bytes: int = 0
    statistics_streams_rejected: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """Losses of capture in proxies by `group/reason`: see `StatisticsMessage.lost`."""

    acks: Counter[str] = field(default_factory=Counter)
    nacks: Counter[str] = field(default_factory=Counter)
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(_QUEUE_BOUNDS))
    convergence_seconds: Histogram = field(default_factory=lambda: Histogram(_CONVERGENCE_BOUNDS))

    def add(self, other: Counters) -> None:
        """Add the counters of another process."""
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.lost.update(other.lost)
        self.acks.update(other.acks)
        self.nacks.update(other.nacks)
        for name in _HISTOGRAMS:
            getattr(self, name).add(getattr(other, name))

    def to_json(self) -> dict[str, Any]:
        """Return the counters as JSON values."""
        found: dict[str, Any] = {name: getattr(self, name) for name in _NUMBERS}
        found |= {"lost": dict(self.lost), "acks": dict(self.acks), "nacks": dict(self.nacks)}
        for name in _HISTOGRAMS:
            histogram = getattr(self, name)
            found[name] = {"total": histogram.total, "counts": histogram.counts}
        return found

    @classmethod
    def of_json(cls, values: dict[str, Any]) -> Counters:
        """Return the counters in the JSON values that `to_json` returned."""
        found = cls(**{name: values[name] for name in _NUMBERS})
        found.acks.update(values["acks"])
        found.nacks.update(values["nacks"])
        found.lost.update(values["lost"])
        for name in _HISTOGRAMS:
            histogram = getattr(found, name)
            histogram.total, histogram.counts = values[name]["total"], values[name]["counts"]
        return found


_NUMBERS: Final = (
    "pushes",
    "bytes_sent",
    "stale_nonces",
    "slow_clients_closed",
    "streams_rejected",
    "nodes_denied",
    "versions_stopped",
    "snapshot_builds_failed",
    "statistics_messages",
    "statistics_bytes",
    "statistics_streams_rejected",
)
_HISTOGRAMS: Final = ("queue_seconds", "convergence_seconds")
