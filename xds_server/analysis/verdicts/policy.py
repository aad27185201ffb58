"""The analysis policy of a route: which metrics decide, at what error rate, and what follows (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from xds_server.analysis.verdicts.metrics import METRICS, Metric, Price

__all__ = [
    "ACCEPTABLE",
    "ALPHA",
    "ComparisonOperator",
    "Guardrail",
    "Policy",
    "RegressionAction",
    "Threshold",
]

ALPHA: Final = 0.05
ACCEPTABLE: Final = 0.005
_ALPHA_OF_GUARDS: Final = 0.2
"""The part of alpha of all guards together."""


class RegressionAction(Enum):
    """What a proven regression causes."""

    ROLLBACK = "Rollback"
    NOTIFY = "Notify"


class ComparisonOperator(Enum):
    """A comparison of a value with a fixed limit."""

    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="

    def holds(self, value: float, limit: float) -> bool:
        """Return whether `value` compares to `limit` in this way."""
        match self:
            case ComparisonOperator.LESS:
                return value < limit
            case ComparisonOperator.AT_MOST:
                return value <= limit
            case ComparisonOperator.GREATER:
                return value > limit
            case ComparisonOperator.AT_LEAST:
                return value >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A metric on which the candidate is compared with the stable backend.

    Worse by more than `max_ratio` is a regression; `margin` must be excluded before a promotion. A share of
    failures proven to be below `acceptable` passes without a comparison, since arms without failures cannot
    be compared.
    With fewer than `min_samples` requests of the candidate it does not pass. The evidence of a fault is valid
    with any number; `least_to_fail` requests are needed where one client may cause all of them.
    """

    metric: str
    action: RegressionAction = RegressionAction.ROLLBACK
    max_ratio: float
    margin: float
    min_samples: int = 50
    least_to_fail: int = 0
    acceptable: float = ACCEPTABLE

    @property
    def definition(self) -> Metric:
        """The definition of the metric."""
        return METRICS[self.metric]

    @classmethod
    def of(
        cls, metric: str, *, action: RegressionAction = RegressionAction.ROLLBACK, min_samples: int = 50
    ) -> Guardrail:
        """Return a guardrail with the defaults of its metric."""
        defaults = METRICS[metric]
        return cls(
            metric=metric,
            action=action,
            max_ratio=defaults.max_ratio,
            margin=defaults.margin,
            min_samples=min_samples,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A fixed limit on the candidate's value over `window` seconds, or on the result of a query.

    The candidate fails if the comparison holds for `lasting` seconds without interruption or, with a
    `failure_limit`, in more than that many measurements. It is measured at the end of a block, at most once
    in `every` seconds. If a query fails more than `error_limit` times in a
    row, the finding is Error.
    """

    name: str
    metric: str | None
    query: str | None = None
    comparison: ComparisonOperator
    limit: float
    window: float = 60.0
    every: float = 0.0
    lasting: float = 0.0
    failure_limit: int | None = None
    error_limit: int = 4
    action: RegressionAction = RegressionAction.ROLLBACK

    @property
    def failure_condition(self) -> str:
        """The condition under which the candidate fails, such as `< 0.95 for 600 s`."""
        breach = f"{self.comparison.value} {self.limit:g}"
        if self.failure_limit is not None:
            return f"{breach} in more than {self.failure_limit} measurements"
        return f"{breach} for {self.lasting:g} s" if self.lasting else breach


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All parameters of the analysis of one candidate.

    `alpha` is the largest probability of rolling back a candidate that is no worse, over the whole rollout
    however often it is checked. The `guards` use a fifth of it, in equal parts; the rest is split over the
    guardrails that roll back. Without such guardrails, the guards use all of it. The candidate's requests in
    the first `initial_delay` seconds after its first one are ignored, since a cold cache is no regression.
    """

    guardrails: tuple[Guardrail, ...]
    thresholds: tuple[Threshold, ...] = ()
    alpha: float = ALPHA
    initial_delay: float = 0.0
    dry_run: bool = False
    prices: dict[str, Price] = field(default_factory=dict)
    guards: tuple[Guardrail, ...] = ()

    @property
    def rollback_guardrails(self) -> tuple[Guardrail, ...]:
        """The guardrails that can roll the candidate back."""
        return tuple(g for g in self.guardrails if g.action is RegressionAction.ROLLBACK)

    @property
    def alpha_per_guardrail(self) -> float:
        """The part of `alpha` that each guardrail may use."""
        left = 1 - _ALPHA_OF_GUARDS if self.guards else 1.0
        return self.alpha * left / max(1, len(self.rollback_guardrails))

    @property
    def alpha_per_guard(self) -> float:
        """The part of `alpha` that each guard may use."""
        part = _ALPHA_OF_GUARDS if self.rollback_guardrails else 1.0
        return self.alpha * part / max(1, len(self.guards))
