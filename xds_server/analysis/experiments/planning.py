"""How many users an A/B test takes to find a difference of two proportions (pure).

The default is the pooled z test, which is what statsmodels calls samplesize_proportions_2indep_onetail with
`two-sided`. The other formulas are here to be compared with; all of them are asked for the same thing and
answer a little differently.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import asin, ceil, sqrt
from statistics import NormalDist
from typing import Final

__all__ = ["FORMULAS", "Formula", "Plan", "Sides", "detectable", "per_group", "plan"]

_NORMAL: Final = NormalDist()


class Sides(Enum):
    """Whether a difference in either direction counts."""

    ONE = 1
    TWO = 2


class Formula(Enum):
    """The formulas people use; the values are what they are called on the command line."""

    POOLED = "pooled"
    UNPOOLED = "unpooled"
    ARCSINE = "arcsine"
    FLEISS = "fleiss"
    EVAN_MILLER = "evan-miller"


FORMULAS: Final = {
    Formula.POOLED: "two-proportion z test, pooled variance under the null hypothesis",
    Formula.UNPOOLED: "two-proportion z test, unpooled variance",
    Formula.ARCSINE: "arcsine transformation (Cohen's h)",
    Formula.FLEISS: "pooled z test with Fleiss' continuity correction, for a chi-square with Yates",
    Formula.EVAN_MILLER: "Evan Miller's calculator: the baseline's variance under the null hypothesis",
}
"""What each of them is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many users it takes. `split` is the share of the treatment; sizes are rounded up."""

    formula: Formula
    baseline: float
    target: float
    alpha: float
    power: float
    sides: Sides
    split: float
    treatment: int
    control: int

    @property
    def total(self) -> int:
        """All users."""
        return self.treatment + self.control

    def days(self, users_per_day: float) -> float:
        """Return how long that takes at so many new users a day."""
        return self.total / users_per_day


def plan(  # noqa: PLR0913 - what a test is planned by
    baseline: float,
    target: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: Sides = Sides.TWO,
    split: float = 0.5,
    formula: Formula = Formula.POOLED,
) -> Plan:
    """Return how many users it takes to find `target` instead of `baseline` (both 0..1).

    Raises:
        ValueError: They are equal, or something lies outside of 0..1.
    """
    for name, value in (("baseline", baseline), ("target", target), ("alpha", alpha), ("power", power)):
        if not 0 < value < 1:
            raise ValueError(f"{name} {value:g} must lie between 0 and 1")
    if baseline == target:
        raise ValueError("there is no difference to find")
    ratio = (1 - split) / split
    n = per_group(baseline, target, alpha=alpha, power=power, sides=sides, ratio=ratio, formula=formula)
    return Plan(
        formula=formula,
        baseline=baseline,
        target=target,
        alpha=alpha,
        power=power,
        sides=sides,
        split=split,
        treatment=ceil(n - 1e-9),
        control=ceil(n * ratio - 1e-9),
    )


def per_group(  # noqa: PLR0913 - what a test is planned by
    baseline: float,
    target: float,
    *,
    alpha: float,
    power: float,
    sides: Sides,
    ratio: float = 1.0,
    formula: Formula = Formula.POOLED,
) -> float:
    """Return the users of the treatment, not rounded; control has `ratio` times as many."""
    za, zb = _NORMAL.inv_cdf(1 - alpha / sides.value), _NORMAL.inv_cdf(power)
    p, q, difference = target, baseline, abs(target - baseline)
    pooled = (p + ratio * q) / (1 + ratio)
    under_null = pooled * (1 - pooled) * (1 + 1 / ratio)
    apart = p * (1 - p) + q * (1 - q) / ratio
    match formula:
        case Formula.POOLED | Formula.FLEISS:
            n = (za * sqrt(under_null) + zb * sqrt(apart)) ** 2 / difference**2
            if formula is Formula.POOLED:
                return n
            return n / 4 * (1 + sqrt(1 + 2 * (1 + ratio) / (n * ratio * difference))) ** 2
        case Formula.UNPOOLED:
            return (za + zb) ** 2 * apart / difference**2
        case Formula.ARCSINE:
            h = 2 * asin(sqrt(p)) - 2 * asin(sqrt(q))
            return (za + zb) ** 2 * (1 + 1 / ratio) / h**2
        case Formula.EVAN_MILLER:
            alone = q * (1 - q) * (1 + 1 / ratio)
            return (za * sqrt(alone) + zb * sqrt(apart)) ** 2 / difference**2


def detectable(
    baseline: float, n: int, *, alpha: float = 0.05, power: float = 0.8, sides: Sides = Sides.TWO
) -> float:
    """Return the smallest rise above `baseline` that `n` users per group find, by the pooled formula."""
    low, high = 1e-9, 1 - baseline - 1e-9
    for _ in range(80):
        middle = (low + high) / 2
        needed = per_group(baseline, baseline + middle, alpha=alpha, power=power, sides=sides)
        low, high = (middle, high) if needed > n else (low, middle)
    return high
