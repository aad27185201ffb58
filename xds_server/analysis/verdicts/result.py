"""The result of an analysis: verdicts on metrics and guards, and how they combine (pure)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from xds_server.analysis.verdicts.policy import RegressionAction

__all__ = ["AnalysisResult", "ArmSummary", "MetricVerdict", "combine_results", "worst"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSummary:
    """The totals of one arm: `x` of `n` for counted events, and the metric's value in its own unit."""

    n: int
    x: int
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricVerdict:
    """The verdict on one metric.

    `effect` is an odds ratio for shares and exceedances and a ratio of means for means; `low` and `high` are
    bounds that hold for all checks together. `evidence` (for a regression) and `support` (for no regression)
    are odds against chance; `evidence` decides at `needed`. `remaining` is the estimated number of seconds
    until a verdict at the present rate.
    """

    metric: str
    finding: Finding
    action: RegressionAction
    unit: str
    candidate: ArmSummary
    control: ArmSummary
    effect: float | None
    low: float | None
    high: float | None
    evidence: float
    support: float
    needed: float
    max_ratio: float
    margin: float
    dispersion: float
    remaining: float | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisResult:
    """The verdict on a candidate, and the verdicts on its metrics and of the guards.

    A guard affects the verdict only by a Fail. A Pass with too low a coverage is Inconclusive.

    `lapsed` is whether a Pass became NoData only because the control no longer has requests to compare with,
    while the candidate still has some.
    """

    finding: Finding
    message: str
    metrics: tuple[MetricVerdict, ...]
    guards: tuple[MetricVerdict, ...] = ()
    lapsed: bool = False


def combine_results(results: Mapping[str, AnalysisResult]) -> AnalysisResult:
    """Return one verdict on several candidates, given by name: Fail if one fails.

    The message of a Fail has those of the candidates that fail, and no others.
    """
    if len(results) == 1:
        return next(iter(results.values()))
    finding = worst([result.finding for result in results.values()])
    return AnalysisResult(
        finding=finding,
        message="; ".join(
            f"{name}: {result.message}"
            for name, result in results.items()
            if finding is not Finding.FAIL or result.finding is finding
        ),
        metrics=_named((name, result.metrics) for name, result in results.items()),
        guards=_named((name, result.guards) for name, result in results.items()),
        lapsed=all(result.lapsed or result.finding is Finding.PASS for result in results.values()),
    )


def _named(verdicts: Iterable[tuple[str, tuple[MetricVerdict, ...]]]) -> tuple[MetricVerdict, ...]:
    return tuple(
        replace(verdict, metric=f"{name} {verdict.metric}") for name, found in verdicts for verdict in found
    )


def worst(findings: list[Finding]) -> Finding:
    """Return the combined finding: one Fail is enough for Fail; Pass if all pass or there are none."""
    if not findings:
        return Finding.PASS
    for finding in (Finding.FAIL, Finding.ERROR, Finding.NO_DATA, Finding.INCONCLUSIVE):
        if finding in findings:
            return finding
    return Finding.PASS
