"""Prometheus metrics, created from the current totals at each scrape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from mirror_collector.compare import Mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from mirror_collector.compare import CollectorTotals

__all__ = ["Gauges", "MetricsCollector"]

_PREFIX = "mirror_collector"
_PAIR = ["route", "primary", "shadow"]
_STATUS = ("status", "status_class")
_CHECKS = ("exact", "finish_reason", "tool_calls", "language")


class Gauges(Protocol):
    """The current fill levels of a collector, which are not part of its totals."""

    @property
    def queued_legs(self) -> int:
        """Number of legs in the receive queue."""

    @property
    def queued_bytes(self) -> int:
        """Size of the queued legs in bytes, as charged to the queue limit."""

    @property
    def waiting_legs(self) -> int:
        """Number of legs that wait for their counterpart."""

    @property
    def waiting_bytes(self) -> int:
        """Size of the waiting legs in bytes, as charged to the pairing limit."""

    @property
    def store_bytes(self) -> int:
        """Used size of the store in bytes."""

    @property
    def store_writable(self) -> bool:
        """Whether the last write succeeded."""

    def handed_on(self) -> Mapping[str, Mapping[str, int]]:
        """Return the number of forwarded items by result, for each sink and the judge."""


class MetricsCollector(Collector):
    """The metrics of one collector."""

    def __init__(self, totals: Callable[[], CollectorTotals], gauges: Gauges) -> None:
        self._totals = totals
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """Yield the current value of every metric."""
        totals = self._totals()
        yield from _route_metrics(totals)
        yield from _pair_metrics(totals)
        yield from _durations(totals)
        dropped = CounterMetricFamily(
            f"{_PREFIX}_dropped",
            "Legs, exposures and access log entries that were rejected or lost, by reason.",
            labels=["reason"],
        )
        for reason, n in sorted(totals.drops.items()):
            dropped.add_metric([reason], n)
        yield dropped
        forwarded = CounterMetricFamily(
            f"{_PREFIX}_handed_on",
            "Data forwarded to each destination. For a sink, the result is sent or the reason for the loss;"
            " for the judge, it is the judgement of a sampled pair or the reason why it was not judged.",
            labels=["to", "result"],
        )
        for name, results in self._gauges.handed_on().items():
            for result, n in sorted(results.items()):
                forwarded.add_metric([name, result], n)
        yield forwarded
        yield from self._gauge_metrics()

    def _gauge_metrics(self) -> Iterator[Metric]:
        gauges = self._gauges
        for name, help_text, value in (
            ("queued_legs", "Legs in the receive queue.", gauges.queued_legs),
            ("queued_bytes", "Size of the legs in the receive queue in bytes.", gauges.queued_bytes),
            ("waiting_legs", "Legs that wait for other legs of their request.", gauges.waiting_legs),
            ("waiting_bytes", "Size of the waiting legs in bytes.", gauges.waiting_bytes),
            ("store_bytes", "Used size of the store in bytes.", gauges.store_bytes),
            (
                "store_writable",
                "1 if the last write to the store succeeded, else 0.",
                float(gauges.store_writable),
            ),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", help_text, value=value)


def _route_metrics(totals: CollectorTotals) -> Iterator[Metric]:
    legs = CounterMetricFamily(
        f"{_PREFIX}_legs", "Legs accepted into the receive queue.", labels=["route", "role"]
    )
    pairs = CounterMetricFamily(f"{_PREFIX}_pairs", "Pairs stored.", labels=["route"])
    unpaired = CounterMetricFamily(
        f"{_PREFIX}_unpaired_legs",
        "Legs that did not become part of a stored pair, by reason.",
        labels=["route", "reason"],
    )
    for route, route_totals in sorted(totals.routes.items()):
        pairs.add_metric([route], route_totals.pairs)
        for role, n in route_totals.legs.items():
            legs.add_metric([route, role.value], n)
        for reason, n in route_totals.unpaired.items():
            unpaired.add_metric([route, reason.value], n)
    yield from (legs, pairs, unpaired)


def _pair_metrics(totals: CollectorTotals) -> Iterator[Metric]:
    client_left = CounterMetricFamily(
        f"{_PREFIX}_pairs_client_left",
        "Pairs whose client disconnected; the comparison metrics exclude them.",
        labels=_PAIR,
    )
    checks = CounterMetricFamily(
        f"{_PREFIX}_checks", "Compared pairs, by check and result.", labels=[*_PAIR, "check", "result"]
    )
    limited = CounterMetricFamily(
        f"{_PREFIX}_pairs_limited",
        "Pairs whose shadow has no answer due to the limits on shadow traffic; the comparison metrics exclude"
        " them.",
        labels=_PAIR,
    )
    trios = CounterMetricFamily(f"{_PREFIX}_pairs_with_noise", "Pairs with a noise baseline.", labels=_PAIR)
    outcomes = CounterMetricFamily(
        f"{_PREFIX}_signs",
        "Pairs by outcome of each measure. less: the candidate's answer agrees less with the primary's answer"
        " than the noise leg's answer does, only the candidate's answer has the trait, or it is the shorter"
        " one; more: the opposite; same: neither.",
        labels=[*_PAIR, "measure", "sign"],
    )
    traits = CounterMetricFamily(
        f"{_PREFIX}_answers",
        "Answers with a trait, such as refused or empty.",
        labels=[*_PAIR, "trait", "role"],
    )
    failed = CounterMetricFamily(
        f"{_PREFIX}_failed_legs",
        "Legs without a successful answer, in compared pairs.",
        labels=[*_PAIR, "role"],
    )
    rouge = SummaryMetricFamily(
        f"{_PREFIX}_rouge_l", "ROUGE-L F1 score of the texts of a pair.", labels=_PAIR
    )
    coverage = CounterMetricFamily(
        f"{_PREFIX}_compared_pairs",
        "Pairs by API and result. read: both answers were read; unread: the primary's or the shadow's answer"
        " could not be read; failed: any other pair, of which a leg failed.",
        labels=[*_PAIR, "api", "result"],
    )
    unread = CounterMetricFamily(
        f"{_PREFIX}_unread",
        "Answers that could not be read, by API, leg and reason; they are no evidence of equality.",
        labels=[*_PAIR, "api", "leg", "reason"],
    )
    for key, pair_totals in sorted(totals.pairs.items()):
        agreement = pair_totals.agreement
        for api, counts in sorted(pair_totals.coverage.items()):
            failures = counts.pairs - counts.read - counts.unread
            results = {"read": counts.read, "unread": counts.unread, "failed": failures}
            for result, n in results.items():
                coverage.add_metric([*key, api, result], n)
            for (leg, reason), n in sorted(counts.unread_legs.items()):
                unread.add_metric([*key, api, leg, reason], n)
        client_left.add_metric(key, pair_totals.client_left)
        same = {name: (getattr(pair_totals, name).same, getattr(pair_totals, name).of) for name in _STATUS}
        same |= {name: (agreement[name].total, agreement[name].n) for name in _CHECKS if name in agreement}
        for check, (agreed, of) in same.items():
            checks.add_metric([*key, check, "same"], agreed)
            checks.add_metric([*key, check, "different"], of - agreed)
        for measure, by_outcome in pair_totals.outcomes.by_measure.items():
            for outcome in ("less", "more", "same"):
                outcomes.add_metric([*key, measure, outcome], getattr(by_outcome, outcome))
        for trait, (primary, shadow, _of) in pair_totals.traits.items():
            traits.add_metric([*key, trait, "primary"], primary)
            traits.add_metric([*key, trait, "shadow"], shadow)
        limited.add_metric(key, pair_totals.limited)
        trios.add_metric(key, pair_totals.trios)
        failed.add_metric([*key, "primary"], pair_totals.primary.failed)
        failed.add_metric([*key, "shadow"], pair_totals.shadow.failed)
        mean = agreement.get("rouge_l", Mean())
        rouge.add_metric(key, count_value=mean.n, sum_value=mean.total)
    yield from (client_left, limited, trios, coverage, unread, checks, outcomes, traits, failed, rouge)


def _durations(totals: CollectorTotals) -> Iterator[Metric]:
    labels = [*_PAIR, "role", "quantile"]
    total = GaugeMetricFamily(
        f"{_PREFIX}_answer_milliseconds",
        "Time from the request headers to the end of a successful answer.",
        labels=labels,
    )
    first = GaugeMetricFamily(
        f"{_PREFIX}_first_token_milliseconds",
        "Time from the request headers to the first byte of the response body.",
        labels=labels,
    )
    for key, pair_totals in sorted(totals.pairs.items()):
        for role, leg in (("primary", pair_totals.primary), ("shadow", pair_totals.shadow)):
            for family, histogram in ((total, leg.total), (first, leg.first_token)):
                for quantile in (0.5, 0.99):
                    value = histogram.quantile(quantile)
                    if value is not None:
                        family.add_metric([*key, role, str(quantile)], value)
    yield from (total, first)
