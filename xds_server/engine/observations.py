"""What proxies, collectors, alarms and health checks report, as events of a rollout (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server import rollout
from xds_server.health import BackendCheck, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from xds_server.alarms import Alert
    from xds_server.analysis.verdicts import EquivalenceResult, PairSummary
    from xds_server.engine.routes import LiveRoute
    from xds_server.spec import Alarm, Backend, ModelRoute, RouteSpec
    from xds_server.view import Convergence

__all__ = [
    "alarm_event",
    "convergence_event",
    "experiment_name",
    "matching_alarm",
    "shadow_budget",
    "shadow_events",
    "watched_backends",
]


def convergence_event(state: rollout.State, convergence: Convergence, *, reached: bool) -> rollout.Event:
    """Return the event for the convergence of a route's group; `reached` is whether the quorum is synced."""
    if reached:
        return rollout.Converged(
            revision=state.revision, acked=convergence.acked, connected=convergence.connected
        )
    detail = convergence.detail or (
        f"{convergence.acked} of {convergence.connected} proxies have the newest version"
        if convergence.connected
        else "no proxy of the route's group is connected"
    )
    return rollout.NotConverged(revision=state.revision, refused=convergence.nacked > 0, detail=detail)


def shadow_events(
    state: rollout.State, summary: PairSummary | None, equivalence: EquivalenceResult | None
) -> list[rollout.Event]:
    """Return the events for a shadow's token rate, and for its pairs if they would change something."""
    step = state.current
    if not isinstance(step, rollout.Shadow) or state.kill is not None or summary is None:
        return []
    events: list[rollout.Event] = []
    # Pairs that could not be read are no evidence, so they do not count towards `minPairs`.
    pairs = summary.pairs if summary.read is None else summary.read
    rate = summary.shadow_tokens_per_second
    if pairs is not None:
        verdict = "" if equivalence is None else equivalence.equivalence.value
        before = state.pairs_before
        enough = before is None or pairs < before or pairs - before >= (step.min_pairs or 0)
        needed = step.min_pairs is not None and not state.proven and enough
        if needed or (verdict and verdict != state.equivalence):
            detail = "" if equivalence is None else equivalence.message
            blind = equivalence is not None and equivalence.blind
            events.append(rollout.Evidence(pairs=pairs, equivalence=verdict, detail=detail, blind=blind))
    if step.tokens_per_second is not None and rate is not None:
        events.append(rollout.ShadowTokenRate(tokens_per_second=rate))
    return events


def shadow_budget(state: rollout.State, summary: PairSummary | None) -> dict[str, float | None] | None:
    """Return a shadow's limit, spent and left tokens per second; None outside a shadow or without a limit."""
    step = state.current
    if not isinstance(step, rollout.Shadow) or step.tokens_per_second is None:
        return None
    spent = None if summary is None else summary.shadow_tokens_per_second
    left = None if spent is None else max(0.0, step.tokens_per_second - spent)
    return {"limit": float(step.tokens_per_second), "spent": spent, "left": left}


def matching_alarm(spec: RouteSpec, alert: Alert) -> Alarm | None:
    """Return the first alarm of a spec that an alert matches; None if there is none."""
    return next(
        (
            alarm
            for alarm in spec.analysis.alarms
            if alarm.source == alert.source and alert.matches(alarm.match)
        ),
        None,
    )


def alarm_event(alert: Alert, *, rollback: bool) -> rollout.Alarm:
    """Return the event for a firing alert."""
    labels = dict(alert.labels)
    name = labels.get("alertname", alert.source)
    detail = alert.message or ", ".join(f"{key}={value}" for key, value in alert.labels)
    return rollout.Alarm(name=name, detail=detail, rollback=rollback)


def experiment_name(route: ModelRoute) -> str:
    """Return the name under which proxies report the exposures of a route's A/B test."""
    strategy = route.spec.strategy
    test = None if strategy is None else strategy.ab_test
    return (None if test is None else test.salt) or route.metadata.name


def watched_backends(routes: Iterable[LiveRoute]) -> Iterator[BackendCheck]:
    """Yield the backends whose health decides whether they receive users."""
    for live in routes:
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
    endpoints = backend.endpoints if backend.dns is None else (backend.dns,)
    return Target(
        endpoints=tuple((endpoint.host, endpoint.port) for endpoint in endpoints or ()),
        dns=backend.dns is not None,
    )
