"""Blocks of counts in, a verdict with its numbers out (pure).

A rollback needs proof that the candidate is worse, a promotion needs proof that it is not worse than a
margin; what lies between is no verdict and says how long it may take. Both proofs may be looked at as often
as one likes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import Counts, Leg
from xds_server.analysis.verdicts.metric_state import MetricState, quantile
from xds_server.analysis.verdicts.metrics import Kind, Price
from xds_server.analysis.verdicts.policy import RegressionAction
from xds_server.analysis.verdicts.thresholds import Watch, measured
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.analysis.counts import Block
    from xds_server.analysis.verdicts.policy import Guardrail, Policy, Threshold

__all__ = [
    "AnalysisResult",
    "Arm",
    "CandidateEvidence",
    "MetricVerdict",
    "fresh",
    "heard",
    "ruling",
    "together",
]

_QUIET: Final = 60.0
"""Without a request of the candidate for this long there is no data, whatever was proven before."""
_NOTHING: Final = Counts()
_MOST_WORTH: Final = 1e12


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One arm's numbers: `x` of `n` where something was counted, and the value people know."""

    n: int
    x: int
    value: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricVerdict:
    """What is known of one metric.

    `effect` is an odds ratio for shares and exceedances, a ratio of means for means, with the bounds that
    hold at every look at once. `evidence` (against) and `support` (for) are odds against chance; each decides
    at `needed`. `excluded` is the smallest harm that is excluded by now, `remaining` the seconds until a
    verdict at the present pace.
    """

    metric: str
    finding: Finding
    action: RegressionAction
    unit: str
    candidate: Arm
    control: Arm
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
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisResult:
    """The verdict on a candidate, and on each metric."""

    finding: Finding
    words: str
    metrics: tuple[MetricVerdict, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateEvidence:
    """Everything that was learnt of one candidate. `since` is when it had its first request in this run."""

    candidate: Leg
    control: Leg
    memories: tuple[MetricState, ...]
    watches: tuple[Watch, ...]
    since: float | None = None
    last_seen: float | None = None
    ends: float = 0.0


def fresh(policy: Policy, candidate: Leg, control: Leg) -> CandidateEvidence:
    """Return the case of a new run. Blocks of control alone, from before, may be heard first."""
    return CandidateEvidence(
        candidate=candidate,
        control=control,
        memories=tuple(MetricState.fresh(guardrail) for guardrail in policy.guardrails),
        watches=tuple(Watch() for _ in policy.thresholds),
    )


def heard(
    case: CandidateEvidence,
    policy: Policy,
    block: Block,
    answers: Mapping[str, float | None] | None = None,
) -> CandidateEvidence:
    """Return the case after one more block; `answers` are those of its queries, None for an error."""
    mine, other = block.legs.get(case.candidate, _NOTHING), block.legs.get(case.control, _NOTHING)
    ends = block.start + block.seconds
    since, last_seen = case.since, case.last_seen
    if mine.requests:
        since, last_seen = (block.start if since is None else since), ends
    warm = since is not None and block.start >= since + policy.initial_delay
    arms = (mine if warm else _NOTHING, other)
    none = Price()
    prices = (
        policy.prices.get(case.candidate.variant, none),
        policy.prices.get(case.control.variant, none),
    )
    return replace(
        case,
        memories=tuple(
            memory.after(guardrail, arms, prices)
            for memory, guardrail in zip(case.memories, policy.guardrails, strict=True)
        ),
        watches=tuple(
            watch.after(threshold, measured(threshold, arms[0], prices[0], answers or {}), ends)
            for watch, threshold in zip(case.watches, policy.thresholds, strict=True)
        ),
        since=since,
        last_seen=last_seen,
        ends=ends,
    )


def ruling(case: CandidateEvidence, policy: Policy, now: float) -> AnalysisResult:
    """Return the verdict at `now` (seconds since the epoch)."""
    quiet = case.last_seen is None or now - case.last_seen > _QUIET
    metrics = (
        *(
            _of_guardrail(memory, guardrail, policy, case, quiet=quiet)
            for memory, guardrail in zip(case.memories, policy.guardrails, strict=True)
        ),
        *(
            _of_threshold(watch, threshold, quiet=quiet)
            for watch, threshold in zip(case.watches, policy.thresholds, strict=True)
        ),
    )
    deciding = [m for m in metrics if m.action is RegressionAction.ROLLBACK]
    finding = _worst([m.finding for m in deciding])
    return AnalysisResult(finding=finding, words=_summary(finding, deciding), metrics=metrics)


def together(rulings: Mapping[str, AnalysisResult]) -> AnalysisResult:
    """Return one verdict on several candidates: a failure of one is one of all."""
    if len(rulings) == 1:
        return next(iter(rulings.values()))
    return AnalysisResult(
        finding=_worst([found.finding for found in rulings.values()]),
        words="; ".join(f"{name}: {found.words}" for name, found in rulings.items()),
        metrics=tuple(
            replace(metric, metric=f"{name} {metric.metric}")
            for name, found in rulings.items()
            for metric in found.metrics
        ),
    )


def _worst(findings: list[Finding]) -> Finding:
    """Return the finding of all: one failure is one too many, and a pass takes all."""
    if not findings:
        return Finding.PASS
    for finding in (Finding.FAIL, Finding.ERROR, Finding.NO_DATA, Finding.INCONCLUSIVE):
        if finding in findings:
            return finding
    return Finding.PASS


def _summary(finding: Finding, metrics: list[MetricVerdict]) -> str:
    telling = [m.words for m in metrics if m.finding is finding]
    return "; ".join(telling) if telling else "nothing is asked of the candidate"


def _of_guardrail(
    memory: MetricState, guardrail: Guardrail, policy: Policy, case: CandidateEvidence, *, quiet: bool
) -> MetricVerdict:
    metric = guardrail.definition
    against, support = memory.against(guardrail), memory.in_favour(guardrail)
    # A rollback may blame any of several guardrails; a promotion needs them all, and spends nothing on that.
    passes = -log(policy.alpha)
    fails = passes if guardrail.action is RegressionAction.NOTIFY else -log(policy.share)
    enough = memory.candidate.n >= guardrail.min_samples
    if enough and against >= fails:
        finding = Finding.FAIL
    elif quiet or not memory.blocks:
        finding = Finding.NO_DATA
    elif enough and support >= passes:
        finding = Finding.PASS
    else:
        finding = Finding.INCONCLUSIVE
    effect, low, high = _effect(memory, guardrail, (exp(-fails), policy.alpha))
    candidate, control = _arms(memory, guardrail)
    remaining = _remaining(memory, guardrail, case, passes) if finding is Finding.INCONCLUSIVE else None
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
        evidence=exp(min(against, log(_MOST_WORTH))),
        support=exp(min(support, log(_MOST_WORTH))),
        needed=exp(fails),
        max_ratio=guardrail.max_ratio,
        margin=guardrail.margin,
        dispersion=memory.dispersion.phi if metric.kind is not Kind.MEAN else 1.0,
        remaining=remaining,
        words="",
    )
    return replace(verdict, words=_words(verdict, memory, guardrail))


