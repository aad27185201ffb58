"""The discovery services over grpc.aio: raw bytes in, raw bytes out, both flavours, aggregated and per type.

The handlers are generic and the (de)serialisers are the identity, because sessions speak bytes. A handler
only reads; the hub starts each write as a task of its own, one at a time per stream.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from xds_server.xds.server import csds, metrics, reflection
from xds_server.xds.server.abort import ConnectionAborter
from xds_server.xds.server.admission import Admission
from xds_server.xds.server.node_authorizer import NodeAuthorizer
from xds_server.xds.server.stream import Stream
from xds_server.xds.session import (
    Delta,
    NodeDeniedError,
    ProtocolError,
    ProtocolVariant,
    Session,
    StateOfTheWorld,
)
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server.xds.server.credentials import Certificates
    from xds_server.xds.server.hub import Hub

__all__ = ["Server"]

_AGGREGATED: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# service → (the type it serves, its state-of-the-world method, its delta method)
_SERVICES: Final[dict[str, tuple[str | None, str, str]]] = {
    _AGGREGATED: (None, "StreamAggregatedResources", "DeltaAggregatedResources"),
    "envoy.service.cluster.v3.ClusterDiscoveryService": (CLUSTER, "StreamClusters", "DeltaClusters"),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": (ENDPOINT, "StreamEndpoints", "DeltaEndpoints"),
    "envoy.service.listener.v3.ListenerDiscoveryService": (LISTENER, "StreamListeners", "DeltaListeners"),
    "envoy.service.route.v3.RouteDiscoveryService": (ROUTE, "StreamRoutes", "DeltaRoutes"),
    "envoy.service.runtime.v3.RuntimeDiscoveryService": (RUNTIME, "StreamRuntime", "DeltaRuntime"),
}
# With the defaults of the library, a burst of a few thousand new streams is partly cancelled.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.server.max_pending_requests", 200_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Streams end now and then, by the library's own jitter, so that replicas share them evenly.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10_000),
)

log = structlog.get_logger()


class Server:
    """Accepts discovery streams and hands them to a hub."""

    def __init__(
        self,
        hub: Hub,
        *,
        identifier: str,
        admission: Admission | None = None,
        certificates: Certificates | None = None,
        guard: NodeAuthorizer | None = None,
        shared: bool = False,
    ) -> None:
        """`identifier` names this control plane to its clients; `admission` bounds how fast they come in.

        `last_seconds` are for a stream that ends to take what it was sent before; then its connection is cut.
        Without `certificates` it speaks plaintext; `guard` says which client may be which node; `shared` lets
        other processes listen on the same port.
        """
        self._admission = Admission() if admission is None else admission
        self._certificates = certificates
        self._guard = NodeAuthorizer() if guard is None else guard
        self._hub = hub
        self._identifier = identifier
        self._streams = itertools.count(1)
        self._cutter = ConnectionAborter()
        self.last_seconds = 10.0
        self._server = grpc.aio.server(options=(*_OPTIONS, ("grpc.so_reuseport", int(shared))))
        self._server.add_generic_rpc_handlers(
            (
                *(
                    grpc.method_handlers_generic_handler(
                        service,
                        {full: self._handler(StateOfTheWorld(), only), delta: self._handler(Delta(), only)},
                    )
                    for service, (only, full, delta) in _SERVICES.items()
                ),
                csds.handlers(hub, self._guard),
                metrics.handlers(hub, self._guard),
            )
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        described = {service: (full, delta) for service, (_, full, delta) in _SERVICES.items()}
        reflection.enable(self._server, described, (health.SERVICE_NAME, csds.SERVICE, metrics.SERVICE))

    async def start(self, address: str) -> int:
        """Listen on `host:port` and return the port.

        Raises:
            OSError: The address cannot be had.
        """
        try:
            if self._certificates is None:
                port = int(self._server.add_insecure_port(address))
            else:
                port = int(self._server.add_secure_port(address, self._certificates.credentials()))
        except RuntimeError as error:
            raise OSError(f"cannot listen for discovery streams on {address}: {error}") from error
        await self._server.start()
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace: float) -> None:
        """Take no more streams and end those there are, one after the other within `grace` seconds.

        Clients keep serving what they have. Were all to end at once, all would come to the next at once.
        """
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.ensure_future(self._server.stop(grace))
        await self._hub.drain(0.8 * grace)
        await stopping

    def _handler(self, flavour: ProtocolVariant, only: str | None) -> grpc.RpcMethodHandler:
        async def serve(requests: AsyncIterator[bytes], context: Any) -> None:
            if not self._admission.take(time.monotonic()):
                self._hub.counters.turned_away += 1
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "too many new streams at once; come back in a moment"
                )
            await self._serve(flavour, only, requests, context)

        return grpc.stream_stream_rpc_method_handler(
            serve, request_deserializer=None, response_serializer=None
        )

    async def _serve(
        self, flavour: ProtocolVariant, only: str | None, requests: AsyncIterator[bytes], context: Any
    ) -> None:
        number, now = next(self._streams), time.time()
        session = Session(flavour, identifier=self._identifier, nonce_prefix=f"{number}-", only=only)
        writer = _Writer(context)
        stream = Stream(
            session=session,
            writer=writer,
            peer=_peer(context.peer()),
            connected_since=now,
            last_seen=now,
            vet=self._guard.of(context),
        )
        self._hub.connect(stream)
        status, words = grpc.StatusCode.OK, ""
        try:
            async for raw in requests:
                self._hub.receive(stream, raw)
        except ProtocolError as error:
            log.warning("protocol_error", **stream.who, reason=str(error))
            status, words = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except NodeDeniedError as refused:
            self._hub.counters.identity_refused += 1
            status, words = self._guard.refuse(refused, stream.peer)
        except asyncio.CancelledError:
            if not writer.closing:
                raise
            status, words = grpc.StatusCode.UNAVAILABLE, "this server ends the stream; connect again"
        finally:
            self._hub.disconnect(stream)
        # A status cannot be sent while a message is: the client would wait for it in vain.
        if not await writer.idle(self.last_seconds):
            log.warning("client_cut_off", **stream.who, reason="it takes nothing of what it was sent")
            self._cutter.cut(context.peer())
        elif words:
            await context.abort(status, words)


class _Writer:
    """A grpc.aio context as the hub sees it.

    Cancelling ends the handler, which then says so to the client: a handler that merely ended would leave the
    client with a stream that nobody speaks on. Giving up on a write does not end the write.
    """

    __slots__ = ("_context", "_task", "_writing", "closing")

    def __init__(self, context: Any) -> None:
        self.closing = False
        self._context = context
        self._task = asyncio.current_task()
        self._writing: asyncio.Task[Any] | None = None

    async def write(self, message: bytes) -> None:
        self._writing = asyncio.current_task()
        try:
            await self._context.write(message)
        finally:
            self._writing = None

    async def idle(self, seconds: float) -> bool:
        """Return whether nothing is being written; what still is after some seconds is given up."""
        writing = self._writing
        if writing is None:
            return True
        done, _ = await asyncio.wait({writing}, timeout=seconds)
        if not done:
            writing.cancel()
        return bool(done)

    def cancel(self) -> bool:
        if self._task is None or self.closing:
            return False
        self.closing = True
        return self._task.cancel()


def _peer(text: str) -> str:
    """Return `address:port` of what grpc calls a peer, such as `ipv4:10.0.0.1:4711`."""
    kind, _, rest = text.partition(":")
    return rest if kind in {"ipv4", "ipv6"} else text
