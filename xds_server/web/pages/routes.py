"""The pages about routes, proxies and the audit, and the forms that change something."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from xds_server.access.identity import Role
from xds_server.engine import Action, CommandRefusedError
from xds_server.web.authenticator import PRINCIPAL, caller, need
from xds_server.web.operations import number
from xds_server.web.pages.live import Live
from xds_server.web.pages.shapes import weights_chart
from xds_server.web.pages.specs import SpecPages
from xds_server.web.pages.text import BUTTONS, buttons, progress
from xds_server.web.visible import audited_routes, visible_proxies, visible_routes

if TYPE_CHECKING:
    from xds_server.engine import Engine
    from xds_server.view import EventView, RouteView
    from xds_server.web.pages.frame import Frame

__all__ = ["page_routes"]

_CHART_EVENTS: Final = 2_000
_AUDIT_PAGE: Final = 100
_MOST_HISTORIES: Final = 20
"""Routes whose history is kept in memory while somebody looks at them."""
_MOST_VERIFIED: Final = 20_000
"""Entries that are verified whenever somebody looks; more take longer than a page should."""
_ACTIONS: Final = "|".join(action.value for action in BUTTONS)


def page_routes(engine: Engine, frame: Frame, *, pairs_url: str = "") -> list[web.RouteDef]:
    """Return the routes of the pages; `pairs_url` is the collector's list of pairs."""
    pages = _Pages(engine, frame, pairs_url)
    shown = frame.routes()
    specs = SpecPages(engine, frame)
    for path, handler in (
        ("/", pages.overview),
        ("/apply", specs.new),
        ("/routes/{name}/edit", specs.change),
        ("/live", pages.overview_live),
        ("/routes/{name}", pages.route),
        ("/routes/{name}/live", pages.route_live),
        ("/routes/{name}/spec", pages.spec),
        (f"/routes/{{name}}/{{action:{_ACTIONS}}}", pages.ask),
        ("/proxies", pages.proxies),
        ("/audit", pages.audit),
    ):
        shown.append(web.get(path, frame.said_nicely(handler)))
    for path, handler in (
        (f"/routes/{{name}}/{{action:{_ACTIONS}}}", pages.act),
        ("/apply", specs.take),
        ("/routes/{name}/edit", specs.take),
    ):
        shown.append(web.post(path, frame.said_nicely(handler)))
    return shown


