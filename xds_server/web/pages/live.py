"""What is new on a page, as server-sent events: the part that changed, whole, whenever it differs."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from xds_server.engine import UnknownRouteError
from xds_server.store import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["follow"]

_EVERY: Final = 1.0
_PING_EVERY: Final = 15.0
_LONGEST: Final = 3_600.0
"""Seconds, after which the browser comes anew and shows again who it is."""
_MOST: Final = 200
_OPEN: Final[web.RequestKey[bool]] = web.RequestKey("followed", bool)


class _Room:
    """How many follow; beyond the most, pages stay as they were loaded."""

    taken = 0


async def follow(request: web.Request, part: Callable[[], str | Awaitable[str]]) -> web.StreamResponse:
    """Send a part of a page whenever it is another, until the browser leaves."""
    if _Room.taken >= _MOST:
        return web.Response(status=204)  # Says EventSource not to come again.
    answer = web.StreamResponse(
        headers={"content-type": "text/event-stream", "cache-control": "no-store", "x-accel-buffering": "no"}
    )
    await answer.prepare(request)
    _Room.taken += 1
    try:
        await _send(answer, part)
    except (ConnectionResetError, ConnectionError):
        pass
    finally:
        _Room.taken -= 1
    return answer


async def _send(answer: web.StreamResponse, part: Callable[[], str | Awaitable[str]]) -> None:
    last, ends, pinged = "", time.monotonic() + _LONGEST, time.monotonic()
    while time.monotonic() < ends:
        try:
            found = part()
            text = await found if inspect.isawaitable(found) else found
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
