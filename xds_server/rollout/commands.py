"""Handlers for operator commands; a command that the phase does not allow raises an error."""

from __future__ import annotations

from dataclasses import replace

from xds_server.rollout.events import Command, CommandNotAllowedError, Publish, Record
from xds_server.rollout.state import (
    ACTIVE_PHASES,
    Experiment,
    Kill,
    Outcome,
    Pause,
    Phase,
    SetWeight,
    State,
)
from xds_server.rollout.step_entry import Result, blocking_reason, bump_revision, enter, roll_back

__all__ = [
    "abort",
    "kill",
    "pause",
    "promote",
    "promote_full",
    "reject_after_end",
    "reject_not_killed",
    "reject_still_running",
    "reject_while_killed",
    "resume",
    "retry",
    "retry_convergence",
    "undo",
    "unkill",
    "without_kill",
]

_NOT_CONVERGED = (
    "the rollout has not converged: fewer proxies are synced than convergence.quorum requires; "
    "promote after they are synced, or abort to roll back"
)


def pause(state: State, event: Command, now: float) -> Result:
    """Stop the step timer; weights stay."""
    if state.resumes is not None or (isinstance(state.current, Pause) and state.ends_at is None):
        if state.phase is Phase.DEGRADED:
            raise CommandNotAllowedError(
                "a Degraded rollout cannot be paused, because it already waits for proxies; "
                "retry sets a new progress deadline, abort rolls the rollout back"
            )
        return state, ()
    left = None if state.ends_at is None else max(0.0, state.ends_at - now)
    after = replace(state, phase=Phase.PAUSED, resumes=state.phase, left=left, ends_at=None)
    return after, (Record(what="paused", message=_with_reason("the step timer is stopped", event)),)


def resume(state: State, event: Command, now: float) -> Result:
    """Continue with the time that was left on the step timer; end a pause step without a duration."""
    if state.resumes is None:
        _require_healthy(state, state.step + 1)
        after, effects = enter(state, state.step + 1, now)
        return after, (
            Record(what="resumed", message=_with_reason("the pause step has ended", event)),
            *effects,
        )
    after = _resume_timer(state, now)
    # The next tick checks whether the proxies converged during the pause.
    timed = after.ends_at is not None
    message = "the step timer continues" if timed else "the rollout continues"
    return after, (Record(what="resumed", message=_with_reason(message, event)),)


def promote(state: State, event: Command, now: float) -> Result:
    """End a wait for time, evidence or an operator; convergence of the current step is always required."""
    following = 0 if Phase.PENDING in {state.resumes, state.phase} else state.step + 1
    if following == 0:
        text = "advanced to the first step"
    elif following < len(state.program.steps):
        text = "advanced to the next step"
    else:
        text = "ended the last step"
    return _promote_to(state, following, _with_reason(text, event), now)


def promote_full(state: State, event: Command, now: float) -> Result:
    """Enter the last weight step, which must converge before the rollout goes on, like any weight.

    From that step on, or if there is none, do the same as `promote`.
    """
    weights = [n for n, step in enumerate(state.program.steps) if isinstance(step, SetWeight | Experiment)]
    started = Phase.PENDING not in {state.resumes, state.phase}
    if not weights or (started and state.step >= weights[-1]):
        return promote(state, event, now)
    return _promote_to(state, weights[-1], _with_reason("advanced to the last weight", event), now)


def abort(state: State, event: Command, now: float) -> Result:
    """Roll back at once: weights and the mirrored share go to zero."""
    if not state.program.variants or (state.phase is Phase.HEALTHY and not state.weight):
        return state, ()
    record = Record(what="aborted", message=_with_reason("all users return to the stable backend", event))
    return roll_back(state, Outcome.ABORTED, record, now)


def undo(state: State, event: Command, now: float) -> Result:
    """Roll back a running or ended rollout; raises if there is nothing to undo."""
    if not state.weight and not state.mirror and state.phase not in ACTIVE_PHASES:
        raise CommandNotAllowedError(
            "there is nothing to undo: no users are on a candidate; "
            "undo --to N applies the spec of generation N again"
        )
    outcome = Outcome.ABORTED if state.phase in ACTIVE_PHASES else Outcome.UNDONE
    record = Record(what="undone", message=_with_reason("all users return to the stable backend", event))
    return roll_back(state, outcome, record, now)


def retry(state: State, event: Command, now: float) -> Result:
    """Restart an ended rollout from its first step, with the same spec."""
    if not state.program.steps:
        raise CommandNotAllowedError("there is nothing to retry: the spec describes no rollout")
    if state.outcome is Outcome.PROMOTED:
        raise CommandNotAllowedError(
            "there is nothing to retry: the candidate was promoted; undo rolls it back"
        )
    after = replace(
        bump_revision(state, now),
        phase=Phase.PENDING,
        outcome=None,
        step=0,
        step_began_at=None,
        ends_at=None,
        resumes=None,
        left=None,
        message="",
        proven=False,
        equivalence="",
        pairs_before=None,
        run=state.run + 1,
        withdrawn=(),
        finding=None,
        lapsed=False,
    )
    record = Record(what="retried", message=_with_reason("restarted from the first step", event))
    return after, (record, Publish())


