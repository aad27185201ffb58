"""How many connections the HTTP port takes, so that those who only hold some do not take the proxies' place.

Every connection costs a file descriptor, and streams of proxies and the store need some too.
"""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

    from aiohttp import web

__all__ = ["listen"]

_MOST: Final = 2_000


async def listen(
    runner: web.AppRunner, host: str, port: int, tls: ssl.SSLContext | None = None, *, most: int | None = None
) -> asyncio.Server:
    """Listen for a runner that was set up; at the `most` so many connections, beyond them they are closed."""
    if runner.server is None:
        raise RuntimeError("the runner was not set up")
    bounded = _Bounded(runner.server, _most_connections() if most is None else most)
    return await asyncio.get_running_loop().create_server(bounded, host, port, ssl=tls)


def _most_connections() -> int:
    """Raise the limit of open files as far as is allowed, and return how many of them HTTP may take."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _MOST if hard == resource.RLIM_INFINITY else max(1, min(_MOST, hard // 4))


class _Bounded:
    def __init__(self, server: web.Server, most: int) -> None:
        self._server = server
        self._most = most

    def __call__(self) -> asyncio.BaseProtocol:
        return self._server() if len(self._server.connections) < self._most else _Closed()


class _Closed(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
