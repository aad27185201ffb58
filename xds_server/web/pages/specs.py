"""The page on which a spec is written, checked and applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from xds_server.access.identity import Role
from xds_server.engine import CommandRefusedError, SpecPrecondition, SpecRefusedError, StaleError
from xds_server.web.authenticator import caller, need, need_somewhere

if TYPE_CHECKING:
    from xds_server.engine import ApplyResult, Engine
    from xds_server.web.pages.frame import Frame

__all__ = ["SpecPages"]


class SpecPages:
    """A new spec, or a change of one that runs."""

    def __init__(self, engine: Engine, frame: Frame) -> None:
        self._engine = engine
        self._frame = frame

    async def new(self, request: web.Request) -> web.StreamResponse:
        """Show an empty page."""
        self._frame.who(request)
        return self._shown(request, _Written())

    async def change(self, request: web.Request) -> web.StreamResponse:
        """Show the spec that runs."""
        self._frame.who(request)
        name = request.match_info["name"]
        await need(request, self._engine, Role.OPERATOR, name, "change")
        tag = self._engine.queries.spec_tag(name)
        return self._shown(request, _Written(name=name, text=self._engine.queries.spec_text(name), tag=tag))

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Check or apply what was written; what is refused comes back with everything that is wrong."""
        self._frame.who(request)
        form = await request.post()
        self._frame.check(request, form.get("csrf", ""))
        await need_somewhere(
            request, self._engine, Role.OPERATOR, "apply", request.match_info.get("name", "")
        )
        written = _Written(
            name=request.match_info.get("name", ""),
            text=str(form.get("spec", "")).replace("\r\n", "\n"),
            tag=str(form.get("tag", "")),
            reason=str(form.get("reason", ""))[:2_000],
        )
        only = SpecPrecondition(name=written.name, tag=written.tag) if written.name else None
        by, check = caller(request, Role.OPERATOR, reason=written.reason), form.get("do") == "check"
        try:
            applied = await self._engine.routes.apply(
                written.text, file="page", by=by, dry_run=check, only=only
            )
        except SpecRefusedError as error:
            words = _Answer(refused="Nothing was changed:", lines=tuple(map(str, error.problems)))
            return self._shown(request, written, words, status=422)
        except (CommandRefusedError, StaleError) as error:
            status = 412 if isinstance(error, StaleError) else 409
            words = _Answer(refused=f"Nothing was changed: {error}")
            return self._shown(request, written, words, status=status)
        if check:
            words = _Answer(checked=_would(applied), lines=tuple(map(str, applied.warnings)))
            return self._shown(request, written, words)
        first = applied.routes[0].name if applied.routes else ""
        raise web.HTTPSeeOther(f"/routes/{first}" if first else "/")

    def _shown(
        self, request: web.Request, written: _Written, answer: _Answer | None = None, *, status: int = 200
    ) -> web.Response:
        return self._frame.page(
            request, "apply.html", status=status, written=written, answer=answer or _Answer()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """What stands in the form; `tag` is that of the spec it began with."""

    name: str = ""
    text: str = ""
    tag: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What is said of it: refused, or checked, with a line for each problem or warning."""

    refused: str = ""
    checked: str = ""
    lines: tuple[str, ...] = ()


def _would(applied: ApplyResult) -> str:
    said = ", ".join(f"route {one.name} would be {one.action}" for one in applied.routes)
    return f"No problem: {said}." if said else "No problem, and no route in it."
