"""An xDS server in this process, and clients that violate the protocol."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage

from tests.support import configs
from tests.support.pushing import pushing
from xds_server.translate import resources
from xds_server.xds.server import Hub, Server
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, Resource, Snapshot, build
from xds_server.xds.wire import discovery_pb2 as wire

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Iterable

    from xds_server import ir

__all__ = [
    "METHODS",
    "ServerHarness",
    "exchange",
    "large_snapshot",
    "make_request",
    "open_stream",
    "random_request",
    "serving",
]

_SERVICE = "/envoy.service.discovery.v3.AggregatedDiscoveryService"
METHODS = {True: f"{_SERVICE}/DeltaAggregatedResources", False: f"{_SERVICE}/StreamAggregatedResources"}
_UNLIMITED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
_TIMEOUT_SECONDS = 20.0
_TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE, "", "type.googleapis.com/no.such.Type", "\N{SNOWMAN}")
_NAMES = ("*", "", "chat/v1", "chat/v2", "entry", "hop", "nowhere", "a" * 300)


def large_snapshot(weight: int, size: int) -> Snapshot:
    """Return a snapshot with one more cluster, whose body has `size` zero bytes."""
    body = AnyMessage(type_url=CLUSTER, value=b"\x00" * size).SerializeToString()
    version = blake2b(body, digest_size=8).hexdigest()
    large = Resource(type_url=CLUSTER, name="big", version=version, body=body)
    return build((*resources(configs.group(weight), configs.SCRIPTS), large))


class ServerHarness:
    """A server with a snapshot that tests replace; `group_snapshots` has those of other groups."""

    def __init__(self, write_seconds: float) -> None:
        self.snapshot = configs.snapshot(configs.group(500))
        self.group_snapshots: dict[str, Snapshot] = {}
        self.hub = Hub(self.snapshot_for, write_seconds=write_seconds)
        self.server = Server(self.hub, identifier="test")
        self.port = 0
        self.pushing: asyncio.Task[None] | None = None

    def snapshot_for(self, node_class: ir.NodeClass) -> Snapshot:
        return self.group_snapshots.get(node_class.group, self.snapshot)

    def publish(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.hub.publish("chat")


@asynccontextmanager
async def serving(write_seconds: float = 10.0) -> AsyncIterator[ServerHarness]:
    """Run a server, and check at the end that no client ended its hub."""
    harness = ServerHarness(write_seconds)
    harness.port = await harness.server.start("127.0.0.1:0")
    try:
        async with pushing(harness.hub) as harness.pushing:
            yield harness
            assert not harness.pushing.done(), "the server stopped pushing"
    finally:
        await harness.server.stop(0)


@asynccontextmanager
async def open_stream(port: int, *, delta: bool) -> AsyncIterator[Any]:
    """Open a stream with a connection of its own."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_UNLIMITED) as channel:
        call = channel.stream_stream(METHODS[delta], request_serializer=None, response_deserializer=None)()
        try:
            yield call
        finally:
            call.cancel()


def make_request(
    type_url: str, *names: str, node: str = "some-node", group: str = "chat", delta: bool = True
) -> bytes:
    """Return a valid request."""
    who = wire.Node(id=node, cluster=group)
    if delta:
        asked = wire.DeltaDiscoveryRequest(node=who, type_url=type_url, resource_names_subscribe=names)
        return asked.SerializeToString()
    return wire.DiscoveryRequest(node=who, type_url=type_url, resource_names=names).SerializeToString()


def random_request(rng: random.Random, *, delta: bool) -> bytes:
    """Return a request that may be invalid in several ways."""
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


async def exchange(port: int, frames: Iterable[bytes], *, delta: bool) -> tuple[grpc.StatusCode, int]:
    """Send all frames, close the sending side, and return the server's status and number of responses."""
    responses = 0
    async with asyncio.timeout(_TIMEOUT_SECONDS), open_stream(port, delta=delta) as call:
        try:
            for raw in frames:
                await call.write(raw)
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                responses += 1
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass  # The server ended the stream before all frames were sent.
        code = await call.code()
        if code is grpc.StatusCode.INTERNAL and "from Core" in await call.details():
            # What the client library reports if the stream ended before a write.
            code = grpc.StatusCode.INVALID_ARGUMENT
        return code, responses
