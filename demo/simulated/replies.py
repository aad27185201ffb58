"""Constructors of HTTP responses: a JSON body, or a closed connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HEADERS", "DroppedResponse", "drop", "json_reply"]

HEADERS: Final = {"server": "uvicorn", "vary": "Origin", "x-simulated": "true"}
"""The headers of every response."""


class DroppedResponse(web.Response):
    """Placeholder for the response on a connection that was closed on purpose; it is never sent."""


def drop(request: web.Request) -> DroppedResponse:
    """Close the connection after what was written so far; return a placeholder for the response."""
    if request.transport is not None:
        request.transport.close()
    return DroppedResponse()


def json_reply(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Return a response with a JSON body."""
    sent = {**HEADERS, "content-type": "application/json", **(headers or {})}
    return web.Response(body=body, status=status, headers=sent)
