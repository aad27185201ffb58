"""A route the engine runs, and the values it exchanges with the machine, the store and the views (pure)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from xds_server import rollout
from xds_server.health import BackendCheck, Target
from xds_server.spec import digest
from xds_server.view import Convergence, EventView

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xds_server.alarms import Alert
    from xds_server.analysis.verdicts import EquivalenceResult
    from xds_server.spec import Alarm, Backend, Document, ModelRoute, Problem, RouteSpec
    from xds_server.store import StoredEvent

__all__ = [
    "EVENTS_KEPT",
    "Action",
    "AppliedRoute",
    "ApplyResult",
    "LiveRoute",
    "SpecPrecondition",
    "alarm_event",
    "allowed",
    "asked_for",
    "event_of",
    "event_view",
    "experiment_of",
    "heard",
    "learned",
    "shadow_budget",
    "watched",
]

EVENTS_KEPT: Final = 20


class Action(Enum):
    """What an operator may tell a route."""

    PROMOTE = "promote"
    PROMOTE_FULL = "promote-full"
    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"
    UNDO = "undo"
    RETRY = "retry"
    KILL = "kill"
    UNKILL = "unkill"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRoute:
    """What became of one route: created, updated or unchanged."""

    name: str
    action: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyResult:
    """What became of one file."""

    routes: tuple[AppliedRoute, ...]
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecPrecondition:
    """The one route a file may be about, and the tag its spec must have; `*` for any, None for no matter."""

    name: str
    tag: str | None = None


@dataclass(slots=True, kw_only=True)
class LiveRoute:
    """A route the engine runs. `seq` is the store's number of its last event."""

    document: Document
    state: rollout.State
    seq: int | None
    events: deque[EventView] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    _allowed: tuple[rollout.State, tuple[str, ...]] | None = None

    def allowed(self, now: float) -> tuple[str, ...]:
        """Return what an operator may tell it.

        Trying every action takes as long as all else that is said of a route; once per state is enough, for
        no action is allowed by time alone.
        """
        if self._allowed is None or self._allowed[0] is not self.state:
            self._allowed = self.state, allowed(self.state, now)
        return self._allowed[1]

    @property
    def route(self) -> ModelRoute:
        """Its spec."""
        return self.document.route

    @property
    def name(self) -> str:
        """Its name."""
        return self.document.route.metadata.name

    @property
    def labels(self) -> dict[str, str]:
        """Its labels: whoever may touch it may by these."""
        return self.document.route.metadata.labels

    @property
    def tag(self) -> str:
        """What changes whenever its spec does."""
        return f"{self.state.generation}-{digest(self.route)[:12]}"

    @property
    def group(self) -> str:
        """The proxies that serve it."""
        return self.document.route.spec.proxies.group


def event_of(action: Action, *, actor: str, reason: str) -> rollout.Command:
    """Return what the machine hears of an operator's command."""
    return rollout.Command(command=rollout.Action(action.value), actor=actor, reason=reason)


def allowed(state: rollout.State, now: float) -> tuple[str, ...]:
    """Return the actions that would change something now."""
    found = []
    for action in Action:
        try:
            after, _ = rollout.step(state, event_of(action, actor="somebody", reason="to see"), now)
        except rollout.CommandNotAllowedError:
            continue
        if after != state:
            found.append(action.value)
    return tuple(found)


def asked_for(spec: RouteSpec, alert: Alert) -> Alarm | None:
    """Return the first alarm a spec asks for that this alert is one of."""
    return next(
        (
            alarm
            for alarm in spec.analysis.alarms
            if alarm.source == alert.source and alert.matches(alarm.match)
        ),
        None,
    )


def experiment_of(route: ModelRoute) -> str:
    """Return by which name proxies tell exposures of a route's A/B test."""
    strategy = route.spec.strategy
    test = None if strategy is None else strategy.ab_test
    return (None if test is None else test.salt) or route.metadata.name


def alarm_event(alert: Alert, *, rollback: bool) -> rollout.Alarm:
    """Return what the machine hears of an alert."""
    labels = dict(alert.labels)
    name = labels.get("alertname", alert.source)
    words = alert.message or ", ".join(f"{key}={value}" for key, value in alert.labels)
    return rollout.Alarm(name=name, detail=words, rollback=rollback)


def heard(state: rollout.State, convergence: Convergence, *, reached: bool) -> rollout.Event:
    """Return what the machine hears of its proxies."""
    if reached:
        return rollout.Converged(
            revision=state.revision, acked=convergence.acked, connected=convergence.connected
        )
    detail = convergence.detail or "no proxy of this group is connected"
    return rollout.NotConverged(revision=state.revision, refused=convergence.nacked > 0, detail=detail)


def shadow_budget(state: rollout.State, summary: dict[str, Any] | None) -> dict[str, float | None] | None:
    """Return what copies may cost, cost lately, and have left, in tokens per second; None without a limit."""
    step = state.current
    if not isinstance(step, rollout.Shadow) or step.tokens_per_second is None:
        return None
    spent = None if summary is None else summary.get("shadow_tokens_per_second")
    left = None if spent is None else max(0.0, step.tokens_per_second - spent)
    return {"limit": float(step.tokens_per_second), "spent": spent, "left": left}


def learned(
    state: rollout.State, summary: dict[str, Any] | None, resemblance: EquivalenceResult | None
) -> list[rollout.Event]:
    """Return what the machine should hear of a shadow's pairs and costs, if it would change anything."""
    step = state.current
    if not isinstance(step, rollout.Shadow) or state.kill is not None or summary is None:
        return []
    found: list[rollout.Event] = []
    pairs, rate = summary.get("pairs"), summary.get("shadow_tokens_per_second")
    if isinstance(pairs, int):
        verdict = "" if resemblance is None else resemblance.equivalence.value
        before = state.pairs_before
        counts = before is None or pairs < before or pairs - before >= (step.min_pairs or 0)
        owed = step.min_pairs is not None and not state.proven and counts
        if owed or (verdict and verdict != state.equivalence):
            words = "" if resemblance is None else resemblance.message
            found.append(rollout.Evidence(pairs=pairs, equivalence=verdict, detail=words))
    if step.tokens_per_second is not None and isinstance(rate, int | float):
        found.append(rollout.ShadowTokenRate(tokens_per_second=float(rate)))
    return found


def watched(lives: Iterable[LiveRoute]) -> Iterator[BackendCheck]:
    """Yield the backends whose health decides over users."""
    for live in lives:
        backends = {backend.name: backend for backend in live.route.spec.backends}
        stable = _target(backends[live.route.spec.stable])
        for name in live.state.program.checked:
            check = backends[name].health_check
            yield BackendCheck(
                route=live.name,
                backend=name,
                target=_target(backends[name]),
                control=stable,
                path=check.path,
                interval=check.interval.total_seconds(),
                timeout=check.timeout.total_seconds(),
                threshold=check.unhealthy_threshold,
            )


def _target(backend: Backend) -> Target:
    found = backend.endpoints if backend.dns is None else (backend.dns,)
    return Target(
        endpoints=tuple((endpoint.host, endpoint.port) for endpoint in found or ()),
        dns=backend.dns is not None,
    )


def event_view(event: StoredEvent) -> EventView:
    """Return a line of history as people see it."""
    return EventView(
        seq=event.seq,
        at=event.at,
        kind=event.what,
        actor=event.actor,
        message=event.message,
        phase=event.phase,
        generation=event.generation,
        revision=event.revision,
        weights={variant: share / 100 for variant, share in event.weights},
    )
