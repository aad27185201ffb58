"""The page that edits, checks and applies a spec."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aiohttp import web

from xds_server.access.identity import Role
from xds_server.engine import CommandRefusedError, SpecPrecondition, SpecRefusedError, StaleError
from xds_server.web.authenticator import require_role, require_role_somewhere, to_caller

if TYPE_CHECKING:
    from xds_server.engine import ApplyResult, Engine
    from xds_server.web.pages.renderer import PageRenderer

__all__ = ["SpecEditor"]


class SpecEditor:
    """Handlers that edit a new spec or the spec of an existing route."""

    def __init__(self, engine: Engine, renderer: PageRenderer) -> None:
        """Create handlers that apply specs with `engine`."""
        self._engine = engine
        self._renderer = renderer

    async def show_empty(self, request: web.Request) -> web.StreamResponse:
        """Show an empty form."""
        self._renderer.principal(request)
        return self._page(request, _Form())

    async def show_spec(self, request: web.Request) -> web.StreamResponse:
        """Show a form with the current spec of a route."""
        self._renderer.principal(request)
        name = request.match_info["name"]
        await require_role(request, self._engine, Role.OPERATOR, name, "change")
        tag = self._engine.queries.spec_tag(name)
        return self._page(request, _Form(name=name, text=self._engine.queries.spec_text(name), tag=tag))

    async def submit(self, request: web.Request) -> web.StreamResponse:
        """Check or apply the submitted spec; on errors show the form again with all problems."""
        self._renderer.principal(request)
        fields = await request.post()
        self._renderer.check_csrf(request, fields.get("csrf", ""))
        await require_role_somewhere(
            request, self._engine, Role.OPERATOR, "apply", request.match_info.get("name", "")
        )
        form = _Form(
            name=request.match_info.get("name", ""),
            text=str(fields.get("spec", "")).replace("\r\n", "\n"),
            tag=str(fields.get("tag", "")),
            reason=str(fields.get("reason", ""))[:2_000],
        )
        only = SpecPrecondition(name=form.name, tag=form.tag) if form.name else None
        by, check = to_caller(request, Role.OPERATOR, reason=form.reason), fields.get("do") == "check"
        try:
            applied = await self._engine.routes.apply(form.text, file="page", by=by, dry_run=check, only=only)
        except SpecRefusedError as error:
            result = _Result(error="Nothing was changed:", lines=tuple(map(str, error.problems)))
            return self._page(request, form, result, status=422)
        except CommandRefusedError as error:
            return self._page(request, form, _Result(error=f"Nothing was changed: {error}"), status=409)
        except StaleError as error:
            result = _Result(error=f"Nothing was changed: {_stale_message(form.name, error)}")
            return self._page(request, form, result, status=412)
        if check:
            result = _Result(success=_check_message(applied), lines=tuple(map(str, applied.warnings)))
            return self._page(request, form, result)
        first = applied.routes[0].name if applied.routes else ""
        raise web.HTTPSeeOther(f"/routes/{first}" if first else "/")

    def _page(
        self, request: web.Request, form: _Form, result: _Result | None = None, *, status: int = 200
    ) -> web.Response:
        return self._renderer.page(
            request, "apply.html", status=status, form=form, result=result or _Result()
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """The content of the form; `tag` is the tag of the spec that was loaded into it."""

    name: str = ""
    text: str = ""
    tag: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    """The result of a submission: an error or the success of a check, with problems or warnings."""

    error: str = ""
    success: str = ""
    lines: tuple[str, ...] = ()


def _stale_message(name: str, error: StaleError) -> str:
    if error.exists:
        return (
            f"the spec of route {name!r} was changed in the meantime; copy your changes, then edit it again"
        )
    return f"route {name!r} was deleted in the meantime; to create it again, use the page Apply a spec"


def _check_message(applied: ApplyResult) -> str:
    actions = ", ".join(f"route {route.name} would be {route.action}" for route in applied.routes)
    return f"No errors: {actions}." if actions else "No errors, but the spec contains no route."
