"""What a proxy tells its metrics service → counts by leg (pure).

Counters come as what was added since the last message, histograms as what was seen since. What is not ours,
cannot be read, or belongs to a cluster that serves no backend is left out; nothing a proxy says is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from xds_server.telemetry.sums import EDGES, Sums
from xds_server.wire import metrics_pb2 as wire

if TYPE_CHECKING:
    from xds_server.telemetry import Counts, Leg

__all__ = ["Told", "read_statistics"]

_PREFIX: Final = "llm."


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One message: whose it is, where it is said, and what was counted."""

    node: str
    group: str
    legs: dict[Leg, Counts]


def read_statistics(raw: bytes) -> Told | None:
    """Return what a message says; None for what is no message."""
    try:
        message = wire.Message.FromString(raw)
    except DecodeError:
        return None
    sums = Sums()
    for family in message.families:
        name = family.name
        if name.startswith(_PREFIX):
            for metric in family.metric:
                _add(sums, name[len(_PREFIX) :], metric)
    return Told(
        node=message.identifier.node.id,
        group=message.identifier.node.cluster,
        legs=dict(sums.legs()),
    )


def _add(sums: Sums, name: str, metric: wire.Metric) -> None:
    labels = {label.name: label.value for label in metric.label}
    cluster = labels.get("cluster")
    if cluster is None:
        return
    if not metric.HasField("histogram"):
        sums.count(cluster, name, metric.counter.value, labels.get("code"))
    elif name in EDGES and metric.histogram.sample_count:
        _sort(sums, cluster, name, metric.histogram)


def _sort(sums: Sums, cluster: str, name: str, histogram: wire.Histogram) -> None:
    """Add a histogram; what a proxy with other edges counted goes above all of ours."""
    edges, before = EDGES[name], 0
    for bucket in histogram.bucket:
        more = bucket.cumulative_count - before
        if more > 0:
            sums.sort(cluster, name, edges.get(bucket.upper_bound, len(edges)), more)
            before = bucket.cumulative_count
    if histogram.sample_count > before:
        sums.sort(cluster, name, len(edges), histogram.sample_count - before)
