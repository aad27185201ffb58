"""`step`: a state, an event and the time in; the next state and what follows from it out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xds_server.rollout.events import (
    Command,
    Converged,
    Effect,
    Event,
    NotConverged,
    Publish,
    Record,
    SpecAccepted,
)
from xds_server.rollout.state import FULL, Phase, Program, State
from xds_server.rollout.transitions import TABLE

if TYPE_CHECKING:
    from xds_server.rollout.moves import Result

__all__ = ["next_deadline", "step"]


def step(state: State | None, event: Event, now: float) -> Result:
    """Return the state after `event` at `now` (seconds since the epoch), and the effects in order.

    A fact about an older world, or one that changes nothing, returns the same state and no effects. One event
    moves at most one gate: a very late tick does not skip steps.

    Raises:
        Refused: The phase does not allow the command.
        ValueError: Anything but a spec came before the first spec.
    """
    if isinstance(event, SpecAccepted):
        return _accept(state, event, now)
    if state is None:
        raise ValueError("a rollout begins with a spec")
    if isinstance(event, Converged | NotConverged):
        if event.revision != state.revision:
            return state, ()
        if isinstance(event, Converged) and state.phase is Phase.DEGRADED and state.resumes is not None:
            # The proxies came round: the rollout is what it was before it waited too long.
            state = replace(state, phase=state.resumes, resumes=None, message="")
    kind = event.command if isinstance(event, Command) else event.kind
    move = TABLE[state.phase].get(kind)
    return (state, ()) if move is None else move(state, event, now)


def next_deadline(state: State) -> float | None:
    """Return when the clock of the current step runs out; None while nothing runs out by itself."""
    return state.ends_at if state.phase not in {Phase.HEALTHY, Phase.ROLLED_BACK} else None


def _accept(state: State | None, event: SpecAccepted, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Begin, go on with, or supersede a rollout.

    A spec that means the same changes nothing. One whose program is the same (say, other endpoints) is
    published and the rollout goes on where it is. Any other supersedes the run; users are not moved by that:
    a candidate that stays the candidate keeps its weight until the new program's first step, and a candidate
    that became the stable backend keeps everyone it had.
    """
    if state is None:
        return _fresh(event, generation=1, revision=1, weight=0, now=now), (
            Record(what="accepted", message=_summary(event.program)),
            Publish(),
        )
    if state.digest == event.digest:
        return state, ()
    if state.program == event.program:
        after = replace(
            state,
            digest=event.digest,
            generation=state.generation + 1,
            revision=state.revision + 1,
            published_at=now,
        )
        return after, (Record(what="updated", message="the spec changed, the rollout goes on"), Publish())
    old, new = state.program, event.program
    carried = state.weight if (old.stable, old.candidate) == (new.stable, new.candidate) else 0
    after = _fresh(
        event, generation=state.generation + 1, revision=state.revision + 1, weight=carried, now=now
    )
    unfinished = state.phase not in {Phase.HEALTHY, Phase.ROLLED_BACK}
    before = (
        (Record(what="superseded", message=f"{state.phase.value} with {_weight(state)} gives way"),)
        if unfinished
        else ()
    )
    return after, (*before, Record(what="accepted", message=_summary(new)), Publish())


def _fresh(event: SpecAccepted, *, generation: int, revision: int, weight: int, now: float) -> State:
    return State(
        route=event.route,
        revision=revision,
        generation=generation,
        digest=event.digest,
        program=event.program,
        phase=Phase.PENDING,
        weight=weight,
        published_at=now,
    )


def _summary(program: Program) -> str:
    if program.candidate is None or not program.steps:
        return f"{program.stable} serves everyone"
    steps = len(program.steps)
    return f"{program.stable} → {program.candidate} in {steps} step{'s' * (steps != 1)}"


def _weight(state: State) -> str:
    return (
        f"{100 * state.weight / FULL:g} % on {state.program.candidate}"
        if state.program.candidate
        else "no candidate"
    )
