"""What a team asks of the evidence: which metrics decide, how sure to be, what follows (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from xds_server.analysis.verdicts.metrics import METRICS, Metric, Price

__all__ = ["ACCEPTABLE", "ALPHA", "Comparison", "Guardrail", "Policy", "RegressionAction", "Threshold"]

ALPHA: Final = 0.05
ACCEPTABLE: Final = 0.005


class RegressionAction(Enum):
    """What a proven regression leads to."""

    ROLLBACK = "Rollback"
    NOTIFY = "Notify"


class Comparison(Enum):
    """How a value is held against a fixed limit."""

    LESS = "<"
    AT_MOST = "<="
    GREATER = ">"
    AT_LEAST = ">="

    def holds(self, value: float, limit: float) -> bool:
        """Return whether `value` stands like this to `limit`."""
        match self:
            case Comparison.LESS:
                return value < limit
            case Comparison.AT_MOST:
                return value <= limit
            case Comparison.GREATER:
                return value > limit
            case Comparison.AT_LEAST:
                return value >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Guardrail:
    """A metric on which the candidate is compared with the stable backend.

    Worse by more than `max_ratio` is a regression; `margin` is what must be excluded before a promotion. A
    share of failures of at most `acceptable` needs no comparison: where nothing fails, there is none. Nothing
    is said with fewer than `min_samples` requests of the candidate.
    """

    metric: str
    action: RegressionAction = RegressionAction.ROLLBACK
    max_ratio: float
    margin: float
    min_samples: int = 50
    acceptable: float = ACCEPTABLE

    @property
    def definition(self) -> Metric:
        """How the metric is read."""
        return METRICS[self.metric]

    @classmethod
    def of(
        cls, metric: str, *, action: RegressionAction = RegressionAction.ROLLBACK, min_samples: int = 50
    ) -> Guardrail:
        """Return a guardrail with what is usual for its metric."""
        known = METRICS[metric]
        return cls(
            metric=metric,
            action=action,
            max_ratio=known.max_ratio,
            margin=known.margin,
            min_samples=min_samples,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A fixed limit on the candidate's own value over `window` seconds, or on what a query answers.

    It is a regression when the value stood like this to the limit for `lasting` seconds without a break, or
    more often than `failure_limit` times. A query that failed more than `error_limit` times in a row leaves
    no verdict.
    """

    name: str
    metric: str | None
    query: str | None = None
    comparison: Comparison
    limit: float
    window: float = 60.0
    lasting: float = 0.0
    failure_limit: int | None = None
    error_limit: int = 4
    action: RegressionAction = RegressionAction.ROLLBACK


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All that decides about one candidate.

    `alpha` is the chance to take back a candidate that is no worse, over the whole rollout however often it
    is looked at; it is split over the guardrails that roll back. Nothing is judged in the first
    `initial_delay` seconds after the candidate got its first users: a cold cache is no regression.
    """

    guardrails: tuple[Guardrail, ...]
    thresholds: tuple[Threshold, ...] = ()
    alpha: float = ALPHA
    initial_delay: float = 0.0
    dry_run: bool = False
    prices: dict[str, Price] = field(default_factory=dict)

    @property
    def deciding(self) -> tuple[Guardrail, ...]:
        """The guardrails that roll back."""
        return tuple(g for g in self.guardrails if g.action is RegressionAction.ROLLBACK)

    @property
    def share(self) -> float:
        """The part of `alpha` each guardrail may spend."""
        return self.alpha / max(1, len(self.deciding))
