"""Render pages from templates, with security headers, static files, error pages and CSRF tokens."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import jinja2
from aiohttp import web

from xds_server.engine import ForbiddenError, TooManyRefusalsError, UnknownRouteError
from xds_server.store import StoreError
from xds_server.web.authenticator import PRINCIPAL, SESSION
from xds_server.web.pages.charts import bar, dot
from xds_server.web.pages.formatting import FILTERS, GLOBALS
from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from xds_server.access.identity import Principal
    from xds_server.web.authenticator import Authenticator

__all__ = ["PageRenderer"]

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": "no-store",
}
_STATIC: Final = {"app.css": "text/css", "app.js": "text/javascript"}


class PageRenderer:
    """Render pages; in open mode, where there are no sessions, all forms share one CSRF token."""

    def __init__(self, authenticator: Authenticator) -> None:
        """Load the templates and static files."""
        self.authenticator = authenticator
        self._csrf = secrets.token_urlsafe(32)
        folder = files("xds_server.web.pages")
        templates = folder / "templates"
        self._static = {name: (folder / "static" / name).read_bytes() for name in _STATIC}
        self._templates = jinja2.Environment(
            loader=jinja2.FunctionLoader(lambda name: (templates / name).read_text(encoding="utf-8")),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters.update(FILTERS)
        self._templates.globals.update(
            GLOBALS,
            bar=bar,
            dot=dot,
            is_open=authenticator.is_open,
            style=sha256(self._static["app.css"]).hexdigest()[:12],
            script=sha256(self._static["app.js"]).hexdigest()[:12],
        )

    def routes(self) -> list[web.RouteDef]:
        """Return the route of the static files."""
        return [web.get("/static/{name}", self._file)]

    def page(self, request: web.Request, name: str, /, *, status: int = 200, **values: Any) -> web.Response:
        """Return a response with a page."""
        return web.Response(
            text=self.fragment(request, name, **values),
            content_type="text/html",
            status=status,
            headers=_HEADERS,
        )

    def fragment(self, request: web.Request, name: str, /, **values: Any) -> str:
        """Return the HTML of a template, which is a page or a part of one."""
        principal = request.get(PRINCIPAL)
        return self._templates.get_template(name).render(
            principal=principal, csrf=self.csrf(request), **values
        )

    def error(self, request: web.Request, status: int, title: str, message: str) -> web.Response:
        """Return an error page."""
        return self.page(request, "error.html", status=status, title=title, message=message)

    def with_error_page(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Wrap a handler, so that its errors are shown as pages instead of problem details."""

        async def wrapped(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except UnknownRouteError as error:
                return self.error(request, 404, "Route not found", str(error))
            except ForbiddenError as error:
                return self.error(request, 403, "Not allowed", str(error))
            except TooManyRefusalsError as error:
                return self.error(request, 429, "Not allowed", str(error))
            except ProblemError as error:
                return self.error(request, error.status, "Request rejected", error.detail)
            except StoreError as error:
                reads = request.method in {"GET", "HEAD"}
                detail = str(error) if reads else f"{error}; nothing was changed"
                return self.error(request, 503, "The store cannot be used", detail)

        return wrapped

    def csrf(self, request: web.Request) -> str:
        """Return the CSRF token that forms of this request's session must contain."""
        session = request.get(SESSION)
        return self._csrf if session is None else session.csrf

    def check_csrf(self, request: web.Request, given: object) -> None:
        """Require the CSRF token of the session.

        Raises:
            ProblemError: The form does not contain this token.
        """
        if not hmac.compare_digest(str(given).encode(), self.csrf(request).encode()):
            raise ProblemError(
                403,
                "cross_site",
                "the form has expired or belongs to another site; reload the page and try again",
            )

    def principal(self, request: web.Request) -> Principal:
        """Return the principal of a request, or redirect to the login page.

        Raises:
            HTTPFound: The request has no valid session.
        """
        found: Principal | None = request.get(PRINCIPAL)
        if found is None:
            raise web.HTTPFound(f"/login?next={quote(request.path_qs, safe='')}")
        return found

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound(text="file not found")
        return web.Response(
            body=self._static[name],
            headers={
                "content-type": f"{_STATIC[name]}; charset=utf-8",
                "cache-control": "public, max-age=31536000, immutable",
                "x-content-type-options": "nosniff",
            },
        )
