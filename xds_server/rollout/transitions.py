"""The transition table: for each phase and event, the handler, its condition and the phases it may lead to.

An observed event (time, convergence, health, evidence) that is missing from the table changes nothing; every
command is in the table of every phase, if only with a handler that rejects or ignores it. The state diagram
of the docs is drawn from this table, and a test compares every transition with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from xds_server.rollout import commands, failures, handlers
from xds_server.rollout.events import Action
from xds_server.rollout.state import Phase, State
from xds_server.rollout.step_entry import Result

__all__ = ["TABLE", "EventKind", "Handler", "Transition", "under_kill"]

Handler = Callable[[Any, Any, float], Result]
EventKind = str | Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A handler with `when`, its condition in words, and `to`, the phases it may lead to besides staying."""

    handler: Handler
    when: str = ""
    to: tuple[Phase, ...] = ()

    def __call__(self, state: State, event: Any, now: float) -> Result:
        """Run the handler."""
        return self.handler(state, event, now)


def under_kill(handler: Handler) -> Handler:
    """Return the handler for a killed route: it changes the suspended state and keeps the kill."""

    def while_killed(state: State, event: Any, now: float) -> Result:
        inner = commands.without_kill(state, now)
        after, effects = handler(inner, event, now)
        if after is inner or state.kill is None:
            return state, ()
        left = None if after.ends_at is None else max(0.0, after.ends_at - now)
        kill = replace(state.kill, phase=after.phase, left=left)
        return replace(after, phase=Phase.KILLED, kill=kill, ends_at=None), effects

    return while_killed


def _verdict_under_kill(state: State, event: Any, now: float) -> Result:
    """Handle a verdict as the suspended phase does: a rollback that is suspended is not rolled back again."""
    transition = None if state.kill is None else TABLE[state.kill.phase].get("verdict")
    return (state, ()) if transition is None else under_kill(transition.handler)(state, event, now)


_TO_STEPS: Final = (Phase.PROGRESSING, Phase.SHADOWING, Phase.PAUSED, Phase.BAKING, Phase.HEALTHY)
_IGNORE: Final = Transition(handler=handlers.ignore)
_TO_ROLLBACK: Final = (Phase.ROLLING_BACK,)
_KILL: Final[Mapping[EventKind, Transition]] = {
    Action.KILL: Transition(handler=commands.kill, when="with a reason", to=(Phase.KILLED,)),
    Action.UNKILL: Transition(handler=commands.reject_not_killed),
}
_HEALTH: Final[Mapping[EventKind, Transition]] = {
    "health": Transition(
        handler=handlers.update_backend_health,
        when="a candidate with users lost its last healthy endpoint",
        to=_TO_ROLLBACK,
    )
}
_ACTIVE: Final[Mapping[EventKind, Transition]] = {
    **_KILL,
    **_HEALTH,
    "notConverged": Transition(
        handler=handlers.degrade_or_wait, when="not converged within progressDeadline", to=(Phase.DEGRADED,)
    ),
    "verdict": Transition(
        handler=handlers.apply_verdict,
        when="Fail rolls back, Pass ends the analysis step",
        to=(*_TO_ROLLBACK, *_TO_STEPS),
    ),
    "alarm": Transition(
        handler=handlers.apply_alarm,
        when="the alarm requests a rollback, and users or copies reach the candidate",
        to=_TO_ROLLBACK,
    ),
    Action.ABORT: Transition(handler=commands.abort, to=_TO_ROLLBACK),
    Action.UNDO: Transition(handler=commands.undo, to=_TO_ROLLBACK),
    Action.RETRY: Transition(handler=commands.reject_still_running),
}
# These phases have no progress deadline; proxies that are not synced are still reported.
_REPORT_MISSING: Final[Mapping[EventKind, Transition]] = {
    "notConverged": Transition(handler=handlers.degrade_or_wait)
}
_PROMOTE: Final[Mapping[EventKind, Transition]] = {
    Action.PROMOTE: Transition(
        handler=commands.promote, when="the step has converged, the candidate is healthy", to=_TO_STEPS
    ),
    Action.PROMOTE_FULL: Transition(
        handler=commands.promote_full, when="the step has converged, the candidate is healthy", to=_TO_STEPS
    ),
}
_RUNNING: Final[Mapping[EventKind, Transition]] = {
    **_ACTIVE,
    **_PROMOTE,
    "tick": Transition(
        handler=handlers.advance_on_tick, when="the step's time is over, the proxies are synced", to=_TO_STEPS
    ),
    "converged": Transition(
        handler=handlers.advance_on_convergence,
        when="a weight has converged, the next step's variants are healthy",
        to=_TO_STEPS,
    ),
    "evidence": Transition(handler=handlers.update_shadow_evidence),
    "spent": Transition(handler=handlers.adjust_to_token_budget),
    Action.PAUSE: Transition(handler=commands.pause, to=(Phase.PAUSED,)),
    Action.RESUME: _IGNORE,
}
_ENDED: Final[Mapping[EventKind, Transition]] = {
    **_KILL,
    "health": Transition(handler=handlers.update_backend_health),
    Action.ABORT: _IGNORE,
    **dict.fromkeys(
        (Action.PROMOTE, Action.PROMOTE_FULL, Action.PAUSE, Action.RESUME),
        Transition(handler=commands.reject_after_end),
    ),
}

