"""Prometheus metrics of guards and of the outcome classes of requests, read from the views of routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from xds_server.analysis.counts import FAILURE_KINDS, UNREAD_REASONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xds_server.view import CostView, RouteView

__all__ = ["outcome_metrics"]

_LEG: Final = ["route", "variant", "role"]


def outcome_metrics(views: Iterable[RouteView]) -> Iterator[Metric]:
    """Yield the metric families, with a series of every class, kind and reason for each leg with traffic.

    Series with the value 0 are included, because `rate` ignores the increase to the first value of a series.
    """
    requests = CounterMetricFamily(
        "shiftplane_requests",
        "Number of requests by class since the process started: success, failed, rejected, client_error or "
        "abandoned.",
        labels=[*_LEG, "class"],
    )
    failures = CounterMetricFamily(
        "shiftplane_failed_answers",
        "Number of answers that count as failed although their status is below 400, by kind of failure, "
        "since the process started.",
        labels=[*_LEG, "kind"],
    )
    unread = CounterMetricFamily(
        "shiftplane_unread_answers",
        "Number of successful answers that were not read, by reason, since the process started.",
        labels=[*_LEG, "reason"],
    )
    waiting = CounterMetricFamily(
        "shiftplane_requests_waiting",
        "Number of requests that had no byte of an answer after five seconds, since the process started.",
        labels=_LEG,
    )
    retried = CounterMetricFamily(
        "shiftplane_requests_retried",
        "Number of requests that needed more than one attempt since the process started.",
        labels=_LEG,
    )
    guard_failed = GaugeMetricFamily(
        "shiftplane_guard_failed",
        "1 while a guard fails for a backend, otherwise 0; includes guards that only report a failure.",
        labels=["route", "variant", "guard"],
    )
    withdrawn = GaugeMetricFamily(
        "shiftplane_backend_withdrawn",
        "1 while the stable backend serves the users that targets, rules, experiments and the preview "
        "assign to a backend, because that backend failed in this rollout.",
        labels=["route", "variant"],
    )
    stable = GaugeMetricFamily(
        "shiftplane_route_stable", "1 for the stable backend of a route.", labels=["route", "variant"]
    )
    for view in views:
        stable.add_metric([view.name, view.stable], 1)
        for cost in view.costs:
            leg = [view.name, cost.variant, cost.role]
            for name, number in _classes(cost).items():
                requests.add_metric([*leg, name], number)
            for kind in FAILURE_KINDS:
                failures.add_metric([*leg, kind], cost.failures.get(kind, 0))
            for reason in UNREAD_REASONS:
                unread.add_metric([*leg, reason], cost.unread.get(reason, 0))
            waiting.add_metric(leg, cost.waiting)
            retried.add_metric(leg, cost.retried)
        for guard in () if view.analysis is None else view.analysis.guards:
            if guard.variant is not None:
                failed = guard.finding == "Fail"
                guard_failed.add_metric([view.name, guard.variant, guard.name], failed)
        for variant in view.withdrawn:
            withdrawn.add_metric([view.name, variant], 1)
    yield from (requests, failures, unread, waiting, retried, guard_failed, withdrawn, stable)


def _classes(cost: CostView) -> dict[str, int]:
    return {
        "success": cost.success,
        "failed": cost.failed,
        "rejected": cost.rejected,
        "client_error": cost.client_errors,
        "abandoned": cost.left,
    }
