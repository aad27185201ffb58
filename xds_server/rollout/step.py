"""`step`: a state, an event and the time in; the next state and what follows from it out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xds_server.rollout.commands import behind_kill
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
from xds_server.rollout.slots import Segment, Split, relaid
from xds_server.rollout.state import STRATEGY, Kill, Phase, Program, State
from xds_server.rollout.steps import percent, published
from xds_server.rollout.transitions import TABLE

if TYPE_CHECKING:
    from xds_server.rollout.steps import Result

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
    return state.ends_at if state.phase not in {Phase.HEALTHY, Phase.ROLLED_BACK, Phase.KILLED} else None


def _accept(state: State | None, event: SpecAccepted, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Begin, go on with, or supersede a rollout; what the spec says of the kill switch comes last."""
    if state is None:
        after = _fresh(event, None, now)
        effects: tuple[Effect, ...] = (Record(what="accepted", message=_summary(event.program)), Publish())
    elif state.digest == event.digest:
        return state, ()
    else:
        inner = behind_kill(state, now)
        after, effects = _superseded(inner, event, now)
        if state.kill is not None:
            after = _covered(after, state.kill, now)
    return _switched(after, event, effects, now)


def _superseded(state: State, event: SpecAccepted, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Take another spec.

    One with the same course (say, other endpoints, other rules) is published and the rollout goes on where it
    is. Any other supersedes the run; users are not moved by that: variants of the same stable backend keep
    their users until the new program's first step, and a candidate that became the stable backend keeps
    everyone it had.
    """
    old, new = state.program, event.program
    if old.course == new.course:
        after = replace(
            state,
            digest=event.digest,
            program=new,
            splits=(*(s for s in state.splits if s.name == STRATEGY), *_spreads(state, new)),
            generation=state.generation + 1,
            healthy=_still(state.healthy, new),
            dead=_still(state.dead, new),
        )
        words = "the spec changed, the rollout goes on"
        return published(after, now, converged=state.converged), (
            Record(what="updated", message=words),
            Publish(),
        )
    after = _fresh(event, state, now)
    unfinished = state.phase not in {Phase.HEALTHY, Phase.ROLLED_BACK}
    words = f"{state.phase.value} with {_weight(state)} gives way"
    before = (Record(what="superseded", message=words),) if unfinished else ()
    return after, (*before, Record(what="accepted", message=_summary(new)), Publish())


def _fresh(event: SpecAccepted, former: State | None, now: float) -> State:
    program = event.program
    carried: dict[str, int] = {}
    segments: tuple[Segment, ...] = ()
    if former is not None and former.program.stable == program.stable:
        segments = former.segments(STRATEGY)
        carried = {v: share for v, share in former.weights.items() if v in program.variants}
    layout = Split(name=STRATEGY, segments=relaid(segments, program.stable, carried))
    return State(
        route=event.route,
        revision=1 if former is None else former.revision + 1,
        generation=1 if former is None else former.generation + 1,
        digest=event.digest,
        program=program,
        phase=Phase.PENDING,
        splits=(layout, *_spreads(former, program)),
        published_at=now,
        run=1 if former is None else former.run + 1,
        healthy=() if former is None else _still(former.healthy, program),
        dead=() if former is None else _still(former.dead, program),
    )


def _spreads(former: State | None, program: Program) -> tuple[Split, ...]:
    return tuple(
        Split(
            name=spread.name,
            segments=relaid(
                () if former is None else former.segments(spread.name),
                spread.base,
                dict(spread.weights),
                [variant for variant, _ in spread.weights],
            ),
        )
        for spread in program.spreads
    )


def _still(names: tuple[str, ...], program: Program) -> tuple[str, ...]:
    """Return what is known of the backends that are still asked for."""
    return tuple(name for name in names if name in program.checked)


def _switched(
    state: State, event: SpecAccepted, effects: tuple[Effect, ...], now: float
) -> tuple[State, tuple[Effect, ...]]:
    """Kill, or take a kill back, as the spec says; a kill by an operator is none of its business."""
    reason = event.program.killed
    if reason is None:
        if state.kill is None or not state.kill.by_spec:
            return state, effects
        after = behind_kill(state, now)
        return after, (Record(what="unkilled", message="the spec says so"), *effects)
    serve = event.program.serve or event.program.stable
    if state.kill is not None and not state.kill.by_spec:
        return state, effects
    since = now if state.kill is None else state.kill.at
    kill = Kill(
        serve=serve, actor=event.actor, reason=reason, at=since, by_spec=True, phase=state.phase, left=None
    )
    covered = _covered(behind_kill(state, now), kill, now)
    if state.kill is not None:
        return covered, effects
    return covered, (Record(what="killed", message=f"{serve} serves everyone: {reason}"), *effects)


def _covered(state: State, kill: Kill, now: float) -> State:
    left = None if state.ends_at is None else max(0.0, state.ends_at - now)
    serve = state.program.serve or state.program.stable
    return replace(
        state, phase=Phase.KILLED, kill=replace(kill, serve=serve, phase=state.phase, left=left), ends_at=None
    )


def _summary(program: Program) -> str:
    if not program.variants or not program.steps:
        return f"{program.stable} serves everyone"
    steps = len(program.steps)
    tried = program.candidate or ", ".join(sorted(program.variants))
    return f"{program.stable} → {tried} in {steps} step{'s' * (steps != 1)}"


def _weight(state: State) -> str:
    shares = ", ".join(f"{percent(share)} on {variant}" for variant, share in state.weights.items())
    return shares or "nobody on a candidate"
