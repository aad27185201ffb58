"""The sample size of an A/B test that compares two proportions (pure).

The default is the pooled z test, as computed by `samplesize_proportions_2indep_onetail` of statsmodels with
the alternative `two-sided`. The other formulas allow a comparison with other calculators; each answers the
same question with slightly different results.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import asin, ceil, sqrt
from statistics import NormalDist
from typing import Final

__all__ = [
    "FORMULAS",
    "Formula",
    "SampleSizePlan",
    "Sides",
    "minimum_detectable_effect",
    "plan_sample_size",
    "sample_size_per_group",
]

_NORMAL: Final = NormalDist()


class Sides(Enum):
    """Whether a difference in one or in either direction counts."""

    ONE = 1
    TWO = 2


class Formula(Enum):
    """The available formulas; the values are their names on the command line."""

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
"""A description of each formula."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSizePlan:
    """The planned number of users; `split` is the share of the treatment, sizes are rounded up."""

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
        """The number of users of both groups."""
        return self.treatment + self.control

    def days(self, users_per_day: float) -> float:
        """Return the number of days until all users have come, at `users_per_day` new users a day."""
        return self.total / users_per_day


def plan_sample_size(  # noqa: PLR0913 - the parameters of a test plan
    baseline: float,
    target: float,
    *,
    alpha: float = 0.05,
    power: float = 0.8,
    sides: Sides = Sides.TWO,
    split: float = 0.5,
    formula: Formula = Formula.POOLED,
) -> SampleSizePlan:
    """Return the number of users needed to detect `target` instead of `baseline` (both 0..1).

    Raises:
        ValueError: `baseline` and `target` are equal, or a parameter is not between 0 and 1.
    """
    shares = {"baseline": baseline, "target": target, "alpha": alpha, "power": power, "split": split}
    for name, value in shares.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} {value:g} must be greater than 0 and less than 1")
    if baseline == target:
        raise ValueError("baseline and target are equal: there is no difference to detect")
    ratio = (1 - split) / split
    n = sample_size_per_group(
        baseline, target, alpha=alpha, power=power, sides=sides, ratio=ratio, formula=formula
    )
    return SampleSizePlan(
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


def sample_size_per_group(  # noqa: PLR0913 - the parameters of a test plan
    baseline: float,
    target: float,
    *,
    alpha: float,
    power: float,
    sides: Sides,
    ratio: float = 1.0,
    formula: Formula = Formula.POOLED,
) -> float:
    """Return the users of the treatment, not rounded; the control has `ratio` times as many."""
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


def minimum_detectable_effect(
    baseline: float, n: int, *, alpha: float = 0.05, power: float = 0.8, sides: Sides = Sides.TWO
) -> float:
    """Return the smallest increase over `baseline` that `n` users per group detect (pooled formula)."""
    low, high = 1e-9, 1 - baseline - 1e-9
    for _ in range(80):
        middle = (low + high) / 2
        needed = sample_size_per_group(baseline, baseline + middle, alpha=alpha, power=power, sides=sides)
        low, high = (middle, high) if needed > n else (low, middle)
    return high
