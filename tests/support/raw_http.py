"""HTTP/1.1 over asyncio streams, for tests that would spend most of their time in a client library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["read_head", "variants"]


async def read_head(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str]]:
    """Read a response to its end; return its status code and its headers, with names in lower case."""
    raw = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    first, *lines = raw.decode("latin-1").rstrip().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "content-length" in headers:
        await reader.readexactly(int(headers["content-length"]))
    else:
        while (size := int((await reader.readline()).strip() or b"0", 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
    return first.split(" ", 2)[1], headers


async def variants(entry: str, users: Iterable[str], *, connections: int) -> dict[str, str]:
    """Send one request for each user; return the variant that served each.

    Raises:
        AssertionError: A response has another status than 200.
    """
    where, found, waiting = urlsplit(entry), dict[str, str](), iter(users)

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        try:
            for user in waiting:
                writer.write(f"GET /v1/x HTTP/1.1\r\nhost: chat\r\nx-user-id: {user}\r\n\r\n".encode())
                status, headers = await read_head(reader)
                assert status == "200"
                found[user] = headers["x-shiftplane-variant"]
        finally:
            writer.close()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(ask())
    return found
