"""What proxies send to the metrics service, read as counts by leg."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds_server.analysis.counts import (
    DURATION_MS,
    Block,
    Counts,
    Leg,
    Role,
    add_counts,
    block_from_json,
    block_to_json,
    counts_from_values,
    counts_to_values,
)
from xds_server.analysis.counts.proxy_counters import leg_of
from xds_server.xds.session.proxy_statistics import StatisticsMessage, read_statistics
from xds_server.xds.wire import metrics_pb2 as wire


def counter(name: str, value: float, **labels: str) -> wire.Family:
    found = [wire.Label(name=key, value=text) for key, text in labels.items()]
    return wire.Family(
        name=f"llm.{name}", metric=[wire.Metric(label=found, counter=wire.Counter(value=value))]
    )


def histogram(name: str, cluster: str, buckets: dict[float, int], total: int) -> wire.Family:
    found = wire.Histogram(
        sample_count=total,
        bucket=[wire.Bucket(upper_bound=edge, cumulative_count=n) for edge, n in buckets.items()],
    )
    label = wire.Label(name="cluster", value=cluster)
    return wire.Family(name=f"llm.{name}", metric=[wire.Metric(label=[label], histogram=found)])


def read(*families: wire.Family) -> dict[Leg, Counts]:
    node = wire.Identifier(node=wire.Node(id="e1", cluster="chat"))
    found = read_statistics(wire.Message(identifier=node, families=families).SerializeToString())
    assert found is not None
    assert (found.node, found.group) == ("e1", "chat")
    return found.legs


V2 = Leg(route="chat", variant="v2")
SUMMARY = wire.Family(
    name="llm.duration_ms", metric=[wire.Metric(label=[wire.Label(name="cluster", value="chat/v2")])]
)


def test_requests_by_code_become_failed_and_left_counts() -> None:
    legs = read(
        counter("requests", 90, cluster="chat/v2", code="200"),
        counter("requests", 4, cluster="chat/v2", code="503"),
        counter("requests", 3, cluster="chat/v2", code="404"),
        counter("requests", 2, cluster="chat/v2", code="0"),
        counter("broken", 5, cluster="chat/v2", code="200"),
        counter("broken", 4, cluster="chat/v2", code="503"),
        counter("left", 6, cluster="chat/v2", code="200"),
        counter("left", 2, cluster="chat/v2", code="0"),
        counter("metered", 60, cluster="chat/v2"),
        counter("requests", 1, cluster="chat/v2", code="200", outcome="invalid"),
        counter("requests", 9, cluster="chat/v2", code="200", outcome="stream"),
        counter("stream_metered", 4, cluster="chat/v2"),
        counter("stream_bytes", 1000, cluster="chat/v2"),
        counter("stream_metered_bytes", 700, cluster="chat/v2"),
    )
    counts = legs[V2]
    assert (counts.requests, counts.failed, counts.rejected, counts.left) == (101, 10, 3, 8)
    assert (counts.metered, counts.unmetered, counts.invalid) == (60, 28, 1)
    assert (counts.stream_unmetered, counts.stream_unmetered_bytes) == (5, 300)


def test_cumulative_histograms_become_counts_by_bucket() -> None:
    edges = {DURATION_MS[0]: 1, DURATION_MS[3]: 4, DURATION_MS[-1]: 9}
    row = read(histogram("duration_ms", "chat/v2", edges, 11))[V2].duration_ms
    assert (row[0], row[3], row[len(DURATION_MS) - 1], row[len(DURATION_MS)]) == (1, 3, 5, 2)
    assert sum(row) == 11


def test_empty_histograms_and_unknown_names_are_ignored() -> None:
    nan = float("nan")
    legs = read(
        histogram("duration_ms", "chat/v2", {}, 0),
        histogram("surprise", "chat/v2", {1.0: 3}, 3),
        counter("requests", nan, cluster="chat/v2", code="200"),
        counter("requests", -4, cluster="chat/v2", code="200"),
        counter("requests", 3, cluster="-", code="404"),
        counter("requests", 3, cluster="shiftplane/collector", code="200"),
        counter("requests", 3, cluster="chat/hop", code="200"),
        counter("requests", 3),
        wire.Family(name="server.live", metric=[wire.Metric(counter=wire.Counter(value=1))]),
    )
    assert legs == {}


def seen(*families: wire.Family) -> StatisticsMessage:
    found = read_statistics(wire.Message(families=families).SerializeToString())
    assert found is not None
    return found


def forwarded(cluster: str, value: float) -> wire.Family:
    label = wire.Label(name="envoy.cluster_name", value=cluster)
    metric = wire.Metric(label=[label], counter=wire.Counter(value=value))
    return wire.Family(name="cluster.upstream_rq_total", metric=[metric])


def test_a_message_has_what_is_needed_to_find_a_bootstrap_that_does_not_count() -> None:
    found = seen(
        counter("requests", 3, cluster="chat/v2", code="200", outcome="json"),
        counter("requests", 2, cluster="chat/v2", code="200"),
        counter("requests", 1, cluster="chat/v2", code="0"),
        counter("requests", 0, cluster="chat/v1", code="200", outcome="json"),
        *(forwarded(name, 5) for name in ("chat/v1", "chat/v2", "chat/v2/shadow", "chat/hop", "other")),
    )
    assert (found.requests, found.responses, found.outcomes, found.forwarded) == (6, 5, 3, 10)
    assert (found.untagged, found.histograms, found.other_buckets) == (False, False, False)
    assert seen(counter("requests", 3)).untagged


@pytest.mark.parametrize(
    ("families", "expected"),
    [
        ([histogram("duration_ms", "chat/v2", {DURATION_MS[0]: 1}, 1)], (True, False)),
        ([histogram("duration_ms", "chat/v2", {0.5: 1, 1.0: 1}, 1)], (True, True)),
        ([histogram("duration_ms", "chat/v2", {float("inf"): 1}, 1)], (True, False)),
        ([SUMMARY], (True, True)),
        ([SUMMARY, histogram("duration_ms", "chat/v2", {DURATION_MS[0]: 1}, 1)], (True, False)),
        ([histogram("surprise", "chat/v2", {0.5: 1}, 1)], (False, False)),
    ],
    ids=["ours", "the default of Envoy", "above all", "summaries", "both", "of another kind"],
)
def test_histograms_without_our_buckets_are_noticed(
    families: list[wire.Family], expected: tuple[bool, bool]
) -> None:
    found = seen(*families)
    assert (found.histograms, found.other_buckets) == expected


def test_invalid_bytes_are_no_message() -> None:
    assert read_statistics(b"\xff\xff\xff") is None


def test_the_leg_of_a_cluster_name() -> None:
    assert leg_of("chat/v2") == V2
    assert leg_of("chat/v2/shadow") == Leg(route="chat", variant="v2", role=Role.SHADOW)
    for other in (
        "chat",
        "chat/hop",
        "chat/keys/idp",
        "chat/keys/shadow",
        "shiftplane/x",
        "chat/",
        "a/b/c/d",
        "",
    ):
        assert leg_of(other) is None, other


numbers = st.lists(
    st.integers(0, 1000), min_size=len(counts_to_values(Counts())), max_size=len(counts_to_values(Counts()))
).map(counts_from_values)


@given(one=numbers, other=numbers)
def test_counts_are_added_and_survive_serialization(one: Counts, other: Counts) -> None:
    both = add_counts(one, other)
    assert counts_to_values(both) == [
        a + b for a, b in zip(counts_to_values(one), counts_to_values(other), strict=True)
    ]
    block = Block(
        start=5.0, seconds=10.0, legs={V2: both, Leg(route="a", variant="b", role=Role.SHADOW): one}
    )
    assert block_from_json(block_to_json(block)) == block


def test_losses_of_a_proxy_are_counted_by_reason() -> None:
    def of(name: str, value: float, cluster: str = "") -> wire.Family:
        labels = [wire.Label(name="envoy.cluster_name", value=cluster)] if cluster else []
        return wire.Family(name=name, metric=[wire.Metric(label=labels, counter=wire.Counter(value=value))])

    families = [
        of("access_logs.grpc_access_log.logs_dropped", 7),
        of("cluster.upstream_cx_connect_fail", 3, "shiftplane/collector"),
        of("cluster.upstream_cx_connect_fail", 5, "chat/v1"),
        of("cluster.upstream_rq_pending_overflow", 2, "chat/hop"),
        of("cluster.upstream_rq_pending_overflow", 4, "chat/v2/shadow"),
        of("cluster.upstream_rq_pending_overflow", 8, "chat/v2"),
        of("access_logs.grpc_access_log.logs_dropped", float("nan")),
    ]
    found = read_statistics(wire.Message(families=families).SerializeToString())
    assert found is not None
    assert found.lost == {"log_entries_dropped": 7, "collector_unreachable": 3, "copies_cut_off": 6}
