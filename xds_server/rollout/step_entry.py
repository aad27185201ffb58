"""Enter and leave the steps of a program: what each step does to splits, mirrored share and timer.

These functions do not check whether a step may be entered; handlers and commands do, with `blocking_reason`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from xds_server.rollout.durations import format_duration
from xds_server.rollout.events import Effect, Publish, Record
from xds_server.rollout.slots import Split, reallocate
from xds_server.rollout.state import (
    STRATEGY_SPLIT,
    Analysis,
    Bake,
    Experiment,
    Outcome,
    Pause,
    Phase,
    SetWeight,
    Shadow,
    State,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Result",
    "blocking_reason",
    "bump_revision",
    "enter",
    "format_percent",
    "roll_back",
    "set_weights",
    "start_timer",
]

Result = tuple[State, tuple[Effect, ...]]


def enter(state: State, index: int, now: float) -> Result:
    """Enter a step of the program; an index past the last step finishes the rollout."""
    steps = state.program.steps
    if index >= len(steps):
        return _finish(state, now)
    after = replace(state, step=index, step_began_at=None, ends_at=None, message="")
    match steps[index]:
        case SetWeight(weight=weight):
            return _set_weight(after, weight, now)
        case Experiment(weights=weights):
            started = {variant: share for variant, share in weights if variant not in state.withdrawn}
            split = set_weights(replace(bump_revision(after, now), mirror=0), started)
            shares = ", ".join(f"{format_percent(share)} for {variant}" for variant, share in started.items())
            record = Record(what="step_began", message=f"experiment: {shares}")
            return replace(split, phase=Phase.PROGRESSING), (record, Publish())
        case Pause(duration=duration) if duration is not None:
            after = replace(start_timer(after, duration, now), phase=Phase.PROGRESSING)
            return after, (Record(what="step_began", message=f"pause {format_duration(duration)}"),)
        case Pause():
            after = replace(start_timer(after, None, now), phase=Phase.PAUSED)
            return after, (Record(what="step_began", message="pause until resumed or promoted"),)
        case Bake(duration=duration):
            after = replace(start_timer(after, duration, now), phase=Phase.BAKING)
            return after, (Record(what="step_began", message=f"bake {format_duration(duration)}"),)
        case Analysis(name=name):
            after = replace(start_timer(after, None, now), phase=Phase.PROGRESSING)
            return after, (Record(what="step_began", message=f"waiting for the verdict of analysis {name}"),)
        case Shadow(percentage=percentage):
            after = replace(
                bump_revision(after, now),
                phase=Phase.SHADOWING,
                mirror=percentage,
                proven=False,
                equivalence="",
                pairs_before=None,
            )
            message = f"mirroring {format_percent(percentage)} of requests to {state.program.candidate}"
            return after, (Record(what="step_began", message=message), Publish())
        case other:
            assert_never(other)


def blocking_reason(state: State, index: int) -> str:
    """Return why a step must not be entered yet, or "".

    The only reason is that a variant that would gain users is not healthy, or was withdrawn. An experiment
    starts without its withdrawn variants, unless all of its variants were withdrawn.
    """
    if index >= len(state.program.steps):
        return ""
    match state.program.steps[index]:
        case SetWeight(weight=weight) if weight > 0:
            gaining = [state.program.candidate]
        case Experiment(weights=weights):
            gaining = [variant for variant, _ in weights if variant not in state.withdrawn]
            gaining = gaining or [variant for variant, _ in weights]
        case _:
            return ""
    for variant in gaining:
        if variant in state.withdrawn:
            return (
                f"{variant} was withdrawn because it failed; it receives no users until the spec changes, or "
                "the rollout is aborted and retried"
            )
        if variant in state.program.checked and variant not in state.healthy:
            health = (
                "has no healthy endpoint" if variant in state.dead else "has not passed a health check yet"
            )
            return f"{variant} {health}; it receives no users until one of its endpoints is healthy"
    return ""


def roll_back(state: State, outcome: Outcome, record: Record, now: float) -> Result:
    """Return all users to the stable backend and stop mirroring."""
    after = set_weights(
        replace(
            bump_revision(state, now),
            phase=Phase.ROLLING_BACK,
            outcome=outcome,
            mirror=0,
            step_began_at=None,
            ends_at=None,
            resumes=None,
            left=None,
            warm_until=None,
            message=f"{record.what.replace('_', ' ')}: {record.message}",
        ),
        {},
    )
    return after, (record, Publish())


def set_weights(state: State, weights: Mapping[str, int]) -> State:
    """Return the state with these weights in the strategy's split; as few users as possible move."""
    segments = reallocate(state.segments(STRATEGY_SPLIT), state.program.stable, weights, tuple(weights))
    others = tuple(split for split in state.splits if split.name != STRATEGY_SPLIT)
    return replace(state, splits=(Split(name=STRATEGY_SPLIT, segments=segments), *others))


def bump_revision(state: State, now: float, *, converged: bool = False) -> State:
    """Return the state with the next revision, published at `now`.

    With `converged`, the current step had converged before, and its timer keeps running.
    """
    return replace(state, revision=state.revision + 1, published_at=now, converged=converged)


def start_timer(state: State, duration: float | None, now: float) -> State:
    """Return the state with the step timer started; without a duration, the timer never ends."""
    return replace(state, step_began_at=now, ends_at=None if duration is None else now + duration)


def format_percent(basis_points: int) -> str:
    """Format basis points: 525 → `5.25 %`."""
    return f"{basis_points / 100:g} %"


def _set_weight(state: State, weight: int, now: float) -> Result:
    candidate = state.program.candidate or ""
    after = set_weights(replace(bump_revision(state, now), mirror=0), {candidate: weight})
    record = Record(what="step_began", message=f"weight {format_percent(weight)} for {candidate}")
    return replace(after, phase=Phase.PROGRESSING), (record, Publish())


def _finish(state: State, now: float) -> Result:
    steps, candidate = state.program.steps, state.program.candidate
    after = replace(state, phase=Phase.HEALTHY, step_began_at=None, ends_at=None, message="")
    if not steps:
        return after, (Record(what="healthy", message=f"{state.program.stable} serves all users"),)
    match steps[-1]:
        case Shadow():
            after = replace(bump_revision(after, now), mirror=0, outcome=Outcome.COMPLETED)
            return after, (Record(what="healthy", message="the shadow has ended"), Publish())
        case Experiment(back=True):
            after = set_weights(replace(bump_revision(after, now), outcome=Outcome.COMPLETED), {})
            message = f"the experiment has ended; {state.program.stable} serves all users"
            return after, (Record(what="healthy", message=message), Publish())
        case Experiment():
            after = replace(after, outcome=Outcome.COMPLETED)
            message = "the experiment has ended; users keep their variants"
            return after, (Record(what="healthy", message=message),)
        case _:
            warm = now + state.program.keep_warm if state.program.keep_warm else None
            after = replace(after, outcome=Outcome.PROMOTED, warm_until=warm)
            return after, (
                Record(what="healthy", message=f"{candidate} serves {format_percent(state.weight)} of users"),
            )
