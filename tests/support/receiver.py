"""An HTTP server that receives notifications and responds as configured."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

__all__ = ["Receiver", "Reply", "receiving"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The response to one request; `hangs` never responds, `endless` sends a body without end."""

    status: int = 200
    body: str = "ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False
    endless: bool = False


@dataclass(slots=True)
class Receiver:
    """Store the received messages; `replies` are the next responses, later ones are 200."""

    port: int = 0
    replies: list[Reply] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks/wH1sp3r"

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.bodies]

    @property
    def kinds(self) -> list[str]:
        return [message["kind"] for message in self.messages]

    @property
    def ids(self) -> list[str]:
        return [headers["X-Shiftplane-Event"] for headers in self.headers]

    async def until(self, number: int) -> None:
        """Wait until `number` requests have arrived."""
        async with asyncio.timeout(10):
            while len(self.bodies) < number:
                await asyncio.sleep(0.002)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        self.headers.append(request.headers)
        reply = self.replies.pop(0) if self.replies else Reply()
        if reply.hangs:
            await self.ended.wait()
        if reply.endless:
            stream = web.StreamResponse(status=reply.status)
            await stream.prepare(request)
            while True:
                await stream.write(b"x" * 65_536)
        return web.Response(status=reply.status, text=reply.body, headers=reply.headers)


@asynccontextmanager
async def receiving(*replies: Reply, port: int = 0) -> AsyncIterator[Receiver]:
    receiver = Receiver(replies=list(replies))
    app = web.Application()
    app.router.add_post("/hooks/{secret}", receiver.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    receiver.port = runner.addresses[0][1]
    try:
        yield receiver
    finally:
        receiver.ended.set()
        await runner.cleanup()
