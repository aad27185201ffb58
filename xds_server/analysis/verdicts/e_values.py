"""Arithmetic on log e-values (pure)."""

from __future__ import annotations

from math import exp, log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["log_mean_exp", "log_sum_exp"]


def log_mean_exp(values: Sequence[float]) -> float:
    """Return the logarithm of the mean of e-values given as logarithms; the mean is an e-value too."""
    return log_sum_exp(values) - log(len(values))


def log_sum_exp(values: Sequence[float]) -> float:
    """Return the logarithm of the sum of numbers given as logarithms."""
    top = max(values)
    return top + log(sum(exp(value - top) for value in values))
