"""What a spec file would change, and whether it is valid beside the live routes (pure; changes nothing)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xds_server import rollout
from xds_server.engine.caller import audited_state
from xds_server.engine.errors import SpecRefusedError
from xds_server.engine.routes import LiveRoute
from xds_server.spec import Loaded, check_together, digest
from xds_server.store import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xds_server.engine.caller import Caller
    from xds_server.spec import Document, Problem

__all__ = [
    "AppliedRoute",
    "ApplyResult",
    "Candidate",
    "SpecPrecondition",
    "check_file",
    "evaluate",
    "message_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRoute:
    """The result of applying one route of a file; `action` is created, updated or unchanged."""

    name: str
    action: str
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyResult:
    """The result of applying one file."""

    routes: tuple[AppliedRoute, ...]
    warnings: tuple[Problem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecPrecondition:
    """The only route that a file may contain, and the entity tag its stored spec must have.

    A `tag` of `*` matches any existing route; if it is None, the tag is not checked.
    """

    name: str
    tag: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A route as a file would make it; `change` is None where the spec means the same as the stored one."""

    applied: AppliedRoute
    change: Change | None
    becoming: LiveRoute


def check_file(loaded: Loaded, live_routes: Iterable[LiveRoute]) -> None:
    """Check a file alone and together with the live routes that it does not replace.

    Raises:
        SpecRefusedError: The file has errors, alone or beside live routes; the exception holds all problems.
    """
    replaced = {document.route.metadata.name for document in loaded.documents}
    others = [
        Loaded(documents=(live.document,), problems=()) for live in live_routes if live.name not in replaced
    ]
    problems = (*loaded.problems, *check_together([loaded, *others]))
    if any(problem.severity.name == "ERROR" for problem in problems):
        raise SpecRefusedError(problems)


def evaluate(
    document: Document, live: LiveRoute | None, action: str, *, by: Caller, checked: bool, now: float
) -> Candidate:
    """Return what accepting a spec would change; `live` is None for a new route.

    `action` is the name of the request in the audit log. `checked` is whether backends are health-checked.
    """
    name = document.route.metadata.name
    event = rollout.SpecAccepted(
        route=name,
        program=rollout.program(document.route, checked=checked),
        digest=digest(document.route),
        actor=by.actor,
        reason=by.reason,
    )
    after, effects = rollout.step(None if live is None else live.state, event, now)
    if live is not None and after == live.state:
        unchanged = AppliedRoute(name=name, action="unchanged", generation=after.generation)
        return Candidate(applied=unchanged, change=None, becoming=live)
    becoming = LiveRoute(document=document, state=after, seq=None)
    if live is not None:
        becoming.events = live.events
    change = Change(
        name=name,
        expected=None if live is None else live.seq,
        event=event,
        actor=by.actor,
        at=now,
        state=after,
        effects=effects,
        text=document.text,
        file=document.file,
        audit_event=by.audit_event(
            action,
            name,
            now,
            detail=message_of(effects),
            before="" if live is None else audited_state(live.state, live.document.text),
            after=audited_state(after, document.text),
        ),
    )
    applied = AppliedRoute(
        name=name, action="created" if live is None else "updated", generation=after.generation
    )
    return Candidate(applied=applied, change=change, becoming=becoming)


def message_of(effects: tuple[rollout.Effect, ...]) -> str:
    """Return the messages of a change's records in one line."""
    return "; ".join(effect.message for effect in effects if isinstance(effect, rollout.Record))
