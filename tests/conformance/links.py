"""Two ways to exchange raw messages with the server: direct calls of a session, and a stream over a socket.

A test written against `ControlPlane` and `Link` runs over both. Both send every response as soon as the
protocol allows it. `receive` returns None only after it is certain that no response is on its way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from tests.support.pushing import pushing
from xds_server.xds.server import Hub, Server
from xds_server.xds.session import Delta, Identified, ProtocolError, Session, Sotw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from xds_server import ir
    from xds_server.xds.server import Stream
    from xds_server.xds.server.admission import Admission
    from xds_server.xds.server.stream import Writer
    from xds_server.xds.snapshot import Snapshot

__all__ = [
    "AGGREGATED",
    "IDENTIFIER",
    "ControlPlane",
    "Link",
    "SessionControlPlane",
    "SocketControlPlane",
    "StreamEndedError",
    "serving",
    "until",
]

IDENTIFIER = "replica-1"
_TIMEOUT_SECONDS = 10.0
AGGREGATED = "/envoy.service.discovery.v3.AggregatedDiscoveryService/"
_CLIENT = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Each client has its own connection, and a flow-control window that grows only as it reads.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
)


class StreamEndedError(Exception):
    """The server ended the stream; `code` is the name of a gRPC status."""

    def __init__(self, code: str, details: str) -> None:
        self.code = code
        super().__init__(f"{code}: {details}")


class Link(Protocol):
    """The client's end of one xDS stream."""

    @property
    def session(self) -> Session:
        """The server's session of this stream."""

    async def send(self, *messages: bytes) -> None:
        """Send requests without waiting for responses."""

    async def receive(self) -> bytes | None:
        """Return the next response, or None if the server has none to send.

        Raises:
            StreamEndedError: The server ended the stream.
        """

    async def settle(self) -> None:
        """Wait until the server has processed all requests and has no response to send."""


class ControlPlane(Protocol):
    """A control plane with the same snapshot for all clients."""

    async def open(self, *, delta: bool) -> Link:
        """Open a stream."""

    async def publish(self, snapshot: Snapshot) -> None:
        """Publish another snapshot, after all earlier requests were answered."""


class SessionLink:
    """Calls a session as the server does."""

    def __init__(self, plane: SessionControlPlane, session: Session) -> None:
        self.session = session
        self._plane = plane
        self._inbox: deque[bytes] = deque()
        self._ended: StreamEndedError | None = None

    async def send(self, *messages: bytes) -> None:
        try:
            for raw in messages:
                for event in self.session.receive(raw):
                    if isinstance(event, Identified):
                        self.session.offer(self._plane.snapshot)
        except ProtocolError as error:
            self._ended = StreamEndedError("INVALID_ARGUMENT", str(error))
        self.pump()

    async def receive(self) -> bytes | None:
        if self._inbox:
            return self._inbox.popleft()
        if self._ended is not None:
            raise self._ended
        return None

    async def settle(self) -> None:
        """Return at once: requests are processed synchronously."""

    def offer(self, snapshot: Snapshot) -> None:
        if self.session.node is not None:
            self.session.offer(snapshot)
            self.pump()

    def pump(self) -> None:
        while self._ended is None and (raw := self.session.next_response()) is not None:
            self._inbox.append(raw)


class SessionControlPlane:
    """A control plane that consists of sessions only."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._links: list[SessionLink] = []

    async def open(self, *, delta: bool) -> SessionLink:
        variant = Delta() if delta else Sotw()
        prefix = f"{len(self._links)}-"
        link = SessionLink(self, Session(variant, identifier=IDENTIFIER, nonce_prefix=prefix))
        self._links.append(link)
        return link

    async def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        for link in self._links:
            link.offer(snapshot)


@dataclass(slots=True, eq=False)
class _Served:
    """The server's end of a stream, with the numbers of processed requests and written responses."""

    stream: Stream
    received: int = 0
    written: int = 0
    ending: bool = False


@dataclass(slots=True)
class _CountingWriter:
    """Forwards responses and counts them."""

    inner: Writer
    served: _Served | None = None

    async def write(self, message: bytes) -> None:
        await self.inner.write(message)
        if self.served is not None:
            self.served.written += 1

    def cancel(self) -> bool:
        return self.inner.cancel()


class _CountingHub(Hub):
    """A hub that counts requests and responses, so that a client can distinguish silence from delay."""

    def __init__(self, snapshot_for: Callable[[ir.NodeClass], Snapshot], *, write_seconds: float) -> None:
        super().__init__(snapshot_for, write_seconds=write_seconds)
        self.served: list[_Served] = []
        self._by_stream: dict[Stream, _Served] = {}

    def connect(self, stream: Stream) -> None:
        writer = _CountingWriter(stream.writer)
        stream.writer = writer
        served = writer.served = _Served(stream)
        self.served.append(served)
        self._by_stream[stream] = served
        super().connect(stream)

    def disconnect(self, stream: Stream) -> None:
        self._by_stream[stream].ending = True
        super().disconnect(stream)

    def receive(self, stream: Stream, raw: bytes) -> None:
        served = self._by_stream[stream]
        try:
            super().receive(stream, raw)
        except ProtocolError:
            served.ending = True
            raise
        finally:
            served.received += 1


