"""Fixed limits in the style of alert rules: `success-rate < 0.95 for 10m` (pure).

A fixed limit ignores both chance and the control arm, which is why it is not the default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from xds_server.analysis.counts import Counts, add_counts
from xds_server.analysis.verdicts.freshness import is_stale
from xds_server.analysis.verdicts.metric_state import quantile
from xds_server.analysis.verdicts.metrics import METRICS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.analysis.verdicts.metrics import Price
    from xds_server.analysis.verdicts.policy import Threshold

__all__ = ["Measurement", "ThresholdState", "measure", "metric_value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """The input of one block: counts of the candidate with their price, or a query result.

    It is empty if the query has no result yet; `failed` is whether the query failed.
    """

    counts: Counts | None = None
    price: Price | None = None
    value: float | None = None
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdState:
    """One threshold over time.

    `value_at` is the end of the last block that contained requests for the value, or a query result.
    `breached_since` is when the value started to breach the limit, `measured_at` the end of the newest block
    that was measured. `tripped` stays true once the limit was breached for long enough or often enough;
    `reason` describes how.
    """

    recent: tuple[tuple[float, Counts], ...] = ()
    value: float | None = None
    value_at: float | None = None
    breached_since: float | None = None
    measured_at: float | None = None
    measurements: int = 0
    failures: int = 0
    errors: int = 0
    tripped: bool = False
    reason: str = ""

    def add_block(self, threshold: Threshold, found: Measurement, now: float) -> ThresholdState:
        """Return the state after one more block that ended at `now`."""
        known = self
        if found.counts is not None:
            kept = tuple((at, counts) for at, counts in self.recent if at > now - threshold.window)
            known = replace(self, recent=(*kept, (now, found.counts)))
        if self.measured_at is not None and now - self.measured_at < threshold.every:
            return known
        return replace(known, measured_at=now).measured(threshold, found, now)

    def measured(self, threshold: Threshold, found: Measurement, now: float) -> ThresholdState:
        """Return the state after a measurement at `now` of the counts so far, or of a query result."""
        if found.failed:
            return replace(self, errors=self.errors + 1)
        recent, value = self.recent, found.value
        value_at = self.value_at if value is None else now
        if found.counts is not None and threshold.metric is not None:
            total = recent[0][1]
            for _, counts in recent[1:]:
                total = add_counts(total, counts)
            newest = (at for at, counts in reversed(recent) if _has_value(threshold.metric, counts, found))
            value_at = next(newest, value_at)
            # A wide window contains old requests for a long time; a value counts only while requests are new.
            fresh = not is_stale(value_at, now)
            value = metric_value(threshold.metric, total, found.price) if fresh else None
        after = replace(self, value=value, value_at=value_at, errors=0)
        if value is None:
            # A missing value neither starts nor ends a breach; health checks detect a candidate that does not
            # respond.
            return after
        after = replace(after, measurements=self.measurements + 1)
        if not threshold.comparison.holds(value, threshold.limit):
            return replace(after, breached_since=None)
        since = now if self.breached_since is None else self.breached_since
        failures = self.failures + 1
        breach = f"{threshold.comparison.value} {threshold.limit:g}"
        after = replace(after, breached_since=since, failures=failures)
        if threshold.failure_limit is not None:
            if failures > threshold.failure_limit:
                reason = (
                    f"{breach} in {failures} measurements, more than failureLimit {threshold.failure_limit}"
                )
                return replace(after, tripped=True, reason=reason)
            return after
        if now - since >= threshold.lasting:
            reason = f"{breach} for {now - since:g} s" if threshold.lasting else breach
            return replace(after, tripped=True, reason=reason)
        return after


def _has_value(metric: str, counts: Counts, found: Measurement) -> bool:
    return metric_value(metric, counts, found.price) is not None


def measure(
    threshold: Threshold, counts: Counts, price: Price, query_results: Mapping[str, float | None]
) -> Measurement:
    """Return the measurement of a block for a threshold."""
    if threshold.query is None:
        return Measurement(counts=counts, price=price)
    if threshold.name not in query_results:
        return Measurement()
    value = query_results[threshold.name]
    return Measurement(failed=True) if value is None else Measurement(value=value)


def metric_value(name: str, counts: Counts, price: Price | None) -> float | None:
    """Return a metric in its own unit, such as the share that succeeded; None without requests for it."""
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
