"""Sample ratio mismatch, and the correction of p-values for several metrics (pure)."""

from __future__ import annotations

from math import exp, lgamma, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["holm", "sample_ratio_mismatch"]

_SHARP = 1_000.0
"""Concentration of the prior around the intended shares, equivalent to a thousand users."""


def sample_ratio_mismatch(users: Mapping[str, int], expected: Mapping[str, float]) -> float:
    """Return the evidence that users were not split as `expected` (relative shares), as odds against chance.

    The odds are the likelihood ratio of a Dirichlet-multinomial to the multinomial, and stay valid however
    often they are checked. A test is void at 1,000 : 1.

    Raises:
        ValueError: The expected shares do not name the same variants, or are not all above 0.
    """
    if users.keys() != expected.keys() or min(expected.values(), default=0.0) <= 0:
        raise ValueError(
            "users and expected must name the same variants, each with an expected share above 0"
        )
    total = sum(users.values())
    scale = sum(expected.values())
    found = lgamma(_SHARP) - lgamma(_SHARP + total)
    for name, n in users.items():
        share = expected[name] / scale
        found += lgamma(_SHARP * share + n) - lgamma(_SHARP * share) - n * log(share)
    return exp(min(found, 700.0))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for their number, by Holm's step-down method."""
    found: dict[str, float] = {}
    highest = 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for place, name in enumerate(ordered):
        highest = max(highest, min(1.0, p_values[name] * (len(ordered) - place)))
        found[name] = highest
    return found
