"""What may be said of an A/B test now: nothing before its time, and at the end one thing (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from xds_server.analysis.experiments.planning import Plan, plan
from xds_server.analysis.experiments.proportions import Column, Comparison, compare, readings
from xds_server.analysis.experiments.shares import mismatch

__all__ = ["Arm", "Asked", "Finding", "Report", "report"]

_VOID: Final = 1_000.0


class Finding(Enum):
    """What is known of the primary metric."""

    NOT_YET = "NotYet"
    """Fewer users than planned: whoever looks now would be fooled every so often."""
    BETTER = "Better"
    WORSE = "Worse"
    NO_DIFFERENCE = "NoDifference"
    """None was shown; that is not the same as none."""
    UNNAMED = "Unnamed"
    """Nobody said whether what is counted is good or bad."""
    VOID = "Void"
    """Users were not split as they should have been: no number of this test can be trusted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """A variant: its users, and how many of them did what is counted."""

    users: int
    counted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was asked before the test began. `mde` is absolute; `superiority` must be exceeded to win."""

    column: Column | None
    baseline: float
    mde: float
    alpha: float = 0.05
    power: float = 0.8
    superiority: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What may be said of one variant. `remaining_days` is at the pace so far, None before there is one."""

    finding: Finding
    words: str
    needed: Plan
    mismatch: float
    comparison: Comparison | None
    remaining_days: float | None


def report(asked: Asked, treatment: Arm, control: Arm, *, shares: tuple[float, float], days: float) -> Report:
    """Return what may be said after `days`; `shares` are those wanted of (treatment, control)."""
    direction = -1 if asked.column is Column.BAD else 1
    target = min(0.999, max(0.001, asked.baseline + direction * asked.mde))
    split = shares[0] / (shares[0] + shares[1])
    needed = plan(asked.baseline, target, alpha=asked.alpha, power=asked.power, split=split)
    odds = mismatch(
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
            column=asked.column or Column.GOOD,
            alpha=asked.alpha,
            margin=asked.superiority,
        )
    finding, words = _said(asked, needed, comparison, treatment, control, odds, remaining)
    return Report(
        finding=finding,
        words=words,
        needed=needed,
        mismatch=odds,
        comparison=comparison,
        remaining_days=remaining,
    )


def _said(  # noqa: PLR0913, PLR0917 - what there is to say something of
    asked: Asked,
    needed: Plan,
    comparison: Comparison | None,
    treatment: Arm,
    control: Arm,
    odds: float,
    remaining: float | None,
) -> tuple[Finding, str]:
    if odds >= _VOID:
        counts = f"{treatment.users:,} in treatment, {control.users:,} in control"
        return Finding.VOID, f"users were not split as they should have been ({counts}, {odds:,.0f} : 1)"
    short = treatment.users < needed.treatment or control.users < needed.control
    if comparison is None or short:
        wait = "" if remaining is None else f", about {remaining:.1f} days more at this pace"
        told = ((treatment.users, needed.treatment), (control.users, needed.control))
        numbers = " and ".join(f"{users:,} of {wanted:,}" for users, wanted in told)
        return Finding.NOT_YET, f"{numbers} users{wait}"
    if asked.column is None:
        return Finding.UNNAMED, readings(
            (treatment.counted, treatment.users), (control.counted, control.users)
        )
    low, high = comparison.interval.low, comparison.interval.high
    numbers = (
        f"{comparison.treatment:.2%} against {comparison.control:.2%}, "
        f"difference {100 * comparison.difference:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"
    )
    if comparison.better:
        more = f" by more than {100 * comparison.margin:.2f} points" if comparison.margin else ""
        return Finding.BETTER, f"better{more}: {numbers}"
    if comparison.worse:
        return Finding.WORSE, f"worse: {numbers}"
    return Finding.NO_DIFFERENCE, f"no such difference is shown: {numbers}"
