"""The pages for routes, proxies and the audit log, and the forms that run operator commands."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from xds_server.access.identity import Role
from xds_server.engine import Action, CommandRefusedError
from xds_server.web.authenticator import PRINCIPAL, require_role, to_caller
from xds_server.web.operations import query_number
from xds_server.web.pages.charts import weights_chart
from xds_server.web.pages.formatting import BUTTONS, buttons, progress
from xds_server.web.pages.live_updates import LiveUpdates
from xds_server.web.pages.spec_editor import SpecEditor
from xds_server.web.visibility import audited_routes, visible_proxies, visible_routes

if TYPE_CHECKING:
    from xds_server.engine import Engine
    from xds_server.view import EventView, RouteView
    from xds_server.web.pages.renderer import PageRenderer

__all__ = ["page_routes"]

_CHART_EVENTS: Final = 2_000
_AUDIT_PAGE: Final = 100
_MAX_HISTORIES: Final = 20
"""Maximum number of routes whose history is cached for their pages."""
_MAX_VERIFIED: Final = 20_000
"""The audit page verifies the chain only if it has at most this number of entries, to respond quickly."""
_ACTIONS: Final = "|".join(action.value for action in BUTTONS)


def page_routes(engine: Engine, renderer: PageRenderer, *, pairs_url: str = "") -> list[web.RouteDef]:
    """Return the routes of the pages; `pairs_url` is the URL of the collector's list of pairs."""
    pages = _Pages(engine, renderer, pairs_url)
    found = renderer.routes()
    editor = SpecEditor(engine, renderer)
    for path, handler in (
        ("/", pages.overview),
        ("/apply", editor.show_empty),
        ("/routes/{name}/edit", editor.show_spec),
        ("/live", pages.overview_live),
        ("/routes/{name}", pages.route),
        ("/routes/{name}/live", pages.route_live),
        ("/routes/{name}/spec", pages.spec),
        (f"/routes/{{name}}/{{action:{_ACTIONS}}}", pages.confirm_command),
        ("/proxies", pages.proxies),
        ("/audit", pages.audit),
    ):
        found.append(web.get(path, renderer.with_error_page(handler)))
    for path, handler in (
        (f"/routes/{{name}}/{{action:{_ACTIONS}}}", pages.run_command),
        ("/apply", editor.submit),
        ("/routes/{name}/edit", editor.submit),
    ):
        found.append(web.post(path, renderer.with_error_page(handler)))
    return found


