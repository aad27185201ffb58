"""A route as an operator sees it: its spec, its rollout, its proxies and pairs in one value (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_never

from xds_server.rollout import Bake, Pause, Phase, SetWeight, Shadow, State, Step
from xds_server.view.model import Convergence, EventView, RouteView, StepNow, StepView

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
    """Return the view; `pairs` is the collector's summary of the route, None without one."""
    spec = route.spec
    weights = {spec.stable: 100.0 - state.weight / 100}
    if spec.candidate is not None:
        weights[spec.candidate] = state.weight / 100
    return RouteView(
        name=route.metadata.name,
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
        steps=tuple(_step(number, step, state) for number, step in enumerate(state.program.steps)),
        step=_now(state),
        convergence=convergence,
        pairs=pairs,
        events=events,
    )


def _strategy(route: ModelRoute) -> str:
    strategy = route.spec.strategy
    if strategy is None:
        return "none"
    return "shadow" if strategy.canary is None else "canary"


def _step(number: int, step: Step, state: State) -> StepView:
    weight, duration = None, None
    match step:
        case SetWeight():
            weight = step.weight / 100
        case Shadow():
            weight, duration = step.percentage / 100, step.duration
        case Pause() | Bake():
            duration = step.duration
        case _:
            assert_never(step)
    return StepView(
        index=number, kind=step.kind, weight=weight, duration=duration, state=_standing(number, state)
    )


def _standing(number: int, state: State) -> str:
    match state.phase:
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


def _now(state: State) -> StepNow | None:
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
    if state.phase is Phase.PAUSED:
        return "operator"
    if not state.converged:
        return "convergence"
    return "operator" if state.ends_at is None else "time"
