"""The read models of routes, proxies and events (pure)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Annotated, Any

from pydantic import Field

__all__ = [
    "AnalysisView",
    "Convergence",
    "CostView",
    "EventView",
    "GuardView",
    "KillView",
    "MetricView",
    "ProxyStatus",
    "ProxyView",
    "RouteView",
    "StepNow",
    "StepView",
    "to_json",
]

_DeprecatedObject = Annotated[dict[str, Any] | None, Field(deprecated=True)]


class ProxyStatus(Enum):
    """Whether a proxy has the newest version, lags behind, or rejected it."""

    SYNCED = "SYNCED"
    STALE = "STALE"
    NACKED = "NACKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convergence:
    """How many of a group's connected proxies are synced with the newest version.

    `detail` names the proxies that are not synced, and repeats the errors of NACKs.
    """

    connected: int
    acked: int
    nacked: int
    version: str
    detail: str

    def reached(self, quorum: int) -> bool:
        """Return whether the synced share is at least `quorum` (basis points); False without proxies."""
        return self.connected > 0 and self.acked * 10_000 >= quorum * self.connected


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyView:
    """One connected proxy; times are seconds since the epoch.

    `reduced` lists the features that its Envoy version lacks.
    """

    id: str
    group: str
    mode: str
    status: ProxyStatus
    version: str
    envoy_version: str
    address: str
    connected_since: float
    last_seen: float
    detail: str
    reduced: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step of a rollout; weight in percent, duration in seconds."""

    index: int
    kind: str
    weight: float | None
    duration: float | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNow:
    """The current step and what it waits for, such as convergence, health, time or an operator."""

    index: int
    kind: str
    began_at: float | None
    ends_at: float | None
    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """An event in the history of a route, with its state at that time; weights in percent."""

    seq: int
    at: float
    kind: str
    actor: str
    message: str
    phase: str | None = None
    generation: int | None = None
    revision: int | None = None
    weights: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class KillView:
    """A kill: the backend that serves all users, the actor, the reason and the time."""

    serve: str
    actor: str
    reason: str
    at: float
    by_spec: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """The verdict on one metric: candidate and control, the effect with its bounds, and the evidence.

    `effect` is an odds ratio or a ratio of means, depending on `kind`; `low` and `high` are its confidence
    bounds, which stay valid although they are computed after every interval (anytime-valid). `evidence` is
    against the candidate and `support` for it, as odds against chance; a rollback requires `evidence` of at
    least `needed`. `remaining` is the estimated number of seconds until a verdict at the present rate.
    """

    name: str
    kind: str
    finding: str
    action: str
    words: str
    unit: str
    candidate: dict[str, float | None]
    control: dict[str, float | None]
    effect: float | None
    low: float | None
    high: float | None
    evidence: float
    support: float
    needed: float
    max_ratio: float
    margin: float
    dispersion: float
    remaining: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardView:
    """The result of one guard for one backend, the candidate, which it compares with the stable backend.

    `action` is `Rollback`, `Notify` or `off`, or `replaced` for the guard of failures if the metric
    `success-rate` rolls back. `variant` is the candidate, None for guards that are off or replaced: they
    compare no backend. `candidate` and `control` contain the numbers of both: `x` of `n` (in `unit`), and
    the share `value`. A guard affects a rollout only if its `finding` is `Fail`. A guard fails when
    `evidence`, as odds against chance, reaches `needed`, and the candidate's recent share is at least
    `least`.
    """

    name: str
    variant: str | None
    action: str
    finding: str | None = None
    words: str = ""
    unit: str = ""
    candidate: dict[str, float | None] | None = None
    control: dict[str, float | None] | None = None
    evidence: float = 0.0
    needed: float = 0.0
    least: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisView:
    """The verdict on a candidate, and the results of guards; in a dry run they have no consequences.

    Without `metrics`, only guards are analyzed. The finding is then `Fail` if a guard fails, and `NoData` or
    `Inconclusive` otherwise, never `Pass`: a guard only detects faults.
    """

    finding: str
    words: str
    dry_run: bool
    metrics: tuple[MetricView, ...]
    guards: tuple[GuardView, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CostView:
    """The usage of a backend since the control plane started; `cost` is None without a price.

    `left` is the number of abandoned requests, whose client disconnected before the answer ended;
    `left_unanswered` of them had no byte of an answer and were abandoned within five seconds. `requests` is
    the number of all other requests that ended: the sum of `success`, `failed`, `rejected` and
    `client_errors`. `failures` are the failed requests whose status was below 400, by kind; `invalid` repeats
    the number of the kind `invalid`. `unread` are the successful answers that were not read, by reason, and
    `coverage` is the share of all successful answers that was read, in [0, 1], None if there are none.
    `retried` requests needed more than one attempt, and `waiting` requests had no byte of an answer after
    five seconds.

    `metered` is the number of answers that reported their tokens, `unmetered` of those that did not.
    `estimated_tokens` are the tokens of streams that reported none, estimated from their size and the bytes
    per token of this backend's other streams. Only `cost` and `per_request` include estimated tokens.
    """

    variant: str
    role: str
    requests: int
    success: int
    failed: int
    rejected: int
    client_errors: int
    left: int
    left_unanswered: int
    retried: int
    waiting: int
    failures: dict[str, int]
    unread: dict[str, int]
    coverage: float | None
    prompt_tokens: int
    completion_tokens: int
    estimated_tokens: int
    metered: int
    unmetered: int
    invalid: int
    cost: float | None
    per_request: float | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteView:
    """A route as operators see it; percentages are 0..100.

    `splits` lists the slots of each split in order: (variant, number of its slots of 10,000).
    `shadow_budget` contains the limit of the token rate of mirrored requests, the recent rate (`spent`) and
    the difference (`left`), in tokens per second. It is None outside a shadow step, and without a limit.
    """

    name: str
    labels: dict[str, str]
    group: str
    generation: int
    revision: int
    phase: str
    outcome: str | None
    message: str
    strategy: str
    stable: str
    candidate: str | None
    weights: dict[str, float]
    mirror_percent: float
    kill: KillView | None
    dead: tuple[str, ...]
    warm_until: float | None
    splits: dict[str, tuple[tuple[str, int], ...]]
    steps: tuple[StepView, ...]
    step: StepNow | None
    convergence: Convergence
    pairs: dict[str, Any] | None
    events: tuple[EventView, ...]
    analysis: AnalysisView | None = None
    costs: tuple[CostView, ...] = ()
    experiment: dict[str, Any] | None = None
    shadow_budget: dict[str, float | None] | None = None
    equivalence: dict[str, Any] | None = None
    likeness: _DeprecatedObject = None
    """The deprecated name of `equivalence`, with the same content."""

    actions: tuple[str, ...] = ()
    """The commands that are allowed now."""

    withdrawn: tuple[str, ...] = ()
    """The backends that failed in this rollout.

    The stable backend serves the users that targets, rules, experiments and the preview assign to them.
    """

    unguarded: tuple[str, ...] = ()
    """What guards do not cover, because of the versions of connected proxies or the server's settings."""

    capture_lost: dict[str, int] = field(default_factory=dict)
    """Losses of capture in the group's proxies since this process started, by reason.

    `log_entries_dropped` counts recordings that were not sent to the collector, `copies_cut_off` mirrored
    requests that were not sent, and `collector_unreachable` failed connections to the collector.
    """

    def __post_init__(self) -> None:
        """Fill the deprecated field."""
        object.__setattr__(self, "likeness", self.equivalence)


def to_json(view: RouteView | ProxyView | EventView | CostView) -> dict[str, Any]:
    """Return the view as plain JSON values."""
    return asdict(
        view, dict_factory=lambda pairs: {k: v.value if isinstance(v, Enum) else v for k, v in pairs}
    )
