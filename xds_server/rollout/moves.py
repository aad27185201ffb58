"""The moves a rollout is made of; each takes a state and returns the next one with its effects.

Which move belongs to which phase and event is the business of the table in `transitions`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, assert_never

from xds_server.rollout.events import Command, Converged, Effect, NotConverged, Publish, Record, Refused, Tick
from xds_server.rollout.state import Bake, Outcome, Pause, Phase, SetWeight, Shadow, State

__all__ = [
    "Result",
    "abort",
    "begin",
    "degrade_or_wait",
    "finish_rollback",
    "go_on",
    "hold",
    "keep",
    "note_converged",
    "promote",
    "promote_full",
    "resume",
    "settled",
    "start_clock",
    "time_passed",
    "too_early",
]

Result = tuple[State, tuple[Effect, ...]]

_SAID: Final = 500


def keep(state: State, _event: object, _now: float) -> Result:
    """Change nothing."""
    return state, ()


def begin(state: State, _event: Converged, now: float) -> Result:
    """The proxies know the backends: enter the first step."""
    return _enter(replace(state, converged=True, resumes=None), 0, now)


def go_on(state: State, event: Converged, now: float) -> Result:
    """The proxies hold the current step: enter the next one, or start the clock of a shadow."""
    if state.converged:
        return keep(state, event, now)
    held = f"{event.acked} of {event.connected} proxies hold it"
    match state.current:
        case SetWeight(weight=weight):
            record = Record(what="step_held", message=f"weight {_percent(weight)}: {held}")
            after, effects = _enter(replace(state, converged=True), state.step + 1, now)
            return after, (record, *effects)
        case Shadow() | Pause() | Bake() | None:
            return start_clock(state, event, now)
        case other:
            assert_never(other)


def start_clock(state: State, _event: Converged, now: float) -> Result:
    """The proxies hold the newest world: a step whose clock did not run yet starts it."""
    after = replace(state, converged=True, message="")
    if isinstance(state.current, Shadow) and state.step_began_at is None:
        return _clock(after, state.current.duration, now), ()
    return after, ()


def settled(state: State, _event: Converged, _now: float) -> Result:
    """A finished rollout is held by the proxies."""
    return replace(state, converged=True, message=state.message if state.converged else ""), ()


def note_converged(state: State, event: Converged, now: float) -> Result:
    """Paused by an operator: remember that the proxies hold the step, but do not go on."""
    if state.converged:
        return keep(state, event, now)
    after = replace(state, converged=True, message="")
    if isinstance(state.current, Shadow) and state.step_began_at is None:
        return replace(
            _clock(after, state.current.duration, now), ends_at=None, left=state.current.duration
        ), ()
    return after, ()


def finish_rollback(state: State, event: Converged, now: float) -> Result:
    """Everyone is back, and it is said how fast."""
    took = now - state.published_at
    words = f"{event.acked} of {event.connected} proxies, " + (
        f"{took:.1f} s" if took >= 1 else f"{1000 * took:.0f} ms"
    )
    after = replace(state, phase=Phase.ROLLED_BACK, converged=True, message=f"rolled back: {words}")
    return after, (Record(what="rolled_back", message=words),)


def degrade_or_wait(state: State, event: NotConverged, now: float) -> Result:
    """Say who is missing once the timeout is over; give up waiting quietly at the progress deadline."""
    waited = now - state.published_at
    if state.converged and not event.refused:
        return state, ()
    if not event.refused and waited < state.program.convergence_timeout:
        return state, ()
    words = ("a proxy refused it: " if event.refused else "not held by all proxies: ") + event.detail[:_SAID]
    overdue = waited >= state.program.progress_deadline and not state.converged
    may_degrade = state.phase in {Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING}
    if overdue and may_degrade:
        after = replace(state, phase=Phase.DEGRADED, resumes=state.phase, message=words)
        return after, (Record(what="degraded", message=f"progress deadline passed; {words}"),)
    if words == state.message:
        return state, ()
    return replace(state, message=words), (Record(what="not_held", message=words),)


def time_passed(state: State, event: Tick, now: float) -> Result:
    """A clock that ran out ends its step, if the proxies hold what the step says right now."""
    if state.ends_at is None or now < state.ends_at or not event.synced or not state.converged:
        return state, ()
    return _enter(state, state.step + 1, now)


def hold(state: State, event: Command, now: float) -> Result:
    """Stop the clock; weights stay."""
    if state.resumes is not None or (isinstance(state.current, Pause) and state.ends_at is None):
        if state.phase is Phase.DEGRADED:
            raise Refused("the rollout waits for proxies already; abort takes it back")
        return state, ()
    left = None if state.ends_at is None else max(0.0, state.ends_at - now)
    after = replace(state, phase=Phase.PAUSED, resumes=state.phase, left=left, ends_at=None)
    return after, (Record(what="paused", message=_why("the clock stands still", event)),)


def resume(state: State, event: Command, now: float) -> Result:
    """Go on with the time that was left; a pause without an end is over."""
    if state.resumes is None:
        after, effects = _enter(state, state.step + 1, now)
        return after, (Record(what="resumed", message=_why("the pause is over", event)), *effects)
    after = _unheld(state, now)
    record = Record(what="resumed", message=_why("the clock goes on", event))
    if state.resumes is Phase.PENDING and after.converged:
        entered, effects = _enter(after, 0, now)
        return entered, (record, *effects)
    if isinstance(after.current, SetWeight) and after.converged:
        entered, effects = _enter(after, after.step + 1, now)
        return entered, (record, *effects)
    return after, (record,)


def promote(state: State, event: Command, now: float) -> Result:
    """End the current wait for time or for an operator; never the wait for proxies."""
    if not state.converged:
        raise Refused(
            "the proxies do not hold the current step yet; promote when they do, or abort to take it back"
        )
    record = Record(what="promoted", message=_why("on to the next step", event))
    pending = state.resumes is Phase.PENDING
    after, effects = _enter(replace(state, resumes=None, left=None), 0 if pending else state.step + 1, now)
    return after, (record, *effects)


def promote_full(state: State, event: Command, now: float) -> Result:
    """Go straight to the last weight, which the proxies must hold like any other."""
    last = max((n for n, step in enumerate(state.program.steps) if isinstance(step, SetWeight)), default=None)
    if last is None or (state.step >= last and state.phase is not Phase.PENDING):
        return promote(state, event, now)
    if not state.converged:
        raise Refused(
            "the proxies do not hold the current step yet; promote when they do, or abort to take it back"
        )
    record = Record(what="promoted", message=_why("straight to the last weight", event))
    after, effects = _enter(replace(state, resumes=None, left=None), last, now)
    return after, (record, *effects)


def abort(state: State, event: Command, now: float) -> Result:
    """Take everything back at once: weight and shadow to zero."""
    if state.program.candidate is None or (state.phase is Phase.HEALTHY and not state.weight):
        return state, ()
    after = replace(
        _published(state, now),
        phase=Phase.ROLLING_BACK,
        outcome=Outcome.ABORTED,
        weight=0,
        mirror=0,
        step_began_at=None,
        ends_at=None,
        resumes=None,
        left=None,
        message=_why("aborted", event),
    )
    return after, (Record(what="aborted", message=_why("back to the stable backend", event)), Publish())


def too_early(_state: State, event: Command, _now: float) -> Result:
    """Refuse a command that has nothing to act on."""
    raise Refused(f"nothing to {event.command.value}: the rollout is over; apply a spec to begin another")


def _enter(state: State, index: int, now: float) -> Result:
    """Enter a step; after the last one the rollout is finished."""
    steps = state.program.steps
    if index >= len(steps):
        return _finish(state, now)
    after = replace(state, step=index, step_began_at=None, ends_at=None, message="")
    match steps[index]:
        case SetWeight(weight=weight):
            after = replace(_published(after, now), phase=Phase.PROGRESSING, weight=weight)
            words = f"weight {_percent(weight)} for {state.program.candidate}"
            return after, (Record(what="step_began", message=words), Publish())
        case Pause(duration=None):
            after = replace(_clock(after, None, now), phase=Phase.PAUSED)
            return after, (Record(what="step_began", message="pause until promoted"),)
        case Pause(duration=duration):
            after = replace(_clock(after, duration, now), phase=Phase.PROGRESSING)
            return after, (Record(what="step_began", message=f"pause {duration:g} s"),)
        case Bake(duration=duration):
            after = replace(_clock(after, duration, now), phase=Phase.BAKING)
            return after, (Record(what="step_began", message=f"bake {duration:g} s"),)
        case Shadow(percentage=percentage):
            after = replace(_published(after, now), phase=Phase.SHADOWING, mirror=percentage)
            words = f"{_percent(percentage)} of requests are copied to {state.program.candidate}"
            return after, (Record(what="step_began", message=words), Publish())
        case other:
            assert_never(other)


def _finish(state: State, now: float) -> Result:
    shadowed = state.mirror > 0
    outcome = Outcome.COMPLETED if shadowed else Outcome.PROMOTED if state.program.steps else None
    after = replace(state, phase=Phase.HEALTHY, outcome=outcome, step_began_at=None, ends_at=None, message="")
    if outcome is None:
        return after, (Record(what="healthy", message=f"{state.program.stable} serves everyone"),)
    if shadowed:
        after = replace(_published(after, now), mirror=0)
        return after, (Record(what="healthy", message="the shadow is over"), Publish())
    return after, (Record(what="healthy", message=f"{state.program.candidate} serves everyone"),)


def _published(state: State, now: float) -> State:
    return replace(state, revision=state.revision + 1, published_at=now, converged=False)


def _clock(state: State, duration: float | None, now: float) -> State:
    return replace(state, step_began_at=now, ends_at=None if duration is None else now + duration)


def _unheld(state: State, now: float) -> State:
    """Return the state without the hold; the clock has what it had left."""
    after = replace(state, phase=state.resumes or state.phase, resumes=None, left=None)
    if state.left is None or state.current is None:
        return after
    duration = getattr(state.current, "duration", None) or state.left
    return replace(after, step_began_at=now - (duration - state.left), ends_at=now + state.left)


def _percent(basis_points: int) -> str:
    return f"{basis_points / 100:g} %"


def _why(what: str, event: Command) -> str:
    return f"{what}: {event.reason}" if event.reason else what
