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
    output_per_million: Amount
    currency: Plain = "USD"


class AnalysisMetric(Part):
    """One metric. Without a `threshold` the candidate is compared with the stable backend.

    `max_ratio` is by what factor it may be worse, `margin` the factor that must be excluded before it goes
    on. With a `threshold` its own value is held against a fixed limit, over `window`; with a `query` as well,
    the value is what Prometheus answers.
    """

    name: Plain
    on_regression: Literal["Rollback", "Notify"] = "Rollback"
    max_ratio: Ratio | None = None
    margin: Ratio | None = None
    min_samples: Samples = 50
    acceptable: Share = 50
    threshold: Limit | None = None
    window: Long = timedelta(minutes=1)
    failure_limit: Threshold | None = None
    consecutive_error_limit: Threshold = 4
    query: Prose | None = None


class Alarm(Part):
    """An alarm from outside: one whose labels are all as in `match`."""

    source: Literal["alertmanager", "webhook"] = "alertmanager"
    match: Annotated[dict[str, str], Field(min_length=1, max_length=16)]
    on_firing: Literal["Rollback", "Notify"] = "Rollback"


class Analysis(Part):
    """How candidates are judged.

    A timed step that gave users to a candidate ends only with a verdict that it is not worse; it is extended
    by up to `wait_for_verdict`, and then `on_inconclusive` says what to do. `alpha` is the chance to take
    back a candidate that is no worse, over the whole rollout. `dry_run` judges, and does nothing.
    """

    interval: Long = timedelta(seconds=10)
    initial_delay: Duration = timedelta(0)
    alpha: Alpha = 0.05
    on_inconclusive: Literal["Hold", "Rollback", "Promote"] = "Hold"
    wait_for_verdict: Duration = timedelta(hours=1)
    dry_run: bool = False
    metrics: Annotated[tuple[AnalysisMetric, ...], Field(strict=False, max_length=16)] = ()
    alarms: Annotated[tuple[Alarm, ...], Field(strict=False, max_length=16)] = ()
