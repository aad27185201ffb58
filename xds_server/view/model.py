"""What people and programs are shown: frozen values, the same for terminal, pages and metrics (pure)."""

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
    """Whether a proxy holds the newest world."""

    SYNCED = "SYNCED"
    STALE = "STALE"
    NACKED = "NACKED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Convergence:
    """How many of a group's connected proxies hold the newest world.

    `detail` names who is missing, and repeats the words of those that refused.
    """

    connected: int
    acked: int
    nacked: int
    version: str
    detail: str

    def reached(self, quorum: int) -> bool:
        """Return whether `quorum` (basis points) of at least one connected proxy hold it."""
        return self.connected > 0 and self.acked * 10_000 >= quorum * self.connected


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyView:
    """One connected proxy; times are seconds since the epoch.

    `reduced` is in what its Envoy falls short of the newest.
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
    """One step of a route's program; weight in percent, duration in seconds."""

    index: int
    kind: str
    weight: float | None
    duration: float | None
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepNow:
    """Where the program stands and what it waits for: convergence, time, operator or nothing."""

    index: int
    kind: str
    began_at: float | None
    ends_at: float | None
    waiting_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """Something that happened to a route, and how it stood then; weights in percent."""

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
    """Who has one backend serve everyone, why, and since when."""

    serve: str
    actor: str
    reason: str
    at: float
    by_spec: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricView:
    """What is known of one metric: both arms, the effect with its bounds, the evidence and what it takes.

    `effect` is an odds ratio or a ratio of means, by `kind`; `low` and `high` hold at every look at once.
    `evidence` is against the candidate and `support` for it, as odds against chance; a rollback needs
    `needed`. `remaining` are the seconds until a verdict at the present pace.
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
class AnalysisView:
    """The verdict on a candidate; in a dry run nothing follows from it."""

    finding: str
    words: str
    dry_run: bool
    metrics: tuple[MetricView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CostView:
    """What a backend's answers took since the control plane started; `cost` is None without a price.

    `estimated_tokens` are those of answers that did not tell: their bytes, at the bytes per token of those
    that did. They are part of the cost, and of no other number. `metered` answers told their tokens,
    `unmetered` ones did not, and `invalid` ones were no JSON though they said so.
    """

    variant: str
    role: str
    requests: int
    failed: int
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
    """All an operator sees of a route; percentages are 0..100.

    `splits` lay out the slots of each split in their order: (variant, how many of 10,000). `shadow_budget`
    has the tokens per second that copies may cost, cost lately and have left, while there is such a limit.
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
    """What an operator may do now."""

    capture_lost: dict[str, int] = field(default_factory=dict)
    """Captured legs and copies that proxies of the group gave up since the control plane started."""

    def __post_init__(self) -> None:
        """Fill the deprecated field."""
        object.__setattr__(self, "likeness", self.equivalence)


def to_json(view: RouteView | ProxyView | EventView | CostView) -> dict[str, Any]:
    """Return the view as plain JSON values."""
    return asdict(
        view, dict_factory=lambda pairs: {k: v.value if isinstance(v, Enum) else v for k, v in pairs}
    )
