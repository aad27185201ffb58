"""The view of a route, from its spec, rollout state, convergence and pairs (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from pydantic.alias_generators import to_camel

from xds_server.rollout import Analysis, Bake, Experiment, Kill, Pause, Phase, SetWeight, Shadow, State, Step
from xds_server.view.model import Convergence, EventView, KillView, RouteView, StepNow, StepView

if TYPE_CHECKING:
    from xds_server.spec import ModelRoute

__all__ = ["route_view"]


def route_view(
    route: ModelRoute,
    state: State,
    convergence: Convergence,
    *,
    pairs: dict[str, Any] | None,
    events: tuple[EventView, ...],
) -> RouteView:
    """Return the view; `pairs` is the collector's summary of the route, None before the first pair."""
    spec = route.spec
    shares = dict.fromkeys(sorted(state.program.variants), 0) | state.weights
    weights = {spec.stable: 100.0 - state.weight / 100}
    weights |= {variant: share / 100 for variant, share in shares.items()}
    return RouteView(
        name=route.metadata.name,
        labels=dict(route.metadata.labels),
        group=spec.proxies.group,
        generation=state.generation,
        revision=state.revision,
        phase=state.phase.value,
        outcome=None if state.outcome is None else state.outcome.value,
        message=state.message,
        strategy=_strategy(route),
        stable=spec.stable,
        candidate=spec.candidate,
        weights=weights,
        mirror_percent=state.mirror / 100,
        kill=None if state.kill is None else _kill(state.kill),
        dead=state.dead,
        withdrawn=state.withdrawn,
        warm_until=state.warm_until,
        splits={
            split.name: tuple((segment.variant, segment.slots) for segment in split.segments)
            for split in state.splits
        },
        steps=tuple(_step(number, step, state) for number, step in enumerate(state.program.steps)),
        step=_current_step(state),
        convergence=convergence,
        pairs=pairs,
        events=events,
    )


def _strategy(route: ModelRoute) -> str:
    strategy = route.spec.strategy
    if strategy is None:
        return "none"
    if strategy.strategy_ref is not None:
        return strategy.strategy_ref.name
    chosen = [name for name in type(strategy).model_fields if getattr(strategy, name) is not None]
    return "+".join(to_camel(name) for name in chosen)


def _kill(kill: Kill) -> KillView:
    return KillView(serve=kill.serve, actor=kill.actor, reason=kill.reason, at=kill.at, by_spec=kill.by_spec)


def _step(number: int, step: Step, state: State) -> StepView:
    weight, duration = None, None
    match step:
        case SetWeight():
            weight = step.weight / 100
        case Shadow():
            weight, duration = step.percentage / 100, step.duration
        case Pause() | Bake():
            duration = step.duration
        case Experiment():
            weight, duration = sum(share for _, share in step.weights) / 100, step.duration
        case Analysis():
            pass
        case _:
            assert_never(step)
    return StepView(
        index=number, kind=step.kind, weight=weight, duration=duration, state=_step_state(number, state)
    )


def _step_state(number: int, state: State) -> str:
    match state.phase if state.kill is None else state.kill.phase:
        case Phase.HEALTHY:
            return "done"
        case Phase.PENDING:
            return "pending"
        case Phase.ROLLING_BACK | Phase.ROLLED_BACK if number == state.step:
            return "stopped"
        case _ if number == state.step and state.current is not None:
            return "current"
        case _:
            pass
    return "done" if number < state.step else "pending"


def _current_step(state: State) -> StepNow | None:
    if state.phase in {Phase.HEALTHY, Phase.ROLLED_BACK}:
        return None
    step = state.current
    return StepNow(
        index=state.step,
        kind="none" if step is None else step.kind,
        began_at=state.step_began_at,
        ends_at=state.ends_at,
        waiting_for=_waiting_for(state),
    )


def _waiting_for(state: State) -> str:
    if state.phase in {Phase.PAUSED, Phase.KILLED}:
        return "operator"
    if not state.converged:
        return "convergence"
    match state.current:
        case SetWeight() | None:
            return "health"  # The step has converged; an unhealthy variant blocks the next one.
        case Analysis():
            return "verdict"
        case Shadow(min_pairs=least) if least is not None and not state.proven:
            return "evidence"
        case _:
            return "operator" if state.ends_at is None else "time"