def _effect(
    memory: MetricState, guardrail: Guardrail, alphas: tuple[float, float]
) -> tuple[float | None, float | None, float | None]:
    if guardrail.definition.kind is Kind.MEAN:
        if not memory.blocks:
            return None, None, None
        low, high = memory.means.bounds(*alphas)
        as_ratio = exp if guardrail.metric == "tokens-per-request" else _one_more
        return (
            as_ratio(memory.means.mean),
            None if low is None else as_ratio(low),
            None if high is None else as_ratio(high),
        )
    low, high = memory.odds.bounds(*alphas)
    return memory.odds.likeliest, low, high


def _one_more(difference: float) -> float:
    return 1.0 + difference


def _arms(memory: MetricState, guardrail: Guardrail) -> tuple[Arm, Arm]:
    metric = guardrail.definition
    found = []
    for tally in (memory.candidate, memory.control):
        value: float | None = None
        match metric.kind:
            case Kind.SHARE:
                value = None if tally.share is None else 1 - tally.share
            case Kind.EXCEEDANCE:
                value = quantile(tally.buckets, metric.edges, metric.quantile)
            case Kind.MEAN:
                value = tally.mean
                if value is not None and guardrail.metric == "tokens-per-request":
                    value = exp(value)
        found.append(Arm(n=tally.n, x=tally.x, value=value))
    return found[0], found[1]


