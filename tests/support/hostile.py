"""An xDS server in this process, and clients that violate the protocol."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from tests.support import worlds
from xds_server.ads import Hub, Server
from xds_server.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Snapshot, build
from xds_server.translate import resources
from xds_server.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Iterable

    from xds_server import ir

__all__ = ["METHODS", "Desk", "ask", "big_world", "calling", "frame", "serving", "talk"]

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
METHODS = {True: f"{_SERVICE}/DeltaAggregatedResources", False: f"{_SERVICE}/StreamAggregatedResources"}
_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_PATIENCE_SECONDS = 20.0
_TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, "", "type.googleapis.com/no.such.Type", "\N{SNOWMAN}")
_NAMES = ("*", "", "chat/v1", "chat/v2", "entry", "hop", "nowhere", "a" * 300)


@dataclass(frozen=True, slots=True)
class _Blob:
    """A large resource without other content."""

    name: str
    size: int
    type_url: str = CLUSTER
    refers_to: frozenset[tuple[str, str]] = frozenset()

    @property
    def body(self) -> bytes:
        return AnyMessage(type_url=self.type_url, value=b"\x00" * self.size).SerializeToString()

    @property
    def version(self) -> str:
        return blake2b(self.body, digest_size=8).hexdigest()


def big_world(weight: int, size: int) -> Snapshot:
    """Return a snapshot with one very large cluster."""
    return build((*resources(worlds.group(weight), worlds.SCRIPTS), _Blob("big", size)))


class Desk:
    """A server whose snapshot the test can replace."""

    def __init__(self, write_seconds: float) -> None:
        self.world = worlds.snapshot(worlds.group(500))
        self.others: dict[str, Snapshot] = {}
        self.hub = Hub(self.compile, write_seconds=write_seconds)
        self.server = Server(self.hub, identifier="test")
        self.port = 0
        self.pushing: asyncio.Task[None] | None = None

    def compile(self, proxies: ir.Proxies) -> Snapshot:
        return self.others.get(proxies.group, self.world)

    def publish(self, world: Snapshot) -> None:
        self.world = world
        self.hub.publish("chat")


@asynccontextmanager
async def serving(write_seconds: float = 10.0) -> AsyncIterator[Desk]:
    """Run a server, and check at the end that no client has stopped its push task."""
    desk = Desk(write_seconds)
    desk.port = await desk.server.start("127.0.0.1:0")
    desk.pushing = asyncio.create_task(desk.hub.run())
    try:
        yield desk
        assert not desk.pushing.done(), "the server stopped pushing"
    finally:
        desk.pushing.cancel()
        await asyncio.gather(desk.pushing, return_exceptions=True)
        await desk.server.stop(0)


@asynccontextmanager
async def calling(port: int, *, delta: bool) -> AsyncIterator[Any]:
    """Open a stream on a connection of its own."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_UNLIMITED) as channel:
        call = channel.stream_stream(METHODS[delta], request_serializer=None, response_deserializer=None)()
        try:
            yield call
        finally:
            call.cancel()


def ask(type_url: str, *names: str, node: str = "someone", group: str = "chat", delta: bool = True) -> bytes:
    """Return a valid request."""
    who = wire.Node(id=node, cluster=group)
    if delta:
        asked = wire.DeltaDiscoveryRequest(node=who, type_url=type_url, resource_names_subscribe=names)
        return asked.SerializeToString()
    return wire.DiscoveryRequest(node=who, type_url=type_url, resource_names=names).SerializeToString()


def frame(rng: random.Random, *, delta: bool) -> bytes:
    """Return a strategy for requests that may violate the protocol."""
    names = [rng.choice(_NAMES) for _ in range(rng.randrange(4))]
    request: wire.DeltaDiscoveryRequest | wire.DiscoveryRequest
    if delta:
        request = wire.DeltaDiscoveryRequest(
            type_url=rng.choice(_TYPES),
            resource_names_subscribe=names,
            resource_names_unsubscribe=[rng.choice(_NAMES) for _ in range(rng.randrange(3))],
            initial_resource_versions={rng.choice(_NAMES): "1" for _ in range(rng.randrange(3))},
        )
    else:
        request = wire.DiscoveryRequest(type_url=rng.choice(_TYPES), resource_names=names)
    if rng.random() < 0.9:
        request.node.id, request.node.cluster = (
            rng.choice(("", "n", "n" * 1000)),
            rng.choice(("", "chat", "x")),
        )
        request.node.metadata.update(
            {"shiftplane": {"entry": rng.choice(("", ":", "a:b", "[::1]:0", "h:" + "9" * 5000)), "mode": "x"}}
        )
    if rng.random() < 0.5:
        request.response_nonce = rng.choice(("", "1", "1-1", "2-1", "nonsense"))
    if rng.random() < 0.3:
        request.error_detail.message = "no" * rng.randrange(5000)
    raw = bytearray(request.SerializeToString())
    match rng.randrange(6):
        case 0 if raw:
            raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
        case 1:
            del raw[rng.randrange(len(raw) + 1) :]
        case 2:
            raw += rng.randbytes(rng.randrange(40))
        case _:
            pass
    return bytes(raw)


async def talk(port: int, frames: Iterable[bytes], *, delta: bool) -> tuple[grpc.StatusCode, int]:
    """Send all frames, half-close, and return the status and the messages of the server."""
    heard = 0
    async with asyncio.timeout(_PATIENCE_SECONDS), calling(port, delta=delta) as call:
        try:
            for raw in frames:
                await call.write(raw)
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                heard += 1
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass  # The server closed the stream while the client was still sending.
        code = await call.code()
        if code is grpc.StatusCode.INTERNAL and "from Core" in await call.details():
            # The client library raises this when it sends on a closed stream.
            code = grpc.StatusCode.INVALID_ARGUMENT
        return code, heard
