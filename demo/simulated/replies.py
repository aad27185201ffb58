"""The few shapes of HTTP reply: JSON, and none at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["HEADERS", "DroppedResponse", "drop", "json_reply"]

HEADERS: Final = {"server": "uvicorn", "vary": "Origin", "x-simulated": "true"}
"""What every response carries."""


class DroppedResponse(web.Response):
    """Stands for the answer on a connection that was closed on purpose; it cannot be sent any more."""


def drop(request: web.Request) -> DroppedResponse:
    """Close the connection after what was written; nothing more is said."""
    if request.transport is not None:
        request.transport.close()
    return DroppedResponse()


def json_reply(body: bytes, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON body with its length."""
    sent = {**HEADERS, "content-type": "application/json", **(headers or {})}
    return web.Response(body=body, status=status, headers=sent)
