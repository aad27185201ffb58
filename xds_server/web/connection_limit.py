"""Listen for HTTP with a limited number of connections.

Each connection uses a file descriptor. Without a limit, idle HTTP clients could use up the descriptors that
xDS streams and the store need.
"""

from __future__ import annotations

import asyncio
import os
import resource
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

    from aiohttp import web

__all__ = ["listen"]

_MAX_CONNECTIONS: Final = 2_000


async def listen(
    runner: web.AppRunner,
    host: str,
    port: int,
    tls: ssl.SSLContext | None = None,
    *,
    max_connections: int | None = None,
) -> asyncio.Server:
    """Listen for a runner that was set up; connections beyond `max_connections` are closed.

    The default is a quarter of the file descriptors of the process, at most 2,000.

    Raises:
        OSError: The address cannot be used; the message names it.
    """
    if runner.server is None:
        raise RuntimeError("the runner was not set up")
    limit = _default_limit() if max_connections is None else max_connections
    factory = _ProtocolFactory(runner.server, limit)
    try:
        return await asyncio.get_running_loop().create_server(factory, host, port, ssl=tls)
    except OSError as error:
        # asyncio's text has the address as a Python tuple. Numbers of name resolution are negative.
        number = error.errno or 0
        reason = os.strerror(number) if number > 0 else error.strerror or str(error)
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        raise OSError(f"cannot listen on {shown} for HTTP: {reason}") from error


def _default_limit() -> int:
    """Raise the soft limit of open files to the hard limit; return the share of it that HTTP may use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return _MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else max(1, min(_MAX_CONNECTIONS, hard // 4))


class _ProtocolFactory:
    def __init__(self, server: web.Server, limit: int) -> None:
        self._server = server
        self._limit = limit

    def __call__(self) -> asyncio.BaseProtocol:
        return self._server() if len(self._server.connections) < self._limit else _CloseImmediately()


class _CloseImmediately(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
