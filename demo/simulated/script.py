"""What a response sends and when, as a value, and the function that sends it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from aiohttp import web

from demo.simulated.encodings import encoded
from demo.simulated.replies import HEADERS, drop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["Ending", "Part", "Script", "in_coding", "play"]


class Ending(Enum):
    """What happens after the last part."""

    CLOSE = "close"
    """The response ends properly."""
    CUT = "cut"
    """The connection closes."""
    HANG = "hang"
    """The connection stays open and nothing is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some bytes of a body, and when they are sent, in seconds since the response began."""

    data: bytes
    due: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """One response.

    A streamed one sends its headers at once and its parts in chunks. Any other sends its headers when the
    last part is due, with ``length`` as the content length; None means the length of all parts.
    """

    content_type: str
    parts: tuple[Part, ...]
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    streamed: bool = False
    length: int | None = None
    ending: Ending = Ending.CLOSE

    @property
    def body(self) -> bytes:
        """All parts."""
        return b"".join(part.data for part in self.parts)

    @property
    def all_headers(self) -> Mapping[str, str]:
        """All headers except those of the transfer."""
        typed = {"content-type": self.content_type} if self.content_type else {}
        return {**HEADERS, **typed, **dict(self.headers)}


def in_coding(script: Script, coding: str) -> Script:
    """Return the response in a content encoding; each part of a stream can be decoded when it arrives."""
    data = encoded([part.data for part in script.parts], coding)
    parts = tuple(replace(part, data=one) for part, one in zip(script.parts, data, strict=False))
    headers = (*script.headers, ("content-encoding", coding), ("vary", "Origin, Accept-Encoding"))
    return replace(script, parts=parts or (Part(data=data[-1]),), headers=headers)


async def play(
    request: web.Request,
    script: Script,
    *,
    hold: Callable[[], Awaitable[None]],
    started: Callable[[int], None],
) -> web.StreamResponse:
    """Send a response; parts that are due at the same time share one write.

    ``hold`` is awaited in place of an end for ``Ending.HANG``; ``started`` is called with the status when the
    headers are sent.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    if not script.streamed:
        await _sleep((script.parts[-1].due if script.parts else 0.0) + began - clock())
        if script.ending is Ending.CLOSE:
            started(script.status)
            return web.Response(body=script.body, status=script.status, headers=script.all_headers)
    response = web.StreamResponse(status=script.status, headers=script.all_headers)
    if script.streamed:
        response.enable_chunked_encoding()
    else:
        response.content_length = len(script.body) if script.length is None else script.length
    await response.prepare(request)
    started(script.status)
    await _write(response, script, began)
    match script.ending:
        case Ending.CLOSE:
            await response.write_eof()
            return response
        case Ending.HANG:
            await hold()
        case Ending.CUT:
            pass
    return drop(request)


async def _write(response: web.StreamResponse, script: Script, began: float) -> None:
    """Write each part when it is due; ``began`` is in the time of the event loop."""
    clock = asyncio.get_running_loop().time
    unsent = bytearray()
    for part in script.parts:
        if (wait := part.due + began - clock()) > 0:
            if unsent:
                await response.write(bytes(unsent))
                unsent.clear()
            await _sleep(wait)
        unsent += part.data
    if unsent:
        await response.write(bytes(unsent))


async def _sleep(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)
