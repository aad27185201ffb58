"""Counters and histograms by the names Envoy gives them → counts by leg (pure).

Whoever reads them (from a proxy's own messages, or from a database of metrics) adds up what was counted since
it looked last; here is what the names mean.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS
from xds_server.analysis.counts.counts import Counts, Leg, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["EDGES", "Sums", "leg_of"]

EDGES: Final = {
    "first_token_ms": {edge: place for place, edge in enumerate(FIRST_TOKEN_MS)},
    "duration_ms": {edge: place for place, edge in enumerate(DURATION_MS)},
    "tokens": {edge: place for place, edge in enumerate(TOKENS)},
}
"""The place of each edge, by histogram."""

_SERVER_ERROR: Final = "5"
_CLIENT_ERROR: Final = "4"
_OWN: Final = "shiftplane"
_NOT_VARIANTS: Final = frozenset({"hop", "keys"})


@dataclass(slots=True)
class _OfCluster:
    numbers: dict[str, int] = field(default_factory=dict)
    by_code: dict[str, dict[str, int]] = field(default_factory=dict)
    buckets: dict[str, list[int]] = field(default_factory=dict)


@dataclass(slots=True)
class Sums:
    """What was counted, by cluster."""

    _clusters: dict[str, _OfCluster] = field(default_factory=dict)

    def count(self, cluster: str, name: str, value: float, code: str | None = None) -> None:
        """Add to a counter. What does not count up is none of ours; a NaN fails every comparison."""
        if not 0 < value < 1 << 53:
            return
        found = self._of(cluster)
        into = found.numbers if code is None else found.by_code.setdefault(name, {})
        key = name if code is None else code
        into[key] = into.get(key, 0) + int(value)

    def sort(self, cluster: str, name: str, place: int, count: int) -> None:
        """Add to a bucket of a histogram, given by the place of its edge."""
        row = self._of(cluster).buckets.setdefault(name, [0] * (len(EDGES[name]) + 1))
        row[place] += count

    def legs(self) -> Iterator[tuple[Leg, Counts]]:
        """Yield the counts of every leg; clusters that serve no backend are left out."""
        for cluster, found in self._clusters.items():
            leg = leg_of(cluster)
            if leg is not None:
                yield leg, _counts(found)

    def _of(self, cluster: str) -> _OfCluster:
        found = self._clusters.get(cluster)
        if found is None:
            found = self._clusters[cluster] = _OfCluster()
        return found


def leg_of(cluster: str) -> Leg | None:
    """Return whose requests a cluster takes: `chat/v2` serves users, `chat/v2/shadow` copies."""
    match cluster.split("/"):
        case [route, variant] if route != _OWN and variant not in _NOT_VARIANTS and variant:
            return Leg(route=route, variant=variant)
        case [route, variant, "shadow"] if variant not in _NOT_VARIANTS and variant:
            return Leg(route=route, variant=variant, role=Role.SHADOW)
        case _:
            return None


def _counts(found: _OfCluster) -> Counts:
    numbers, nothing = found.numbers, dict[str, int]()
    codes, broken = found.by_code.get("requests", nothing), found.by_code.get("broken", nothing)
    gone = found.by_code.get("left", nothing)
    # Who went away before an answer, or in the midst of one, says nothing of the backend.
    left = sum(n for code, n in gone.items() if code[0] != _SERVER_ERROR)
    failed = sum(n for code, n in codes.items() if code[0] == _SERVER_ERROR)
    failed += sum(n for code, n in broken.items() if code[0] != _SERVER_ERROR)
    whole = sum(n for code, n in codes.items() if code[0] in "123")
    whole -= sum(n for by_code in (broken, gone) for code, n in by_code.items() if code[0] in "123")
    metered = numbers.get("metered", 0)
    invalid = numbers.get("invalid", 0)
    rows: dict[str, Any] = {name: tuple(row) for name, row in found.buckets.items()}
    return Counts(
        requests=max(0, sum(codes.values()) - left),
        failed=failed,
        client_errors=sum(n for code, n in codes.items() if code[0] == _CLIENT_ERROR),
        left=left,
        metered=metered,
        prompt_tokens=numbers.get("prompt_tokens", 0),
        completion_tokens=numbers.get("completion_tokens", 0),
        metered_bytes=numbers.get("metered_bytes", 0),
        unmetered=max(0, whole - metered - invalid),
        unmetered_bytes=max(0, numbers.get("bytes", 0) - numbers.get("metered_bytes", 0)),
        invalid=invalid,
        stream_ms=numbers.get("stream_ms", 0),
        streamed_tokens=numbers.get("streamed_tokens", 0),
        **rows,
    )