TABLE: Final[Mapping[Phase, Mapping[EventKind, Transition]]] = {
    Phase.PENDING: {
        **_RUNNING,
        "tick": Transition(
            handler=handlers.retry_first_step,
            when="a quorum of the proxies is synced, and each backend that gains users became healthy",
            to=_TO_STEPS,
        ),
        "converged": Transition(
            handler=handlers.enter_first_step,
            when="a quorum of the proxies has the clusters of the backends, and each backend that gains "
            "users is healthy",
            to=_TO_STEPS,
        ),
    },
    Phase.SHADOWING: _RUNNING,
    Phase.PROGRESSING: _RUNNING,
    Phase.BAKING: {**_RUNNING, **_REPORT_MISSING},
    Phase.PAUSED: {
        **_RUNNING,
        **_REPORT_MISSING,
        "tick": _IGNORE,
        "converged": Transition(handler=handlers.record_convergence),
        Action.PAUSE: Transition(handler=commands.pause),
        Action.RESUME: Transition(handler=commands.resume, to=(*_TO_STEPS, Phase.PENDING, Phase.DEGRADED)),
    },
    Phase.DEGRADED: {
        **_ACTIVE,
        **_REPORT_MISSING,
        **_PROMOTE,
        "converged": _IGNORE,
        Action.PAUSE: Transition(handler=commands.pause),
        Action.RESUME: _IGNORE,
        Action.RETRY: Transition(
            handler=commands.retry_convergence, to=(Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING)
        ),
    },
    Phase.HEALTHY: {
        **_ACTIVE,
        **_REPORT_MISSING,
        "verdict": Transition(
            handler=handlers.apply_verdict, when="Fail, while the candidate has users", to=_TO_ROLLBACK
        ),
        "converged": Transition(handler=handlers.mark_converged),
        Action.PROMOTE: _IGNORE,
        Action.PROMOTE_FULL: _IGNORE,
        Action.PAUSE: Transition(handler=commands.reject_after_end),
        Action.RESUME: _IGNORE,
        Action.RETRY: Transition(
            handler=commands.retry, when="the rollout was not promoted", to=(Phase.PENDING,)
        ),
    },
    Phase.ROLLING_BACK: {
        **_ENDED,
        "notConverged": Transition(handler=handlers.degrade_or_wait),
        "converged": Transition(handler=handlers.finish_rollback, to=(Phase.ROLLED_BACK,)),
        # Targets and rules may still serve the candidate, for a long time if a proxy is not synced.
        "verdict": Transition(handler=failures.withdraw_on_fail),
        Action.UNDO: _IGNORE,
        Action.RETRY: Transition(handler=commands.reject_still_running),
    },
    Phase.ROLLED_BACK: {
        **_ENDED,
        "notConverged": _IGNORE,
        "converged": Transition(handler=handlers.mark_converged),
        "verdict": Transition(handler=failures.withdraw_on_fail),
        Action.UNDO: Transition(handler=commands.undo),
        Action.RETRY: Transition(handler=commands.retry, to=(Phase.PENDING,)),
    },
    Phase.KILLED: {
        "converged": Transition(handler=handlers.confirm_kill),
        "notConverged": Transition(handler=under_kill(handlers.degrade_or_wait)),
        "health": Transition(handler=under_kill(handlers.update_backend_health)),
        "verdict": Transition(handler=_verdict_under_kill),
        "alarm": Transition(handler=under_kill(handlers.apply_alarm)),
        Action.ABORT: Transition(handler=under_kill(commands.abort)),
        Action.UNDO: Transition(handler=under_kill(commands.undo)),
        Action.KILL: _IGNORE,
        Action.UNKILL: Transition(
            handler=commands.unkill,
            when="the kill is not set by the spec",
            to=tuple(phase for phase in Phase if phase is not Phase.KILLED),
        ),
        **dict.fromkeys(
            (
                Action.PROMOTE,
                Action.PROMOTE_FULL,
                Action.PAUSE,
                Action.RESUME,
                Action.RETRY,
            ),
            Transition(handler=commands.reject_while_killed),
        ),
    },
}
