"""What all pages have in common: templates, headers, static files, who looks, and the form's secret."""

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
from xds_server.web.pages.shapes import bar, dot
from xds_server.web.pages.text import FILTERS, GLOBALS
from xds_server.web.problems import ProblemError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from xds_server.access.identity import Principal
    from xds_server.web.authenticator import Authenticator

__all__ = ["Frame"]

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


class Frame:
    """The pages' common parts; holds the secret of forms where nobody has to log in."""

    def __init__(self, gate: Authenticator) -> None:
        self.gate = gate
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
            is_open=gate.is_open,
            style=sha256(self._static["app.css"]).hexdigest()[:12],
            script=sha256(self._static["app.js"]).hexdigest()[:12],
        )

    def routes(self) -> list[web.RouteDef]:
        """Return where the static files are."""
        return [web.get("/static/{name}", self._file)]

    def page(self, request: web.Request, name: str, /, *, status: int = 200, **values: Any) -> web.Response:
        """Return a page."""
        return web.Response(
            text=self.part(request, name, **values), content_type="text/html", status=status, headers=_HEADERS
        )

    def part(self, request: web.Request, name: str, /, **values: Any) -> str:
        """Return a page, or a part of one, as text."""
        who = request.get(PRINCIPAL)
        return self._templates.get_template(name).render(who=who, csrf=self.csrf(request), **values)

    def error(self, request: web.Request, status: int, title: str, words: str) -> web.Response:
        """Return a page that says what is wrong."""
        return self.page(request, "error.html", status=status, title=title, words=words)

    def said_nicely(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """Say what a handler refuses on a page, and not as JSON."""

        async def shown(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except UnknownRouteError as error:
                return self.error(request, 404, "There is no such route", str(error))
            except ForbiddenError as error:
                return self.error(request, 403, "Not allowed", str(error))
            except TooManyRefusalsError as error:
                return self.error(request, 429, "Not allowed", str(error))
            except ProblemError as error:
                return self.error(request, error.status, "Not done", error.detail)
            except StoreError as error:
                return self.error(request, 503, "Nothing was changed", str(error))

        return shown

    def csrf(self, request: web.Request) -> str:
        """Return what forms of this page must send back."""
        session = request.get(SESSION)
        return self._csrf if session is None else session.csrf

    def check(self, request: web.Request, given: object) -> None:
        """Refuse a form that is not one of ours.

        Raises:
            ProblemError: It does not hold the secret of its page.
        """
        if not hmac.compare_digest(str(given).encode(), self.csrf(request).encode()):
            raise ProblemError(
                403, "cross_site", "this form is too old, or of another site; load the page again"
            )

    def who(self, request: web.Request) -> Principal:
        """Return who looks; whoever has not logged in is sent to where that is done.

        Raises:
            HTTPFound: Nobody logged in.
        """
        found: Principal | None = request.get(PRINCIPAL)
        if found is None:
            raise web.HTTPFound(f"/login?next={quote(request.path_qs, safe='')}")
        return found

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._static:
            raise web.HTTPNotFound(text="there is no such file")
        return web.Response(
            body=self._static[name],
            headers={
                "content-type": f"{_STATIC[name]}; charset=utf-8",
                "cache-control": "public, max-age=31536000, immutable",
                "x-content-type-options": "nosniff",
            },
        )
