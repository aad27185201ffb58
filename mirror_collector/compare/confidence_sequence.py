"""An interval around a share that holds at all times at once, however often one looks.

The share is that of a coin; the interval holds all coins which the throws so far do not contradict, by a
mixture of all coins with equal weight (Ville's inequality).
"""

from __future__ import annotations

from math import lgamma, log
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["always_valid"]

_STEPS: Final = 40


def always_valid(heads: int, tails: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return the lowest and the highest share of heads that is still possible, wrong with chance `alpha`."""
    n = heads + tails
    if not n:
        return 0.0, 1.0
    mixture = lgamma(1 + heads) + lgamma(1 + tails) - lgamma(2 + n)
    limit = -log(alpha)

    def contradicted(share: float) -> bool:
        likely = heads * log(share) + tails * log(1 - share)
        return mixture - likely >= limit

    middle = min(max(heads / n, 1e-9), 1 - 1e-9)
    return _edge(1e-12, middle, contradicted), _edge(1 - 1e-12, middle, contradicted)


def _edge(outside: float, inside: float, contradicted: Callable[[float], bool]) -> float:
    if not contradicted(outside):
        return float(round(outside))
    for _ in range(_STEPS):
        between = (outside + inside) / 2
        if contradicted(between):
            outside = between
        else:
            inside = between
    return inside
