"""The login page: log in with a token or an identity provider, and log out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from xds_server.web.authenticator import COOKIE, SESSION
from xds_server.web.problems import ProblemError
from xds_server.web.redirects import local_path, login_redirect

if TYPE_CHECKING:
    from xds_server.web.authenticator import Authenticator
    from xds_server.web.oidc import OidcProvider
    from xds_server.web.pages.renderer import PageRenderer

__all__ = ["login_routes"]


def login_routes(
    authenticator: Authenticator, renderer: PageRenderer, provider: OidcProvider | None
) -> list[web.RouteDef]:
    """Return the routes for logging in and out."""
    provider_name = "" if provider is None else provider.name

    async def show_form(request: web.Request) -> web.StreamResponse:
        if authenticator.is_open:
            raise web.HTTPFound("/")
        path = local_path(request.query.get("next", "/"))
        return renderer.page(request, "login.html", error="", next=path, provider=provider_name)

    async def log_in_with_token(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        path = local_path(str(form.get("next", "/")))
        try:
            token = await authenticator.token(str(form.get("token", "")), request)
            secret, _ = await authenticator.log_in(request, token.principal, token)
        except ProblemError as error:
            return renderer.page(
                request,
                "login.html",
                status=error.status,
                error=error.detail,
                next=path,
                provider=provider_name,
            )
        return login_redirect(request, authenticator, secret, path)

    async def log_out(request: web.Request) -> web.StreamResponse:
        form = await request.post()
        renderer.check_csrf(request, form.get("csrf", ""))
        session = request.get(SESSION)
        if session is not None:
            await authenticator.log_out(request, session)
        response = web.HTTPSeeOther("/login")
        response.del_cookie(COOKIE, path="/")
        raise response

    return [
        web.get("/login", renderer.with_error_page(show_form)),
        web.post("/login", renderer.with_error_page(log_in_with_token)),
        web.post("/logout", renderer.with_error_page(log_out)),
        *([] if provider is None else provider.routes(renderer)),
    ]
