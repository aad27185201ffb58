"""What is new on a page, as server-sent events: the part that changed, whole, whenever it differs."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from xds_server.engine import UnknownRouteError
from xds_server.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["Live"]

_EVERY: Final = 1.0
_PING_EVERY: Final = 15.0
_LONGEST: Final = 3_600.0
"""Seconds, after which the browser comes anew and shows again who it is."""
_MOST: Final = 200
_HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}


class Live:
    """Follows pages for browsers; beyond the most, pages stay as they were loaded."""

    def __init__(self, most: int = _MOST) -> None:
        self._room = most

    async def follow(self, request: web.Request, part: Callable[[], Awaitable[str]]) -> web.StreamResponse:
        """Send a part of a page whenever it is another, until the browser leaves."""
        if self._room <= 0:
            return web.Response(status=204)  # Tells the browser not to come again.
        self._room -= 1
        answer = web.StreamResponse(headers=_HEADERS)
        try:
            await answer.prepare(request)
            await _send(answer, part)
        except ConnectionError:
            pass  # The browser left.
        finally:
            self._room += 1
        return answer


async def _send(answer: web.StreamResponse, part: Callable[[], Awaitable[str]]) -> None:
    last, ends, pinged = "", time.monotonic() + _LONGEST, time.monotonic()
    while time.monotonic() < ends:
        try:
            text = await part()
        except UnknownRouteError:
            await answer.write(b"event: end\ndata: gone\n\n")
            return
        except StoreError:
            text = last  # What is shown stays until the store can be read again.
        if text != last:
            last = text
            await answer.write(f"event: page\ndata: {json.dumps(text)}\n\n".encode())
        elif time.monotonic() - pinged >= _PING_EVERY:
            pinged = time.monotonic()
            await answer.write(b": ping\n\n")
        await asyncio.sleep(_EVERY)