def _remaining(
    memory: MetricState, guardrail: Guardrail, case: CandidateEvidence, passes: float
) -> float | None:
    """Return how long a verdict may take if evidence goes on to grow as it did; None while it does not."""
    if case.since is None:
        return None
    elapsed = case.ends - case.since
    growing = max(
        (memory.in_favour(guardrail) / passes, memory.against(guardrail) / passes),
        default=0.0,
    )
    if growing <= 0 or elapsed <= 0:
        return None
    return max(0.0, elapsed / growing - elapsed)


def _words(verdict: MetricVerdict, memory: MetricState, guardrail: Guardrail) -> str:
    name, kind = verdict.metric, guardrail.definition.kind
    if not memory.blocks:
        if kind is Kind.EXCEEDANCE and memory.edge is None:
            return (
                f"{name}: what is usual of control is not known yet ({sum(memory.usual):.0f} requests seen)"
            )
        return f"{name}: no requests of both arms were seen together"
    numbers = f"{name}: {_number(verdict.candidate, verdict)} against {_number(verdict.control, verdict)}"
    where = _bounds(verdict, kind)
    match verdict.finding:
        case Finding.FAIL:
            return f"{numbers}; worse, {verdict.evidence:,.0f} : 1 against chance{where}"
        case Finding.PASS:
            return f"{numbers}; not worse by {verdict.margin:g} times{where}"
        case Finding.NO_DATA:
            return f"{numbers}; the candidate gets no requests"
        case _:
            if memory.candidate.n < guardrail.min_samples:
                return f"{numbers}; {memory.candidate.n} of the {guardrail.min_samples} requests it takes"
            wait = "" if verdict.remaining is None else f", about {_duration(verdict.remaining)} more"
            return f"{numbers}; undecided{where}{wait}"


def _number(arm: Arm, verdict: MetricVerdict) -> str:
    if arm.value is None:
        return "nothing"
    if verdict.unit.startswith("of "):
        return f"{arm.value:.2%} ({arm.x:,} of {arm.n:,} failed)"
    return f"{arm.value:,.4g} {verdict.unit}".rstrip()


def _bounds(verdict: MetricVerdict, kind: Kind) -> str:
    what = "ratio" if kind is Kind.MEAN else "odds ratio"
    low, high = verdict.low, verdict.high
    if low is None and high is None:
        return f", no {what} excluded yet"
    if low is None:
        return f", {what} below {high:.3g}"
    if high is None:
        return f", {what} above {low:.3g}"
    return f", {what} {low:.3g} to {high:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _of_threshold(watch: Watch, threshold: Threshold, *, quiet: bool) -> MetricVerdict:
    limit = f"{threshold.comparison.value} {threshold.limit:g}"
    value = "nothing" if watch.value is None else f"{watch.value:.4g}"
    if watch.tripped:
        finding, words = Finding.FAIL, f"{threshold.name}: {value}, {watch.why}"
    elif watch.errors > threshold.error_limit:
        finding, words = Finding.ERROR, f"{threshold.name}: {watch.errors} queries in a row failed"
    elif watch.value is None and (quiet or threshold.query is not None):
        finding, words = Finding.NO_DATA, f"{threshold.name}: no value yet"
    else:
        finding, words = Finding.PASS, f"{threshold.name}: {value}, not {limit} for long enough to matter"
    return MetricVerdict(
        metric=threshold.name,
        finding=finding,
        action=threshold.action,
        unit="",
        candidate=Arm(n=watch.measurements, x=watch.failures, value=watch.value),
        control=Arm(n=0, x=0, value=None),
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
        words=words,
    )