class _Pages:
    def __init__(self, engine: Engine, renderer: PageRenderer, pairs_url: str) -> None:
        self._engine = engine
        self._renderer = renderer
        self._pairs_url = pairs_url
        self._live = LiveUpdates()
        self._histories: dict[str, list[EventView]] = {}

    async def overview(self, request: web.Request) -> web.StreamResponse:
        return self._renderer.page(request, "routes.html", **self._overview_values(request))

    async def overview_live(self, request: web.Request) -> web.StreamResponse:
        principal = self._renderer.principal(request)

        async def fragment() -> str:
            return self._renderer.fragment(request, "routes_live.html", **self._overview_values(request))

        async def is_allowed() -> bool:
            return await self._renderer.authenticator.is_still_valid(request)

        return await self._live.stream(request, principal.grants, fragment, is_allowed)

    async def route(self, request: web.Request) -> web.StreamResponse:
        name = await self._visible_name(request)
        done = request.query.get("done", "")
        button = next((button for button in BUTTONS.values() if button.name == done), None)
        message = "" if button is None else f"{button.label}: done. The command is in the audit log."
        values = await self._route_values(request, name)
        return self._renderer.page(request, "route.html", message=message, **values)

    async def route_live(self, request: web.Request) -> web.StreamResponse:
        name = await self._visible_name(request)

        async def fragment() -> str:
            values = await self._route_values(request, name)
            return self._renderer.fragment(request, "route_live.html", **values)

        async def is_allowed() -> bool:
            principal, labels = request[PRINCIPAL], self._engine.queries.labels(name)
            return principal.may(Role.VIEWER, labels) and await self._renderer.authenticator.is_still_valid(
                request
            )

        may_operate = request[PRINCIPAL].may(Role.OPERATOR, self._engine.queries.labels(name))
        return await self._live.stream(request, (name, may_operate), fragment, is_allowed)

    async def spec(self, request: web.Request) -> web.StreamResponse:
        name = await self._visible_name(request)
        return self._renderer.page(
            request,
            "spec.html",
            view=self._engine.queries.view(name),
            text=self._engine.queries.spec_text(name),
        )

    async def confirm_command(self, request: web.Request) -> web.StreamResponse:
        """Show the form that asks for a reason and confirms a command."""
        self._renderer.principal(request)
        name, action = request.match_info["name"], Action(request.match_info["action"])
        await require_role(request, self._engine, Role.OPERATOR, name, action.value)
        return self._confirm_page(request, name, action)

    async def run_command(self, request: web.Request) -> web.StreamResponse:
        """Run a confirmed command, and redirect to the route."""
        self._renderer.principal(request)
        name, action = request.match_info["name"], Action(request.match_info["action"])
        form = await request.post()
        self._renderer.check_csrf(request, form.get("csrf", ""))
        reason = str(form.get("reason", "")).strip()[:2_000]
        by = to_caller(request, Role.OPERATOR, reason=reason)
        full = action is Action.PROMOTE and form.get("full") == "true"
        try:
            await self._engine.routes.command(name, Action.PROMOTE_FULL if full else action, by=by)
        except CommandRefusedError as error:
            return self._confirm_page(request, name, action, error=str(error), reason=reason, status=409)
        raise web.HTTPSeeOther(f"/routes/{name}?done={action.value}")

    async def proxies(self, request: web.Request) -> web.StreamResponse:
        principal, group = self._renderer.principal(request), request.query.get("group", "")
        visible = visible_proxies(self._engine, principal, group)
        ordered = sorted(visible, key=lambda view: (view.status.value, view.id))
        return self._renderer.page(request, "proxies.html", proxies=ordered, group=group)

    async def audit(self, request: web.Request) -> web.StreamResponse:
        principal, route = self._renderer.principal(request), request.query.get("route") or None
        routes = audited_routes(self._engine, principal)
        before = query_number(request, "before", default=None)
        entries = await self._engine.queries.audit(_AUDIT_PAGE, route, routes=routes, before=before)
        chain = None
        if routes is None and before is None:
            count = await self._engine.queries.audit_end()
            breaks = (await self._engine.queries.audit_breaks())[1] if count <= _MAX_VERIFIED else None
            chain = {"entries": count, "breaks": breaks}
        older = entries[0].seq if len(entries) == _AUDIT_PAGE else None
        return self._renderer.page(
            request, "audit.html", entries=entries, chain=chain, route=route, before=older
        )

    def _confirm_page(
        self,
        request: web.Request,
        name: str,
        action: Action,
        *,
        error: str = "",
        reason: str = "",
        status: int = 200,
    ) -> web.Response:
        return self._renderer.page(
            request,
            "confirm.html",
            status=status,
            view=self._engine.queries.view(name),
            action=BUTTONS[action],
            error=error,
            reason=reason,
        )

    def _overview_values(self, request: web.Request) -> dict[str, Any]:
        principal = self._renderer.principal(request)
        return {
            "views": visible_routes(self._engine, principal),
            "now": time.time(),
            "may_apply": principal.highest_role >= Role.OPERATOR,
        }

    async def _history(self, view: RouteView) -> list[EventView]:
        """Return the history of a route from the cache, which is refreshed when there are new events."""
        cached = self._histories.get(view.name)
        if not cached or not view.events or cached[-1].seq != view.events[-1].seq:
            if len(self._histories) >= _MAX_HISTORIES:
                self._histories.clear()
            cached = self._histories[view.name] = await self._engine.queries.events(
                view.name, _CHART_EVENTS, whole=False
            )
        return cached

    async def _route_values(self, request: web.Request, name: str) -> dict[str, Any]:
        view, now = self._engine.queries.view(name), time.time()
        events = await self._history(view)
        return {
            "view": view,
            "now": now,
            "chart": weights_chart(events, view.weights, view.stable, now),
            "progress": progress(view, now),
            "buttons": buttons(view.actions),
            "may_operate": request[PRINCIPAL].may(Role.OPERATOR, view.labels),
            "pairs_url": self._pairs_url,
        }

    async def _visible_name(self, request: web.Request) -> str:
        """Return the route name in the path, and require that the principal may view the route."""
        self._renderer.principal(request)
        name = request.match_info["name"]
        await require_role(request, self._engine, Role.VIEWER, name, "see")
        return name
