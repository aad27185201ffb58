"""The views of verdicts and costs (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server.analysis.verdicts import METRICS, Price, cost, replaced_guards
from xds_server.rollout import Finding
from xds_server.view.model import AnalysisView, CostView, GuardView, MetricView

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from xds_server.analysis.counts import Counts, Leg
    from xds_server.analysis.verdicts import AnalysisResult, ArmSummary, MetricVerdict
    from xds_server.spec import Analysis, Backend, RouteSpec

__all__ = ["analysis_view", "cost_view", "estimated_tokens"]


def analysis_view(
    result: AnalysisResult | None, guards: Mapping[str, tuple[MetricVerdict, ...]], analysis: Analysis
) -> AnalysisView | None:
    """Return the verdict on a candidate with its guards by backend; None before the first block.

    Also None while only mirrored requests are counted and the spec has no metrics: guards do not compare
    mirrored requests.
    """
    if not guards and (result is None or not result.metrics):
        return None
    found = (*_guards(guards), *_inactive(analysis))
    if result is not None and result.metrics:
        finding, words = result.finding, result.message
    else:
        finding, words = _of_guards(guards)
    return AnalysisView(
        finding=finding.value,
        words=words,
        dry_run=analysis.dry_run,
        metrics=() if result is None else tuple(_metric(metric) for metric in result.metrics),
        guards=found,
    )


def _of_guards(guards: Mapping[str, tuple[MetricVerdict, ...]]) -> tuple[Finding, str]:
    """Return the finding and message of a spec without metrics, from its guards."""
    every = [(name, guard) for name, found in guards.items() for guard in found]
    failed = [f"{name} {guard.message}" for name, guard in every if guard.finding is Finding.FAIL]
    if failed:
        return Finding.FAIL, "; ".join(failed)
    if all(guard.finding is Finding.NO_DATA for _, guard in every):
        return Finding.NO_DATA, "the spec has no metrics, and the guards have no requests to compare"
    return Finding.INCONCLUSIVE, "the spec has no metrics; no guard fails"


def _guards(guards: Mapping[str, tuple[MetricVerdict, ...]]) -> Iterator[GuardView]:
    for variant, found in sorted(guards.items()):
        for guard in found:
            yield GuardView(
                name=guard.metric,
                variant=variant,
                action=guard.action.value,
                finding=guard.finding.value,
                words=guard.message,
                unit=guard.unit,
                candidate=_arm(guard.candidate),
                control=_arm(guard.control),
                evidence=guard.evidence,
                needed=guard.needed,
                least=METRICS[guard.metric].least,
            )


def _inactive(analysis: Analysis) -> Iterator[GuardView]:
    """Yield the guards that the spec turns off, or replaces by a metric."""
    for name, metric in replaced_guards(analysis).items():
        words = f"{name}: the metric {metric} replaces this guard"
        yield GuardView(name=name, variant=None, action="replaced", words=words)
    for name, action in analysis.guards.actions().items():
        if action == "off":
            words = f"{name}: the spec turns this guard off (analysis.guards.{name})"
            yield GuardView(name=name, variant=None, action="off", words=words)


def cost_view(spec: RouteSpec, totals: Mapping[Leg, Counts]) -> tuple[CostView, ...]:
    """Return the usage of each leg of a route, by variant and role."""
    backends = {backend.name: backend for backend in spec.backends}
    ordered = sorted(totals, key=lambda leg: (leg.variant, leg.role.value))
    return tuple(_cost(leg, totals[leg], backends[leg.variant]) for leg in ordered if leg.variant in backends)


def estimated_tokens(counts: Counts) -> int:
    """Return the estimated tokens of streams that did not report any; 0 if no stream reported its tokens.

    Most bytes of a stream are JSON around the generated text, and their number differs between backends and
    APIs. The tokens per byte are therefore taken from streams of the same backend that reported their tokens.
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
    answers, unread = counts.metered + counts.unmetered, sum(counts.unread.values())
    read = counts.answers + unread
    return CostView(
        variant=leg.variant,
        role=leg.role.value,
        requests=counts.requests,
        success=counts.requests - counts.failed - counts.rejected - counts.client_errors,
        failed=counts.failed,
        rejected=counts.rejected,
        client_errors=counts.client_errors,
        left=counts.left,
        left_unanswered=counts.left_unanswered,
        retried=counts.retried,
        waiting=counts.waiting,
        failures=counts.failures,
        unread=counts.unread,
        coverage=counts.answers / read if read else None,
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
