"""Fixed limits, as people write them in alert rules: `success-rate < 0.95 for 10m` (pure).

They say nothing about chance and nothing about the other arm; that is why they are not the default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xds_server.analysis.counts import Counts, added
from xds_server.analysis.verdicts.metric_state import quantile
from xds_server.analysis.verdicts.metrics import METRICS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.analysis.verdicts.metrics import Price
    from xds_server.analysis.verdicts.policy import Threshold

__all__ = ["Measured", "Watch", "measured", "value_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a block brought: counts of the candidate, or what a query answered; `failed` where it did not."""

    counts: Counts | None = None
    price: Price | None = None
    value: float | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """One threshold over time. `breached_since` is when the value began to stand on the wrong side."""

    recent: tuple[tuple[float, Counts], ...] = ()
    value: float | None = None
    breached_since: float | None = None
    measurements: int = 0
    failures: int = 0
    errors: int = 0
    tripped: bool = False
    why: str = ""

    def after(self, threshold: Threshold, found: Measured, now: float) -> Watch:
        """Return the watch after one more block that ended at `now`."""
        if found.failed:
            return replace(self, errors=self.errors + 1)
        recent, value = self.recent, found.value
        if found.counts is not None and threshold.metric is not None:
            kept = tuple((at, counts) for at, counts in recent if at > now - threshold.window)
            recent = (*kept, (now, found.counts))
            total = recent[0][1]
            for _, counts in recent[1:]:
                total = added(total, counts)
            value = value_of(threshold.metric, total, found.price)
        after = replace(self, recent=recent, value=value, errors=0)
        if value is None:
            # Silence is no breach, and ends none: whether the candidate answers at all is seen elsewhere.
            return after
        after = replace(after, measurements=self.measurements + 1)
        if not threshold.comparison.holds(value, threshold.limit):
            return replace(after, breached_since=None)
        since = now if self.breached_since is None else self.breached_since
        failures = self.failures + 1
        stands = f"{threshold.comparison.value} {threshold.limit:g}"
        after = replace(after, breached_since=since, failures=failures)
        if threshold.failure_limit is not None:
            if failures > threshold.failure_limit:
                why = f"{stands} {failures} times, more than {threshold.failure_limit}"
                return replace(after, tripped=True, why=why)
            return after
        if now - since >= threshold.lasting:
            return replace(after, tripped=True, why=f"{stands} for {now - since:g} s")
        return after


def measured(
    threshold: Threshold, counts: Counts, price: Price, answers: Mapping[str, float | None]
) -> Measured:
    """Return what a block has for a threshold."""
    if threshold.query is None:
        return Measured(counts=counts, price=price)
    if threshold.name not in answers:
        return Measured()
    value = answers[threshold.name]
    return Measured(failed=True) if value is None else Measured(value=value)


def value_of(name: str, counts: Counts, price: Price | None) -> float | None:
    """Return a metric's value as people know it: a share that is well, milliseconds, tokens, money."""
    metric = METRICS[name]
    match metric.kind:
        case Kind.SHARE:
            x, n = (0, 0) if metric.share is None else metric.share(counts)
            return 1 - x / n if n else None
        case Kind.EXCEEDANCE:
            buckets = () if metric.buckets is None else metric.buckets(counts)
            return quantile(buckets, metric.edges, metric.quantile)
        case Kind.MEAN:
            if name == "tokens-per-request":
                return counts.completion_tokens / counts.metered if counts.metered else None
            found = None if metric.mean is None or price is None else metric.mean(counts, price)
            return None if found is None else found[0]
