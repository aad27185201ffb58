"""Send page updates as server-sent events: the whole fragment whenever its HTML changes."""

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

__all__ = ["LiveUpdates"]

_RENDER_SECONDS: Final = 1.0
_PING_SECONDS: Final = 15.0
_MAX_STREAM_SECONDS: Final = 3_600.0
"""Lifetime of a stream; the browser then reconnects and is authenticated again."""
_MAX_STREAMS: Final = 200
_HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
}


class LiveUpdates:
    """Stream fragments to browsers; beyond the limit of streams, pages stay as they were loaded.

    A fragment that is the same for several browsers is rendered once for all of them.
    """

    def __init__(self, max_streams: int = _MAX_STREAMS) -> None:
        """Allow at most `max_streams` open streams."""
        self._free_streams = max_streams
        self._rendered: dict[Hashable, tuple[float, asyncio.Future[str]]] = {}

    async def stream(
        self,
        request: web.Request,
        key: Hashable,
        fragment: Callable[[], Awaitable[str]],
        is_allowed: Callable[[], Awaitable[bool]],
    ) -> web.StreamResponse:
        """Send a fragment whenever it changes, until the browser disconnects or may no longer see it.

        `key` is equal for browsers that see the same fragment. `is_allowed` returns whether this browser may
        still see the fragment. The stream also ends when the route is deleted, or after an hour.
        """
        if self._free_streams <= 0:
            return web.Response(status=204)  # Makes the browser stop reconnecting.
        self._free_streams -= 1
        response = web.StreamResponse(headers=_HEADERS)
        try:
            await response.prepare(request)
            await self._send(response, key, fragment, is_allowed)
        except ConnectionError:
            pass  # The browser disconnected.
        finally:
            self._free_streams += 1
        return response

    async def _send(
        self,
        response: web.StreamResponse,
        key: Hashable,
        fragment: Callable[[], Awaitable[str]],
        is_allowed: Callable[[], Awaitable[bool]],
    ) -> None:
        last, ends_at, pinged_at = "", time.monotonic() + _MAX_STREAM_SECONDS, time.monotonic()
        while time.monotonic() < ends_at:
            try:
                html = await self._render_once(key, fragment) if await is_allowed() else None
            except UnknownRouteError:
                html = None
            except StoreError:
                html = last  # The browser keeps the last fragment until the store can be read again.
            if html is None:
                await response.write(b"event: end\ndata: gone\n\n")
                return
            if html != last:
                last = html
                await response.write(f"event: page\ndata: {json.dumps(html)}\n\n".encode())
            elif time.monotonic() - pinged_at >= _PING_SECONDS:
                pinged_at = time.monotonic()
                await response.write(b": ping\n\n")
            await asyncio.sleep(_RENDER_SECONDS)

    async def _render_once(self, key: Hashable, fragment: Callable[[], Awaitable[str]]) -> str:
        """Return the fragment, shared by all streams with the same key within half a second."""
        now = time.monotonic()
        rendered_at, rendering = self._rendered.get(key, (-_RENDER_SECONDS, None))
        if rendering is None or now - rendered_at >= _RENDER_SECONDS / 2:
            self._rendered = {
                other: entry for other, entry in self._rendered.items() if now - entry[0] < _RENDER_SECONDS
            }
            rendering = asyncio.ensure_future(fragment())
            self._rendered[key] = now, rendering
        return await asyncio.shield(rendering)
