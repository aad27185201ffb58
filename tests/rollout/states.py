"""States of a rollout, and the events that reach it, built directly for tests that compare whole states."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from xds_server.rollout import (
    STRATEGY_SPLIT,
    Action,
    Bake,
    Command,
    Converged,
    Effect,
    NotConverged,
    Pause,
    Phase,
    Program,
    Record,
    SetWeight,
    Split,
    State,
    reallocate,
)

if TYPE_CHECKING:
    from xds_server.rollout import Step

__all__ = ["CANARY", "NOW", "command", "converged", "not_converged", "program", "records", "state"]

NOW = 1_000.0
CANARY: tuple[Step, ...] = (
    SetWeight(weight=500),
    Pause(duration=60.0),
    SetWeight(weight=10_000),
    Bake(duration=30.0),
)


def program(*steps: Step, **overrides: Any) -> Program:
    """Return a program from v1 to v2 with a convergence timeout of 10 s and a progress deadline of 100 s."""
    defaults: dict[str, Any] = {
        "stable": "v1",
        "candidate": "v2",
        "steps": steps or CANARY,
        "convergence_timeout": 10.0,
        "progress_deadline": 100.0,
        "serve": "v1",
    }
    return Program(**defaults | overrides)


@cache
def _split(weight: int) -> Split:
    return Split(name=STRATEGY_SPLIT, segments=reallocate((), "v1", {"v2": weight}))


def state(phase: Phase, *steps: Step, weight: int = 0, **overrides: Any) -> State:
    """Return a state of revision 7 that was published at `NOW`; `program=` replaces `steps`."""
    defaults: dict[str, Any] = {
        "route": "chat",
        "revision": 7,
        "generation": 3,
        "digest": "d1",
        "program": program(*steps),
        "phase": phase,
        "splits": (_split(weight),),
        "published_at": NOW,
    }
    return State(**defaults | overrides)


def converged(current: State, acked: int = 2, connected: int = 2) -> Converged:
    """Return the event that a quorum of proxies is synced with the newest revision of a state."""
    return Converged(revision=current.revision, acked=acked, connected=connected)


def not_converged(current: State, *, refused: bool = False, detail: str = "waiting for b") -> NotConverged:
    """Return the event that the proxies are not synced with the newest revision of a state."""
    return NotConverged(revision=current.revision, refused=refused, detail=detail)


def command(kind: Action, reason: str = "") -> Command:
    """Return a command of the operator `ada`."""
    return Command(command=kind, actor="ada", reason=reason)


def records(effects: tuple[Effect, ...]) -> list[tuple[str, str]]:
    """Return the name and message of each record among the effects."""
    return [(effect.what, effect.message) for effect in effects if isinstance(effect, Record)]