@dataclass(slots=True, eq=False)
class SocketLink:
    """A stream over a socket whose responses are read as soon as they arrive."""

    call: Any
    served: _Served
    _inbox: deque[bytes] = field(default_factory=deque)
    _ended: StreamEndedError | None = None
    _sent: int = 0
    _read: int = 0
    _reader: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._reader = asyncio.create_task(self._read_all())

    @property
    def reading(self) -> bool:
        """Whether responses are read; if not, they accumulate at the server and `settle` cannot be used."""
        return self._reader is not None

    @property
    def session(self) -> Session:
        return self.served.stream.session

    async def send(self, *messages: bytes) -> None:
        for raw in messages:
            self._sent += 1
            try:
                await self.call.write(raw)
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
                return  # The server ended the stream; `receive` raises its status.

    async def receive(self) -> bytes | None:
        if not self._inbox:
            await self.settle()
        if self._inbox:
            return self._inbox.popleft()
        if self._ended is not None:
            raise self._ended
        return None

    async def settle(self) -> None:
        await until(lambda: self._ended is not None or self._quiet())

    async def half_close(self) -> None:
        await self.call.done_writing()

    async def close(self) -> None:
        self.call.cancel()
        self._ended = StreamEndedError("CANCELLED", "closed by the client")
        if self._reader is not None:
            await asyncio.gather(self._reader, return_exceptions=True)

    def _quiet(self) -> bool:
        served = self.served
        idle = not served.stream.queued and not served.ending
        return idle and served.received == self._sent and served.written == self._read

    async def _read_all(self) -> None:
        try:
            while (raw := await self.call.read()) is not grpc.aio.EOF:
                self._inbox.append(raw)
                self._read += 1
        except grpc.aio.AioRpcError as error:
            self._ended = StreamEndedError(error.code().name, error.details() or "")
        else:
            self._ended = StreamEndedError((await self.call.code()).name, await self.call.details() or "")


class SocketControlPlane:
    """A control plane that listens on a port."""

    def __init__(
        self,
        snapshot: Snapshot,
        *,
        identifier: str = IDENTIFIER,
        write_seconds: float = 10.0,
        admission: Admission | None = None,
    ) -> None:
        self.snapshot = snapshot
        self.hub = _CountingHub(lambda _node_class: self.snapshot, write_seconds=write_seconds)
        self.server = Server(self.hub, identifier=identifier, admission=admission)
        self.port = 0
        self._links: list[SocketLink] = []
        self._channels: list[Any] = []

    async def open(self, *, delta: bool) -> SocketLink:
        method = "DeltaAggregatedResources" if delta else "StreamAggregatedResources"
        return await self.open_method(f"{AGGREGATED}{method}")

    async def open_method(self, method: str, *, reading: bool = True) -> SocketLink:
        """Open a stream of any method; unless `reading`, responses accumulate at the server."""
        before = len(self.hub.served)
        call = self.call(method)
        await until(lambda: len(self.hub.served) > before or call.done())
        if call.done():
            raise StreamEndedError((await call.code()).name, await call.details() or "")
        link = SocketLink(call, self.hub.served[-1])
        if reading:
            link.start()
        self._links.append(link)
        return link

    def call(self, method: str) -> Any:
        """Start a call without waiting for it."""
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.port}", options=_CLIENT)
        self._channels.append(channel)
        return channel.stream_stream(method, request_serializer=None, response_deserializer=None)()

    async def publish(self, snapshot: Snapshot) -> None:
        for link in self._links:
            if link.reading:
                await link.settle()
        self.snapshot = snapshot
        self.hub.publish("group")

    async def hang_up(self) -> None:
        """Close all clients."""
        for link in self._links:
            await link.close()
        for channel in self._channels:
            await channel.close()


@asynccontextmanager
async def serving(
    snapshot: Snapshot,
    *,
    identifier: str = IDENTIFIER,
    write_seconds: float = 10.0,
    admission: Admission | None = None,
) -> AsyncIterator[SocketControlPlane]:
    """Run a control plane on a free port of the loopback interface."""
    plane = SocketControlPlane(
        snapshot, identifier=identifier, write_seconds=write_seconds, admission=admission
    )
    plane.port = await plane.server.start("127.0.0.1:0")
    try:
        async with pushing(plane.hub):
            try:
                yield plane
            finally:
                await plane.hang_up()
    finally:
        await plane.server.stop(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; it is checked every 0.5 ms."""
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        while not condition():
            await asyncio.sleep(0.0005)
