"""Whether users were split as they should have been, and what several metrics do to a p-value (pure)."""

from __future__ import annotations

from math import exp, lgamma, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["holm", "mismatch"]

_SHARP = 1_000.0
"""How sure the prior of a mismatch is that shares are near those wanted: some thousand users' worth."""


def mismatch(users: Mapping[str, int], wanted: Mapping[str, float]) -> float:
    """Return the evidence that users were not split as `wanted` (shares of 1), as odds against chance.

    A Dirichlet-multinomial against the multinomial: it may be looked at any number of times, and 1,000 : 1 is
    what calls a test void.

    Raises:
        ValueError: The wanted shares do not name the same variants, or are not all above 0.
    """
    if users.keys() != wanted.keys() or min(wanted.values(), default=0.0) <= 0:
        raise ValueError("every variant needs a share above 0")
    total = sum(users.values())
    scale = sum(wanted.values())
    found = lgamma(_SHARP) - lgamma(_SHARP + total)
    for name, n in users.items():
        share = wanted[name] / scale
        found += lgamma(_SHARP * share + n) - lgamma(_SHARP * share) - n * log(share)
    return exp(min(found, 700.0))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p-values adjusted for how many there are, by Holm's step-down method."""
    found: dict[str, float] = {}
    highest = 0.0
    ordered = sorted(p_values, key=lambda name: p_values[name])
    for place, name in enumerate(ordered):
        highest = max(highest, min(1.0, p_values[name] * (len(ordered) - place)))
        found[name] = highest
    return found