def retry_convergence(state: State, event: Command, now: float) -> Result:
    """Wait for the proxies again with a new deadline."""
    after = replace(bump_revision(state, now), phase=state.resumes or Phase.PENDING, resumes=None, message="")
    record = Record(what="retried", message=_with_reason("waiting for the proxies again", event))
    return after, (record, Publish())


def kill(state: State, event: Command, now: float) -> Result:
    """Send all users to one backend at once; the rollout stays suspended until the kill ends."""
    if not event.reason.strip():
        raise CommandNotAllowedError("a kill requires a reason: -m REASON, or `reason` in the API")
    left = None if state.ends_at is None else max(0.0, state.ends_at - now)
    active = Kill(
        serve=state.program.serve or state.program.stable,
        actor=event.actor,
        reason=event.reason,
        at=now,
        by_spec=False,
        phase=state.phase,
        left=left,
    )
    message = f"{active.serve} serves all users: {event.reason}"
    after = replace(bump_revision(state, now), phase=Phase.KILLED, kill=active, ends_at=None)
    return after, (Record(what="killed", message=message), Publish())


def unkill(state: State, event: Command, now: float) -> Result:
    """End the kill and continue what it interrupted."""
    if state.kill is not None and state.kill.by_spec:
        raise CommandNotAllowedError(
            "the spec sets killSwitch.enabled: true; set it to false and apply the spec"
        )
    after = bump_revision(without_kill(state, now), now)
    record = Record(what="unkilled", message=_with_reason(f"back in phase {after.phase.value}", event))
    return after, (record, Publish())


def without_kill(state: State, now: float) -> State:
    """Return the state the kill interrupted, with its step timer running again."""
    if state.kill is None:
        return state
    left, step = state.kill.left, state.current
    after = replace(state, phase=state.kill.phase, kill=None)
    if left is None:
        return after
    duration = getattr(step, "duration", None) or left
    return replace(after, step_began_at=now - (duration - left), ends_at=now + left)


def reject_while_killed(state: State, event: Command, _now: float) -> Result:
    """Raise: the command has no meaning while the route is killed."""
    if (kill := state.kill) is not None and kill.by_spec:
        problem = f"killed by the spec: {kill.reason}; set killSwitch.enabled: false in the spec"
    elif kill is not None:
        problem = f"killed by {kill.actor}: {kill.reason}; unkill it"
    else:
        problem = "killed; unkill it"
    raise CommandNotAllowedError(f"the route is {problem} before you {event.command.value}")


def reject_not_killed(_state: State, _event: Command, _now: float) -> Result:
    """Raise: there is no kill to end."""
    raise CommandNotAllowedError("the route is not killed")


def reject_after_end(state: State, event: Command, _now: float) -> Result:
    """Raise: the rollout has ended, or is rolling back."""
    if state.phase is Phase.ROLLING_BACK:
        problem = "the rollout is rolling back; retry it when its phase is RolledBack"
    elif not state.program.steps:
        problem = "the spec describes no rollout"
    elif state.outcome is Outcome.PROMOTED:
        problem = "the rollout has ended; apply a changed spec to start another"
    else:
        problem = "the rollout has ended; retry it, or apply a changed spec to start another"
    raise CommandNotAllowedError(f"nothing to {event.command.value}: {problem}")


def reject_still_running(state: State, _event: Command, _now: float) -> Result:
    """Raise: a rollout that is running or rolling back cannot be retried."""
    if state.phase is Phase.ROLLING_BACK:
        raise CommandNotAllowedError("the rollback has not ended; retry when the phase is RolledBack")
    raise CommandNotAllowedError(
        f"the rollout has not ended (phase {state.phase.value}); promote advances it, abort rolls it back"
    )


def _promote_to(state: State, index: int, message: str, now: float) -> Result:
    if not state.converged:
        raise CommandNotAllowedError(_NOT_CONVERGED)
    _require_healthy(state, index)
    after, effects = enter(replace(state, resumes=None, left=None), index, now)
    return after, (Record(what="promoted", message=message), *effects)


def _require_healthy(state: State, index: int) -> None:
    if reason := blocking_reason(state, index):
        raise CommandNotAllowedError(reason)


def _resume_timer(state: State, now: float) -> State:
    """Return the state without the operator's pause; the step timer has the time that was left."""
    after = replace(state, phase=state.resumes or state.phase, resumes=None, left=None)
    if state.left is None or state.current is None:
        return after
    duration = getattr(state.current, "duration", None) or state.left
    return replace(after, step_began_at=now - (duration - state.left), ends_at=now + state.left)


def _with_reason(message: str, event: Command) -> str:
    return f"{message}: {event.reason}" if event.reason else message
