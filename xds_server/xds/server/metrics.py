"""Envoy's metrics service on the discovery port: what proxies counted goes to whoever judges.

Nothing is answered, nothing waits: a message is read, added up and forgotten. A proxy that says more than it
can have to say loses its stream; what it counts is then not known, and its users notice nothing.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog

from xds_server.xds.session import NodeDeniedError, NodeInfo
from xds_server.xds.session.proxy_statistics import read_statistics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from xds_server.xds.server.hub import Hub
    from xds_server.xds.server.node_authorizer import NodeAuthorizer

__all__ = ["SERVICE", "handlers"]

SERVICE: Final = "envoy.service.metrics.v3.MetricsService"

_MOST_PER_SECOND: Final = 1 << 20
_BURST: Final = 8 << 20

log = structlog.get_logger()


def handlers(hub: Hub, guard: NodeAuthorizer) -> Any:
    """Return the handlers of the service; whoever may not be a node may not speak for it."""

    async def stream(messages: AsyncIterator[bytes], context: Any) -> bytes:
        budget, group = _Budget(), None
        async for raw in messages:
            if not budget.takes(len(raw), time.monotonic()):
                hub.counters.statistics_refused += 1
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "more than a proxy has to say")
            told = read_statistics(raw)
            if told is None:
                await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this is no StreamMetricsMessage")
                break
            if group is None:
                await admit(told.node, told.group, context)
                group = told.group
            else:
                # The first message says whose it is, with all its Envoy was built with: it is like no other.
                hub.counters.statistics += 1
                hub.counters.statistics_bytes += len(raw)
            hub.counters.lost.update({f"{group}/{reason}": count for reason, count in told.lost.items()})
            hub.on_counts(group, told.legs)
        return b""  # An empty StreamMetricsResponse.

    async def admit(node: str, group: str, context: Any) -> None:
        if not node:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message must carry node.id")
        check = guard.of(context)
        try:
            if check is not None:
                check(NodeInfo(id=node, group=group, version="", metadata=()))
        except NodeDeniedError as refused:
            hub.counters.identity_refused += 1
            await context.abort(*guard.refuse(refused, context.peer()))

    method = grpc.stream_unary_rpc_method_handler(stream, request_deserializer=None, response_serializer=None)
    return grpc.method_handlers_generic_handler(SERVICE, {"StreamMetrics": method})


class _Budget:
    """How many bytes a stream may say: a burst, and so much a second after that."""

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._last: float | None = None

    def takes(self, size: int, now: float) -> bool:
        """Return whether there is room for a message."""
        if self._last is not None:
            self._left = min(float(_BURST), self._left + (now - self._last) * _MOST_PER_SECOND)
        self._last = now
        self._left -= size
        return self._left >= 0
