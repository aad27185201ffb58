"""The xDS services over grpc.aio: SotW and delta, aggregated and per type.

The handlers are generic and pass raw bytes, because sessions parse and serialize the messages. A handler only
reads from its stream. The hub writes, in a separate task for each response and one at a time per stream.
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
    Sotw,
)
from xds_server.xds.snapshot import CLUSTER, ENDPOINT, LISTENER, ROUTE, RUNTIME

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server.xds.server.credentials import Certificates
    from xds_server.xds.server.hub import Hub

__all__ = ["Server"]

_AGGREGATED: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
# service → (the type it serves, its SotW method, its delta method)
_SERVICES: Final[dict[str, tuple[str | None, str, str]]] = {
    _AGGREGATED: (None, "StreamAggregatedResources", "DeltaAggregatedResources"),
    "envoy.service.cluster.v3.ClusterDiscoveryService": (CLUSTER, "StreamClusters", "DeltaClusters"),
    "envoy.service.endpoint.v3.EndpointDiscoveryService": (ENDPOINT, "StreamEndpoints", "DeltaEndpoints"),
    "envoy.service.listener.v3.ListenerDiscoveryService": (LISTENER, "StreamListeners", "DeltaListeners"),
    "envoy.service.route.v3.RouteDiscoveryService": (ROUTE, "StreamRoutes", "DeltaRoutes"),
    "envoy.service.runtime.v3.RuntimeDiscoveryService": (RUNTIME, "StreamRuntime", "DeltaRuntime"),
}
# With the defaults of gRPC, a part of a burst of a few thousand new streams is canceled.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.server.max_pending_requests", 200_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    # Connections end after about 30 minutes, with the jitter of gRPC, so that replicas get even shares of
    # them.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 10_000),
)

log = structlog.get_logger()


class Server:
    """Accepts xDS streams and connects them to a hub."""

    def __init__(
        self,
        hub: Hub,
        *,
        identifier: str,
        admission: Admission | None = None,
        certificates: Certificates | None = None,
        authorizer: NodeAuthorizer | None = None,
        shared: bool = False,
    ) -> None:
        """`identifier` names this control plane to its clients; `admission` limits the rate of new streams.

        Without `certificates` the port serves plaintext. `authorizer` checks the nodes of clients. `shared`
        lets other processes listen on the same port.
        """
        self._admission = Admission() if admission is None else admission
        self._certificates = certificates
        self._authorizer = NodeAuthorizer() if authorizer is None else authorizer
        self._hub = hub
        self._identifier = identifier
        self._stream_numbers = itertools.count(1)
        self._aborter = ConnectionAborter()
        self.flush_seconds = 10.0
        """Seconds that the client of an ending stream has to read the last response.

        After that, its connection is aborted.
        """
        self._server = grpc.aio.server(options=(*_OPTIONS, ("grpc.so_reuseport", int(shared))))
        self._server.add_generic_rpc_handlers(
            (
                *(
                    grpc.method_handlers_generic_handler(
                        service,
                        {
                            full: self._handler(Sotw(), type_url),
                            delta: self._handler(Delta(), type_url),
                        },
                    )
                    for service, (type_url, full, delta) in _SERVICES.items()
                ),
                csds.handlers(hub, self._authorizer),
                metrics.handlers(hub, self._authorizer),
            )
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        described = {service: (full, delta) for service, (_, full, delta) in _SERVICES.items()}
        reflection.enable(self._server, described, (health.SERVICE_NAME, csds.SERVICE, metrics.SERVICE))

    async def start(self, address: str) -> int:
        """Listen on `host:port` and return the port.

        Raises:
            OSError: The address is invalid or in use.
        """
        try:
            if self._certificates is None:
                port = int(self._server.add_insecure_port(address))
            else:
                port = int(self._server.add_secure_port(address, self._certificates.credentials()))
        except RuntimeError as error:
            raise OSError(f"cannot listen for xDS streams on {address}: {error}") from error
        await self._server.start()
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace: float) -> None:
        """Stop accepting streams, and end the open ones one after the other within `grace` seconds.

        Clients keep their configuration. If all streams ended at once, all clients would reconnect to the
        next server at once.
        """
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.ensure_future(self._server.stop(grace))
        await self._hub.drain(0.8 * grace)
        await stopping

    def _handler(self, variant: ProtocolVariant, single_type: str | None) -> grpc.RpcMethodHandler:
        async def serve(requests: AsyncIterator[bytes], context: Any) -> None:
            if not self._admission.take(time.monotonic()):
                self._hub.counters.streams_rejected += 1
                await context.abort(
                    grpc.StatusCode.RESOURCE_EXHAUSTED, "too many new streams at once; retry in a few seconds"
                )
            await self._serve(variant, single_type, requests, context)

        return grpc.stream_stream_rpc_method_handler(
            serve, request_deserializer=None, response_serializer=None
        )

    async def _serve(
        self,
        variant: ProtocolVariant,
        single_type: str | None,
        requests: AsyncIterator[bytes],
        context: Any,
    ) -> None:
        """Serve one stream until it ends."""
        number, now = next(self._stream_numbers), time.time()
        session = Session(
            variant, identifier=self._identifier, nonce_prefix=f"{number}-", single_type=single_type
        )
        writer = _Writer(context)
        stream = Stream(
            session=session,
            writer=writer,
            peer=_peer(context.peer()),
            connected_since=now,
            last_seen=now,
            authorize=self._authorizer.check_for(context),
        )
        self._hub.connect(stream)
        status, reason = grpc.StatusCode.OK, ""
        try:
            async for raw in requests:
                self._hub.receive(stream, raw)
        except ProtocolError as error:
            log.warning("stream_rejected", **stream.log_fields, reason=str(error))
            status, reason = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except NodeDeniedError as denied:
            self._hub.counters.nodes_denied += 1
            status, reason = self._authorizer.report(denied, stream.peer)
        except asyncio.CancelledError:
            if not writer.closing:
                raise
            status, reason = grpc.StatusCode.UNAVAILABLE, "the server closes this stream; reconnect"
        finally:
            self._hub.disconnect(stream)
        # gRPC cannot send a status while a response is being written: the client would never receive it.
        if not await writer.flush(self.flush_seconds):
            reason = f"the client did not read the last response within {self.flush_seconds:g} s"
            log.warning("connection_aborted", **stream.log_fields, reason=reason)
            self._aborter.abort(context.peer())
        elif reason:
            await context.abort(status, reason)


class _Writer:
    """Writes responses to a grpc.aio context.

    `cancel` cancels the handler, which then sends a status. Without a status, the client would keep a stream
    that has no server side. Canceling the task of a write does not stop gRPC's own write.
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

    async def flush(self, seconds: float) -> bool:
        """Wait for the write in progress; return False and cancel it if it takes longer than `seconds`."""
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
    """Return `address:port` of gRPC's name for a peer, such as `ipv4:10.0.0.1:4711`."""
    kind, _, rest = text.partition(":")
    return rest if kind in {"ipv4", "ipv6"} else text
