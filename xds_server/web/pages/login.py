"""Logging in to the pages: with a token, or through an identity provider."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from xds_server.web.authenticator import COOKIE, SESSION
from xds_server.web.landing import local, logged_in
from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from xds_server.web.authenticator import Authenticator
    from xds_server.web.oidc import Provider
    from xds_server.web.pages.frame import Frame

__all__ = ["login_routes"]


def login_routes(gate: Authenticator, frame: Frame, provider: Provider | None) -> list[web.RouteDef]:
    """Return the routes of logging in and out."""
    named = "" if provider is None else provider.name

    async def ask(request: web.Request) -> web.StreamResponse:
        if gate.is_open:
            raise web.HTTPFound("/")
        following = local(request.query.get("next", "/"))
        return frame.page(request, "login.html", error="", next=following, provider=named)

    async def with_token(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        following = local(str(form.get("next", "/")))
        try:
            token = await gate.token(str(form.get("token", "")), request)
            text, _ = await gate.log_in(request, token.principal, token)
        except ProblemError as error:
            return frame.page(
                request, "login.html", status=error.status, error=error.detail, next=following, provider=named
            )
        return logged_in(request, gate, text, following)

    async def out(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        frame.check(request, form.get("csrf", ""))
        session = request.get(SESSION)
        if session is not None:
            await gate.log_out(request, session)
        answer = web.HTTPSeeOther("/login")
        answer.del_cookie(COOKIE, path="/")
        raise answer

    return [
        web.get("/login", frame.said_nicely(ask)),
        web.post("/login", frame.said_nicely(with_token)),
        web.post("/logout", frame.said_nicely(out)),
        *([] if provider is None else provider.routes(frame)),
    ]
