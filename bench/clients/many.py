"""Thousands of delta xDS clients in one process, one connection each, cheap enough to measure a server.

They implement the minimum of HTTP/2 for one gRPC stream: they open the flow-control windows fully at the
start, skip the server's headers, acknowledge every response at once, and then subscribe to what a proxy
subscribes to after that response. The benchmarks use them. They connect to loopback only.
"""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Clients", "Kind"]

_PATH: Final = b"/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_WINDOW: Final = (1 << 31) - 1
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_CHUNK: Final = 16_384


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    # A header without indexing; both strings are shorter than 127 bytes and not Huffman-coded.
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


_OPENING: Final = (
    _PREFACE
    + _frame(_SETTINGS, 0, 0, struct.pack(">HI", 4, _WINDOW))
    + _frame(8, 0, 0, struct.pack(">I", _WINDOW - 65_535))
    + _frame(
        _HEADERS,
        4,
        1,
        _literal(b":method", b"POST")
        + _literal(b":scheme", b"http")
        + _literal(b":path", _PATH)
        + _literal(b":authority", b"bench")
        + _literal(b"te", b"trailers")
        + _literal(b"content-type", b"application/grpc"),
    )
)


@dataclass(frozen=True, slots=True)
class Kind:
    """How a client behaves: it sends ACKs, or NACKs every response (`refuses`), or reads nothing."""

    refuses: bool = False
    reads: bool = True
    node_bytes: int = 0


@dataclass(slots=True)
class Clients:
    """All clients of this process, and their counters. `on_end` is called for each lost connection."""

    host: str
    port: int
    group: str
    kind: Kind = field(default_factory=Kind)
    prefix: str = "client"
    live: list[_Client] = field(default_factory=list)
    synced: int = 0
    failed: int = 0
    last: float = 0.0
    routes: int = 0
    messages: int = 0
    bytes_in: int = 0
    on_end: Callable[[_Client], None] | None = None

    async def connect(self, number: int, *, at_once: int = 200) -> float:
        """Open `number` connections, `at_once` at a time, and return the seconds until all are open."""
        began = time.perf_counter()
        limit = asyncio.Semaphore(at_once)
        base = len(self.live)

        async def one(index: int) -> None:
            async with limit:
                await asyncio.get_running_loop().create_connection(
                    lambda: _Client(self, f"{self.prefix}-{base + index}"), self.host, self.port
                )

        await asyncio.gather(*(one(index) for index in range(number)))
        return time.perf_counter() - began

    async def until(self, holds: Callable[[], bool], seconds: float) -> None:
        """Wait until the condition holds, while the clients run.

        Raises:
            TimeoutError: The condition did not hold within `seconds`.
        """
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - the event happens in another process
                await asyncio.sleep(0.005)

    def close(self) -> None:
        """Close every connection."""
        for client in list(self.live):
            client.drop()


class _Client(asyncio.Protocol):
    """One proxy: subscribes to all clusters and listeners, and to their endpoints and routes."""

    __slots__ = ("_all", "_buffer", "_message", "_transport", "followed", "name")

    def __init__(self, clients: Clients, name: str) -> None:
        self._all = clients
        self._buffer = b""
        self._message = b""
        self.name = name
        self.followed: set[str] = set()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._all.live.append(self)
        node = wire.Node(id=self.name, cluster=self._all.group)
        if self._all.kind.node_bytes:
            # A real proxy lists about 500 extensions (Node, field 9), which a server may ignore.
            extension = b"x" * 118
            listed = self._all.kind.node_bytes // 120
            node.MergeFromString((b"\x4a" + bytes((len(extension) + 2,)) + b"\x0a\x76" + extension) * listed)
        first = wire.DeltaDiscoveryRequest(node=node, type_url=CLUSTER)
        self._transport.write(_OPENING)
        self._send(first)
        self._send(wire.DeltaDiscoveryRequest(type_url=LISTENER))
        if not self._all.kind.reads:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self in self._all.live:
            self._all.live.remove(self)
            self._all.failed += 1
        if self._all.on_end is not None:
            self._all.on_end(self)

    def drop(self) -> None:
        """Close the connection without counting it as failed."""
        if self in self._all.live:
            self._all.live.remove(self)
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while end - at >= 9:
            length = int.from_bytes(buffer[at : at + 3], "big")
            if end - at < 9 + length:
                break
            self._take(buffer[at + 3], buffer[at + 4], buffer[at + 9 : at + 9 + length])
            at += 9 + length
        self._buffer = buffer[at:]

    def _take(self, kind: int, flags: int, payload: bytes) -> None:
        if kind == _DATA:
            self._message += payload
            while len(self._message) >= 5:
                size = int.from_bytes(self._message[1:5], "big")
                if len(self._message) < 5 + size:
                    break
                raw, self._message = self._message[5 : 5 + size], self._message[5 + size :]
                self._acknowledge(raw)
        elif kind == _SETTINGS and not flags & 1:
            self._write(_frame(_SETTINGS, 1, 0, b""))
        elif kind == _PING and not flags & 1:
            self._write(_frame(_PING, 1, 0, payload))
        elif kind in {_RST, _GOAWAY} and self._transport is not None:
            self._transport.abort()

    def _acknowledge(self, raw: bytes) -> None:
        clients = self._all
        clients.messages += 1
        clients.bytes_in += len(raw)
        response = wire.DeltaDiscoveryResponse.FromString(raw)
        request = wire.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if clients.kind.refuses:
            request.error_detail.code, request.error_detail.message = 13, "rejected by the bench"
        self._send(request)
        if response.type_url == CLUSTER and not clients.kind.refuses:
            names = {wire.Resource.FromString(resource).name for resource in response.resources}
            fresh = sorted(names - self.followed)
            self.followed |= names
            self._send(wire.DeltaDiscoveryRequest(type_url=ENDPOINT, resource_names_subscribe=fresh))
        elif response.type_url == LISTENER and "entry" not in self.followed:
            self.followed.add("entry")
            self._send(wire.DeltaDiscoveryRequest(type_url=ROUTE, resource_names_subscribe=["entry", "hop"]))
        elif response.type_url == ROUTE:
            clients.routes += 1
            clients.last = time.perf_counter()

    def _send(self, request: wire.DeltaDiscoveryRequest) -> None:
        raw = request.SerializeToString()
        raw = b"\x00" + len(raw).to_bytes(4, "big") + raw
        for at in range(0, len(raw), _CHUNK):
            self._write(_frame(_DATA, 0, 1, raw[at : at + _CHUNK]))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
