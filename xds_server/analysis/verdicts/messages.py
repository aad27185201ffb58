"""The message of a verdict on one guardrail, with the numbers that decided it (pure)."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.verdicts.freshness import format_time
from xds_server.analysis.verdicts.metrics import Kind
from xds_server.analysis.verdicts.mixed_starts import DOUBT
from xds_server.rollout import Finding

if TYPE_CHECKING:
    from xds_server.analysis.verdicts.metric_state import MetricState
    from xds_server.analysis.verdicts.policy import Guardrail, Threshold
    from xds_server.analysis.verdicts.result import ArmSummary, MetricVerdict
    from xds_server.analysis.verdicts.threshold_state import ThresholdState

__all__ = ["describe", "describe_guard", "describe_threshold"]

_RATIOS: Final = {
    Kind.SHARE: "odds ratio (odds of failing)",
    Kind.EXCEEDANCE: "odds ratio (odds of a slow request)",
    Kind.MEAN: "ratio of the means",
}

_LARGEST_LOG: Final = log(1e12)


def describe(verdict: MetricVerdict, state: MetricState, guardrail: Guardrail, since: str) -> str:
    """Return the message of a verdict; `since` ends the sentence that the arms are not compared."""
    name, kind = verdict.metric, guardrail.definition.kind
    if gross := _describe_gross_failure(verdict, state):
        return gross
    if not state.blocks:
        if kind is Kind.EXCEEDANCE and state.reference_edge is None:
            return (
                f"{name}: not enough requests of the stable backend yet for a reference value "
                f"(weighted count so far: {sum(state.reference_buckets):.0f})"
            )
        return f"{name}: no interval has requests of both the candidate and the stable backend yet{since}"
    candidate, control = _format_value(verdict.candidate, verdict), _format_value(verdict.control, verdict)
    numbers = f"{name}: candidate {candidate}, stable {control}"
    bounds = _format_bounds(verdict, kind)
    match verdict.finding:
        case Finding.FAIL:
            return f"{numbers}; worse, {verdict.evidence:,.0f} : 1 against chance{bounds}"
        case Finding.PASS:
            if kind is Kind.SHARE and (verdict.high is None or verdict.high > verdict.margin):
                accepted = f"less than {100 * guardrail.acceptable:g} % {verdict.unit}"
                return f"{numbers}; passes because failures are proven acceptable ({accepted}){bounds}"
            return f"{numbers}; not worse{bounds}, within the margin of {verdict.margin:g}"
        case Finding.NO_DATA:
            return f"{numbers}; no interval has requests of both the candidate and the stable backend{since}"
        case _:
            if state.candidate.n < guardrail.min_samples:
                share = f"{state.candidate.n} of {guardrail.min_samples} required requests"
                return f"{numbers}; the candidate has received {share}"
            if (doubt := state.doubt(guardrail)) >= DOUBT:
                odds = exp(min(doubt, _LARGEST_LOG))
                return f"{numbers}; undecided: the newest requests are worse, {odds:,.0f} : 1 against chance"
            remaining = verdict.remaining
            wait = "" if remaining is None else f"; about {_format_remaining(remaining)} needed"
            return f"{numbers}; undecided: {_format_undecided(verdict, kind)}{wait}"


def _describe_gross_failure(verdict: MetricVerdict, state: MetricState) -> str:
    """Return the message of a Fail without requests of the control; "" for other verdicts."""
    if verdict.finding is not Finding.FAIL or state.log_evidence_of_gross_failure < log(verdict.needed):
        return ""
    alone, unit = state.frozen_rate, verdict.unit.removeprefix("of ")
    return (
        f"{verdict.metric}: {alone.candidate_failed:,} of {alone.candidate_total:,} {unit} at the candidate "
        "while the stable backend had no requests; "
        f"more than {alone.limit(state.dispersion.phi):.1%} is a gross failure"
    )


def describe_guard(verdict: MetricVerdict, state: MetricState, guard: Guardrail) -> str:
    """Return the message of a guard: what it counted, and whether it fails."""
    unit = verdict.unit.removeprefix("of ")
    if gross := _describe_gross_failure(verdict, state):
        return gross
    if not verdict.candidate.n:
        return f"{guard.metric}: no requests of the candidate are counted"
    arms = " and ".join(
        f"{arm.x:,} of {arm.n:,} {unit} at {name}"
        for arm, name in ((verdict.candidate, "the candidate"), (verdict.control, "the stable backend"))
    )
    if verdict.finding is not Finding.FAIL:
        return f"{guard.metric}: {arms}"
    return f"{guard.metric}: {arms}; worse, {verdict.evidence:,.0f} : 1 against chance"


def describe_threshold(finding: Finding, breach: ThresholdState, threshold: Threshold) -> str:
    """Return the message of a verdict on a fixed limit."""
    name, limit = threshold.name, f"{threshold.comparison.value} {threshold.limit:g}"
    value = "no value" if breach.value is None else f"{breach.value:.4g}"
    match finding:
        case Finding.FAIL:
            return f"{name}: was {breach.reason}; newest value: {value}"
        case Finding.ERROR:
            return (
                f"{name}: {breach.errors} queries in a row failed or did not return a single number; "
                f"consecutiveErrorLimit is {threshold.error_limit}"
            )
        case Finding.NO_DATA:
            since = "" if breach.value_at is None else f" since {format_time(breach.value_at)}"
            return f"{name}: no value{since} to compare with the limit {limit}"
        case _:
            return f"{name}: {value}; fails when {threshold.failure_condition}"


def _format_value(arm: ArmSummary, verdict: MetricVerdict) -> str:
    if arm.value is None:
        return "no value"
    if verdict.unit.startswith("of "):
        return f"{arm.value:.2%} ({arm.x:,} of {arm.n:,} failed)"
    return f"{arm.value:,.4g} {verdict.unit}".rstrip()


def _format_bounds(verdict: MetricVerdict, kind: Kind) -> str:
    what = "ratio" if kind is Kind.MEAN else "odds ratio"
    low, high = verdict.low, verdict.high
    if low is None and high is None:
        return f", no bound on the {what} yet"
    if low is None:
        return f", {what} below {high:.3g}"
    if high is None:
        return f", {what} above {low:.3g}"
    return f", {what} {low:.3g} to {high:.3g}"


def _format_undecided(verdict: MetricVerdict, kind: Kind) -> str:
    what = _RATIOS[kind]
    low, high = verdict.low, verdict.high
    if low is None and high is None:
        return f"not enough requests yet for a confidence bound on the {what}"
    if low is None:
        return f"the {what} is below {high:.3g}"
    if high is None:
        return f"the {what} is above {low:.3g}"
    return f"the {what} is between {low:.3g} and {high:.3g}"


def _format_remaining(seconds: float) -> str:
    if seconds < 120:
        number, unit = round(seconds), "second"
    elif seconds < 7200:
        number, unit = round(seconds / 60), "minute"
    else:
        number, unit = round(seconds / 3600), "hour"
    return f"{number} more {unit}" + ("" if number == 1 else "s")
