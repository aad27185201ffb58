"""Messages of Envoy's metrics service → counts by leg (pure).

Counters and histograms contain what was added since the previous message. Metrics that are not ours, are
malformed, or belong to a cluster without a backend are ignored and are not an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from xds_server.analysis.counts.proxy_counters import EDGES, CounterTotals
from xds_server.xds.wire import metrics_pb2 as wire

if TYPE_CHECKING:
    from xds_server.analysis.counts import Counts, Leg

__all__ = ["StatisticsMessage", "read_statistics"]

_PREFIX: Final = "llm."
_COLLECTOR_CLUSTER: Final = "shiftplane/collector"
_MIRROR_SUFFIXES: Final = ("/hop", "/shadow", "/noise")
_LOSSES: Final = {
    "access_logs.grpc_access_log.logs_dropped": "log_entries_dropped",
    "cluster.upstream_cx_connect_fail": "collector_unreachable",
    "cluster.upstream_rq_pending_overflow": "copies_cut_off",
}
"""Why a captured leg or a mirrored request is missing, by the name of the Envoy counter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsMessage:
    """One message: node and group, set in the first message of a stream only, and counts by leg."""

    node: str
    group: str
    legs: dict[Leg, Counts]
    lost: dict[str, int]
    """Captured legs and mirrored requests that the proxy dropped, by reason."""


def read_statistics(raw: bytes) -> StatisticsMessage | None:
    """Return the counts in a message, or None if the bytes are not a StreamMetricsMessage."""
    try:
        message = wire.Message.FromString(raw)
    except DecodeError:
        return None
    sums, lost = CounterTotals(), dict[str, int]()
    for family in message.families:
        name = family.name
        if name in _LOSSES:
            reason = _LOSSES[name]
            count = sum(int(metric.counter.value) for metric in family.metric if _is_loss(name, metric))
            if count > 0:
                lost[reason] = lost.get(reason, 0) + count
            continue
        if name.startswith(_PREFIX):
            for metric in family.metric:
                _add(sums, name[len(_PREFIX) :], metric)
    return StatisticsMessage(
        node=message.identifier.node.id,
        group=message.identifier.node.cluster,
        legs=dict(sums.legs()),
        lost=lost,
    )


def _is_loss(name: str, metric: wire.Metric) -> bool:
    """Return whether a counter is about mirrored requests or captured legs, and not users' requests."""
    if not 0 < metric.counter.value < 1 << 53:
        return False
    cluster = next((label.value for label in metric.label if label.name == "envoy.cluster_name"), "")
    match name.removeprefix("cluster."):
        case "upstream_cx_connect_fail":
            return cluster == _COLLECTOR_CLUSTER
        case "upstream_rq_pending_overflow":
            return cluster.endswith(_MIRROR_SUFFIXES)
        case _:
            return True


def _add(sums: CounterTotals, name: str, metric: wire.Metric) -> None:
    labels = {label.name: label.value for label in metric.label}
    cluster = labels.get("cluster")
    if cluster is None:
        return
    if not metric.HasField("histogram"):
        sums.add_counter(name, metric.counter.value, labels)
    elif name in EDGES and metric.histogram.sample_count:
        _add_histogram(sums, cluster, name, metric.histogram)


def _add_histogram(sums: CounterTotals, cluster: str, name: str, histogram: wire.Histogram) -> None:
    """Add a histogram; a bucket with a bound that is not one of ours counts as above all our bounds."""
    edges, row, before = EDGES[name], sums.row(cluster, name), 0
    # This loop is most of the cost of a message.
    for bucket in histogram.bucket:
        count = bucket.cumulative_count
        if count > before:
            row[edges.get(bucket.upper_bound, len(edges))] += count - before
            before = count
            if count == histogram.sample_count:
                return
    if histogram.sample_count > before:
        row[len(edges)] += histogram.sample_count - before
