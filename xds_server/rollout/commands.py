"""The moves an operator makes; each is refused in words that say what is allowed instead."""

from __future__ import annotations

from dataclasses import replace

from xds_server.rollout.events import Command, Publish, Record, Refused
from xds_server.rollout.state import (
    LIVE,
    Experiment,
    Kill,
    Outcome,
    Pause,
    Phase,
    SetWeight,
    State,
)
from xds_server.rollout.steps import Result, enter, lacking, published, taken_back

__all__ = [
    "abort",
    "behind_kill",
    "hold",
    "is_killed",
    "kill",
    "not_killed",
    "promote",
    "promote_full",
    "restart_wait",
    "resume",
    "retry",
    "runs",
    "too_early",
    "undo",
    "unkill",
]

_NOT_HELD = "the proxies do not hold the current step yet; promote when they do, or abort to take it back"


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
        _alive(state, state.step + 1)
        after, effects = enter(state, state.step + 1, now)
        return after, (Record(what="resumed", message=_why("the pause is over", event)), *effects)
    after = _unheld(state, now)
    # What the proxies hold since is looked at by the next tick.
    return after, (Record(what="resumed", message=_why("the clock goes on", event)),)


def promote(state: State, event: Command, now: float) -> Result:
    """End the current wait for time, evidence or an operator; never the wait for proxies."""
    following = 0 if Phase.PENDING in {state.resumes, state.phase} else state.step + 1
    return _promoted(state, following, _why("on to the next step", event), now)


def promote_full(state: State, event: Command, now: float) -> Result:
    """Go straight to the last weight, which the proxies must hold like any other."""
    weighing = [n for n, step in enumerate(state.program.steps) if isinstance(step, SetWeight | Experiment)]
    begun = Phase.PENDING not in {state.resumes, state.phase}
    if not weighing or (begun and state.step >= weighing[-1]):
        return promote(state, event, now)
    return _promoted(state, weighing[-1], _why("straight to the last weight", event), now)


def abort(state: State, event: Command, now: float) -> Result:
    """Take everything back at once: weight and shadow to zero."""
    if not state.program.variants or (state.phase is Phase.HEALTHY and not state.weight):
        return state, ()
    record = Record(what="aborted", message=_why("back to the stable backend", event))
    return taken_back(state, Outcome.ABORTED, record, now)


def undo(state: State, event: Command, now: float) -> Result:
    """Take back what the rollout did, whether it has ended or not."""
    if not state.weight and not state.mirror and state.phase not in LIVE:
        raise Refused(
            "nobody is on the candidate: there is nothing to undo; undo --to N goes back to an earlier spec"
        )
    outcome = Outcome.ABORTED if state.phase in LIVE else Outcome.UNDONE
    record = Record(what="undone", message=_why("back to the stable backend", event))
    return taken_back(state, outcome, record, now)


def retry(state: State, event: Command, now: float) -> Result:
    """Begin a rollout that has ended anew, without a change of its spec."""
    if not state.program.steps:
        raise Refused(f"there is nothing to retry: {state.program.stable} serves everyone")
    if state.outcome is Outcome.PROMOTED:
        raise Refused("the candidate serves everyone already; undo takes it back")
    after = replace(
        published(state, now),
        phase=Phase.PENDING,
        outcome=None,
        step=0,
        step_began_at=None,
        ends_at=None,
        resumes=None,
        left=None,
        message="",
        proven=False,
        likeness="",
        pairs_before=None,
        run=state.run + 1,
        finding=None,
    )
    return after, (Record(what="retried", message=_why("from the first step", event)), Publish())


def restart_wait(state: State, event: Command, now: float) -> Result:
    """Wait for the proxies once more, with a new deadline."""
    after = replace(published(state, now), phase=state.resumes or Phase.PENDING, resumes=None, message="")
    return after, (Record(what="retried", message=_why("waiting for the proxies again", event)), Publish())


def kill(state: State, event: Command, now: float) -> Result:
    """Have one backend serve everyone at once; the rollout stands still behind it."""
    if not event.reason.strip():
        raise Refused("a kill needs a reason: say why with -m")
    left = None if state.ends_at is None else max(0.0, state.ends_at - now)
    taken = Kill(
        serve=state.program.serve or state.program.stable,
        actor=event.actor,
        reason=event.reason,
        at=now,
        by_spec=False,
        phase=state.phase,
        left=left,
    )
    words = f"{taken.serve} serves everyone: {event.reason}"
    after = replace(published(state, now), phase=Phase.KILLED, kill=taken, ends_at=None)
    return after, (Record(what="killed", message=words), Publish())


def unkill(state: State, event: Command, now: float) -> Result:
    """Go back to what the kill interrupted."""
    if state.kill is not None and state.kill.by_spec:
        raise Refused("the spec says killSwitch.enabled: true; set it to false and apply it")
    after = published(behind_kill(state, now), now)
    return after, (Record(what="unkilled", message=_why(f"{after.phase.value} again", event)), Publish())


def behind_kill(state: State, now: float) -> State:
    """Return the state a kill covers, with its clock running again."""
    if state.kill is None:
        return state
    left, step = state.kill.left, state.current
    after = replace(state, phase=state.kill.phase, kill=None)
    if left is None:
        return after
    duration = getattr(step, "duration", None) or left
    return replace(after, step_began_at=now - (duration - left), ends_at=now + left)


def is_killed(state: State, event: Command, _now: float) -> Result:
    """Refuse what makes no sense behind a kill."""
    by = "" if state.kill is None else f" by {state.kill.actor}: {state.kill.reason}"
    raise Refused(f"the route is killed{by}; unkill it before you {event.command.value}")


def not_killed(_state: State, _event: Command, _now: float) -> Result:
    """Refuse to take back a kill there is none of."""
    raise Refused("the route is not killed")


def too_early(_state: State, event: Command, _now: float) -> Result:
    """Refuse a command that has nothing to act on."""
    raise Refused(
        f"nothing to {event.command.value}: the rollout is over; retry it, or apply a spec to begin another"
    )


def runs(_state: State, _event: Command, _now: float) -> Result:
    """Refuse to begin anew what has not ended."""
    raise Refused("the rollout has not ended; abort takes it back, promote and resume lead on")


def _promoted(state: State, index: int, words: str, now: float) -> Result:
    if not state.converged:
        raise Refused(_NOT_HELD)
    _alive(state, index)
    after, effects = enter(replace(state, resumes=None, left=None), index, now)
    return after, (Record(what="promoted", message=words), *effects)


def _alive(state: State, index: int) -> None:
    if words := lacking(state, index):
        raise Refused(words)


def _unheld(state: State, now: float) -> State:
    """Return the state without the hold; the clock has what it had left."""
    after = replace(state, phase=state.resumes or state.phase, resumes=None, left=None)
    if state.left is None or state.current is None:
        return after
    duration = getattr(state.current, "duration", None) or state.left
    return replace(after, step_began_at=now - (duration - state.left), ends_at=now + state.left)


def _why(what: str, event: Command) -> str:
    return f"{what}: {event.reason}" if event.reason else what
