"""`step`, the entry point of the state machine, and how a spec starts, updates or supersedes a rollout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xds_server.rollout.commands import without_kill
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
from xds_server.rollout.slots import Segment, Split, reallocate
from xds_server.rollout.state import STRATEGY_SPLIT, Kill, Phase, Program, State
from xds_server.rollout.step_entry import bump_revision, format_percent
from xds_server.rollout.transitions import TABLE

if TYPE_CHECKING:
    from xds_server.rollout.step_entry import Result

__all__ = ["next_deadline", "step"]


def step(state: State | None, event: Event, now: float) -> Result:
    """Return the state after `event` at `now` (seconds since the epoch), and the effects in order.

    An event about an older revision, or one that changes nothing, returns the same state and no effects. One
    event advances the rollout by at most one step: a very late tick does not skip steps.

    Raises:
        CommandNotAllowedError: The phase does not allow the command.
        ValueError: The first event is not a spec.
    """
    if isinstance(event, SpecAccepted):
        return _accept(state, event, now)
    if state is None:
        raise ValueError("the first event of a rollout must be SpecAccepted")
    if isinstance(event, Converged | NotConverged):
        if event.revision != state.revision:
            return state, ()
        if isinstance(event, Converged) and state.phase is Phase.DEGRADED and state.resumes is not None:
            # The proxies synced after the deadline: the rollout continues in the phase it was in before.
            state = replace(state, phase=state.resumes, resumes=None, message="")
    kind = event.command if isinstance(event, Command) else event.kind
    handler = TABLE[state.phase].get(kind)
    return (state, ()) if handler is None else handler(state, event, now)


def next_deadline(state: State) -> float | None:
    """Return when the timer of the current step ends; None while no timer runs."""
    return state.ends_at if state.phase not in {Phase.HEALTHY, Phase.ROLLED_BACK, Phase.KILLED} else None


def _accept(state: State | None, event: SpecAccepted, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Start, update or supersede the rollout with a spec, then apply the spec's kill switch."""
    if state is None:
        after = _new_state(event, None, now)
        effects: tuple[Effect, ...] = (Record(what="accepted", message=_summary(event.program)), Publish())
    elif state.digest == event.digest:
        return state, ()
    else:
        inner = without_kill(state, now)
        after, effects = _supersede(inner, event, now)
        if state.kill is not None:
            after = _put_under_kill(after, state.kill, now)
    return _apply_kill_switch(after, event, effects, now)


def _supersede(state: State, event: SpecAccepted, now: float) -> tuple[State, tuple[Effect, ...]]:
    """Apply another spec.

    A spec with the same stable, candidate and steps (it may differ in endpoints or rules) is published, and
    the rollout continues where it is. Any other spec starts a new run. If the stable backend stays the same,
    the variants of the new program keep their users until its first step. Users of other variants move to the
    stable backend at once; if the stable backend changed, all users move to the new one.
    """
    old, new = state.program, event.program
    if old.rollout_key == new.rollout_key:
        after = replace(
            state,
            digest=event.digest,
            program=new,
            splits=(*(s for s in state.splits if s.name == STRATEGY_SPLIT), *_fixed_splits(state, new)),
            generation=state.generation + 1,
            healthy=_still_checked(state.healthy, new),
            dead=_still_checked(state.dead, new),
            withdrawn=(),
        )
        record = Record(what="updated", message="the spec changed; no new rollout starts")
        return bump_revision(after, now, converged=state.converged), (record, Publish())
    after = _new_state(event, state, now)
    unfinished = state.phase not in {Phase.HEALTHY, Phase.ROLLED_BACK}
    message = (
        f"another spec replaced the rollout, which was in phase {state.phase.value} with "
        f"{_describe_weights(state)}"
    )
    superseded = (Record(what="superseded", message=message),) if unfinished else ()
    return after, (*superseded, Record(what="accepted", message=_summary(new)), Publish())


def _new_state(event: SpecAccepted, previous: State | None, now: float) -> State:
    program = event.program
    carried: dict[str, int] = {}
    segments: tuple[Segment, ...] = ()
    if previous is not None and previous.program.stable == program.stable:
        segments = previous.segments(STRATEGY_SPLIT)
        carried = {v: share for v, share in previous.weights.items() if v in program.variants}
    layout = Split(name=STRATEGY_SPLIT, segments=reallocate(segments, program.stable, carried))
    return State(
        route=event.route,
        revision=1 if previous is None else previous.revision + 1,
        generation=1 if previous is None else previous.generation + 1,
        digest=event.digest,
        program=program,
        phase=Phase.PENDING,
        splits=(layout, *_fixed_splits(previous, program)),
        published_at=now,
        run=1 if previous is None else previous.run + 1,
        healthy=() if previous is None else _still_checked(previous.healthy, program),
        dead=() if previous is None else _still_checked(previous.dead, program),
    )


def _fixed_splits(previous: State | None, program: Program) -> tuple[Split, ...]:
    return tuple(
        Split(
            name=spread.name,
            segments=reallocate(
                () if previous is None else previous.segments(spread.name),
                spread.base,
                dict(spread.weights),
                [variant for variant, _ in spread.weights],
            ),
        )
        for spread in program.spreads
    )


def _still_checked(names: tuple[str, ...], program: Program) -> tuple[str, ...]:
    """Return the names whose health the new program still checks."""
    return tuple(name for name in names if name in program.checked)


def _apply_kill_switch(
    state: State, event: SpecAccepted, effects: tuple[Effect, ...], now: float
) -> tuple[State, tuple[Effect, ...]]:
    """Apply the spec's kill switch; a kill by an operator takes precedence and is left alone."""
    reason = event.program.killed
    if reason is None:
        if state.kill is None or not state.kill.by_spec:
            return state, effects
        after = without_kill(state, now)
        record = Record(what="unkilled", message="the spec no longer sets killSwitch.enabled: true")
        return after, (record, *effects)
    serve = event.program.serve or event.program.stable
    if state.kill is not None and not state.kill.by_spec:
        return state, effects
    since = now if state.kill is None else state.kill.at
    kill = Kill(
        serve=serve, actor=event.actor, reason=reason, at=since, by_spec=True, phase=state.phase, left=None
    )
    covered = _put_under_kill(without_kill(state, now), kill, now)
    if state.kill is not None:
        return covered, effects
    return covered, (Record(what="killed", message=f"{serve} serves all users: {reason}"), *effects)


def _put_under_kill(state: State, kill: Kill, now: float) -> State:
    left = None if state.ends_at is None else max(0.0, state.ends_at - now)
    serve = state.program.serve or state.program.stable
    return replace(
        state, phase=Phase.KILLED, kill=replace(kill, serve=serve, phase=state.phase, left=left), ends_at=None
    )


def _summary(program: Program) -> str:
    if not program.variants or not program.steps:
        return f"{program.stable} serves all users"
    steps = len(program.steps)
    tried = program.candidate or ", ".join(sorted(program.variants))
    return f"{program.stable} → {tried} in {steps} step{'s' * (steps != 1)}"


def _describe_weights(state: State) -> str:
    shares = (f"{format_percent(share)} of users on {variant}" for variant, share in state.weights.items())
    return ", ".join(shares) or "no users on a candidate"
