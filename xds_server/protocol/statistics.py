"""What a proxy tells its metrics service → counts by leg (pure).

Counters come as what was added since the last message, histograms as what was seen since. What is not ours,
cannot be read, or belongs to a cluster that serves no backend is left out; nothing a proxy says is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from xds_server.telemetry import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Buckets, Counts, Leg, Role
from xds_server.wire import metrics_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Told", "leg_of", "read_statistics"]

_PREFIX: Final = "llm."
_EDGES: Final = {
    "first_token_ms": {edge: place for place, edge in enumerate(FIRST_TOKEN_MS)},
    "duration_ms": {edge: place for place, edge in enumerate(DURATION_MS)},
    "tokens": {edge: place for place, edge in enumerate(TOKENS)},
}
_SERVER_ERROR: Final = "5"
_CLIENT_ERROR: Final = "4"
_NO_ANSWER: Final = "0"
_OWN: Final = "shiftplane"
_NOT_VARIANTS: Final = frozenset({"hop", "keys"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One message: whose it is, where it is said, and what was counted."""

    node: str
    group: str
    legs: dict[Leg, Counts]


class _Sums:
    """The sums of one leg while a message is read."""

    __slots__ = ("buckets", "by_code", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.by_code: dict[str, dict[str, int]] = {}
        self.buckets: dict[str, Any] = {}


def read_statistics(raw: bytes) -> Told | None:
    """Return what a message says; None for what is no message."""
    try:
        message = wire.Message.FromString(raw)
    except DecodeError:
        return None
    sums: dict[str, _Sums] = {}
    for family in message.families:
        name = family.name
        if name.startswith(_PREFIX):
            for metric in family.metric:
                _add(sums, name[len(_PREFIX) :], metric)
    return Told(
        node=message.identifier.node.id,
        group=message.identifier.node.cluster,
        legs=dict(_legs(sums)),
    )


def leg_of(cluster: str) -> Leg | None:
    """Return whose requests a cluster takes: `chat/v2` serves users, `chat/v2/shadow` copies."""
    match cluster.split("/"):
        case [route, variant] if route != _OWN and variant not in _NOT_VARIANTS and variant:
            return Leg(route=route, variant=variant)
        case [route, variant, "shadow"] if variant not in _NOT_VARIANTS and variant:
            return Leg(route=route, variant=variant, role=Role.SHADOW)
        case _:
            return None


def _add(sums: dict[str, _Sums], name: str, metric: wire.Metric) -> None:
    labels = {label.name: label.value for label in metric.label}
    cluster = labels.get("cluster")
    if cluster is None:
        return
    if metric.HasField("histogram"):
        edges = _EDGES.get(name)
        if edges is None or not metric.histogram.sample_count:
            return
        _sums(sums, cluster).buckets[name] = _buckets(metric.histogram, edges)
        return
    value = metric.counter.value
    # What does not count up is none of our counters; a NaN fails every comparison.
    if not 0 < value < 1 << 53:
        return
    found = _sums(sums, cluster)
    code = labels.get("code")
    if code is None:
        found.numbers[name] = found.numbers.get(name, 0) + int(value)
    else:
        by_code = found.by_code.setdefault(name, {})
        by_code[code] = by_code.get(code, 0) + int(value)


def _sums(sums: dict[str, _Sums], cluster: str) -> _Sums:
    found = sums.get(cluster)
    if found is None:
        found = sums[cluster] = _Sums()
    return found


def _buckets(histogram: wire.Histogram, edges: dict[float, int]) -> Buckets:
    """Return counts by bucket; what a proxy with other edges counted goes above all of them."""
    counts = [0] * (len(edges) + 1)
    before = 0
    for bucket in histogram.bucket:
        more = bucket.cumulative_count - before
        if more > 0:
            counts[edges.get(bucket.upper_bound, len(edges))] += more
            before = bucket.cumulative_count
    counts[len(edges)] += max(0, histogram.sample_count - before)
    return tuple(counts)


def _legs(sums: dict[str, _Sums]) -> Iterator[tuple[Leg, Counts]]:
    for cluster, found in sums.items():
        leg = leg_of(cluster)
        if leg is not None:
            yield leg, _counts(found)


def _counts(found: _Sums) -> Counts:
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
        **found.buckets,
    )
