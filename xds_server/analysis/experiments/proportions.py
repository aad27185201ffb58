"""Two proportions compared once, at the end: a directed test, an interval and chi-square (pure).

Chi-square has no direction. Whether a table is good or bad for a variant depends on whether the counted event
is good or bad, so no winner is declared before the spec defines that (`Column`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import erfc, sqrt
from statistics import NormalDist
from typing import Final

__all__ = ["Column", "Comparison", "Interval", "chi_square", "compare", "describe_unnamed", "newcombe"]

_NORMAL: Final = NormalDist()


class Column(Enum):
    """Whether the counted event is good or bad."""

    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A treatment compared with its control: shares, difference, interval, z and p.

    `p_value` is that of the named direction (better by more than `margin`), `p_two_sided` that of any
    difference. `better` and `worse` are significant at alpha, each by a one-sided test at alpha / 2.
    """

    treatment: float
    control: float
    difference: float
    relative: float | None
    interval: Interval
    z: float
    p_value: float
    p_two_sided: float
    margin: float
    better: bool
    worse: bool


def compare(
    treatment: tuple[int, int],
    control: tuple[int, int],
    *,
    column: Column,
    alpha: float = 0.05,
    margin: float = 0.0,
    relative_margin: bool = False,
) -> Comparison:
    """Compare (x, n) of two groups; `column` is whether the `x` counted events are good or bad.

    With a `margin` the treatment must be better by more than that: in absolute terms, or relative to the
    control.

    Raises:
        ValueError: A group is empty, or `x` is greater than `n`.
    """
    for x, n in (treatment, control):
        if not 0 <= x <= n or n == 0:
            raise ValueError(f"{x} of {n} is not a valid share: 0 <= x <= n and n > 0 are required")
    p, q = treatment[0] / treatment[1], control[0] / control[1]
    sign = 1 if column is Column.GOOD else -1
    needed = margin * q if relative_margin else margin
    z, any_z = _z(treatment, control, sign * needed), _z(treatment, control, 0.0)
    return Comparison(
        treatment=p,
        control=q,
        difference=p - q,
        relative=(p - q) / q if q else None,
        interval=newcombe(treatment, control, alpha=alpha),
        z=any_z,
        p_value=_upper(sign * z),
        p_two_sided=min(1.0, 2 * _upper(abs(any_z))),
        margin=needed,
        better=_upper(sign * z) < alpha / 2,
        worse=_upper(-sign * any_z) < alpha / 2,
    )


def describe_unnamed(treatment: tuple[int, int], control: tuple[int, int]) -> str:
    """Describe the result under either meaning of a column that is not named."""
    good = compare(treatment, control, column=Column.GOOD)
    if not good.better and not good.worse:
        return "no significant difference, whether the counted event is a success or a failure"
    first, second = ("treatment", "control") if good.better else ("control", "treatment")
    return (
        f"if the counted event is a success, {first} is better; if it is a failure, {second} is better; "
        "set `column` in the spec to Good or Bad to get a winner"
    )


def newcombe(treatment: tuple[int, int], control: tuple[int, int], *, alpha: float = 0.05) -> Interval:
    """Return Newcombe's interval (method 10, from Wilson's) for the difference of two shares."""
    p, q = treatment[0] / treatment[1], control[0] / control[1]
    (l1, u1), (l2, u2) = _wilson(*treatment, alpha), _wilson(*control, alpha)
    return Interval(
        low=p - q - sqrt((p - l1) ** 2 + (u2 - q) ** 2), high=p - q + sqrt((u1 - p) ** 2 + (q - l2) ** 2)
    )


def chi_square(
    treatment: tuple[int, int], control: tuple[int, int], *, yates: bool = False
) -> tuple[float, float] | None:
    """Return chi-square and its p-value; None if a group or a column is empty."""
    (x, n), (y, m) = treatment, control
    table = ((x, n - x), (y, m - y))
    total = n + m
    columns = (x + y, total - x - y)
    if not n or not m or not all(columns):
        return None
    found = 0.0
    for row, size in zip(table, (n, m), strict=True):
        for seen, column in zip(row, columns, strict=True):
            expected = size * column / total
            off = abs(seen - expected)
            found += (off - (min(0.5, off) if yates else 0.0)) ** 2 / expected
    return found, erfc(sqrt(found / 2))


def _z(treatment: tuple[int, int], control: tuple[int, int], margin: float) -> float:
    (x, n), (y, m) = treatment, control
    p, q = x / n, y / m
    if margin:
        variance = p * (1 - p) / n + q * (1 - q) / m
    else:
        pooled = (x + y) / (n + m)
        variance = pooled * (1 - pooled) * (1 / n + 1 / m)
    return (p - q - margin) / sqrt(variance) if variance else 0.0


def _upper(z: float) -> float:
    return erfc(z / sqrt(2)) / 2


def _wilson(x: int, n: int, alpha: float) -> tuple[float, float]:
    z = _NORMAL.inv_cdf(1 - alpha / 2)
    p, z2 = x / n, z * z
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    reach = z / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return middle - reach, middle + reach
