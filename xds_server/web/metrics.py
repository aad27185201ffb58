"""The control plane's Prometheus metrics, read from views and counters at scrape time."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from xds_server.view.uncounted import StatisticsDefect
from xds_server.web.outcome_metrics import outcome_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.engine import Engine
    from xds_server.notifications.delivery import Outbox
    from xds_server.traces import SpanExporter
    from xds_server.xds.server import Hub
    from xds_server.xds.workers import WorkerPool

__all__ = ["registry"]


def registry(
    engine: Engine, hub: Hub | WorkerPool, outbox: Outbox | None = None, exporter: SpanExporter | None = None
) -> CollectorRegistry:
    """Return a new registry with all metrics of the control plane."""
    found = CollectorRegistry()
    found.register(_Collector(engine, hub, outbox, exporter))
    return found


class _Collector(Collector):
    def __init__(
        self, engine: Engine, hub: Hub | WorkerPool, outbox: Outbox | None, exporter: SpanExporter | None
    ) -> None:
        self._engine = engine
        self._hub = hub
        self._outbox = outbox
        self._exporter = exporter

    def describe(self) -> list[Metric]:
        return []  # Nothing is collected at registration.

    def collect(self) -> Iterator[Metric]:
        yield from self._routes()
        yield from self._proxies()
        yield from self._xds()
        yield from self._store()
        yield from self._notifications()
        yield from self._spans()

    def _routes(self) -> Iterator[Metric]:
        weight = GaugeMetricFamily(
            "shiftplane_route_weight_percent",
            "Weight of a backend in the rollout, in percent; it does not include targeting or a kill.",
            labels=["route", "variant"],
        )
        mirror = GaugeMetricFamily(
            "shiftplane_route_mirror_percent",
            "Percent of requests that the rollout mirrors to the candidate; a kill does not change it.",
            labels=["route"],
        )
        phase = GaugeMetricFamily(
            "shiftplane_route_phase", "1 for the current phase of the rollout.", labels=["route", "phase"]
        )
        killed = GaugeMetricFamily(
            "shiftplane_route_killed",
            "1 while a kill sends all users to one backend, otherwise 0.",
            labels=["route"],
        )
        dead = GaugeMetricFamily(
            "shiftplane_backend_dead",
            "1 while health checks find no healthy endpoint of a backend; otherwise absent.",
            labels=["route", "backend"],
        )
        verdict = GaugeMetricFamily(
            "shiftplane_verdict",
            "1 for the current finding of an analysis metric.",
            labels=["route", "metric", "finding"],
        )
        evidence = GaugeMetricFamily(
            "shiftplane_evidence_against",
            "Evidence against the candidate: by chance alone, it reaches 20 in at most one of 20 rollouts.",
            labels=["route", "metric"],
        )
        cost = CounterMetricFamily(
            "shiftplane_cost",
            "Cost of responses since the process started, at the prices of the spec; tokens of streams "
            "that report none are estimated.",
            labels=["route", "variant", "role", "currency"],
        )
        views = self._engine.queries.views()
        for view in views:
            for leg in view.costs:
                if leg.cost is not None:
                    cost.add_metric([view.name, leg.variant, leg.role, leg.currency or ""], leg.cost)
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
        yield from outcome_metrics(views)

    def _proxies(self) -> Iterator[Metric]:
        connected = GaugeMetricFamily(
            "shiftplane_proxies", "Number of connected proxies by sync status.", labels=["group", "status"]
        )
        counts: dict[tuple[str, str], int] = {}
        for view in self._engine.queries.proxies():
            key = (view.group, view.status.value)
            counts[key] = counts.get(key, 0) + 1
        for (group, status), number in sorted(counts.items()):
            connected.add_metric([group, status], number)
        yield connected
        uncounted = GaugeMetricFamily(
            "shiftplane_proxies_uncounted",
            "Number of connected proxies by what is missing in their statistics, so that guards and verdicts "
            "do not see all of their requests.",
            labels=["group", "reason"],
        )
        found = Counter((group, defect) for (group, _), defect in self._engine.queries.uncounted().items())
        for group in {group for group, _ in counts}:
            for defect in StatisticsDefect:
                uncounted.add_metric([group, defect.value], found[group, defect])
        yield uncounted

    def _store(self) -> Iterator[Metric]:
        yield CounterMetricFamily(
            "shiftplane_store_failures",
            "Number of times since the process started that the store failed and rollouts could not advance.",
            value=self._engine.reconciler.store_failures,
        )

    def _notifications(self) -> Iterator[Metric]:
        results = CounterMetricFamily(
            "shiftplane_notifications",
            "Number of notifications by target and result since the process started.",
            labels=["target", "result"],
        )
        retries = CounterMetricFamily(
            "shiftplane_notification_retries",
            "Number of delivery attempts that failed with an error that allows a retry, since the process "
            "started.",
            labels=["target"],
        )
        delay = GaugeMetricFamily(
            "shiftplane_notification_delay_seconds",
            "Age of the event that is being delivered to a target; 0 if there is none.",
            labels=["target"],
        )
        now = time.time()
        for name, counts in () if self._outbox is None else self._outbox.counts.items():
            for result in ("delivered", "refused", "too_old"):
                results.add_metric([name, result], counts.results[result])
            retries.add_metric([name], counts.retries)
            pending = counts.pending_since
            delay.add_metric([name], 0.0 if pending is None else max(0.0, now - pending))
        yield from (results, retries, delay)

    def _spans(self) -> Iterator[Metric]:
        spans = CounterMetricFamily(
            "shiftplane_spans",
            "Number of trace spans by export result since the process started.",
            labels=["result"],
        )
        for result, number in () if self._exporter is None else sorted(self._exporter.results.items()):
            spans.add_metric([result], number)
        yield spans

    def _xds(self) -> Iterator[Metric]:
        counters = self._hub.counters
        yield CounterMetricFamily(
            "shiftplane_xds_pushes",
            "Number of xDS responses sent since the process started.",
            value=counters.pushes,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_sent_bytes",
            "Size of the xDS responses sent since the process started, in bytes.",
            value=counters.bytes_sent,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_stale_nonces",
            "Number of xDS requests with the nonce of an older response since the process started.",
            counters.stale_nonces,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_slow_clients_closed",
            "Number of xDS streams closed since the process started, because the client did not read a "
            "response in time.",
            counters.slow_clients_closed,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_turned_away",
            "Number of xDS streams rejected since the process started, because too many were opened at once.",
            counters.streams_rejected,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_identity_refused",
            "Number of xDS and statistics streams rejected since the process started, because the client "
            "certificate does not match the node.",
            counters.nodes_denied,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_versions_stopped",
            "Number of snapshot versions that probe proxies rejected (NACK) since the process started.",
            counters.versions_stopped,
        )
        yield CounterMetricFamily(
            "shiftplane_xds_worlds_failed",
            "Number of snapshots that could not be built since the process started; proxies kept the "
            "previous one.",
            counters.snapshot_builds_failed,
        )
        yield CounterMetricFamily(
            "shiftplane_statistics_messages",
            "Number of statistics messages received from proxies since the process started, without the "
            "first message of each stream.",
            counters.statistics_messages,
        )
        yield CounterMetricFamily(
            "shiftplane_statistics_bytes",
            "Size of the statistics messages received from proxies since the process started, in bytes, "
            "without the first message of each stream.",
            counters.statistics_bytes,
        )
        lost = CounterMetricFamily(
            "shiftplane_capture_lost",
            "Losses of capture in proxies since the process started, by reason: recordings not sent "
            "(log_entries_dropped), mirrored requests not sent (copies_cut_off), and failed connections to "
            "the collector (collector_unreachable).",
            labels=["group", "reason"],
        )
        for key, count in sorted(counters.lost.items()):
            group, _, reason = key.rpartition("/")
            lost.add_metric([group, reason], count)
        yield lost
        yield CounterMetricFamily(
            "shiftplane_statistics_refused",
            "Number of statistics streams closed since the process started, because a proxy sent more than "
            "1 MiB per second after a burst of 8 MiB.",
            counters.statistics_streams_rejected,
        )
        yield GaugeMetricFamily(
            "shiftplane_xds_acceptors",
            "Number of processes that accept xDS streams.",
            value=self._hub.serving,
        )
        yield GaugeMetricFamily(
            "shiftplane_xds_streams", "Number of open xDS streams.", value=self._hub.connected
        )
        for name, text, histogram in (
            (
                "shiftplane_xds_queue_seconds",
                "Time from the queueing of a stream with changes until the write of its response starts.",
                counters.queue_seconds,
            ),
            (
                "shiftplane_xds_convergence_seconds",
                "Time from the publication of a snapshot until all proxies of the group acknowledged it.",
                counters.convergence_seconds,
            ),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.cumulative(), sum_value=histogram.total)
        for name, text, values in (
            (
                "shiftplane_xds_acks",
                "Number of acknowledged xDS responses (ACK) by type since the process started.",
                counters.acks,
            ),
            (
                "shiftplane_xds_nacks",
                "Number of rejected xDS responses (NACK) by type since the process started.",
                counters.nacks,
            ),
        ):
            family = CounterMetricFamily(name, text, labels=["type"])
            for kind, number in sorted(values.items()):
                family.add_metric([kind], number)
            yield family
