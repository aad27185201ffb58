"""The page on which a spec is written, checked and applied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from xds_server.engine import Only, SpecRefusedError, StaleError
from xds_server.identity import Role
from xds_server.web.gate import caller, need

if TYPE_CHECKING:
    from xds_server.engine import Applied, Engine
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
        return self._shown(request)

    async def change(self, request: web.Request) -> web.StreamResponse:
        """Show the spec that runs."""
        self._frame.who(request)
        name = request.match_info["name"]
        await need(request, self._engine, Role.OPERATOR, name, "change")
        return self._shown(
            request, name=name, text=self._engine.spec_text(name), tag=self._engine.spec_tag(name)
        )

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Check or apply what was written; what is refused comes back with everything that is wrong."""
        self._frame.who(request)
        form = await request.post()
        self._frame.check(request, form.get("csrf", ""))
        text, tag = str(form.get("spec", "")).replace("\r\n", "\n"), str(form.get("tag", ""))
        name, reason = request.match_info.get("name", ""), str(form.get("reason", ""))[:2_000]
        only, check = Only(name=name, tag=tag) if name else None, form.get("do") == "check"
        kept = {"name": name, "text": text, "tag": tag, "reason": reason}
        by = caller(request, Role.OPERATOR, reason=reason)
        try:
            applied = await self._engine.apply(text, file="page", by=by, dry_run=check, only=only)
        except SpecRefusedError as error:
            problems = [str(problem) for problem in error.problems]
            return self._shown(
                request, status=422, refused="Nothing was changed:", problems=problems, **kept
            )
        except StaleError as error:
            return self._shown(request, status=412, refused=f"Nothing was changed: {error}", **kept)
        if check:
            warnings = [str(problem) for problem in applied.warnings]
            return self._shown(request, checked=_would(applied), warnings=warnings, **kept)
        first = applied.routes[0].name if applied.routes else ""
        raise web.HTTPSeeOther(f"/routes/{first}" if first else "/")

    def _shown(  # noqa: PLR0913 - what the page shows
        self,
        request: web.Request,
        *,
        status: int = 200,
        name: str = "",
        text: str = "",
        tag: str = "",
        reason: str = "",
        refused: str = "",
        problems: list[str] | None = None,
        checked: str = "",
        warnings: list[str] | None = None,
    ) -> web.Response:
        return self._frame.page(
            request,
            "apply.html",
            status=status,
            name=name,
            text=text,
            tag=tag,
            reason=reason,
            refused=refused,
            problems=problems or [],
            checked=checked,
            warnings=warnings or [],
        )


def _would(applied: Applied) -> str:
    said = ", ".join(f"route {one.name} would be {one.action}" for one in applied.routes)
    return f"No problem: {said}." if said else "No problem, and no route in it."
