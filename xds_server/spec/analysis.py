"""Analysis settings: metrics, guards and alarms that decide on a candidate, and token prices."""

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
    DurationMin1s,
    LongText,
    Ratio,
    SampleCount,
    Share,
    ShortText,
    SpecModel,
    Threshold,
    text_value,
    value_error,
)

__all__ = ["COMPARED", "Alarm", "Analysis", "AnalysisMetric", "Guards", "Limit", "Price", "read_limit"]

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
"""The built-in metrics on which two backends can be compared."""

_LIMIT: Final = re.compile(r"(<=|>=|<|>)\s*([0-9]+(?:\.[0-9]+)?)(?:\s+for\s+(\S+))?")
_EXPECTED: Final = "expected a comparison with <, <=, > or >=, such as '< 0.95 for 10m' or '> 2000'"


def read_limit(text: str) -> tuple[str, float, float]:
    """Return the operator, the limit and the duration in seconds of a text such as `< 0.95 for 10m`.

    Raises:
        ValueError: The text is not a comparison, or its duration is invalid.
    """
    match = _LIMIT.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    try:
        lasting = units.duration(match[3]).total_seconds() if match[3] else 0.0
    except units.UnitError as error:
        raise ValueError(text) from error
    return match[1], float(match[2]), lasting


def _limit(value: object) -> str:
    text = text_value(value, _EXPECTED)
    try:
        read_limit(text)
    except ValueError:
        raise value_error(f"{text[:40]!r} is not a comparison", _EXPECTED) from None
    return text


Limit = Annotated[str, BeforeValidator(_limit)]


class Price(SpecModel):
    """The price of the tokens of a backend."""

    input_per_million: Amount
    """Price of one million prompt tokens."""

    output_per_million: Amount
    """Price of one million completion tokens."""

    currency: ShortText = "USD"
    """The currency of both prices; the same for all backends of a route."""


class AnalysisMetric(SpecModel):
    """One metric. Without a `threshold` the candidate is compared with the stable backend."""

    name: ShortText
    """A built-in metric such as `success-rate`, or any name for a metric with a `query`."""

    on_regression: Literal["Rollback", "Notify"] = "Rollback"
    """The action when the metric fails: `Rollback` rolls the candidate back, `Notify` only reports the
    failure.
    """

    max_ratio: Ratio | None = None
    """Tolerated ratio of the value of the candidate to that of the stable backend. Depending on the metric,
    the value is the odds of failure, a mean or a quantile. By default 1.
    """

    margin: Ratio | None = None
    """The metric passes when the evidence rules out that the ratio of the two values is this high. Must be
    greater than `maxRatio`. By default 3 times `maxRatio` for rates and 99th percentiles, 1.5 times for
    medians and 1.25 times for means.
    """

    min_samples: SampleCount = 50
    """Minimum number of requests of the candidate before a comparison can pass. A proven fault fails with any
    number. Has no effect with a `threshold`.
    """

    acceptable: Share = 50
    """Failure rate below which the candidate passes without a comparison, because two backends without
    failures offer nothing to compare. Applies to `success-rate` and `valid-json-rate` only.
    """

    threshold: Limit | None = None
    """A condition on the value of the candidate, such as `> 2000` or `< 0.95 for 10m`, instead of a
    comparison with the stable backend. The metric fails when the condition holds, for the given duration if
    there is one. Values of rates are from 0 to 1, and those of times are in milliseconds.
    """

    window: DurationMin1s = timedelta(minutes=1)
    """Time window over which the value of a built-in metric is computed for its `threshold`."""

    failure_limit: Threshold | None = None
    """Number of measurements that may meet the condition of the `threshold`. One more makes the metric fail,
    and the duration in the `threshold` has no effect.
    """

    consecutive_error_limit: Threshold = 4
    """Number of consecutive failures of the `query` that are tolerated. With one more, the verdict is
    `Error`.
    """

    query: LongText | None = None
    """A PromQL query that returns one number, which is compared with the `threshold`. Requires
    `serve --prometheus`.
    """


