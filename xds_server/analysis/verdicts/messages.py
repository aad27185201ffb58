"""The message of a verdict on one guardrail, with the numbers that decided it (pure)."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.verdicts.freshness import format_time
from xds_server.analysis.verdicts.metric_state import MIN_REQUESTS
from xds_server.analysis.verdicts.metrics import GUARDS, Kind
from xds_server.analysis.verdicts.mixed_starts import DOUBT
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from xds_server.analysis.verdicts.metric_state import MetricState
    from xds_server.analysis.verdicts.policy import Guardrail, Threshold
    from xds_server.analysis.verdicts.result import ArmSummary, MetricVerdict
    from xds_server.analysis.verdicts.threshold_state import ThresholdState

__all__ = ["describe", "describe_guard", "describe_threshold"]

_COMPARED: Final = {
    Kind.SHARE: ("odds of failing", "are"),
    Kind.EXCEEDANCE: ("odds of a slow request", "are"),
    Kind.MEAN: ("mean", "is"),
}
"""What the ratio of a metric compares, with its verb."""

_LARGEST_LOG: Final = log(1e12)


def describe(verdict: MetricVerdict, state: MetricState, guardrail: Guardrail, since: str) -> str:
    """Return the message of a verdict.

    `since` completes "no comparison", such as " since 12:00"; it is empty if the time is unknown.
    """
    found = _describe_finding(verdict, state, guardrail, since)
    return found + _describe_few_users(verdict, state, guardrail)


def _describe_finding(verdict: MetricVerdict, state: MetricState, guardrail: Guardrail, since: str) -> str:
    name, kind = verdict.metric, guardrail.definition.kind
    if gross := _describe_gross_failure(verdict, state):
        return gross
    if not state.blocks:
        if kind is Kind.EXCEEDANCE and state.reference_edge is None:
            return (
                f"{name}: not enough requests of the stable backend yet for a reference value: "
                f"{int(sum(state.reference_buckets))} of {MIN_REQUESTS[guardrail.definition.quantile]} "
                "(older requests count less)"
            )
        return f"{name}: {_describe_no_comparison(since)}"
    candidate, control = _format_value(verdict.candidate, verdict), _format_value(verdict.control, verdict)
    numbers = f"{name}: candidate {candidate}, stable {control}"
    ratio = _describe_ratio(verdict, kind)
    match verdict.finding:
        case Finding.FAIL:
            return f"{numbers}; worse, evidence against chance {verdict.evidence:,.0f} : 1; {ratio}"
        case Finding.PASS:
            if kind is Kind.SHARE and (verdict.high is None or verdict.high > verdict.margin):
                accepted = f"less than {100 * guardrail.acceptable:g} % {verdict.unit}"
                return f"{numbers}; passes because failures are proven acceptable ({accepted}); {ratio}"
            return f"{numbers}; not worse: {ratio}, within the margin of {verdict.margin:g}"
        case Finding.NO_DATA:
            return f"{numbers}; {_describe_no_comparison(since)}"
        case _:
            if state.candidate.n < guardrail.min_samples:
                share = f"{state.candidate.n} of {guardrail.min_samples} required requests"
                return f"{numbers}; {share} of the candidate were compared"
            if (doubt := state.doubt(guardrail)) >= DOUBT:
                odds = exp(min(doubt, _LARGEST_LOG))
                return (
                    f"{numbers}; undecided: no Pass while the newest requests point to a worse candidate "
                    f"({odds:,.0f} : 1 since the least favorable time, which is no proof yet)"
                )
            remaining = verdict.remaining
            wait = "" if remaining is None else f"; about {_format_remaining(remaining)} needed"
            return f"{numbers}; undecided: {ratio}{wait}"


def _describe_no_comparison(since: str) -> str:
    both = "both the candidate and the stable backend"
    return f"no comparison{since}: no interval had comparable requests of {both}"


def _describe_gross_failure(verdict: MetricVerdict, state: MetricState) -> str:
    """Return the message of a Fail without requests of the control; "" for other verdicts."""
    if verdict.finding is not Finding.FAIL or state.log_evidence_of_gross_failure < log(verdict.needed):
        return ""
    alone, unit = state.frozen_rate, verdict.unit.removeprefix("of ")
    # A guard is named after the failures that it counts, a metric such as success-rate after their opposite.
    failed = "" if verdict.metric in GUARDS else " failed"
    return (
        f"{verdict.metric}: {alone.candidate_failed:,} of {alone.candidate_total:,} {unit}{failed} "
        "at the candidate while the stable backend had no requests; "
        f"more than {alone.limit(state.dispersion.phi):.1%} is a gross failure"
    )


def _describe_few_users(verdict: MetricVerdict, state: MetricState, guardrail: Guardrail) -> str:
    """Return that only the evidence over cells is missing for a Fail, as the end of a sentence; or ""."""
    over_requests, needed = state.log_evidence_over_requests(guardrail), log(verdict.needed)
    against = state.log_evidence_against(guardrail, needed)
    if verdict.finding is Finding.FAIL or not over_requests >= needed > against:
        return ""
    worse, cells = state.cells.worse
    return (
        f"; no rollback, because few users may cause this: the candidate was worse in {worse} of {cells} "
        "random groups of users"
    )


def describe_guard(verdict: MetricVerdict, state: MetricState, guard: Guardrail) -> str:
    """Return the message of a guard: what it counted, and whether it fails."""
    unit = verdict.unit.removeprefix("of ")
    if gross := _describe_gross_failure(verdict, state):
        return gross
    if not verdict.candidate.n:
        return f"{guard.metric}: no {unit} of the candidate were compared yet"
    arms = " and ".join(
        f"{arm.x:,} of {arm.n:,} {unit} at {name}"
        for arm, name in ((verdict.candidate, "the candidate"), (verdict.control, "the stable backend"))
    )
    if verdict.finding is not Finding.FAIL:
        return f"{guard.metric}: {arms}{_describe_few_users(verdict, state, guard)}"
    return f"{guard.metric}: {arms}; worse, evidence against chance {verdict.evidence:,.0f} : 1"


def describe_threshold(finding: Finding, breach: ThresholdState, threshold: Threshold) -> str:
    """Return the message of a verdict on a fixed limit."""
    name = threshold.name
    value = "no value" if breach.value is None else f"{breach.value:.4g}"
    match finding:
        case Finding.FAIL:
            return f"{name}: was {breach.reason}; newest value: {'none' if breach.value is None else value}"
        case Finding.ERROR:
            return (
                f"{name}: {breach.errors} queries in a row failed or did not return a single number; "
                f"consecutiveErrorLimit is {threshold.error_limit}"
            )
        case Finding.NO_DATA:
            since = "" if breach.value_at is None else f" since {format_time(breach.value_at)}"
            return f"{name}: no value{since}; fails when {threshold.failure_condition}"
        case _:
            return f"{name}: {value}; fails when {threshold.failure_condition}"


def _format_value(arm: ArmSummary, verdict: MetricVerdict) -> str:
    if arm.value is None:
        return "no value"
    if verdict.unit.startswith("of "):
        return f"{arm.value:.2%} ({arm.x:,} of {arm.n:,} failed)"
    return f"{arm.value:,.4g} {verdict.unit}".rstrip()


def _describe_ratio(verdict: MetricVerdict, kind: Kind) -> str:
    """Return the bounds of the ratio of candidate to stable, as a clause."""
    what, verb = _COMPARED[kind]
    low, high = verdict.low, verdict.high
    if low is None and high is None:
        return f"not enough requests yet for a bound on the candidate's {what}"
    if low is None:
        bounds = f"below {high:.3g}"
    elif high is None:
        bounds = f"above {low:.3g}"
    else:
        bounds = f"between {low:.3g} and {high:.3g}"
    return f"the candidate's {what} {verb} {bounds} times the stable backend's"


def _format_remaining(seconds: float) -> str:
    if seconds < 120:
        number, unit = round(seconds), "second"
    elif seconds < 7200:
        number, unit = round(seconds / 60), "minute"
    else:
        number, unit = round(seconds / 3600), "hour"
    return f"{number} more {unit}" + ("" if number == 1 else "s")
