"""Messages of Envoy's metrics service → counts by leg (pure).

Counters and histograms contain what was added since the previous message. Metrics that are not ours, are
malformed, or belong to a cluster without a backend are ignored and are not an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from xds_server.analysis.counts.counts import Role
from xds_server.analysis.counts.proxy_counters import EDGES, CounterTotals, leg_of
from xds_server.xds.wire import metrics_pb2 as wire

if TYPE_CHECKING:
    from xds_server.analysis.counts import Counts, Leg

__all__ = ["StatisticsMessage", "read_statistics"]

_PREFIX: Final = "llm."
_NO_RESPONSE: Final = "0"
_FORWARDED: Final = "cluster.upstream_rq_total"
_COLLECTOR_CLUSTER: Final = "shiftplane/collector"
_MIRROR_SUFFIXES: Final = ("/hop", "/shadow", "/noise")
_LOSSES: Final = {
    "access_logs.grpc_access_log.logs_dropped": "log_entries_dropped",
    "cluster.upstream_cx_connect_fail": "collector_unreachable",
    "cluster.upstream_rq_pending_overflow": "copies_cut_off",
}
"""The reasons for losses of capture, by the name of the Envoy counter.

`log_entries_dropped` counts recordings that were not sent to the collector, `copies_cut_off` mirrored
requests that were not sent, and `collector_unreachable` failed connections to the collector.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatisticsMessage:
    """One message: node and group, set in the first message of a stream only, and counts by leg.

    `requests` is the number of requests that were counted at their end, `responses` how many of them had a
    response, and `outcomes` how many of these had an outcome. `forwarded` is the number of users' requests
    that were sent to backends. `untagged` is whether a metric of ours has no cluster label, `histograms`
    whether the message has times or token numbers, `other_buckets` whether some of them have other buckets
    than ours, or none.
    """

    node: str
    group: str
    legs: dict[Leg, Counts]
    lost: dict[str, int]
    """Losses of capture in the proxy by reason: recordings, copies and failed connections."""
    requests: int = 0
    responses: int = 0
    outcomes: int = 0
    forwarded: int = 0
    untagged: bool = False
    histograms: bool = False
    other_buckets: bool = False


def read_statistics(raw: bytes) -> StatisticsMessage | None:
    """Return the counts in a message, or None if the bytes are not a StreamMetricsMessage."""
    try:
        message = wire.Message.FromString(raw)
    except DecodeError:
        return None
    sums, lost, seen = CounterTotals(), dict[str, int](), _Seen()
    for family in message.families:
        name = family.name
        if name in _LOSSES:
            reason = _LOSSES[name]
            count = sum(int(metric.counter.value) for metric in family.metric if _is_loss(name, metric))
            if count > 0:
                lost[reason] = lost.get(reason, 0) + count
        elif name == _FORWARDED:
            seen.forwarded += sum(map(_forwarded, family.metric))
        elif name.startswith(_PREFIX):
            for metric in family.metric:
                _add(sums, name[len(_PREFIX) :], metric, seen)
    return StatisticsMessage(
        node=message.identifier.node.id,
        group=message.identifier.node.cluster,
        legs=dict(sums.legs()),
        lost=lost,
        requests=seen.requests,
        responses=seen.responses,
        outcomes=seen.outcomes,
        forwarded=seen.forwarded,
        untagged=seen.untagged,
        histograms=seen.histograms or seen.summaries,
        other_buckets=seen.other_buckets or (seen.summaries and not seen.histograms),
    )


@dataclass(slots=True)
class _Seen:
    """What a message contains besides counts, with the fields of `StatisticsMessage`."""

    requests: int = 0
    responses: int = 0
    outcomes: int = 0
    forwarded: int = 0
    untagged: bool = False
    histograms: bool = False
    summaries: bool = False
    other_buckets: bool = False


def _count(metric: wire.Metric) -> int:
    """Return the value of a counter; 0 for one that is not positive, too large or NaN."""
    value = metric.counter.value
    return int(value) if 0 < value < 1 << 53 else 0


def _cluster_of(metric: wire.Metric) -> str:
    """Return the cluster of one of Envoy's own statistics; "" for those without one."""
    return next((label.value for label in metric.label if label.name == "envoy.cluster_name"), "")


def _forwarded(metric: wire.Metric) -> int:
    """Return the requests of users to a backend in a counter of a cluster; 0 for other clusters."""
    leg = leg_of(_cluster_of(metric))
    return 0 if leg is None or leg.role is Role.SHADOW else _count(metric)


def _is_loss(name: str, metric: wire.Metric) -> bool:
    """Return whether a counter counts what capture lost; False for an implausible value.

    Two of these counters also exist for clusters of backends, where they count users' failures. The label of
    the cluster distinguishes them.
    """
    if not _count(metric):
        return False
    cluster = _cluster_of(metric)
    match name.removeprefix("cluster."):
        case "upstream_cx_connect_fail":
            return cluster == _COLLECTOR_CLUSTER
        case "upstream_rq_pending_overflow":
            return cluster.endswith(_MIRROR_SUFFIXES)
        case _:
            return True


def _add(sums: CounterTotals, name: str, metric: wire.Metric, seen: _Seen) -> None:
    if metric.HasField("counter") and not metric.counter.value:
        # Most series of a message: Envoy sends each that was used once.
        return
    labels = {label.name: label.value for label in metric.label}
    cluster = labels.get("cluster")
    if cluster is None:
        seen.untagged = True
    elif metric.HasField("counter"):
        sums.add_counter(name, metric.counter.value, labels)
        if name == "requests":
            _see_requests(seen, _count(metric), labels)
    elif not metric.HasField("histogram"):
        seen.summaries = seen.summaries or name in EDGES
    elif name in EDGES and metric.histogram.sample_count:
        seen.histograms = True
        if not _add_histogram(sums, cluster, name, metric.histogram):
            seen.other_buckets = True


def _see_requests(seen: _Seen, count: int, labels: dict[str, str]) -> None:
    seen.requests += count
    # Envoy has no outcome of a request without a response.
    if labels.get("code") != _NO_RESPONSE:
        seen.responses += count
        seen.outcomes += count if "outcome" in labels else 0


def _add_histogram(sums: CounterTotals, cluster: str, name: str, histogram: wire.Histogram) -> bool:
    """Add a histogram, and return whether all buckets with values have our bounds.

    The values in a bucket with another bound are counted as above all our bounds.
    """
    edges, row, before, ours = EDGES[name], sums.row(cluster, name), 0, True
    # This loop is most of the cost of a message.
    for bucket in histogram.bucket:
        count = bucket.cumulative_count
        if count > before:
            index = edges.get(bucket.upper_bound, len(edges))
            ours = ours and (index < len(edges) or bucket.upper_bound == inf)
            row[index] += count - before
            before = count
            if count == histogram.sample_count:
                return ours
    if histogram.sample_count > before:
        row[len(edges)] += histogram.sample_count - before
    return ours
