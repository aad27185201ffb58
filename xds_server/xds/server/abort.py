"""Abort the connection of a client that does not read, by shutting down its socket.

gRPC sends the status of a stream after the messages written to it, and a client whose flow-control window
stays closed receives neither. While it answers pings, its connection and the unread response stay for half an
hour. The gRPC API has no call to reset a stream from the server, but the process can shut down the socket.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Final
from urllib.parse import unquote

__all__ = ["ConnectionAborter", "abort_connections"]

_FILE_DESCRIPTORS: Final = Path("/dev/fd")
_IPV4_MAPPED: Final = "::ffff:"


class ConnectionAborter:
    """Aborts connections in a thread that scans the open files; calls during a scan share the next scan."""

    def __init__(self) -> None:
        self._peers: set[str] = set()
        self._running: asyncio.Task[None] | None = None

    def abort(self, peer: str) -> None:
        """Schedule the abort of a connection; `peer` is gRPC's name for its remote address."""
        self._peers.add(peer)
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while self._peers:
            peers, self._peers = self._peers, set()
            await asyncio.to_thread(abort_connections, frozenset(peers))


def abort_connections(peers: frozenset[str]) -> int:
    """Shut down this process's connections to `peers`, and return their number."""
    wanted = {_host_and_port(peer) for peer in peers}
    return sum(_abort_if_wanted(int(entry.name), wanted) for entry in list(_FILE_DESCRIPTORS.iterdir()))


def _abort_if_wanted(number: int, wanted: set[str]) -> bool:
    try:
        # The descriptor may be closed and reused at any time; a duplicate keeps referring to the same file.
        copy = os.dup(number)
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            return False
        with socket.socket(fileno=copy) as connection:
            if connection.family not in {socket.AF_INET, socket.AF_INET6}:
                return False
            host, port = connection.getpeername()[:2]
            found = f"{host.removeprefix(_IPV4_MAPPED)} {port}" in wanted
            if found:
                connection.shutdown(socket.SHUT_RDWR)
            return found
    except OSError:
        return False  # The descriptor is closed, or the socket is not connected.


def _host_and_port(peer: str) -> str:
    """Return `host port` of gRPC's name for a peer, such as `ipv6:%5B::1%5D:4711`."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return f"{host.strip('[]').removeprefix(_IPV4_MAPPED)} {port}"
