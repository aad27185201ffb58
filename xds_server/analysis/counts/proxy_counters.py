"""Envoy counters and histograms by cluster → counts by leg (pure).

The readers (of metrics messages from a proxy, or of a Prometheus server) pass in increments; this module maps
the names to counts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from xds_server.analysis.counts.buckets import DURATION_MS, FIRST_TOKEN_MS, TOKENS
from xds_server.analysis.counts.counts import CELL_NUMBERS, MAX_CELLS, Counts, Leg, Role
from xds_server.analysis.counts.outcomes import UNREAD, Outcome, is_client_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xds_server.analysis.counts.counts import Cells

__all__ = ["EDGES", "CounterTotals", "leg_of"]

EDGES: Final = {
    "first_token_ms": {edge: place for place, edge in enumerate(FIRST_TOKEN_MS)},
    "duration_ms": {edge: place for place, edge in enumerate(DURATION_MS)},
    "tokens": {edge: place for place, edge in enumerate(TOKENS)},
}
"""The index of each edge, by histogram."""

_SERVER_ERROR: Final = "5"
_CLIENT_ERROR: Final = "4"
_REDIRECT: Final = "3"
_NO_RESPONSE: Final = "0"
"""The status of a request that ended before its response; its tag `outcome` is empty."""
_RESERVED: Final = "shiftplane"
_NOT_VARIANTS: Final = frozenset({"hop", "keys"})


_Ended = tuple[str, Outcome | None]
"""The status of a request and its outcome; None if an earlier configuration without this tag counted it."""


@dataclass(slots=True)
class _ClusterTotals:
    """Counters by name; those of requests also by status and outcome, and all of a cell by cell."""

    numbers: dict[str, int] = field(default_factory=dict)
    ended: dict[str, dict[_Ended, int]] = field(default_factory=dict)
    buckets: dict[str, list[int]] = field(default_factory=dict)
    cells: dict[int, _ClusterTotals] = field(default_factory=dict)


@dataclass(slots=True)
class CounterTotals:
    """Accumulated increments, by cluster."""

    _clusters: dict[str, _ClusterTotals] = field(default_factory=dict)

    def add_counter(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Add to a counter; increments that are not positive, too large or NaN are ignored.

        `labels` are those of Envoy: `cluster`, and for requests also `code`, `outcome`, `wait` and `cell`.
        """
        if not 0 < value < 1 << 53 or "cluster" not in labels:
            return
        totals = self._of(labels["cluster"])
        if (label := labels.get("cell")) is not None:
            cell = _cell(label)
            if cell is None:
                return
            totals = totals.cells.setdefault(cell, _ClusterTotals())
        code = labels.get("code")
        if code is None:
            totals.numbers[name] = totals.numbers.get(name, 0) + int(value)
            return
        if labels.get("wait") == "short":
            name = f"{name}_early"
        ended, of = (code, _outcome(labels.get("outcome"))), totals.ended.setdefault(name, {})
        of[ended] = of.get(ended, 0) + int(value)

    def row(self, cluster: str, name: str) -> list[int]:
        """Return the buckets of a histogram, by the index of their edge; counts are added in place."""
        buckets = self._of(cluster).buckets
        if name not in buckets:
            buckets[name] = [0] * (len(EDGES[name]) + 1)
        return buckets[name]

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


def _outcome(label: str | None) -> Outcome | None:
    try:
        return None if label is None else Outcome(label)
    except ValueError:
        return Outcome.OTHER


def _cell(label: str) -> int | None:
    """Return the number of a cell, or None if the label is no such number."""
    if not (label.isascii() and label.isdigit()) or int(label) >= MAX_CELLS:
        return None
    return int(label)


