"""A confidence sequence for a probability: intervals that are valid at all sample sizes at once.

Reading the interval repeatedly while data arrives does not invalidate it. The interval contains all
probabilities that the observations do not exclude under a uniform mixture of all probabilities (Ville's
inequality).
"""

from __future__ import annotations

from math import lgamma, log
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["confidence_sequence"]

_STEPS: Final = 40


def confidence_sequence(successes: int, failures: int, alpha: float = 0.05) -> tuple[float, float]:
    """Return the lower and upper bound of the success probability, at error probability `alpha`."""
    n = successes + failures
    if not n:
        return 0.0, 1.0
    mixture = lgamma(1 + successes) + lgamma(1 + failures) - lgamma(2 + n)
    limit = -log(alpha)

    def excluded(probability: float) -> bool:
        log_likelihood = successes * log(probability) + failures * log(1 - probability)
        return mixture - log_likelihood >= limit

    estimate = min(max(successes / n, 1e-9), 1 - 1e-9)
    return _bound(1e-12, estimate, excluded), _bound(1 - 1e-12, estimate, excluded)


def _bound(outer: float, inner: float, excluded: Callable[[float], bool]) -> float:
    """Find the bound between `inner`, which is not excluded, and `outer` by bisection."""
    if not excluded(outer):
        return float(round(outer))
    for _ in range(_STEPS):
        middle = (outer + inner) / 2
        if excluded(middle):
            outer = middle
        else:
            inner = middle
    return inner
