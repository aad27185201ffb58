"""The one table: which move belongs to which phase and event, when it is made, and where it may lead.

What is not in the table changes nothing for facts (time, convergence, health) and is refused for commands.
The state diagram of the docs is drawn from this table, and a test holds every move to what it says here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from xds_server.rollout import commands, moves
from xds_server.rollout.events import Action
from xds_server.rollout.state import Phase, State
from xds_server.rollout.steps import Result

__all__ = ["TABLE", "EventKind", "Move", "Transition", "behind"]

Move = Callable[[Any, Any, float], Result]
EventKind = str | Action


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A move; `when` is its guard in words, `to` the phases it may lead to besides staying."""

    move: Move
    when: str = ""
    to: tuple[Phase, ...] = ()

    def __call__(self, state: State, event: Any, now: float) -> Result:
        """Make the move."""
        return self.move(state, event, now)


def behind(move: Move) -> Move:
    """Return the move as it is made behind a kill: the kill stays, and so does what it says."""

    def covered(state: State, event: Any, now: float) -> Result:
        inner = commands.behind_kill(state, now)
        after, effects = move(inner, event, now)
        if after is inner or state.kill is None:
            return state, ()
        left = None if after.ends_at is None else max(0.0, after.ends_at - now)
        kill = replace(state.kill, phase=after.phase, left=left)
        return replace(after, phase=Phase.KILLED, kill=kill, ends_at=None), effects

    return covered


_STEPS: Final = (Phase.PROGRESSING, Phase.SHADOWING, Phase.PAUSED, Phase.BAKING, Phase.HEALTHY)
_KEEP: Final = Transition(move=moves.keep)
_ROLL_BACK: Final = (Phase.ROLLING_BACK,)
_KILL: Final[Mapping[EventKind, Transition]] = {
    Action.KILL: Transition(move=commands.kill, when="with a reason", to=(Phase.KILLED,)),
    Action.UNKILL: Transition(move=commands.not_killed),
}
_HEALTH: Final[Mapping[EventKind, Transition]] = {
    "health": Transition(
        move=moves.lives, when="the last endpoint of a candidate with users died", to=_ROLL_BACK
    )
}
_LIVE: Final[Mapping[EventKind, Transition]] = {
    **_KILL,
    **_HEALTH,
    "notConverged": Transition(
        move=moves.degrade_or_wait, when="not held within progressDeadline", to=(Phase.DEGRADED,)
    ),
    "verdict": Transition(
        move=moves.judged,
        when="Fail takes it back, Pass ends the analysis that waits for it",
        to=(*_ROLL_BACK, *_STEPS),
    ),
    "alarm": Transition(
        move=moves.alarmed, when="one that says so, while somebody is exposed", to=_ROLL_BACK
    ),
    Action.ABORT: Transition(move=commands.abort, to=_ROLL_BACK),
    Action.UNDO: Transition(move=commands.undo, to=_ROLL_BACK),
    Action.RETRY: Transition(move=commands.runs),
}
# Nothing that has a deadline waits for proxies here; who is missing is said all the same.
_NO_WAIT: Final[Mapping[EventKind, Transition]] = {"notConverged": Transition(move=moves.degrade_or_wait)}
_PROMOTE: Final[Mapping[EventKind, Transition]] = {
    Action.PROMOTE: Transition(
        move=commands.promote, when="the proxies hold the step, the candidate lives", to=_STEPS
    ),
    Action.PROMOTE_FULL: Transition(
        move=commands.promote_full, when="the proxies hold the step, the candidate lives", to=_STEPS
    ),
}
_RUNNING: Final[Mapping[EventKind, Transition]] = {
    **_LIVE,
    **_PROMOTE,
    "tick": Transition(
        move=moves.time_passed, when="the step's time is over, the proxies hold it", to=_STEPS
    ),
    "converged": Transition(
        move=moves.go_on, when="a weight is held, the next step's users are safe", to=_STEPS
    ),
    "evidence": Transition(move=moves.proved),
    "spent": Transition(move=moves.spent),
    Action.PAUSE: Transition(move=commands.hold, to=(Phase.PAUSED,)),
    Action.RESUME: _KEEP,
}
_OVER: Final[Mapping[EventKind, Transition]] = {
    **_KILL,
    "health": Transition(move=moves.lives),
    Action.ABORT: _KEEP,
    **dict.fromkeys(
        (Action.PROMOTE, Action.PROMOTE_FULL, Action.PAUSE, Action.RESUME),
        Transition(move=commands.too_early),
    ),
}

TABLE: Final[Mapping[Phase, Mapping[EventKind, Transition]]] = {
    Phase.PENDING: {
        **_RUNNING,
        "tick": Transition(move=moves.begin_late, when="the candidate lives by now", to=_STEPS),
        "converged": Transition(
            move=moves.begin, when="the backends are known, the candidate lives", to=_STEPS
        ),
    },
    Phase.SHADOWING: _RUNNING,
    Phase.PROGRESSING: _RUNNING,
    Phase.BAKING: {**_RUNNING, **_NO_WAIT},
    Phase.PAUSED: {
        **_RUNNING,
        **_NO_WAIT,
        "tick": _KEEP,
        "converged": Transition(move=moves.note_converged),
        Action.PAUSE: Transition(move=commands.hold),
        Action.RESUME: Transition(move=commands.resume, to=(*_STEPS, Phase.PENDING, Phase.DEGRADED)),
    },
    Phase.DEGRADED: {
        **_LIVE,
        **_NO_WAIT,
        **_PROMOTE,
        "converged": _KEEP,
        Action.PAUSE: Transition(move=commands.hold),
        Action.RESUME: _KEEP,
        Action.RETRY: Transition(
            move=commands.restart_wait, to=(Phase.PENDING, Phase.SHADOWING, Phase.PROGRESSING)
        ),
    },
    Phase.HEALTHY: {
        **_LIVE,
        **_NO_WAIT,
        "verdict": Transition(move=moves.judged, when="Fail, while the candidate has users", to=_ROLL_BACK),
        "converged": Transition(move=moves.settled),
        Action.PROMOTE: _KEEP,
        Action.PROMOTE_FULL: _KEEP,
        Action.PAUSE: Transition(move=commands.too_early),
        Action.RESUME: _KEEP,
        Action.RETRY: Transition(move=commands.retry, when="it was not promoted", to=(Phase.PENDING,)),
    },
    Phase.ROLLING_BACK: {
        **_OVER,
        "notConverged": Transition(move=moves.degrade_or_wait),
        "converged": Transition(move=moves.finish_rollback, to=(Phase.ROLLED_BACK,)),
        Action.UNDO: _KEEP,
        Action.RETRY: Transition(move=commands.runs),
    },
    Phase.ROLLED_BACK: {
        **_OVER,
        "notConverged": _KEEP,
        "converged": Transition(move=moves.settled),
        Action.UNDO: Transition(move=commands.undo),
        Action.RETRY: Transition(move=commands.retry, to=(Phase.PENDING,)),
    },
    Phase.KILLED: {
        "converged": Transition(move=moves.kill_held),
        "notConverged": Transition(move=behind(moves.degrade_or_wait)),
        "health": Transition(move=behind(moves.lives)),
        "verdict": Transition(move=behind(moves.judged)),
        "alarm": Transition(move=behind(moves.alarmed)),
        Action.ABORT: Transition(move=behind(commands.abort)),
        Action.UNDO: Transition(move=behind(commands.undo)),
        Action.KILL: _KEEP,
        Action.UNKILL: Transition(
            move=commands.unkill,
            when="the kill was not the spec's",
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
            Transition(move=commands.is_killed),
        ),
    },
}
