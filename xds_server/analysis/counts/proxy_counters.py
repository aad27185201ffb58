"""Envoy counters and histograms by cluster → counts by leg (pure).

The readers (of metrics messages from a proxy, or of a Prometheus server) pass in increments; this module maps
the names to counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS
from xds_server.analysis.counts.counts import Counts, Leg, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EDGES", "CounterTotals", "leg_of"]

EDGES: Final = {
    "first_token_ms": {edge: place for place, edge in enumerate(FIRST_TOKEN_MS)},
    "duration_ms": {edge: place for place, edge in enumerate(DURATION_MS)},
    "tokens": {edge: place for place, edge in enumerate(TOKENS)},
}
"""The index of each edge, by histogram."""

_SERVER_ERROR: Final = "5"
_CLIENT_ERROR: Final = "4"
_RESERVED: Final = "shiftplane"
_NOT_VARIANTS: Final = frozenset({"hop", "keys"})


@dataclass(slots=True)
class _ClusterTotals:
    numbers: dict[str, int] = field(default_factory=dict)
    by_code: dict[str, dict[str, int]] = field(default_factory=dict)
    buckets: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class CounterTotals:
    """Accumulated increments, by cluster."""

    _clusters: dict[str, _ClusterTotals] = field(default_factory=dict)

    def add_counter(self, cluster: str, name: str, value: float, code: str | None = None) -> None:
        """Add to a counter; increments that are not positive, too large or NaN are ignored."""
        if not 0 < value < 1 << 53:
            return
        totals = self._of(cluster)
        into = totals.numbers if code is None else totals.by_code.setdefault(name, {})
        key = name if code is None else code
        into[key] = into.get(key, 0) + int(value)

    def add_bucket(self, cluster: str, name: str, index: int, count: int) -> None:
        """Add to a bucket of a histogram, given by the index of its edge."""
        row = self._of(cluster).buckets.setdefault(name, [0] * (len(EDGES[name]) + 1))
        row[index] += count

    def legs(self) -> Iterator[tuple[Leg, Counts]]:
        """Yield the counts of every leg; clusters that serve no backend are omitted."""
        for cluster, totals in self._clusters.items():
            leg = leg_of(cluster)
            if leg is not None:
                yield leg, _counts(totals)

    def _of(self, cluster: str) -> _ClusterTotals:
        totals = self._clusters.get(cluster)
        if totals is None:
            totals = self._clusters[cluster] = _ClusterTotals()
        return totals


def leg_of(cluster: str) -> Leg | None:
    """Return the leg of a cluster: `chat/v2` serves users, `chat/v2/shadow` gets copies; None for others."""
    match cluster.split("/"):
        case [route, variant] if route != _RESERVED and variant not in _NOT_VARIANTS and variant:
            return Leg(route=route, variant=variant)
        case [route, variant, "shadow"] if variant not in _NOT_VARIANTS and variant:
            return Leg(route=route, variant=variant, role=Role.SHADOW)
        case _:
            return None


def _counts(totals: _ClusterTotals) -> Counts:
    numbers, none = totals.numbers, dict[str, int]()
    codes, broken = totals.by_code.get("requests", none), totals.by_code.get("broken", none)
    disconnected = totals.by_code.get("left", none)
    # A client that disconnected before or during the response does not reflect on the backend.
    left = sum(n for code, n in disconnected.items() if code[0] != _SERVER_ERROR)
    failed = sum(n for code, n in codes.items() if code[0] == _SERVER_ERROR)
    failed += sum(n for code, n in broken.items() if code[0] != _SERVER_ERROR)
    complete = sum(n for code, n in codes.items() if code[0] in "123")
    complete -= sum(
        n for by_code in (broken, disconnected) for code, n in by_code.items() if code[0] in "123"
    )
    metered = numbers.get("metered", 0)
    invalid = numbers.get("invalid", 0)
    rows: dict[str, Any] = {name: tuple(row) for name, row in totals.buckets.items()}
    return Counts(
        requests=max(0, sum(codes.values()) - left),
        failed=failed,
        client_errors=sum(n for code, n in codes.items() if code[0] == _CLIENT_ERROR),
        left=left,
        metered=metered,
        prompt_tokens=numbers.get("prompt_tokens", 0),
        completion_tokens=numbers.get("completion_tokens", 0),
        metered_bytes=numbers.get("metered_bytes", 0),
        unmetered=max(0, complete - metered - invalid),
        unmetered_bytes=max(0, numbers.get("bytes", 0) - numbers.get("metered_bytes", 0)),
        invalid=invalid,
        stream_ms=numbers.get("stream_ms", 0),
        streamed_tokens=numbers.get("streamed_tokens", 0),
        **rows,
    )
