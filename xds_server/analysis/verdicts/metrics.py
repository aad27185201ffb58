"""The metrics that a policy can name, and what each reads from the counts of an arm (pure).

To add a metric, see "How do I add …?" in ARCHITECTURE.md; an entry of `METRICS` is one of its steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import log
from typing import TYPE_CHECKING, Final

from xds_server.analysis.counts import DURATION_MS, FIRST_TOKEN_MS, TOKENS, Buckets, Counts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["GUARDS", "METRICS", "Kind", "Metric", "Price", "cost", "mean_log_tokens"]


class Kind(Enum):
    """How the two arms are compared."""

    SHARE = "share"
    """By the odds of failing."""
    EXCEEDANCE = "exceedance"
    """By the odds of taking longer than the control's earlier median or 99th percentile."""
    MEAN = "mean"
    """By the ratio of means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """The price of a million tokens."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One metric with its defaults.

    `max_ratio` is the tolerated ratio of candidate to control, and `margin` the ratio that must be excluded
    before a promotion. `share` returns (failed, total); `buckets`, `edges` and `quantile` define an
    exceedance; `mean` returns (value, weight). A guard fails only while the recent share is at least `least`.
    Before the control has had a request, only an `absolute` guard can fail: one whose share is bad in itself.
    """

    name: str
    kind: Kind
    unit: str
    max_ratio: float
    margin: float
    share: Callable[[Counts], tuple[int, int]] | None = None
    buckets: Callable[[Counts], Buckets] | None = None
    edges: tuple[float, ...] = ()
    quantile: float = 0.0
    mean: Callable[[Counts, Price], tuple[float, int] | None] | None = None
    least: float = 0.0
    absolute: bool = False

    @property
    def by_cell(self) -> bool:
        """Whether proxies count this share by cell of users, too."""
        return self.share in {_failures, _rejections, _abandoned, _unanswered}


def _failures(counts: Counts) -> tuple[int, int]:
    return counts.failed, counts.requests


def _invalid(counts: Counts) -> tuple[int, int]:
    return counts.invalid, counts.metered + counts.unmetered + counts.invalid


def _rejections(counts: Counts) -> tuple[int, int]:
    # Both backends have the same kind of users, so more client errors at one of them are its own fault.
    return counts.rejected + counts.client_errors, counts.requests


def _abandoned(counts: Counts) -> tuple[int, int]:
    return counts.left - counts.left_unanswered, counts.requests + counts.left


def _unanswered(counts: Counts) -> tuple[int, int]:
    # A waiting request has not ended yet. When it ends, it is counted again as one of `requests` or `left`.
    return counts.left_unanswered + counts.waiting, counts.requests + counts.left + counts.waiting


def _one_token(counts: Counts) -> tuple[int, int]:
    # vLLM counts the token that ends an answer, so an empty answer has one.
    return counts.tokens[0], sum(counts.tokens)


def cost(counts: Counts, price: Price) -> float:
    """Return the cost of the metered responses."""
    return (
        counts.prompt_tokens * price.input_per_million + counts.completion_tokens * price.output_per_million
    ) / 1e6


def mean_log_tokens(buckets: Buckets) -> tuple[float, int] | None:
    """Return the mean logarithm of the tokens per response and the number of responses; None without any."""
    n = sum(buckets)
    return (sum(c * v for c, v in zip(buckets, _TOKEN_LOGS, strict=True)) / n, n) if n else None


def _middles(edges: tuple[float, ...]) -> tuple[float, ...]:
    lows = (edges[0] / 2, *edges)
    highs = (*edges, edges[-1] * 2)
    return tuple((log(low) + log(high)) / 2 for low, high in zip(lows, highs, strict=True))


_TOKEN_LOGS: Final = _middles(TOKENS)


def _tokens(counts: Counts, _price: Price) -> tuple[float, int] | None:
    return mean_log_tokens(counts.tokens)


def _cost(counts: Counts, price: Price) -> tuple[float, int] | None:
    return (cost(counts, price) / counts.metered, counts.metered) if counts.metered else None


def _inter_token(counts: Counts, _price: Price) -> tuple[float, int] | None:
    n = counts.streamed_tokens
    return (counts.stream_ms / n, counts.metered) if n else None


def _latency(
    name: str, buckets: Callable[[Counts], Buckets], edges: tuple[float, ...]
) -> tuple[Metric, Metric]:
    """Return the metrics of a median and a 99th percentile."""
    common = {"kind": Kind.EXCEEDANCE, "unit": "ms", "max_ratio": 1.0, "buckets": buckets, "edges": edges}
    return (
        Metric(name=f"{name}-p50", quantile=0.5, margin=1.5, **common),  # type: ignore[arg-type]
        Metric(name=f"{name}-p99", quantile=0.99, margin=3.0, **common),  # type: ignore[arg-type]
    )


def _guard(
    name: str,
    unit: str,
    least: float,
    share: Callable[[Counts], tuple[int, int]],
    *,
    absolute: bool = False,
) -> Metric:
    # Guards only have to find gross faults, so they tolerate twice the odds.
    return Metric(
        name=name,
        kind=Kind.SHARE,
        unit=unit,
        max_ratio=2.0,
        margin=3.0,
        share=share,
        least=least,
        absolute=absolute,
    )


_GUARDS: Final = (
    _guard("failed", "of requests", 0.02, _failures, absolute=True),
    _guard("rejected", "of requests", 0.1, _rejections),
    _guard("abandoned", "of requests", 0.1, _abandoned),
    _guard("unanswered", "of requests", 0.05, _unanswered, absolute=True),
    _guard("empty", "of answers with token usage", 0.1, _one_token),
)
GUARDS: Final = tuple(guard.name for guard in _GUARDS)
"""The names of the guards: metrics that are compared without being named in the spec."""

METRICS: Final = {
    metric.name: metric
    for metric in (
        *_GUARDS,
        Metric(
            name="success-rate",
            kind=Kind.SHARE,
            unit="of requests",
            max_ratio=1.0,
            margin=3.0,
            share=_failures,
        ),
        Metric(
            name="valid-json-rate",
            kind=Kind.SHARE,
            unit="of answers",
            max_ratio=1.0,
            margin=3.0,
            share=_invalid,
        ),
        *_latency("ttft", lambda counts: counts.first_token_ms, FIRST_TOKEN_MS),
        *_latency("duration", lambda counts: counts.duration_ms, DURATION_MS),
        Metric(name="inter-token", kind=Kind.MEAN, unit="ms", max_ratio=1.0, margin=1.25, mean=_inter_token),
        Metric(
            name="tokens-per-request", kind=Kind.MEAN, unit="tokens", max_ratio=1.0, margin=1.25, mean=_tokens
        ),
        Metric(name="cost-per-request", kind=Kind.MEAN, unit="", max_ratio=1.0, margin=1.25, mean=_cost),
    )
}
"""Metrics by name. Means of tokens are geometric, those of cost and time between tokens arithmetic."""
