"""Evaluation of an A/B test: no result before the planned sample size, one result after it (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from xds_server.analysis.experiments.proportions import Column, Comparison, compare, describe_unnamed
from xds_server.analysis.experiments.sample_ratio import sample_ratio_mismatch
from xds_server.analysis.experiments.sample_size import SampleSizePlan, plan_sample_size

__all__ = ["ExperimentFinding", "ExperimentReport", "Hypothesis", "VariantCounts", "evaluate"]

_VOID: Final = 1_000.0
"""The odds against chance from which a test is void."""
_MOST_ODDS: Final = 1e12
"""The largest odds in a message."""


class ExperimentFinding(Enum):
    """The result for the primary metric."""

    NOT_YET = "NotYet"
    """Fewer users than planned; repeated earlier checks would find differences by chance."""
    BETTER = "Better"
    WORSE = "Worse"
    NO_DIFFERENCE = "NoDifference"
    """No significant difference; this does not prove that there is none."""
    UNNAMED = "Unnamed"
    """The spec does not define whether the counted event is good or bad."""
    VOID = "Void"
    """Users were not split as intended: the numbers of this test are not valid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantCounts:
    """The users of a variant, and how many of them had the counted event."""

    users: int
    counted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypothesis:
    """The hypothesis, fixed before the test starts.

    `mde` is the absolute minimum detectable effect; a winner is better by more than `superiority`.
    """

    column: Column | None
    baseline: float
    mde: float
    alpha: float = 0.05
    power: float = 0.8
    superiority: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentReport:
    """The result of one variant.

    `sample_ratio_mismatch` is the evidence of a wrong split, as odds against chance. `remaining_days` is the
    estimated time until both groups together have the planned number of users; None before there are users.
    """

    finding: ExperimentFinding
    message: str
    needed: SampleSizePlan
    sample_ratio_mismatch: float
    comparison: Comparison | None
    remaining_days: float | None


def evaluate(
    hypothesis: Hypothesis,
    treatment: VariantCounts,
    control: VariantCounts,
    *,
    shares: tuple[float, float],
    days: float,
) -> ExperimentReport:
    """Return the result after `days`; `shares` are the intended shares of (treatment, control)."""
    direction = -1 if hypothesis.column is Column.BAD else 1
    target = min(0.999, max(0.001, hypothesis.baseline + direction * hypothesis.mde))
    split = shares[0] / (shares[0] + shares[1])
    needed = plan_sample_size(
        hypothesis.baseline, target, alpha=hypothesis.alpha, power=hypothesis.power, split=split
    )
    odds = sample_ratio_mismatch(
        {"treatment": treatment.users, "control": control.users},
        {"treatment": shares[0], "control": shares[1]},
    )
    users = treatment.users + control.users
    left = max(0, needed.total - users)
    remaining = left * days / users if users and days > 0 else None
    comparison = None
    if treatment.users and control.users:
        comparison = compare(
            (treatment.counted, treatment.users),
            (control.counted, control.users),
            column=hypothesis.column or Column.GOOD,
            alpha=hypothesis.alpha,
            margin=hypothesis.superiority,
        )
    finding, message = _conclude(hypothesis, needed, comparison, treatment, control, odds, remaining)
    return ExperimentReport(
        finding=finding,
        message=message,
        needed=needed,
        sample_ratio_mismatch=odds,
        comparison=comparison,
        remaining_days=remaining,
    )


def _conclude(  # noqa: PLR0913, PLR0917 - the inputs of the conclusion
    hypothesis: Hypothesis,
    needed: SampleSizePlan,
    comparison: Comparison | None,
    treatment: VariantCounts,
    control: VariantCounts,
    odds: float,
    remaining: float | None,
) -> tuple[ExperimentFinding, str]:
    if odds >= _VOID:
        counts = f"{treatment.users:,} users in treatment, {control.users:,} in control"
        chance = f"at most 1 of {min(odds, _MOST_ODDS):,.0f} tests"
        return (
            ExperimentFinding.VOID,
            f"users were not split as intended: {counts}; {chance} has such a split by chance",
        )
    short = treatment.users < needed.treatment or control.users < needed.control
    if comparison is None or short:
        wait = ""
        if remaining:
            days = f"about {remaining:.1f}" if remaining >= 0.1 else "less than 0.1"
            wait = f"; {days} more days until the planned total at this rate"
        numbers = (
            f"{treatment.users:,} of {needed.treatment:,} planned users in treatment, "
            f"{control.users:,} of {needed.control:,} in control"
        )
        return ExperimentFinding.NOT_YET, f"{numbers}{wait}"
    if hypothesis.column is None:
        return ExperimentFinding.UNNAMED, describe_unnamed(
            (treatment.counted, treatment.users), (control.counted, control.users)
        )
    low, high = comparison.interval.low, comparison.interval.high
    numbers = (
        f"treatment {comparison.treatment:.2%}, control {comparison.control:.2%}; difference "
        f"{100 * comparison.difference:+.2f} percentage points "
        f"(confidence interval {100 * low:+.2f} to {100 * high:+.2f})"
    )
    if comparison.better:
        more = f" by more than {100 * comparison.margin:.2f} percentage points" if comparison.margin else ""
        return ExperimentFinding.BETTER, f"better{more}: {numbers}"
    if comparison.worse:
        return ExperimentFinding.WORSE, f"worse: {numbers}"
    return ExperimentFinding.NO_DIFFERENCE, f"no significant difference: {numbers}"
