"""Connections that only stand there take nobody's place but that of others of their kind."""

from __future__ import annotations

import asyncio

from aiohttp import web

from xds_server.web import listen


async def test_beyond_the_most_connections_are_closed_and_places_come_back() -> None:
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    server = await listen(runner, "127.0.0.1", 0, most=3)
    port = server.sockets[0].getsockname()[1]
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    try:
        async with asyncio.timeout(10):
            assert await answer(port) == b""
            held.pop()[1].close()
            while not (said := await answer(port)):
                pass
            assert said.startswith(b"HTTP/1.1 404")
    finally:
        for _, writer in held:
            writer.close()
        server.close()
        await runner.cleanup()


async def answer(port: int) -> bytes:
    """Ask on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
