"""Spec → analysis policy; the only module of this package that reads the spec (pure)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from xds_server.analysis.verdicts.metrics import METRICS, Price
from xds_server.analysis.verdicts.policy import (
    ComparisonOperator,
    Guardrail,
    Policy,
    RegressionAction,
    Threshold,
)
from xds_server.spec import read_limit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from xds_server.spec import Analysis, AnalysisMetric, RouteSpec

__all__ = ["policy_from_spec", "replaced_guards"]

_REPLACES: Final = {"success-rate": "failed"}
_CLIENTS: Final = frozenset({"rejected", "abandoned"})
"""Guards that count what clients may cause: one client may send all of the first requests."""
_LEAST_OF_CLIENTS: Final = 10
"""The number of the candidate's requests before such a guard can fail."""


def policy_from_spec(spec: RouteSpec) -> Policy:
    """Return the analysis policy of a spec."""
    analysis = spec.analysis
    return Policy(
        guardrails=tuple(_guardrail(metric) for metric in analysis.metrics if metric.threshold is None),
        thresholds=tuple(
            _threshold(metric, analysis.interval.total_seconds())
            for metric in analysis.metrics
            if metric.threshold is not None
        ),
        alpha=analysis.alpha,
        initial_delay=analysis.initial_delay.total_seconds(),
        dry_run=analysis.dry_run,
        guards=tuple(_guards(analysis)),
        prices={
            backend.name: Price(
                input_per_million=backend.price.input_per_million,
                output_per_million=backend.price.output_per_million,
            )
            for backend in spec.backends
            if backend.price is not None
        },
    )


def _guardrail(metric: AnalysisMetric) -> Guardrail:
    defaults = METRICS[metric.name]
    tolerated = defaults.max_ratio if metric.max_ratio is None else metric.max_ratio
    # The default margin is a multiple of the tolerated ratio, so that it always exceeds the ratio.
    margin = defaults.margin * tolerated if metric.margin is None else metric.margin
    return Guardrail(
        metric=metric.name,
        action=RegressionAction(metric.on_regression),
        max_ratio=tolerated,
        margin=margin,
        min_samples=metric.min_samples,
        acceptable=metric.acceptable / 10_000,
    )


def replaced_guards(analysis: Analysis) -> dict[str, str]:
    """Return the metric that replaces each replaced guard, by guard; guards that are off are omitted.

    A metric `success-rate` that rolls back is stricter than the guard `failed`, and replaces it.
    """
    actions = analysis.guards.actions()
    return {
        guard: metric.name
        for metric in analysis.metrics
        if (guard := _REPLACES.get(metric.name)) is not None
        and metric.threshold is None
        and metric.on_regression == "Rollback"
        and actions[guard] != "off"
    }


def _guards(analysis: Analysis) -> Iterator[Guardrail]:
    """Yield the guards that the spec leaves on."""
    replaced = replaced_guards(analysis)
    for name, action in analysis.guards.actions().items():
        if action == "off" or name in replaced:
            continue
        guard = Guardrail.of(name, action=RegressionAction(action), min_samples=0)
        yield replace(guard, least_to_fail=_LEAST_OF_CLIENTS) if name in _CLIENTS else guard


def _threshold(metric: AnalysisMetric, every: float) -> Threshold:
    comparison, limit, lasting = read_limit(metric.threshold or "")
    return Threshold(
        name=metric.name,
        metric=None if metric.query is not None else metric.name,
        query=metric.query,
        comparison=ComparisonOperator(comparison),
        limit=limit,
        window=metric.window.total_seconds(),
        every=every,
        lasting=lasting,
        failure_limit=metric.failure_limit,
        error_limit=metric.consecutive_error_limit,
        action=RegressionAction(metric.on_regression),
    )
