"""What would become of a route by a spec, and which files are refused; decides and changes nothing (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xds_server import rollout
from xds_server.engine.caller import standing
from xds_server.engine.errors import SpecRefusedError
from xds_server.engine.live import AppliedRoute, LiveRoute
from xds_server.spec import Loaded, check_together, digest
from xds_server.store import Change

if TYPE_CHECKING:
    from collections.abc import Mapping

    from xds_server.engine.caller import Caller
    from xds_server.spec import Document

__all__ = ["accept", "refuse_wrong", "words_of"]


def refuse_wrong(loaded: Loaded, routes: Mapping[str, LiveRoute]) -> None:
    """Refuse a file that is wrong alone, or beside the routes that run.

    Raises:
        SpecRefusedError: It is; holds everything that is wrong.
    """
    renewed = {document.route.metadata.name for document in loaded.documents}
    others = [
        Loaded(documents=(live.document,), problems=())
        for name, live in routes.items()
        if name not in renewed
    ]
    problems = (*loaded.problems, *check_together([loaded, *others]))
    if any(problem.severity.name == "ERROR" for problem in problems):
        raise SpecRefusedError(problems)


def accept(
    document: Document, live: LiveRoute | None, action: str, *, by: Caller, checked: bool, now: float
) -> tuple[AppliedRoute, Change | None, LiveRoute]:
    """Return what would become of a route, None for a new one; no change where the spec means the same.

    `action` is what the audit calls it. With `checked`, somebody tells which backends live.
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
        return AppliedRoute(name=name, action="unchanged", generation=after.generation), None, live
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
        deed=by.deed(
            action,
            name,
            now,
            detail=words_of(effects),
            before="" if live is None else standing(live.state, live.document.text),
            after=standing(after, document.text),
        ),
    )
    action = "created" if live is None else "updated"
    return AppliedRoute(name=name, action=action, generation=after.generation), change, becoming


def words_of(effects: tuple[rollout.Effect, ...]) -> str:
    """Return what effects say to people, in one line."""
    return "; ".join(effect.message for effect in effects if isinstance(effect, rollout.Record))
