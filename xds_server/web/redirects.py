"""Redirect after a login: set the session cookie, and validate the target path."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from xds_server.web.authenticator import COOKIE

if TYPE_CHECKING:
    from xds_server.web.authenticator import Authenticator

__all__ = ["local_path", "login_redirect"]


def login_redirect(
    request: web.Request, authenticator: Authenticator, secret: str, path: str
) -> web.StreamResponse:
    """Return a redirect to `path` that sets the session cookie to `secret`."""
    response = web.Response(status=303, headers={"location": path})
    secure = request.scheme == "https" or authenticator.public_url.startswith("https:")
    response.set_cookie(
        COOKIE,
        secret,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=secure,
        max_age=int(authenticator.limits.lifetime),
    )
    return response


def local_path(path: str) -> str:
    """Return `path` if it is a path on this server, and `/` otherwise."""
    # Browsers remove tabs and line breaks from URLs: /<tab>/host would become //host, a URL of another host.
    plain = path.isascii() and path.isprintable() and " " not in path and "\\" not in path
    is_local = plain and path.startswith("/") and not path.startswith("//")
    return path if is_local and len(path) <= 2_000 else "/"
