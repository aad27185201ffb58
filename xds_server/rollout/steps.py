"""Entering and leaving the steps of a program, and what each of them does to the splits.

Here nobody asks whether a step may be entered; that is the business of the moves.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, assert_never

from xds_server.rollout.events import Effect, Publish, Record
from xds_server.rollout.lengths import length
from xds_server.rollout.slots import Split, relaid
from xds_server.rollout.state import (
    STRATEGY,
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

__all__ = ["Result", "clocked", "enter", "lacking", "percent", "published", "rearranged", "taken_back"]

Result = tuple[State, tuple[Effect, ...]]


def enter(state: State, index: int, now: float) -> Result:
    """Enter a step; after the last one the rollout is finished."""
    steps = state.program.steps
    if index >= len(steps):
        return _finish(state, now)
    after = replace(state, step=index, step_began_at=None, ends_at=None, message="")
    match steps[index]:
        case SetWeight(weight=weight):
            return _set_weight(after, weight, now)
        case Experiment(weights=weights):
            split = rearranged(replace(published(after, now), mirror=0), dict(weights))
            shares = ", ".join(f"{percent(share)} for {variant}" for variant, share in weights)
            record = Record(what="step_began", message=f"experiment: {shares}")
            return replace(split, phase=Phase.PROGRESSING), (record, Publish())
        case Pause(duration=duration) if duration is not None:
            after = replace(clocked(after, duration, now), phase=Phase.PROGRESSING)
            return after, (Record(what="step_began", message=f"pause {length(duration)}"),)
        case Pause():
            after = replace(clocked(after, None, now), phase=Phase.PAUSED)
            return after, (Record(what="step_began", message="pause until promoted"),)
        case Bake(duration=duration):
            after = replace(clocked(after, duration, now), phase=Phase.BAKING)
            return after, (Record(what="step_began", message=f"bake {length(duration)}"),)
        case Analysis(name=name):
            after = replace(clocked(after, None, now), phase=Phase.PROGRESSING)
            return after, (Record(what="step_began", message=f"waiting for the verdict of {name}"),)
        case Shadow(percentage=percentage):
            after = replace(
                published(after, now),
                phase=Phase.SHADOWING,
                mirror=percentage,
                proven=False,
                likeness="",
                pairs_before=None,
            )
            words = f"{percent(percentage)} of requests are copied to {state.program.candidate}"
            return after, (Record(what="step_began", message=words), Publish())
        case other:
            assert_never(other)


def lacking(state: State, index: int) -> str:
    """Return why a step must not be entered yet: a variant it gives users to is not known to live."""
    if index >= len(state.program.steps):
        return ""
    match state.program.steps[index]:
        case SetWeight(weight=weight) if weight > 0:
            gaining = [state.program.candidate]
        case Experiment(weights=weights):
            gaining = [variant for variant, _ in weights]
        case _:
            return ""
    for variant in gaining:
        if variant in state.program.checked and variant not in state.healthy:
            known = "has no living endpoint" if variant in state.dead else "was not seen alive yet"
            return f"{variant} {known}; nobody is sent there before one answers"
    return ""


def taken_back(state: State, outcome: Outcome, record: Record, now: float) -> Result:
    """Give everyone back to the stable backend, and stop copying."""
    after = rearranged(
        replace(
            published(state, now),
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


def rearranged(state: State, wanted: Mapping[str, int]) -> State:
    """Return the state in which the strategy's variants have these shares, and nobody moved who need not."""
    segments = relaid(state.segments(STRATEGY), state.program.stable, wanted, tuple(wanted))
    others = tuple(split for split in state.splits if split.name != STRATEGY)
    return replace(state, splits=(Split(name=STRATEGY, segments=segments), *others))


def published(state: State, now: float, *, converged: bool = False) -> State:
    """Return the state of a world that has just left.

    With `converged`, the step the world belongs to was held before and its clock goes on.
    """
    return replace(state, revision=state.revision + 1, published_at=now, converged=converged)


def clocked(state: State, duration: float | None, now: float) -> State:
    """Return the state with the clock of its step set."""
    return replace(state, step_began_at=now, ends_at=None if duration is None else now + duration)


def percent(basis_points: int) -> str:
    """Return a share in words."""
    return f"{basis_points / 100:g} %"


def _set_weight(state: State, weight: int, now: float) -> Result:
    candidate = state.program.candidate or ""
    after = rearranged(replace(published(state, now), mirror=0), {candidate: weight})
    record = Record(what="step_began", message=f"weight {percent(weight)} for {candidate}")
    return replace(after, phase=Phase.PROGRESSING), (record, Publish())


def _finish(state: State, now: float) -> Result:
    steps, candidate = state.program.steps, state.program.candidate
    after = replace(state, phase=Phase.HEALTHY, step_began_at=None, ends_at=None, message="")
    if not steps:
        return after, (Record(what="healthy", message=f"{state.program.stable} serves everyone"),)
    match steps[-1]:
        case Shadow():
            after = replace(published(after, now), mirror=0, outcome=Outcome.COMPLETED)
            return after, (Record(what="healthy", message="the shadow is over"), Publish())
        case Experiment(back=True):
            after = rearranged(replace(published(after, now), outcome=Outcome.COMPLETED), {})
            words = f"the experiment is over; {state.program.stable} serves everyone"
            return after, (Record(what="healthy", message=words), Publish())
        case Experiment():
            after = replace(after, outcome=Outcome.COMPLETED)
            return after, (Record(what="healthy", message="the experiment is over; the split stays"),)
        case _:
            warm = now + state.program.keep_warm if state.program.keep_warm else None
            after = replace(after, outcome=Outcome.PROMOTED, warm_until=warm)
            return after, (Record(what="healthy", message=f"{candidate} serves {percent(state.weight)}"),)