class Alarm(SpecModel):
    """An external alarm, selected by its labels."""

    source: Literal["alertmanager", "webhook"] = "alertmanager"
    """The endpoint to which the alarm is sent: `POST /v1/alarms/alertmanager` or `POST /v1/alarms/webhook`.
    """

    match: Annotated[dict[str, str], Field(min_length=1, max_length=16)]
    """Labels and their values. The alarm must have all of them."""

    on_firing: Literal["Rollback", "Notify"] = "Rollback"
    """The action when the alarm fires: `Rollback` rolls the candidate back, `Notify` only records it."""


def _guard_action(value: object) -> object:
    """Return `off` for `false`, because many YAML tools read an unquoted `off` as `false`."""
    return "off" if value is False else value


GuardAction = Annotated[Literal["Rollback", "Notify", "off"], BeforeValidator(_guard_action)]


class Guards(SpecModel):
    """Guards: comparisons of each backend that serves users with the stable backend.

    They find gross faults, and are on by default even without `metrics`. The action of each guard is
    `Rollback` (roll the candidate back, or serve the users of a failed variant or target by the stable
    backend), `Notify` (only report the failure) or `off`; `false` is accepted as `off`, because many YAML
    tools read an unquoted `off` as `false`. With `dryRun`, guards only report.
    """

    failed: GuardAction = "Rollback"
    """Failures: 5xx, no response, a response that broke off, or a 200 with an error or without an answer."""

    rejected: GuardAction = "Rollback"
    """Answers with a status from 300 to 499, such as 404 for an unknown model or 429 for a quota."""

    abandoned: GuardAction = "Rollback"
    """Requests whose client disconnected in the middle of an answer."""

    unanswered: GuardAction = "Rollback"
    """Requests whose client received no byte of an answer for 5 seconds, or disconnected before the first
    byte.
    """

    empty: GuardAction = "Rollback"
    """Answers that report at most one completion token."""

    def actions(self) -> dict[str, GuardAction]:
        """Return the action of each guard, by name."""
        return {
            "failed": self.failed,
            "rejected": self.rejected,
            "abandoned": self.abandoned,
            "unanswered": self.unanswered,
            "empty": self.empty,
        }


class Analysis(SpecModel):
    """How the candidate is analyzed.

    With metrics and without `dry_run`, a timed step at which the candidate serves users ends when its
    duration has elapsed and the verdict is that the candidate is not worse. If no such verdict arrives within
    a further `wait_for_verdict`, `on_inconclusive` applies.
    """

    interval: DurationMin1s = timedelta(seconds=10)
    """Length of the time blocks in which requests are counted, at most 10s: blocks are not longer with a
    longer interval. Backends are compared within blocks. A fault that is proven earlier ends a block. Each
    `threshold` is measured, and each `query` run, once per interval.
    """

    initial_delay: Duration = timedelta(0)
    """Time after the candidate's first request during which its requests are not analyzed. The results of
    each `query` are analyzed from the start.
    """

    alpha: Alpha = 0.05
    """Maximum probability that comparisons, including those of guards, roll back a candidate that is not
    worse, over the whole rollout. While the stable backend has no requests, the test for gross failures adds
    up to a quarter of it. Does not cover metrics with a `threshold`.
    """

    on_inconclusive: Literal["Hold", "Rollback", "Promote"] = "Hold"
    """The action when the verdict is still not `Pass` after `waitForVerdict`. `Hold` waits for the verdict or
    an operator, `Rollback` rolls the candidate back, and `Promote` starts the next step.
    """

    wait_for_verdict: Duration = timedelta(hours=1)
    """Maximum time by which a step is extended before `onInconclusive` applies."""

    dry_run: bool = False
    """Report and log the verdicts on the metrics and guards, but take no action on them. Alarms still act."""

    metrics: Annotated[tuple[AnalysisMetric, ...], Field(strict=False, max_length=16)] = ()
    """The metrics to analyze, besides the guards. Without metrics, no step waits for the verdict."""

    guards: Guards = Guards()
    """Guards: comparisons with the stable backend that find gross faults. All guards are on by default."""

    alarms: Annotated[tuple[Alarm, ...], Field(strict=False, max_length=16)] = ()
    """External alarms that can roll the candidate back."""