def _counts(totals: _ClusterTotals) -> Counts:
    numbers, classes = totals.numbers, _classes(totals.ended)
    streams = classes.pop("streams", 0)
    found: dict[str, Any] = {
        **classes,
        **{name: numbers[name] for name in _NUMBERS if name in numbers},
        **{name: tuple(row) for name, row in totals.buckets.items()},
    }
    return Counts(
        **found,
        unmetered=max(0, classes.get("answers", 0) - numbers.get("metered", 0)),
        stream_unmetered=max(0, streams - numbers.get("stream_metered", 0)),
        stream_unmetered_bytes=max(
            0, numbers.get("stream_bytes", 0) - numbers.get("stream_metered_bytes", 0)
        ),
        cells=_rows(totals.cells),
    )


def _rows(cells: Mapping[int, _ClusterTotals]) -> Cells:
    """Return the numbers of each cell up to the last one that has any."""
    found = {cell: _row(totals) for cell, totals in cells.items()}
    none = (0,) * len(CELL_NUMBERS)
    return tuple(found.get(cell, none) for cell in range(max(found, default=-1) + 1))


def _row(totals: _ClusterTotals) -> tuple[int, ...]:
    """Return the numbers of one cell.

    Successes are counted together; only faults and requests with response flags have a status and an outcome.
    """
    ended = {name.removeprefix("cell_"): by_class for name, by_class in totals.ended.items()}
    flagged: dict[_Ended, int] = {}
    for name in ("broken", "left", "left_early"):
        for key, n in ended.get(name, {}).items():
            flagged[key] = flagged.get(key, 0) + n
    ended["requests"] = flagged | ended.pop("fault", {})
    classes = _classes(ended)
    classes["requests"] = max(0, totals.numbers.get("cell", 0) - classes.get("left", 0))
    classes["waiting"] = totals.numbers.get("cell_waiting", 0)
    return tuple(classes.get(name, 0) for name in CELL_NUMBERS)


_NUMBERS: Final = (
    "waiting",
    "retried",
    "metered",
    "prompt_tokens",
    "completion_tokens",
    "stream_metered_bytes",
    "stream_ms",
    "streamed_tokens",
)
_FAILED_AS: Final[dict[Outcome | None, str]] = {
    Outcome.ERROR: "in_band",
    Outcome.INVALID: "invalid",
    Outcome.FORMAT: "format",
    Outcome.UNENDED: "unended",
    Outcome.EMPTY: "empty",
}


def _classes(ended: Mapping[str, Mapping[_Ended, int]]) -> dict[str, int]:
    """Return numbers of requests by field of `Counts`, plus `streams`: the answers that are streams."""
    none: dict[_Ended, int] = {}
    broken, left = ended.get("broken", none), ended.get("left", none)
    early = ended.get("left_early", none)
    found: dict[str, int] = {}

    def add(name: str, n: int) -> None:
        found[name] = found.get(name, 0) + n

    for key, n in ended.get("requests", none).items():
        code, outcome = key
        # These are failures even if the client left: an error inside an answer makes many clients disconnect.
        blamed = code[0] == _SERVER_ERROR or outcome is Outcome.ERROR
        gone = 0 if blamed else min(n, left.get(key, 0) + early.get(key, 0))
        cut = 0 if blamed else min(n - gone, broken.get(key, 0))
        rest = n - gone - cut
        add("requests", n - gone)
        add("left", gone)
        if code == _NO_RESPONSE or outcome in {Outcome.EMPTY, Outcome.STATUS}:
            add("left_unanswered", min(gone, early.get(key, 0)))
        add("failed", cut)
        if code[0] == _SERVER_ERROR:
            add("failed", rest)
        elif code[0] == _CLIENT_ERROR:
            add("client_errors" if is_client_error(code) else "rejected", rest)
        elif code[0] == _REDIRECT:
            add("rejected", rest)
        elif outcome in _FAILED_AS:
            add("failed", rest)
            add(_FAILED_AS[outcome], rest)
        elif outcome is not None and outcome in UNREAD:
            add(f"unread_{outcome.value}", rest)
        else:
            add("answers", rest)
            add("streams", rest if outcome is Outcome.STREAM else 0)
    return found
