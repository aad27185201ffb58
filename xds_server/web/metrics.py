"""Our own series, read from views at scrape time; nothing is counted twice, nothing is kept here."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.engine import Engine
    from xds_server.notifications.delivery import Outbox
    from xds_server.traces import Sender
    from xds_server.xds.server import Hub
    from xds_server.xds.workers import WorkerPool

__all__ = ["registry"]


def registry(
    engine: Engine, hub: Hub | WorkerPool, outbox: Outbox | None = None, spans: Sender | None = None
) -> CollectorRegistry:
    """Return a registry of its own with everything the control plane tells about itself."""
    found = CollectorRegistry()
    found.register(_Collector(engine, hub, outbox, spans))
    return found


class _Collector(Collector):
    def __init__(
        self, engine: Engine, hub: Hub | WorkerPool, outbox: Outbox | None, spans: Sender | None
    ) -> None:
        self._engine = engine
        self._hub = hub
        self._outbox = outbox
        self._spans = spans

    def describe(self) -> list[Metric]:
        return []  # Nothing is collected at registration.

    def collect(self) -> Iterator[Metric]:
        yield from self._routes()
        yield from self._proxies()
        yield from self._pushes()
        yield from self._store()
        yield from self._notifications()

    def _routes(self) -> Iterator[Metric]:
        weight = GaugeMetricFamily(
            "shiftplane_route_weight_percent", "Share of users a variant gets.", labels=["route", "variant"]
        )
        mirror = GaugeMetricFamily(
            "shiftplane_route_mirror_percent", "Share of requests copied to the shadow.", labels=["route"]
        )
        phase = GaugeMetricFamily(
            "shiftplane_route_phase", "1 for the phase a rollout is in.", labels=["route", "phase"]
        )
        killed = GaugeMetricFamily(
            "shiftplane_route_killed", "1 while a kill has one backend serve everyone.", labels=["route"]
        )
        dead = GaugeMetricFamily(
            "shiftplane_backend_dead",
            "1 while a backend is known to have no living endpoint.",
            labels=["route", "backend"],
        )
        verdict = GaugeMetricFamily(
            "shiftplane_verdict", "1 for what is found of a metric.", labels=["route", "metric", "finding"]
        )
        evidence = GaugeMetricFamily(
            "shiftplane_evidence_against",
            "How strong the evidence against the candidate is, as odds against chance.",
            labels=["route", "metric"],
        )
        cost = CounterMetricFamily(
            "shiftplane_cost",
            "What answers cost since the start, at the prices of the spec.",
            labels=["route", "variant", "role", "currency"],
        )
        for view in self._engine.queries.views():
            for one in view.costs:
                if one.cost is not None:
                    cost.add_metric([view.name, one.variant, one.role, one.currency or ""], one.cost)
            killed.add_metric([view.name], view.kill is not None)
            for backend in view.dead:
                dead.add_metric([view.name, backend], 1)
            mirror.add_metric([view.name], view.mirror_percent)
            phase.add_metric([view.name, view.phase], 1)
            for variant, percent in view.weights.items():
                weight.add_metric([view.name, variant], percent)
            if view.analysis is not None:
                for metric in view.analysis.metrics:
                    verdict.add_metric([view.name, metric.name, metric.finding], 1)
                    evidence.add_metric([view.name, metric.name], metric.evidence)
        yield from (weight, mirror, phase, killed, dead, verdict, evidence, cost)

    def _proxies(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "shiftplane_proxies", "Connected proxies by what they hold.", labels=["group", "status"]
        )
        counted: dict[tuple[str, str], int] = {}
        for view in self._engine.queries.proxies():
            key = (view.group, view.status.value)
            counted[key] = counted.get(key, 0) + 1
        for (group, status), number in sorted(counted.items()):
            connected.add_metric([group, status], number)
        yield connected

    def _store(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "shiftplane_store_failures",
            "Times rollouts stood still because the store did not take what happened.",
            value=self._engine.reconciler.store_failures,
        )

    def _notifications(self) -> Iterator[Metric]:
        results = CounterMetricFamily(
            "shiftplane_notifications",
            "Messages about events by what became of them.",
            labels=["target", "result"],
        )
        retries = CounterMetricFamily(
            "shiftplane_notification_retries", "Tries that failed and were repeated.", labels=["target"]
        )
        late = GaugeMetricFamily(
            "shiftplane_notification_delay_seconds",
            "Age of the event a target has yet to be told of, 0 for none.",
            labels=["target"],
        )
        now = time.time()
        for name, counts in () if self._outbox is None else self._outbox.counts.items():
            for result in ("delivered", "refused", "too_old"):
                results.add_metric([name, result], counts.results[result])
            retries.add_metric([name], counts.retries)
            late.add_metric([name], 0.0 if counts.since is None else max(0.0, now - counts.since))
        yield from (results, retries, late)
        spans = CounterMetricFamily(
            "shiftplane_spans", "Spans of traces by what became of them.", labels=["result"]
        )
        for result, number in () if self._spans is None else sorted(self._spans.results.items()):
            spans.add_metric([result], number)
        yield spans

    def _pushes(self) -> Iterator[Metric]:
        counters = self._hub.counters
        yield CounterMetricFamily("shiftplane_xds_pushes", "Responses sent.", value=counters.pushes)
        yield CounterMetricFamily("shiftplane_xds_sent_bytes", "Bytes sent.", value=counters.bytes_sent)
        yield CounterMetricFamily(
            "shiftplane_xds_stale_nonces", "Requests about older responses.", counters.stale_nonces
        )
        yield CounterMetricFamily(
            "shiftplane_xds_slow_clients_closed", "Clients that did not read.", counters.slow_clients_closed
        )
        yield CounterMetricFamily(
            "shiftplane_xds_turned_away", "New streams that found no room.", counters.streams_rejected
        )
        yield CounterMetricFamily(
            "shiftplane_xds_identity_refused",
            "Streams whose certificate is not the node's.",
            counters.nodes_denied,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_versions_stopped", "Versions that probes refused.", counters.versions_stopped
        )
        yield CounterMetricFamily(
            "shiftplane_xds_worlds_failed",
            "Worlds that could not be built; proxies kept the one before.",
            counters.snapshot_builds_failed,
        )
        yield CounterMetricFamily(
            "shiftplane_statistics_messages",
            "What proxies told of their counts.",
            counters.statistics_messages,
        )
        yield CounterMetricFamily("shiftplane_statistics_bytes", "Bytes of that.", counters.statistics_bytes)
        lost = CounterMetricFamily(
            "shiftplane_capture_lost",
            "Captured legs and copies that proxies had to give up, by reason.",
            labels=["group", "reason"],
        )
        for key, count in sorted(counters.lost.items()):
            group, _, reason = key.rpartition("/")
            lost.add_metric([group, reason], count)
        yield lost
        yield CounterMetricFamily(
            "shiftplane_statistics_refused",
            "Streams of counts that said more than a proxy has to say.",
            counters.statistics_streams_rejected,
        )
        yield GaugeMetricFamily(
            "shiftplane_xds_acceptors", "Processes that let proxies in.", value=self._hub.serving
        )
        yield GaugeMetricFamily("shiftplane_xds_streams", "Open streams.", value=self._hub.connected)
        for name, text, histogram in (
            ("shiftplane_xds_queue_seconds", "From a change until its push begins.", counters.queue_seconds),
            (
                "shiftplane_xds_convergence_seconds",
                "From a publish until all proxies of the group hold it.",
                counters.convergence_seconds,
            ),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total)
        for name, text, values in (
            ("shiftplane_xds_acks", "Accepted responses by type.", counters.acks),
            ("shiftplane_xds_nacks", "Refused responses by type.", counters.nacks),
        ):
            family = CounterMetricFamily(name, text, labels=["type"])
            for kind, number in sorted(values.items()):
                family.add_metric([kind], number)
            yield family
