"""The last resort against a client that takes nothing: its connection is shut down under it.

gRPC ends a stream only behind what was written to it, and a client whose window stays shut takes neither. As
long as it answers pings its connection lives for half an hour, and with it the response that nobody takes.
There is no call to reset a stream from this side, but the socket is this process's own.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Final
from urllib.parse import unquote

__all__ = ["ConnectionAborter", "cut"]

_OPEN_FILES: Final = Path("/dev/fd")
_MAPPED: Final = "::ffff:"


class ConnectionAborter:
    """Shuts connections down in a thread, all that came together in one look at the open files."""

    def __init__(self) -> None:
        self._peers: set[str] = set()
        self._running: asyncio.Task[None] | None = None

    def cut(self, peer: str) -> None:
        """End the connection of a peer, named as gRPC does, in a moment."""
        self._peers.add(peer)
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while self._peers:
            peers, self._peers = self._peers, set()
            await asyncio.to_thread(cut, frozenset(peers))


def cut(peers: frozenset[str]) -> int:
    """Shut down this process's connections to `peers`, and return how many there were."""
    wanted = {_plain(peer) for peer in peers}
    return sum(_cut_one(int(entry.name), wanted) for entry in list(_OPEN_FILES.iterdir()))


def _cut_one(number: int, wanted: set[str]) -> bool:
    try:
        # The number may be another file's by now: what is looked at is a copy, which stays what it is.
        copy = os.dup(number)
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            return False
        with socket.socket(fileno=copy) as connection:
            if connection.family not in {socket.AF_INET, socket.AF_INET6}:
                return False
            host, port = connection.getpeername()[:2]
            meant = f"{host.removeprefix(_MAPPED)} {port}" in wanted
            if meant:
                connection.shutdown(socket.SHUT_RDWR)
            return meant
    except OSError:
        return False  # It is closed already, or nobody is at its other end.


def _plain(peer: str) -> str:
    """Return `host port` of what gRPC calls a peer, such as `ipv6:%5B::1%5D:4711`."""
    host, _, port = unquote(peer).partition(":")[2].rpartition(":")
    return f"{host.strip('[]').removeprefix(_MAPPED)} {port}"
