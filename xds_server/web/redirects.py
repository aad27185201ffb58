"""Where a login lands: the cookie that begins a session in a browser, and a page of our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from xds_server.web.authenticator import COOKIE

if TYPE_CHECKING:
    from xds_server.web.authenticator import Authenticator

__all__ = ["local", "logged_in"]


def logged_in(request: web.Request, gate: Authenticator, text: str, following: str) -> web.StreamResponse:
    """Return the answer that begins a session in the browser."""
    answer = web.Response(status=303, headers={"location": following})
    secure = request.scheme == "https" or gate.public_url.startswith("https:")
    answer.set_cookie(
        COOKIE,
        text,
        path="/",
        httponly=True,
        samesite="Lax",
        secure=secure,
        max_age=int(gate.limits.lifetime),
    )
    return answer


def local(path: str) -> str:
    """Return a path of our own, whatever was asked for."""
    # Browsers leave tabs and line ends out of addresses: what is no plain text could come to begin with //.
    plain = path.isascii() and path.isprintable() and " " not in path and "\\" not in path
    good = plain and path.startswith("/") and not path.startswith("//")
    return path if good and len(path) <= 2_000 else "/"