class _Pages:
    def __init__(self, engine: Engine, frame: Frame, pairs_url: str) -> None:
        self._engine = engine
        self._frame = frame
        self._pairs_url = pairs_url
        self._live = Live()
        self._histories: dict[str, list[EventView]] = {}

    async def overview(self, request: web.Request) -> web.StreamResponse:
        return self._frame.page(request, "routes.html", **self._overview(request))

    async def overview_live(self, request: web.Request) -> web.StreamResponse:
        who = self._frame.who(request)

        async def part() -> str:
            return self._frame.part(request, "routes_live.html", **self._overview(request))

        async def still() -> bool:
            return await self._frame.gate.still(request)

        return await self._live.follow(request, who.grants, part, still)

    async def route(self, request: web.Request) -> web.StreamResponse:
        name = await self._name(request)
        done = request.query.get("done", "")
        pressed = next((button for button in BUTTONS.values() if button.name == done), None)
        words = "" if pressed is None else f"{pressed.label}: done. It is kept in the audit."
        return self._frame.page(request, "route.html", said=words, **await self._route(request, name))

    async def route_live(self, request: web.Request) -> web.StreamResponse:
        name = await self._name(request)

        async def part() -> str:
            return self._frame.part(request, "route_live.html", **await self._route(request, name))

        async def still() -> bool:
            who, labels = request[PRINCIPAL], self._engine.queries.labels(name)
            return who.may(Role.VIEWER, labels) and await self._frame.gate.still(request)

        operates = request[PRINCIPAL].may(Role.OPERATOR, self._engine.queries.labels(name))
        return await self._live.follow(request, (name, operates), part, still)

    async def spec(self, request: web.Request) -> web.StreamResponse:
        name = await self._name(request)
        return self._frame.page(
            request,
            "spec.html",
            view=self._engine.queries.view(name),
            text=self._engine.queries.spec_text(name),
        )

    async def ask(self, request: web.Request) -> web.StreamResponse:
        """Ask for a reason before anything is done."""
        self._frame.who(request)
        name, action = request.match_info["name"], Action(request.match_info["action"])
        await need(request, self._engine, Role.OPERATOR, name, action.value)
        return self._confirm(request, name, action)

    async def act(self, request: web.Request) -> web.StreamResponse:
        """Do it, and go back to the route."""
        self._frame.who(request)
        name, action = request.match_info["name"], Action(request.match_info["action"])
        form = await request.post()
        self._frame.check(request, form.get("csrf", ""))
        reason = str(form.get("reason", "")).strip()[:2_000]
        by = caller(request, Role.OPERATOR, reason=reason)
        full = action is Action.PROMOTE and form.get("full") == "true"
        try:
            await self._engine.routes.command(name, Action.PROMOTE_FULL if full else action, by=by)
        except CommandRefusedError as error:
            return self._confirm(request, name, action, error=str(error), reason=reason, status=409)
        raise web.HTTPSeeOther(f"/routes/{name}?done={action.value}")

    async def proxies(self, request: web.Request) -> web.StreamResponse:
        who, group = self._frame.who(request), request.query.get("group", "")
        found = visible_proxies(self._engine, who, group)
        shown = sorted(found, key=lambda v: (v.status.value, v.id))
        return self._frame.page(request, "proxies.html", proxies=shown, group=group)

    async def audit(self, request: web.Request) -> web.StreamResponse:
        who, route = self._frame.who(request), request.query.get("route") or None
        routes = audited_routes(self._engine, who)
        before = number(request, "before", default=None)
        entries = await self._engine.queries.audit(_AUDIT_PAGE, route, routes=routes, before=before)
        chain = None
        if routes is None and before is None:
            count = await self._engine.queries.audit_end()
            breaks = (await self._engine.queries.audit_breaks())[1] if count <= _MOST_VERIFIED else None
            chain = {"entries": count, "breaks": breaks}
        older = entries[0].seq if len(entries) == _AUDIT_PAGE else None
        return self._frame.page(
            request, "audit.html", entries=entries, chain=chain, route=route, before=older
        )

    def _confirm(
        self,
        request: web.Request,
        name: str,
        action: Action,
        *,
        error: str = "",
        reason: str = "",
        status: int = 200,
    ) -> web.Response:
        return self._frame.page(
            request,
            "confirm.html",
            status=status,
            view=self._engine.queries.view(name),
            action=BUTTONS[action],
            error=error,
            reason=reason,
        )

    def _overview(self, request: web.Request) -> dict[str, Any]:
        who = self._frame.who(request)
        return {
            "views": visible_routes(self._engine, who),
            "now": time.time(),
            "may_apply": who.highest >= Role.OPERATOR,
        }

    async def _events(self, view: RouteView) -> list[EventView]:
        """Return the history of a route, which is read again only when there is more of it."""
        known = self._histories.get(view.name)
        if not known or not view.events or known[-1].seq != view.events[-1].seq:
            if len(self._histories) >= _MOST_HISTORIES:
                self._histories.clear()
            known = self._histories[view.name] = await self._engine.queries.events(
                view.name, _CHART_EVENTS, whole=False
            )
        return known

    async def _route(self, request: web.Request, name: str) -> dict[str, Any]:
        view, now = self._engine.queries.view(name), time.time()
        events = await self._events(view)
        return {
            "view": view,
            "now": now,
            "chart": weights_chart(events, view.weights, view.stable, now),
            "progress": progress(view, now),
            "buttons": buttons(view.actions),
            "may_operate": request[PRINCIPAL].may(Role.OPERATOR, view.labels),
            "pairs_url": self._pairs_url,
        }

    async def _name(self, request: web.Request) -> str:
        """Return the name of a route that whoever looks may see."""
        self._frame.who(request)
        name = request.match_info["name"]
        await need(request, self._engine, Role.VIEWER, name, "see")
        return name
