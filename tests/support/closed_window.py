"""A raw HTTP/2 client that keeps its flow-control window closed, and still answers pings."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ClosedWindow", "closed_window"]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_ACK: Final = 1
_END_HEADERS: Final = 4
_INITIAL_WINDOW_SIZE: Final = 4
_HEAD: Final = 9


@dataclass(slots=True)
class ClosedWindow:
    """One connection with one stream; `ended` is set when the server has ended the stream."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    pings: int = 0
    taken: int = 0

    def open(self, path: str, message: bytes, *, window: int) -> None:
        """Start a call with one message; the window allows `window` bytes of responses."""
        self.writer.write(_PREFACE)
        self._frame(_SETTINGS, 0, 0, _INITIAL_WINDOW_SIZE.to_bytes(2, "big") + window.to_bytes(4, "big"))
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        block = b"".join(
            b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()
            for name, value in headers.items()
        )
        self._frame(_HEADERS, _END_HEADERS, 1, block)
        self._frame(_DATA, 0, 1, b"\x00" + len(message).to_bytes(4, "big") + message)

    async def run(self) -> None:
        """Read frames until the connection ends: acknowledge settings and pings, never update the window."""
        while True:
            try:
                head = await self.reader.readexactly(_HEAD)
                body = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
            except (asyncio.IncompleteReadError, ConnectionError):
                self.ended.set()
                return
            kind, flags = head[3], head[4]
            if kind == _SETTINGS and not flags & _ACK:
                self._frame(_SETTINGS, _ACK, 0, b"")
            elif kind == _PING and not flags & _ACK:
                self.pings += 1
                self._frame(_PING, _ACK, 0, body)
            elif kind == _DATA:
                self.taken += len(body)
            elif kind in {_RESET, _GOAWAY} or (kind == _HEADERS and flags & 1):
                self.ended.set()

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        self.writer.write(
            len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body
        )


@asynccontextmanager
async def closed_window(
    port: int, path: str, message: bytes, *, window: int = 0
) -> AsyncIterator[ClosedWindow]:
    """Return a client that has sent a request and accepts at most `window` bytes of the response."""
    client = ClosedWindow(*await asyncio.open_connection("127.0.0.1", port))
    client.open(path, message, window=window)
    running = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        client.writer.close()
