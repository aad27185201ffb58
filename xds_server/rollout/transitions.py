"""The one table: which move belongs to which phase and event.

What is not in the table changes nothing for facts (time, convergence) and is refused for commands. The state
diagram of the docs is drawn from this table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from xds_server.rollout import moves
from xds_server.rollout.events import CommandKind
from xds_server.rollout.state import Phase

__all__ = ["TABLE", "EventKind", "Move"]

Move = Callable[[Any, Any, float], moves.Result]
EventKind = str | CommandKind

_HELD: Final[Mapping[EventKind, Move]] = {
    "notConverged": moves.degrade_or_wait,
    CommandKind.ABORT: moves.abort,
}
_RUNNING: Final[Mapping[EventKind, Move]] = {
    **_HELD,
    "tick": moves.time_passed,
    "converged": moves.go_on,
    CommandKind.PROMOTE: moves.promote,
    CommandKind.PROMOTE_FULL: moves.promote_full,
    CommandKind.PAUSE: moves.hold,
    CommandKind.RESUME: moves.keep,
}

TABLE: Final[Mapping[Phase, Mapping[EventKind, Move]]] = {
    Phase.PENDING: {**_RUNNING, "tick": moves.keep, "converged": moves.begin},
    Phase.SHADOWING: _RUNNING,
    Phase.PROGRESSING: _RUNNING,
    Phase.BAKING: _RUNNING,
    Phase.PAUSED: {
        **_RUNNING,
        "tick": moves.keep,
        "converged": moves.note_converged,
        CommandKind.RESUME: moves.resume,
    },
    Phase.DEGRADED: {
        **_HELD,
        CommandKind.PROMOTE: moves.promote,
        CommandKind.PROMOTE_FULL: moves.promote_full,
        CommandKind.PAUSE: moves.hold,
        CommandKind.RESUME: moves.keep,
    },
    Phase.HEALTHY: {
        "notConverged": moves.degrade_or_wait,
        "converged": moves.settled,
        CommandKind.PROMOTE: moves.keep,
        CommandKind.PROMOTE_FULL: moves.keep,
        CommandKind.PAUSE: moves.too_early,
        CommandKind.RESUME: moves.keep,
        CommandKind.ABORT: moves.abort,
    },
    Phase.ROLLING_BACK: {
        "notConverged": moves.degrade_or_wait,
        "converged": moves.finish_rollback,
        CommandKind.ABORT: moves.keep,
        CommandKind.PROMOTE: moves.too_early,
        CommandKind.PROMOTE_FULL: moves.too_early,
        CommandKind.PAUSE: moves.too_early,
        CommandKind.RESUME: moves.too_early,
    },
    Phase.ROLLED_BACK: {
        "notConverged": moves.keep,
        "converged": moves.keep,
        CommandKind.ABORT: moves.keep,
        CommandKind.PROMOTE: moves.too_early,
        CommandKind.PROMOTE_FULL: moves.too_early,
        CommandKind.PAUSE: moves.too_early,
        CommandKind.RESUME: moves.too_early,
    },
}
