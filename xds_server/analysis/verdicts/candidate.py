"""The verdict on one candidate: evidence from blocks of counts, compared with the control (pure).

For a guardrail, Fail (a rollback) requires proof that the candidate is worse than tolerated, and Pass (a
promotion) proof that it is not worse by more than a margin. Anything in between is Inconclusive, with an
estimate of the time until a verdict. Both tests stay valid however often the evidence is checked. Thresholds
are fixed limits and involve no test.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import exp, log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Counts, Leg
from xds_server.analysis.verdicts.coverage import Coverage
from xds_server.analysis.verdicts.faults import fail_threshold, guards_of, is_worse
from xds_server.analysis.verdicts.freshness import format_time, is_stale
from xds_server.analysis.verdicts.guards import GuardState
from xds_server.analysis.verdicts.messages import describe, describe_guard, describe_threshold
from xds_server.analysis.verdicts.metric_state import MetricState, quantile
from xds_server.analysis.verdicts.metrics import Kind, Price
from xds_server.analysis.verdicts.mixed_starts import DOUBT
from xds_server.analysis.verdicts.policy import RegressionAction
from xds_server.analysis.verdicts.result import AnalysisResult, ArmSummary, MetricVerdict, worst
from xds_server.analysis.verdicts.threshold_state import ThresholdState, measure
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.analysis.counts import Block
    from xds_server.analysis.verdicts.policy import Guardrail, Policy, Threshold

__all__ = ["CandidateEvidence", "add_block", "analyze", "start_evidence"]

_NO_COUNTS: Final = Counts()
_MAX_EVIDENCE: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEvidence:
    """The evidence on one candidate in one run.

    `first_request` is the start of the first block with a request of the candidate, `last_request` the end of
    the last one, which has `block_seconds`, and `end` the end of the newest block. `compared` has the end of
    the last block in which the arms were compared, for each metric. `coverage` has the shares of
    both arms' answers that were read.
    """

    candidate: Leg
    control: Leg
    metric_states: tuple[MetricState, ...]
    threshold_states: tuple[ThresholdState, ...]
    guard_states: tuple[GuardState, ...] = ()
    first_request: float | None = None
    last_request: float | None = None
    end: float = 0.0
    block_seconds: float = 0.0
    compared: tuple[float | None, ...] = ()
    coverage: Coverage = field(default_factory=Coverage)


def start_evidence(policy: Policy, candidate: Leg, control: Leg) -> CandidateEvidence:
    """Return the empty evidence of a new run; earlier blocks of the control alone may be added first."""
    return CandidateEvidence(
        candidate=candidate,
        control=control,
        metric_states=tuple(MetricState.initial(guardrail) for guardrail in policy.guardrails),
        threshold_states=tuple(ThresholdState() for _ in policy.thresholds),
        guard_states=tuple(GuardState.initial(guard) for guard in guards_of(policy, candidate)),
        compared=(None,) * len(policy.guardrails),
    )


def add_block(
    evidence: CandidateEvidence,
    policy: Policy,
    block: Block,
    query_results: Mapping[str, float | None] | None = None,
) -> CandidateEvidence:
    """Return the evidence with one more block.

    `query_results` has the value of each query by the name of its metric, None for a query that failed.
    """
    candidate = block.legs.get(evidence.candidate, _NO_COUNTS)
    control = block.legs.get(evidence.control, _NO_COUNTS)
    end = block.start + block.seconds
    first_request, last_request = evidence.first_request, evidence.last_request
    if candidate.seen:
        first_request, last_request = (block.start if first_request is None else first_request), end
    warmed_up = first_request is not None and block.start >= first_request + policy.initial_delay
    arms = (candidate if warmed_up else _NO_COUNTS, control)
    free = Price()
    prices = (
        policy.prices.get(evidence.candidate.variant, free),
        policy.prices.get(evidence.control.variant, free),
    )
    metric_states = tuple(
        state.add_block(guardrail, arms, prices, block.seconds)
        for state, guardrail in zip(evidence.metric_states, policy.guardrails, strict=True)
    )
    return replace(
        evidence,
        metric_states=metric_states,
        compared=tuple(
            end if after.blocks > before.blocks else at
            for before, after, at in zip(
                evidence.metric_states, metric_states, evidence.compared, strict=True
            )
        ),
        threshold_states=tuple(
            threshold_state.add_block(
                threshold, measure(threshold, arms[0], prices[0], query_results or {}), end
            )
            for threshold_state, threshold in zip(evidence.threshold_states, policy.thresholds, strict=True)
        ),
        guard_states=tuple(
            state.add_block(guard, arms, block.seconds)
            for state, guard in zip(evidence.guard_states, guards_of(policy, evidence.candidate), strict=True)
        ),
        coverage=evidence.coverage.add_block(arms, block.seconds),
        first_request=first_request,
        last_request=last_request,
        end=end,
        block_seconds=block.seconds if candidate.seen else evidence.block_seconds,
    )


def analyze(evidence: CandidateEvidence, policy: Policy, now: float) -> AnalysisResult:
    """Return the verdict at `now` (seconds since the epoch)."""
    metrics = _metric_verdicts(evidence, policy, now)
    guards = _guard_verdicts(evidence, policy, now)
    deciding = [m for m in metrics if m.action is RegressionAction.ROLLBACK]
    deciding += [g for g in guards if g.finding is Finding.FAIL and g.action is RegressionAction.ROLLBACK]
    finding = worst([m.finding for m in deciding])
    lapsed = finding is Finding.NO_DATA and _lapsed(evidence, policy, now)
    message = _summary(finding, deciding) + (
        "; all metrics passed at their last comparison" if lapsed else ""
    )
    if (finding is Finding.PASS or lapsed) and (gap := evidence.coverage.gap):
        # While too few answers are read, neither a Pass nor a lapsed Pass may end a step.
        finding, lapsed = Finding.INCONCLUSIVE, False
        message = f"{gap}: faults inside unread answers would not be found; {message}"
    if finding is Finding.FAIL and (gap := evidence.coverage.control_gap):
        message = f"{message}; {gap}: faults inside unread answers were not counted"
    return AnalysisResult(finding=finding, message=message, metrics=metrics, guards=guards, lapsed=lapsed)


def _metric_verdicts(
    evidence: CandidateEvidence, policy: Policy, now: float, *, ageless: bool = False
) -> tuple[MetricVerdict, ...]:
    """Return the verdict on each metric; with `ageless`, old comparisons count as new ones."""
    seconds = evidence.block_seconds
    return (
        *(
            _guardrail_verdict(
                state, guardrail, policy, evidence, stale=not ageless and is_stale(at, now, seconds)
            )
            for state, guardrail, at in zip(
                evidence.metric_states, policy.guardrails, evidence.compared, strict=True
            )
        ),
        *(
            _threshold_verdict(
                breach, threshold, stale=is_stale(breach.value_at, now, max(seconds, threshold.every))
            )
            for breach, threshold in zip(evidence.threshold_states, policy.thresholds, strict=True)
        ),
    )


def _lapsed(evidence: CandidateEvidence, policy: Policy, now: float) -> bool:
    """Return whether all metrics passed at their last comparison and the candidate still has requests."""
    if None in evidence.compared or is_stale(evidence.last_request, now, evidence.block_seconds):
        return False
    metrics = _metric_verdicts(evidence, policy, now, ageless=True)
    return worst([m.finding for m in metrics if m.action is RegressionAction.ROLLBACK]) is Finding.PASS


def _summary(finding: Finding, metrics: list[MetricVerdict]) -> str:
    messages = [m.message for m in metrics if m.finding is finding]
    return "; ".join(messages) if messages else "no metric has onRegression: Rollback"


def _guard_verdicts(evidence: CandidateEvidence, policy: Policy, now: float) -> tuple[MetricVerdict, ...]:
    """Return the verdict of each guard: Fail if the candidate is proven worse and its share is gross."""
    stale, found = is_stale(evidence.last_request, now, evidence.block_seconds), []
    for guarded, guard in zip(evidence.guard_states, guards_of(policy, evidence.candidate), strict=True):
        alpha = policy.alpha_per_guard
        verdict = _guardrail_verdict(guarded.state, guard, policy, evidence, stale=stale, alpha=alpha)
        if verdict.finding is Finding.FAIL and not guarded.is_gross(guard):
            verdict = replace(verdict, finding=Finding.INCONCLUSIVE)
        found.append(replace(verdict, message=describe_guard(verdict, guarded.state, guard)))
    return tuple(found)


def _guardrail_verdict(
    state: MetricState,
    guardrail: Guardrail,
    policy: Policy,
    evidence: CandidateEvidence,
    *,
    stale: bool,
    alpha: float | None = None,
) -> MetricVerdict:
    """Return Fail if the candidate is proven worse, Pass if proven not worse by more than the margin."""
    metric = guardrail.definition
    pass_threshold, needed = -log(policy.alpha), fail_threshold(guardrail, policy, alpha)
    against, support = state.log_evidence_against(guardrail, needed), state.log_evidence_for(guardrail)
    enough = state.candidate.n >= guardrail.min_samples
    gross = state.log_evidence_of_gross_failure
    if is_worse(state, guardrail, against, needed):
        finding = Finding.FAIL
    elif stale or not state.blocks:
        finding = Finding.NO_DATA
    elif enough and support >= pass_threshold and state.doubt(guardrail) < DOUBT:
        finding = Finding.PASS
    else:
        finding = Finding.INCONCLUSIVE
    effect, low, high = _effect(state, guardrail, (exp(-needed), policy.alpha))
    candidate, control = _arms(state, guardrail)
    remaining = None
    if finding is Finding.INCONCLUSIVE:
        remaining = _remaining_seconds(state, guardrail, evidence, pass_threshold)
    verdict = MetricVerdict(
        metric=guardrail.metric,
        finding=finding,
        action=guardrail.action,
        unit=metric.unit,
        candidate=candidate,
        control=control,
        effect=effect,
        low=low,
        high=high,
        evidence=exp(min(max(against, gross), log(_MAX_EVIDENCE))),
        support=exp(min(support, log(_MAX_EVIDENCE))),
        needed=exp(needed),
        max_ratio=guardrail.max_ratio,
        margin=guardrail.margin,
        dispersion=state.dispersion.phi if metric.kind is not Kind.MEAN else 1.0,
        remaining=remaining,
        message="",
    )
    return replace(verdict, message=describe(verdict, state, guardrail, _last_comparison(state, evidence)))


def _effect(
    state: MetricState, guardrail: Guardrail, alphas: tuple[float, float]
) -> tuple[float | None, float | None, float | None]:
    if guardrail.definition.kind is Kind.MEAN:
        if not state.blocks:
            return None, None, None
        low, high = state.means.bounds(*alphas)
        as_ratio = exp if guardrail.metric == "tokens-per-request" else _to_ratio
        return (
            as_ratio(state.means.mean),
            None if low is None else as_ratio(low),
            None if high is None else as_ratio(high),
        )
    low, high = state.odds.bounds(*alphas)
    return state.odds.most_likely, low, high


def _to_ratio(difference: float) -> float:
    return 1.0 + difference


def _arms(state: MetricState, guardrail: Guardrail) -> tuple[ArmSummary, ArmSummary]:
    metric = guardrail.definition
    found = []
    for totals in (state.candidate, state.control):
        value: float | None = None
        match metric.kind:
            case Kind.SHARE:
                value = None if totals.share is None else 1 - totals.share
            case Kind.EXCEEDANCE:
                value = quantile(totals.buckets, metric.edges, metric.quantile)
            case Kind.MEAN:
                value = totals.mean
                if value is not None and guardrail.metric == "tokens-per-request":
                    value = exp(value)
        found.append(ArmSummary(n=totals.n, x=totals.x, value=value))
    return found[0], found[1]


def _remaining_seconds(
    state: MetricState, guardrail: Guardrail, evidence: CandidateEvidence, threshold: float
) -> float | None:
    """Return the estimated time to a verdict if evidence grows as before; None while it does not grow."""
    if evidence.first_request is None:
        return None
    elapsed = evidence.end - evidence.first_request
    strongest = max(state.log_evidence_for(guardrail), state.log_evidence_over_requests(guardrail))
    progress = strongest / threshold
    if progress <= 0 or elapsed <= 0:
        return None
    return max(0.0, elapsed / progress - elapsed)


def _last_comparison(state: MetricState, evidence: CandidateEvidence) -> str:
    """Return since when the arms have not been compared, such as " since 12:00"; "" if unknown."""
    compared = zip(evidence.metric_states, evidence.compared, strict=True)
    at = next((at for known, at in compared if known is state), None)
    if at is not None:
        return f" since {format_time(at)}"
    first = evidence.first_request
    return "" if first is None else f" since the candidate's first request at {format_time(first)}"


def _threshold_verdict(breach: ThresholdState, threshold: Threshold, *, stale: bool) -> MetricVerdict:
    if breach.tripped:
        finding = Finding.FAIL
    elif breach.errors > threshold.error_limit:
        finding = Finding.ERROR
    elif breach.value_at is None or stale:
        finding = Finding.NO_DATA
    else:
        finding = Finding.PASS
    return MetricVerdict(
        metric=threshold.name,
        finding=finding,
        action=threshold.action,
        unit="",
        candidate=ArmSummary(n=breach.measurements, x=breach.failures, value=breach.value),
        control=ArmSummary(n=0, x=0, value=None),
        effect=None,
        low=None,
        high=None,
        evidence=0.0,
        support=0.0,
        needed=0.0,
        max_ratio=threshold.limit,
        margin=threshold.limit,
        dispersion=1.0,
        remaining=None,
        message=describe_threshold(finding, breach, threshold),
    )
