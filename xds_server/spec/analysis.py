"""What a team asks of the evidence before a candidate goes on, and when it is taken back."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field

from xds_server.spec import units
from xds_server.spec.scalars import (
    Alpha,
    Amount,
    Duration,
    Long,
    Part,
    Plain,
    Prose,
    Ratio,
    Samples,
    Share,
    Threshold,
    text_value,
    wrong,
)

__all__ = ["COMPARED", "Alarm", "Analysis", "AnalysisMetric", "Limit", "Price", "read_limit"]

COMPARED: Final = (
    "success-rate",
    "valid-json-rate",
    "ttft-p50",
    "ttft-p99",
    "duration-p50",
    "duration-p99",
    "inter-token",
    "tokens-per-request",
    "cost-per-request",
)
"""The metrics on which two backends can be compared."""

_LIMIT: Final = re.compile(r"(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)(?:\s+for\s+(\S+))?")
_ALLOWED: Final = "a comparison is allowed, such as '< 0.95 for 10m' or '> 2000'"


def read_limit(text: str) -> tuple[str, float, float]:
    """Return comparison, limit and for how many seconds, of a text such as `< 0.95 for 10m`.

    Raises:
        ValueError: It is none.
    """
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    try:
        lasting = units.duration(found[3]).total_seconds() if found[3] else 0.0
    except units.UnitError as error:
        raise ValueError(text) from error
    return found[1], float(found[2]), lasting


def _limit(value: object) -> str:
    text = text_value(value, _ALLOWED)
    try:
        read_limit(text)
    except ValueError:
        raise wrong(f"{text[:40]!r} is not a comparison", _ALLOWED) from None
    return text


Limit = Annotated[str, BeforeValidator(_limit)]


class Price(Part):
    """What a million tokens of a backend cost."""

    input_per_million: Amount
    """Of a million tokens of prompts."""

    output_per_million: Amount
    """Of a million tokens of answers."""

    currency: Plain = "USD"
    """Of both; one for all backends of a route."""


class AnalysisMetric(Part):
    """One metric. Without a `threshold` the candidate is compared with the stable backend."""

    name: Plain
    """One of the metrics that proxies count, or any name with a `query`."""

    on_regression: Literal["Rollback", "Notify"] = "Rollback"
    """`Rollback` takes the candidate back; `Notify` shows it, and takes nobody back."""

    max_ratio: Ratio | None = None
    """By what factor the candidate may be worse: of the odds of failing, of the time, of the tokens or the
    money. Without it 1.
    """

    margin: Ratio | None = None
    """The factor that must be excluded before the candidate goes on. Without it 3 times `maxRatio` for
    shares and 99th percentiles, 1.5 times for medians, 1.25 times for means.
    """

    min_samples: Samples = 50
    """Requests of the candidate before anything is said."""

    acceptable: Share = 50
    """Of failures: so few are good enough without a comparison, for where nothing fails there is none."""

    threshold: Limit | None = None
    """A fixed limit on the candidate's own value instead of a comparison: it is wrong while this holds."""

    window: Long = timedelta(minutes=1)
    """Over what the value of a `threshold` is taken."""

    failure_limit: Threshold | None = None
    """Wrong when the `threshold` was broken more often than that, instead of for so long."""

    consecutive_error_limit: Threshold = 4
    """More failed queries in a row leave no verdict."""

    query: Prose | None = None
    """PromQL that answers with one number, held against `threshold`; needs `serve --prometheus`."""


class Alarm(Part):
    """An alarm from outside: one whose labels are all as in `match`."""

    source: Literal["alertmanager", "webhook"] = "alertmanager"
    """By which door it comes."""

    match: Annotated[dict[str, str], Field(min_length=1, max_length=16)]
    """Labels that all must be there."""

    on_firing: Literal["Rollback", "Notify"] = "Rollback"
    """`Rollback` takes the candidate back, `Notify` writes it down."""


class Analysis(Part):
    """How candidates are judged.

    A timed step that gave users to a candidate ends only with a verdict that it is not worse.
    """

    interval: Long = timedelta(seconds=10)
    """How long a block of counts is; within blocks, arms are compared."""

    initial_delay: Duration = timedelta(0)
    """Nothing is judged so long after the candidate's first request."""

    alpha: Alpha = 0.05
    """The chance to take back a candidate that is no worse, over the whole rollout and all metrics."""

    on_inconclusive: Literal["Hold", "Rollback", "Promote"] = "Hold"
    """When a step is over and nothing is proven: `Hold` waits for an operator."""

    wait_for_verdict: Duration = timedelta(hours=1)
    """How long a step is extended before that."""

    dry_run: bool = False
    """Judge, show and log it, and do nothing."""

    metrics: Annotated[tuple[AnalysisMetric, ...], Field(strict=False, max_length=16)] = ()
    """What is judged; without any nothing is."""

    alarms: Annotated[tuple[Alarm, ...], Field(strict=False, max_length=16)] = ()
    """What others may take it back by."""
