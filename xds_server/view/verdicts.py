"""The views of verdicts and costs (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server.analysis.verdicts import METRICS, Price, cost
from xds_server.view.model import AnalysisView, CostView, MetricView

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.analysis.counts import Counts, Leg
    from xds_server.analysis.verdicts import AnalysisResult, ArmSummary, MetricVerdict
    from xds_server.spec import Backend, RouteSpec

__all__ = ["analysis_view", "cost_view", "estimated_tokens"]


def analysis_view(result: AnalysisResult | None, *, dry_run: bool) -> AnalysisView | None:
    """Return the verdict on a candidate; None without metrics or before the first block."""
    if result is None or not result.metrics:
        return None
    return AnalysisView(
        finding=result.finding.value,
        words=result.message,
        dry_run=dry_run,
        metrics=tuple(_metric(metric) for metric in result.metrics),
    )


def cost_view(spec: RouteSpec, totals: Mapping[Leg, Counts]) -> tuple[CostView, ...]:
    """Return the usage of each leg of a route, by variant and role."""
    backends = {backend.name: backend for backend in spec.backends}
    ordered = sorted(totals, key=lambda leg: (leg.variant, leg.role.value))
    return tuple(_cost(leg, totals[leg], backends[leg.variant]) for leg in ordered if leg.variant in backends)


def estimated_tokens(counts: Counts) -> int:
    """Return the estimated tokens of streams that did not report any; 0 if no stream reported its tokens.

    A stream is mostly the frame around its words, and the frame differs between backends and APIs. Only
    streams of the same backend that reported their tokens show how many tokens are in a byte.
    """
    if not counts.streamed_tokens or not counts.stream_metered_bytes:
        return 0
    return round(counts.stream_unmetered_bytes * counts.streamed_tokens / counts.stream_metered_bytes)


def _cost(leg: Leg, counts: Counts, backend: Backend) -> CostView:
    estimated, total = estimated_tokens(counts), None
    if backend.price is not None:
        price = Price(
            input_per_million=backend.price.input_per_million,
            output_per_million=backend.price.output_per_million,
        )
        total = cost(counts, price) + estimated * price.output_per_million / 1e6
    answers = counts.metered + counts.unmetered
    return CostView(
        variant=leg.variant,
        role=leg.role.value,
        requests=counts.requests,
        failed=counts.failed,
        rejected=counts.rejected,
        client_errors=counts.client_errors,
        left=counts.left,
        retried=counts.retried,
        waiting=counts.waiting,
        failures=counts.failures,
        unread=counts.unread,
        prompt_tokens=counts.prompt_tokens,
        completion_tokens=counts.completion_tokens,
        estimated_tokens=estimated,
        metered=counts.metered,
        unmetered=counts.unmetered,
        invalid=counts.invalid,
        cost=total,
        per_request=None if total is None or not answers else total / answers,
        currency=None if backend.price is None else backend.price.currency,
    )


def _metric(verdict: MetricVerdict) -> MetricView:
    known = METRICS.get(verdict.metric.rpartition(" ")[2])
    compared = verdict.control.n > 0 or verdict.needed > 0
    return MetricView(
        name=verdict.metric,
        kind=known.kind.value if known is not None and compared else "threshold",
        finding=verdict.finding.value,
        action=verdict.action.value,
        words=verdict.message,
        unit=verdict.unit,
        candidate=_arm(verdict.candidate),
        control=_arm(verdict.control),
        effect=verdict.effect,
        low=verdict.low,
        high=verdict.high,
        evidence=verdict.evidence,
        support=verdict.support,
        needed=verdict.needed,
        max_ratio=verdict.max_ratio,
        margin=verdict.margin,
        dispersion=verdict.dispersion,
        remaining=verdict.remaining,
    )


def _arm(arm: ArmSummary) -> dict[str, float | None]:
    return {"n": arm.n, "x": arm.x, "value": arm.value}
