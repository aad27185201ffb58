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

__all__ = ["SERVICE", "handlers"]

SERVICE: Final = "envoy.service.metrics.v3.MetricsService"

_BYTES_PER_SECOND: Final = 5 << 20
_BURST_BYTES: Final = 8 << 20


def handlers(hub: Hub, authorizer: NodeAuthorizer) -> Any:
    """Return the gRPC handlers of the service; they deny a client whose certificate is for another node."""

    async def stream(messages: AsyncIterator[bytes], context: Any) -> bytes:
        budget, group = _Budget(), None
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
            if group is None:
                await authorize(statistics.node, statistics.group, context)
                group = statistics.group
            else:
                # The first message is not counted: it contains the node with all extensions of its Envoy, so
                # its size is not that of the others.
                hub.counters.statistics_messages += 1
                hub.counters.statistics_bytes += len(raw)
            lost = {f"{group}/{reason}": count for reason, count in statistics.lost.items()}
            hub.counters.lost.update(lost)
            hub.on_counts(group, statistics.legs)
        return b""  # An empty StreamMetricsResponse.

    async def authorize(node: str, group: str, context: Any) -> None:
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

    method = grpc.stream_unary_rpc_method_handler(stream, request_deserializer=None, response_serializer=None)
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamMetrics": method})


class _Budget:
    """The bytes that a stream may send: a burst, and a rate after that."""

    def __init__(self) -> None:
        self._left = float(_BURST_BYTES)
        self._updated_at: float | None = None

    def take(self, size: int, now: float) -> bool:
        """Return whether a message of this size is within the limit."""
        if self._updated_at is not None:
            refill = (now - self._updated_at) * _BYTES_PER_SECOND
            self._left = min(float(_BURST_BYTES), self._left + refill)
        self._updated_at = now
        self._left -= size
        return self._left >= 0
