"""Envoy's metrics service on the xDS port: receives the counts of proxies for the analysis.

Messages are processed as they arrive; no response is sent before the stream ends. If a proxy exceeds the rate
limit, which is far above what statistics need, its stream is closed: its counts are then missing, and its
traffic is not affected.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import grpc

from xds_server.xds.session import NodeDeniedError, NodeInfo
from xds_server.xds.session.proxy_statistics import read_statistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server.xds.server.hub import Hub
    from xds_server.xds.server.node_authorizer import NodeAuthorizer
    from xds_server.xds.server.statistics_clients import StatisticsClient
    from xds_server.xds.session.proxy_statistics import StatisticsMessage

__all__ = ["SERVICE", "handlers"]

SERVICE: Final = "envoy.service.metrics.v3.MetricsService"

_BYTES_PER_SECOND: Final = 5 << 20
_BURST_BYTES: Final = 8 << 20


def handlers(hub: Hub, authorizer: NodeAuthorizer) -> Any:
    """Return the gRPC handlers; they deny a client whose certificate does not match its node."""

    async def stream(messages: AsyncIterator[bytes], context: Any) -> bytes:
        budget, source = _Budget(), _Source(hub)
        try:
            await read(messages, context, budget, source)
        finally:
            source.close()
        return b""  # An empty StreamMetricsResponse.

    async def read(messages: AsyncIterator[bytes], context: Any, budget: _Budget, source: _Source) -> None:
        async for raw in messages:
            if not budget.take(len(raw), time.monotonic()):
                hub.counters.statistics_streams_rejected += 1
                message = (
                    "the proxy sends more statistics than a stream may carry: a burst of "
                    f"{_BURST_BYTES >> 20} MiB, then {_BYTES_PER_SECOND >> 20} MiB per second"
                )
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, message)
            statistics = read_statistics(raw)
            if statistics is None:
                await context.abort(
                    grpc.StatusCode.INVALID_ARGUMENT, "the message is not a StreamMetricsMessage"
                )
                break
            if source.client is None:
                await _authorize(hub, authorizer, statistics.node, statistics.group, context)
                source.open(statistics.group, statistics.node)
            else:
                # The first message is not counted: it contains the node with all extensions of its Envoy, so
                # its size is not that of the others.
                hub.counters.statistics_messages += 1
                hub.counters.statistics_bytes += len(raw)
            source.add(statistics)

    method = grpc.stream_unary_rpc_method_handler(stream, request_deserializer=None, response_serializer=None)
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamMetrics": method})


async def _authorize(hub: Hub, authorizer: NodeAuthorizer, node: str, group: str, context: Any) -> None:
    """Abort the stream of a client without a node id, or whose certificate does not match its node."""
    if not node:
        message = "the first message of a stream must contain identifier.node.id"
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
    check = authorizer.check_for(context)
    try:
        if check is not None:
            check(NodeInfo(id=node, group=group, version="", metadata=()))
    except NodeDeniedError as denied:
        hub.counters.nodes_denied += 1
        await context.abort(*authorizer.report(denied, context.peer()))


class _Source:
    """The sender of one statistics stream; `client` is None until the first message was accepted."""

    def __init__(self, hub: Hub) -> None:
        self.client: StatisticsClient | None = None
        self._hub = hub
        self._key = ("", "")

    def open(self, group: str, node: str) -> None:
        """Register the stream of a node that was authorized."""
        self._key, self.client = (group, node), self._hub.statistics.opened(group, node)

    def add(self, message: StatisticsMessage) -> None:
        """Pass on the counts in a message."""
        group, _ = self._key
        lost = {f"{group}/{reason}": count for reason, count in message.lost.items()}
        self._hub.counters.lost.update(lost)
        if self.client is not None:
            self.client.add(message, time.monotonic())
        self._hub.on_counts(group, message.legs)

    def close(self) -> None:
        """Remove the stream, if it was registered."""
        if self.client is not None:
            self._hub.statistics.closed(*self._key)


class _Budget:
    """The bytes that a stream may send: a burst, and a rate after that."""

    def __init__(self) -> None:
        self._left = float(_BURST_BYTES)
        self._updated_at: float | None = None

    def take(self, size: int, now: float) -> bool:
        """Count a message of `size` bytes, and return whether it is within the limit."""
        if self._updated_at is not None:
            refill = (now - self._updated_at) * _BYTES_PER_SECOND
            self._left = min(float(_BURST_BYTES), self._left + refill)
        self._updated_at = now
        self._left -= size
        return self._left >= 0
