"""Prometheus metrics, made from the ledger whenever they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector

from mirror_collector.compare import Mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from mirror_collector.compare import Ledger

__all__ = ["Gauges", "LedgerCollector"]

_PREFIX = "mirror_collector"
_PAIR = ["route", "primary", "shadow"]
_STATUS = ("status", "status_class")
_CHECKS = ("exact", "finish_reason", "tool_calls", "language")


class Gauges(Protocol):
    """What is not in the ledger: how full everything is at this moment."""

    @property
    def queued_legs(self) -> int:
        """Legs in the queue behind the doors."""

    @property
    def queued_bytes(self) -> int:
        """Bytes they are accounted for."""

    @property
    def waiting_legs(self) -> int:
        """Legs that wait for their other half."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes they are accounted for."""

    @property
    def store_bytes(self) -> int:
        """Bytes of the store in use."""

    @property
    def store_writable(self) -> bool:
        """Whether the last write succeeded."""

    def handed_on(self) -> Mapping[str, Mapping[str, int]]:
        """What became of what was handed to sinks and to the judge, by name."""


class LedgerCollector(Collector):
    """Metrics of one ledger and its gauges."""

    def __init__(self, ledger: Callable[[], Ledger], gauges: Gauges) -> None:
        self._ledger = ledger
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        """All metrics as they are now."""
        ledger = self._ledger()
        yield from _routes(ledger)
        yield from _findings(ledger)
        yield from _durations(ledger)
        dropped = CounterMetricFamily(
            f"{_PREFIX}_dropped", "What never became a leg or was lost, by reason.", labels=["reason"]
        )
        for reason, n in sorted(ledger.drops.items()):
            dropped.add_metric([reason], n)
        yield dropped
        onward = CounterMetricFamily(
            f"{_PREFIX}_handed_on",
            "Items handed to sinks and to the judge, by what became of them.",
            labels=["to", "result"],
        )
        for name, results in self._gauges.handed_on().items():
            for result, n in sorted(results.items()):
                onward.add_metric([name, result], n)
        yield onward
        yield from self._gauge_families()

    def _gauge_families(self) -> Iterator[Metric]:
        now = self._gauges
        for name, help_text, value in (
            ("queued_legs", "Legs in the queue behind the doors.", now.queued_legs),
            ("queued_bytes", "Bytes of the legs in the queue.", now.queued_bytes),
            ("waiting_legs", "Legs that wait for their other half.", now.waiting_legs),
            ("waiting_bytes", "Bytes of the legs that wait.", now.waiting_bytes),
            ("store_bytes", "Bytes of the store in use.", now.store_bytes),
            ("store_writable", "1 if the last write to the store succeeded.", float(now.store_writable)),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", help_text, value=value)


def _routes(ledger: Ledger) -> Iterator[Metric]:
    legs = CounterMetricFamily(f"{_PREFIX}_legs", "Legs received.", labels=["route", "role"])
    pairs = CounterMetricFamily(f"{_PREFIX}_pairs", "Pairs stored.", labels=["route"])
    unpaired = CounterMetricFamily(
        f"{_PREFIX}_unpaired_legs",
        "Legs that did not become half of a stored pair.",
        labels=["route", "reason"],
    )
    for route, tally in sorted(ledger.routes.items()):
        pairs.add_metric([route], tally.pairs)
        for role, n in tally.legs.items():
            legs.add_metric([route, role.value], n)
        for reason, n in tally.unpaired.items():
            unpaired.add_metric([route, reason.value], n)
    yield from (legs, pairs, unpaired)


def _findings(ledger: Ledger) -> Iterator[Metric]:
    left = CounterMetricFamily(
        f"{_PREFIX}_pairs_client_left", "Pairs whose client hung up; they count in no finding.", labels=_PAIR
    )
    checks = CounterMetricFamily(
        f"{_PREFIX}_checks", "Findings over pairs, by check and result.", labels=[*_PAIR, "check", "result"]
    )
    limited = CounterMetricFamily(
        f"{_PREFIX}_pairs_limited",
        "Pairs whose copy was cut off by limits on copies; they count in no finding.",
        labels=_PAIR,
    )
    trios = CounterMetricFamily(
        f"{_PREFIX}_pairs_with_noise", "Pairs with a second answer of the primary's variant.", labels=_PAIR
    )
    votes = CounterMetricFamily(
        f"{_PREFIX}_signs",
        "Pairs in which the candidate was less, more or as much like the user's answer as a second one.",
        labels=[*_PAIR, "measure", "sign"],
    )
    traits = CounterMetricFamily(
        f"{_PREFIX}_answers",
        "Answers with a trait, such as refused or empty.",
        labels=[*_PAIR, "trait", "role"],
    )
    failed = CounterMetricFamily(
        f"{_PREFIX}_failed_legs", "Legs in pairs without a proper answer.", labels=[*_PAIR, "role"]
    )
    rouge = SummaryMetricFamily(f"{_PREFIX}_rouge_l", "ROUGE-L F1 of the pairs' texts.", labels=_PAIR)
    for key, found in sorted(ledger.pairs.items()):
        left.add_metric(key, found.client_left)
        same = {name: (getattr(found, name).same, getattr(found, name).of) for name in _STATUS}
        same |= {name: (found.like[name].total, found.like[name].n) for name in _CHECKS if name in found.like}
        for check, (agreed, of) in same.items():
            checks.add_metric([*key, check, "same"], agreed)
            checks.add_metric([*key, check, "different"], of - agreed)
        for name, signs in found.signs.by_measure.items():
            for sign in ("less", "more", "same"):
                votes.add_metric([*key, name, sign], getattr(signs, sign))
        for name, (primary, shadow, _of) in found.traits.items():
            traits.add_metric([*key, name, "primary"], primary)
            traits.add_metric([*key, name, "shadow"], shadow)
        limited.add_metric(key, found.limited)
        trios.add_metric(key, found.trios)
        failed.add_metric([*key, "primary"], found.primary.failed)
        failed.add_metric([*key, "shadow"], found.shadow.failed)
        mean = found.like.get("rouge_l", Mean())
        rouge.add_metric(key, count_value=mean.n, sum_value=mean.total)
    yield from (left, limited, trios, checks, votes, traits, failed, rouge)


def _durations(ledger: Ledger) -> Iterator[Metric]:
    labels = [*_PAIR, "role", "quantile"]
    total = GaugeMetricFamily(
        f"{_PREFIX}_answer_milliseconds", "Request headers to the end of a proper answer.", labels=labels
    )
    first = GaugeMetricFamily(
        f"{_PREFIX}_first_token_milliseconds", "Request headers to the first byte of the body.", labels=labels
    )
    for key, found in sorted(ledger.pairs.items()):
        for role, leg in (("primary", found.primary), ("shadow", found.shadow)):
            for family, histogram in ((total, leg.total), (first, leg.first_token)):
                for quantile in (0.5, 0.99):
                    value = histogram.quantile(quantile)
                    if value is not None:
                        family.add_metric([*key, role, str(quantile)], value)
    yield from (total, first)
