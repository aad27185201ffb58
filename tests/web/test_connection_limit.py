"""The limit of HTTP connections."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from xds_server.web import listen


async def test_connections_beyond_the_limit_are_closed_until_others_end() -> None:
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    server = await listen(runner, "127.0.0.1", 0, max_connections=3)
    port = server.sockets[0].getsockname()[1]
    held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
    try:
        async with asyncio.timeout(10):
            assert await send_request(port) == b""
            held.pop()[1].close()
            while not (response := await send_request(port)):
                pass
            assert response.startswith(b"HTTP/1.1 404")
    finally:
        for _, writer in held:
            writer.close()
        server.close()
        await runner.cleanup()


async def test_an_address_in_use_is_named() -> None:
    runner = web.AppRunner(web.Application(), access_log=None)
    await runner.setup()
    server = await listen(runner, "127.0.0.1", 0, max_connections=3)
    port = server.sockets[0].getsockname()[1]
    try:
        with pytest.raises(
            OSError, match=rf"^cannot listen on 127\.0\.0\.1:{port} for HTTP: Address already"
        ):
            await listen(runner, "127.0.0.1", port, max_connections=3)
    finally:
        server.close()
        await runner.cleanup()


async def send_request(port: int) -> bytes:
    """Send a request on a new connection, and return the response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()
