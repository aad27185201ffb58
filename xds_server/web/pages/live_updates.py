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
    from collections.abc import Awaitable, Callable, Hashable

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
    """Follows pages for browsers; beyond the most, pages stay as they were loaded.

    What several see alike is made once for all of them.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._room = most
        self._made: dict[Hashable, tuple[float, asyncio.Future[str]]] = {}

    async def follow(
        self,
        request: web.Request,
        key: Hashable,
        part: Callable[[], Awaitable[str]],
        still: Callable[[], Awaitable[bool]],
    ) -> web.StreamResponse:
        """Send a part of a page whenever it is another, until the browser leaves.

        `key` is the same for all who see the same; `still` says whether this one may go on looking.
        """
        if self._room <= 0:
            return web.Response(status=204)  # Tells the browser not to come again.
        self._room -= 1
        answer = web.StreamResponse(headers=_HEADERS)
        try:
            await answer.prepare(request)
            await self._send(answer, key, part, still)
        except ConnectionError:
            pass  # The browser left.
        finally:
            self._room += 1
        return answer

    async def _send(
        self,
        answer: web.StreamResponse,
        key: Hashable,
        part: Callable[[], Awaitable[str]],
        still: Callable[[], Awaitable[bool]],
    ) -> None:
        last, ends, pinged = "", time.monotonic() + _LONGEST, time.monotonic()
        while time.monotonic() < ends:
            try:
                text = await self._shared(key, part) if await still() else None
            except UnknownRouteError:
                text = None
            except StoreError:
                text = last  # What is shown stays until the store can be read again.
            if text is None:
                await answer.write(b"event: end\ndata: gone\n\n")
                return
            if text != last:
                last = text
                await answer.write(f"event: page\ndata: {json.dumps(text)}\n\n".encode())
            elif time.monotonic() - pinged >= _PING_EVERY:
                pinged = time.monotonic()
                await answer.write(b": ping\n\n")
            await asyncio.sleep(_EVERY)

    async def _shared(self, key: Hashable, part: Callable[[], Awaitable[str]]) -> str:
        now = time.monotonic()
        at, making = self._made.get(key, (-_EVERY, None))
        if making is None or now - at >= _EVERY / 2:
            self._made = {one: made for one, made in self._made.items() if now - made[0] < _EVERY}
            making = asyncio.ensure_future(part())
            self._made[key] = now, making
        return await asyncio.shield(making)
